// SPDX-License-Identifier: GPL-2.0
#include <errno.h>

#include "bounds.h"
#include "space.h"

struct used {
	__u32 tables;
	__u64 rules, bytes;
};

static void count_space(const struct space *s, const struct table *but, struct used *u)
{
	for (int f = 0; f < 2; f++)
		for (int i = 0; i < XT_TABLES; i++) {
			const struct table *t = &s->tables[f][i];

			if (t == but || !t->cur)
				continue;
			u->tables++;
			u->rules += t->cur->h.num_entries;
			u->bytes += t->cur->h.size;
		}
}

/* By all such namespaces, but by @but. */
static struct used used(const struct table *but)
{
	struct used u = { 0 };

	for (const struct space *s = space_first(); s; s = s->next)
		if (s->w->foreign)
			count_space(s, but, &u);
	return u;
}

int bounds_ruleset(const struct table *t, const struct xt_replace_hdr *h, struct xt_err *err)
{
	struct used u;

	if (!t->space->w->foreign)
		return 0;
	if (h->num_entries > BOUNDS_RULES || h->size > BOUNDS_BYTES)
		return xt_fail(err, -ENOMEM, "xtjit: a table of another user namespace has at most %u entries in %u bytes",
			       BOUNDS_RULES, BOUNDS_BYTES);
	u = used(t);
	if (u.rules + h->num_entries > BOUNDS_ALL_RULES || u.bytes + h->size > BOUNDS_ALL_BYTES)
		return xt_fail(err, -ENOMEM, "xtjit: the tables of other user namespaces have at most %u entries in %u bytes together",
			       BOUNDS_ALL_RULES, BOUNDS_ALL_BYTES);
	return 0;
}

int bounds_table(const struct table *t, struct xt_err *err)
{
	if (t->space->w->foreign && used(t).tables >= BOUNDS_ALL_TABLES)
		return xt_fail(err, -ENOMEM, "xtjit: other user namespaces have at most %u tables together",
			       BOUNDS_ALL_TABLES);
	return 0;
}
