/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The journal of one request that makes the kernel replace a table: the old
 * counters that the kernel hands out once are written by it straight into
 * pinned memory, so that they are not lost with the helper.
 */
#ifndef XTJIT_JOURNAL_H
#define XTJIT_JOURNAL_H

#include "table.h"

enum journal_kind {
	J_REPLACE,		/* the kernel's table, replaced: b */
	J_GIVE, J_RELEASE,	/* to the kernel */
	J_TAKE, J_ADOPT,	/* from the kernel */
};

/*
 * a: counters from before gates were put in (TAKE, ADOPT: the kernel's;
 * RELEASE: xtjit's, to be added to the kernel's).  b: what the kernel returned
 * last, with the gates' own among them.
 */
struct journal {
	__u64 id;
	__u32 kind;		/* enum journal_kind */
	__u32 active;		/* a move that has not come to its end */
	__u32 na, nb;
	__u32 ngates, at[XT_HOOKS];
	__u32 added;		/* the kernel has been given a + b */
	struct xt_counters c[];	/* a, then b */
};

static inline struct xt_counters *journal_a(struct journal *j)
{
	return j->c;
}

static inline struct xt_counters *journal_b(struct journal *j)
{
	return j->c + j->na;
}

/* A new one, pinned, in place of the table's last; closed with pmem_close(). */
int journal_begin(struct table *t, enum journal_kind kind, __u64 id, __u32 na, __u32 nb,
		  struct pmem *m, struct xt_err *err);
/* The table's last one; NULL if there is none. */
struct journal *journal_open(struct table *t, struct pmem *m);

/* Whether the kernel has written there. */
bool journal_written(const struct xt_counters *c, __u32 n);

/* a + b without gates, of what was written; malloc()ed, j->nb - j->ngates of them. */
struct xt_counters *journal_sum(struct journal *j);

#endif
