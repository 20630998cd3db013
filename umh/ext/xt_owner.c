// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <linux/netfilter/xt_owner.h>

#include "rows.h"

/* As the kernel has it where the namespace is that of the initial users. */
static bool ids_ok(__u32 min, __u32 max)
{
	return min <= max && max != (__u32)-1;
}

static int owner_lower(struct ext_ctx *c, const void *data)
{
	const struct xt_owner_match_info *m = data;
	struct ir_pred *p;

	if (m->match & ~XT_OWNER_MASK)
		return ext_fail(c, -EINVAL, "has unknown flags 0x%x", m->match);
	if ((m->match & XT_OWNER_UID) && !ids_ok(m->uid_min, m->uid_max))
		return ext_fail(c, -EINVAL, "has a bad range of users");
	if ((m->match & XT_OWNER_GID) && !ids_ok(m->gid_min, m->gid_max))
		return ext_fail(c, -EINVAL, "has a bad range of groups");
	p = ir_pred_add(c->ir->arena, c->out, IR_P_OWNER);
	p->owner = (struct ir_owner){
		.uid_min = m->uid_min, .uid_max = m->uid_max,
		.gid_min = m->gid_min, .gid_max = m->gid_max,
		.match = m->match, .invert = m->invert,
	};
	return 0;
}

const struct ext_row ext_owner_rows[] = {
	{
		.name = "owner", .rev = 1, .families = EXT_ANY,
		.size = sizeof(struct xt_owner_match_info),
		.hooks = 1 << NF_INET_LOCAL_OUT | 1 << NF_INET_POST_ROUTING,
		.lower = owner_lower, .rather_native = true,
	},
	{ 0 }
};
