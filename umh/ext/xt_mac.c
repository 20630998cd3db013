// SPDX-License-Identifier: GPL-2.0
#include <linux/netfilter/xt_mac.h>

#include "rows.h"

static int mac_lower(struct ext_ctx *c, const void *data)
{
	const struct xt_mac_info *m = data;
	int err = ext_flag(c, "invert", m->invert);
	__u64 addr = 0;

	if (err)
		return err;
	for (int i = 0; i < ETH_ALEN; i++)
		addr = addr << 8 | m->srcaddr[i];
	ext_add_range(c, IR_MACOK, 1, 1, false);
	ext_add_range(c, IR_SMAC, addr, addr, m->invert);
	return 0;
}

const struct ext_row ext_mac_rows[] = {
	{
		.name = "mac", .families = EXT_ANY, .size = sizeof(struct xt_mac_info),
		.hooks = 1 << NF_INET_PRE_ROUTING | 1 << NF_INET_LOCAL_IN |
			 1 << NF_INET_FORWARD,
		.lower = mac_lower,
	},
	{ 0 }
};
