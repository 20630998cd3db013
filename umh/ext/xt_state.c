// SPDX-License-Identifier: GPL-2.0
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/xt_conntrack.h>
#include <linux/netfilter/xt_state.h>

#include "rows.h"

/* INVALID, ESTABLISHED, RELATED and NEW are the same bits in xt_state and xt_conntrack. */
#define COMMON_BITS 0xf

static int state_lower(struct ext_ctx *c, const void *data)
{
	const struct xt_state_info *m = data;
	__u32 mask = m->statemask & COMMON_BITS;

	if (m->statemask & XT_STATE_UNTRACKED)
		mask |= XT_CONNTRACK_STATE_UNTRACKED;
	ext_add_ctstate(c, mask, false);
	return 0;
}

const struct ext_row ext_state_rows[] = {
	{
		.name = "state", .families = EXT_ANY, .size = sizeof(struct xt_state_info),
		.lower = state_lower,
	},
	{ 0 }
};
