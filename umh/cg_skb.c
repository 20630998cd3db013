// SPDX-License-Identifier: GPL-2.0
/*
 * What the flavors of the exact stage have in common: fields that they find in
 * the memory of an skb and of its conntrack entry.
 */
#include <linux/if_packet.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/xt_conntrack.h>

#include "cg.h"
#include "kbtf.h"
#include "probe.h"

#define CT_UNTRACKED 7			/* IP_CT_UNTRACKED, not in the uapi header */

/* What is not set for every packet: absent means 0. */
void cg_defaults(struct cg *g)
{
	static const enum cg_slot slots[] = { SLOT_FRAGOFF, SLOT_PC, SLOT_SELF, SLOT_ADDRTYPE };

	cg_init_frame(g);
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

/*
 * xt_length; r3: the length in the header.  Large packets made by offloads (BIG
 * TCP) have none there.
 */
void cg_length(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 told = new_label(e);

	if (cg_v6(g) && !probe()->length6_packet) {
		alui(e, BPF_ADD, R3, 40);
		alui(e, BPF_AND, R3, 0xffff);
	} else {
		if (!cg_v6(g))
			jmpi(e, BPF_JNE, R3, 0, told);
		ld(e, U64, R3, R10, g->slot[SLOT_PKTLEN] - g->frame);
	}
	place(e, told);
	set_field(g, IR_LEN, R3);
}

bool cg_wants_l4(const struct cg *g)
{
	return g->slot[SLOT_L4LEN] >= 0;
}

/* ip6_packet_match() */
void cg_proto6(struct cg *g)
{
	struct emit *e = &g->e;
	static const int exthdrs[] = { 0, 43, 44, 51, 60 };
	__u32 walk = new_label(e), done = new_label(e);

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

/* net/netfilter/xt_mac.c */
void cg_mac_source(struct cg *g)
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
void cg_looped_type(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 multicast = new_label(e);

	movi(e, R8, PACKET_MULTICAST);
	if (!cg_v6(g))
		alui(e, BPF_AND, R3, 0xf0);
	jmpi(e, BPF_JEQ, R3, cg_v6(g) ? 0xff : 0xe0, multicast);
	movi(e, R8, PACKET_BROADCAST);
	place(e, multicast);
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
			load_field6(g, addrs[i].field6, kload, R8, off);
		else
			load_field(g, addrs[i].field, kload, U32, R8, off, 32);
		load_field(g, ports[i].field, kload, U16, R8,
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

	movi(e, R3, 1);
	set_field(g, IR_CT, R3);
	if (g->field[IR_CTSTATUS] >= 0 || g->ctnat) {
		kload_member(g, U32, R3, R8, "nf_conn", "status");
		set_field(g, IR_CTSTATUS, R3);
	}
	if (g->ctnat) {
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
	load_field(g, IR_CTPROTO, kload, U8, R8, cg_ct_tuple(g, 0, "dst.protonum"), 0);
	ct_tuples(g);
	ct_expire(g);
}

bool cg_wants_ct(const struct cg *g)
{
	for (int f = IR_CT; f <= IR_CTEXPIRE; f++)
		if (g->field[f] >= 0)
			return true;
	return false;
}

bool cg_wants_ct_entry(const struct cg *g)
{
	for (int f = IR_CTSTATUS; f <= IR_CTEXPIRE; f++)
		if (f != IR_CTDIR && g->field[f] >= 0)
			return true;
	for (int f = IR6_CTORIGSRC; f < IR6_NFIELDS; f++)
		if (g->field6[f] >= 0)
			return true;
	return g->ctnat;
}

/* net/netfilter/xt_conntrack.c */
void cg_conntrack(struct cg *g, __u32 entry)
{
	struct emit *e = &g->e;
	__u32 none = new_label(e), done = new_label(e), original = new_label(e);
	__u32 untracked = new_label(e), state = new_label(e);

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
