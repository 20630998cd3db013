// SPDX-License-Identifier: GPL-2.0
/*
 * Functions that read the packet as the flavor can: events for the helper,
 * IPv6 extension headers, and ports that are not in linear memory.
 */
#include <errno.h>
#include <netinet/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <stddef.h>

#include "cg.h"
#include "event.h"
#include "kbtf.h"
#include "probe.h"

#define EV(member) ((int)offsetof(struct event, member))

/* Of an answer of ours, that of the packet that it answers: the kernel's own has it attached. */
static void event_ct_attached(struct cg *g, __u32 done)
{
	struct emit *e = &g->e;
	__u32 no = new_label(e);

	if (g->slot[SLOT_ANSWER] < 0 || g->env->self < 0)
		return;
	ld_slot(g, R3, SLOT_ANSWER);
	jmpi(e, BPF_JEQ, R3, 0, no);
	sti(e, U8, R8, EV(has_ct), EVENT_CT_ENTRY);
	kload(g, U32, R4, R3, offsetof(struct self_entry, dir));
	st(e, U8, R8, EV(ct_reply), R4);
	ld_slot(g, R3, SLOT_ANSWER);
	alui(e, BPF_ADD, R3, offsetof(struct self_entry, ct));
	mov(e, R1, R8);
	alui(e, BPF_ADD, R1, EV(ct));
	movi(e, R2, cg_ct_size(g));
	call_helper(e, BPF_FUNC_probe_read_kernel);
	ja(e, done);
	place(e, no);
}

/* The conntrack entry, and the original destination where the answer will not be translated back. */
static void event_ct(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 none = new_label(e), original = new_label(e);

	sti(e, U8, R8, EV(has_ct), EVENT_CT_NONE);
	sti(e, U16, R8, EV(orig_dport), 0);
	for (int i = 0; i < 16; i += 8)
		sti(e, U64, R8, EV(orig_daddr) + i, 0);
	event_ct_attached(g, none);
	kload_member(g, U64, R3, R9, "sk_buff", "_nfct");
	mov(e, R4, R3);
	alui(e, BPF_AND, R3, ~7);
	jmpi(e, BPF_JEQ, R3, 0, none);
	st(e, U64, R10, -24, R3);
	sti(e, U8, R8, EV(has_ct), EVENT_CT_ENTRY);
	sti(e, U8, R8, EV(ct_reply), 0);
	alui(e, BPF_AND, R4, 7);
	jmpi(e, BPF_JLT, R4, IP_CT_IS_REPLY, original);
	sti(e, U8, R8, EV(ct_reply), 1);
	place(e, original);
	mov(e, R1, R8);
	alui(e, BPF_ADD, R1, EV(ct));
	movi(e, R2, cg_ct_size(g));
	call_helper(e, BPF_FUNC_probe_read_kernel);
	ld(e, U8, R1, R8, EV(ct_reply));
	jmpi(e, BPF_JNE, R1, 0, none);
	ld(e, U64, R3, R10, -24);
	kload_member(g, U64, R4, R3, "nf_conn", "status");
	alui(e, BPF_AND, R4, IPS_DST_NAT | IPS_SRC_NAT | IPS_CONFIRMED);
	jmpi(e, BPF_JEQ, R4, 0, none);
	jmpi(e, BPF_JEQ, R4, IPS_DST_NAT | IPS_CONFIRMED, none);
	alui(e, BPF_AND, R4, IPS_DST_NAT);
	jmpi(e, BPF_JEQ, R4, 0, none);
	sti(e, U8, R8, EV(has_ct), EVENT_CT_DNAT);
	ld(e, U64, R3, R10, -24);
	kload(g, U16, R4, R3, cg_ct_tuple(g, 0, "dst.u"));
	st(e, U16, R8, EV(orig_dport), R4);
	for (int i = 0; i < 16; i += 8) {
		ld(e, U64, R3, R10, -24);
		kload(g, U64, R4, R3, cg_ct_tuple(g, 0, "dst.u3") + i);
		st(e, U64, R8, EV(orig_daddr) + i, R4);
	}
	place(e, none);
}

/* r8: the record; r9: skb.  What is known of a device in r3 (may be 0). */
static void event_device(struct cg *g, const char *which, int ifindex, int name)
{
	struct emit *e = &g->e;
	__u32 none = new_label(e);

	sti(e, U32, R8, ifindex, 0);
	sti(e, U64, R8, name, 0);
	sti(e, U64, R8, name + 8, 0);
	cg_hook_state(g, R3, R7);
	tload(g, U64, R3, R3, "nf_hook_state", which);
	st(e, U64, R10, -24, R3);
	jmpi(e, BPF_JEQ, R3, 0, none);
	kload_member(g, U32, R4, R3, "net_device", "ifindex");
	st(e, U32, R8, ifindex, R4);
	for (int i = 0; i < 16; i += 8) {
		ld(e, U64, R3, R10, -24);
		kload(g, U64, R4, R3, kbtf_offset("net_device", "name") + i);
		st(e, U64, R8, name + i, R4);
	}
	place(e, none);
}

/* Of skb->dev, which the MAC header belongs to. */
static void event_skb_dev(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 none = new_label(e);

	sti(e, U16, R8, EV(in_type), 0);
	sti(e, U16, R8, EV(hh_len), 0);
	kload_member(g, U64, R3, R9, "sk_buff", "dev");
	jmpi(e, BPF_JEQ, R3, 0, none);
	st(e, U64, R10, -24, R3);
	kload_member(g, U16, R4, R3, "net_device", "type");
	st(e, U16, R8, EV(in_type), R4);
	ld(e, U64, R3, R10, -24);
	kload_member(g, U16, R4, R3, "net_device", "hard_header_len");
	st(e, U16, R8, EV(hh_len), R4);
	place(e, none);
}

/* The MAC header, where there is one before the network header. */
static void event_mac(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 none = new_label(e), fits = new_label(e);

	sti(e, U16, R8, EV(mac_len), 0);
	for (int i = 0; i < EVENT_MAC_MAX; i += 8)
		sti(e, U64, R8, EV(mac) + i, 0);
	kload_member(g, U16, R3, R9, "sk_buff", "mac_header");
	jmpi(e, BPF_JEQ, R3, 0xffff, none);
	st(e, U64, R10, -24, R3);
	kload_member(g, U16, R4, R9, "sk_buff", "network_header");
	ld(e, U64, R3, R10, -24);
	alu(e, BPF_SUB, R4, R3);
	jmpi(e, BPF_JSLE, R4, 0, none);
	jmpi(e, BPF_JLE, R4, EVENT_MAC_MAX, fits);
	movi(e, R4, EVENT_MAC_MAX);
	place(e, fits);
	st(e, U16, R8, EV(mac_len), R4);
	kload_member(g, U64, R4, R9, "sk_buff", "head");
	ld(e, U64, R3, R10, -24);
	alu(e, BPF_ADD, R3, R4);
	mov(e, R1, R8);
	alui(e, BPF_ADD, R1, EV(mac));
	movi(e, R2, EVENT_MAC_MAX);
	call_helper(e, BPF_FUNC_probe_read_kernel);
	place(e, none);
}

/* nf_log_dump_sk_uid_gid(): a full socket with a file; without one, it is the kernel's. */
static void event_owner(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 none = new_label(e), user = new_label(e);

	sti(e, U8, R8, EV(has_sk), 0);
	sti(e, U8, R8, EV(kernel_sk), 0);
	sti(e, U32, R8, EV(uid), 0);
	sti(e, U32, R8, EV(gid), 0);
	ld_slot(g, R1, SLOT_SELF);	/* an answer of ours is nobody's */
	st(e, U8, R8, EV(self), R1);
	jmpi(e, BPF_JNE, R1, 0, none);
	kload_member(g, U64, R3, R9, "sk_buff", "sk");
	jmpi(e, BPF_JEQ, R3, 0, none);
	st(e, U64, R10, -24, R3);
	kload_member(g, U8, R4, R3, "sock", "__sk_common.skc_state");
	jmpi(e, BPF_JEQ, R4, 6, none);		/* TCP_TIME_WAIT */
	jmpi(e, BPF_JEQ, R4, 12, none);		/* TCP_NEW_SYN_RECV */
	ld(e, U64, R3, R10, -24);
	kload_member(g, U64, R3, R3, "sock", "sk_socket");
	jmpi(e, BPF_JEQ, R3, 0, none);
	kload_member(g, U64, R3, R3, "socket", "file");
	jmpi(e, BPF_JNE, R3, 0, user);
	sti(e, U8, R8, EV(kernel_sk), 1);
	ja(e, none);
	place(e, user);
	kload_member(g, U64, R3, R3, "file", "f_cred");
	st(e, U64, R10, -24, R3);
	kload_member(g, U32, R4, R3, "cred", "fsuid");
	st(e, U32, R8, EV(uid), R4);
	ld(e, U64, R3, R10, -24);
	kload_member(g, U32, R4, R3, "cred", "fsgid");
	st(e, U32, R8, EV(gid), R4);
	sti(e, U8, R8, EV(has_sk), 1);
	place(e, none);
}

/*
 * CHECKSUM_UNNECESSARY (1), CHECKSUM_PARTIAL (3); CHECKSUM_COMPLETE (2) is not
 * looked at again but at INPUT, where what conntrack has found right still is.
 */
static void event_csum(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 ok = new_label(e), done = new_label(e), no = new_label(e);

	kload_bits(g, R3, R9, "sk_buff", "csum_valid", 1);
	st(e, U8, R8, EV(csum_valid), R3);
	kload_bits(g, R3, R9, "sk_buff", "ip_summed", 2);
	jmpi(e, BPF_JEQ, R3, 1, ok);
	jmpi(e, BPF_JEQ, R3, 3, ok);
	jmpi(e, BPF_JNE, R3, 2, no);
	ld_slot(g, R1, SLOT_HOOK);
	jmpi(e, BPF_JNE, R1, NF_INET_LOCAL_IN, ok);
	ld(e, U8, R3, R8, EV(csum_valid));
	jmpi(e, BPF_JNE, R3, 0, ok);
	place(e, no);
	sti(e, U8, R8, EV(csum_ok), 0);
	ja(e, done);
	place(e, ok);
	sti(e, U8, R8, EV(csum_ok), 1);
	place(e, done);
}

static void event_meta(struct cg *g)
{
	struct emit *e = &g->e;

	for (int i = 0; i < 6; i++) {
		ld(e, U64, R1, R6, g->slot[SLOT_EVENT] + 8 * i);
		st(e, U64, R8, 8 * i, R1);
	}
	ld_slot(g, R1, SLOT_HOOK);
	st(e, U8, R8, EV(hook), R1);
	kload_member(g, U32, R3, R9, "sk_buff", "mark");
	st(e, U32, R8, EV(mark), R3);
	kload_bits(g, R3, R9, "sk_buff", "pkt_type", 3);
	st(e, U8, R8, EV(pkt_type), R3);
	ld_slot(g, R1, SLOT_PKTLEN);
	st(e, U32, R8, EV(len), R1);
}

/* One struct event; where the ring is full, the packet is not logged or answered. */
static void lib_event(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 got = new_label(e), fits = new_label(e);

	lib_begin(g);
	ldmap(e, R1, g->env->ring);
	movi(e, R2, sizeof(struct event));
	movi(e, R3, 0);
	call_helper(e, BPF_FUNC_ringbuf_reserve);
	jmpi(e, BPF_JNE, R0, 0, got);
	if (g->env->lost > 0) {
		ldmapvalue(e, R1, g->env->lost, 0);
		movi(e, R2, 1);
		atomic(e, U64, BPF_ADD, R1, 0, R2);
	}
	lib_ret(g, 0);
	place(e, got);
	mov(e, R8, R0);
	ld(e, U64, R9, R7, 8);
	event_meta(g);
	event_device(g, "in", EV(in_ifindex), EV(in_name));
	event_device(g, "out", EV(out_ifindex), EV(out_name));
	event_skb_dev(g);
	event_ct(g);
	event_mac(g);
	event_owner(g);
	event_csum(g);
	g->fl->packet_begin(g, -16);
	ld_slot(g, R2, SLOT_PKTLEN);
	jmpi(e, BPF_JLE, R2, EVENT_DATA_MAX, fits);
	movi(e, R2, EVENT_DATA_MAX);
	place(e, fits);
	st(e, U32, R8, EV(data_len), R2);
	mov(e, R1, R8);
	alui(e, BPF_ADD, R1, EV(data));
	movi(e, R4, 0);
	g->fl->packet_read(g, -16);
	mov(e, R1, R8);
	movi(e, R2, 0);
	call_helper(e, BPF_FUNC_ringbuf_submit);
	lib_ret(g, 0);
}

/* Ports, ICMP type and TCP flags of a transport header that is not in linear memory. */
static void lib_l4(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 out = new_label(e);

	lib_begin(g);
	g->fl->packet_begin(g, -16);
	sti(e, U64, R10, -24, 0);
	mov(e, R1, R10);
	alui(e, BPF_ADD, R1, -24);
	movi(e, R2, 4);
	ld_slot(g, R4, SLOT_L4OFF);
	g->fl->packet_read(g, -16);
	for (int i = 0; i < 3; i++) {
		static const enum ir_field f[] = { IR_SPORT, IR_DPORT, IR_ICMP };

		if (g->field[f[i]] < 0)
			continue;
		ld(e, U16, R1, R10, i == 1 ? -22 : -24);
		bswap(e, R1, 16);
		st(e, U64, R6, g->field[f[i]], R1);
	}
	if (g->field[IR_TCPFLAGS] >= 0) {
		ld_slot(g, R1, SLOT_L4LEN);
		jmpi(e, BPF_JLT, R1, 14, out);
		mov(e, R1, R10);
		alui(e, BPF_ADD, R1, -24);
		movi(e, R2, 1);
		ld_slot(g, R4, SLOT_L4OFF);
		alui(e, BPF_ADD, R4, 13);
		g->fl->packet_read(g, -16);
		ld(e, U8, R1, R10, -24);
		st(e, U64, R6, g->field[IR_TCPFLAGS], R1);
	}
	place(e, out);
	lib_ret(g, 0);
}

/* Goes to @label if the header number in r8 is one to be walked over: ipv6_ext_hdr(), not NONE */
static void if_exthdr(struct cg *g, __u32 label)
{
	static const int hdrs[] = { IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_FRAGMENT,
				    IPPROTO_AH, IPPROTO_DSTOPTS };

	for (unsigned int i = 0; i < sizeof(hdrs) / sizeof(hdrs[0]); i++)
		jmpi(&g->e, BPF_JEQ, R8, hdrs[i], label);
}

/*
 * ipv6_find_hdr(skb, &off, -1, &fragoff, NULL) for a packet whose next header
 * (in PROTO6) is an extension header: PROTO6, FRAGOFF and L4OFF as it leaves them.
 * More headers than PROBE_EXTHDRS count as malformed, or than the kernel walks over.
 */
static void lib_exthdr(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 top = new_label(e), walk = new_label(e), bad = new_label(e);
	__u32 four = new_label(e), frag = new_label(e), auth = new_label(e), have = new_label(e);
	__u32 read = new_label(e), first = new_label(e), out = new_label(e);

	lib_begin(g);
	g->fl->packet_begin(g, -16);
	ld_slot(g, R8, SLOT_PROTO6);
	loop_begin(g, -40, probe()->exthdrs);
	place(e, top);
	if_exthdr(g, walk);
	st(e, U64, R6, g->slot[SLOT_PROTO6], R8);
	ja(e, out);

	place(e, walk);
	loop_next(g, -40, bad);
	sti(e, U64, R10, -24, 0);
	ld_slot(g, R3, SLOT_L4OFF);
	ld_slot(g, R2, SLOT_PKTLEN);
	alu(e, BPF_SUB, R2, R3);
	st(e, U64, R10, -32, R2);
	jmpi(e, BPF_JSLT, R2, 2, bad);
	jmpi(e, BPF_JSGE, R2, 4, four);
	jmpi(e, BPF_JEQ, R8, IPPROTO_ROUTING, bad);
	jmpi(e, BPF_JEQ, R8, IPPROTO_FRAGMENT, bad);
	movi(e, R2, 2);
	ja(e, read);
	place(e, four);
	movi(e, R2, 4);
	place(e, read);
	mov(e, R1, R10);
	alui(e, BPF_ADD, R1, -24);
	ld_slot(g, R4, SLOT_L4OFF);
	g->fl->packet_read(g, -16);
	jmpi(e, BPF_JEQ, R8, IPPROTO_FRAGMENT, frag);
	ld(e, U8, R1, R10, -23);
	jmpi(e, BPF_JEQ, R8, IPPROTO_AH, auth);
	alui(e, BPF_ADD, R1, 1);
	alui(e, BPF_LSH, R1, 3);
	ja(e, have);
	place(e, auth);
	alui(e, BPF_ADD, R1, 2);
	alui(e, BPF_LSH, R1, 2);
	ja(e, have);

	place(e, frag);
	ld(e, U16, R2, R10, -22);
	bswap(e, R2, 16);
	alui(e, BPF_AND, R2, 0xfff8);
	jmpi(e, BPF_JEQ, R2, 0, first);
	ld(e, U8, R8, R10, -24);
	if_exthdr(g, bad);
	st(e, U64, R6, g->slot[SLOT_PROTO6], R8);
	st(e, U64, R6, g->slot[SLOT_FRAGOFF], R2);
	sti(e, U64, R6, g->slot[SLOT_L4OFF], 0);	/* the kernel leaves it so */
	ja(e, out);
	place(e, first);
	movi(e, R1, 8);

	place(e, have);
	if (probe()->exthdr_checked) {
		ld(e, U64, R2, R10, -32);
		jmp(e, BPF_JLT, R2, R1, bad);
	}
	ld_slot(g, R2, SLOT_L4OFF);
	alu(e, BPF_ADD, R2, R1);
	st(e, U64, R6, g->slot[SLOT_L4OFF], R2);
	ld(e, U8, R8, R10, -24);
	ja(e, top);

	place(e, bad);
	sti(e, U64, R6, g->slot[SLOT_PROTO6], -1);
	place(e, out);
	loop_end(g, -40);
	lib_ret(g, 0);
}

void cg_lib_packet(struct cg *g, enum cg_lib l)
{
	switch (l) {
	case LIB_EVENT:
		lib_event(g);
		break;
	case LIB_L4:
		lib_l4(g);
		break;
	case LIB_EXTHDR:
		lib_exthdr(g);
		break;
	default:
		g->e.err = g->e.err ?: -EINVAL;
	}
}
