// SPDX-License-Identifier: GPL-2.0
/*
 * The selectors that every rule has.  The kernel's inversions (NF_INVF) and
 * what it makes of odd masks are kept: see ip_packet_match() and
 * ip6_packet_match().
 */
#include <arpa/inet.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <string.h>

#include "ext.h"

static __u32 get_be32(const void *p)
{
	__u32 v;

	memcpy(&v, p, sizeof(v));
	return ntohl(v);
}

/* IPv4: only the packet's address is masked, not the rule's. */
static void lower_addr4(struct ext_ctx *c, enum ir_field f, const __u8 *addr,
			const __u8 *mask, bool inv)
{
	__u32 v = get_be32(addr);

	ir_range(c->ir->arena, c->out, f, get_be32(mask), v, v, inv);
}

void ext_add_addr6(struct ext_ctx *c, enum ir_field6 f, const void *addr,
		   const void *mask, bool inv)
{
	static const __u8 none[16];
	struct ir_pred *p;

	if (!memcmp(mask, none, sizeof(none))) {
		if (!inv)
			return;
		if (f <= IR6_DADDR)
			ir_pred_add(c->ir->arena, c->out, IR_P_FALSE);
		else
			ir_range(c->ir->arena, c->out, IR_CT, 1, 0, 0, false);
		return;
	}
	p = ir_pred_add(c->ir->arena, c->out, IR_P_ADDR6);
	p->field = f;
	p->inv = inv;
	memcpy(p->mask6, mask, sizeof(p->mask6));
	for (int i = 0; i < 16; i++)
		p->value6[i] = ((const __u8 *)addr)[i] & p->mask6[i];
}

static void lower_iface(struct ext_ctx *c, int dir, const char *name,
			const __u8 *mask, bool inv)
{
	static const __u8 none[IR_IFNAMSIZ];
	struct ir_pred *p;

	if (!memcmp(mask, none, sizeof(none))) {
		if (inv)
			ir_pred_add(c->ir->arena, c->out, IR_P_FALSE);
		return;
	}
	p = ir_pred_add(c->ir->arena, c->out, IR_P_IFACE);
	p->field = dir;
	p->inv = inv;
	memcpy(p->nmask, mask, sizeof(p->nmask));
	for (int i = 0; i < IR_IFNAMSIZ; i++)
		p->name[i] = name[i] & mask[i];
}

static void lower_frag(struct ext_ctx *c, const struct xt_base *b)
{
	bool inv = b->invflags & IPT_INV_FRAG;

	if (b->flags & IPT_F_FRAG)
		ir_range(c->ir->arena, c->out, IR_FRAGOFF, ~0ULL, 0, 0, !inv);
	else if (inv)
		ir_pred_add(c->ir->arena, c->out, IR_P_FALSE);
}

/* The header is looked for even where any would do: then a broken chain of headers still drops. */
static void lower_proto6(struct ext_ctx *c, const struct xt_base *b)
{
	struct ir_pred *p;

	if (!(b->flags & IP6T_F_PROTO))
		return;
	p = ir_pred_add(c->ir->arena, c->out, IR_P_PROTO);
	p->value = b->proto;
	p->inv = !b->proto || (b->invflags & IP6T_INV_PROTO);
}

void lower_base(struct ext_ctx *c)
{
	const struct xt_base *b = &c->rule->base;
	bool inv_src = b->invflags & IPT_INV_SRCIP, inv_dst = b->invflags & IPT_INV_DSTIP;
	bool v6 = c->rs->family == &xt_family_ip6;

	if (v6) {
		ext_add_addr6(c, IR6_SADDR, b->src, b->smsk, inv_src);
		ext_add_addr6(c, IR6_DADDR, b->dst, b->dmsk, inv_dst);
	} else {
		lower_addr4(c, IR_SADDR, b->src, b->smsk, inv_src);
		lower_addr4(c, IR_DADDR, b->dst, b->dmsk, inv_dst);
	}
	lower_iface(c, 0, b->iniface, b->iniface_mask, b->invflags & IPT_INV_VIA_IN);
	lower_iface(c, 1, b->outiface, b->outiface_mask, b->invflags & IPT_INV_VIA_OUT);
	if (v6) {
		lower_proto6(c, b);
		return;
	}
	if (b->proto)
		ir_range(c->ir->arena, c->out, IR_PROTO, ~0ULL, b->proto, b->proto,
			 b->invflags & IPT_INV_PROTO);
	lower_frag(c, b);
}
