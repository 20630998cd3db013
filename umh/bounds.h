/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What namespaces of other user namespaces may use: whoever made one needs no
 * privileges, and what their tables take is the machine's.
 */
#ifndef XTJIT_BOUNDS_H
#define XTJIT_BOUNDS_H

#include "table.h"

/* Of one table. */
#define BOUNDS_RULES		(64u << 10)	/* entries */
#define BOUNDS_BYTES		(16u << 20)	/* of entries */
/* Of all such namespaces together. */
#define BOUNDS_ALL_RULES	(256u << 10)
#define BOUNDS_ALL_BYTES	(64u << 20)
#define BOUNDS_ALL_TABLES	1024u

/* Whether @t may have the ruleset of @h. 0 or -ENOMEM. */
int bounds_ruleset(const struct table *t, const struct xt_replace_hdr *h, struct xt_err *err);
/* Whether @t, which is not there yet, may be. 0 or -ENOMEM. */
int bounds_table(const struct table *t, struct xt_err *err);

#endif
