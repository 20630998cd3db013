/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A change in the making: classify_edit.c (what changes, and what is copied),
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
	struct ir_group *g;	/* the one that changes, in out; NULL: none does */
	bool renumbered;	/* counters are as they will be */
	struct cl_conds conds;
	struct cl_image im;	/* out's, in memory */
	__u32 room;		/* for nodes of lists */
	struct cl_parsed parsed;
};

/* The rule of @counter has the key. */
bool edit_has_key(struct edit *x, __u32 counter, const struct at *a);

/* Room in the image for what edit_insert() and edit_delete() add; and what is left given back. */
int edit_room(struct edit *x);
void edit_trim(struct edit *x);

/* The rule of @value has the key no longer, or from now on. 0; -EAGAIN: that does not fit. */
int edit_delete(struct edit *x, const struct at *a, __u32 value);
int edit_insert(struct edit *x, const struct at *a, __u32 value);

#endif
