// SPDX-License-Identifier: GPL-2.0
/*
 * struct pkt: a slot for each field that the ruleset looks at, and no other.
 */
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/xt_conntrack.h>
#include <string.h>

#include "cg.h"
#include "classify.h"
#include "kfeat.h"

#define NAT_STATES (XT_CONNTRACK_STATE_SNAT | XT_CONNTRACK_STATE_DNAT)

static void want(short *slot)
{
	if (*slot < 0)
		*slot = 0;
}

static void want_l4(struct cg *g)
{
	want(&g->slot[SLOT_L4OFF]);
	want(&g->slot[SLOT_L4LEN]);
	want(&g->slot[SLOT_FRAGOFF]);
	if (cg_v6(g))
		want(&g->slot[SLOT_PROTO6]);
}

/* Where the module is, there is nothing that the helper sends. */
static void want_self(struct cg *g)
{
	if (!g->fl->yields)
		want(&g->slot[SLOT_SELF]);
}

static void want_event(struct cg *g)
{
	want(&g->slot[SLOT_EVENT]);
	want(&g->slot[SLOT_ANSWER]);
	want_self(g);
}

static void want_field(struct cg *g, int f)
{
	want(&g->field[f]);
	switch (f) {
	case IR_FRAGOFF:
		want(&g->slot[SLOT_FRAGOFF]);
		break;
	case IR_SPORT:
	case IR_DPORT:
	case IR_TCPFLAGS:
	case IR_ICMP:
		want_l4(g);
		break;
	}
	if (f >= IR_CT)
		want_self(g);
	if (f > IR_CTSTATE)
		want(&g->field[IR_CT]);
}

static void want_pred(struct cg *g, const struct ir_pred *p)
{
	switch (p->kind) {
	case IR_P_RANGE:
		want_field(g, p->field);
		if (p->field == IR_CTSTATE && (p->mask & NAT_STATES))
			g->ctnat = true;
		break;
	case IR_P_ADDR6:
	case IR_P_RANGE6:
		want(&g->field6[p->field]);
		if (p->field >= IR6_CTORIGSRC) {
			want(&g->field[IR_CT]);
			want_self(g);
		}
		break;
	case IR_P_PROTO:
		want(&g->slot[SLOT_PROTO6]);
		break;
	case IR_P_IFACE:
		want(&g->slot[p->field ? SLOT_OFACE : SLOT_IFACE]);
		break;
	case IR_P_TCPOPT:
	case IR_P_TCPMSS:
		want(&g->slot[SLOT_SCRATCH]);
		want_l4(g);
		break;
	case IR_P_L4:
		want_l4(g);
		break;
	case IR_P_PORTS:
		if (p->src)
			want_field(g, IR_SPORT);
		if (p->dst)
			want_field(g, IR_DPORT);
		break;
	case IR_P_ADDRTYPE:
		want(&g->slot[SLOT_SCRATCH]);
		want(&g->slot[SLOT_ADDRTYPE]);
		want(&g->field[p->field ? IR_DADDR : IR_SADDR]);
		break;
	case IR_P_OWNER:
		want(&g->slot[SLOT_SCRATCH]);
		want_self(g);
		want(cg_v6(g) ? &g->slot[SLOT_PROTO6] : &g->field[IR_PROTO]);
		break;
	}
}

static void want_part(struct cg *g, const struct cl_part *p)
{
	static const __u8 fields[CL_NFIELDS] = {
		[CL_SADDR] = IR_SADDR, [CL_DADDR] = IR_DADDR, [CL_SPORT] = IR_SPORT,
		[CL_DPORT] = IR_DPORT, [CL_SMAC] = IR_SMAC,
	};

	if (p->field == CL_CHAIN)
		return;			/* it is in its chain's slot */
	if (p->field == CL_IFACE || p->field == CL_OFACE)
		want(&g->slot[p->field == CL_OFACE ? SLOT_OFACE : SLOT_IFACE]);
	else if (p->field <= CL_DADDR && cg_v6(g))
		want(&g->field6[p->field == CL_SADDR ? IR6_SADDR : IR6_DADDR]);
	else
		want_field(g, fields[p->field]);
}

static void want_group(struct cg *g, const struct ir_group *gr)
{
	if (gr->sieve[CL_SADDR].bits || gr->sieve[CL_DADDR].bits)
		want(&g->slot[SLOT_SIEVE]);
	for (__u32 i = 0; i < gr->nfamilies; i++) {
		const struct cl_family *f = &gr->families[i];

		if (f->deep)
			want(&g->slot[SLOT_LIST]);
		for (int k = 0; k < f->nconds; k++)
			want_pred(g, &gr->conds[f->conds[k]].p);
		for (int k = 0; k < f->nparts; k++)
			want_part(g, &f->parts[k]);
	}
	for (__u32 i = 0; i < gr->nacts && !g->fl->early; i++)
		if (gr->acts[i].action == IR_A_LOG || gr->acts[i].action == IR_A_REJECT)
			want_event(g);
}

static void want_rule(struct cg *g, const struct ir_table *t, const struct ir_rule *r)
{
	if (r->action == IR_A_LOOKUP) {
		want(&g->slot[SLOT_BEST]);
		want_group(g, &t->groups[r->arg]);
	}
	for (int i = 0; i < r->npreds; i++)
		want_pred(g, &r->preds[i]);
	if (!g->fl->early && (r->action == IR_A_LOG || r->action == IR_A_REJECT))
		want_event(g);
}

static int slot_size(enum cg_slot s)
{
	switch (s) {
	case SLOT_IFACE:
	case SLOT_OFACE:
		return 16;
	case SLOT_EVENT:
		return 48;
	case SLOT_SCRATCH:
		return 64;
	case SLOT_MATCHES:
		return 4 * CG_MATCHES;
	default:
		return 8;
	}
}

static void give(struct cg *g, short *slot, int size)
{
	if (*slot < 0)
		return;
	*slot = g->frame;
	g->frame += size;
}

static bool any_chain(const struct cg *g, int hook)
{
	for (int t = 0; t < g->ntabs; t++)
		if (g->tabs[t].ir->base_chain[hook] >= 0)
			return true;
	return false;
}

static void want_early(struct cg *g)
{
	want(&g->slot[SLOT_NMATCH]);
	want(&g->slot[SLOT_MATCHES]);
	want(&g->slot[SLOT_COUNTER]);
	if (!kfeat()->casts)
		want(&g->slot[SLOT_CTX]);
	if (cg_v6(g)) {
		want(&g->slot[SLOT_PROTO6]);
		want(&g->field6[IR6_SADDR]);
		want(&g->field6[IR6_DADDR]);
	} else {
		want(&g->field[IR_SADDR]);
		want(&g->field[IR_DADDR]);
		want(&g->field[IR_PROTO]);
	}
	want(&g->field[IR_PKTTYPE]);
	if (any_chain(g, NF_INET_FORWARD))
		want(&g->field[IR_TTL]);
	if (g->facts->conntrack) {
		want(&g->slot[SLOT_CTDONE]);
		want(&g->slot[SLOT_ICMPERR]);
		want_field(g, IR_SPORT);
		want_field(g, IR_DPORT);
	}
}

int cg_layout(struct cg *g)
{
	memset(g->field, -1, sizeof(g->field));
	memset(g->field6, -1, sizeof(g->field6));
	memset(g->slot, -1, sizeof(g->slot));
	want(&g->slot[SLOT_HOOK]);
	want(&g->slot[SLOT_PKTLEN]);
	if (g->again)
		want(&g->slot[SLOT_PC]);
	if (g->native)
		want(&g->slot[SLOT_NATIVE]);
	if (g->fl->early)
		want_early(g);
	for (int t = 0; t < g->ntabs; t++)
		for (__u32 i = 0; i < g->tabs[t].norder; i++) {
			const struct ir_chain *c = &g->tabs[t].ir->chains[g->tabs[t].order[i]];

			for (__u32 r = 0; r < c->nrules; r++)
				want_rule(g, g->tabs[t].ir, &c->rules[r]);
		}
	if (g->slot[SLOT_PROTO6] >= 0)
		want_l4(g);
	g->frame = 0;
	for (int i = 0; i < CG_NSLOTS; i++)
		if (i != SLOT_EVENT || g->slot[SLOT_SCRATCH] < 0)
			give(g, &g->slot[i], slot_size(i));
	if (g->slot[SLOT_EVENT] >= 0 && g->slot[SLOT_SCRATCH] >= 0)
		g->slot[SLOT_EVENT] = g->slot[SLOT_SCRATCH];	/* never in use at once */
	for (int i = 0; i < IR_NFIELDS; i++)
		give(g, &g->field[i], 8);
	for (int i = 0; i < IR6_NFIELDS; i++)
		give(g, &g->field6[i], 16);
	g->ret = g->frame;
	g->frame += (g->levels * 4 + 7) & ~7;
	if (g->frame > CG_MAX_FRAME)
		return xt_fail(g->err, -EOPNOTSUPP,
			       "%s: chains that are jumped to from several places nest %d deep, more than a program has room for besides what the rules look at",
			       g->tabs[0].ir->table->name, g->levels);
	return 0;
}

void cg_init_frame(struct cg *g)
{
	for (int i = 0; i < g->frame && !kfeat()->loose_stack; i += 8)
		sti(&g->e, U64, R10, i - g->frame, 0);
}

void ld_field(struct cg *g, int dst, enum ir_field f)
{
	ld(&g->e, U64, dst, R6, g->field[f]);
}

void ld_slot(struct cg *g, int dst, enum cg_slot s)
{
	ld(&g->e, U64, dst, R6, g->slot[s]);
}

void set_field(struct cg *g, enum ir_field f, int src)
{
	if (g->field[f] >= 0)
		st(&g->e, U64, R10, g->field[f] - g->frame, src);
}

void set_slot(struct cg *g, enum cg_slot s, int src)
{
	if (g->slot[s] >= 0)
		st(&g->e, U64, R10, g->slot[s] - g->frame, src);
}

void packet_load(struct cg *g, int size, int dst, int ptr, int off)
{
	ld(&g->e, size, dst, ptr, off);
}

void load_field(struct cg *g, enum ir_field f, load_fn load, int size, int ptr, int off, int bits)
{
	if (g->field[f] < 0)
		return;
	load(g, size, R3, ptr, off);
	if (bits)
		bswap(&g->e, R3, bits);
	set_field(g, f, R3);
}

void load_field6(struct cg *g, enum ir_field6 f, load_fn load, int ptr, int off)
{
	for (int i = 0; i < 16 && g->field6[f] >= 0; i += 8) {
		load(g, U64, R3, ptr, off + i);
		bswap(&g->e, R3, 64);
		st(&g->e, U64, R10, g->field6[f] + i - g->frame, R3);
	}
}

void clear_slot(struct cg *g, short slot, int size)
{
	for (int i = 0; i < size && slot >= 0; i += 8)
		sti(&g->e, U64, R10, slot + i - g->frame, 0);
}
