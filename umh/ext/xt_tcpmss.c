// SPDX-License-Identifier: GPL-2.0
#include <netinet/in.h>
#include <linux/netfilter/xt_tcpmss.h>

#include "rows.h"

static int tcpmss_lower(struct ext_ctx *c, const void *data)
{
	const struct xt_tcpmss_match_info *m = data;
	int err = ext_flag(c, "invert", m->invert);
	struct ir_pred *p;

	if (err)
		return err;
	p = ir_pred_add(c->ir->arena, c->out, IR_P_TCPMSS);
	p->inv = m->invert;
	p->lo = m->mss_min;
	p->hi = m->mss_max;
	return 0;
}

const struct ext_row ext_tcpmss_rows[] = {
	{
		.name = "tcpmss", .families = EXT_ANY,
		.size = sizeof(struct xt_tcpmss_match_info), .proto = IPPROTO_TCP,
		.lower = tcpmss_lower,
	},
	{ 0 }
};
