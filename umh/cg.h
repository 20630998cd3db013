/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The code generator's shared state.
 *
 * A program is a main function and global functions, which the verifier checks
 * one by one.  main() fills struct pkt, on its stack, with the fields that the
 * ruleset looks at, and calls walk(ctx, pkt): the rules.  Behind a pointer to
 * plain memory the verifier does not track values, so that a large ruleset
 * costs it no more than linear time, and a chain's return site can be kept
 * there.  Register map of main: r6 ctx, r7 network header, r8 scratch kept over
 * calls, r9 skb (or end of data); of walk and its library: r6 pkt, r7 ctx,
 * r8 packet length, r9 this CPU's counters.
 *
 * walk returns enum walk_end; WALK_AGAIN is how a chain with several callers
 * returns (a jump back to one of them would be a loop to the verifier), and how
 * the rules go on in another page: pages are what walk is cut into where it is
 * larger than the verifier's 8192 pending jumps allow.  WALK_YIELD leaves main,
 * too: the module runs a native slot, and calls main again, which then takes the
 * same way as for WALK_AGAIN.
 */
#ifndef XTJIT_CG_H
#define XTJIT_CG_H

#include <stdbool.h>

#include "compile.h"
#include "emit.h"

#define CG_MAX_FRAME	384	/* of struct pkt: main, walk and one more share 512 bytes */
#define CG_MAX_FUNCS	200
#define CG_MAX_TABLES	8
#define CG_PAGE_JUMPS	6000	/* pending jumps in one page */
#define CG_MAX_TURNS	(1 << 20)	/* calls of walk for one packet */
#define CG_FEW_TURNS	64		/* of main, where each is verified on its own */
#define CG_PAGE_INSNS	24000		/* in one page, where jumps are of 16 bits */
#define CG_MATCHES	24	/* counters an early program can remember */

/* Those of the exact stage are verdicts of netfilter's. */
enum walk_end {
	WALK_DROP = 0,		/* early: up */
	WALK_ACCEPT = 1,	/* early: drop */
	WALK_AGAIN = 2,		/* walk is to be called again, to go on at pkt.pc */
	WALK_QUEUE = 3,
	WALK_YIELD = 4,		/* pkt.pc is where to go on after slot pkt.native */
};

/* Slots of struct pkt besides the IR's fields; 8 bytes unless said. */
enum cg_slot {
	SLOT_HOOK,
	SLOT_PKTLEN,		/* what counters add: skb->len */
	SLOT_L4OFF,		/* from the network header */
	SLOT_L4LEN,		/* bytes from there on */
	SLOT_FRAGOFF,
	SLOT_PROTO6,		/* IPv6: last header, -1: malformed */
	SLOT_IFACE,		/* 16 bytes: the in device's name */
	SLOT_OFACE,
	SLOT_PC,
	SLOT_NATIVE,		/* cb[3] of the module's */
	SLOT_EVENT,		/* 48 bytes: the fixed part of struct event; in SCRATCH if there is one */
	SLOT_SCRATCH,		/* 64 bytes for the library's functions */
	SLOT_NMATCH,
	SLOT_MATCHES,		/* CG_MATCHES * 4 bytes */
	SLOT_COUNTER,		/* early: place of what counts for the rule that drops */
	SLOT_CTDONE,		/* early, 4 bytes each: conntrack has no entry; enum new_told */
	SLOT_ICMPERR,
	SLOT_BEST,		/* of a group, until its dispatch */
	SLOT_LIST,		/* in a lookup: what is left of a long list, from and to, 4 bytes each */
	SLOT_SIEVE,		/* in a lookup: what the group's sieves say, 4 bytes each */
	SLOT_CTX,		/* early: the context's address, as a number; the device's index */
	SLOT_ADDRTYPE,		/* 1 << type of source, of destination, 4 bytes each; 0: not asked yet */
	SLOT_SELF,		/* 1, 2: sent by the helper itself: enum self_kind, 0: no */
	SLOT_ANSWER,		/* where events are: of SELF_RELATED the struct self_entry's address, as a number, or 0 */
	CG_NSLOTS
};

/* What conntrack will say of a packet that it has no entry for. */
enum new_told { NEW_NOT_ASKED, NEW_SURE, NEW_UNSURE };

struct cg;

/* What a function takes. */
enum cg_proto {
	CG_CTX_PKT,		/* (ctx, pkt) */
	CG_CTX_PKT_3,		/* (ctx, pkt, u64, u64, u64) */
	CG_SCALARS,		/* (u64, u64, u64) */
};

struct cg_func {
	__u32 label, start;	/* start: instruction, once placed */
	char name[16];
	enum cg_proto proto;
};

/* What walk knows of a chain. */
struct cg_chain {
	__u32 label;		/* of its first rule */
	__u32 policy;		/* base chain: label of the last rule */
	bool seen, returns;	/* reachable; it can come to its end */
	__u32 ncallers;		/* reachable jumps and gotos to it */
	__u32 *sites;		/* where each caller goes on: labels, in order of emission */
	__u32 nsites;
	int first_page, last_page;
	int level;		/* of its return slot; -1: one caller, none needed */
	int best;		/* of its groups' slots, best and from; -1: SLOT_BEST does */
	int entry;		/* a merged chain's: of the slot that tells which was called; -1 */
	__u32 depth;
};

struct cg_table {
	const struct ir_table *ir;
	const struct table_maps *maps;	/* NULL: not counted */
	struct cg_chain *chains;
	__u32 *order;		/* reachable chains, callers first */
	__u32 norder;
	__u32 accept, tail;	/* early: labels of what follows ACCEPT, DROP */
	__u32 *resume;		/* by native slot: label of where it goes on */
	__u32 *relook;		/* by group: label of the lookup, to be done again */
	__u32 *behind;		/* by group with native targets: of what follows its dispatch */
	__u32 *traced;		/* by counter: label of where it goes on, once its line is logged */
};

struct flavor_ops {
	const char *name;
	int prog_type, attach_type;
	const char *ctx;	/* struct of its context */
	bool early;
	bool yields;		/* the module calls it: xtjit_dev.h */
	/* fills struct pkt; falls through with r6 = ctx, or exits */
	void (*prologue)(struct cg *g);
	/* r0 of walk -> the hook's verdict, exit */
	void (*epilogue)(struct cg *g);
	/*
	 * In library functions, for what is not in linear memory: packet_begin()
	 * once, its 16 bytes of state at @off of the stack; then packet_read() of r2
	 * bytes into r1, from offset r4 of the network header on.  Bytes that are not
	 * there are 0, or not written.  Spoil r0 to r5.
	 */
	void (*packet_begin)(struct cg *g, int off);
	void (*packet_read)(struct cg *g, int off);
	/* in library functions: dst = the struct net of the hook; spoils r0 to r5 */
	void (*net)(struct cg *g, int dst);
};

extern const struct flavor_ops flavor_netfilter, flavor_hook, flavor_xdp, flavor_tc;

/* A library function, emitted when used. */
enum cg_lib {
	LIB_LIMIT, LIB_NTH, LIB_TCPOPT, LIB_TCPMSS, LIB_EVENT,
	LIB_EXTHDR, LIB_L4, LIB_OWNER, LIB_COMMIT, LIB_CT, LIB_CTX,
	LIB_ADDRTYPE, LIB_NEXTHOP, LIB_NEW, CG_NLIB
};

struct cg {
	struct emit e;
	const struct flavor_ops *fl;
	const struct xt_family *fam;
	const struct compile_env *env;
	const struct early_facts *facts;	/* early only */
	struct cg_table tabs[CG_MAX_TABLES];
	int ntabs;
	struct xt_err *err;

	/* struct pkt: offset of each slot, -1: not needed */
	short field[IR_NFIELDS], field6[IR6_NFIELDS], slot[CG_NSLOTS];
	short ret;		/* return slots: pc values, 4 bytes each */
	int levels;
	short saved[CG_MAX_FRAME / 8];	/* of struct pkt, what is in use where main is left to go on */
	int nsaved;
	int saves;		/* map for these; -1: none */
	int devices;		/* early: map of those that were seen; -1: none */
	bool native;		/* there are native slots on some way */
	bool resumes;		/* main may be called to go on */
	int frame;
	bool ctnat;		/* some rule asks for the translation states of ctstate */

	struct cg_func funcs[CG_MAX_FUNCS];
	int nfuncs;
	int lib[CG_NLIB];	/* index into funcs + 1, 0: not used */
	bool lib_done[CG_NLIB];

	/* pages: planned before a line is emitted */
	int npages, page;
	bool again;			/* walk may ask to be called again */
	bool returns, relooks;		/* what for: chains with several callers, groups */
	int turns;			/* of the loop that is being emitted */
	__u32 counters_end;		/* early: up to that instruction r9 has the last lookup's counters */
	int module_btf;			/* an fd; -1: none of its functions is called */
	__u32 route;			/* early: label of what follows PREROUTING */
	__u32 jumps, insns;		/* planning: pending ones, and size, of this page at most */
	__u32 walk[CG_MAX_FUNCS];	/* label of each page's function */
	struct cg_cut {
		int table;
		__u32 chain, rule, label;	/* page i + 1 begins at this rule */
	} cuts[CG_MAX_FUNCS];
	struct cg_place {
		__s16 page;
		bool entry;		/* reached from another page */
		bool back;		/* reached from behind only: walk is called again for it */
	} *places;			/* by label */
	__u32 nplaces;
};

static inline bool cg_v6(const struct cg *g)
{
	return g->fam->addr_size == 16;
}

/* cg_fields.c: which slots are needed, and where they are. 0 or -EOPNOTSUPP. */
int cg_layout(struct cg *g);
/* In main: makes struct pkt one that can be passed on, where the kernel minds. */
void cg_init_frame(struct cg *g);

/* cg_analyse.c: reachability, callers, return slots. */
int cg_analyse(struct cg *g);
void cg_analyse_free(struct cg *g);

bool cg_never(const struct ir_rule *r);		/* it cannot match */
/*
 * The chains that a rule may call, one a call, *@how by jump or goto; -1 when
 * there are no more.  *@at is 0 at first.  Only a dispatch has more than one.
 */
int cg_callee(const struct cg_table *t, const struct ir_rule *r, __u32 *at,
	      enum ir_action_kind *how);
/* What is behind the rule can be reached once the rule is. */
bool cg_passes(const struct cg_table *t, const struct ir_rule *r);

/* cg_plan.c: which rule goes into which page; all labels that cross pages. */
int cg_plan(struct cg *g);
/* A new label, which is to be placed in that page. */
__u32 cg_label_in(struct cg *g, int page);

/* cg_walk.c: the rules, as one or more functions. */
void cg_walk(struct cg *g);
void cg_call_walk(struct cg *g);	/* in main: calls walk until it has a verdict, in r0 */
/* Goes to a planned label, be it in another page. */
void cg_goto(struct cg *g, __u32 label);
/* Leaves walk, to be called again at the label. */
void cg_again(struct cg *g, __u32 label);
/* The value of pkt.pc that stands for a planned label. */
__u32 cg_pc(const struct cg *g, __u32 label);

/* The early stage cannot do it. */
bool cg_leaves_early(enum ir_action_kind a);
/* What the rule does once it is counted. */
void cg_act(struct cg *g, int table, __u32 ci, const struct ir_rule *r);

/* cg_lookup.c, cg_dispatch.c: the rules that classify() made. */
void cg_lookup(struct cg *g, int table, __u32 group);
void cg_dispatch(struct cg *g, int table, __u32 ci, __u32 group);
void cg_before(struct cg *g, const struct cg_table *t, const struct ir_pred *p, __u32 miss);
/* Pending jumps that a lookup leaves behind; instructions of it, or of the dispatch, at most. */
__u32 cg_lookup_cost(const struct ir_group *g);
__u32 cg_group_size(const struct ir_group *g, bool lookup);
/* Offset in struct pkt of what tells which of the chains it merges @chain was called as. */
short cg_entry(const struct cg *g, const struct cg_table *t, __u32 chain);
/* Offset in struct pkt of a group's best value, behind which there is from. */
short cg_best(const struct cg *g, const struct cg_table *t, const struct ir_group *gr);

/* cg_pred.c: falls through if @p holds, goes to @miss if not. */
void cg_pred(struct cg *g, const struct cg_table *t, const struct ir_pred *p, __u32 miss);

/*
 * cg_native.c: native slots, where the flavor yields.  The labels where they go
 * on are planned rule by rule.  The module keeps what is in cb, and a map the
 * slots of struct pkt that are in use; the prologue restores both.  So it is where
 * the module logs the rules that a traced packet matches.
 */
void cg_native_plan(struct cg *g, int table, const struct ir_rule *r);
void cg_native_match(struct cg *g, const struct cg_table *t, __u32 slot, __u32 miss);
void cg_native_target(struct cg *g, const struct cg_table *t, __u32 slot);
/* Between the rule's counter and its action. */
void cg_trace(struct cg *g, const struct cg_table *t, const struct ir_rule *r);
/* Leaves walk for the slot in register @slot, to go on at the planned label. */
void cg_native_yield(struct cg *g, __u32 label, int slot);
/* The module runs something for the rule, or for a group's members. */
bool cg_native(const struct cg_table *t, const struct ir_rule *r);
/* What is in use where main is left, and the map for it. 0 or a negative errno. */
int cg_native_map(struct cg *g);
/* r6 is the context: copies that from the map, or to it; to @none if that fails (never). */
void cg_native_restore(struct cg *g, __u32 none);
void cg_native_save(struct cg *g, __u32 none);

/* cg_lib.c */
__u32 cg_lib(struct cg *g, enum cg_lib l);	/* its label, to be called */
void cg_lib_emit(struct cg *g);			/* all that were asked for */
void cg_lib_early(struct cg *g, enum cg_lib l);	/* cg_early.c: those of the early stage */

/* Adds a function that begins here. */
int cg_func_begin(struct cg *g, __u32 label, const char *name, enum cg_proto proto);

/* cg_skb.c: what the flavors of the exact stage have in common, in their prologues. */
/* Zeroes what is not set for every packet. */
void cg_defaults(struct cg *g);
bool cg_wants_l4(const struct cg *g);
/* r3: the length in the header (IPv6: of its payload) -> IR_LEN */
void cg_length(struct cg *g);
/* IPv6: r8 is the number of the first header; the last one's goes to its slot, its place to r8. */
void cg_proto6(struct cg *g);
/* The Ethernet source address; r9: the address of the skb. */
void cg_mac_source(struct cg *g);
/* r8 = the type of a looped packet; r3: the first byte of its destination. */
void cg_looped_type(struct cg *g);
bool cg_wants_ct(const struct cg *g);
bool cg_wants_ct_entry(const struct cg *g);	/* not only whether there is one */
/*
 * What is told by conntrack: r3 is enum ip_conntrack_info, r8 the address of
 * the entry (anything else, if it is not wanted), or 0.  The label @entry is placed where direction and state are set.
 */
void cg_conntrack(struct cg *g, __u32 entry);

/* cg_kernel.c: what is in kernel memory. */
/* dst = *(size *)(ptr + off); @ptr is a number.  Spoils r0 to r5. */
void kload(struct cg *g, int size, int dst, int ptr, int off);
/* The same at the offset of a struct's member. */
void kload_member(struct cg *g, int size, int dst, int ptr, const char *type, const char *member);
/*
 * r0 = ptr + off, as a struct of @type whose pointers lead on.  Of what a typed pointer
 * of the context's leads to the verifier would ask the kernel's BTF, by names that are
 * searched for, whether it is to be trusted: 0.3 ms for each.
 */
void kcast(struct cg *g, int ptr, int off, const char *type);
/* dst = skb->member (or state->member), by the types of the context: @ptr is a typed pointer. */
void tload(struct cg *g, int size, int dst, int ptr, const char *type, const char *member);
/* dst = ((struct bpf_nf_ctx *)ctx)->state, to be read only, but with none of the searches above. */
void cg_hook_state(struct cg *g, int dst, int ctx);
/* dst = the bit-field @member of @width bits. */
void kload_bits(struct cg *g, int dst, int ptr, const char *type, const char *member, int width);
/* fp[@to] = @n bytes at ptr + off, or zeros.  Spoils r0 to r5. */
void kcopy(struct cg *g, int to, int n, int ptr, int off);
/* Calls a function of the kernel's or of conntrack's. */
void cg_kfunc(struct cg *g, const char *func);
/* Offset in struct nf_conn of @member of the tuple of direction @dir. */
int cg_ct_tuple(struct cg *g, int dir, const char *member);
/* How many bytes of a struct nf_conn hold all that rules look at; at most EVENT_CT_MAX. */
int cg_ct_size(struct cg *g);
void cg_lib_kernel(struct cg *g, enum cg_lib l);
/* Parts of library functions. */
void lib_begin(struct cg *g);
void lib_ret(struct cg *g, int value);

/*
 * A loop of at most @n turns; its 8 bytes of state are at @off of the stack.
 * loop_next() goes to @end when there are no more turns, else r1 is the turn,
 * from 0 on; every way out passes loop_end().  All spoil r0 to r5.  The verifier
 * follows it only until nothing new comes of it, but each turn on kernels
 * without such iterators.
 */
void loop_begin(struct cg *g, int off, int n);
void loop_next(struct cg *g, int off, __u32 end);
void loop_end(struct cg *g, int off);

/* cg_packet.c: events, and headers that are not in linear memory. */
void cg_lib_packet(struct cg *g, enum cg_lib l);

/* cg_fib.c: types of addresses */
void cg_lib_fib(struct cg *g, enum cg_lib l);

/* cg_early.c: the glue between tables, and what a drop takes. */
void cg_early_path(struct cg *g);
void cg_early_drop(struct cg *g, int table, __u32 counter);
void cg_early_record(struct cg *g, int table, __u32 counter);
/* The same of the place in r3 (compile.h), as long as r9 has the counters, or without. */
void cg_early_drop_at(struct cg *g, int table);
void cg_early_drop_r3(struct cg *g, int table);
/* The same of the rule in r3; spoils r1, r2. */
void cg_early_record_r3(struct cg *g, int table);
void cg_early_ifindex(struct cg *g, int dst, int ctx);
/* Goes to @unsure unless the packet is NEW: where cg_early_tells_new(); spoils r0 to r5. */
void cg_early_new(struct cg *g, __u32 unsure);
/* In library functions. */
void cg_proto(struct cg *g, int dst);

/* flavor_early.c: the frame's beginning and end. */
void cg_early_frame(struct cg *g, int data, int end, int ctx);
/* @sum of words to 16 bits, or some that are a multiple of 0xffff only where it is 0xffff. */
void cg_early_fold(struct cg *g, int sum, int spoilt);

/* cg_new.c */
void cg_lib_new(struct cg *g);

/* cg_drops.c: counts, in env->drops, a packet from the device of index r3; spoils r0 to r5, r9, stack - 8. */
void cg_count_drop(struct cg *g, enum drops_stage stage);
/*
 * In an exact program's main, if env->drops is there: where the early stage might have
 * dropped it, of what comes in by a device.  @ifindex: r3 = its index, or to @none.
 */
void cg_count_exact_drop(struct cg *g, void (*ifindex)(struct cg *g, __u32 none));
/*
 * cg_device.c: in the early stage's prologue, r9 = struct net_device, if it is
 * needed; of XDP r8 = where its address is, of TC the skb.  Then its name, and IPv6.
 */
void cg_device(struct cg *g, __u32 up);
void cg_device_fields(struct cg *g, __u32 up);
/* In library functions: dst = the struct net that it is in. */
void cg_device_net(struct cg *g, int dst);
/* A map of devices that were seen, if it is worth one. 0 or a negative errno. */
int cg_device_map(struct cg *g);
/* cg_route.c: goes to @input or @forward, or to @up if that cannot be told. */
void cg_route(struct cg *g, __u32 input, __u32 forward, __u32 up);
/* It can be told from the packet's bytes. */
bool cg_early_known(const struct ir_pred *p);
/* It can be told by cg_early_pred() for every packet that it does not send up. */
bool cg_early_tells(const struct cg *g, const struct ir_pred *p);
/* The same, but only of packets that are surely NEW; it sends all others up. */
bool cg_early_tells_new(const struct cg *g, const struct cg_table *t, const struct ir_pred *p);
/* Whether it holds of a packet that is NEW. */
bool cg_early_holds_new(const struct ir_pred *p);
/* As cg_pred() where conntrack or a bucket can tell; false: it cannot be told here. */
bool cg_early_pred(struct cg *g, const struct cg_table *t, const struct ir_pred *p, __u32 miss);

/* Leaves walk for good: the packet goes up (early), or hotdrop (exact). */
void cg_zero(struct cg *g);

/* Loads a slot into @dst (whole, or its low 32 bits); base r6 in walk. */
void ld_field(struct cg *g, int dst, enum ir_field f);
void ld_slot(struct cg *g, int dst, enum cg_slot s);

/* In main, where struct pkt is at the top of the stack: store @src. */
void set_field(struct cg *g, enum ir_field f, int src);
void set_slot(struct cg *g, enum cg_slot s, int src);
/* dst = *(size *)(ptr + off): kload(), or packet_load() where @ptr points to the packet. */
typedef void (*load_fn)(struct cg *g, int size, int dst, int ptr, int off);
void packet_load(struct cg *g, int size, int dst, int ptr, int off);
/*
 * Stores what @load gives.  @bits: of a number in network order, 0: a byte.  Nothing
 * where the ruleset has no use for the field.
 */
void load_field(struct cg *g, enum ir_field f, load_fn load, int size, int ptr, int off, int bits);
void load_field6(struct cg *g, enum ir_field6 f, load_fn load, int ptr, int off);
/* Zeroes @size bytes at @slot of struct pkt; -1: there is no such slot. */
void clear_slot(struct cg *g, short slot, int size);

/* r0 = this CPU's counters; to @none if there are none (never: each CPU has its own). */
void cg_counters(struct cg *g, const struct table_maps *m, int key_off, __u32 none);

/* compile.c: all of it; the fd of the loaded program, or a negative errno. Frees what @g holds. */
int cg_compile(struct cg *g);

/* load.c */
int cg_load(struct cg *g);

#endif
