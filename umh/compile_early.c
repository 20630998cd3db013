// SPDX-License-Identifier: GPL-2.0
/*
 * The front door of the early stage.
 */
#include <errno.h>
#include <linux/netfilter.h>
#include <stdlib.h>

#include "cg.h"
#include "classify.h"

static bool drops(const struct ir_table *t, int chain, bool *seen);

static bool group_drops(const struct ir_table *t, const struct ir_group *g, bool *seen)
{
	for (__u32 i = 0; i < g->nacts; i++) {
		const struct cl_act *a = &g->acts[i];

		if (a->action == IR_A_DROP ||
		    ((a->action == IR_A_JUMP || a->action == IR_A_GOTO) && drops(t, a->arg, seen)))
			return true;
	}
	return false;
}

static bool drops(const struct ir_table *t, int chain, bool *seen)
{
	const struct ir_chain *c = &t->chains[chain];

	if (seen[chain])
		return false;
	seen[chain] = true;
	for (__u32 i = 0; i < c->nrules; i++) {
		const struct ir_rule *r = &c->rules[i];

		if (r->action == IR_A_DROP ||
		    (r->action == IR_A_DISPATCH && group_drops(t, &t->groups[r->arg], seen)))
			return true;
		if ((r->action == IR_A_JUMP || r->action == IR_A_GOTO) && drops(t, r->arg, seen))
			return true;
	}
	return false;
}

static const int early_hooks[] = { NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN, NF_INET_FORWARD };

/* Hooks (bits) at which some table may drop a packet that comes in. */
static int drop_hooks(const struct early_table *tables, int n, const struct early_facts *facts)
{
	int hooks = 0;

	for (int t = 0; t < n; t++)
		for (int h = 0; h < (facts->nat ? 1 : 3); h++) {
			const struct ir_table *ir = tables[t].ir;
			int chain = ir->base_chain[early_hooks[h]];
			bool *seen = calloc(ir->nchains + 1, sizeof(*seen));

			if (seen && chain >= 0 && drops(ir, chain, seen))
				hooks |= 1 << early_hooks[h];
			free(seen);
		}
	return hooks;
}

/* A copy of @t whose chains are only those at @hooks; a shallow one. */
static void restrict_hooks(struct ir_table *t, int hooks)
{
	int last = hooks & ~(1 << NF_INET_PRE_ROUTING);

	for (int h = 0; h < XT_HOOKS; h++) {
		bool way = h == NF_INET_PRE_ROUTING ? hooks != 0 : last >> h & 1;

		if (!way)
			t->base_chain[h] = -1;
	}
}

static int early(enum early_flavor flavor, const struct xt_family *f,
		 const struct early_table *tables, int ntables, int hooks, bool plain,
		 const struct early_facts *facts, const struct compile_env *env,
		 struct xt_err *err)
{
	struct ir_table copies[CG_MAX_TABLES];
	struct cg *g = calloc(1, sizeof(*g));
	int fd;

	if (!g)
		return xt_fail(err, -ENOMEM, "out of memory");
	emit_init(&g->e);
	g->fl = flavor == EARLY_XDP ? &flavor_xdp : &flavor_tc;
	g->fam = f;
	g->env = env;
	g->facts = facts;
	g->err = err;
	g->ntabs = ntables;
	for (int i = 0; i < ntables; i++) {
		copies[i] = plain && tables[i].ir->plain ? *tables[i].ir->plain : *tables[i].ir;
		restrict_hooks(&copies[i], hooks);
		g->tabs[i].ir = &copies[i];
		g->tabs[i].maps = tables[i].maps;
	}
	fd = cg_compile(g);
	free(g);
	return fd;
}

int compile_early(enum early_flavor flavor, const struct xt_family *f,
		  const struct early_table *tables, int ntables,
		  const struct early_facts *facts, const struct compile_env *env,
		  struct xt_err *err)
{
	int hooks = drop_hooks(tables, ntables, facts), fd;
	bool groups = false;

	if (!hooks || ntables > CG_MAX_TABLES)
		return -ENOENT;
	for (int i = 0; i < ntables; i++)
		groups |= tables[i].ir->ngroups > 0;
	fd = early(flavor, f, tables, ntables, hooks, false, facts, env, err);
	if (fd == -EOPNOTSUPP && groups)
		fd = early(flavor, f, tables, ntables, hooks, true, facts, env, err);
	return fd;
}
