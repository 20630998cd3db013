// SPDX-License-Identifier: GPL-2.0
/*
 * As conntrack_mt() has it: of a packet without an entry only the state is
 * looked at, and without a state to look at it does not match.  The IR's
 * conntrack fields hold where there is no entry, and so do the rest.
 */
#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/xt_conntrack.h>
#include <stddef.h>
#include <string.h>

#include "rows.h"

void ext_add_ctstate(struct ext_ctx *c, __u32 mask, bool inv)
{
	struct ir_pred *p;

	if (mask) {
		ir_range(c->ir->arena, c->out, IR_CTSTATE, mask, 1, mask, inv);
		return;
	}
	p = ir_pred_add(c->ir->arena, c->out, IR_P_RANGE);
	p->field = IR_CT;
	p->mask = p->hi = 1;
	if (!inv)
		ir_pred_add(c->ir->arena, c->out, IR_P_FALSE);
}

static void add_addr(struct ext_ctx *c, enum ir_field f, enum ir_field6 f6,
		     const union nf_inet_addr *addr, const union nf_inet_addr *mask, bool inv)
{
	__u32 m = ntohl(mask->ip), v = ntohl(addr->ip) & m;

	if (c->rs->family == &xt_family_ip6)
		ext_add_addr6(c, f6, addr, mask, inv);
	else
		ir_range(c->ir->arena, c->out, f, m, v, v, inv);
}

static void add_addrs(struct ext_ctx *c, const struct xt_conntrack_mtinfo3 *m)
{
	const struct {
		__u16 flag;
		enum ir_field f;
		enum ir_field6 f6;
		const union nf_inet_addr *addr, *mask;
	} row[] = {
		{ XT_CONNTRACK_ORIGSRC, IR_CTORIGSRC, IR6_CTORIGSRC,
		  &m->origsrc_addr, &m->origsrc_mask },
		{ XT_CONNTRACK_ORIGDST, IR_CTORIGDST, IR6_CTORIGDST,
		  &m->origdst_addr, &m->origdst_mask },
		{ XT_CONNTRACK_REPLSRC, IR_CTREPLSRC, IR6_CTREPLSRC,
		  &m->replsrc_addr, &m->replsrc_mask },
		{ XT_CONNTRACK_REPLDST, IR_CTREPLDST, IR6_CTREPLDST,
		  &m->repldst_addr, &m->repldst_mask },
	};

	for (int i = 0; i < 4; i++)
		if (m->match_flags & row[i].flag)
			add_addr(c, row[i].f, row[i].f6, row[i].addr, row[i].mask,
				 m->invert_flags & row[i].flag);
}

static void add_ports(struct ext_ctx *c, const struct xt_conntrack_mtinfo3 *m)
{
	const struct {
		__u16 flag;
		enum ir_field f;
		__u16 lo, hi;
	} row[] = {
		{ XT_CONNTRACK_PROTO, IR_CTPROTO, m->l4proto, m->l4proto },
		{ XT_CONNTRACK_ORIGSRC_PORT, IR_CTORIGSRCPORT,
		  m->origsrc_port, m->origsrc_port_high },
		{ XT_CONNTRACK_ORIGDST_PORT, IR_CTORIGDSTPORT,
		  m->origdst_port, m->origdst_port_high },
		{ XT_CONNTRACK_REPLSRC_PORT, IR_CTREPLSRCPORT,
		  m->replsrc_port, m->replsrc_port_high },
		{ XT_CONNTRACK_REPLDST_PORT, IR_CTREPLDSTPORT,
		  m->repldst_port, m->repldst_port_high },
	};

	for (int i = 0; i < 5; i++)
		if (m->match_flags & row[i].flag)
			ext_add_range(c, row[i].f, row[i].lo, row[i].hi,
				      m->invert_flags & row[i].flag);
}

static int lower(struct ext_ctx *c, const struct xt_conntrack_mtinfo3 *m)
{
	__u16 f = m->match_flags, inv = m->invert_flags;

	if (f & XT_CONNTRACK_STATE)
		ext_add_ctstate(c, m->state_mask, inv & XT_CONNTRACK_STATE);
	else
		ext_add_range(c, IR_CT, 1, 1, false);
	if (f & XT_CONNTRACK_DIRECTION)
		ext_add_range(c, IR_CTDIR, IP_CT_DIR_ORIGINAL, IP_CT_DIR_ORIGINAL,
			      inv & XT_CONNTRACK_DIRECTION);
	add_addrs(c, m);
	add_ports(c, m);
	if (f & XT_CONNTRACK_STATUS)
		ir_range(c->ir->arena, c->out, IR_CTSTATUS, m->status_mask, 1, m->status_mask,
			 inv & XT_CONNTRACK_STATUS);
	if (f & XT_CONNTRACK_EXPIRES)
		ext_add_range(c, IR_CTEXPIRE, m->expires_min, m->expires_max,
			      inv & XT_CONNTRACK_EXPIRES);
	return 0;
}

/* Revisions 1 and 2 have one port each, in network order. */
static void single_ports(struct xt_conntrack_mtinfo3 *m)
{
	m->origsrc_port = m->origsrc_port_high = ntohs(m->origsrc_port);
	m->origdst_port = m->origdst_port_high = ntohs(m->origdst_port);
	m->replsrc_port = m->replsrc_port_high = ntohs(m->replsrc_port);
	m->repldst_port = m->repldst_port_high = ntohs(m->repldst_port);
}

static int conntrack_lower_v1(struct ext_ctx *c, const void *data)
{
	const struct xt_conntrack_mtinfo1 *m1 = data;
	struct xt_conntrack_mtinfo3 m = { 0 };

	memcpy(&m, m1, offsetof(struct xt_conntrack_mtinfo1, state_mask));
	m.state_mask = m1->state_mask;
	m.status_mask = m1->status_mask;
	single_ports(&m);
	return lower(c, &m);
}

static int conntrack_lower_v2(struct ext_ctx *c, const void *data)
{
	struct xt_conntrack_mtinfo3 m = { 0 };

	memcpy(&m, data, offsetof(struct xt_conntrack_mtinfo3, origsrc_port_high));
	single_ports(&m);
	return lower(c, &m);
}

static int conntrack_lower_v3(struct ext_ctx *c, const void *data)
{
	return lower(c, data);
}

const struct ext_row ext_conntrack_rows[] = {
	{
		.name = "conntrack", .rev = 1, .families = EXT_ANY,
		.size = sizeof(struct xt_conntrack_mtinfo1), .lower = conntrack_lower_v1,
	},
	{
		.name = "conntrack", .rev = 2, .families = EXT_ANY,
		.size = sizeof(struct xt_conntrack_mtinfo2), .lower = conntrack_lower_v2,
	},
	{
		.name = "conntrack", .rev = 3, .families = EXT_ANY,
		.size = sizeof(struct xt_conntrack_mtinfo3), .lower = conntrack_lower_v3,
	},
	{ 0 }
};
