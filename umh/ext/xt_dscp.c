// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <linux/netfilter/xt_dscp.h>

#include "rows.h"

static int dscp_lower(struct ext_ctx *c, const void *data)
{
	const struct xt_dscp_info *m = data;
	__u32 v = m->dscp << XT_DSCP_SHIFT;

	if (m->dscp > XT_DSCP_MAX)
		return ext_fail(c, -EDOM, "has a value of more than 6 bits, %u", m->dscp);
	ir_range(c->ir->arena, c->out, IR_DSFIELD, XT_DSCP_MASK, v, v, m->invert);
	return 0;
}

static int tos_lower(struct ext_ctx *c, const void *data)
{
	const struct xt_tos_match_info *m = data;

	ir_range(c->ir->arena, c->out, IR_DSFIELD, m->tos_mask, m->tos_value, m->tos_value,
		 m->invert);
	return 0;
}

const struct ext_row ext_dscp_rows[] = {
	{
		.name = "dscp", .families = EXT_ANY, .size = sizeof(struct xt_dscp_info),
		.lower = dscp_lower,
	},
	{
		.name = "tos", .rev = 1, .families = EXT_ANY,
		.size = sizeof(struct xt_tos_match_info), .lower = tos_lower,
	},
	{ 0 }
};
