// SPDX-License-Identifier: GPL-2.0
/*
 * Pages.  The verifier explores the way of a match first and keeps each miss
 * for later: a rule that does not end the walk leaves its misses pending until
 * all that follows is explored.  A page ends before there are too many.
 */
#include <errno.h>
#include <linux/netfilter.h>
#include <stdlib.h>
#include <string.h>

#include "cg.h"
#include "classify.h"
#include "kfeat.h"

/* Pending jumps that @r leaves behind. */
static __u32 cost(const struct cg_table *t, const struct ir_rule *r)
{
	__u32 n = r->npreds;

	if (r->action == IR_A_LOOKUP)
		return cg_lookup_cost(&t->ir->groups[r->arg]);
	if (r->action == IR_A_DISPATCH)
		return 40;
	for (int i = 0; i < r->npreds; i++) {
		if (r->preds[i].kind == IR_P_PORTS)
			n += r->preds[i].nports * 2;
		if (r->preds[i].kind == IR_P_ADDR6 || r->preds[i].kind == IR_P_IFACE)
			n += 2;
		if (r->preds[i].kind == IR_P_TCPMSS || r->preds[i].kind == IR_P_ADDRTYPE ||
		    (r->preds[i].kind == IR_P_RANGE && r->preds[i].field == IR_CTSTATE))
			n++;
		if (r->preds[i].kind == IR_P_RANGE6 || r->preds[i].kind == IR_P_OWNER)
			n += 6;
	}
	if (ir_calls(r) && t->chains[r->arg].level >= 0)
		n += 2;		/* the way to its site */
	if (n && !cg_passes(t, &(struct ir_rule){ .action = r->action, .arg = r->arg }))
		n--;
	return n;
}

/* Instructions of a predicate, at most, of both stages. */
static __u32 pred_size(const struct ir_pred *p)
{
	static const __u8 size[IR_NPKINDS] = {
		[IR_P_ADDR6] = 17, [IR_P_RANGE6] = 21, [IR_P_PROTO] = 5, [IR_P_IFACE] = 20,
		[IR_P_L4] = 9, [IR_P_TCPOPT] = 10, [IR_P_TCPMSS] = 12, [IR_P_LIMIT] = 24,
		[IR_P_NTH] = 6, [IR_P_RANDOM] = 3, [IR_P_OWNER] = 12, [IR_P_NATIVE] = 6,
		[IR_P_BEFORE] = 5, [IR_P_CHAIN] = 2, [IR_P_ADDRTYPE] = 12,
	};

	switch (p->kind) {
	case IR_P_RANGE:
		return p->field == IR_CTSTATE ? 22 : ir_field_bits[p->field] > 32 ? 12 : 6;
	case IR_P_PORTS:
		return 6 + 2 * 3 * p->nports;
	default:
		return size[p->kind];
	}
}

/* Instructions of a rule, at most; with its places in the list of a page's entries. */
static __u32 rule_size(const struct cg *g, const struct cg_table *t, const struct ir_rule *r)
{
	__u32 n;

	if (r->action == IR_A_LOOKUP || r->action == IR_A_DISPATCH)
		return cg_group_size(&t->ir->groups[r->arg], r->action == IR_A_LOOKUP);
	n = r->action == IR_A_LOG || r->action == IR_A_REJECT ? 50 : 26;
	if (g->env->trace)
		n += 11;
	for (int i = 0; i < r->npreds; i++)
		n += pred_size(&r->preds[i]) + (r->preds[i].kind == IR_P_NATIVE ? 3 : 0);
	return n;
}

/* What comes before the rules. */
static __u32 start_size(const struct cg *g)
{
	return 1000 + (g->fl->early ? 20 * g->facts->nlocal : 0);
}

static bool page_full(const struct cg *g, const struct cg_table *t, const struct ir_rule *r)
{
	return g->jumps + cost(t, r) > CG_PAGE_JUMPS ||
	       (g->e.no_gotol && g->insns + rule_size(g, t, r) > CG_PAGE_INSNS);
}

__u32 cg_label_in(struct cg *g, int page)
{
	__u32 l = new_label(&g->e);

	if (l >= g->nplaces) {
		__u32 n = l * 2 + 1024;
		struct cg_place *p = realloc(g->places, n * sizeof(*p));

		if (!p) {
			g->e.err = g->e.err ?: -ENOMEM;
			return 0;
		}
		memset(p + g->nplaces, 0, (n - g->nplaces) * sizeof(*p));
		g->places = p;
		g->nplaces = n;
	}
	g->places[l] = (struct cg_place){ .page = page };
	return l;
}

static void plan_cut(struct cg *g, int table, __u32 chain, __u32 rule)
{
	if (g->npages >= CG_MAX_FUNCS - CG_NLIB - 2) {
		g->e.err = g->e.err ?: -E2BIG;
		return;
	}
	g->cuts[g->npages - 1] = (struct cg_cut){ table, chain, rule, cg_label_in(g, g->npages) };
	g->places[g->cuts[g->npages - 1].label].entry = true;
	g->npages++;
	g->jumps = 0;
	g->insns = start_size(g);
}

/* A label for where each callee comes back to; what a group jumps to does so to its lookup. */
static void plan_calls(struct cg *g, struct cg_table *t, const struct ir_rule *r)
{
	enum ir_action_kind how;
	__u32 at = 0;
	int c;

	while ((c = cg_callee(t, r, &at, &how)) >= 0) {
		struct cg_chain *to = &t->chains[c];

		if (!to->sites)
			to->sites = calloc(to->ncallers, sizeof(*to->sites));
		if (!to->sites || to->nsites >= to->ncallers) {
			g->e.err = g->e.err ?: to->sites ? -EINVAL : -ENOMEM;
			return;
		}
		to->sites[to->nsites++] = r->action == IR_A_DISPATCH && how == IR_A_JUMP ?
					  t->relook[r->arg] : cg_label_in(g, g->npages - 1);
	}
}

static void plan_lookup(struct cg *g, struct cg_table *t, __u32 group)
{
	__u32 l;

	if (!t->ir->groups[group].resumes)
		return;
	l = cg_label_in(g, g->npages - 1);
	g->places[l].entry = g->places[l].back = true;
	t->relook[group] = l;
	g->relooks = true;
}

static void plan_chain(struct cg *g, int table, __u32 ci)
{
	struct cg_table *t = &g->tabs[table];
	const struct ir_chain *c = &t->ir->chains[ci];
	struct cg_chain *me = &t->chains[ci];
	bool go = true;

	me->first_page = g->npages - 1;
	me->label = cg_label_in(g, g->npages - 1);
	for (__u32 i = 0; i < c->nrules; i++) {
		const struct ir_rule *r = &c->rules[i];
		bool policy = c->hook >= 0 && i == c->nrules - 1;

		if (policy ? !go && !me->returns : !go)
			continue;
		if (go && page_full(g, t, r))
			plan_cut(g, table, ci, i);
		if (policy)
			me->policy = cg_label_in(g, g->npages - 1);
		g->jumps += cost(t, r);
		g->insns += rule_size(g, t, r);
		if (r->action == IR_A_LOOKUP)
			plan_lookup(g, t, r->arg);
		if (!cg_never(r))
			plan_calls(g, t, r);
		if (g->fl->yields)
			cg_native_plan(g, table, r);
		go = cg_passes(t, r);
	}
	me->last_page = g->npages - 1;
}

static void mark(struct cg *g, __u32 label, int from)
{
	if (g->places[label].page != from)
		g->places[label].entry = true;
}

/* What is reached over a page's border. */
static void plan_entries(struct cg *g, struct cg_table *t)
{
	for (__u32 i = 0; i < t->norder; i++) {
		struct cg_chain *c = &t->chains[t->order[i]];

		if (t->ir->chains[t->order[i]].hook >= 0)
			mark(g, c->label, 0);
		if (c->returns && c->first_page != c->last_page &&
		    t->ir->chains[t->order[i]].hook >= 0)
			g->places[c->policy].entry = true;
		for (__u32 s = 0; s < c->nsites; s++) {
			mark(g, c->label, g->places[c->sites[s]].page);
			if (!c->returns)
				continue;
			if (c->level >= 0)
				g->places[c->sites[s]].entry = true;
			mark(g, c->sites[s], c->first_page);
			mark(g, c->sites[s], c->last_page);
		}
	}
}

int cg_plan(struct cg *g)
{
	g->npages = 1;
	g->jumps = 0;
	g->insns = start_size(g);
	new_label(&g->e);	/* pc 0 is the beginning */
	g->route = cg_label_in(g, 0);
	for (int i = 0; i < g->ntabs; i++) {
		struct cg_table *t = &g->tabs[i];

		t->accept = cg_label_in(g, 0);
		t->tail = cg_label_in(g, 0);
		if (g->fl->early && t->ir->base_chain[NF_INET_PRE_ROUTING] >= 0)
			g->places[g->route].entry = true;
		for (__u32 k = 0; !g->e.err && k < t->norder; k++)
			plan_chain(g, i, t->order[k]);
	}
	for (int i = 0; i < g->npages; i++)
		g->walk[i] = new_label(&g->e);
	g->again = g->npages > 1 || g->returns || g->relooks || g->native ||
		   g->places[g->route].entry;
	g->resumes = g->fl->yields && (g->native || (g->again && !kfeat()->iters));
	if (g->e.err)
		return xt_fail(g->err, g->e.err == -E2BIG ? -EOPNOTSUPP : g->e.err,
			       "more rules than one program can hold");
	for (int i = 0; i < g->ntabs; i++) {
		if (g->npages > 1 && g->fl->early) {
			g->places[g->tabs[i].accept].entry = true;
			g->places[g->tabs[i].tail].entry = true;
		}
		plan_entries(g, &g->tabs[i]);
		for (__u32 k = 0; k < g->tabs[i].norder; k++)
			g->tabs[i].chains[g->tabs[i].order[k]].nsites = 0;
	}
	return 0;
}
