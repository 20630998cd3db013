// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <netinet/in.h>
#include <linux/netfilter/x_tables.h>
#include <linux/netfilter/xt_multiport.h>

#include "rows.h"

static int multiport_check(struct ext_ctx *c, const struct xt_multiport_v1 *m)
{
	const struct xt_base *b = &c->rule->base;

	switch (b->proto) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
		break;
	default:
		return ext_fail(c, -EINVAL, "is not valid for protocol %u", b->proto);
	}
	if (b->invflags & XT_INV_PROTO)
		return ext_fail(c, -EINVAL, "needs a protocol that is not inverted");
	if (m->flags > XT_MULTIPORT_EITHER || m->count > XT_MULTI_PORTS)
		return ext_fail(c, -EINVAL, "has unknown flags or too many ports");
	for (int i = 0; i < m->count; i++) {
		if (!m->pflags[i])
			continue;
		if (++i >= m->count || m->pflags[i] || m->ports[i - 1] > m->ports[i])
			return ext_fail(c, -EINVAL, "has a bad range of ports");
	}
	return ext_flag(c, "invert", m->invert);
}

static int multiport_lower(struct ext_ctx *c, const void *data)
{
	const struct xt_multiport_v1 *m = data;
	struct ir_pred *p;
	int err = multiport_check(c, m);

	if (!err)
		err = ext_add_l4(c, IR_L4_PLAIN, 4);
	if (err)
		return err;
	if (!m->count) {
		ext_add_range(c, IR_SPORT, 0, 0xffff, !m->invert);
		return 0;
	}
	p = ir_pred_add(c->ir->arena, c->out, IR_P_PORTS);
	p->inv = m->invert;
	p->src = m->flags != XT_MULTIPORT_DESTINATION;
	p->dst = m->flags != XT_MULTIPORT_SOURCE;
	for (int i = 0; i < m->count; i++) {
		__u16 *range = p->range[p->nports++];

		range[0] = m->ports[i];
		range[1] = m->pflags[i] ? m->ports[++i] : m->ports[i];
	}
	return 0;
}

const struct ext_row ext_multiport_rows[] = {
	{
		.name = "multiport", .rev = 1, .families = EXT_ANY,
		.size = sizeof(struct xt_multiport_v1), .lower = multiport_lower,
	},
	{ 0 }
};
