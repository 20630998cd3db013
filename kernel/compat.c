// SPDX-License-Identifier: GPL-2.0
/*
 * Until 6.4 the matches icmp and icmp6 are not x_tables modules of their own but parts
 * of ip_tables and ip6_tables: who has their place has to bring these along, for
 * nft_compat.  net/netfilter/xt_tcpudp.c has them from then on.
 */
#include "xtjit.h"

#ifdef COMPAT_ICMP
#include <linux/icmp.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>

static_assert(sizeof(struct ipt_icmp) == sizeof(struct ip6t_icmp) && IPT_ICMP_INV == IP6T_ICMP_INV);

static bool icmp_match(const struct sk_buff *skb, struct xt_action_param *par)
{
	const struct ipt_icmp *info = par->matchinfo;
	struct icmphdr buf, *ic;
	bool hit;

	if (par->fragoff)
		return false;
	/* type and code are where ICMPv6 has them, whose header is as long as ICMP's */
	ic = skb_header_pointer(skb, par->thoff, sizeof(buf), &buf);
	if (!ic) {
		par->hotdrop = true;
		return false;
	}
	hit = (par->match->family == NFPROTO_IPV4 && info->type == 0xff) ||
	      (ic->type == info->type && ic->code >= info->code[0] && ic->code <= info->code[1]);
	return hit != !!(info->invflags & IPT_ICMP_INV);
}

static int icmp_check(const struct xt_mtchk_param *par)
{
	const struct ipt_icmp *info = par->matchinfo;

	return info->invflags & ~IPT_ICMP_INV ? -EINVAL : 0;
}

static struct xt_match icmp_matches[] = {
	{
		.name = "icmp", .family = NFPROTO_IPV4, .proto = IPPROTO_ICMP,
		.match = icmp_match, .checkentry = icmp_check,
		.matchsize = sizeof(struct ipt_icmp), .me = THIS_MODULE,
	},
	{
		.name = "icmp6", .family = NFPROTO_IPV6, .proto = IPPROTO_ICMPV6,
		.match = icmp_match, .checkentry = icmp_check,
		.matchsize = sizeof(struct ip6t_icmp), .me = THIS_MODULE,
	},
};

int compat_init(void)
{
	return xt_register_matches(icmp_matches, ARRAY_SIZE(icmp_matches));
}

void compat_exit(void)
{
	xt_unregister_matches(icmp_matches, ARRAY_SIZE(icmp_matches));
}
#endif
