// SPDX-License-Identifier: GPL-2.0
/*
 * The early stage's prologues, XDP and TC ingress: nothing but frames that
 * ip_rcv() and ipv6_rcv() would let in, unfragmented and without options or
 * extension headers, goes on to the rules; all else goes up.
 */
#include <stddef.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>

#include "cg.h"

#define ETH_HLEN 14

/* All uses of the context differ in these. */
static bool is_xdp(const struct cg *g)
{
	return g->fl == &flavor_xdp;
}

static int ctx_ifindex(const struct cg *g)
{
	return is_xdp(g) ? offsetof(struct xdp_md, ingress_ifindex) :
			   offsetof(struct __sk_buff, ifindex);
}

void cg_early_ifindex(struct cg *g, int dst, int ctx)
{
	ld(&g->e, U32, dst, ctx, ctx_ifindex(g));
}

static void up_if(struct cg *g, int op, int dst, __s32 imm, __u32 up)
{
	jmpi(&g->e, op, dst, imm, up);
}

/* r7: frame, r9: its end; the frame must have @n bytes in linear memory. */
static void linear(struct cg *g, int n, __u32 up)
{
	mov(&g->e, R3, R7);
	alui(&g->e, BPF_ADD, R3, n);
	jmp(&g->e, BPF_JGT, R3, R9, up);
}

void cg_early_frame(struct cg *g, int data, int end, int ctx)
{
	if (is_xdp(g)) {
		ld(&g->e, U32, data, ctx, offsetof(struct xdp_md, data));
		ld(&g->e, U32, end, ctx, offsetof(struct xdp_md, data_end));
	} else {
		ld(&g->e, U32, data, ctx, offsetof(struct __sk_buff, data));
		ld(&g->e, U32, end, ctx, offsetof(struct __sk_buff, data_end));
	}
}

static void frame(struct cg *g, __u32 up)
{
	struct emit *e = &g->e;

	if (is_xdp(g)) {
		cg_early_frame(g, R7, R9, R6);
		linear(g, ETH_HLEN + (cg_v6(g) ? 40 : 20), up);
		mov(e, R8, R9);		/* bytes from the network header on */
		alu(e, BPF_SUB, R8, R7);
		alui(e, BPF_SUB, R8, ETH_HLEN);
		return;
	}
	/* a tag beside the frame: it belongs to a VLAN device */
	ld(e, U32, R3, R6, offsetof(struct __sk_buff, vlan_present));
	up_if(g, BPF_JNE, R3, 0, up);
	cg_early_frame(g, R7, R9, R6);
	linear(g, ETH_HLEN + (cg_v6(g) ? 40 : 20), up);
	ld(e, U32, R8, R6, offsetof(struct __sk_buff, len));
	alui(e, BPF_SUB, R8, ETH_HLEN);
}

void cg_early_fold(struct cg *g, int sum, int spoilt)
{
	struct emit *e = &g->e;

	mov(e, spoilt, sum);
	alui(e, BPF_RSH, spoilt, 32);
	alui32(e, BPF_ADD, sum, 0);
	alu(e, BPF_ADD, sum, spoilt);
	for (int i = 0; i < 2; i++) {
		mov(e, spoilt, sum);
		alui(e, BPF_RSH, spoilt, 16);
		alui(e, BPF_AND, sum, 0xffff);
		alu(e, BPF_ADD, sum, spoilt);
	}
}

/* The ten words of a header without options add up to 0xffff. */
static void checksum(struct cg *g, __u32 up)
{
	struct emit *e = &g->e;

	ld(e, U32, R3, R7, ETH_HLEN);
	for (int off = 4; off < 20; off += 4) {
		ld(e, U32, R4, R7, ETH_HLEN + off);
		alu(e, BPF_ADD, R3, R4);
	}
	cg_early_fold(g, R3, R4);
	up_if(g, BPF_JNE, R3, 0xffff, up);
}

/* net/ipv4/ip_input.c ip_rcv_core() */
static void header_ip(struct cg *g, __u32 up)
{
	struct emit *e = &g->e;

	ld(e, U8, R3, R7, ETH_HLEN);
	up_if(g, BPF_JNE, R3, 0x45, up);
	ld(e, U16, R3, R7, ETH_HLEN + 6);
	bswap(e, R3, 16);
	alui(e, BPF_AND, R3, 0x3fff);		/* MF, offset */
	up_if(g, BPF_JNE, R3, 0, up);
	ld(e, U16, R3, R7, ETH_HLEN + 2);
	bswap(e, R3, 16);
	up_if(g, BPF_JLT, R3, 20, up);
	jmp(e, BPF_JGT, R3, R8, up);
	set_slot(g, SLOT_PKTLEN, R3);
	set_field(g, IR_LEN, R3);
	alui(e, BPF_SUB, R3, 20);
	set_slot(g, SLOT_L4LEN, R3);
	checksum(g, up);
	load_field(g, IR_SADDR, packet_load, U32, R7, ETH_HLEN + 12, 32);
	load_field(g, IR_DADDR, packet_load, U32, R7, ETH_HLEN + 16, 32);
	load_field(g, IR_PROTO, packet_load, U8, R7, ETH_HLEN + 9, 0);
	load_field(g, IR_DSFIELD, packet_load, U8, R7, ETH_HLEN + 1, 0);
	load_field(g, IR_TTL, packet_load, U8, R7, ETH_HLEN + 8, 0);
}

/*
 * net/ipv6/ip6_input.c ip6_rcv_core(): addresses that it refuses on the wire,
 * and multicast; these are left to it.
 */
static void addrs_ip6(struct cg *g, __u32 up)
{
	struct emit *e = &g->e;
	static const int addrs[] = { 8, 24 };

	for (int i = 0; i < 2; i++) {
		__u32 fine = new_label(e);

		ld(e, U8, R3, R7, ETH_HLEN + addrs[i]);
		up_if(g, BPF_JEQ, R3, 0xff, up);
		ld(e, U64, R3, R7, ETH_HLEN + addrs[i]);
		jmpi(e, BPF_JNE, R3, 0, fine);
		ld(e, U32, R3, R7, ETH_HLEN + addrs[i] + 8);
		up_if(g, BPF_JEQ, R3, 0, up);	/* ::, ::1, and what is like them */
		place(e, fine);
	}
}

static void header_ip6(struct cg *g, __u32 up)
{
	struct emit *e = &g->e;
	static const int exthdrs[] = { 0, 43, 44, 51, 60 };

	ld(e, U16, R3, R7, ETH_HLEN);
	bswap(e, R3, 16);
	mov(e, R4, R3);
	alui(e, BPF_RSH, R4, 12);
	up_if(g, BPF_JNE, R4, 6, up);
	alui(e, BPF_RSH, R3, 4);
	alui(e, BPF_AND, R3, 0xff);
	set_field(g, IR_DSFIELD, R3);
	ld(e, U16, R3, R7, ETH_HLEN + 4);
	bswap(e, R3, 16);
	up_if(g, BPF_JEQ, R3, 0, up);		/* nothing, or a jumbogram */
	set_slot(g, SLOT_L4LEN, R3);
	alui(e, BPF_ADD, R3, 40);
	jmp(e, BPF_JGT, R3, R8, up);
	set_slot(g, SLOT_PKTLEN, R3);
	set_field(g, IR_LEN, R3);
	ld(e, U8, R3, R7, ETH_HLEN + 6);
	for (int i = 0; i < 5; i++)
		up_if(g, BPF_JEQ, R3, exthdrs[i], up);
	set_slot(g, SLOT_PROTO6, R3);
	addrs_ip6(g, up);
	load_field6(g, IR6_SADDR, packet_load, R7, ETH_HLEN + 8);
	load_field6(g, IR6_DADDR, packet_load, R7, ETH_HLEN + 24);
	load_field(g, IR_TTL, packet_load, U8, R7, ETH_HLEN + 7, 0);
}

/* Ports, ICMP type and TCP flags; a header in memory that cannot be read here goes up. */
static void header_l4(struct cg *g, __u32 up)
{
	struct emit *e = &g->e;
	__u32 none = new_label(e), noflags = new_label(e);
	int at = ETH_HLEN + (cg_v6(g) ? 40 : 20);

	movi(e, R3, at - ETH_HLEN);
	set_slot(g, SLOT_L4OFF, R3);
	ld(e, U64, R4, R10, g->slot[SLOT_L4LEN] - g->frame);
	jmpi(e, BPF_JLT, R4, 4, none);
	linear(g, at + 4, up);
	ld(e, U16, R3, R7, at);
	bswap(e, R3, 16);
	set_field(g, IR_SPORT, R3);
	set_field(g, IR_ICMP, R3);
	ld(e, U16, R3, R7, at + 2);
	bswap(e, R3, 16);
	set_field(g, IR_DPORT, R3);
	if (g->field[IR_TCPFLAGS] >= 0) {
		jmpi(e, BPF_JLT, R4, 14, noflags);
		linear(g, at + 14, up);
		ld(e, U8, R3, R7, at + 13);
		set_field(g, IR_TCPFLAGS, R3);
		place(e, noflags);
	}
	place(e, none);
}

/*
 * What conntrack makes of ICMP errors depends on the packet that they quote,
 * and ICMPv6 neighbour discovery is not tracked.
 */
static void icmp_error(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 no = new_label(e), yes = new_label(e);
	short proto = cg_v6(g) ? g->slot[SLOT_PROTO6] : g->field[IR_PROTO];

	ld(e, U64, R3, R10, proto - g->frame);
	jmpi(e, BPF_JNE, R3, cg_v6(g) ? 58 : 1, no);
	ld(e, U64, R3, R10, g->field[IR_SPORT] - g->frame);
	alui(e, BPF_RSH, R3, 8);
	if (cg_v6(g)) {
		alui(e, BPF_SUB, R3, 128);	/* echo request, reply */
		jmpi(e, BPF_JLE, R3, 1, no);
	} else {
		static const int errors[] = { 3, 4, 5, 11, 12 };

		for (int i = 0; i < 5; i++)
			jmpi(e, BPF_JEQ, R3, errors[i], yes);
		ja(e, no);
	}
	place(e, yes);
	movi(e, R3, 1);
	set_slot(g, SLOT_ICMPERR, R3);
	place(e, no);
}

/* eth_type_trans(): whom the frame is for.  r8: where the device's address is */
static void pkttype_xdp(struct cg *g, __u32 up)
{
	struct emit *e = &g->e;
	__u32 unicast = new_label(e), multicast = new_label(e), done = new_label(e);

	ld(e, U8, R3, R7, 0);
	alui(e, BPF_AND, R3, 1);
	jmpi(e, BPF_JEQ, R3, 0, unicast);
	ld(e, U32, R3, R7, 0);
	movi(e, R4, PACKET_MULTICAST);
	jmpi32(e, BPF_JNE, R3, -1, multicast);
	ld(e, U16, R3, R7, 4);
	jmpi(e, BPF_JNE, R3, 0xffff, multicast);
	movi(e, R4, PACKET_BROADCAST);
	place(e, multicast);
	set_field(g, IR_PKTTYPE, R4);
	ja(e, done);
	place(e, unicast);
	kload(g, U64, R3, R8, 0);	/* there is room for longer addresses */
	ld(e, U64, R4, R7, 0);
	alu(e, BPF_XOR, R3, R4);
	alui(e, BPF_LSH, R3, 16);
	up_if(g, BPF_JNE, R3, 0, up);
	place(e, done);
}

/* r8: skb */
static void pkttype_tc(struct cg *g, __u32 up)
{
	struct emit *e = &g->e;

	ld(e, U32, R3, R6, offsetof(struct __sk_buff, pkt_type));
	up_if(g, BPF_JGT, R3, PACKET_MULTICAST, up);
	set_field(g, IR_PKTTYPE, R3);
	kload_member(g, U16, R3, R8, "sk_buff", "mac_len");
	up_if(g, BPF_JNE, R3, ETH_HLEN, up);
}

static void meta(struct cg *g, __u32 up)
{
	struct emit *e = &g->e;

	if (g->field[IR_SMAC] >= 0 || g->field[IR_MACOK] >= 0) {
		ld(e, U64, R3, R7, 6);
		bswap(e, R3, 64);
		alui(e, BPF_RSH, R3, 16);
		set_field(g, IR_SMAC, R3);
		movi(e, R3, 1);
		set_field(g, IR_MACOK, R3);
	}
	cg_device(g, up);
	if (is_xdp(g))
		pkttype_xdp(g, up);
	else
		pkttype_tc(g, up);
	cg_device_fields(g, up);
}

/* What is not set for every packet: absent means 0. */
static void defaults(struct cg *g)
{
	static const enum cg_slot slots[] = {
		SLOT_HOOK, SLOT_PC, SLOT_FRAGOFF, SLOT_NMATCH, SLOT_CTDONE, SLOT_ICMPERR,
		SLOT_ADDRTYPE,
	};
	static const enum ir_field fields[] = {
		IR_FRAGOFF, IR_SPORT, IR_DPORT, IR_ICMP, IR_TCPFLAGS, IR_PKTTYPE,
	};

	cg_init_frame(g);
	for (unsigned int i = 0; i < sizeof(slots) / sizeof(slots[0]); i++)
		clear_slot(g, g->slot[slots[i]], 8);
	for (unsigned int i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		clear_slot(g, g->field[fields[i]], 8);
	clear_slot(g, g->slot[SLOT_OFACE], 16);
}

/* The conditional jumps of a prologue are short: "up" is at its end. */
static void prologue(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 up = new_label(e), go = new_label(e);

	defaults(g);
	mov(e, R6, R1);
	frame(g, up);
	if (cg_v6(g))
		header_ip6(g, up);
	else
		header_ip(g, up);
	if (g->slot[SLOT_L4LEN] >= 0)
		header_l4(g, up);
	if (g->slot[SLOT_ICMPERR] >= 0)
		icmp_error(g);
	meta(g, up);
	ja(e, go);
	place(e, up);
	movi(e, R0, is_xdp(g) ? XDP_PASS : TC_ACT_UNSPEC);
	exit_(e);
	place(e, go);
}

static void epilogue(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 drop = new_label(e);

	jmpi(e, BPF_JEQ, R0, 1, drop);
	movi(e, R0, is_xdp(g) ? XDP_PASS : TC_ACT_UNSPEC);
	exit_(e);
	place(e, drop);
	movi(e, R0, is_xdp(g) ? XDP_DROP : TC_ACT_SHOT);
	exit_(e);
}

const struct flavor_ops flavor_xdp = {
	.name = "xdp",
	.prog_type = BPF_PROG_TYPE_XDP,
	.attach_type = BPF_XDP,
	.ctx = "xdp_md",
	.early = true,
	.prologue = prologue,
	.epilogue = epilogue,
	.net = cg_device_net,
};

const struct flavor_ops flavor_tc = {
	.name = "tc",
	.prog_type = BPF_PROG_TYPE_SCHED_CLS,
	.ctx = "__sk_buff",
	.early = true,
	.prologue = prologue,
	.epilogue = epilogue,
	.net = cg_device_net,
};
