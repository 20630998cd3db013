// SPDX-License-Identifier: GPL-2.0
/*
 * Predicates.  Each loads what it tests afresh: what the verifier learns from
 * a comparison is then forgotten, and rules do not multiply its states.
 */
#include <endian.h>
#include <errno.h>
#include <linux/netfilter/xt_owner.h>
#include <string.h>

#include "cg.h"
#include "probe.h"

/* Goes to @miss unless lo <= r1 <= hi (inverted: if so), 32 bits wide; spoils r1. */
static void range32(struct cg *g, __u32 lo, __u32 hi, bool inv, __u32 miss)
{
	struct emit *e = &g->e;

	if (lo == hi) {
		jmpi32(e, inv ? BPF_JEQ : BPF_JNE, R1, lo, miss);
		return;
	}
	if (lo)
		alui32(e, BPF_SUB, R1, lo);
	jmpi32(e, inv ? BPF_JLE : BPF_JGT, R1, hi - lo, miss);
}

static void range64(struct cg *g, __u64 lo, __u64 hi, bool inv, __u32 miss)
{
	struct emit *e = &g->e;

	ldimm64(e, R2, lo);
	if (lo == hi) {
		jmp(e, inv ? BPF_JEQ : BPF_JNE, R1, R2, miss);
		return;
	}
	alu(e, BPF_SUB, R1, R2);
	ldimm64(e, R2, hi - lo);
	jmp(e, inv ? BPF_JLE : BPF_JGT, R1, R2, miss);
}

static void pred_range(struct cg *g, const struct ir_pred *p, __u32 miss)
{
	struct emit *e = &g->e;
	bool wide = ir_field_bits[p->field] > 32;

	if (wide) {
		ld_field(g, R1, p->field);
		ldimm64(e, R2, p->mask);
		alu(e, BPF_AND, R1, R2);
		range64(g, p->lo, p->hi, p->inv, miss);
		return;
	}
	if (p->lo > 0xffffffff || p->lo > p->hi) {	/* never within */
		if (!p->inv)
			ja(e, miss);
		return;
	}
	ld(e, U32, R1, R6, g->field[p->field]);
	if ((__u32)p->mask != 0xffffffff)
		alui32(e, BPF_AND, R1, p->mask);
	range32(g, p->lo, p->hi > 0xffffffff ? 0xffffffff : p->hi, p->inv, miss);
}

static __u64 half(const __u8 *v, int i)
{
	__u64 x;

	memcpy(&x, v + 8 * i, 8);
	return be64toh(x);
}

/* Both halves under their masks must agree; an address is two u64 in host order, the first half first. */
static void pred_addr6(struct cg *g, const struct ir_pred *p, __u32 miss)
{
	struct emit *e = &g->e;
	__u32 hit = new_label(e);
	int last = half(p->mask6, 1) ? 1 : 0;

	for (int i = 0; i <= last; i++) {
		__u64 mask = half(p->mask6, i), v = half(p->value6, i);

		if (!mask && !v && i != last)
			continue;
		ld(e, U64, R1, R6, g->field6[p->field] + 8 * i);
		if (~mask) {
			ldimm64(e, R2, mask);
			alu(e, BPF_AND, R1, R2);
		}
		ldimm64(e, R2, v);
		if (!p->inv)
			jmp(e, BPF_JNE, R1, R2, miss);
		else if (i != last)
			jmp(e, BPF_JNE, R1, R2, hit);
		else
			jmp(e, BPF_JEQ, R1, R2, miss);
	}
	place(e, hit);
}

/* r1:r2 against a 128-bit bound: goes to @out if it is below (or above) it. */
static void bound6(struct cg *g, const struct ir_pred *p, const __u8 *b, int below, __u32 out)
{
	struct emit *e = &g->e;
	__u32 in = new_label(e);

	ld(e, U64, R1, R6, g->field6[p->field]);
	ldimm64(e, R2, half(b, 0));
	jmp(e, below ? BPF_JLT : BPF_JGT, R1, R2, out);
	jmp(e, BPF_JNE, R1, R2, in);
	ld(e, U64, R1, R6, g->field6[p->field] + 8);
	ldimm64(e, R2, half(b, 1));
	jmp(e, below ? BPF_JLT : BPF_JGT, R1, R2, out);
	place(e, in);
}

static void pred_range6(struct cg *g, const struct ir_pred *p, __u32 miss)
{
	struct emit *e = &g->e;
	__u32 out = p->inv ? new_label(e) : miss;

	bound6(g, p, p->value6, 1, out);
	bound6(g, p, p->mask6, 0, out);
	if (p->inv) {
		ja(e, miss);
		place(e, out);
	}
}

/* ip6_packet_match(): headers that cannot be walked drop the packet. */
static void pred_proto(struct cg *g, const struct ir_pred *p, __u32 miss)
{
	struct emit *e = &g->e;
	__u32 fine = new_label(e);

	ld(e, U32, R1, R6, g->slot[SLOT_PROTO6]);
	jmpi32(e, BPF_JNE, R1, -1, fine);
	cg_zero(g);
	place(e, fine);
	jmpi32(e, p->inv ? BPF_JEQ : BPF_JNE, R1, p->value, miss);
}

static void pred_iface(struct cg *g, const struct ir_pred *p, __u32 miss)
{
	struct emit *e = &g->e;
	__u32 hit = new_label(e);
	int base = g->slot[p->field ? SLOT_OFACE : SLOT_IFACE];

	if (g->fl->early && p->field) {
		__u32 known = new_label(e);

		/* where a packet that is to be forwarded will leave is not known */
		ld_slot(g, R1, SLOT_HOOK);
		jmpi(e, BPF_JNE, R1, 2, known);
		cg_zero(g);
		place(e, known);
	}
	for (int i = 0; i < 2; i++) {
		__u64 mask, v;

		memcpy(&mask, p->nmask + 8 * i, 8);
		memcpy(&v, p->name + 8 * i, 8);
		if (!mask)
			continue;
		ld(e, U64, R1, R6, base + 8 * i);
		if (~mask) {
			ldimm64(e, R2, mask);
			alu(e, BPF_AND, R1, R2);
		}
		ldimm64(e, R2, v & mask);
		jmp(e, BPF_JNE, R1, R2, p->inv ? hit : miss);
	}
	if (p->inv)
		ja(e, miss);
	place(e, hit);
}

static void pred_l4(struct cg *g, const struct ir_pred *p, __u32 miss)
{
	struct emit *e = &g->e;
	__u32 whole = new_label(e), fits = new_label(e);

	ld_slot(g, R1, SLOT_FRAGOFF);
	jmpi(e, BPF_JEQ, R1, 0, whole);
	if (p->field == IR_L4_TCP) {
		jmpi(e, BPF_JNE, R1, 1, miss);
		cg_zero(g);
	} else {
		ja(e, miss);
	}
	place(e, whole);
	ld_slot(g, R1, SLOT_L4LEN);
	jmpi(e, BPF_JGE, R1, p->len, fits);
	cg_zero(g);
	place(e, fits);
}

static void pred_ports(struct cg *g, const struct ir_pred *p, __u32 miss)
{
	struct emit *e = &g->e;
	__u32 hit = new_label(e);

	for (int side = 0; side < 2; side++) {
		if (!(side ? p->dst : p->src))
			continue;
		ld(e, U32, R1, R6, g->field[side ? IR_DPORT : IR_SPORT]);
		for (int i = 0; i < p->nports; i++) {
			__u32 lo = p->range[i][0], hi = p->range[i][1];

			if (lo > hi)
				continue;
			if (lo == hi) {
				jmpi32(e, BPF_JEQ, R1, lo, hit);
				continue;
			}
			mov(e, R2, R1);
			alui32(e, BPF_SUB, R2, lo);
			jmpi32(e, BPF_JLE, R2, hi - lo, hit);
		}
	}
	if (p->inv) {
		__u32 go = new_label(e);

		ja(e, go);
		place(e, hit);
		ja(e, miss);
		place(e, go);
	} else {
		ja(e, miss);
		place(e, hit);
	}
}

/* Library functions that return 0: no, 1: yes, 2: drop the packet. */
static void told(struct cg *g, const struct ir_pred *p, bool drops, __u32 miss)
{
	struct emit *e = &g->e;

	if (drops) {
		__u32 fine = new_label(e);

		jmpi(e, BPF_JNE, R0, 2, fine);
		cg_zero(g);
		place(e, fine);
	}
	jmpi(e, p->inv ? BPF_JNE : BPF_JEQ, R0, 0, miss);
}

static void pred_tcpopt(struct cg *g, const struct ir_pred *p, __u32 miss)
{
	struct emit *e = &g->e;

	if (p->kind == IR_P_TCPMSS && probe()->tcpmss_whole) {
		ld_slot(g, R1, SLOT_FRAGOFF);
		jmpi(e, BPF_JNE, R1, 0, miss);
	}
	mov(e, R1, R7);
	mov(e, R2, R6);
	movi32(e, R3, p->kind == IR_P_TCPOPT ? p->value : p->lo);
	movi32(e, R4, p->kind == IR_P_TCPOPT ? 0 : p->hi);
	movi(e, R5, 0);
	call_label(e, cg_lib(g, p->kind == IR_P_TCPOPT ? LIB_TCPOPT : LIB_TCPMSS));
	told(g, p, true, miss);
}

/* net/netfilter/xt_limit.c */
static void pred_limit(struct cg *g, const struct cg_table *t, const struct ir_pred *p,
		       __u32 miss)
{
	struct emit *e = &g->e;
	struct limit_cost c = limit_cost(&t->ir->limits[p->index]);

	movi32(e, R1, p->index);
	movi32(e, R2, c.cost);
	movi32(e, R3, c.cap);
	call_label(e, cg_lib(g, LIB_LIMIT));
	told(g, p, false, miss);
}

static void pred_nth(struct cg *g, const struct cg_table *t, const struct ir_pred *p, __u32 miss)
{
	struct emit *e = &g->e;

	movi32(e, R1, t->ir->nlimits + p->index);
	movi32(e, R2, t->ir->nths[p->index].every);
	movi(e, R3, 0);
	call_label(e, cg_lib(g, LIB_NTH));
	told(g, p, false, miss);
}

static void pred_random(struct cg *g, const struct ir_pred *p, __u32 miss)
{
	struct emit *e = &g->e;

	call_helper(e, BPF_FUNC_get_prandom_u32);
	alui32(e, BPF_AND, R0, 0x7fffffff);
	jmpi32(e, p->inv ? BPF_JLT : BPF_JGE, R0, p->value, miss);
}

/*
 * owner_mt(): the flags say what must hold; here @match ^ @invert is what a
 * packet without a socket, or a socket without a file, must not ask for.
 */
static void pred_owner(struct cg *g, const struct ir_pred *p, __u32 miss)
{
	struct emit *e = &g->e;
	const struct ir_owner *o = &p->owner;

	if (g->fl->yields)		/* the module has the kernel's own */
		e->err = e->err ?: -EOPNOTSUPP;
	mov(e, R1, R7);
	mov(e, R2, R6);
	ldimm64(e, R3, (__u64)o->uid_min << 32 | o->uid_max);
	ldimm64(e, R4, (__u64)o->gid_min << 32 | o->gid_max);
	movi32(e, R5, (__u32)o->match << 8 | o->invert);
	call_label(e, cg_lib(g, LIB_OWNER));
	told(g, p, false, miss);
}

/*
 * xt_addrtype.c match_type().  Whatever table asks of the same packet, the answer
 * is kept; of what has left walk for the module it is asked again.
 */
static void pred_addrtype(struct cg *g, const struct ir_pred *p, __u32 miss)
{
	struct emit *e = &g->e;
	int slot = g->slot[SLOT_ADDRTYPE] + 4 * p->field;
	__u32 known = new_label(e);

	ld(e, U32, R0, R6, slot);
	jmpi(e, BPF_JNE, R0, 0, known);
	mov(e, R1, R7);
	mov(e, R2, R6);
	ld(e, U32, R3, R6, g->field[p->field ? IR_DADDR : IR_SADDR]);
	movi(e, R4, 0);
	movi(e, R5, 0);
	call_label(e, cg_lib(g, LIB_ADDRTYPE));
	st(e, U32, R6, slot, R0);
	place(e, known);
	alui32(e, BPF_AND, R0, p->value);
	jmpi(e, p->inv ? BPF_JNE : BPF_JEQ, R0, 0, miss);
}

/* What conntrack_mt() looks at only where there is an entry. */
static bool of_entry(const struct ir_pred *p)
{
	switch (p->kind) {
	case IR_P_RANGE:
		return p->field > IR_CTSTATE;
	case IR_P_ADDR6:
	case IR_P_RANGE6:
		return p->field >= IR6_CTORIGSRC;
	default:
		return false;
	}
}

static void pred(struct cg *g, const struct cg_table *t, const struct ir_pred *p, __u32 miss)
{
	switch (p->kind) {
	case IR_P_RANGE:
		pred_range(g, p, miss);
		break;
	case IR_P_ADDR6:
		pred_addr6(g, p, miss);
		break;
	case IR_P_RANGE6:
		pred_range6(g, p, miss);
		break;
	case IR_P_PROTO:
		pred_proto(g, p, miss);
		break;
	case IR_P_IFACE:
		pred_iface(g, p, miss);
		break;
	case IR_P_L4:
		pred_l4(g, p, miss);
		break;
	case IR_P_PORTS:
		pred_ports(g, p, miss);
		break;
	case IR_P_TCPOPT:
	case IR_P_TCPMSS:
		pred_tcpopt(g, p, miss);
		break;
	case IR_P_LIMIT:
		pred_limit(g, t, p, miss);
		break;
	case IR_P_NTH:
		pred_nth(g, t, p, miss);
		break;
	case IR_P_RANDOM:
		pred_random(g, p, miss);
		break;
	case IR_P_OWNER:
		pred_owner(g, p, miss);
		break;
	case IR_P_ADDRTYPE:
		pred_addrtype(g, p, miss);
		break;
	case IR_P_NATIVE:
		cg_native_match(g, t, p->index, miss);
		break;
	case IR_P_FALSE:	/* inverted: always */
		break;
	case IR_P_BEFORE:
		cg_before(g, t, p, miss);
		break;
	case IR_P_CHAIN:
		ld(&g->e, U32, R1, R6, cg_entry(g, t, p->index));
		jmpi32(&g->e, BPF_JNE, R1, p->value, miss);
		break;
	default:
		g->e.err = g->e.err ?: -EINVAL;
	}
}

void cg_pred(struct cg *g, const struct cg_table *t, const struct ir_pred *p, __u32 miss)
{
	__u32 none;

	if (!of_entry(p)) {
		pred(g, t, p, miss);
		return;
	}
	none = new_label(&g->e);
	ld_field(g, R1, IR_CT);
	jmpi(&g->e, BPF_JEQ, R1, 0, none);
	pred(g, t, p, miss);
	place(&g->e, none);
}
