// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <linux/netfilter/xt_limit.h>

#include "compile.h"
#include "rows.h"

static int limit_lower(struct ext_ctx *c, const void *data)
{
	const struct xt_rateinfo *m = data;
	struct ir_limit l = { .avg = m->avg, .burst = m->burst };
	struct limit_cost cost = limit_cost(&l);
	struct ir_pred *p;

	if (!m->burst || cost.cap < cost.cost)
		return ext_fail(c, -ERANGE, "overflows, try lower: %u/%u", m->avg, m->burst);
	if (m->cost)
		return ext_fail(c, -EOPNOTSUPP, "brings a cost of its own");
	p = ir_pred_add(c->ir->arena, c->out, IR_P_LIMIT);
	p->index = ext_add_limit(c, &l);
	return 0;
}

const struct ext_row ext_limit_rows[] = {
	{
		.name = "limit", .families = EXT_ANY, .size = sizeof(struct xt_rateinfo),
		.lower = limit_lower,
	},
	{ 0 }
};
