// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <netinet/in.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>

#include "rows.h"

#define ICMP_ANY 0xff		/* as a type, with IPv4 only */

_Static_assert(sizeof(struct ipt_icmp) == sizeof(struct ip6t_icmp) &&
	       IPT_ICMP_INV == IP6T_ICMP_INV, "one shape for both families");

static int icmp_lower(struct ext_ctx *c, const void *data)
{
	const struct ipt_icmp *m = data;
	bool any = m->type == ICMP_ANY && c->rs->family == &xt_family_ip;
	int err;

	if (m->invflags & ~IPT_ICMP_INV)
		return ext_fail(c, -EINVAL, "has unknown inversions 0x%x", m->invflags);
	err = ext_add_l4(c, IR_L4_PLAIN, 8);
	if (err)
		return err;
	if (any)
		ext_add_range(c, IR_ICMP, 0, 0xffff, m->invflags);
	else
		ext_add_range(c, IR_ICMP, m->type << 8 | m->code[0],
			      m->type << 8 | m->code[1], m->invflags);
	return 0;
}

const struct ext_row ext_icmp_rows[] = {
	{
		.name = "icmp", .families = EXT_IP, .size = sizeof(struct ipt_icmp),
		.proto = IPPROTO_ICMP, .lower = icmp_lower,
	},
	{
		.name = "icmp6", .families = EXT_IP6, .size = sizeof(struct ip6t_icmp),
		.proto = IPPROTO_ICMPV6, .lower = icmp_lower,
	},
	{ 0 }
};
