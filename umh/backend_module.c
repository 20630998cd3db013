// SPDX-License-Identifier: GPL-2.0
/*
 * The module at the hooks: a table is one ioctl, with the program and the native
 * slots that it yields to.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/netfilter/x_tables.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend.h"
#include "bounds.h"
#include "early.h"
#include "ext.h"
#include "module.h"
#include "space.h"

static int nothing(struct table *t, struct xt_err *err)
{
	(void)t;
	(void)err;
	return 0;
}

/*
 * Native slots
 */

/* malloc()ed; NULL when out of memory. */
static struct xtjit_slot *all_slots(const struct gen *g, __u32 *n)
{
	struct xtjit_slot *slots = calloc((size_t)g->ir.nslots + 1, sizeof(*slots));

	*n = g->ir.nslots;
	if (!slots)
		return NULL;
	if (*n)
		memcpy(slots, g->ir.slots, *n * sizeof(*slots));
	if (g->tracks.ext)
		slots[(*n)++] = g->tracks;
	return slots;
}

static const struct xt_rule *rule_at(const struct xt_ruleset *rs, __u32 offset)
{
	__u32 lo = 0, hi = rs->nrules - 1;

	while (lo < hi) {
		__u32 mid = (lo + hi) / 2;

		if (rs->rules[mid].offset < offset)
			lo = mid + 1;
		else
			hi = mid;
	}
	return &rs->rules[lo];
}

static const char *part_name(const struct xt_ruleset *rs, const struct xtjit_slot *s)
{
	const struct xt_entry_match *m = rs->blob + s->entry + s->ext;

	return m->u.user.name;		/* a target's is at the same place */
}

static void refused(const struct gen *g, const struct xtjit_slot *s, int ret, struct xt_err *err)
{
	struct gen *now = g->edited ? gen_reread(g, err) : NULL;
	const struct xt_ruleset *rs = now ? &now->rs : &g->rs;
	const struct xt_rule *r;

	if (g->edited && !now)
		return;
	r = rule_at(rs, s->entry);
	xt_fail(err, ret, "xtjit: %s %s rule %u: %s \"%.29s\" is refused by the kernel: %s",
		rs->table->name, rs->chains[r->chain].name, xt_rule_number(rs, r - rs->rules),
		s->kind == XTJIT_SLOT_MATCH ? "match" : "target", part_name(rs, s),
		strerror(-ret));
	gen_close(now);
}

/*
 * Lines of traced packets
 */

/* By counter, malloc()ed. */
static struct xtjit_trace *all_traces(const struct gen *g)
{
	struct xtjit_trace *traces = calloc(g->nnumbers, sizeof(*traces));
	struct gen *now = g->edited ? gen_reread(g, NULL) : NULL;
	const struct xt_ruleset *rs = now ? &now->rs : &g->rs;

	for (__u32 i = 0; traces && rs->rules && i < rs->nrules; i++) {
		struct xtjit_trace *to = &traces[gen_counter_of(g, i)];
		const struct xt_chain *c = rs->rules[i].chain < rs->nchains ?
					   &rs->chains[rs->rules[i].chain] : NULL;

		to->number = xt_rule_number(rs, i);
		to->end = xt_rule_is_end(rs, i);
		if (c && c->hook < 0)
			strncpy(to->chain, c->name, sizeof(to->chain) - 1);
	}
	if (!rs->rules) {
		free(traces);
		traces = NULL;
	}
	gen_close(now);
	return traces;
}

/* module_commit(), with them if so. */
static int commit_traces(struct xtjit_commit *c, const struct gen *g, bool trace, bool as_owner)
{
	struct xtjit_trace *traces = NULL;
	int ret;

	if (trace) {
		traces = all_traces(g);
		if (!traces)
			return -ENOMEM;
		c->traces = (unsigned long)traces;
		c->ntraces = g->nnumbers;
	}
	ret = module_commit(c, as_owner);
	free(traces);
	return ret;
}

/*
 * Into force
 */

static __u32 flags_of(const struct table *t, const struct gen *g)
{
	return (gen_is_empty(g) ? XTJIT_COMMIT_EMPTY : 0) |
	       (early_runs(t->space, t->family) ? XTJIT_COMMIT_GRACE : 0);
}

static int commit(struct table *t, struct gen *g, void *entries, struct xt_err *err)
{
	struct xtjit_commit c = {
		.id = g->commit_id, .gen = g->number, .family = t->family->nfproto,
		.prog = g->prog, .flags = flags_of(t, g),
		.entries = (unsigned long)entries, .entries_len = g->rs.size, .bad = ~0u,
	};
	struct xtjit_slot *slots = all_slots(g, &c.nslots);
	bool as_owner;
	int ret;

	if (!slots)
		return xt_fail(err, -ENOMEM, "out of memory");
	strncpy(c.table, t->row->name, sizeof(c.table) - 1);
	c.slots = (unsigned long)slots;
	/* owner's users are the business of theirs, xt_owner looks at who asks */
	as_owner = t->space->w->foreign && ext_names_users(&g->rs);
	ret = c.nslots > XTJIT_MAX_SLOTS ? -E2BIG : commit_traces(&c, g, g->traced, as_owner);
	if (ret && c.bad < c.nslots)
		refused(g, &slots[c.bad], ret, err);
	else if (ret && ret != -ECANCELED)
		xt_fail(err, ret, "xtjit: %s: the module does not take it: %s", t->row->name,
			strerror(-ret));
	free(slots);
	return ret;
}

static int module_put(struct table *t, struct gen *g, struct xt_err *err)
{
	struct pmem blob;
	void *entries = gen_entries(g, &blob);
	int ret;

	if (!entries)
		return xt_fail(err, -EIO, "%s: the pinned entries cannot be opened", g->dir);
	ret = commit(t, g, entries, err);
	if (!ret)
		gen_shown(g, entries);
	pmem_close(&blob);
	return ret;
}

/* To the module it is one like any other. */
static int module_change(struct table *t, struct gen *g, struct xt_err *err)
{
	int ret;

	g->prog = bpf_prog_get_fd_by_id(g->prog_id);
	if (g->prog < 0)
		return xt_fail(err, g->prog, "program %u: %s", g->prog_id, strerror(-g->prog));
	ret = module_put(t, g, err);
	close(g->prog);
	g->prog = -1;
	return ret;
}

static int module_swap(struct table *t, const struct gen *g, int prog, bool trace,
		       struct xt_err *err)
{
	struct xtjit_commit c = {
		.gen = g->number, .family = t->family->nfproto, .prog = prog,
		.flags = XTJIT_COMMIT_KEEP | (gen_is_empty(g) ? XTJIT_COMMIT_EMPTY : 0),
	};
	int ret;

	strncpy(c.table, t->row->name, sizeof(c.table) - 1);
	ret = commit_traces(&c, g, trace, false);
	return ret ? xt_fail(err, ret, "the module does not take it: %s", strerror(-ret)) : 0;
}

/* What is in force stays so as long as nobody can say what it is. */
static int module_meet(struct table *t, struct call *c)
{
	struct xtjit_table_id id;
	int ret = module_query(t->family, t->row->name, &id);

	if (ret)
		return xt_fail(&c->err, ret, "xtjit: %s: the module cannot be asked: %s",
			       t->row->name, strerror(-ret));
	if (id.gen)
		return xt_fail(&c->err, -EIO, "xtjit: %s: its ruleset is in force, but what was pinned of it below %s is gone; `xtjit unload` drops all tables",
			       t->row->name, t->dir);
	ret = bounds_table(t, &c->err);
	return ret ?: table_begin(t, &c->err);
}

static void module_reopen(struct table *t)
{
	(void)t;
}

static int module_in_force(const struct table *t, struct gen *g)
{
	struct xtjit_table_id id;
	int ret = module_query(t->family, t->row->name, &id);

	if (ret || id.gen != g->number)
		return ret;
	g->traced = id.ntraces;
	return 1;
}

/* That is for the slots to do. */
static int module_conntrack(const struct xt_family *f, bool on, struct xt_err *err)
{
	(void)f;
	(void)on;
	(void)err;
	return 0;
}

static bool module_hooked(const struct table *t, int hook, int *prio)
{
	*prio = t->row->prio[hook];
	return t->row->valid_hooks & (1 << hook);
}

const struct backend backend_module = {
	.name = "the module",
	.native = true,
	.compile = compile_hook,
	.meet = module_meet,
	.prepare = nothing,
	.attach = nothing,
	.put = module_put,
	.change = module_change,
	.swap = module_swap,
	.put_waits = true,
	.reopen = module_reopen,
	.in_force = module_in_force,
	.conntrack = module_conntrack,
	.hooked = module_hooked,
};
