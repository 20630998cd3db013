// SPDX-License-Identifier: GPL-2.0
/* Which slots of lookups' tables have counters of their own, and whose these are (classify.h). */
#include <linux/netfilter/x_tables.h>
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

__u32 cl_slots_most(void)
{
	return CL_SLOTS_MEMORY / (sizeof(struct xt_counters) * possible_cpus());
}

/* @f's tables, all or none of them. */
static void count_family(struct ir_table *t, const struct cl_family *f, bool counted)
{
	for (int i = 0; i < f->ntables; i++) {
		f->tables[i].counter = counted ? t->nslotcounters : CL_NONE;
		if (counted)
			t->nslotcounters += f->tables[i].ph.nslots;
	}
}

void cl_count_slots(struct ir_table *t, __u32 most)
{
	t->nslotcounters = 0;
	for (__u32 i = 0; i < t->ngroups; i++) {
		const struct ir_group *g = &t->groups[i];

		for (__u32 k = 0; k < g->nfamilies; k++) {
			const struct cl_family *f = &g->families[k];

			count_family(t, f, counts(g, f) && slots_of(f) <= most - t->nslotcounters);
		}
	}
}

static void owners_of(const struct ir_table *t, const struct cl_family *f,
		      const struct cl_table *tab, __u32 *owner)
{
	const __u8 *p = t->image->p + tab->slots + f->slot_size - 4;

	for (__u32 i = 0; i < tab->ph.nslots; i++, p += f->slot_size) {
		__u32 value;

		memcpy(&value, p, sizeof(value));
		owner[i] = value == CL_NONE ? 0 : value >> 8;	/* a marker is never the best one */
	}
}

void classify_owners(const struct ir_table *t, __u32 *owner)
{
	for (__u32 i = 0; i < t->ngroups; i++)
		for (__u32 k = 0; k < t->groups[i].nfamilies; k++) {
			const struct cl_family *f = &t->groups[i].families[k];

			for (int n = 0; n < f->ntables; n++)
				if (f->tables[n].counter != CL_NONE)
					owners_of(t, f, &f->tables[n],
						  owner + f->tables[n].counter);
		}
}
