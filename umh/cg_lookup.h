/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Lookups and dispatches, what classify.h tells, as code: cg_lookup.c (the families
 * of a group, and their conditions), cg_family.c (one family's tables),
 * cg_dispatch.c (what is done by the best rule).
 *
 * In a lookup r1, r2 are words of the key, r3 the hash and then the value that
 * was found, r0 points to the slot, r4 is its counter's place, if it has one, r9 this CPU's
 * counters, if some slot has; r5 for what comes between.  The
 * best value is in its slot: what is in a register, the verifier would follow
 * through all that comes, for each way it may have come there.
 */
#ifndef XTJIT_CG_LOOKUP_H
#define XTJIT_CG_LOOKUP_H

#include "cg.h"
#include "classify.h"

struct lookup {
	struct cg *g;
	struct cg_table *t;
	const struct ir_group *gr;
	int map;
	short best, from;	/* slots */
	bool by_slot;		/* behind best, in place of from: the place of what is to be counted */
	bool counters;		/* dispatch, early: the lookup is next to it, r9 has the counters */
	bool recorded;		/* dispatch, early: all rules alike, before they part */
};

/* Of group @gr of @t; without a map g->e.err is set. */
void cg_lookup_init(struct lookup *l, struct cg *g, const struct cg_table *t,
		    const struct ir_group *gr);

/* What the early stage makes of conditions: any of these. */
enum told {
	TOLD = 0,
	TOLD_BY_CONNTRACK = 1,
	TOLD_IF_NEW = 2,	/* once there is a value: conntrack is dearer than a lookup */
	NOT_FORWARDED = 4,
	NOT_TOLD = 8,
};

enum told cg_told(const struct lookup *l, const struct cl_cond *c);

/* Asks the group's sieves about the packet; spoils r1, r2. */
void cg_sieves(struct lookup *l);
/* Goes to @not if none of the bits is set in what the family's said; spoils r1. */
void cg_if_sieved(struct lookup *l, const struct cl_family *f, __u32 bits, __u32 not);
/* Looks the packet up in the family, whose conditions hold: it may have the best value. */
void cg_family(struct lookup *l, const struct cl_family *f);

#endif
