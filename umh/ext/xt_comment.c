// SPDX-License-Identifier: GPL-2.0
#include <linux/netfilter/xt_comment.h>

#include "rows.h"

static int comment_lower(struct ext_ctx *c, const void *data)
{
	(void)c;
	(void)data;
	return 0;
}

const struct ext_row ext_comment_rows[] = {
	{
		.name = "comment", .families = EXT_ANY, .size = sizeof(struct xt_comment_info),
		.lower = comment_lower,
	},
	{ 0 }
};
