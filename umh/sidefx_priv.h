/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The parts of the slow path.  Those that build text and packets are pure: an
 * event in, bytes out.
 */
#ifndef XTJIT_SIDEFX_PRIV_H
#define XTJIT_SIDEFX_PRIV_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include "event.h"
#include "sidefx.h"

/* @n bytes at @off of the packet, or NULL where it is shorter (skb_header_pointer()). */
static inline const void *event_bytes(const struct event *ev, __u32 off, __u32 n)
{
	if (off > ev->data_len || n > ev->data_len - off)
		return NULL;
	return ev->data + off;
}

/* sidefx.c: the running kernel is not older than that. */
bool kernel_since(unsigned int major, unsigned int minor);

/* log.c: LOG_MAX is what struct nf_log_buf holds. */
#define LOG_MAX 1019

struct log_buf {
	unsigned int count;	/* LOG_MAX: it is full */
	char text[LOG_MAX + 1];
};

void log_add(struct log_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* %pM, %pI4 and %pI6 of the kernel's printf, between @before and @after. */
void log_mac(struct log_buf *b, const char *before, const __u8 *mac);
void log_ip4(struct log_buf *b, const char *before, const void *addr, const char *after);
void log_ip6(struct log_buf *b, const char *before, const void *addr);
void log_hex(struct log_buf *b, const __u8 *p, __u32 n);

/* False: the packet ends in the header, and so does the line. */
bool log_tcp(struct log_buf *b, const struct event *ev, bool fragment, __u32 off);
bool log_udp(struct log_buf *b, const struct event *ev, __u8 proto, bool fragment, __u32 off);
/* What ends the line of the outer packet. */
void log_tail(struct log_buf *b, const struct event *ev);

/* log_v4.c, log_v6.c: the packet whose header is at @off; @inner: quoted by an ICMP error. */
void log_ipv4(struct log_buf *b, const struct event *ev, __u32 off);
void log_ipv6(struct log_buf *b, const struct event *ev, __u32 off, bool inner);

/* The whole line, as net/netfilter/nf_log_syslog.c has it, without its level. */
void log_line(struct log_buf *b, const struct event *ev);

/* xrlim.c: times are in ms. */
struct xrlim_key {
	__u64 netns;
	__u8 addr[16];		/* that the answer goes to; IPv4: the first 4 bytes */
	__u32 vif;		/* the VRF, 0: none */
	__u32 nfproto;
};

/* inet_peer_xrlim_allow(): one answer in @timeout, six at once. */
bool xrlim_peer(const struct xrlim_key *k, __u32 timeout, __u64 now);

struct xrlim_global {
	__s32 credit;
	__u64 stamp;
};

/* icmp_global_allow(), and icmp_global_consume() for an answer that was sent. */
bool xrlim_global_allow(struct xrlim_global *g, __u32 per_sec, __u32 burst, __u64 now);
void xrlim_global_consume(struct xrlim_global *g);

/* reject_opts.c: the IP options of an ICMP error, from the packet's. */
struct reply_opts {
	__u8 len;		/* a multiple of 4 */
	__u8 data[40];
	__u8 rr, ts, srr;	/* offsets in data, plus 1; 0: none */
	bool rr_needaddr, ts_needaddr, ts_needtime;
	__be32 faddr;		/* srr: where the packet goes first */
};

/* True: the address is neither local nor a broadcast one. */
typedef bool (*unicast_fn)(void *ctx, __be32 addr);

/* ip_options_echo(). 0, or -EINVAL: then there is no answer. */
int reply_opts_echo(struct reply_opts *o, const struct event *ev, unicast_fn unicast, void *ctx);
/* ip_options_build(): fills in what the sender of a packet to @daddr adds. */
void reply_opts_finish(struct reply_opts *o, __be32 saddr, __be32 daddr);

/* reject.c */
enum reject_answer { REJECT_NONE, REJECT_RESET, REJECT_ICMP };

/* What is to be answered, as far as the packet itself tells. */
enum reject_answer reject_answer(const struct event *ev);

/*
 * ipv6_skip_exthdr(): the offset of what is not an extension header, its
 * protocol, the last fragment header's offset field (@frag may be NULL);
 * -1: the packet ends before that.
 */
int skip_ext6(const struct event *ev, __u8 *proto, __u16 *frag);

/* reject_build.c: for packets that reject_answer() has seen. */
struct reject_facts {
	__u8 saddr[16];		/* ICMP: the answer's source */
	__u8 hoplimit;
	__u32 mtu;		/* ICMPv4: of the route */
	struct reply_opts opts;	/* ICMPv4 */
};

#define REJECT_MAX 1280		/* bytes of an answer */

/*
 * Builds the answer and returns its length: with its IP header, but ICMPv6
 * without (the kernel makes it, with the flow label, which is a secret).
 * 0: the MTU is too small for one.
 */
size_t reject_build_reset(const struct event *ev, const struct reject_facts *f, __u8 *out);
size_t reject_build_icmp(const struct event *ev, const struct reject_facts *f, __u8 *out);

/* The type of service of an ICMPv4 error. */
__u8 reject_tos(const struct event *ev);

/* One's complement sums. */
__u32 csum_add_bytes(__u32 sum, const void *data, size_t len);
__u16 csum_fold(__u32 sum);

/* sidefx_route.c: questions to rtnetlink, over a socket of the namespace. */
struct route_query {
	__u8 nfproto, tos;
	bool fib_match;		/* IPv6: of the route itself, not of one packet on it */
	const void *src, *dst;	/* src: NULL: none */
	__u32 iif, oif, mark;	/* 0: none */
};

struct route {
	__u32 flags;		/* RTCF_* */
	__u8 type;		/* RTN_* */
	__u8 dst_len;
	bool gateway, has_src;
	__u32 oif, mtu, hoplimit;	/* mtu, hoplimit: 0: not the route's to say */
	__u8 src[16];		/* the preferred source; if not fib_match, the selected one */
	__u8 dst[16];
};

struct link_info {
	__u32 mtu, hop_limit6;
	__u32 vrf;		/* ifindex of the VRF it is in, or is; 0: none */
};

/* All return 0 or a negative errno. */
int route_get(int fd, const struct route_query *q, struct route *r);
int link_get(int fd, __u32 ifindex, struct link_info *l);

/* The device with the IPv6 address (not a tentative one), 0: none has it; @ifindex: 0: any. */
__u32 addr6_owner(int fd, const void *addr, __u32 ifindex);
/* An address of a device, as rtnetlink tells it. */
struct addr {
	const struct ifaddrmsg *ifa;
	const void *addr, *local;	/* the other end's if there is one; ours */
	__u32 flags;
};
int addr_each(int fd, __u8 family, void (*fn)(const struct addr *a, void *arg), void *arg);
/* inet_select_addr(dev, dst, RT_SCOPE_LINK); 0: none. */
__be32 addr4_select(int fd, __u32 ifindex, __be32 dst);
/* sidefx_saddr6.c: ipv6_dev_get_saddr() with the default address labels. */
int addr6_select(int fd, __u32 ifindex, const void *dst, void *src);

/* sidefx_ns.c: what is kept of a namespace. */
enum ns_sock { NS_RAW4, NS_RAW6, NS_ICMP6, NS_SOCKS };

struct ns_sysctl {
	__u32 default_ttl, fwmark_reflect4, fwmark_reflect6;
	__u32 ratelimit4, ratemask4, msgs_per_sec, msgs_burst;
	__u32 ratelimit6, inbound_ifaddr;
	bool limit6;		/* icmp/ratemask has ICMPV6_DEST_UNREACH */
};

struct ns_ctx {
	__u64 cookie;
	__u64 used, sysctl_read;	/* ms */
	int rtnl;			/* -1: not open, as all of these */
	int sock[NS_SOCKS][2];		/* [1]: answers to packets with an entry */
	struct ns_sysctl sysctl;
	struct xrlim_global global;
	struct {
		__u32 ifindex;
		__u64 read;
		struct link_info info;
	} links[8];
};

__u64 now_ms(void);
/* The context of a namespace, its settings fresh. NULL: it cannot be had. */
struct ns_ctx *ns_get(__u64 cookie);
/* Opens it on first use. The fd, or a negative errno. */
int ns_socket(struct ns_ctx *ns, enum ns_sock kind, bool related);
/*
 * Has programs take what the socket sends next for an answer to @ev.  @loops: it
 * comes back to us; to be called again without @ev when it is sent.
 */
int ns_announce(int fd, const struct event *ev, bool loops);
const struct link_info *ns_link(struct ns_ctx *ns, __u32 ifindex);
void ns_init(int self_map);
/* True: icmp/ratelimit is shorter for destinations whose route has a wider prefix. */
bool ns_wide_prefixes(void);

/* sidefx_reject.c: 0: sent; or why not. */
enum reject_result { REJECT_SENT, REJECT_NO_ANSWER, REJECT_LIMITED, REJECT_FAILED };
enum reject_result reject_packet(const struct event *ev);

#endif
