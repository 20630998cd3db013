// SPDX-License-Identifier: GPL-2.0
/*
 * A group's sieves: by the upper bits of an address, which of the families' tables can have
 * the packet at all.  Where rules of many kinds name sources, a packet's source is in few
 * of them: what is left out is the hashes and, more so, the branches that nobody can
 * predict.  They may say too much, never too little.
 */
#include <stdlib.h>
#include <string.h>

#include "classify_priv.h"

#define TABLES		3	/* to look at, from which on one is worth it */
#define LEAST_BITS	8
#define MOST_BITS	20
#define BITS		32	/* of an entry */
#define KEYS		4	/* entries a key, at least */
#define SAME		8	/* keys an entry that has any, at most: few addresses are not worth it */

struct sieving {
	struct ir_group *g;
	const struct cl_items *const *items;
	int field, bits;
	/*
	 * A tree: 1 is all addresses, of i the halves are 2 i and 2 i + 1; the leaves are the
	 * entries.  So a short prefix is no more work than a long one.
	 */
	__u32 *node;
	__u32 nleaves;
};

struct sized {
	struct cl_family *f;
	__u32 nkeys;
};

/* The field whose sieve the family has to do with, or none. */
static bool by_field(const struct cl_family *f, int field)
{
	if (f->hot)
		return false;
	if (f->vary == CL_SADDR || f->vary == CL_DADDR)
		return f->vary == field;
	return field == CL_SADDR ? f->has[CL_SADDR] : f->has[CL_DADDR] && !f->has[CL_SADDR];
}

/* Tables that would be looked at: by halves, of several lengths. */
static int worth(const struct sieving *s)
{
	int n = 0;

	for (__u32 i = 0; i < s->g->nfamilies; i++) {
		const struct cl_family *f = &s->g->families[i];

		if (by_field(f, s->field))
			n += f->vary == s->field ? cl_halves(f->ntables) : 1;
	}
	return n;
}

static __u32 prefix(const struct cl_family *f, const struct cl_item *it, int field)
{
	const struct cl_part *p = f->parts;

	while (p->field != field)
		p++;
	return it->word[p->word] >> p->shift;
}

/* Addresses: a rule's keys come one behind the other. */
static __u32 count_prefixes(const struct sieving *s)
{
	__u32 n = 0;

	for (__u32 i = 0; i < s->g->nfamilies; i++) {
		const struct cl_family *f = &s->g->families[i];

		for (__u32 k = 0; by_field(f, s->field) && k < s->items[i]->n; k++) {
			const struct cl_item *it = &s->items[i]->it[k];

			n += !k || prefix(f, it, s->field) != prefix(f, it - 1, s->field);
		}
	}
	return n;
}

static int prefix_len(const struct cl_family *f, const struct cl_item *it, int field)
{
	return f->vary == field ? it->len : f->len[field];
}

/* By keys; only of the field's. */
static int by_size(const void *a, const void *b)
{
	const struct sized *x = a, *y = b;

	return x->nkeys < y->nkeys ? 1 : -(x->nkeys > y->nkeys);
}

/*
 * The larger the family, the more it is worth to know its tables apart: each has a bit of
 * its own, as long as others have one, too; then all have one together.
 */
static void give_bits(const struct sieving *s)
{
	struct sized *of = calloc(s->g->nfamilies, sizeof(*of));
	int n = 0, next = 0;

	if (!of)
		abort();
	for (__u32 i = 0; i < s->g->nfamilies; i++)
		if (by_field(&s->g->families[i], s->field))
			of[n++] = (struct sized){ &s->g->families[i], s->items[i]->n };
	qsort(of, n, sizeof(*of), by_size);
	for (int i = 0; i < n; i++) {
		struct cl_family *f = of[i].f;
		bool apart = f->vary == s->field && next + f->ntables + n - i - 1 <= BITS;

		f->sieve_by = s->field;
		for (int k = 0; k < f->ntables; k++) {
			f->tables[k].sieve = 1u << next;
			f->sieve |= f->tables[k].sieve;
			next += apart && k < f->ntables - 1;
		}
		next += next < BITS - 1;
	}
	free(of);
}

static void fill(const struct sieving *s, const struct cl_family *f, const struct cl_items *it)
{
	__u32 of_len[129] = { 0 };

	for (int k = 0; k < f->ntables; k++)
		of_len[f->tables[k].len] = f->tables[k].sieve;
	for (__u32 i = 0; i < it->n; i++) {
		int depth = prefix_len(f, &it->it[i], s->field);
		__u64 address = prefix(f, &it->it[i], s->field);

		if (depth > s->bits)
			depth = s->bits;
		s->node[(1u << depth) + (address >> (32 - depth))] |= of_len[it->it[i].len];
	}
}

static void spread_down(const struct sieving *s)
{
	for (__u32 i = 1; i < s->nleaves; i++) {
		s->node[2 * i] |= s->node[i];
		s->node[2 * i + 1] |= s->node[i];
	}
}

/* What it says of a leaf about the family. */
static __u32 said(const struct sieving *s, const struct cl_family *f, __u32 leaf)
{
	return s->node[s->nleaves + leaf] & f->sieve;
}

/*
 * To try each length that the sieve names takes fewer looks than to find it by halves,
 * on the average of the entries that have any.
 */
static bool spreads(const struct sieving *s, const struct cl_family *f)
{
	__u64 looks = 0, entries = 0;

	if (f->vary != s->field || f->ntables < 2)
		return false;
	for (__u32 i = 0; i < s->nleaves; i++) {
		__u32 bits = said(s, f, i);

		looks += __builtin_popcount(bits);
		entries += !!bits;
	}
	return 2 * looks <= entries * (cl_halves(f->ntables) + 1);
}

/* Few enough of the families are left, and not all rules have the same few addresses. */
static bool tells(const struct sieving *s, __u32 nkeys)
{
	__u64 left = 0, all = 0;
	__u32 entries = 0;

	for (__u32 i = 0; i < s->nleaves; i++)
		entries += !!s->node[s->nleaves + i];
	for (__u32 k = 0; k < s->g->nfamilies; k++) {
		const struct cl_family *f = &s->g->families[k];

		if (!by_field(f, s->field))
			continue;
		for (__u32 i = 0; i < s->nleaves; i++)
			left += !!said(s, f, i);
		all += s->nleaves;
	}
	return left <= all / 4 * 3 && entries >= nkeys / SAME;
}

static void settle(const struct sieving *s, bool use)
{
	for (__u32 i = 0; i < s->g->nfamilies; i++) {
		struct cl_family *f = &s->g->families[i];

		if (!by_field(f, s->field))
			continue;
		f->spread = use && spreads(s, f);
		if (!use)
			f->sieve = 0;
		for (int k = 0; k < f->ntables && !f->spread; k++)
			f->tables[k].sieve = f->sieve;
	}
}

static void make(struct sieving *s, struct cl_sieve *to, struct cl_image *im)
{
	__u32 nkeys = count_prefixes(s);
	bool use;

	for (s->bits = LEAST_BITS; s->bits < MOST_BITS && (1u << s->bits) / KEYS < nkeys;)
		s->bits++;
	s->nleaves = 1u << s->bits;
	s->node = calloc(2 * (size_t)s->nleaves, sizeof(*s->node));
	if (!s->node)
		abort();
	give_bits(s);
	for (__u32 i = 0; i < s->g->nfamilies; i++)
		if (by_field(&s->g->families[i], s->field))
			fill(s, &s->g->families[i], s->items[i]);
	spread_down(s);
	use = tells(s, nkeys);
	settle(s, use);
	if (use) {
		to->bits = s->bits;
		to->at = cl_image_add(im, s->nleaves * sizeof(*s->node));
		memcpy(im->p + to->at, s->node + s->nleaves, s->nleaves * sizeof(*s->node));
	}
	free(s->node);
}

void cl_sieves(const struct ir_table *t, struct ir_group *g, const struct cl_items *const *items,
	       struct cl_image *im)
{
	struct sieving s = { .g = g, .items = items };

	for (s.field = CL_SADDR; s.field <= CL_DADDR; s.field++)
		if (cl_width(t, s.field) == 32 && worth(&s) >= TABLES)
			make(&s, &g->sieve[s.field], im);
}

void cl_sieve_add(const struct ir_group *g, const struct cl_image *im, const struct cl_family *f,
		  const struct cl_table *tab, const struct cl_item *it)
{
	int field = f->sieve_by, bits = g->sieve[field].bits, len;
	__u32 *at;

	if (!tab->sieve)
		return;
	len = prefix_len(f, it, field);
	at = (__u32 *)(im->p + g->sieve[field].at) + (prefix(f, it, field) >> (32 - bits));
	for (__u32 i = 0; i < (len < bits ? 1u << (bits - len) : 1); i++)
		at[i] |= tab->sieve;
}
