/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From the IR to loaded programs.
 */
#ifndef XTJIT_COMPILE_H
#define XTJIT_COMPILE_H

#include "drops.h"
#include "event.h"
#include "ir.h"

struct xt_counters;

/*
 * Counters: an array map (BPF_F_MMAPABLE) of one value a possible CPU, CPU c's at c * stride
 * bytes of the mapped memory: packets and bytes of each rule, 16 bytes, and behind these the
 * slots of lookups' tables that have counters.  Programs know a counter by its place: in such a
 * value, in units of 8 bytes.
 * State: an array map of one struct rule_state an index: the buckets of limit,
 * then the counts of statistic nth.
 */
struct rule_state {
	__u64 prev;		/* jiffies at the last evaluation; nth: the count */
	__u32 credit;
	__u32 reserved;
};

/* The maps of one generation of a table; -1 where there is none. */
struct table_maps {
	int counters;
	int state;		/* -1 if the table has neither limit nor nth */
	__u32 ncounters;
	struct counted_slots counted;
};

static inline __u32 counter_place(__u32 rule)
{
	return 2 * rule;
}

/* net/netfilter/xt_limit.c: what a match costs, and what a full bucket holds. */
struct limit_cost {
	__u32 cost, cap;
};
struct limit_cost limit_cost(const struct ir_limit *l);
__u32 limit_credits_per_jiffy(void);
__u32 kernel_hz(void);		/* ticks a second */
bool kernel_preempt_rt(void);

/*
 * Creates them, for the table as it is to be compiled: no counts, its lookups' keys and values
 * in their slots, buckets full.  0 or a negative errno.
 */
int table_maps_create(struct table_maps *m, const struct ir_table *t, struct xt_err *err);
void table_maps_close(struct table_maps *m);

/* Bytes of one CPU's counters in the mapped memory, and the number of possible CPUs. */
size_t counters_stride(const struct table_maps *m);
/* Places are below it, for the verifier. */
static inline __u32 counter_places(const struct table_maps *m)
{
	return counters_stride(m) / 8 - 1;
}
int possible_cpus(void);
/* Adds all CPUs' counters, from the mapped memory @live, to @out, one a rule. */
void counters_add(const struct table_maps *m, const void *live, struct xt_counters *out);

/*
 * What all programs of this helper share; the fds stay the caller's.  Programs
 * for the module use none of these maps.
 * ring: BPF_MAP_TYPE_RINGBUF of struct event.
 * self: hash map of the helper's own sockets and answers (below).
 * lost: array map of one __u64, BPF_F_MMAPABLE: events that the ring had no room for; not
 * above 0: they are not counted.
 * drops: where what is dropped is counted; NULL: nowhere.
 */
struct compile_env {
	__u64 netns;		/* cookie */
	int ring, self, lost;
	const struct drops *drops;
	int l3off;		/* programs for the module: where the packet begins; but in tests, 0 */
	bool trace;		/* ... they tell it of each rule that a traced packet matches */
	FILE *listing;		/* if not NULL: the program's text goes there */
};

/*
 * The helper's own raw sockets, which send REJECT's answers: a hash map from
 * socket cookie (u64) to struct self_entry.  The kernel's REJECT attaches the
 * packet's conntrack entry to its answer, which rules then see as RELATED, and
 * owned by no user; a program looks a packet's socket up here to see the same,
 * with what the entry was as of the answer that is being sent.
 *
 * An answer to an address of our own, or to a broadcast one, has no socket any
 * more when it comes in again.  It is known by its priority, which the helper
 * sets: one of SELF_LOOPED, in turn; the key is self_looped().
 */
#define SELF_MAX 1024
#define SELF_LOOPED 256
#define SELF_PRIORITY 0x5d180000	/* those bits that are in SELF_PRIORITY_MASK */
#define SELF_PRIORITY_MASK 0xfffff00f

static inline __u32 self_priority(__u32 n)
{
	return SELF_PRIORITY | n % SELF_LOOPED << 4;
}

static inline __u64 self_looped(__u32 priority)
{
	return (__u64)priority << 32;	/* no cookie is as large */
}

enum self_kind {
	SELF_RELATED = 1,	/* answers to packets with an entry */
	SELF_PLAIN,		/* answers to packets without one */
};

struct self_entry {
	__u32 kind;
	/* SELF_RELATED: */
	__u32 dir;		/* enum ip_conntrack_dir, of the answer */
	__u8 ct[EVENT_CT_MAX];	/* as in struct event */
};

/* The passes for the exact stage, in place. */
int passes_exact(struct ir_table *t, struct xt_err *err);

/*
 * Loads the exact program of @t, for BPF_PROG_TYPE_NETFILTER, good for all its
 * hooks.  The fd, or a negative errno.
 */
int compile_exact(const struct ir_table *t, const struct table_maps *m,
		  const struct compile_env *env, struct xt_err *err);

/*
 * Loads the program of @t, for the module: BPF_PROG_TYPE_SCHED_CLS as in
 * xtjit_dev.h, good for all its hooks.  The numbers of native slots are their
 * places in t->slots.  The fd, or a negative errno.
 */
int compile_hook(const struct ir_table *t, const struct table_maps *m,
		 const struct compile_env *env, struct xt_err *err);

/* One table on an early program's path. */
struct early_table {
	const struct ir_table *ir;	/* as lowered, before passes_exact(); not changed */
	const struct table_maps *maps;	/* NULL: the kernel's own; not counted */
};

/* What the early stage may rely on; each is a fact about the namespace or device now. */
struct early_facts {
	bool conntrack;		/* conntrack is on: packets of known connections go up */
	bool helpers;		/* expectations may make a new connection RELATED */
	bool foreign;		/* someone else may decide which packets conntrack sees, and how */
	bool nat;		/* someone translates destinations before INPUT/FORWARD */
	bool fib;		/* use FIB lookups; else the lists below */
	bool source_check;	/* the reverse path must be checked (rp_filter) */
	__u32 nlocal;		/* local addresses of this family */
	const __u8 (*local)[16];
};

enum early_flavor { EARLY_XDP, EARLY_TC };

/*
 * Loads the early program of one family over tables in the order in which a
 * packet meets them (raw, mangle, nat, filter, security); those without a
 * chain at a hook are passed over.  The fd; -ENOENT if no packet could ever be
 * dropped by it (then there is nothing to attach); or a negative errno.
 */
int compile_early(enum early_flavor flavor, const struct xt_family *f,
		  const struct early_table *tables, int ntables,
		  const struct early_facts *facts, const struct compile_env *env,
		  struct xt_err *err);

/*
 * The entry program of a device: goes on, by tail call, to what is in its
 * BPF_MAP_TYPE_PROG_ARRAY, slot 0 for IPv4, 1 for IPv6; the packet passes if
 * there is nothing.
 */
int compile_entry_early(enum early_flavor flavor, int prog_array, struct xt_err *err);

#endif
