// SPDX-License-Identifier: GPL-2.0
/*
 * The type of an IPv4 address: net/ipv4/fib_frontend.c __inet_dev_addr_type()
 * without a device, and so fib_table_lookup() of net/ipv4/fib_trie.c in the
 * namespace's table "local", which may share the trie of "main".  It is the
 * kernel's own trie that is walked, as it is at that moment: what holds it still
 * for the kernel, RCU, does so for a program.
 */
#include <endian.h>
#include <errno.h>
#include <linux/ip.h>
#include <linux/rtnetlink.h>

#include "cg.h"
#include "kbtf.h"
#include "kfib.h"

/*
 * Of one loop, each turn of which takes some steps: some 1,000 at most in the
 * trie, but any number of routes may have the same prefix.
 */
#define TURNS	(1 << 20)
#define LOOP	(-8)		/* of the stack */
#define STEPS	4		/* down, or back, in a turn */

enum { ROUTE_NEXT, ROUTE_GOOD, ROUTE_REJECTS, ROUTE_MISS };	/* of LIB_NEXTHOP */

/* What a turn begins with: within one the code goes forward only, in this order. */
enum phase {
	PHASE_TABLE,	/* r8: node of a table in its hash chain */
	PHASE_DOWN,	/* r8: node of the trie, on the way down to the longest prefix */
	PHASE_BACK,	/* one bit less of the place in r7 */
	PHASE_NODE,	/* r8: node that may have a shorter prefix */
	PHASE_ALIAS,	/* r8: node of a route in its leaf's list */
};

/* Of SLOT_SCRATCH, where the verifier forgets what is in it: 8 bytes each. */
enum scratch {
	CINDEX,		/* in r7, the "pn" of fib_table_lookup() */
	PHASE,
	INDEX,		/* in what the leaf's key is different */
	KEY,		/* of the node that is left for its parent */
	TYPE, INFO,	/* of a route */
};

/* Labels of the walk. */
struct walk {
	__u32 turn, down, back, go_back, node, found, alias, next, good, unicast, out;
};

static int scratch(const struct cg *g, enum scratch s)
{
	return g->slot[SLOT_SCRATCH] + 8 * s;
}

static void put(struct cg *g, enum scratch s, int src)
{
	st(&g->e, U64, R6, scratch(g, s), src);
}

static void get(struct cg *g, int dst, enum scratch s)
{
	ld(&g->e, U64, dst, R6, scratch(g, s));
}

/* On in the next turn. */
static void again(struct cg *g, const struct walk *w, enum phase p)
{
	sti(&g->e, U64, R6, scratch(g, PHASE), p);
	ja(&g->e, w->turn);
}

static bool little_endian(void)
{
	return __BYTE_ORDER == __LITTLE_ENDIAN;
}

static int at(struct cg *g, const char *type, const char *member)
{
	int off = kbtf_offset(type, member);

	if (off < 0) {
		xt_fail(g->err, -EOPNOTSUPP, "this kernel has no %s in %s", member, type);
		g->e.err = g->e.err ?: -EOPNOTSUPP;
	}
	return off < 0 ? 0 : off;
}

/* dst = the byte @member of the word of struct key_vector that begins with its key, in r5. */
static void node_byte(struct cg *g, int dst, const char *member)
{
	int off = at(g, "key_vector", member) - at(g, "key_vector", "key");

	mov(&g->e, dst, R5);
	alui(&g->e, BPF_RSH, dst, 8 * (little_endian() ? off : 7 - off));
	alui(&g->e, BPF_AND, dst, 0xff);
}

/* r1 key, r2 pos, r3 bits, r4 slen of the node in @of, by one load (kfib_lacks()); spoils r0, r5. */
static void node(struct cg *g, int of)
{
	kload_member(g, U64, R5, of, "key_vector", "key");
	node_byte(g, R2, "pos");
	node_byte(g, R3, "bits");
	node_byte(g, R4, "slen");
	mov(&g->e, R1, R5);
	if (little_endian())
		alui(&g->e, BPF_LSH, R1, 32);
	alui(&g->e, BPF_RSH, R1, 32);
}

/* r8 = child r1 of the node in @of. */
static void child(struct cg *g, int of)
{
	alui(&g->e, BPF_LSH, R1, 3);
	alu(&g->e, BPF_ADD, R1, of);
	kload_member(g, U64, R8, R1, "key_vector", "tnode");
}

/* r9: the address.  What needs no table: of 0/8 (include/linux/in.h) but 0.0.0.0. */
static void by_address(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 broadcast = new_label(e), not = new_label(e), go_on = new_label(e);

	jmpi32(e, BPF_JEQ, R9, 0, broadcast);
	jmpi32(e, BPF_JNE, R9, -1, not);
	place(e, broadcast);
	lib_ret(g, 1 << RTN_BROADCAST);
	place(e, not);
	mov(e, R1, R9);
	alui(e, BPF_RSH, R1, 28);
	jmpi(e, BPF_JNE, R1, 14, go_on);
	lib_ret(g, 1 << RTN_MULTICAST);
	place(e, go_on);
}

/* fib_get_table(), and the first step into its trie. */
static void table(struct cg *g, const struct walk *w)
{
	struct emit *e = &g->e;
	__u32 some = new_label(e), local = new_label(e);
	int list = at(g, "fib_table", "tb_hlist");

	jmpi(e, BPF_JNE, R8, 0, some);
	movi(e, R8, RTN_BROADCAST);
	ja(e, w->out);
	place(e, some);
	kload(g, U32, R1, R8, at(g, "fib_table", "tb_id") - list);
	jmpi(e, BPF_JEQ, R1, RT_TABLE_LOCAL, local);
	kload(g, U64, R8, R8, 0);
	again(g, w, PHASE_TABLE);
	place(e, local);
	kload(g, U64, R7, R8, at(g, "fib_table", "tb_data") - list);
	sti(e, U64, R6, scratch(g, CINDEX), 0);
	kload_member(g, U64, R8, R7, "key_vector", "tnode");
	jmpi(e, BPF_JEQ, R8, 0, w->unicast);
}

/* Step 1: to the longest prefix. */
static void down(struct cg *g, const struct walk *w)
{
	struct emit *e = &g->e;

	place(e, w->down);
	for (int i = 0; i < STEPS; i++) {
		__u32 no_shorter = new_label(e);

		node(g, R8);
		alu(e, BPF_XOR, R1, R9);
		alu(e, BPF_RSH, R1, R2);
		movi(e, R5, 1);
		alu(e, BPF_LSH, R5, R3);
		jmp(e, BPF_JGE, R1, R5, w->node);
		jmpi(e, BPF_JEQ, R3, 0, w->found);
		jmp(e, BPF_JLE, R4, R2, no_shorter);
		mov(e, R7, R8);
		put(g, CINDEX, R1);
		place(e, no_shorter);
		child(g, R8);
		jmpi(e, BPF_JEQ, R8, 0, w->back);
	}
	again(g, w, PHASE_DOWN);
}

/* Step 2, backtrace: one bit less of the index, or up to the parent. */
static void back(struct cg *g, const struct walk *w)
{
	struct emit *e = &g->e;

	place(e, w->back);
	for (int i = 0; i < STEPS; i++) {
		__u32 strip = new_label(e), next = new_label(e);

		get(g, R1, CINDEX);
		jmpi(e, BPF_JNE, R1, 0, strip);
		node(g, R7);
		jmpi(e, BPF_JGE, R2, 32, w->unicast);	/* IS_TRIE() */
		put(g, KEY, R1);
		kload(g, U64, R7, R7, at(g, "tnode", "parent") - at(g, "tnode", "kv"));
		node(g, R7);
		get(g, R3, KEY);
		alu(e, BPF_XOR, R1, R3);
		alu(e, BPF_RSH, R1, R2);
		put(g, CINDEX, R1);
		ja(e, next);
		place(e, strip);
		mov(e, R2, R1);
		alui(e, BPF_SUB, R2, 1);
		alu(e, BPF_AND, R1, R2);
		put(g, CINDEX, R1);
		child(g, R7);
		jmpi(e, BPF_JNE, R8, 0, w->node);
		place(e, next);
	}
	place(e, w->go_back);
	again(g, w, PHASE_BACK);
}

/* Step 2, one node: prefix_mismatch(), and on to its first child. */
static void shorter(struct cg *g, const struct walk *w)
{
	struct emit *e = &g->e;

	place(e, w->node);
	node(g, R8);
	movi(e, R5, 0);
	alu(e, BPF_SUB, R5, R1);
	alu(e, BPF_OR, R5, R1);
	alu(e, BPF_XOR, R1, R9);
	alu(e, BPF_AND, R1, R5);
	jmpi32(e, BPF_JNE, R1, 0, w->go_back);
	jmp(e, BPF_JEQ, R4, R2, w->go_back);
	jmpi(e, BPF_JEQ, R3, 0, w->found);
	kload_member(g, U64, R8, R8, "key_vector", "tnode");
	jmpi(e, BPF_JEQ, R8, 0, w->go_back);
	again(g, w, PHASE_NODE);
}

static void alias_load(struct cg *g, int size, int dst, const char *member)
{
	kload(g, size, dst, R8, at(g, "fib_alias", member) - at(g, "fib_alias", "fa_list"));
}

/* To good, or next, by what most routes are; else what LIB_NEXTHOP says. */
static void nexthop(struct cg *g, const struct walk *w)
{
	struct emit *e = &g->e;
	__u32 odd = new_label(e);

	get(g, R1, INFO);
	kload_member(g, U32, R1, R1, "fib_info", "fib_flags");
	alui(e, BPF_AND, R1, RTNH_F_DEAD);
	jmpi(e, BPF_JNE, R1, 0, w->next);
	get(g, R1, INFO);
	kload_member(g, U64, R1, R1, "fib_info", "nh");
	jmpi(e, BPF_JNE, R1, 0, odd);
	get(g, R1, INFO);
	kload_member(g, U32, R1, R1, "fib_info", "fib_nhs");
	jmpi(e, BPF_JNE, R1, 1, odd);
	get(g, R1, INFO);
	kload(g, U8, R1, R1, at(g, "fib_info", "fib_nh") + at(g, "fib_nh", "nh_common") +
			     at(g, "fib_nh_common", "nhc_flags"));
	alui(e, BPF_AND, R1, RTNH_F_DEAD | RTNH_F_LINKDOWN);
	jmpi(e, BPF_JEQ, R1, 0, w->good);
	place(e, odd);
	get(g, R1, INFO);
	movi(e, R2, 0);
	movi(e, R3, 0);
	call_label(e, cg_lib(g, LIB_NEXTHOP));
	jmpi(e, BPF_JEQ, R0, ROUTE_NEXT, w->next);
	jmpi(e, BPF_JEQ, R0, ROUTE_MISS, w->go_back);
	jmpi(e, BPF_JEQ, R0, ROUTE_REJECTS, w->unicast);
}

/*
 * Step 3: the routes of the leaf in r8, one a turn.  The type of service that is
 * looked for is 0, as is the scope; fib_props[] has errors for BLACKHOLE and all
 * types behind it.
 */
static void routes(struct cg *g, const struct walk *w)
{
	struct emit *e = &g->e;

	place(e, w->found);
	node(g, R8);
	alu(e, BPF_XOR, R1, R9);
	put(g, INDEX, R1);
	kload_member(g, U64, R8, R8, "key_vector", "leaf");
	place(e, w->alias);
	jmpi(e, BPF_JEQ, R8, 0, w->go_back);
	alias_load(g, U8, R1, "fa_slen");
	get(g, R2, INDEX);
	alu(e, BPF_RSH, R2, R1);
	jmpi(e, BPF_JNE, R2, 0, w->next);
	alias_load(g, U8, R1, "fa_dscp");
	jmpi(e, BPF_JNE, R1, 0, w->next);
	alias_load(g, U8, R1, "fa_type");
	put(g, TYPE, R1);
	alias_load(g, U64, R1, "fa_info");
	put(g, INFO, R1);
	kload_member(g, U8, R1, R1, "fib_info", "fib_dead");
	jmpi(e, BPF_JNE, R1, 0, w->next);
	get(g, R1, TYPE);
	jmpi(e, BPF_JGT, R1, RTN_MULTICAST, w->unicast);
	nexthop(g, w);
	place(e, w->good);
	get(g, R8, TYPE);
	ja(e, w->out);
	place(e, w->next);
	kload(g, U64, R8, R8, 0);
	again(g, w, PHASE_ALIAS);
}

/* r3: the address. 1 << its type */
static void lib_addrtype(struct cg *g)
{
	struct emit *e = &g->e;
	const struct walk w = {
		new_label(e), new_label(e), new_label(e), new_label(e), new_label(e),
		new_label(e), new_label(e), new_label(e), new_label(e), new_label(e),
		new_label(e),
	};

	lib_begin(g);
	mov(e, R9, R3);
	by_address(g);
	g->fl->net(g, R8);
	kload_member(g, U64, R8, R8, "net", "ipv4.fib_table_hash");
	kload(g, U64, R8, R8, 8 * kfib_local_index());
	movi(e, R7, 0);
	sti(e, U64, R6, scratch(g, PHASE), PHASE_TABLE);
	loop_begin(g, LOOP, TURNS);
	place(e, w.turn);
	loop_next(g, LOOP, w.unicast);
	get(g, R1, PHASE);
	jmpi(e, BPF_JEQ, R1, PHASE_BACK, w.back);
	jmpi(e, BPF_JEQ, R1, PHASE_DOWN, w.down);
	jmpi(e, BPF_JEQ, R1, PHASE_NODE, w.node);
	jmpi(e, BPF_JEQ, R1, PHASE_ALIAS, w.alias);
	table(g, &w);
	down(g, &w);
	back(g, &w);
	shorter(g, &w);
	routes(g, &w);
	place(e, w.unicast);
	movi(e, R8, RTN_UNICAST);
	place(e, w.out);
	loop_end(g, LOOP);
	movi(e, R0, 1);
	alu(e, BPF_LSH, R0, R8);
	exit_(e);
}

/* ipv4_devconf of a device, or of all: IGNORE_ROUTES_WITH_LINKDOWN */
static void if_ignores(struct cg *g, int ptr, int data, __u32 yes)
{
	kload(g, U32, R1, ptr, data + 4 * (IPV4_DEVCONF_IGNORE_ROUTES_WITH_LINKDOWN - 1));
	jmpi(&g->e, BPF_JNE, R1, 0, yes);
}

/* fib_lookup_good_nhc() of the nexthop in r9: falls through if it is; ip_ignore_linkdown() */
static void nexthop_good(struct cg *g, __u32 bad)
{
	struct emit *e = &g->e;
	__u32 good = new_label(e);

	kload_member(g, U8, R1, R9, "fib_nh_common", "nhc_flags");
	mov(e, R2, R1);
	alui(e, BPF_AND, R2, RTNH_F_DEAD);
	jmpi(e, BPF_JNE, R2, 0, bad);
	alui(e, BPF_AND, R1, RTNH_F_LINKDOWN);
	jmpi(e, BPF_JEQ, R1, 0, good);
	kload_member(g, U64, R9, R9, "fib_nh_common", "nhc_dev");
	kload_member(g, U64, R9, R9, "net_device", "ip_ptr");
	jmpi(e, BPF_JEQ, R9, 0, good);
	if_ignores(g, R9, at(g, "in_device", "cnf.data"), bad);
	kload_member(g, U64, R9, R9, "in_device", "dev");
	kload_member(g, U64, R9, R9, "net_device", "nd_net.net");
	kload_member(g, U64, R9, R9, "net", "ipv4.devconf_all");
	if_ignores(g, R9, at(g, "ipv4_devconf", "data"), bad);
	place(e, good);
}

/* Returns ROUTE_GOOD if one of r8 nexthops from r7 on is, else @none; @of: r9 = one of r6. */
static void any_good(struct cg *g, int size, void (*of)(struct cg *g), int none)
{
	struct emit *e = &g->e;
	__u32 turn = new_label(e), end = new_label(e);

	mov(e, R6, R7);
	loop_begin(g, LOOP, TURNS);
	place(e, turn);
	loop_next(g, LOOP, end);
	jmp(e, BPF_JGE, R1, R8, end);
	of(g);
	alui(e, BPF_ADD, R6, size);
	nexthop_good(g, turn);
	loop_end(g, LOOP);
	lib_ret(g, ROUTE_GOOD);
	place(e, end);
	loop_end(g, LOOP);
	lib_ret(g, none);
}

static void of_route(struct cg *g)
{
	mov(&g->e, R9, R6);
}

static void of_group(struct cg *g)
{
	kload_member(g, U64, R9, R6, "nh_grp_entry", "nh");
	kload_member(g, U64, R9, R9, "nexthop", "nh_info");
	alui(&g->e, BPF_ADD, R9, at(g, "nh_info", "fib_nhc"));
}

/* nexthop_is_blackhole(), of the nexthop in @ptr that is no group. */
static void if_rejects(struct cg *g, int ptr, __u32 yes)
{
	kload_member(g, U64, R9, ptr, "nexthop", "nh_info");
	kload_member(g, U8, R1, R9, "nh_info", "reject_nh");
	jmpi(&g->e, BPF_JNE, R1, 0, yes);
}

/* r7: struct nexthop; nexthop_get_nhc_lookup() */
static void nexthop_object(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 group = new_label(e), rejects = new_label(e), miss = new_label(e);
	__u32 several = new_label(e);

	kload_member(g, U8, R1, R7, "nexthop", "is_group");
	jmpi(e, BPF_JNE, R1, 0, group);
	if_rejects(g, R7, rejects);
	alui(e, BPF_ADD, R9, at(g, "nh_info", "fib_nhc"));
	nexthop_good(g, miss);
	lib_ret(g, ROUTE_GOOD);
	place(e, miss);
	lib_ret(g, ROUTE_MISS);
	place(e, rejects);
	lib_ret(g, ROUTE_REJECTS);
	place(e, group);
	kload_member(g, U64, R7, R7, "nexthop", "nh_grp");
	kload_member(g, U16, R8, R7, "nh_group", "num_nh");
	alui(e, BPF_ADD, R7, at(g, "nh_group", "nh_entries"));
	jmpi(e, BPF_JGT, R8, 1, several);
	kload_member(g, U64, R9, R7, "nh_grp_entry", "nh");
	if_rejects(g, R9, rejects);
	place(e, several);
	any_good(g, kbtf_size("nh_grp_entry"), of_group, ROUTE_MISS);
}

/* r1: struct fib_info, of a route without an error of its own */
static void lib_nexthop(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 object = new_label(e), alive = new_label(e);

	mov(e, R6, R1);
	kload_member(g, U32, R1, R6, "fib_info", "fib_flags");
	alui(e, BPF_AND, R1, RTNH_F_DEAD);
	jmpi(e, BPF_JEQ, R1, 0, alive);
	lib_ret(g, ROUTE_NEXT);
	place(e, alive);
	kload_member(g, U64, R7, R6, "fib_info", "nh");
	jmpi(e, BPF_JNE, R7, 0, object);
	kload_member(g, U32, R8, R6, "fib_info", "fib_nhs");
	mov(e, R7, R6);
	alui(e, BPF_ADD, R7, at(g, "fib_info", "fib_nh") + at(g, "fib_nh", "nh_common"));
	any_good(g, kbtf_size("fib_nh"), of_route, ROUTE_NEXT);
	place(e, object);
	nexthop_object(g);
}

void cg_lib_fib(struct cg *g, enum cg_lib l)
{
	const char *lacks = kfib_lacks();

	if (lacks) {
		xt_fail(g->err, -EOPNOTSUPP, "this kernel has no %s", lacks);
		g->e.err = g->e.err ?: -EOPNOTSUPP;
	}
	if (l == LIB_ADDRTYPE)
		lib_addrtype(g);
	else
		lib_nexthop(g);
}
