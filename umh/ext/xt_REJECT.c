// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <netinet/in.h>
#include <linux/netfilter/x_tables.h>
#include <linux/netfilter_ipv4/ipt_REJECT.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <linux/netfilter_ipv6/ip6t_REJECT.h>

#include "rows.h"

#define REJECT_HOOKS (1 << NF_INET_LOCAL_IN | 1 << NF_INET_FORWARD | 1 << NF_INET_LOCAL_OUT)

static int lower(struct ext_ctx *c, __u32 with, __u32 reset, __u32 echoreply, __u32 last)
{
	const struct xt_base *b = &c->rule->base;

	if (with == echoreply)
		return ext_fail(c, -EINVAL, "cannot answer with an echo reply");
	if (with == reset && (b->proto != IPPROTO_TCP || (b->invflags & XT_INV_PROTO)))
		return ext_fail(c, -EINVAL, "can reset TCP only");
	/* The kernel's, too, answers nothing if it does not know with what. */
	c->out->action = with <= last ? IR_A_REJECT : IR_A_DROP;
	c->out->arg = with <= last ? with : 0;
	return 0;
}

static int reject_lower(struct ext_ctx *c, const void *data)
{
	const struct ipt_reject_info *m = data;

	return lower(c, m->with, IPT_TCP_RESET, IPT_ICMP_ECHOREPLY,
		     IPT_ICMP_ADMIN_PROHIBITED);
}

static int reject6_lower(struct ext_ctx *c, const void *data)
{
	const struct ip6t_reject_info *m = data;

	if (m->with == IP6T_TCP_RESET && !(c->rule->base.flags & IP6T_F_PROTO))
		return ext_fail(c, -EINVAL, "can reset TCP only");
	return lower(c, m->with, IP6T_TCP_RESET, IP6T_ICMP6_ECHOREPLY,
		     IP6T_ICMP6_REJECT_ROUTE);
}

const struct ext_row ext_reject_rows[] = {
	{
		.name = "REJECT", .families = EXT_IP, .size = sizeof(struct ipt_reject_info),
		.table = "filter", .hooks = REJECT_HOOKS, .lower = reject_lower,
		.rather_native = true,
	},
	{
		.name = "REJECT", .families = EXT_IP6, .size = sizeof(struct ip6t_reject_info),
		.table = "filter", .hooks = REJECT_HOOKS, .lower = reject6_lower,
		.rather_native = true,
	},
	{ 0 }
};
