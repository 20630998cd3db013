// SPDX-License-Identifier: GPL-2.0
#include <linux/netfilter/xt_pkttype.h>

#include "rows.h"

static int pkttype_lower(struct ext_ctx *c, const void *data)
{
	const struct xt_pkttype_info *m = data;
	int err = ext_flag(c, "invert", m->invert);
	__u32 type = m->pkttype;

	if (err)
		return err;
	ext_add_range(c, IR_PKTTYPE, type, type, m->invert);
	return 0;
}

const struct ext_row ext_pkttype_rows[] = {
	{
		.name = "pkttype", .families = EXT_ANY, .size = sizeof(struct xt_pkttype_info),
		.lower = pkttype_lower,
	},
	{ 0 }
};
