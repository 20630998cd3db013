// SPDX-License-Identifier: GPL-2.0
/*
 * Rules outside of a group's tables that come or go: one that is like no member of
 * the group around its place is tried by itself there, as the rules are that
 * classify() left between.
 */
#include <errno.h>
#include <string.h>

#include "classify_edit.h"

#define APART	16	/* that came so; with more, the table is better made as a whole */

struct ir_chain *edit_chain(const struct ir_table *t, __u32 chain)
{
	return &t->chains[t->chains[chain].merged ?: chain];
}

const struct ir_rule *edit_apart(const struct ir_chain *c, __u32 counter)
{
	for (__u32 i = 0; i < c->nrules; i++)
		if (c->rules[i].counter == counter && !is_own(&c->rules[i]))
			return &c->rules[i];
	return NULL;
}

/* Callers know that it returns. */
static bool known_to_return(const struct ir_table *t, const struct ir_chain *c)
{
	for (__u32 i = 0; i < c->nrules; i++) {
		const struct ir_rule *r = &c->rules[i];
		const struct ir_group *g = r->action == IR_A_DISPATCH ? &t->groups[r->arg] : NULL;

		for (__u32 k = 0; g && k < g->nacts; k++)
			if (g->acts[k].action == IR_A_RETURN)
				return true;
		if (r->action == IR_A_RETURN)
			return true;
		if (!r->npreds && !is_own(r) && r->action != IR_A_NEXT)
			return false;
	}
	return false;
}

/* Nothing about it is known to the table by a number, and no chain's end can be reached anew. */
static bool can_come(const struct edit *x, const struct ir_chain *c, const struct ir_rule *r)
{
	for (int i = 0; i < r->npreds; i++)
		if (r->preds[i].kind == IR_P_LIMIT || r->preds[i].kind == IR_P_NTH ||
		    r->preds[i].kind == IR_P_NATIVE)
			return false;
	switch (r->action) {
	case IR_A_NEXT:
	case IR_A_ACCEPT:
	case IR_A_DROP:
	case IR_A_REJECT:
	case IR_A_NATIVE:
		return r->npreds;
	case IR_A_RETURN:
		return r->npreds && known_to_return(x->old, c);
	default:
		return false;
	}
}

/* Where rule @counter belongs among the rules of @c, be it in the group @g. */
static __u32 place_of(const struct edit *x, const struct ir_chain *c, __u32 counter)
{
	bool in = !x->g;
	__u32 i;

	for (i = 0; i < c->nrules; i++) {
		const struct ir_rule *r = &c->rules[i];
		bool of_g = is_own(r) && x->g == &x->out->groups[r->arg];

		if (of_g && in)
			return i;		/* its dispatch */
		in |= of_g;
		if (!of_g && in && counter <= (r->action == IR_A_LOOKUP ?
					       x->out->groups[r->arg].first : r->counter))
			return i;
	}
	return i;
}

int edit_come_apart(struct edit *x, const struct ir_rule *rule, __u32 counter)
{
	struct ir_chain *c = edit_chain(x->out, x->e->chain);
	const struct ir_rule own = cl_of_chain(x->out->arena, x->old, rule, x->e->chain);
	__u32 at = place_of(x, c, counter), before = x->g != NULL;
	struct ir_rule *r;

	if (x->im.apart++ == APART || !can_come(x, c, rule) || counter >= (1u << 24) - 1)
		return -EAGAIN;
	c->rules = ir_grow(x->out->arena, c->rules, c->nrules, sizeof(*c->rules));
	r = &c->rules[at];
	memmove(r + 1, r, (c->nrules++ - at) * sizeof(*r));
	*r = own;
	r->counter = counter;
	r->npreds += before;
	r->preds = ir_alloc(x->out->arena, r->npreds * sizeof(*r->preds));
	memcpy(r->preds + before, own.preds, own.npreds * sizeof(*r->preds));
	if (!before)
		return 0;
	r->preds[0].kind = IR_P_BEFORE;
	r->preds[0].index = x->g - x->out->groups;
	r->preds[0].value = counter;
	x->g->nrest++;
	return 0;
}
