// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <linux/netfilter/xt_statistic.h>

#include "rows.h"

static int add_nth(struct ext_ctx *c, const struct xt_statistic_info *m, bool inv)
{
	struct ir_nth n = { .every = m->u.nth.every, .first = m->u.nth.count };
	struct ir_pred *p;

	if (n.every == (__u32)-1)
		return ext_fail(c, -EOPNOTSUPP, "has a period of more than 32 bits");
	p = ir_pred_add(c->ir->arena, c->out, IR_P_NTH);
	p->inv = inv;
	p->value = n.every + 1;
	p->index = ext_add_nth(c, &n);
	return 0;
}

static int statistic_lower(struct ext_ctx *c, const void *data)
{
	const struct xt_statistic_info *m = data;
	bool inv = m->flags & XT_STATISTIC_INVERT;
	struct ir_pred *p;

	if (m->mode > XT_STATISTIC_MODE_MAX || (m->flags & ~XT_STATISTIC_MASK))
		return ext_fail(c, -EINVAL, "has an unknown mode or flags");
	if (m->mode == XT_STATISTIC_MODE_NTH)
		return add_nth(c, m, inv);
	p = ir_pred_add(c->ir->arena, c->out, IR_P_RANDOM);
	p->inv = inv;
	p->value = m->u.random.probability;
	return 0;
}

const struct ext_row ext_statistic_rows[] = {
	{
		.name = "statistic", .families = EXT_ANY,
		.size = sizeof(struct xt_statistic_info), .lower = statistic_lower,
	},
	{ 0 }
};
