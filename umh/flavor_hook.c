// SPDX-License-Identifier: GPL-2.0
/*
 * BPF_PROG_TYPE_SCHED_CLS, called by the module at the netfilter hooks, as
 * xtjit_dev.h has it.  In the prologue: r6 context, r7 packet, r9 its end.
 */
#include <linux/if_packet.h>
#include <linux/netfilter.h>
#include <stddef.h>

#include "cg.h"
#include "kfeat.h"

#define SKB(member) ((int)offsetof(struct __sk_buff, member))
#define RUN(member) ((int)offsetof(struct xtjit_run, member))
#define MAX_L4OFF 0x7fff	/* the verifier's limit of offsets in a packet is twice as much */

static int l3(const struct cg *g)
{
	return g->env->l3off;
}

static int header_len(const struct cg *g)
{
	return cg_v6(g) ? 40 : 20;
}

static void header_ip(struct cg *g)
{
	struct emit *e = &g->e;

	load_field(g, IR_SADDR, packet_load, U32, R7, l3(g) + 12, 32);
	load_field(g, IR_DADDR, packet_load, U32, R7, l3(g) + 16, 32);
	load_field(g, IR_PROTO, packet_load, U8, R7, l3(g) + 9, 0);
	load_field(g, IR_DSFIELD, packet_load, U8, R7, l3(g) + 1, 0);
	load_field(g, IR_TTL, packet_load, U8, R7, l3(g) + 8, 0);
	if (g->field[IR_LEN] >= 0) {
		ld(e, U16, R3, R7, l3(g) + 2);
		bswap(e, R3, 16);
		cg_length(g);
	}
	if (g->slot[SLOT_FRAGOFF] >= 0) {
		ld(e, U16, R3, R7, l3(g) + 6);
		bswap(e, R3, 16);
		alui(e, BPF_AND, R3, 0x1fff);
		set_slot(g, SLOT_FRAGOFF, R3);
		set_field(g, IR_FRAGOFF, R3);
	}
	if (cg_wants_l4(g)) {
		ld(e, U8, R8, R7, l3(g));
		alui(e, BPF_AND, R8, 15);
		alui(e, BPF_LSH, R8, 2);
		set_slot(g, SLOT_L4OFF, R8);
	}
}

static void header_ip6(struct cg *g)
{
	struct emit *e = &g->e;

	load_field6(g, IR6_SADDR, packet_load, R7, l3(g) + 8);
	load_field6(g, IR6_DADDR, packet_load, R7, l3(g) + 24);
	load_field(g, IR_TTL, packet_load, U8, R7, l3(g) + 7, 0);
	if (g->field[IR_DSFIELD] >= 0) {
		ld(e, U16, R3, R7, l3(g));
		bswap(e, R3, 16);
		alui(e, BPF_RSH, R3, 4);
		alui(e, BPF_AND, R3, 0xff);
		set_field(g, IR_DSFIELD, R3);
	}
	if (g->field[IR_LEN] >= 0) {
		ld(e, U16, R3, R7, l3(g) + 4);
		bswap(e, R3, 16);
		cg_length(g);
	}
	if (g->slot[SLOT_PROTO6] >= 0) {
		ld(e, U8, R8, R7, l3(g) + 6);
		cg_proto6(g);
	}
}

static bool wants_l4_fields(const struct cg *g)
{
	return g->field[IR_SPORT] >= 0 || g->field[IR_DPORT] >= 0 || g->field[IR_ICMP] >= 0 ||
	       g->field[IR_TCPFLAGS] >= 0;
}

/* r8: offset of the transport header.  What of it is not in linear memory is copied. */
static void header_l4(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 done = new_label(e), positive = new_label(e), slow = new_label(e);
	int need = g->field[IR_TCPFLAGS] >= 0 ? 14 : 4;

	ld(e, U64, R3, R10, g->slot[SLOT_PKTLEN] - g->frame);
	alu(e, BPF_SUB, R3, R8);
	jmpi(e, BPF_JSGE, R3, 0, positive);
	movi(e, R3, 0);
	place(e, positive);
	set_slot(g, SLOT_L4LEN, R3);
	if (!wants_l4_fields(g))
		return;
	jmpi(e, BPF_JLT, R3, 4, done);
	jmpi(e, BPF_JGT, R8, MAX_L4OFF, slow);
	mov(e, R5, R7);
	alu(e, BPF_ADD, R5, R8);
	mov(e, R3, R5);
	alui(e, BPF_ADD, R3, l3(g) + need);
	jmp(e, BPF_JGT, R3, R9, slow);
	ld(e, U16, R3, R5, l3(g));
	bswap(e, R3, 16);
	set_field(g, IR_SPORT, R3);
	set_field(g, IR_ICMP, R3);
	if (g->field[IR_DPORT] >= 0) {
		ld(e, U16, R3, R5, l3(g) + 2);
		bswap(e, R3, 16);
		set_field(g, IR_DPORT, R3);
	}
	if (g->field[IR_TCPFLAGS] >= 0) {
		ld(e, U8, R3, R5, l3(g) + 13);
		set_field(g, IR_TCPFLAGS, R3);
	}
	ja(e, done);
	place(e, slow);
	mov(e, R1, R6);
	mov(e, R2, R10);
	alui(e, BPF_ADD, R2, -g->frame);
	call_label(e, cg_lib(g, LIB_L4));
	place(e, done);
}

static void load_run(struct cg *g, int dst)
{
	ld(&g->e, U64, dst, R6, SKB(cb[0]));
}

/* The names are next to each other in both places, and so are copied at once. */
static void device_names(struct cg *g)
{
	struct emit *e = &g->e;
	bool in = g->slot[SLOT_IFACE] >= 0, out = g->slot[SLOT_OFACE] >= 0;
	int from = in ? RUN(in) : RUN(out), to = g->slot[in ? SLOT_IFACE : SLOT_OFACE] - g->frame;
	int n = 16 * (in + out);

	if (!n)
		return;
	load_run(g, R8);
	if (!kfeat()->casts) {
		kcopy(g, to, n, R8, from);
		return;
	}
	for (int i = 0; i < n; i += 8) {
		kload(g, U64, R3, R8, from + i);
		st(e, U64, R10, to + i, R3);
	}
}

/* r7: packet */
static void pkttype(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 plain = new_label(e);

	if (g->field[IR_PKTTYPE] < 0)
		return;
	ld(e, U32, R8, R6, SKB(pkt_type));
	jmpi(e, BPF_JNE, R8, PACKET_LOOPBACK, plain);
	ld(e, U8, R3, R7, l3(g) + (cg_v6(g) ? 24 : 16));
	cg_looped_type(g);
	place(e, plain);
	set_field(g, IR_PKTTYPE, R8);
}

static void mac_source(struct cg *g)
{
	if (g->field[IR_MACOK] < 0 && g->field[IR_SMAC] < 0)
		return;
	load_run(g, R8);
	kload(g, U64, R9, R8, RUN(skb));
	cg_mac_source(g);
}

static void conntrack(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 none = new_label(e);

	if (!cg_wants_ct(g))
		return;
	ld(e, U32, R9, R6, SKB(cb[4]));
	mov(e, R8, R9);
	alui(e, BPF_AND, R8, XTJIT_RUN_CT);
	if (cg_wants_ct_entry(g)) {
		jmpi(e, BPF_JEQ, R8, 0, none);
		load_run(g, R8);
		kload(g, U64, R8, R8, RUN(ct));
	}
	place(e, none);
	mov(e, R3, R9);
	alui(e, BPF_AND, R3, XTJIT_RUN_CTINFO);
	alui(e, BPF_RSH, R3, __builtin_ctz(XTJIT_RUN_CTINFO));
	cg_conntrack(g, new_label(e));
}

/* Called to go on: what it was at. */
static void resume(struct cg *g, __u32 drop)
{
	struct emit *e = &g->e;
	__u32 first = new_label(e);

	if (!g->resumes)
		return;
	if (g->native) {
		ld(e, U32, R3, R6, SKB(cb[3]));
		set_slot(g, SLOT_NATIVE, R3);
	}
	ld(e, U32, R3, R6, SKB(cb[2]));
	set_slot(g, SLOT_PC, R3);
	if (!g->nsaved)
		return;
	jmpi(e, BPF_JEQ, R3, 0, first);
	cg_native_restore(g, drop);
	place(e, first);
}

static void meta(struct cg *g)
{
	struct emit *e = &g->e;

	if (g->field[IR_MARK] >= 0) {
		ld(e, U32, R3, R6, SKB(mark));
		set_field(g, IR_MARK, R3);
	}
	pkttype(g);
	device_names(g);
	mac_source(g);
	conntrack(g);
}

/* The network header is in linear memory: the stack has looked at it before each hook. */
static void prologue(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 drop = new_label(e), go = new_label(e);

	cg_defaults(g);
	mov(e, R6, R1);
	ld(e, U32, R3, R6, SKB(cb[4]));
	alui(e, BPF_AND, R3, XTJIT_RUN_HOOK);
	set_slot(g, SLOT_HOOK, R3);
	ld(e, U32, R3, R6, SKB(len));
	alui(e, BPF_SUB, R3, l3(g));
	set_slot(g, SLOT_PKTLEN, R3);
	ld(e, U32, R7, R6, SKB(data));
	ld(e, U32, R9, R6, SKB(data_end));
	mov(e, R3, R7);
	alui(e, BPF_ADD, R3, l3(g) + header_len(g));
	jmp(e, BPF_JGT, R3, R9, drop);
	if (cg_v6(g))
		header_ip6(g);
	else
		header_ip(g);
	if (cg_wants_l4(g))
		header_l4(g);
	meta(g);
	resume(g, drop);
	ja(e, go);
	place(e, drop);
	movi(e, R0, NF_DROP);
	exit_(e);
	place(e, go);
}

/* Leaves with r8: what is to be gone on with. */
static void leave(struct cg *g, __u32 drop)
{
	struct emit *e = &g->e;

	ld(e, U32, R1, R10, g->slot[SLOT_PC] - g->frame);
	st(e, U32, R6, SKB(cb[2]), R1);
	if (g->native) {
		ld(e, U32, R1, R10, g->slot[SLOT_NATIVE] - g->frame);
		st(e, U32, R6, SKB(cb[3]), R1);
	}
	cg_native_save(g, drop);
	mov(e, R0, R8);
	exit_(e);
}

static void in_device(struct cg *g, __u32 none)
{
	(void)none;
	ld(&g->e, U32, R3, R6, SKB(ifindex));
}

/*
 * The verdict as it is, or on to a native slot.  When the turns of main's loop are
 * used up the module calls again, where they are few, and else it is a drop, as
 * in the other flavors.
 */
static void epilogue(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 done = new_label(e), go_on = new_label(e), drop = new_label(e);

	if (g->env->drops) {
		jmpi(e, BPF_JEQ, R0, WALK_ACCEPT, done);
		jmpi(e, BPF_JEQ, R0, WALK_DROP, drop);
	}
	if (g->native) {
		movi32(e, R8, XTJIT_YIELD);
		jmpi(e, BPF_JEQ, R0, WALK_YIELD, go_on);
	}
	jmpi(e, BPF_JNE, R0, WALK_AGAIN, done);
	if (g->resumes && !kfeat()->iters) {
		movi32(e, R8, XTJIT_AGAIN);
		ja(e, go_on);
	}
	place(e, drop);
	cg_count_exact_drop(g, in_device);
	movi(e, R0, NF_DROP);
	place(e, done);
	exit_(e);
	if (!g->resumes)
		return;
	place(e, go_on);
	leave(g, drop);
}

/* Nothing needs to be prepared. */
static void packet_begin(struct cg *g, int off)
{
	(void)g;
	(void)off;
}

static void packet_read(struct cg *g, int off)
{
	struct emit *e = &g->e;

	(void)off;
	mov(e, R3, R1);
	mov(e, R5, R2);
	mov(e, R2, R4);
	if (l3(g))
		alui(e, BPF_ADD, R2, l3(g));
	mov(e, R4, R5);
	mov(e, R1, R7);
	call_helper(e, BPF_FUNC_skb_load_bytes);
}

static void net(struct cg *g, int dst)
{
	ld(&g->e, U64, dst, R7, SKB(cb[0]));
	kload(g, U64, dst, dst, RUN(state));
	kload_member(g, U64, dst, dst, "nf_hook_state", "net");
}

const struct flavor_ops flavor_hook = {
	.name = "hook",
	.prog_type = BPF_PROG_TYPE_SCHED_CLS,
	.ctx = "__sk_buff",
	.yields = true,
	.prologue = prologue,
	.epilogue = epilogue,
	.packet_begin = packet_begin,
	.packet_read = packet_read,
	.net = net,
};
