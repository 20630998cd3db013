// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <string.h>

#include "backend.h"
#include "early.h"
#include "helper.h"
#include "owner.h"
#include "recover.h"
#include "trace.h"

struct gen_scan {
	struct table *t;
	struct gen *last;	/* the newest that is not in force */
	int err;
};

/* The one before the one in force is kept, others are half made or old. */
static void scan_gen(const char *dir, const char *name, void *arg)
{
	struct gen_scan *s = arg;
	char path[PIN_DIR_MAX];
	struct gen *g, *old;
	int in_force, ret;

	if (strncmp(name, "gen-", 4))
		return;
	ret = gen_open(&g, dir, name);
	if (ret == -EPROTONOSUPPORT) {
		s->err = ret;
		return;
	}
	if (ret) {
		state_path(path, dir, "%s", name);
		state_remove(path);
		return;
	}
	in_force = helper.backend->in_force(s->t, g);
	if (in_force < 0) {
		s->err = in_force;
		gen_close(g);
		return;
	}
	if (in_force && !s->t->cur) {
		s->t->cur = g;
		if (g->in_place)
			gen_change_again(g);
		return;
	}
	if (!s->last || g->number > s->last->number) {
		old = s->last;
		s->last = g;
		g = old;
	}
	gen_drop(g);
}

static int open_gens(struct table *t)
{
	struct gen_scan s = { .t = t };

	state_each(t->dir, scan_gen, &s);
	if (s.err)
		gen_close(s.last);
	else if (t->cur && s.last && s.last->number == t->cur->prev)
		t->prev = s.last;
	else
		gen_drop(s.last);
	return s.err;
}

int table_recover(struct table *t)
{
	struct xt_err err = {};
	int ret;

	ret = pmem_open(&t->mem, t->dir, "words", sizeof(*t->w));
	if (ret)
		return ret == -EINVAL ? -ENOENT : ret;
	t->w = t->mem.p;
	helper.backend->reopen(t);
	ret = open_gens(t);
	if (ret)
		return ret;
	/* a table that had no ruleset in force yet was never answered for */
	if (t->w->gate == GATE_XTJIT && !t->cur)
		return -ENOENT;
	if (t->cur && t->w->gate != GATE_KERNEL) {
		ret = gen_decode_again(t->cur, t->family, &err);
		if (ret)
			xt_log("%s: stays in force as it is, but cannot be read: %s", t->dir,
			       err.text);
	}
	if (t->cur && t->cur->number > t->w->last_gen)
		t->w->last_gen = t->cur->number;
	return 0;
}

/* False: there is nothing of it. */
static bool recover_table(struct table *t)
{
	struct xt_err err = {};
	int ret;

	if (!state_exists(t->dir, "."))
		return false;
	ret = table_recover(t);
	if (ret) {
		if (ret != -ENOENT)
			xt_log("%s: stays in force, but cannot be taken over: %s", t->dir,
			       ret == -EPROTONOSUPPORT ? "another version of xtjit made it" :
							 strerror(-ret));
		table_close(t, ret == -ENOENT);
		return false;
	}
	owner_recover(t);
	if (table_is_xtjit(t) && helper.backend->attach(t, &err))
		xt_log("%s: %s", t->dir, err.text);
	return true;
}

void recover_space(struct space *s)
{
	struct xt_err err = {};
	bool any = false;

	for (int f = 0; f < 2; f++) {
		for (int i = 0; i < XT_TABLES; i++)
			any |= recover_table(&s->tables[f][i]);
		s->conntrack[f] = any;		/* or not: the call below settles it */
		if (any && space_conntrack(s, space_families[f], NULL, &err))
			xt_log("%s: %s", s->dir, err.text);
		trace_follow(s, space_families[f]);
	}
	early_recover(s);
	if (any)
		helper.recovered++;
}
