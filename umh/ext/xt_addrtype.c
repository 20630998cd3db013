// SPDX-License-Identifier: GPL-2.0
/*
 * net/netfilter/xt_addrtype.c.  Of IPv4 an address has one type, that of the
 * route that the table "local" has for it; a match names some.  Of IPv6 several
 * types must hold at once, and some of them are told by the address alone.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/xt_addrtype.h>
#include <linux/rtnetlink.h>

#include "../kfib.h"
#include "rows.h"

/* A lookup fails at routes of the other types, and what has no route is UNICAST. */
#define FOUND (XT_ADDRTYPE_UNSPEC | XT_ADDRTYPE_UNICAST | XT_ADDRTYPE_LOCAL | \
	       XT_ADDRTYPE_BROADCAST | XT_ADDRTYPE_ANYCAST | XT_ADDRTYPE_MULTICAST)

/* IPv6: what the address says, and it says but one of them; what its route says. */
#define SAID6 (XT_ADDRTYPE_UNSPEC | XT_ADDRTYPE_UNICAST | XT_ADDRTYPE_MULTICAST)
#define ROUTE6 (XT_ADDRTYPE_LOCAL | XT_ADDRTYPE_ANYCAST | XT_ADDRTYPE_UNREACHABLE)

#define LIMITS (XT_ADDRTYPE_LIMIT_IFACE_IN | XT_ADDRTYPE_LIMIT_IFACE_OUT)

static int never(struct ext_ctx *c, bool inv)
{
	if (!inv)
		ir_pred_add(c->ir->arena, c->out, IR_P_FALSE);
	return 0;
}

/* __inet_dev_addr_type(): any of @types */
static int add_type(struct ext_ctx *c, bool dst, __u16 types, bool inv, bool limited)
{
	const char *lacks;
	struct ir_pred *p;

	if (!types)
		return 0;
	if (!(types & FOUND))
		return never(c, inv);
	if (limited)
		return ext_fail(c, -EOPNOTSUPP,
				"is limited to an interface, whose VRF may have a table of its own");
	lacks = kfib_lacks();
	if (lacks)
		return ext_fail(c, -EOPNOTSUPP, "needs the kernel's routes, but it has no %s",
				lacks);
	p = ir_pred_add(c->ir->arena, c->out, IR_P_ADDRTYPE);
	p->field = dst;
	p->value = types & FOUND;
	p->inv = inv;
	return 0;
}

/* net/ipv6/addrconf_core.c __ipv6_addr_type(): all but ::, ::ffff:0:0/96, ff00::/8 are unicast */
static int add_said6(struct ext_ctx *c, enum ir_field6 f, __u16 type, bool inv)
{
	static const struct in6_addr any, all = { .s6_addr = { [0 ... 15] = 0xff } };
	static const struct in6_addr multicast = { .s6_addr = { 0xff } };
	static const struct in6_addr mapped = { .s6_addr = { [10] = 0xff, [11] = 0xff } };
	static const struct in6_addr mapped_mask = { .s6_addr = { [0 ... 11] = 0xff } };

	switch (type) {
	case XT_ADDRTYPE_UNSPEC:
		ext_add_addr6(c, f, &any, &all, inv);
		return 0;
	case XT_ADDRTYPE_MULTICAST:
		ext_add_addr6(c, f, &multicast, &multicast, inv);
		return 0;
	}
	if (inv)
		return ext_fail(c, -EOPNOTSUPP, "is about all that is not UNICAST");
	ext_add_addr6(c, f, &any, &all, true);
	ext_add_addr6(c, f, &mapped, &mapped_mask, true);
	ext_add_addr6(c, f, &multicast, &multicast, true);
	return 0;
}

/* match_type6() */
static int add_type6(struct ext_ctx *c, bool dst, __u16 types, bool inv)
{
	__u16 said = types & SAID6;

	if (!types)
		return 0;
	if (said & (said - 1))
		return never(c, inv);
	if (types & ROUTE6)
		return ext_fail(c, -EOPNOTSUPP, "needs a lookup of IPv6 routes");
	return add_said6(c, dst ? IR6_DADDR : IR6_SADDR, said, inv);
}

/* addrtype_mt_checkentry_v1() */
static int check(struct ext_ctx *c, const struct xt_addrtype_info_v1 *m)
{
	const __u32 no_out = 1 << NF_INET_PRE_ROUTING | 1 << NF_INET_LOCAL_IN;
	const __u32 no_in = 1 << NF_INET_POST_ROUTING | 1 << NF_INET_LOCAL_OUT;
	__u16 types = m->source | m->dest;

	if ((m->flags & LIMITS) == LIMITS)
		return ext_fail(c, -EINVAL, "is limited to both interfaces");
	if (m->flags & XT_ADDRTYPE_LIMIT_IFACE_OUT && c->hooks & no_out)
		return ext_fail(c, -EINVAL,
				"is limited to the output interface in PREROUTING or INPUT");
	if (m->flags & XT_ADDRTYPE_LIMIT_IFACE_IN && c->hooks & no_in)
		return ext_fail(c, -EINVAL,
				"is limited to the input interface in OUTPUT or POSTROUTING");
	if (c->rs->family == &xt_family_ip6 &&
	    (types & (XT_ADDRTYPE_BLACKHOLE | XT_ADDRTYPE_BROADCAST) ||
	     types >= XT_ADDRTYPE_PROHIBIT))
		return ext_fail(c, -EINVAL, "has types that IPv6 does not have, 0x%x", types);
	return 0;
}

static int addrtype_lower_v1(struct ext_ctx *c, const void *data)
{
	const struct xt_addrtype_info_v1 *m = data;
	bool inv_src = m->flags & XT_ADDRTYPE_INVERT_SOURCE;
	bool inv_dst = m->flags & XT_ADDRTYPE_INVERT_DEST, limited = m->flags & LIMITS;
	int err = check(c, m);

	if (err)
		return err;
	if (c->rs->family == &xt_family_ip6)
		return add_type6(c, false, m->source, inv_src) ?:
		       add_type6(c, true, m->dest, inv_dst);
	return add_type(c, false, m->source, inv_src, limited) ?:
	       add_type(c, true, m->dest, inv_dst, limited);
}

static int addrtype_lower_v0(struct ext_ctx *c, const void *data)
{
	const struct xt_addrtype_info *m = data;

	return ext_flag(c, "invert_source", m->invert_source) ?:
	       ext_flag(c, "invert_dest", m->invert_dest) ?:
	       add_type(c, false, m->source, m->invert_source, false) ?:
	       add_type(c, true, m->dest, m->invert_dest, false);
}

const struct ext_row ext_addrtype_rows[] = {
	{
		.name = "addrtype", .rev = 0, .families = EXT_IP,
		.size = sizeof(struct xt_addrtype_info), .lower = addrtype_lower_v0,
	},
	{
		.name = "addrtype", .rev = 1, .families = EXT_ANY,
		.size = sizeof(struct xt_addrtype_info_v1), .lower = addrtype_lower_v1,
	},
	{ 0 }
};
