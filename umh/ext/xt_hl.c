// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <linux/netfilter_ipv4/ipt_ttl.h>
#include <linux/netfilter_ipv6/ip6t_hl.h>

#include "rows.h"

_Static_assert(sizeof(struct ipt_ttl_info) == sizeof(struct ip6t_hl_info) &&
	       (int)IPT_TTL_GT == (int)IP6T_HL_GT, "one shape for both families");

static int hl_lower(struct ext_ctx *c, const void *data)
{
	const struct ipt_ttl_info *m = data;

	switch (m->mode) {
	case IPT_TTL_EQ:
	case IPT_TTL_NE:
		ext_add_range(c, IR_TTL, m->ttl, m->ttl, m->mode == IPT_TTL_NE);
		return 0;
	case IPT_TTL_LT:
		if (m->ttl)
			ext_add_range(c, IR_TTL, 0, m->ttl - 1, false);
		else
			ir_pred_add(c->ir->arena, c->out, IR_P_FALSE);
		return 0;
	case IPT_TTL_GT:
		ext_add_range(c, IR_TTL, m->ttl + 1, 255, false);
		return 0;
	}
	/* Newer kernels refuse it, older ones never match. */
	return ext_fail(c, -EOPNOTSUPP, "has an unknown mode %u", m->mode);
}

const struct ext_row ext_hl_rows[] = {
	{
		.name = "ttl", .families = EXT_IP, .size = sizeof(struct ipt_ttl_info),
		.lower = hl_lower,
	},
	{
		.name = "hl", .families = EXT_IP6, .size = sizeof(struct ip6t_hl_info),
		.lower = hl_lower,
	},
	{ 0 }
};
