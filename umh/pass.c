// SPDX-License-Identifier: GPL-2.0
/*
 * Passes over the IR.  Each leaves a table that counts and decides as before;
 * ir_check() holds before and after each.
 */
#include <string.h>

#include "compile.h"

/* Evaluating it changes something, or its outcome is not the same twice. */
static bool stateful(const struct ir_pred *p)
{
	return p->kind == IR_P_LIMIT || p->kind == IR_P_NTH || p->kind == IR_P_RANDOM ||
	       p->kind == IR_P_NATIVE;
}

/* @q holds, and drops nothing more, wherever @p held before it in the same rule. */
static bool implied(const struct ir_pred *p, const struct ir_pred *q)
{
	if (p->kind == IR_P_L4 && q->kind == IR_P_L4)
		return q->len <= p->len && (q->field == IR_L4_PLAIN || p->field == q->field);
	return !stateful(p) && !memcmp(p, q, sizeof(*p));
}

/*
 * Requires nothing.  A rule loses predicates that an earlier one of its own
 * implies; what was before a native match may not hold behind it (a mark).
 */
static void pass_implied(struct ir_table *t)
{
	for (__u32 c = 0; c < t->nchains; c++)
		for (__u32 i = 0; i < t->chains[c].nrules; i++) {
			struct ir_rule *r = &t->chains[c].rules[i];
			int n = 0, from = 0;

			for (int k = 0; k < r->npreds; k++) {
				bool drop = false;

				for (int j = from; j < n && !drop; j++)
					drop = implied(&r->preds[j], &r->preds[k]);
				if (!drop)
					r->preds[n++] = r->preds[k];
				if (r->preds[k].kind == IR_P_NATIVE)
					from = n;
			}
			r->npreds = n;
		}
}

/* What follows a rule with this action is never reached through it. */
static bool final(const struct ir_rule *r)
{
	return !r->npreds && (r->action == IR_A_ACCEPT || r->action == IR_A_DROP ||
			      r->action == IR_A_RETURN || r->action == IR_A_GOTO ||
			      r->action == IR_A_REJECT || r->action == IR_A_QUEUE);
}

/* Requires nothing.  Rules behind an unconditional end of their chain go; a policy stays. */
static void pass_dead(struct ir_table *t)
{
	for (__u32 c = 0; c < t->nchains; c++) {
		struct ir_chain *ch = &t->chains[c];
		__u32 i = 0;

		while (i < ch->nrules && !final(&ch->rules[i]))
			i++;
		if (i + 1 >= ch->nrules)
			continue;
		if (ch->hook >= 0)
			ch->rules[++i] = ch->rules[ch->nrules - 1];
		ch->nrules = i + 1;
	}
}

static const struct {
	const char *name;
	void (*run)(struct ir_table *t);
} passes[] = {
	{ "implied", pass_implied },
	{ "dead", pass_dead },
};

int passes_exact(struct ir_table *t, struct xt_err *err)
{
	int ret = 0;

	for (unsigned int i = 0; !ret && i < sizeof(passes) / sizeof(passes[0]); i++) {
		passes[i].run(t);
#ifdef DEBUG
		ret = ir_check(t, err);
		if (ret)
			xt_fail(err, ret, "after pass %s", passes[i].name);
#endif
	}
	(void)err;
	return ret;
}
