/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tables between xtjit and the kernel's own ip_tables: who answers (proxy.c),
 * and how a table moves (owner.c).  A move can be ended from wherever it was
 * interrupted: what the kernel hands out goes into a pinned journal.
 */
#ifndef XTJIT_OWNER_H
#define XTJIT_OWNER_H

#include "table.h"

/* Whether the request may leave a table to the kernel. */
bool owner_may_fall_back(const struct table *t, const struct call *c);

/* Options passed on: any getsockopt(); and those of a table that the kernel has. */
int owner_proxy_get(const struct xt_family *f, struct call *c);
int owner_proxy_add(struct table *t, struct call *c);
int owner_proxy_replace(struct table *t, struct call *c);

/* Whether the kernel's table has @n counters, each at least as in @add. */
bool owner_kernel_has(const struct table *t, const struct xt_counters *add, __u32 n);

/*
 * If the SO_SET_REPLACE c->req.id was done before: 1 and its reply; 0 if not;
 * or a negative errno.
 */
int owner_repeated(struct table *t, struct call *c);

/*
 * From xtjit to the kernel, with the ruleset @h, @entries, for @why and @text.
 * *old (malloc()ed): xtjit's last counters, t->cur->ncounters of them; with
 * @carry they go to the kernel, too.  A negative errno (the kernel's, if
 * it refuses the ruleset) before anything has changed.
 */
int owner_give(struct table *t, const struct xt_replace_hdr *h, const void *entries,
	       enum why why, const char *text, bool carry, __u64 id,
	       struct xt_counters **old, struct xt_err *err);

/* The namespace has a nat table now: gives away what cannot be exact next to it. */
void owner_nat_came(struct space *s, const struct xt_family *f);

/*
 * From the kernel to xtjit, with the compiled @g, which is the callee's in any
 * case.  *old: the kernel's last counters, *n of them; @adopt: they go to @g, too.
 */
int owner_take(struct table *t, struct gen *g, __u64 id, bool adopt, struct xt_counters **old,
	       __u32 *n, struct xt_err *err);

/* By order of the administrator: the same ruleset, the same counters. */
int owner_adopt(struct table *t, struct call *c, struct xt_err *err);
int owner_release(struct table *t, struct call *c, struct xt_err *err);

/* Ends a move that was interrupted. */
void owner_recover(struct table *t);

#endif
