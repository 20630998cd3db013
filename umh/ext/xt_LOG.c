// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <linux/netfilter/xt_LOG.h>
#include <string.h>

#include "rows.h"

_Static_assert(sizeof(((struct xt_log_info *)0)->prefix) == sizeof(((struct ir_log *)0)->prefix),
	       "prefixes of one size");

static int log_lower(struct ext_ctx *c, const void *data)
{
	const struct xt_log_info *m = data;
	struct ir_log l = { .level = m->level, .flags = m->logflags };

	if (m->level >= 8)
		return ext_fail(c, -EINVAL, "has a level above 7, %u", m->level);
	if (m->prefix[sizeof(m->prefix) - 1])
		return ext_fail(c, -EINVAL, "has a prefix without end");
	memcpy(l.prefix, m->prefix, strlen(m->prefix));
	c->out->action = IR_A_LOG;
	c->out->arg = ext_add_log(c, &l);
	return 0;
}

const struct ext_row ext_log_rows[] = {
	{
		.name = "LOG", .families = EXT_ANY, .size = sizeof(struct xt_log_info),
		.lower = log_lower, .rather_native = true,
	},
	{ 0 }
};
