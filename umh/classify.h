/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Classification: long runs of rules become lookups.
 *
 * In a chain, rules that only test (no limit, no native match) and test
 * something that can be a key (an address, a port, a device, ...) are taken out
 * of the walk as members of a group, one group for a run of them.  In their
 * place there are two rules, and what could not be grouped stays between:
 *
 *	-> lookup G		best = the first member that matches, of those not
 *				before `from'; or none
 *	before G; ... -> ...	a rule that stayed, tried only if best is behind it
 *	-> dispatch G		best, if any, is counted, and does what it does
 *
 * A member that goes on behind itself (no target, LOG, a chain that returns, most
 * native targets) sets `from' behind it and has the lookup done again.  best and from are kept
 * in two slots of the chain's depth (struct cg_chain), because of what happens
 * in the chains that it calls.  Both are values
 *
 *	counter << 8 | act
 *
 * where the counter is that of the rule, growing along the chain, so that the
 * smaller value is the earlier rule; act says what to do, by the group's list.
 *
 * How best is found.  A member is conditions (protocol, state, TCP flags,
 * inverted matches, ...: whatever is not a key) and keys with prefix lengths.
 * Members with the same conditions and the same key fields are alike; alike
 * members that also agree in all prefix lengths but those of one field are a
 * family.  Families are looked up one by one, those whose first member is
 * behind the best one so far are passed over, and tests that several families
 * share are made once (cg_lookup.c).  A family has one hash table for each
 * length of its varying field, searched by bisection of the lengths: to find
 * an entry sends to the longer ones, to find none to the shorter ones; markers
 * lead to entries that would be missed.  The search begins with the shortest
 * length at which few of all possible keys are there, so that a packet that is
 * in none of the family's is mostly told by one table.  An entry knows the first rule of all
 * that match its key, those of shorter prefixes too, so that the last entry
 * found has the answer.  A family of one length is one hash table.
 *
 * Where many tables are about sources, or destinations, a sieve (classify_sieve.c) tells by
 * the address's upper bits which of them a packet can be in: the others are not looked at,
 * and where that leaves few lengths of a family, those are tried instead of searched.
 *
 * Ranges and lists are either conditions, where several rules share them, or
 * are cut into prefixes.
 *
 * Hundreds of small chains are made one first, to which the number of the chain
 * that was called is a field of the key (classify_merge.c).
 *
 * Guards (IR_P_L4, IR_P_PROTO) drop a packet whose header is too short, when
 * all that is before them in the rule holds.  A rule with a guard has a
 * companion: the predicates before the guard, the condition that the header is
 * bad, and act CL_HOTDROP.  Companions are looked at for such packets only.
 *
 * Tables are perfect hashes (phash.h) in one map, mapped while it is filled: it
 * belongs to the grouped table, is made when a program first needs it, and
 * lives on with the programs that use it.  Both stages share it; what the early
 * stage cannot tell, it leaves out of a family's conditions, and defers.
 *
 * Of what a lookup takes, most is to wait for memory that is in no cache.  So slots may have
 * counters of their own, next to the key and in the counters' map, a copy for each CPU (struct
 * counted_slots): a packet that is found waits once.  What a slot has counted belongs to the
 * rule of its value.  The image has all slots nevertheless, for what comes to be changed.
 */
#ifndef XTJIT_CLASSIFY_H
#define XTJIT_CLASSIFY_H

#include "ir.h"
#include "phash.h"

#define CL_NONE		0xffffffffu	/* of values: no rule; of nodes: the end */
#define CL_CONDS	12		/* conditions of one rule */
#define CL_DEPTH	8		/* rules that go on, in one entry: tried in turn */
#define CL_FAMILIES	48		/* in one group, without companions */

enum cl_field {
	CL_SADDR, CL_DADDR, CL_SPORT, CL_DPORT,	/* these have prefixes */
	CL_SMAC, CL_IFACE, CL_OFACE,
	CL_CHAIN,		/* of a merged chain's rules: classify_merge.c */
	CL_NFIELDS
};

enum cl_how {
	CL_PLAIN,		/* the predicate, which drops nothing */
	CL_GUARD,		/* IR_P_L4, IR_P_PROTO: holds, for a header that is fine */
	CL_BAD,			/* the same: the header is bad, and drops the packet */
};

struct cl_cond {
	struct ir_pred p;
	enum cl_how how;
};

/* A part of a key: bits of a slot of struct pkt under a mask, shifted to their place. */
struct cl_part {
	__u8 field;		/* enum cl_field */
	__u8 half;		/* of 128 bits: first or second */
	__u8 word, shift;
	__u8 bits;
};

struct cl_table {
	__u8 len;		/* of the varying field */
	__u32 nkeys;		/* with markers */
	struct phash ph;
	__u64 disp, slots;	/* offsets in the image */
	__u32 sieve;		/* bits of the group's: if none is set, the key is not here */
	__u32 counter;		/* place of slot 0's; CL_NONE: slots have none */
};

struct cl_family {
	__u32 id;		/* its place in order of creation */
	__u16 nconds;
	__u16 conds[CL_CONDS];	/* into the group's */
	__u8 len[CL_NFIELDS];	/* prefix lengths; the varying field's are those of the tables */
	int vary;		/* enum cl_field, or -1 */
	bool has[CL_NFIELDS];
	int nparts, nwords;
	struct cl_part parts[CL_NFIELDS + 4];
	__u8 word_size[PHASH_WORDS];	/* 4 or 8; in the slot one after the other, then the value */
	__u8 word_at[PHASH_WORDS];
	__u8 slot_size;
	bool hot;		/* companions */
	int depth;		/* entries are lists of up to so many; 0: values */
	bool deep;		/* more than CL_DEPTH: an entry is a node { CL_NONE, n }, and n behind it */
	__u32 first;		/* smallest value; nwords 0: the only one */
	__u32 nrules, nmarkers;
	int ntables, root;
	struct cl_table *tables;	/* by length; the search begins with root */
	__u8 sieve_by;		/* CL_SADDR, CL_DADDR: whose sieve */
	__u32 sieve;		/* of all its tables; 0: it is looked at always */
	bool spread;		/* not searched: each table that the sieve names, the longest first */
};

/* By the upper bits of an IPv4 address: what can be there. */
struct cl_sieve {
	__u8 bits;		/* of the address; 0: there is none */
	__u64 at;		/* offset: 32 bits each */
};

/* The table that the search among those from @lo to @hi begins with. */
static inline int cl_middle(const struct cl_family *f, int lo, int hi)
{
	return !lo && hi == f->ntables - 1 ? f->root : lo + (hi - lo) / 2;
}

/* One thing that members do. */
struct cl_act {
	__u8 action;		/* enum ir_action_kind; IR_A_DEFER: CL_HOTDROP */
	bool on;		/* may go on behind the rule */
	__u32 arg;
};

/* A key of a rule, for who changes the group: cl_ref_hash(), and the rule's value. */
struct cl_ref {
	__u32 hash, value;
};

/* Steps to find a value by halves in a list of up to @n. */
static inline int cl_halves(int n)
{
	return 32 - __builtin_clz(n);
}

#define CL_HOTDROP	0	/* in every list of acts */
#define CL_INDIRECT	255	/* act of a value: look it up by the counter */

struct ir_group {
	__u32 chain;
	__u32 first, last;	/* counters of the first and last member */
	__u32 nmembers, nrest;	/* rest: rules between that stayed */
	bool resumes;		/* some member goes on */
	__u32 nconds;
	struct cl_cond *conds;
	__u32 nfamilies;
	struct cl_family *families;	/* by first */
	struct cl_sieve sieve[2];	/* CL_SADDR, CL_DADDR */
	__u32 nacts;
	struct cl_act *acts;
	__u64 nodes;		/* offset: { value, next } of lists */
	__u32 nnodes;
	__u64 indirect;		/* offset: act of counter - first, 32 bits; nacts > 255 only */
	bool native;		/* some act is IR_A_NATIVE, whose arg is of no use */
	bool enters;		/* some act calls a merged chain */
	__u64 slots;		/* offset: of counter - first, native slot or .entry, 32 bits; if any */
	__u32 room;		/* of those: as many as there is room for */
	__u32 nrefs;		/* of all members' keys; 0 where classify_edit() has no use for them */
	struct cl_ref *refs;
};

/* The act calls a chain that merges others. */
static inline bool cl_enters(const struct ir_table *t, const struct cl_act *a)
{
	return (a->action == IR_A_JUMP || a->action == IR_A_GOTO) && t->chains[a->arg].merges;
}

/* Sizes from which rules are grouped; measured: see cl_limits_default. */
struct cl_limits {
	__u32 family, group;
	__u32 chains;		/* that are merged into one; 0: none are */
	__u32 deep;		/* that part of a group's members, 1 / deep, in a long list; 0: none */
};
extern const struct cl_limits cl_limits_default;
/* Those, or what $XTJIT_CLASSIFY says: "off", or a number for all, for tests. */
const struct cl_limits *cl_limits(void);

/*
 * Makes @out a table with the rules of @in, which must outlive it, in groups
 * where that is worth it.  0 or -ENOMEM.  @out is the caller's to
 * classify_free(), be it without groups.
 */
int classify(const struct ir_table *in, const struct cl_limits *limits, struct ir_table *out,
	     struct xt_err *err);
void classify_free(struct ir_table *t);
/* Only the groups' data: the table itself may be in use by another (classify_edit()). */
void classify_free_image(struct ir_table *t);

/*
 * Which counters rules have.  A rule's is the index of its entry when a table is made as a
 * whole; later on there are gaps, so that rules can come and the others keep theirs.  The
 * order is that of the entries always.  NULL: a counter is the index of the entry.
 */
struct cl_numbers {
	const __u32 *counter;	/* of each entry */
	const __u32 *entry;	/* of each counter; of one that no rule has: the next one's */
	__u32 n;		/* counters that there are */
};

/*
 * A change of one chain of a table in groups: .ndel rules from entry .at on
 * give way to .nadd others.  .rule() gives the old rule of that entry, valid
 * until the next call, and its chain; or NULL.  From native slot .slot on, .slots_del give way to
 * .slots_add, all of them targets that end the walk (classify_final()); rules in
 * .add have the numbers that these get.
 */
struct cl_edit {
	__u32 chain, at, ndel, nadd;
	struct cl_numbers was, is;	/* of the rules before, and after it */
	bool keep;			/* a rule that stays has the same counter in both */
	const struct cl_stale *stale;	/* slots that are free, see below; NULL: none */
	bool place;			/* it is to be tried whether it can be made in place */
	__u32 slot, slots_del, slots_add;
	const struct ir_rule *del, *add;
	const struct ir_rule *(*rule)(void *arg, __u32 entry, __u32 *chain);
	void *arg;
};

/*
 * Makes @out what @old, which has groups, is after the change.  What is alike in both is
 * not made anew, but copied; rules that go or come are taken out of their group's
 * tables or put in, or are tried by themselves.  @out needs @old's memory, but its
 * arena and image, and is the caller's to classify_free(); out->plain is NULL.  0;
 * -EAGAIN: it does not fit; or another negative errno.
 */
int classify_edit(const struct ir_table *old, const struct cl_edit *e, struct ir_table *out,
		  struct xt_err *err);

/*
 * Changes in place (classify_place.c): @new is what classify_edit() made of @old with .keep,
 * @old's map is in force, and @live is its counters' memory, of @stride bytes a CPU.  In this order:
 *
 *	classify_fits()		*c is the change; or false
 *	classify_put_keys()	then a grace period, if c->wide
 *	classify_move_keys()	so far no packet has met another table
 *	classify_write()	of what classify_writes() lists: it is done
 *	classify_changed()	@new has @old's map now; @old has none
 *
 * @stale, which the caller keeps from change to change: slots that the last one has left, with what
 * they have counted.  A grace period later this one frees them (the caller keeps the counts), and
 * classify_changed() puts those that it has left in their place.
 */
#define CL_CHANGES 64

enum cl_slot_kind { CL_COPIED, CL_LEAVES, CL_COMES, CL_GOES };

struct cl_slot_change {
	enum cl_slot_kind kind;
	__u32 value;
	__u64 image;		/* where the value is */
	__u64 counted;		/* where the slot is in a CPU's counters; 0: it has none */
	__u32 slot_size, size;	/* there */
};

struct cl_change {
	bool wide;		/* a key is written that has more than 32 bits: not in one step */
	__u32 n;
	struct cl_slot_change slot[CL_CHANGES];
};

struct cl_stale {
	__u32 n;
	struct cl_slot_change slot[CL_CHANGES];
};

/* A value, where it is in the image, and in a CPU's counters (0: it is not). */
struct cl_write {
	__u64 image, counted;
	__u32 value, reserved;
};
#define CL_WRITES (2 * CL_CHANGES)

bool classify_fits(const struct ir_table *old, struct ir_table *new, const struct cl_stale *stale,
		   struct cl_change *c);
void classify_put_keys(const struct ir_table *old, const struct ir_table *new,
		       const struct cl_change *c, void *live, size_t stride);
void classify_move_keys(const struct ir_table *old, const struct ir_table *new,
			const struct cl_change *c, void *live, size_t stride);
/*
 * Into @w, which has room for CL_WRITES; how many. Values that go are behind those that come,
 * between which the caller has a grace period go by.
 */
__u32 classify_writes(const struct cl_change *c, const struct cl_stale *stale, struct cl_write *w);
/* May be done again. */
void classify_write(const struct cl_write *w, __u32 n, void *image, void *live, size_t stride);
/* Where it ends before classify_write(): adds to *@stale what it has left; false: there is no room. */
bool classify_left(const struct cl_change *c, struct cl_stale *stale);
void classify_changed(struct ir_table *old, struct ir_table *new, const struct cl_change *c,
		      struct cl_stale *stale);

/*
 * Gives the rules of a table in groups, just made, other counters, @n in all: @counter has
 * that of each entry, growing.
 */
void classify_number(struct ir_table *t, const __u32 *counter, __u32 n);

/* A packet never goes on behind the target of that slot. */
bool classify_final(const struct ir_table *t, __u32 slot);

/* The map with the groups' data; made at the first call. The fd stays @t's; or a negative errno. */
int classify_map(const struct ir_table *t, struct xt_err *err);
size_t classify_size(const struct ir_table *t);
/* The map if it is there, else -1; and the data, be it in that, or not yet. */
int classify_fd(const struct ir_table *t);
void *classify_data(const struct ir_table *t);

/*
 * What a group is, a line, and with @families one more for each of these; every
 * line begins with @indent.
 */
void classify_print(FILE *out, const struct ir_table *t, const struct ir_group *g,
		    const char *indent, bool families);

/* The family's slots have counters. */
static inline bool cl_counted(const struct cl_family *f)
{
	return f->ntables && f->tables[0].counter != CL_NONE;
}

/* None of @t's slots have; its programs count by rules. */
void classify_uncount(struct ir_table *t);

/* Index of struct counted_slots, for a family whose slots have. */
static inline int cl_counted_size(const struct cl_family *f)
{
	return (f->slot_size - 1) / 8;
}

/* Where the key is in a slot that has. */
#define CL_COUNTED_KEY 16
/* Fills the counted slots of @value, one CPU's counters. */
void classify_fill_counted(const struct ir_table *t, void *value);

/* How many bits of a field there are. */
int cl_width(const struct ir_table *t, enum cl_field f);
/* The mask of @part for prefix length @len of its field, as the slot has the bits. */
__u64 cl_part_mask(const struct ir_table *t, const struct cl_part *part, int len);

#endif
