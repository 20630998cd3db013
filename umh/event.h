/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a program in the kernel tells the helper through the ring buffer: a
 * packet that is to be logged or answered.  Complete in itself, so that a
 * helper that has just started can act on what was queued before.
 */
#ifndef XTJIT_EVENT_H
#define XTJIT_EVENT_H

#include <linux/types.h>
#include <stddef.h>

#define EVENT_MAC_MAX	32
#define EVENT_CT_MAX	192	/* of struct nf_conn, through its status */
#define EVENT_DATA_MAX	1536	/* enough for what ICMPv6 errors quote, 1232 */

enum event_kind {
	EVENT_LOG = 1,
	EVENT_REJECT,
};

/*
 * The answer to a packet with a translated destination must be translated back.
 * The kernel attaches the packet's entry to it; conntrack cannot tell the entry
 * from our answer where it is new, and goes with the packet, or where the source
 * will be translated, too.
 */
enum event_ct {
	EVENT_CT_NONE,		/* no conntrack entry: INVALID, UNTRACKED */
	EVENT_CT_ENTRY,
	/* original direction, IPS_DST_NAT, and: not IPS_CONFIRMED, or IPS_SRC_NAT */
	EVENT_CT_DNAT,
};

struct event {
	__u64 netns;		/* cookie of the packet's network namespace */
	__u8 kind;		/* enum event_kind */
	__u8 nfproto;		/* NFPROTO_IPV4, NFPROTO_IPV6 */
	__u8 hook;		/* enum nf_inet_hooks */
	__u8 with;		/* REJECT: enum ipt_reject_with, ip6t_reject_with */
	__u8 level, flags;	/* LOG: as struct xt_log_info */
	__u8 has_ct;		/* enum event_ct */
	__u8 pkt_type;		/* PACKET_HOST, ... */
	char prefix[30];	/* LOG */
	__u16 mac_len;		/* bytes in mac: from the MAC to the network header, 0 if none */
	__u32 mark;
	__u32 len;		/* skb->len: of the whole packet, from the network header */
	__u32 data_len;		/* bytes in data: the smaller of len and EVENT_DATA_MAX */
	__u32 in_ifindex, out_ifindex;	/* 0: none */
	__u32 uid, gid;		/* of the socket, where has_sk */
	__u8 has_sk;		/* there is a socket with a file (LOG --log-uid) */
	/* CHECKSUM_UNNECESSARY, _PARTIAL, or _COMPLETE and valid or not at INPUT */
	__u8 csum_ok;
	__u16 in_type;		/* skb->dev->type: ARPHRD_* */
	__u16 hh_len;		/* skb->dev->hard_header_len */
	__be16 orig_dport;	/* EVENT_CT_DNAT: the port that the packet was sent to */
	__u8 ct_reply;		/* has_ct: the packet is one of the reply direction */
	__u8 kernel_sk;		/* the socket is the kernel's own */
	__u8 csum_valid;	/* skb->csum_valid: it was right when it was last looked at */
	__u8 self;		/* the packet is an answer of ours */
	__u8 orig_daddr[16];	/* EVENT_CT_DNAT: the address, IPv4: the first 4 bytes */
	char in_name[16], out_name[16];
	__u8 mac[EVENT_MAC_MAX];	/* the MAC header as received */
	__u8 ct[EVENT_CT_MAX];	/* has_ct: the entry's first bytes: what rules see of it */
	__u8 data[EVENT_DATA_MAX];	/* from the network header on */
};

_Static_assert(offsetof(struct event, mac) % 8 == 0, "copied by words");

#endif
