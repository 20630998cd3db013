// SPDX-License-Identifier: GPL-2.0
#include <linux/netfilter/xt_length.h>

#include "rows.h"

static int length_lower(struct ext_ctx *c, const void *data)
{
	const struct xt_length_info *m = data;
	int err = ext_flag(c, "invert", m->invert);

	if (err)
		return err;
	ext_add_range(c, IR_LEN, m->min, m->max, m->invert);
	return 0;
}

const struct ext_row ext_length_rows[] = {
	{
		.name = "length", .families = EXT_ANY, .size = sizeof(struct xt_length_info),
		.lower = length_lower,
	},
	{ 0 }
};
