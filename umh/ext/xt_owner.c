// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <linux/netfilter/xt_owner.h>
#include <string.h>

#include "../users.h"
#include "rows.h"

/* owner_check(): the range [*min, *max] in the kernel's numbers. */
static int map_range(struct ext_ctx *c, enum users_kind kind, __u32 *min, __u32 *max)
{
	const char *what = kind == USERS_UID ? "users" : "groups";
	bool ordered = *min <= *max;
	int err = users_map(kind, *min, min) ?: users_map(kind, *max, max);

	if (err == -EOPNOTSUPP)
		return ext_fail(c, err, "names %s, whose namespace cannot be looked at", what);
	if (err || !ordered || *min > *max)
		return ext_fail(c, -EINVAL, "has a bad range of %s", what);
	return 0;
}

static int owner_lower(struct ext_ctx *c, const void *data)
{
	const struct xt_owner_match_info *m = data;
	struct ir_owner o = {
		.uid_min = m->uid_min, .uid_max = m->uid_max,
		.gid_min = m->gid_min, .gid_max = m->gid_max,
		.match = m->match, .invert = m->invert,
	};
	int err = 0;

	if (m->match & ~XT_OWNER_MASK)
		return ext_fail(c, -EINVAL, "has unknown flags 0x%x", m->match);
	if (m->match & XT_OWNER_UID)
		err = map_range(c, USERS_UID, &o.uid_min, &o.uid_max);
	if (!err && (m->match & XT_OWNER_GID))
		err = map_range(c, USERS_GID, &o.gid_min, &o.gid_max);
	if (!err)
		ir_pred_add(c->ir->arena, c->out, IR_P_OWNER)->owner = o;
	return err;
}

bool ext_names_users(const struct xt_ruleset *rs)
{
	const struct xt_owner_match_info *m;

	for (__u32 i = 0; i < rs->nrules; i++)
		for (__u32 k = 0; k < rs->rules[i].nmatches; k++) {
			const struct xt_part *p = &rs->rules[i].matches[k];

			m = p->data;
			if (!strcmp(p->name, "owner") && p->rev == 1 && p->size >= sizeof(*m) &&
			    m->match & (XT_OWNER_UID | XT_OWNER_GID))
				return true;
		}
	return false;
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
