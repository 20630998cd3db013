/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The parts of classification: classify.c (runs of rules, and the table in groups),
 * classify_merge.c (chains that become one), classify_rule.c (what a rule is),
 * classify_native.c (what native slots do), classify_run.c (which rules of a run
 * become members), classify_group.c (their group), classify_data.c (a family's
 * tables), classify_sieve.c (which of them are looked at), classify_edit.c,
 * classify_apart.c, classify_keys.c and classify_slot.c (changes), classify_count.c
 * (counters of slots), classify_text.c (groups, for people).
 */
#ifndef XTJIT_CLASSIFY_PRIV_H
#define XTJIT_CLASSIFY_PRIV_H

#include "classify.h"
#include "set.h"

typedef unsigned __int128 cl_num;

#define CL_ALTS		64	/* prefixes that one field of a rule is cut into */
#define CL_PRODUCT	128	/* keys of one rule */
#define CL_HINTS	16
#define CL_SHARED	8	/* rules that share a range or list: it is a condition */

/* A prefix: the upper @len bits of @v, which is as wide as the field. */
struct cl_prefix {
	cl_num v;
	int len;
};

/* A rule, or what is before a guard of it. */
struct cl_parsed {
	__u16 nconds, conds[CL_CONDS];
	bool has[CL_NFIELDS];
	int nalts[CL_NFIELDS];
	struct cl_prefix alts[CL_NFIELDS][CL_ALTS];
	int nkeys;		/* product of the alternatives */
};

/* Conditions of a run, each once; and ranges and lists, which could be keys. */
struct cl_conds {
	struct set set;		/* of struct cl_cond */
	struct set loose;	/* of struct ir_pred */
	__u32 *uses;		/* of each of these */
	__u32 cap;
	__u32 hint[CL_HINTS];	/* by predicate of a rule: what it was in the last one */
};

void cl_conds_free(struct cl_conds *cs);

/*
 * classify_native.c: what a chain's rules test, and what native slots change of
 * it, as bits.  @chains: cl_chain_changes(), by chain, malloc()ed.
 */
__u8 cl_tests(const struct ir_chain *c);
__u8 *cl_chain_changes(const struct ir_table *t);
__u8 cl_changes(const struct ir_table *t, const __u8 *chains, const struct ir_rule *r);

/* It only tests, and does something that a group knows. */
bool cl_pure(const struct ir_rule *r);
/* First pass: counts ranges and lists. */
void cl_count(const struct ir_table *t, const struct ir_rule *r, struct cl_conds *cs);
/* The first @n predicates of @r. False: too many conditions or keys. */
bool cl_parse(const struct ir_table *t, const struct ir_rule *r, int n, struct cl_conds *cs,
	      struct cl_parsed *out);
/* Adds the condition that the guard @p of a rule is bad. */
bool cl_parse_bad(struct cl_conds *cs, struct cl_parsed *out, const struct ir_pred *p);
bool cl_is_guard(const struct ir_pred *p);
/* What it draws lots by; NULL: it does not. */
const struct ir_pred *cl_draw(const struct ir_rule *r);

/*
 * classify_merge.c: @out = @in, with merged chains, if that is worth it; in
 * @out's arena.  False if there are none.
 */
bool cl_merge(const struct ir_table *in, const struct cl_limits *limits, const bool *returns,
	      const __u8 *changes, struct ir_table *out);
/* Of a table in groups: nearly all rules of its merged chains are members. */
bool cl_merged_well(const struct ir_table *t);
/* Rule @r of @chain of the table, as what has its rules would have it. */
struct ir_rule cl_of_chain(struct ir_arena *a, const struct ir_table *t, const struct ir_rule *r,
			   __u32 chain);

/* The image of the map's value. */
struct cl_image {
	__u8 *p;
	size_t size, cap;
	size_t planned;		/* size when it was made as a whole */
	__u32 apart;		/* rules that came since, and are in no group's tables */
	int fd;			/* -1: not yet; else p is the map's memory, of cap bytes */
};
/* Which slots of @t's tables have counters of their own: at most @most bytes of them. */
void cl_count_slots(struct ir_table *t, size_t most);
/* A CPU's part of CL_SLOTS_MEMORY. */
size_t cl_slots_most(void);
#define CL_SLOTS_MEMORY (128u << 20)	/* bytes, of one table */
/* Room for @size bytes, zeroed; its offset. */
__u64 cl_image_add(struct cl_image *im, size_t size);
/* Makes the map, of im->cap bytes, and its memory im->p. 0 or a negative errno. */
int cl_image_map(struct cl_image *im);

/* Keys of a family, as they come. */
struct cl_items {
	struct cl_item {
		__u64 word[PHASH_WORDS];	/* as many as the family has */
		__u32 value;
		__u8 len;			/* of the varying field */
	} *it;
	__u32 n, cap;
};

/* Of a key of the family: as many words as it has. */
__u32 cl_ref_hash(const struct cl_family *f, const __u64 *word, int len);
/* How many keys a table of @n is laid out for, so that others can come. */
__u32 cl_room(__u32 n);

/* Lists of values, in order; tails are shared. */
struct cl_lists {
	__u32 (*node)[2];	/* value, next */
	__u32 n, cap;
	__u32 most;		/* in one of them, if that is more than CL_DEPTH */
	bool (*goes_on)(void *arg, __u32 value);	/* NULL: none does, lists are not needed */
	void *arg;
};

/* Which bits are where in the key; f->len, f->vary and f->has are there. False: too long. */
bool cl_family_layout(const struct ir_table *t, struct cl_family *f);
void cl_items_add(const struct ir_table *t, const struct cl_family *f, struct cl_items *it,
		  const struct cl_prefix *const key[CL_NFIELDS], __u32 value);
/* The tables that there will be, by length, empty. */
void cl_family_lengths(struct ir_arena *a, struct cl_family *f, const struct cl_items *it);
/*
 * The group's sieves, if they are worth it, before its families' tables are built of @items,
 * by family, NULL where there are none.
 */
void cl_sieves(const struct ir_table *t, struct ir_group *g, const struct cl_items *const *items,
	       struct cl_image *im);
/* The key comes to the table. */
void cl_sieve_add(const struct ir_group *g, const struct cl_image *im, const struct cl_family *f,
		  const struct cl_table *tab, const struct cl_item *it);
/* Builds the tables of what was added, in order of the values. 0, -E2BIG (lists too long), -ENOMEM. */
int cl_family_build(const struct ir_table *t, struct cl_family *f, const struct cl_items *it,
		    struct cl_lists *l, struct cl_image *im);

#endif
