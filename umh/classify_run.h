/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A run of rules in the making: classify_run.c (which of its rules become
 * members), classify_group.c (the group of these).
 */
#ifndef XTJIT_CLASSIFY_RUN_H
#define XTJIT_CLASSIFY_RUN_H

#include "classify_priv.h"

/* Rules with the same conditions and key fields. */
struct kind {
	__u16 nconds;
	__u16 conds[CL_CONDS];
	bool hot;
	bool has[CL_NFIELDS];
};

/* The lengths that the rules of a kind have, by field that has prefixes. */
struct lengths {
	bool seen[CL_DPORT + 1][129];
	int vary;
	__u32 sort;		/* the last that was seen */
};

/* What was parsed of a rule, or of what is before a guard of it. */
struct form {
	__u32 kind;
	__u32 prefixes;		/* into the run's: those of its fields, one after the other */
	__u32 sorts;		/* into the run's: of its keys */
	__u8 nalts[CL_NFIELDS];
	__u8 nkeys;
};

_Static_assert(CL_ALTS < 256 && CL_PRODUCT < 256, "struct form");

/* A family, before it is one. */
struct sort {
	__u32 kind;
	__u8 len[CL_NFIELDS];
};

struct run {
	const struct ir_table *t;
	struct ir_arena *arena;
	const struct cl_limits *limits;
	const bool *returns;	/* by chain */
	bool no_on;		/* what goes on stays out */
	__u32 family;		/* rules that a family must have */
	const struct ir_rule *rules;
	__u32 n;
	struct cl_conds conds;
	struct set kinds, sorts, acts;
	__u32 kind_hint[2];
	struct form *forms;
	__u32 nforms, forms_cap;
	struct cl_prefix *prefixes;
	__u32 nprefixes, prefixes_cap;
	__u32 *key_sort;	/* of each key of the forms */
	__u32 nkeys, keys_cap;
	struct lengths *lengths;	/* by kind */
	__u32 *nrules;		/* by sort */
	__u32 nnrules;
	bool *member;		/* by rule */
	__u32 *form;		/* by rule: its first; one more */
	struct cl_parsed parsed;
};

/* Before its rules are looked at; what they need is 0 or set. */
void cl_run_init(struct run *r);
/* Frees what was found out about them: they can be looked at once more. */
void cl_run_free(struct run *r);
/* Marks the members of the run; how many. */
__u32 cl_run_members(struct run *r);
/* A packet may go on behind the rule. */
bool cl_act_on(const struct run *r, const struct ir_rule *rule);
/* Prefix by prefix, combination @i of a form's. */
void cl_key_at(const struct run *r, const struct form *f, int i,
	       const struct cl_prefix *key[CL_NFIELDS]);

/*
 * A group of the rules of @r, if there are enough; marks its members.  Its tables
 * are added to @im.  *@ret is 0 before, and a negative errno if that fails.
 */
bool cl_group_of(struct run *r, struct ir_group *g, struct cl_image *im, int *ret);

#endif
