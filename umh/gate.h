/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The gate between xtjit and the kernel's own ip_tables: for each packet, at
 * each hook of a table, exactly one of the two counts and decides it, also
 * while the table moves from one to the other.
 *
 * xtjit's side is the entry program at the hook.  The kernel's side, while a
 * table moves, is a rule at the head of each of its base chains:
 *	-m bpf --object-pinned GATE -j ACCEPT
 * Both look at one word.  The kernel's table comes first at the hook.  In the
 * two moving states it notes which packets went past it the new way, and the
 * entry program follows the note: so a packet that is between the two when the
 * word changes is neither done twice nor missed.  When all that were under way
 * are done (grace.h), the final state follows.
 */
#ifndef XTJIT_GATE_H
#define XTJIT_GATE_H

#include <linux/netfilter/x_tables.h>

#include "blob.h"

enum gate_state {
	GATE_XTJIT,
	GATE_KERNEL,
	GATE_TO_KERNEL,		/* the kernel does those that it notes */
	GATE_TO_XTJIT,		/* the entry program does those that are noted */
};

/* The notes: a map from skb addresses. An fd, or a negative errno. */
int gate_seen_create(struct xt_err *err);
void gate_seen_clear(int seen);

/*
 * The programs; @words is an array map of one entry that begins with a __u32,
 * the state.  The entry program goes on to slot 0 of @slot.
 */
int gate_entry_prog(int words, int seen, int slot, struct xt_err *err);
int gate_rule_prog(int words, int seen, struct xt_err *err);

/* A ruleset with gates in it. */
struct gated {
	struct xt_replace_hdr h;
	void *entries;		/* malloc()ed */
	__u32 ngates;
	__u32 at[XT_HOOKS];	/* their indexes, ascending */
};

/* Puts one at the head of each base chain. -EINVAL if @entries make no sense. */
int gate_insert(struct gated *out, const struct xt_family *f, const struct xt_replace_hdr *h,
		const void *entries, const char *path);
/* The reverse, in place: takes those of @path out; *out tells which they were. */
int gate_remove(struct gated *out, const struct xt_family *f, struct xt_replace_hdr *h,
		void *entries, const char *path);

/* Takes the gates' own out of @n counters, in place. */
void gate_strip_counters(struct xt_counters *counters, __u32 n, __u32 ngates, const __u32 *at);

#endif
