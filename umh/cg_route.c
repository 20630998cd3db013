// SPDX-License-Identifier: GPL-2.0
/*
 * Where a packet goes behind PREROUTING: to INPUT, to FORWARD, or that cannot
 * be told.  Not told is what routing may refuse before either hook.  In walk:
 * r6 is pkt, r7 the context, r9 spare.
 */
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/netfilter.h>
#include <stddef.h>
#include <sys/socket.h>

#include "cg.h"

#define FIB(member) (-(int)sizeof(struct bpf_fib_lookup) + \
		     (int)offsetof(struct bpf_fib_lookup, member))

static __u64 be(const __u8 *p, int n)
{
	__u64 v = 0;

	for (int i = 0; i < n; i++)
		v = v << 8 | p[i];
	return v;
}

static void if_local6(struct cg *g, int field, const __u8 *a, __u32 yes)
{
	struct emit *e = &g->e;
	__u32 no = new_label(e);

	ld(e, U64, R1, R6, field);
	ldimm64(e, R2, be(a, 8));
	jmp(e, BPF_JNE, R1, R2, no);
	ld(e, U64, R1, R6, field + 8);
	ldimm64(e, R2, be(a + 8, 8));
	jmp(e, BPF_JEQ, R1, R2, yes);
	place(e, no);
}

/* Goes to @yes if the source (or destination) is one of the namespace's own addresses. */
static void if_local(struct cg *g, bool source, __u32 yes)
{
	if (!cg_v6(g))
		ld(&g->e, U32, R1, R6, g->field[source ? IR_SADDR : IR_DADDR]);
	for (__u32 i = 0; i < g->facts->nlocal; i++) {
		const __u8 *a = g->facts->local[i];

		if (cg_v6(g))
			if_local6(g, g->field6[source ? IR6_SADDR : IR6_DADDR], a, yes);
		else
			jmpi32(&g->e, BPF_JEQ, R1, be(a, 4), yes);
	}
}

/* Loopback, multicast, broadcast, 0/8: ip_route_input_slow() has its own ideas of these. */
static void plain_ip(struct cg *g, enum ir_field f, __u32 unknown)
{
	struct emit *e = &g->e;

	ld(e, U32, R1, R6, g->field[f]);
	alui32(e, BPF_RSH, R1, 24);
	jmpi32(e, BPF_JEQ, R1, 0, unknown);
	jmpi32(e, BPF_JEQ, R1, 127, unknown);
	jmpi32(e, BPF_JGE, R1, 224, unknown);
}

/* An address of this kind is local on one device only. */
static void link_local6(struct cg *g, __u32 unknown)
{
	struct emit *e = &g->e;

	ld(e, U64, R1, R6, g->field6[IR6_DADDR]);
	alui(e, BPF_RSH, R1, 54);
	jmpi(e, BPF_JEQ, R1, 0xfe80 >> 6, unknown);
}

static void fib_addr(struct cg *g, enum ir_field f, enum ir_field6 f6, int at)
{
	struct emit *e = &g->e;

	if (!cg_v6(g)) {
		ld_field(g, R1, f);
		bswap(e, R1, 32);
		st(e, U32, R10, at, R1);
		return;
	}
	for (int i = 0; i < 16; i += 8) {
		ld(e, U64, R1, R6, g->field6[f6] + i);
		bswap(e, R1, 64);
		st(e, U32, R10, at + i, R1);
		alui(e, BPF_RSH, R1, 32);
		st(e, U32, R10, at + i + 4, R1);
	}
}

static void fib_lookup(struct cg *g, bool reverse)
{
	struct emit *e = &g->e;

	for (int i = -(int)sizeof(struct bpf_fib_lookup); i < 0; i += 8)
		sti(e, U64, R10, i, 0);
	sti(e, U8, R10, FIB(family), cg_v6(g) ? AF_INET6 : AF_INET);
	fib_addr(g, IR_SADDR, IR6_SADDR, reverse ? FIB(ipv4_dst) : FIB(ipv4_src));
	fib_addr(g, IR_DADDR, IR6_DADDR, reverse ? FIB(ipv4_src) : FIB(ipv4_dst));
	if (!reverse) {
		if (cg_v6(g))
			ld_slot(g, R1, SLOT_PROTO6);
		else
			ld_field(g, R1, IR_PROTO);
		st(e, U8, R10, FIB(l4_protocol), R1);
		ld_slot(g, R1, SLOT_PKTLEN);
		st(e, U16, R10, FIB(tot_len), R1);
	}
	cg_early_ifindex(g, R1, R7);
	mov(e, R9, R1);
	st(e, U32, R10, FIB(ifindex), R1);
	mov(e, R1, R7);
	mov(e, R2, R10);
	alui(e, BPF_ADD, R2, -(int)sizeof(struct bpf_fib_lookup));
	movi(e, R3, sizeof(struct bpf_fib_lookup));
	movi(e, R4, 0);
	call_helper(e, BPF_FUNC_fib_lookup);
}

/* The route exists, whether or not the neighbour is known. */
static void must_route(struct cg *g, __u32 unknown)
{
	struct emit *e = &g->e;
	__u32 ok = new_label(e);

	jmpi(e, BPF_JEQ, R0, BPF_FIB_LKUP_RET_SUCCESS, ok);
	jmpi(e, BPF_JNE, R0, BPF_FIB_LKUP_RET_NO_NEIGH, unknown);
	place(e, ok);
	ld(e, U32, R1, R10, FIB(ifindex));
}

/*
 * fib_validate_source(): none of our addresses, to which there is no way where
 * they are not listed; and, with rp_filter, the way back is through the same
 * device.
 */
static void source_ok(struct cg *g, __u32 unknown)
{
	if_local(g, true, unknown);
	if (!(g->facts->source_check || g->facts->fib) || cg_v6(g))
		return;
	fib_lookup(g, true);
	must_route(g, unknown);
	if (g->facts->source_check)
		jmp32(&g->e, BPF_JNE, R1, R9, unknown);
}

/* ip_forward(), ip6_forward(): what they answer or change before the hook is not told. */
static void if_forward(struct cg *g, __u32 forward, __u32 unknown)
{
	struct emit *e = &g->e;

	ld_field(g, R1, IR_TTL);
	jmpi(e, BPF_JLE, R1, 1, unknown);
	if (cg_v6(g))
		for (int i = 0; i < 2; i++) {
			ld(e, U64, R1, R6, g->field6[i ? IR6_DADDR : IR6_SADDR]);
			alui(e, BPF_RSH, R1, 54);
			jmpi(e, BPF_JEQ, R1, 0xfe80 >> 6, unknown);
		}
	fib_lookup(g, false);
	must_route(g, unknown);
	jmp32(e, BPF_JEQ, R1, R9, unknown);	/* it may send a redirect */
	ja(e, forward);
}

static bool has_chain(const struct cg *g, int hook)
{
	for (int t = 0; t < g->ntabs; t++)
		if (g->tabs[t].ir->base_chain[hook] >= 0)
			return true;
	return false;
}

void cg_route(struct cg *g, __u32 input, __u32 forward, __u32 up)
{
	struct emit *e = &g->e;
	__u32 unknown = new_label(e), begin = new_label(e);

	ja(e, begin);
	place(e, unknown);	/* here, for conditional jumps are short */
	ja(e, up);
	place(e, begin);
	ld_field(g, R1, IR_PKTTYPE);
	jmpi(e, BPF_JNE, R1, PACKET_HOST, unknown);
	if (!cg_v6(g)) {
		plain_ip(g, IR_SADDR, unknown);
		plain_ip(g, IR_DADDR, unknown);
	} else {
		link_local6(g, unknown);
	}
	source_ok(g, unknown);
	if_local(g, false, input);
	if (has_chain(g, NF_INET_FORWARD))
		if_forward(g, forward, unknown);
	else
		ja(e, unknown);
}
