// SPDX-License-Identifier: GPL-2.0
/*
 * Which counters a generation's rules have (struct cl_numbers): as long as it was not changed,
 * those of their entries.  The first change makes gaps, where others may follow it.
 */
#include <stdlib.h>
#include <string.h>

#include "classify.h"
#include "gen.h"

#define GAP	64	/* counters of one, which have no rules */
#define GROUPS	64	/* with more, not each has gaps */
#define GAPS	32	/* that stay when counters are given anew */

/* What a group's rules have by number is in arrays: no gaps. */
static bool numbers_matter(const struct ir_table *t)
{
	for (__u32 i = 0; i < t->ngroups; i++)
		if (t->groups[i].native || t->groups[i].enters ||
		    t->groups[i].nacts > CL_INDIRECT)
			return true;
	return false;
}

/* Counters that no rule has belong to the next one. */
static __u32 *entries_of(const __u32 *counter, __u32 n, __u32 ncounters)
{
	__u32 *entry = malloc((ncounters + 1) * sizeof(*entry)), at = 0;

	for (__u32 i = 0; entry && i < n; i++)
		while (at <= counter[i])
			entry[at++] = i;
	while (entry && at < ncounters)
		entry[at++] = n - 1;
	return entry;
}

static bool last_of_chain(const struct xt_ruleset *rs, __u32 entry, bool *first)
{
	for (__u32 i = 0; i < rs->nchains; i++) {
		const struct xt_chain *c = &rs->chains[i];

		if (entry >= c->first && entry < c->first + c->count) {
			*first = entry == c->first;
			return entry == c->first + c->count - 1;
		}
	}
	*first = false;
	return false;
}

/* Where the counters of new rules begin, between those around them; false: there are too few. */
static bool find_gap(const struct gen *old, const struct xt_diff *d, __u32 *from)
{
	__u32 lo = d->at ? gen_counter_of(old, d->at - 1) + 1 : 0;
	__u32 hi = gen_counter_of(old, d->at + d->ndel);
	bool first, last;

	if (d->ndel) {		/* none of those that go: the maps may still have their counts */
		lo = gen_counter_of(old, d->at + d->ndel - 1) + 1;
		*from = lo;
		return hi - lo >= d->nadd;
	}
	if (hi - lo < d->nadd)
		return false;
	last = last_of_chain(&old->rs, d->at + d->ndel, &first);
	/* what comes next is likely to be behind them, or before them */
	*from = last ? lo : first ? hi - d->nadd : lo + (hi - lo - d->nadd) / 2;
	return true;
}

/* Entry @at of the old ruleset, or what is there now. */
static void gap_at(const struct xt_diff *d, __u32 at, __u8 *gap)
{
	if (at >= d->at + d->ndel)
		at += d->nadd - d->ndel;
	else if (at > d->at)
		at = d->at;
	gap[at] = 1;
}

/* Before a group's first rule and behind its last. */
static void gaps_around(const struct gen *old, const struct xt_diff *d, const struct ir_group *g,
			const __u32 *entry, __u8 *gap)
{
	__u32 first = entry ? entry[g->first] : g->first, last = entry ? entry[g->last] : g->last;

	gap_at(d, first, gap);
	gap_at(d, gen_counter_of(old, last) == g->last ? last + 1 : last, gap);
}

/* Those that are there. */
static void gaps_again(const struct gen *old, const struct xt_diff *d, __u8 *gap)
{
	__u32 n = 0;

	for (__u32 i = 0; old->counters && i < old->ncounters && n < GAPS; i++)
		if (gen_counter_of(old, i) > (i ? gen_counter_of(old, i - 1) + 1 : 0)) {
			gap_at(d, i, gap);
			n++;
		}
}

/* All counters anew. */
static bool number_all(const struct gen *old, const struct xt_diff *d, const __u32 *entry, __u32 n,
		       __u32 *counter, __u32 *ncounters)
{
	const struct ir_table *t = &old->grouped;
	__u8 *gap = calloc(n + 2, 1);
	__u32 next = 0;

	if (!gap)
		return false;
	gap[d->at] = gap[d->at + d->nadd] = 1;
	for (__u32 i = 0; i < t->ngroups && i < GROUPS; i++)
		gaps_around(old, d, &t->groups[i], entry, gap);
	gaps_again(old, d, gap);
	for (__u32 i = 0; i < n; i++) {
		if (gap[i])
			next += GAP;
		counter[i] = next++;
	}
	free(gap);
	*ncounters = next;
	return true;
}

bool gen_numbers(struct gen *g, const struct gen *old, const struct xt_diff *d, struct cl_edit *e)
{
	__u32 n = g->ncounters, from = 0, at = d->at;
	bool none = !d->ndel && !d->nadd, gap = none || (old->counters && find_gap(old, d, &from));
	__u32 *was = NULL, *is, *counter;

	e->keep = none;
	if (numbers_matter(&old->grouped) || (none && !old->counters)) {
		g->nnumbers = n;
		return true;
	}
	counter = g->counters = malloc((n + 1) * sizeof(*counter));
	if (old->counters)
		was = entries_of(old->counters, old->ncounters, old->nnumbers);
	e->was = (struct cl_numbers){ .counter = old->counters, .entry = was, .n = old->nnumbers };
	if (!counter || (old->counters && !was))
		return false;
	e->keep = gap;
	g->nnumbers = old->nnumbers;
	for (__u32 i = 0; gap && i < n; i++)
		counter[i] = i < at ? gen_counter_of(old, i) : i - at < d->nadd ? from + i - at :
			     gen_counter_of(old, i - d->nadd + d->ndel);
	if (!gap && !number_all(old, d, was, n, counter, &g->nnumbers))
		return false;
	is = gap ? NULL : entries_of(counter, n, g->nnumbers);
	e->is = (struct cl_numbers){ .counter = counter, .entry = is, .n = g->nnumbers };
	return gap || is;
}
