// SPDX-License-Identifier: GPL-2.0
#include <stdbool.h>
#include <netinet/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <string.h>

#include "family.h"

#define PRE	(1 << NF_INET_PRE_ROUTING)
#define IN	(1 << NF_INET_LOCAL_IN)
#define FWD	(1 << NF_INET_FORWARD)
#define OUT	(1 << NF_INET_LOCAL_OUT)
#define POST	(1 << NF_INET_POST_ROUTING)

#define ALL(p) { p, p, p, p, p }
/* nat: destinations are translated before routing, sources after it */
#define NAT(d, s) { d, s, 0, d, s }

/* net/ipv4/netfilter/iptable_*.c and their IPv6 twins */
static const struct xt_table_row ip_tables[XT_TABLES] = {
	{ "filter", IN | FWD | OUT, ALL(NF_IP_PRI_FILTER) },
	{ "nat", PRE | IN | OUT | POST, NAT(NF_IP_PRI_NAT_DST, NF_IP_PRI_NAT_SRC) },
	{ "mangle", PRE | IN | FWD | OUT | POST, ALL(NF_IP_PRI_MANGLE) },
	{ "raw", PRE | OUT, ALL(NF_IP_PRI_RAW) },
	{ "security", IN | FWD | OUT, ALL(NF_IP_PRI_SECURITY) },
};

static const struct xt_table_row ip6_tables[XT_TABLES] = {
	{ "filter", IN | FWD | OUT, ALL(NF_IP6_PRI_FILTER) },
	{ "nat", PRE | IN | OUT | POST, NAT(NF_IP6_PRI_NAT_DST, NF_IP6_PRI_NAT_SRC) },
	{ "mangle", PRE | IN | FWD | OUT | POST, ALL(NF_IP6_PRI_MANGLE) },
	{ "raw", PRE | OUT, ALL(NF_IP6_PRI_RAW) },
	{ "security", IN | FWD | OUT, ALL(NF_IP6_PRI_SECURITY) },
};

const struct xt_family xt_family_ip = {
	.name = "ip",
	.nfproto = NFPROTO_IPV4,
	.af = AF_INET,
	.sol = IPPROTO_IP,
	.set_replace = IPT_SO_SET_REPLACE,
	.set_add_counters = IPT_SO_SET_ADD_COUNTERS,
	.get_info = IPT_SO_GET_INFO,
	.get_entries = IPT_SO_GET_ENTRIES,
	.get_rev_match = IPT_SO_GET_REVISION_MATCH,
	.get_rev_target = IPT_SO_GET_REVISION_TARGET,
	.proc_names = "/proc/net/ip_tables_names",
	.proc_matches = "/proc/net/ip_tables_matches",
	.proc_targets = "/proc/net/ip_tables_targets",
	.entry_size = sizeof(struct ipt_entry),
	.addr_size = 4,
	.tables = ip_tables,
};

const struct xt_family xt_family_ip6 = {
	.name = "ip6",
	.nfproto = NFPROTO_IPV6,
	.af = AF_INET6,
	.sol = IPPROTO_IPV6,
	.set_replace = IP6T_SO_SET_REPLACE,
	.set_add_counters = IP6T_SO_SET_ADD_COUNTERS,
	.get_info = IP6T_SO_GET_INFO,
	.get_entries = IP6T_SO_GET_ENTRIES,
	.get_rev_match = IP6T_SO_GET_REVISION_MATCH,
	.get_rev_target = IP6T_SO_GET_REVISION_TARGET,
	.proc_names = "/proc/net/ip6_tables_names",
	.proc_matches = "/proc/net/ip6_tables_matches",
	.proc_targets = "/proc/net/ip6_tables_targets",
	.entry_size = sizeof(struct ip6t_entry),
	.addr_size = 16,
	.tables = ip6_tables,
};

const char *const xt_hook_name[XT_HOOKS] = {
	[NF_INET_PRE_ROUTING] = "PREROUTING",
	[NF_INET_LOCAL_IN] = "INPUT",
	[NF_INET_FORWARD] = "FORWARD",
	[NF_INET_LOCAL_OUT] = "OUTPUT",
	[NF_INET_POST_ROUTING] = "POSTROUTING",
};

const struct xt_family *xt_family_by_proto(int nfproto)
{
	switch (nfproto) {
	case NFPROTO_IPV4:
		return &xt_family_ip;
	case NFPROTO_IPV6:
		return &xt_family_ip6;
	}
	return NULL;
}

const struct xt_table_row *xt_table_row(const struct xt_family *f, const char *name)
{
	for (int i = 0; i < XT_TABLES; i++)
		if (!strcmp(f->tables[i].name, name))
			return &f->tables[i];
	return NULL;
}
