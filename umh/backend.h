/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How a table's program gets to the hooks: by BPF links of our own, next to the
 * kernel's ip_tables where there is one (backend_link), or by the module, which
 * has ip_tables' place and runs native extensions (backend_module).
 *
 * Everything here is called within the table's network namespace
 * (netns_enter()).
 */
#ifndef XTJIT_BACKEND_H
#define XTJIT_BACKEND_H

#include "table.h"

struct backend {
	const char *name;	/* for a person */
	/* What has no compiled form becomes a native slot, see struct compile_env. */
	bool native;
	/* As compile_exact(). */
	int (*compile)(const struct ir_table *t, const struct table_maps *m,
		       const struct compile_env *env, struct xt_err *err);
	/* First use: decides who has the table. 0 or a negative errno. */
	int (*meet)(struct table *t, struct call *c);
	/* What must be there before the first put(), and what comes after it. */
	int (*prepare)(struct table *t, struct xt_err *err);
	int (*attach)(struct table *t, struct xt_err *err);
	/*
	 * Puts the pinned generation @g into force, in one step; or a negative
	 * errno, and nothing has changed.
	 */
	int (*put)(struct table *t, struct gen *g, struct xt_err *err);
	/*
	 * The same, of one that comes in place of t->cur (gen_change()): the program stays.
	 */
	int (*change)(struct table *t, struct gen *g, struct xt_err *err);
	/*
	 * @prog, which is .trace or not, takes the place of the program of @g, which is
	 * in force; as put().  NULL: there is no trace.
	 */
	int (*swap)(struct table *t, const struct gen *g, int prog, bool trace,
		    struct xt_err *err);
	/* When put() returns, no packet is in what was in force before, nor in early programs. */
	bool put_waits;
	/* Recovery: opens what it has of a table, whose words are there. */
	void (*reopen)(struct table *t);
	/* 1: @g is in force, and .traced is set; 0: it is not; or a negative errno: no telling. */
	int (*in_force)(const struct table *t, struct gen *g);
	/* Connection tracking in this namespace on, or off again. */
	int (*conntrack)(const struct xt_family *f, bool on, struct xt_err *err);
	/* Whether packets come to the table at @hook, and with what priority. */
	bool (*hooked)(const struct table *t, int hook, int *prio);
};

extern const struct backend backend_link, backend_module;

#endif
