// SPDX-License-Identifier: GPL-2.0
/*
 * What can be reached in a table, which chains return, from where they are
 * called, and which of them need a slot to remember it.
 */
#include <errno.h>
#include <stdlib.h>

#include "cg.h"

bool cg_calls(const struct ir_rule *r)
{
	return r->action == IR_A_JUMP || r->action == IR_A_GOTO;
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
		return true;
	case IR_A_JUMP:
		return t->chains[r->arg].returns;
	default:
		return false;
	}
}

struct frame {
	__u32 chain, rule;
};

/* Depth first from @root; a chain's place in the reverse of t->order comes when it is done. */
static void visit(struct cg_table *t, __u32 root, struct frame *stack)
{
	__u32 n = 0;

	if (t->chains[root].seen)
		return;
	t->chains[root].seen = true;
	stack[n++] = (struct frame){ root, 0 };
	while (n) {
		struct frame *f = &stack[n - 1];
		const struct ir_chain *c = &t->ir->chains[f->chain];
		const struct ir_rule *r = f->rule < c->nrules ? &c->rules[f->rule] : NULL;

		if (!r) {
			t->order[t->norder++] = f->chain;
			n--;
			continue;
		}
		f->rule++;
		if (cg_calls(r) && !t->chains[r->arg].seen) {
			t->chains[r->arg].seen = true;
			stack[n++] = (struct frame){ r->arg, 0 };
		}
	}
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
		if (cg_calls(r))
			reached[r->arg] = true;
		if (r->action == IR_A_RETURN)
			me->returns = true;
		if (r->action == IR_A_GOTO && t->chains[r->arg].returns)
			me->returns = true;
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

		if (cg_never(r))
			continue;
		if (cg_calls(r))
			t->chains[r->arg].ncallers++;
		go = cg_passes(t, r);
	}
}

/*
 * A chain with several callers keeps the number of the one it returns to in
 * the slot of its level: more than that of any chain it can be called through.
 */
static void levels(struct cg *g, struct cg_table *t)
{
	for (__u32 i = 0; i < t->norder; i++) {
		struct cg_chain *me = &t->chains[t->order[i]];
		const struct ir_chain *c = &t->ir->chains[t->order[i]];
		__u32 below;

		me->level = me->ncallers > 1 && me->returns ? (int)me->depth : -1;
		if (me->level >= g->levels)
			g->levels = me->level + 1;
		below = me->depth + (me->level >= 0);
		for (__u32 r = 0; r < c->nrules; r++)
			if (cg_calls(&c->rules[r]) && t->chains[c->rules[r].arg].depth < below)
				t->chains[c->rules[r].arg].depth = below;
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
	if (!stack || !reached || !t->chains || !t->order)
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
	}
}
