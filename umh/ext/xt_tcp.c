// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <netinet/in.h>
#include <linux/netfilter/xt_tcpudp.h>

#include "rows.h"

static int tcp_lower(struct ext_ctx *c, const void *data)
{
	const struct xt_tcp *m = data;
	struct ir_pred *p;
	int err;

	if (m->invflags & ~XT_TCP_INV_MASK)
		return ext_fail(c, -EINVAL, "has unknown inversions 0x%x", m->invflags);
	err = ext_add_l4(c, IR_L4_TCP, 20);
	if (err)
		return err;
	ext_add_range(c, IR_SPORT, m->spts[0], m->spts[1], m->invflags & XT_TCP_INV_SRCPT);
	ext_add_range(c, IR_DPORT, m->dpts[0], m->dpts[1], m->invflags & XT_TCP_INV_DSTPT);
	ir_range(c->ir->arena, c->out, IR_TCPFLAGS, m->flg_mask, m->flg_cmp, m->flg_cmp,
		 m->invflags & XT_TCP_INV_FLAGS);
	if (m->option) {
		p = ir_pred_add(c->ir->arena, c->out, IR_P_TCPOPT);
		p->value = m->option;
		p->inv = !!(m->invflags & XT_TCP_INV_OPTION);
	}
	return 0;
}

const struct ext_row ext_tcp_rows[] = {
	{
		.name = "tcp", .families = EXT_ANY, .size = sizeof(struct xt_tcp),
		.proto = IPPROTO_TCP, .lower = tcp_lower,
	},
	{ 0 }
};
