// SPDX-License-Identifier: GPL-2.0
/*
 * BPF_PROG_TYPE_NETFILTER: called by the netfilter core with the skb and the
 * hook's state.
 */
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/xt_conntrack.h>
#include <stddef.h>

#include "cg.h"
#include "kbtf.h"

#define TYPE_NETFILTER 32		/* Linux 6.4 */
#define ATTACH_NETFILTER 45
#define CT_UNTRACKED 7			/* IP_CT_UNTRACKED, not in the uapi header */

/* What is not set for every packet: absent means 0. */
static void defaults(struct cg *g)
{
	static const enum cg_slot slots[] = { SLOT_FRAGOFF, SLOT_PC, SLOT_SELF };

	for (unsigned int i = 0; i < sizeof(slots) / sizeof(slots[0]); i++)
		clear_slot(g, g->slot[slots[i]], 8);
	clear_slot(g, g->slot[SLOT_IFACE], 16);
	clear_slot(g, g->slot[SLOT_OFACE], 16);
	for (int f = IR6_CTORIGSRC; f < IR6_NFIELDS; f++)
		clear_slot(g, g->field6[f], 16);
	for (int f = IR_SPORT; f < IR_NFIELDS; f++)
		if (f != IR_MARK && f != IR_PKTTYPE)
			clear_slot(g, g->field[f], 8);
}

static bool any_l4(const struct cg *g)
{
	return g->slot[SLOT_L4LEN] >= 0;
}

static void header_ip(struct cg *g)
{
	struct emit *e = &g->e;

	load_field(g, IR_SADDR, U32, R7, 12, 32);
	load_field(g, IR_DADDR, U32, R7, 16, 32);
	load_field(g, IR_PROTO, U8, R7, 9, 0);
	load_field(g, IR_DSFIELD, U8, R7, 1, 0);
	load_field(g, IR_TTL, U8, R7, 8, 0);
	load_field(g, IR_LEN, U16, R7, 2, 16);
	if (g->slot[SLOT_FRAGOFF] >= 0) {
		kload(g, U16, R3, R7, 6);
		bswap(e, R3, 16);
		alui(e, BPF_AND, R3, 0x1fff);
		set_slot(g, SLOT_FRAGOFF, R3);
		set_field(g, IR_FRAGOFF, R3);
	}
	if (any_l4(g)) {
		kload(g, U8, R8, R7, 0);
		alui(e, BPF_AND, R8, 15);
		alui(e, BPF_LSH, R8, 2);
		set_slot(g, SLOT_L4OFF, R8);
	}
}

/* The last header, and where it begins: ip6_packet_match() */
static void proto_ip6(struct cg *g)
{
	struct emit *e = &g->e;
	static const int exthdrs[] = { 0, 43, 44, 51, 60 };
	__u32 walk = new_label(e), done = new_label(e);

	kload(g, U8, R8, R7, 6);
	set_slot(g, SLOT_PROTO6, R8);
	movi(e, R3, 40);
	set_slot(g, SLOT_L4OFF, R3);
	for (int i = 0; i < 5; i++)
		jmpi(e, BPF_JEQ, R8, exthdrs[i], walk);
	ja(e, done);
	place(e, walk);
	mov(e, R1, R6);
	mov(e, R2, R10);
	alui(e, BPF_ADD, R2, -g->frame);
	call_label(e, cg_lib(g, LIB_EXTHDR));
	place(e, done);
	ld(e, U64, R8, R10, g->slot[SLOT_L4OFF] - g->frame);
}

static void header_ip6(struct cg *g)
{
	struct emit *e = &g->e;

	load_field6(g, IR6_SADDR, R7, 8);
	load_field6(g, IR6_DADDR, R7, 24);
	load_field(g, IR_TTL, U8, R7, 7, 0);
	if (g->field[IR_DSFIELD] >= 0) {
		kload(g, U16, R3, R7, 0);
		bswap(e, R3, 16);
		alui(e, BPF_RSH, R3, 4);
		alui(e, BPF_AND, R3, 0xff);
		set_field(g, IR_DSFIELD, R3);
	}
	if (g->field[IR_LEN] >= 0) {		/* xt_length, since Linux 6.3 */
		ld(e, U64, R3, R10, g->slot[SLOT_PKTLEN] - g->frame);
		set_field(g, IR_LEN, R3);
	}
	if (g->slot[SLOT_PROTO6] >= 0)
		proto_ip6(g);
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
	load_field(g, IR_DPORT, U16, R8, 2, 16);
	load_field(g, IR_TCPFLAGS, U8, R8, 13, 0);
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
	ld(e, U64, R3, R6, 0);
	tload(g, U64, R8, R3, "nf_hook_state", which);
	jmpi(e, BPF_JEQ, R8, 0, none);
	for (int i = 0; i < 16; i += 8) {
		kload(g, U64, R3, R8, kbtf_offset("net_device", "name") + i);
		st(e, U64, R10, g->slot[s] + i - g->frame, R3);
	}
	place(e, none);
}

/* net/netfilter/xt_mac.c */
static void mac_source(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 none = new_label(e);

	if (g->field[IR_MACOK] < 0 && g->field[IR_SMAC] < 0)
		return;
	kload_member(g, U64, R3, R9, "sk_buff", "dev");
	jmpi(e, BPF_JEQ, R3, 0, none);
	kload_member(g, U16, R3, R3, "net_device", "type");
	jmpi(e, BPF_JNE, R3, 1, none);		/* ARPHRD_ETHER */
	kload_member(g, U16, R8, R9, "sk_buff", "mac_header");
	kload_member(g, U64, R3, R9, "sk_buff", "head");
	alu(e, BPF_ADD, R8, R3);
	kload_member(g, U64, R4, R9, "sk_buff", "data");
	mov(e, R3, R8);
	alui(e, BPF_ADD, R3, 14);
	jmp(e, BPF_JGT, R3, R4, none);
	kload(g, U64, R3, R8, 6);
	bswap(e, R3, 64);
	alui(e, BPF_RSH, R3, 16);
	set_field(g, IR_SMAC, R3);
	movi(e, R3, 1);
	set_field(g, IR_MACOK, R3);
	place(e, none);
}

/* net/netfilter/xt_pkttype.c: looped packets are what their address says */
static void pkttype(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 plain = new_label(e), multicast = new_label(e);

	if (g->field[IR_PKTTYPE] < 0)
		return;
	kload_bits(g, R8, R9, "sk_buff", "pkt_type", 3);
	jmpi(e, BPF_JNE, R8, 5, plain);		/* PACKET_LOOPBACK */
	kload(g, U8, R3, R7, cg_v6(g) ? 24 : 16);
	movi(e, R8, 2);				/* PACKET_MULTICAST */
	if (!cg_v6(g))
		alui(e, BPF_AND, R3, 0xf0);
	jmpi(e, BPF_JEQ, R3, cg_v6(g) ? 0xff : 0xe0, multicast);
	movi(e, R8, 1);				/* PACKET_BROADCAST */
	place(e, multicast);
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
	ld(e, U64, R3, R6, 0);
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
}

/* r8: the conntrack entry. */
static void ct_tuples(struct cg *g)
{
	static const struct {
		enum ir_field field;
		enum ir_field6 field6;
		int dir;
		const char *member;
	} addrs[] = {
		{ IR_CTORIGSRC, IR6_CTORIGSRC, 0, "src.u3" },
		{ IR_CTORIGDST, IR6_CTORIGDST, 0, "dst.u3" },
		{ IR_CTREPLSRC, IR6_CTREPLSRC, 1, "src.u3" },
		{ IR_CTREPLDST, IR6_CTREPLDST, 1, "dst.u3" },
	}, ports[] = {
		{ IR_CTORIGSRCPORT, 0, 0, "src.u" },
		{ IR_CTORIGDSTPORT, 0, 0, "dst.u" },
		{ IR_CTREPLSRCPORT, 0, 1, "src.u" },
		{ IR_CTREPLDSTPORT, 0, 1, "dst.u" },
	};

	for (int i = 0; i < 4; i++) {
		int off = cg_ct_tuple(g, addrs[i].dir, addrs[i].member);

		if (cg_v6(g))
			load_field6(g, addrs[i].field6, R8, off);
		else
			load_field(g, addrs[i].field, U32, R8, off, 32);
		load_field(g, ports[i].field, U16, R8,
			   cg_ct_tuple(g, ports[i].dir, ports[i].member), 16);
	}
}

/* nf_ct_expires() / HZ */
static void ct_expire(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 left = new_label(e);

	if (g->field[IR_CTEXPIRE] < 0)
		return;
	call_helper(e, BPF_FUNC_jiffies64);
	set_field(g, IR_CTEXPIRE, R0);
	kload_member(g, U32, R3, R8, "nf_conn", "timeout");
	ld(e, U32, R4, R10, g->field[IR_CTEXPIRE] - g->frame);
	alu32(e, BPF_SUB, R3, R4);
	jmpi32(e, BPF_JSGT, R3, 0, left);
	movi(e, R3, 0);
	place(e, left);
	alui32(e, BPF_DIV, R3, kernel_hz());
	set_field(g, IR_CTEXPIRE, R3);
}

static void ct_entry(struct cg *g)
{
	struct emit *e = &g->e;
	bool status = g->field[IR_CTSTATUS] >= 0 || g->field[IR_CTSTATE] >= 0;

	movi(e, R3, 1);
	set_field(g, IR_CT, R3);
	if (status) {
		kload_member(g, U32, R3, R8, "nf_conn", "status");
		set_field(g, IR_CTSTATUS, R3);
	}
	if (g->field[IR_CTSTATE] >= 0) {
		/* r3 status -> XT_CONNTRACK_STATE_SNAT, _DNAT */
		ld(e, U64, R4, R10, g->field[IR_CTSTATE] - g->frame);
		mov(e, R5, R3);
		alui(e, BPF_AND, R5, IPS_SRC_NAT);
		alui(e, BPF_LSH, R5, IP_CT_NUMBER + 1 - IPS_SRC_NAT_BIT);
		alu(e, BPF_OR, R4, R5);
		alui(e, BPF_AND, R3, IPS_DST_NAT);
		alui(e, BPF_LSH, R3, IP_CT_NUMBER + 2 - IPS_DST_NAT_BIT);
		alu(e, BPF_OR, R4, R3);
		set_field(g, IR_CTSTATE, R4);
	}
	load_field(g, IR_CTPROTO, U8, R8, cg_ct_tuple(g, 0, "dst.protonum"), 0);
	ct_tuples(g);
	ct_expire(g);
}

static bool wants_ct(const struct cg *g)
{
	for (int f = IR_CT; f <= IR_CTEXPIRE; f++)
		if (g->field[f] >= 0)
			return true;
	return false;
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

/* net/netfilter/xt_conntrack.c: skb->_nfct is the entry's address and, in 3 bits, ctinfo */
static void conntrack(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 none = new_label(e), done = new_label(e), original = new_label(e);
	__u32 untracked = new_label(e), state = new_label(e), other = new_label(e);
	__u32 entry = new_label(e);

	if (!wants_ct(g))
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
	jmpi(e, BPF_JEQ, R8, 0, none);
	movi(e, R4, 0);
	jmpi(e, BPF_JLT, R3, IP_CT_IS_REPLY, original);
	alui(e, BPF_SUB, R3, IP_CT_IS_REPLY);
	movi(e, R4, 1);
	place(e, original);
	set_field(g, IR_CTDIR, R4);
	/* XT_CONNTRACK_STATE_BIT() */
	movi(e, R4, 2);
	alu(e, BPF_LSH, R4, R3);
	set_field(g, IR_CTSTATE, R4);
	place(e, entry);
	ct_entry(g);
	ja(e, done);
	place(e, none);
	if (g->field[IR_CTSTATE] >= 0) {
		jmpi(e, BPF_JEQ, R3, CT_UNTRACKED, untracked);
		movi(e, R4, XT_CONNTRACK_STATE_INVALID);
		ja(e, state);
		place(e, untracked);
		movi(e, R4, XT_CONNTRACK_STATE_UNTRACKED);
		place(e, state);
		set_field(g, IR_CTSTATE, R4);
	}
	place(e, done);
}

static void prologue(struct cg *g)
{
	struct emit *e = &g->e;

	defaults(g);
	mov(e, R6, R1);
	ld(e, U64, R9, R6, 8);
	ld(e, U64, R3, R6, 0);
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
	if (any_l4(g))
		header_l4(g);
	if (g->field[IR_MARK] >= 0) {
		tload(g, U32, R3, R9, "sk_buff", "mark");
		set_field(g, IR_MARK, R3);
	}
	device_name(g, SLOT_IFACE, "in");
	device_name(g, SLOT_OFACE, "out");
	mac_source(g);
	pkttype(g);
	self(g);
	conntrack(g);
}

/* r0: 0, 1; more: the turns between pages ran out. NF_DROP is 0, NF_ACCEPT 1. */
static void epilogue(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 ok = new_label(e);

	jmpi(e, BPF_JEQ, R0, 1, ok);
	movi(e, R0, NF_DROP);
	place(e, ok);
	alui(e, BPF_AND, R0, 1);
	exit_(e);
}

const struct flavor_ops flavor_netfilter = {
	.name = "netfilter",
	.prog_type = TYPE_NETFILTER,
	.attach_type = ATTACH_NETFILTER,
	.ctx = "bpf_nf_ctx",
	.load = kload,
	.prologue = prologue,
	.epilogue = epilogue,
};
