/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A table of a network namespace: who has it, and, if that is xtjit, its
 * programs at the hooks and its generations.
 *
 * Everything here is called within the table's network namespace
 * (netns_enter()).
 */
#ifndef XTJIT_TABLE_H
#define XTJIT_TABLE_H

#include "gate.h"
#include "gen.h"
#include "request.h"
#include "state.h"

struct space;

/* Why the kernel has a table. */
enum why {
	WHY_NONE,
	WHY_NAT,		/* translation needs its module; for ever */
	WHY_RULES,		/* it had rules when we met; until adopt */
	WHY_RELEASED,		/* until adopt */
	WHY_UNCOMPILED,		/* until a ruleset that compiles */
};

/*
 * What is pinned of it besides generations.  The programs read .gate, which is
 * also who owns the table: GATE_XTJIT or GATE_KERNEL, but for the moving.
 */
struct table_words {
	__u32 gate;		/* enum gate_state */
	__u32 why;		/* enum why */
	__u64 met;		/* when it was first used: the order of the names */
	__u64 last_gen;		/* number of the last generation */
	__u64 move_id;		/* the request that moved it to the kernel; 0: none */
	__u64 adding_id;	/* of a request whose counters go to the kernel */
	__u64 added_id;		/* ... and went */
	char text[1016];	/* the reason in words */
	__u64 changed;		/* number of the last generation that came in place (gen_change()); or 0 */
};

struct table {
	const struct xt_family *family;
	const struct xt_table_row *row;
	struct space *space;
	char dir[PIN_DIR_MAX];
	struct pmem mem;	/* closed while we have not met the table */
	struct table_words *w;	/* in mem; NULL while we have not met it */
	int slot, seen;		/* -1 until xtjit has had it */
	int link[XT_HOOKS], prio[XT_HOOKS];
	struct gen *cur, *prev;
	__u64 update_ns;	/* what the last replacement took us; 0: none by this helper */
};

void table_init(struct table *t, struct space *s, const struct xt_family *f,
		const struct xt_table_row *row);

/* First use: decides who has it. 0 or a negative errno. */
int table_meet(struct table *t, struct call *c);
/* Makes it xtjit's, as empty as the kernel makes a table on first use. */
int table_begin(struct table *t, struct xt_err *err);

/* The pinned words, made if there are none; for a table that the kernel has. */
int table_make_words(struct table *t, enum gate_state gate, enum why why, const char *text,
		     struct xt_err *err);
/* Slot, notes: what programs at the hooks need. */
int table_make_core(struct table *t, struct xt_err *err);

static inline bool table_is_xtjit(const struct table *t)
{
	return t->w && (t->w->gate == GATE_XTJIT || t->w->gate == GATE_TO_XTJIT);
}

static inline bool table_is_kernel(const struct table *t)
{
	return t->w && !table_is_xtjit(t);
}

/* The entry program at every hook of the table that lacks it; and away again. */
int table_link(struct table *t, struct xt_err *err);
void table_unlink(struct table *t);
int table_links(const struct table *t);

/* The socket options, for a table that xtjit has. */
int table_get_info(struct table *t, struct call *c);
int table_get_entries(struct table *t, struct call *c);
/* OP_ENTRIES; -EOPNOTSUPP: GET_ENTRIES has them. */
int table_entries(struct table *t, struct call *c);
int table_add_counters(struct table *t, struct call *c);

/* SO_SET_REPLACE, whoever has it. */
int table_replace(struct table *t, struct call *c);
/* Its reply: the counters of the ruleset that was replaced. 0 or -ENOMEM. */
int table_reply_counters(struct call *c, const struct gen *g);
/* The same, of what t->cur replaced: that came in place, or there is t->prev. */
int table_reply_replaced(struct table *t, struct call *c);

/* gen_compile(), for this table. */
enum gen_result table_compile(struct table *t, struct gen *g, struct xt_err *err);
/* Brings @g (compiled) into force in place of t->cur, which becomes t->prev. */
int table_install(struct table *t, struct gen *g, struct xt_err *err);
/* The same, of one that gen_edit() made .in_place; the old one is gone then. */
int table_change(struct table *t, struct gen *g, struct xt_err *err);
/* Pins @g as the table's next generation. */
int table_stage(struct table *t, struct gen *g, struct xt_err *err);
/* Brings what is staged into force: it is t->cur then, and what was that t->prev. */
int table_flip(struct table *t, struct gen *g, struct xt_err *err);
/* After each reply: clears up behind table_flip(). */
void table_later(void);
/* Forgets t->prev, closed and unpinned. */
void table_drop_prev(struct table *t);

/* Opens what is pinned at t->dir; -ENOENT if there is nothing of use. */
int table_recover(struct table *t);
/* Closes all; @drop: and unpins it, which ends it. */
void table_close(struct table *t, bool drop);

#endif
