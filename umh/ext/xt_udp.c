// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <netinet/in.h>
#include <linux/netfilter/xt_tcpudp.h>

#include "rows.h"

static int udp_lower(struct ext_ctx *c, const void *data)
{
	const struct xt_udp *m = data;
	int err;

	if (m->invflags & ~XT_UDP_INV_MASK)
		return ext_fail(c, -EINVAL, "has unknown inversions 0x%x", m->invflags);
	err = ext_add_l4(c, IR_L4_PLAIN, 8);
	if (err)
		return err;
	ext_add_range(c, IR_SPORT, m->spts[0], m->spts[1], m->invflags & XT_UDP_INV_SRCPT);
	ext_add_range(c, IR_DPORT, m->dpts[0], m->dpts[1], m->invflags & XT_UDP_INV_DSTPT);
	return 0;
}

const struct ext_row ext_udp_rows[] = {
	{
		.name = "udp", .families = EXT_ANY, .size = sizeof(struct xt_udp),
		.proto = IPPROTO_UDP, .lower = udp_lower,
	},
	{ 0 }
};
