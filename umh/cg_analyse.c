// SPDX-License-Identifier: GPL-2.0
/*
 * What can be reached in a table, which chains return, from where they are
 * called, and which of them need a slot to remember it.
 */
#include <errno.h>
#include <stdlib.h>

#include "cg.h"
#include "classify.h"

int cg_callee(const struct cg_table *t, const struct ir_rule *r, __u32 *at,
	      enum ir_action_kind *how)
{
	const struct ir_group *g;

	if (r->action != IR_A_DISPATCH) {
		*how = r->action;
		return ir_calls(r) && !(*at)++ ? (int)r->arg : -1;
	}
	g = &t->ir->groups[r->arg];
	while (*at < g->nacts) {
		const struct cl_act *a = &g->acts[(*at)++];

		*how = a->action;
		if (a->action == IR_A_JUMP || a->action == IR_A_GOTO)
			return a->arg;
	}
	return -1;
}

bool cg_never(const struct ir_rule *r)
{
	for (int i = 0; i < r->npreds; i++)
		if (r->preds[i].kind == IR_P_FALSE && !r->preds[i].inv)
			return true;
	return false;
}

bool cg_passes(const struct cg_table *t, const struct ir_rule *r)
{
	if (r->npreds)
		return true;
	switch (r->action) {
	case IR_A_NEXT:
	case IR_A_LOG:
	case IR_A_NATIVE:
	case IR_A_LOOKUP:
	case IR_A_DISPATCH:
		return true;
	case IR_A_JUMP:
		return t->chains[r->arg].returns;
	default:
		return false;
	}
}

struct frame {
	__u32 chain, rule, call;
};

/* The next chain that something in the frame's calls, or -1. */
static int next_callee(const struct cg_table *t, struct frame *f)
{
	const struct ir_chain *c = &t->ir->chains[f->chain];
	enum ir_action_kind how;

	for (; f->rule < c->nrules; f->rule++) {
		int to = cg_callee(t, &c->rules[f->rule], &f->call, &how);

		if (to >= 0)
			return to;
		f->call = 0;
	}
	return -1;
}

/* Depth first from @root; a chain's place in the reverse of t->order comes when it is done. */
static void visit(struct cg_table *t, __u32 root, struct frame *stack)
{
	__u32 n = 0;

	if (t->chains[root].seen)
		return;
	t->chains[root].seen = true;
	stack[n++] = (struct frame){ .chain = root };
	while (n) {
		int to = next_callee(t, &stack[n - 1]);

		if (to < 0) {
			t->order[t->norder++] = stack[--n].chain;
		} else if (!t->chains[to].seen) {
			t->chains[to].seen = true;
			stack[n++] = (struct frame){ .chain = to };
		}
	}
}

/* What the rule, or a group's members, make of chain @me and of those that are called. */
static void scan_rule(struct cg_table *t, struct cg_chain *me, const struct ir_rule *r,
		      bool *reached)
{
	const struct ir_group *g = r->action == IR_A_DISPATCH ? &t->ir->groups[r->arg] : NULL;
	enum ir_action_kind how;
	__u32 at = 0;
	int to;

	while ((to = cg_callee(t, r, &at, &how)) >= 0) {
		reached[to] = true;
		if (how == IR_A_GOTO && t->chains[to].returns)
			me->returns = true;
	}
	if (r->action == IR_A_RETURN)
		me->returns = true;
	for (__u32 i = 0; g && i < g->nacts; i++)
		if (g->acts[i].action == IR_A_RETURN)
			me->returns = true;
}

/* Callees are done before: whether @c returns, who is called, what of the base chain is used. */
static void scan(struct cg_table *t, __u32 chain, bool *reached)
{
	const struct ir_chain *c = &t->ir->chains[chain];
	struct cg_chain *me = &t->chains[chain];
	bool go = true;

	for (__u32 i = 0; i < c->nrules && go; i++) {
		const struct ir_rule *r = &c->rules[i];

		if (cg_never(r))
			continue;
		scan_rule(t, me, r, reached);
		go = cg_passes(t, r);
	}
	if (go && c->hook < 0)
		me->returns = true;
}

static void count_callers(struct cg_table *t, __u32 chain)
{
	const struct ir_chain *c = &t->ir->chains[chain];
	bool go = true;

	for (__u32 i = 0; i < c->nrules && go; i++) {
		const struct ir_rule *r = &c->rules[i];
		enum ir_action_kind how;
		__u32 at = 0;
		int to;

		if (cg_never(r))
			continue;
		while ((to = cg_callee(t, r, &at, &how)) >= 0)
			t->chains[to].ncallers++;
		go = cg_passes(t, r);
	}
}

/*
 * Slots of its own that the chain's groups need: none where nothing is called,
 * and the module runs nothing, between a lookup and its dispatch, nor comes back to the lookup; one for
 * best; two where there is a from.
 */
static int group_slots(const struct cg_table *t, const struct ir_chain *c)
{
	int n = 0;

	for (__u32 i = 0; i < c->nrules; i++) {
		const struct ir_rule *r = &c->rules[i];

		if (r->action == IR_A_LOOKUP && t->ir->groups[r->arg].resumes)
			return 2;
		if (r->npreds && r->preds[0].kind == IR_P_BEFORE &&
		    (ir_calls(r) || cg_native(t, r)))
			n = 1;
	}
	return n;
}

/*
 * A chain with several callers keeps the number of the one it returns to in
 * the slot of its level: more than that of any chain it can be called through.
 * So are the slots of its groups, of which one is in use at a time.
 */
static void levels(struct cg *g, struct cg_table *t)
{
	for (__u32 i = 0; i < t->norder; i++) {
		struct cg_chain *me = &t->chains[t->order[i]];
		const struct ir_chain *c = &t->ir->chains[t->order[i]];
		__u32 below = me->depth, at = 0;
		enum ir_action_kind how;
		int to, slots;

		me->level = me->ncallers > 1 && me->returns ? (int)below++ : -1;
		g->returns |= me->level >= 0;
		slots = group_slots(t, c);
		me->best = slots ? (int)below : -1;
		below += slots;
		me->entry = c->merges ? (int)below++ : -1;
		if ((int)below > g->levels)
			g->levels = below;
		for (__u32 r = 0; r < c->nrules; r++, at = 0)
			while ((to = cg_callee(t, &c->rules[r], &at, &how)) >= 0)
				if (t->chains[to].depth < below)
					t->chains[to].depth = below;
	}
}

static int analyse_table(struct cg *g, struct cg_table *t)
{
	__u32 n = t->ir->nchains;
	struct frame *stack = calloc(n + 1, sizeof(*stack));
	bool *reached = calloc(n + 1, sizeof(*reached));
	__u32 kept = 0;
	int err = -ENOMEM;

	t->chains = calloc(n + 1, sizeof(*t->chains));
	t->order = calloc(n + 1, sizeof(*t->order));
	t->relook = calloc(t->ir->ngroups + 1, sizeof(*t->relook));
	t->behind = calloc(t->ir->ngroups + 1, sizeof(*t->behind));
	if (!stack || !reached || !t->chains || !t->order || !t->relook || !t->behind)
		goto out;
	for (int h = 0; h < XT_HOOKS; h++)
		if (t->ir->base_chain[h] >= 0) {
			visit(t, t->ir->base_chain[h], stack);
			reached[t->ir->base_chain[h]] = true;
		}
	for (__u32 i = 0; i < t->norder; i++)		/* callees first */
		scan(t, t->order[i], reached);
	for (__u32 i = 0; i < t->norder / 2; i++) {
		__u32 x = t->order[i];

		t->order[i] = t->order[t->norder - 1 - i];
		t->order[t->norder - 1 - i] = x;
	}
	/* only what is reached from a chain that is itself reached stays */
	for (__u32 i = 0; i < n; i++)
		reached[i] = t->ir->chains[i].hook >= 0 && t->chains[i].seen;
	for (__u32 i = 0; i < t->norder; i++) {
		if (!reached[t->order[i]])
			continue;
		scan(t, t->order[i], reached);
		count_callers(t, t->order[i]);
		t->order[kept++] = t->order[i];
	}
	t->norder = kept;
	levels(g, t);
	err = 0;
out:
	free(stack);
	free(reached);
	return err;
}

int cg_analyse(struct cg *g)
{
	g->levels = 0;
	for (int i = 0; i < g->ntabs; i++) {
		int err = analyse_table(g, &g->tabs[i]);

		if (err)
			return xt_fail(g->err, err, "out of memory");
	}
	return 0;
}

void cg_analyse_free(struct cg *g)
{
	for (int i = 0; i < g->ntabs; i++) {
		struct cg_table *t = &g->tabs[i];

		for (__u32 c = 0; t->chains && c < t->ir->nchains; c++)
			free(t->chains[c].sites);
		free(t->chains);
		free(t->order);
		free(t->resume);
		free(t->relook);
		free(t->behind);
		free(t->traced);
	}
}
