// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <netinet/in.h>
#include <linux/netfilter/xt_sctp.h>

#include "rows.h"

#define CHUNK_MATCHES (SCTP_CHUNK_MATCH_ANY | SCTP_CHUNK_MATCH_ALL | SCTP_CHUNK_MATCH_ONLY)

static int sctp_check(struct ext_ctx *c, const struct xt_sctp_info *m)
{
	if ((__u32)m->flag_count > XT_NUM_SCTP_FLAGS)
		return ext_fail(c, -EINVAL, "has flags of %d chunk types", m->flag_count);
	if ((m->flags | m->invflags) & ~XT_SCTP_VALID_FLAGS)
		return ext_fail(c, -EINVAL, "has unknown flags");
	if (m->invflags & ~m->flags)
		return ext_fail(c, -EINVAL, "inverts what it does not test");
	if ((m->flags & XT_SCTP_CHUNK_TYPES) && !(m->chunk_match_type & CHUNK_MATCHES))
		return ext_fail(c, -EINVAL, "has an unknown way to match chunk types");
	return 0;
}

static int sctp_lower(struct ext_ctx *c, const void *data)
{
	const struct xt_sctp_info *m = data;
	int err = sctp_check(c, m);

	if (err)
		return err;
	if (m->flags & XT_SCTP_CHUNK_TYPES)
		return ext_fail(c, -EOPNOTSUPP, "has no compiled form of chunk types");
	err = ext_add_l4(c, IR_L4_PLAIN, 12);
	if (err)
		return err;
	if (m->flags & XT_SCTP_SRC_PORTS)
		ext_add_range(c, IR_SPORT, m->spts[0], m->spts[1],
			      m->invflags & XT_SCTP_SRC_PORTS);
	if (m->flags & XT_SCTP_DEST_PORTS)
		ext_add_range(c, IR_DPORT, m->dpts[0], m->dpts[1],
			      m->invflags & XT_SCTP_DEST_PORTS);
	return 0;
}

const struct ext_row ext_sctp_rows[] = {
	{
		.name = "sctp", .families = EXT_ANY, .size = sizeof(struct xt_sctp_info),
		.proto = IPPROTO_SCTP, .lower = sctp_lower,
	},
	{ 0 }
};
