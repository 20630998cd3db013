/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A change in the making: classify_edit.c (what changes, and what is copied),
 * classify_apart.c (rules that are in no table),
 * classify_keys.c (keys in and out of a family's tables), classify_slot.h (one of these).
 */
#ifndef XTJIT_CLASSIFY_EDIT_H
#define XTJIT_CLASSIFY_EDIT_H

#include "classify_priv.h"

/* A key of a rule: in which family, and in which of its tables. */
struct at {
	__u32 family;
	int level;
	struct cl_item k;	/* .value is of no use */
};

struct keys {
	struct at *at;
	__u32 n, cap;
};

struct edit {
	const struct ir_table *old;
	const struct cl_edit *e;
	struct ir_table *out;
	struct ir_group *g;	/* the one around the change, in out; NULL: there is none */
	bool tables;		/* its tables can be changed */
	bool renumbered;	/* counters are as they will be */
	struct cl_conds conds;
	struct cl_image im;	/* out's, in memory */
	__u32 room;		/* for nodes of lists */
	struct cl_parsed parsed;
};

/* A group's own rule. */
static inline bool is_own(const struct ir_rule *r)
{
	return r->action == IR_A_LOOKUP || r->action == IR_A_DISPATCH;
}

/* Where the rules of @chain are. */
struct ir_chain *edit_chain(const struct ir_table *t, __u32 chain);
/* The rule of @counter, if it is in no table; or NULL. */
const struct ir_rule *edit_apart(const struct ir_chain *c, __u32 counter);
/* Puts a rule that comes where it belongs in its chain. 0; -EAGAIN: it cannot be so. */
int edit_come_apart(struct edit *x, const struct ir_rule *rule, __u32 counter);

/* The rule of @counter has the key. */
bool edit_has_key(struct edit *x, __u32 counter, const struct at *a);

/* Bytes that the image may grow by. */
size_t edit_more(const struct edit *x);
/* Room in the image for what edit_insert() and edit_delete() add; and what is left given back. */
int edit_room(struct edit *x);
void edit_trim(struct edit *x);

/* The rule of @value has the key no longer, or from now on. 0; -EAGAIN: that does not fit. */
int edit_delete(struct edit *x, const struct at *a, __u32 value);
int edit_insert(struct edit *x, const struct at *a, __u32 value);

#endif
