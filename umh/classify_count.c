// SPDX-License-Identifier: GPL-2.0
/* Which slots of lookups' tables have counters of their own (classify.h). */
#include <string.h>

#include "classify_priv.h"
#include "compile.h"

/* A family with at most so many slots a rule, or with few, has counters worth their memory. */
#define SLOTS_A_RULE	2
#define SLOTS_ANYWAY	64

static __u32 slots_of(const struct cl_family *f)
{
	__u32 n = 0;

	for (int i = 0; i < f->ntables; i++)
		n += f->tables[i].ph.nslots;
	return n;
}

/* An entry is one rule, not a list of them, and may well be the best one. */
static bool counts(const struct ir_group *g, const struct cl_family *f)
{
	return !g->resumes && !f->hot && !f->depth && f->nwords &&
	       slots_of(f) <= SLOTS_A_RULE * f->nrules + SLOTS_ANYWAY;
}

size_t cl_slots_most(void)
{
	return CL_SLOTS_MEMORY / possible_cpus();
}

/* @f's tables, all or none of them, from the place *@at on. */
static void place_family(const struct cl_family *f, __u32 *at)
{
	for (int i = 0; i < f->ntables; i++) {
		f->tables[i].counter = at ? *at : CL_NONE;
		if (at)
			*at += f->tables[i].ph.nslots * (counted_size(cl_counted_size(f)) / 8);
	}
}

void classify_uncount(struct ir_table *t)
{
	cl_count_slots(t, 0);
}

/* .counter: CL_NONE, or not. */
static void choose(struct ir_table *t, size_t most)
{
	size_t size = 0;

	t->counted = (struct counted_slots){ 0 };
	for (__u32 i = 0; i < t->ngroups; i++) {
		const struct ir_group *g = &t->groups[i];

		for (__u32 k = 0; k < g->nfamilies; k++) {
			const struct cl_family *f = &g->families[k];
			int which = cl_counted_size(f);
			size_t more = (size_t)slots_of(f) * counted_size(which);
			bool counted = counts(g, f) && more <= most - size;

			place_family(f, counted ? &(__u32){ 0 } : NULL);
			if (!counted)
				continue;
			size += more;
			t->counted.n[which] += slots_of(f);
		}
	}
}

void cl_count_slots(struct ir_table *t, size_t most)
{
	__u32 at[COUNTED_SIZES], next = counter_place(t->ncounters);

	choose(t, most);
	for (int i = 0; i < COUNTED_SIZES; i++) {
		at[i] = next;
		next += t->counted.n[i] * (counted_size(i) / 8);
	}
	for (__u32 i = 0; i < t->ngroups; i++)
		for (__u32 k = 0; k < t->groups[i].nfamilies; k++) {
			const struct cl_family *f = &t->groups[i].families[k];

			if (cl_counted(f))
				place_family(f, &at[cl_counted_size(f)]);
		}
}

static void fill(const struct ir_table *t, const struct cl_family *f, const struct cl_table *tab,
		 __u8 *to)
{
	const __u8 *p = t->image->p + tab->slots;
	__u32 size = counted_size(cl_counted_size(f));

	for (__u32 i = 0; i < tab->ph.nslots; i++, p += f->slot_size, to += size) {
		memcpy(to + CL_COUNTED_KEY, p, f->slot_size - 4);
		memcpy(to + size - 4, p + f->slot_size - 4, 4);
	}
}

void classify_fill_counted(const struct ir_table *t, void *value)
{
	for (__u32 i = 0; i < t->ngroups; i++)
		for (__u32 k = 0; k < t->groups[i].nfamilies; k++) {
			const struct cl_family *f = &t->groups[i].families[k];

			for (int n = 0; cl_counted(f) && n < f->ntables; n++)
				fill(t, f, &f->tables[n], value + f->tables[n].counter * 8ul);
		}
}
