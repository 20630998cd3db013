// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/xt_iprange.h>
#include <string.h>

#include "rows.h"

static void add_range6(struct ext_ctx *c, enum ir_field6 f, const union nf_inet_addr *min,
		       const union nf_inet_addr *max, bool inv)
{
	struct ir_pred *p;

	if (memcmp(min, max, sizeof(*min)) > 0) {
		if (!inv)
			ir_pred_add(c->ir->arena, c->out, IR_P_FALSE);
		return;
	}
	p = ir_pred_add(c->ir->arena, c->out, IR_P_RANGE6);
	p->field = f;
	p->inv = inv;
	memcpy(p->value6, min, sizeof(p->value6));
	memcpy(p->mask6, max, sizeof(p->mask6));
}

static void add_side(struct ext_ctx *c, enum ir_field f, enum ir_field6 f6,
		     const union nf_inet_addr *min, const union nf_inet_addr *max, bool inv)
{
	if (c->rs->family == &xt_family_ip6)
		add_range6(c, f6, min, max, inv);
	else
		ext_add_range(c, f, ntohl(min->ip), ntohl(max->ip), inv);
}

static int iprange_lower(struct ext_ctx *c, const void *data)
{
	const struct xt_iprange_mtinfo *m = data;

	if (m->flags & IPRANGE_SRC)
		add_side(c, IR_SADDR, IR6_SADDR, &m->src_min, &m->src_max,
			 m->flags & IPRANGE_SRC_INV);
	if (m->flags & IPRANGE_DST)
		add_side(c, IR_DADDR, IR6_DADDR, &m->dst_min, &m->dst_max,
			 m->flags & IPRANGE_DST_INV);
	return 0;
}

const struct ext_row ext_iprange_rows[] = {
	{
		.name = "iprange", .rev = 1, .families = EXT_ANY,
		.size = sizeof(struct xt_iprange_mtinfo), .lower = iprange_lower,
	},
	{ 0 }
};
