// SPDX-License-Identifier: GPL-2.0
#include <linux/netfilter/xt_mark.h>

#include "rows.h"

static int mark_lower(struct ext_ctx *c, const void *data)
{
	const struct xt_mark_mtinfo1 *m = data;
	int err = ext_flag(c, "invert", m->invert);

	if (err)
		return err;
	ir_range(c->ir->arena, c->out, IR_MARK, m->mask, m->mark, m->mark, m->invert);
	return 0;
}

const struct ext_row ext_mark_rows[] = {
	{
		.name = "mark", .rev = 1, .families = EXT_ANY,
		.size = sizeof(struct xt_mark_mtinfo1), .lower = mark_lower,
	},
	{ 0 }
};
