// SPDX-License-Identifier: GPL-2.0
/*
 * BPF_PROG_TYPE_NETFILTER: called by the netfilter core with the skb and the
 * hook's state.
 */
#include <linux/if_packet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/xt_conntrack.h>
#include <stddef.h>

#include "cg.h"
#include "kbtf.h"

#define TYPE_NETFILTER 32		/* Linux 6.4 */
#define ATTACH_NETFILTER 45

static void header_ip(struct cg *g)
{
	struct emit *e = &g->e;

	load_field(g, IR_SADDR, kload, U32, R7, 12, 32);
	load_field(g, IR_DADDR, kload, U32, R7, 16, 32);
	load_field(g, IR_PROTO, kload, U8, R7, 9, 0);
	load_field(g, IR_DSFIELD, kload, U8, R7, 1, 0);
	load_field(g, IR_TTL, kload, U8, R7, 8, 0);
	if (g->field[IR_LEN] >= 0) {
		kload(g, U16, R3, R7, 2);
		bswap(e, R3, 16);
		cg_length(g);
	}
	if (g->slot[SLOT_FRAGOFF] >= 0) {
		kload(g, U16, R3, R7, 6);
		bswap(e, R3, 16);
		alui(e, BPF_AND, R3, 0x1fff);
		set_slot(g, SLOT_FRAGOFF, R3);
		set_field(g, IR_FRAGOFF, R3);
	}
	if (cg_wants_l4(g)) {
		kload(g, U8, R8, R7, 0);
		alui(e, BPF_AND, R8, 15);
		alui(e, BPF_LSH, R8, 2);
		set_slot(g, SLOT_L4OFF, R8);
	}
}

static void header_ip6(struct cg *g)
{
	struct emit *e = &g->e;

	load_field6(g, IR6_SADDR, kload, R7, 8);
	load_field6(g, IR6_DADDR, kload, R7, 24);
	load_field(g, IR_TTL, kload, U8, R7, 7, 0);
	if (g->field[IR_DSFIELD] >= 0) {
		kload(g, U16, R3, R7, 0);
		bswap(e, R3, 16);
		alui(e, BPF_RSH, R3, 4);
		alui(e, BPF_AND, R3, 0xff);
		set_field(g, IR_DSFIELD, R3);
	}
	if (g->field[IR_LEN] >= 0) {
		kload(g, U16, R3, R7, 4);
		bswap(e, R3, 16);
		cg_length(g);
	}
	if (g->slot[SLOT_PROTO6] >= 0) {
		kload(g, U8, R8, R7, 6);
		cg_proto6(g);
	}
}

/* r8: offset of the transport header. */
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
	if (g->field[IR_SPORT] < 0 && g->field[IR_DPORT] < 0 && g->field[IR_ICMP] < 0 &&
	    g->field[IR_TCPFLAGS] < 0)
		return;
	jmpi(e, BPF_JLT, R3, 4, done);
	tload(g, U32, R4, R9, "sk_buff", "len");
	tload(g, U32, R5, R9, "sk_buff", "data_len");
	alu(e, BPF_SUB, R4, R5);
	alu(e, BPF_SUB, R4, R8);
	jmpi(e, BPF_JSLT, R4, need, slow);
	alu(e, BPF_ADD, R8, R7);
	if (g->field[IR_SPORT] >= 0 || g->field[IR_ICMP] >= 0) {
		kload(g, U16, R3, R8, 0);
		bswap(e, R3, 16);
		set_field(g, IR_SPORT, R3);
		set_field(g, IR_ICMP, R3);
	}
	load_field(g, IR_DPORT, kload, U16, R8, 2, 16);
	load_field(g, IR_TCPFLAGS, kload, U8, R8, 13, 0);
	ja(e, done);
	place(e, slow);
	mov(e, R1, R6);
	mov(e, R2, R10);
	alui(e, BPF_ADD, R2, -g->frame);
	call_label(e, cg_lib(g, LIB_L4));
	place(e, done);
}

static void device_name(struct cg *g, enum cg_slot s, const char *which)
{
	struct emit *e = &g->e;
	__u32 none = new_label(e);

	if (g->slot[s] < 0)
		return;
	cg_hook_state(g, R3, R6);
	tload(g, U64, R8, R3, "nf_hook_state", which);
	jmpi(e, BPF_JEQ, R8, 0, none);
	for (int i = 0; i < 16; i += 8) {
		kload(g, U64, R3, R8, kbtf_offset("net_device", "name") + i);
		st(e, U64, R10, g->slot[s] + i - g->frame, R3);
	}
	place(e, none);
}

static void pkttype(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 plain = new_label(e);

	if (g->field[IR_PKTTYPE] < 0)
		return;
	kload_bits(g, R8, R9, "sk_buff", "pkt_type", 3);
	jmpi(e, BPF_JNE, R8, PACKET_LOOPBACK, plain);
	kload(g, U8, R3, R7, cg_v6(g) ? 24 : 16);
	cg_looped_type(g);
	place(e, plain);
	set_field(g, IR_PKTTYPE, R8);
}

static bool knows_self(const struct cg *g)
{
	return g->slot[SLOT_SELF] >= 0 && g->env->self >= 0;
}

/*
 * r3 = the key of what has lost its socket, but has a priority that the helper
 * gives, or to @no: what came in through lo, and the copy of a broadcast, going out
 * or come in.
 */
static void self_loop(struct cg *g, __u32 no)
{
	struct emit *e = &g->e;
	__u32 yes = new_label(e);

	tload(g, U32, R3, R9, "sk_buff", "priority");
	alui32(e, BPF_AND, R3, SELF_PRIORITY_MASK);
	jmpi32(e, BPF_JNE, R3, SELF_PRIORITY, no);
	kload_bits(g, R3, R9, "sk_buff", "pkt_type", 3);
	jmpi(e, BPF_JEQ, R3, 5, yes);		/* PACKET_LOOPBACK */
	cg_hook_state(g, R3, R6);
	tload(g, U64, R3, R3, "nf_hook_state", "in");
	jmpi(e, BPF_JEQ, R3, 0, yes);
	tload(g, U32, R3, R3, "net_device", "ifindex");
	jmpi(e, BPF_JNE, R3, 1, no);		/* LOOPBACK_IFINDEX */
	place(e, yes);
	tload(g, U32, R3, R9, "sk_buff", "priority");
	alui(e, BPF_LSH, R3, 32);		/* self_looped() */
}

/* Packets that the helper itself has sent for a REJECT; r8: struct self_entry if RELATED, or 0. */
static void self(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 no = new_label(e), out = new_label(e), known = new_label(e), loop = new_label(e);

	if (!knows_self(g))
		return;
	movi(e, R8, 0);
	ld(e, U64, R3, R10, g->slot[SLOT_HOOK] - g->frame);
	jmpi(e, BPF_JEQ, R3, NF_INET_LOCAL_OUT, out);
	jmpi(e, BPF_JEQ, R3, NF_INET_POST_ROUTING, out);
	place(e, loop);
	self_loop(g, no);
	ja(e, known);
	place(e, out);
	kload_member(g, U64, R3, R9, "sk_buff", "sk");
	jmpi(e, BPF_JEQ, R3, 0, loop);
	kload_member(g, U64, R3, R3, "sock", "__sk_common.skc_cookie");
	jmpi(e, BPF_JEQ, R3, 0, no);
	place(e, known);
	st(e, U64, R10, g->slot[SLOT_SELF] - g->frame, R3);
	mov(e, R2, R10);
	alui(e, BPF_ADD, R2, g->slot[SLOT_SELF] - g->frame);
	ldmap(e, R1, g->env->self);
	call_helper(e, BPF_FUNC_map_lookup_elem);
	sti(e, U64, R10, g->slot[SLOT_SELF] - g->frame, 0);
	jmpi(e, BPF_JEQ, R0, 0, no);
	ld(e, U32, R3, R0, offsetof(struct self_entry, kind));
	set_slot(g, SLOT_SELF, R3);
	jmpi(e, BPF_JNE, R3, SELF_RELATED, no);
	mov(e, R8, R0);
	place(e, no);
	if (g->slot[SLOT_ANSWER] >= 0)
		set_slot(g, SLOT_ANSWER, R8);
}

/*
 * To the kernel's own answer, the entry of the packet is attached; it does not
 * pass conntrack, which would not know ours to the first packet of a connection.
 * r8: struct self_entry -> its entry, or to @other if it is 0.
 */
static void answer(struct cg *g, __u32 other)
{
	struct emit *e = &g->e;

	jmpi(e, BPF_JEQ, R8, 0, other);
	ld(e, U32, R3, R8, offsetof(struct self_entry, dir));
	set_field(g, IR_CTDIR, R3);
	movi(e, R4, XT_CONNTRACK_STATE_BIT(IP_CT_RELATED));
	set_field(g, IR_CTSTATE, R4);
	alui(e, BPF_ADD, R8, offsetof(struct self_entry, ct));
}

/* skb->_nfct is the entry's address and, in 3 bits, ctinfo */
static void conntrack(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 other = new_label(e), entry = new_label(e);

	if (!cg_wants_ct(g))
		return;
	if (knows_self(g)) {
		answer(g, other);
		ja(e, entry);
		place(e, other);
	}
	kload_member(g, U64, R3, R9, "sk_buff", "_nfct");
	mov(e, R8, R3);
	alui(e, BPF_AND, R8, ~7);
	alui(e, BPF_AND, R3, 7);
	cg_conntrack(g, entry);
}

static void prologue(struct cg *g)
{
	struct emit *e = &g->e;

	cg_defaults(g);
	mov(e, R6, R1);
	ld(e, U64, R9, R6, 8);
	cg_hook_state(g, R3, R6);
	tload(g, U8, R3, R3, "nf_hook_state", "hook");
	set_slot(g, SLOT_HOOK, R3);
	tload(g, U32, R3, R9, "sk_buff", "len");
	set_slot(g, SLOT_PKTLEN, R3);
	tload(g, U64, R7, R9, "sk_buff", "head");
	tload(g, U16, R3, R9, "sk_buff", "network_header");
	alu(e, BPF_ADD, R7, R3);
	if (cg_v6(g))
		header_ip6(g);
	else
		header_ip(g);
	if (cg_wants_l4(g))
		header_l4(g);
	if (g->field[IR_MARK] >= 0) {
		tload(g, U32, R3, R9, "sk_buff", "mark");
		set_field(g, IR_MARK, R3);
	}
	device_name(g, SLOT_IFACE, "in");
	device_name(g, SLOT_OFACE, "out");
	cg_mac_source(g);
	pkttype(g);
	self(g);
	conntrack(g);
}

static void in_device(struct cg *g, __u32 none)
{
	cg_hook_state(g, R3, R6);
	tload(g, U64, R3, R3, "nf_hook_state", "in");
	jmpi(&g->e, BPF_JEQ, R3, 0, none);
	tload(g, U32, R3, R3, "net_device", "ifindex");
}

/* NF_DROP and NF_ACCEPT are all that it may return; more: the turns ran out. */
static void epilogue(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 ok = new_label(e);

	jmpi(e, BPF_JEQ, R0, WALK_ACCEPT, ok);
	cg_count_exact_drop(g, in_device);
	movi(e, R0, NF_DROP);
	place(e, ok);
	alui(e, BPF_AND, R0, 1);
	exit_(e);
}

/* A dynptr of the packet; lib_begin() was before. */
static void packet_begin(struct cg *g, int off)
{
	struct emit *e = &g->e;

	ld(e, U64, R1, R7, 8);
	movi(e, R2, 0);
	mov(e, R3, R10);
	alui(e, BPF_ADD, R3, off);
	cg_kfunc(g, "bpf_dynptr_from_skb");
}

static void packet_read(struct cg *g, int off)
{
	struct emit *e = &g->e;

	mov(e, R3, R10);
	alui(e, BPF_ADD, R3, off);
	movi(e, R5, 0);
	call_helper(e, BPF_FUNC_dynptr_read);
}

static void net(struct cg *g, int dst)
{
	cg_hook_state(g, dst, R7);
	tload(g, U64, dst, dst, "nf_hook_state", "net");
}

const struct flavor_ops flavor_netfilter = {
	.name = "netfilter",
	.prog_type = TYPE_NETFILTER,
	.attach_type = ATTACH_NETFILTER,
	.ctx = "bpf_nf_ctx",
	.prologue = prologue,
	.epilogue = epilogue,
	.packet_begin = packet_begin,
	.packet_read = packet_read,
	.net = net,
};
