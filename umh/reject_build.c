// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4/ipt_REJECT.h>
#include <linux/netfilter_ipv6/ip6t_REJECT.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <netinet/in.h>
#include <string.h>

#include "sidefx_priv.h"

#define IP_DF		0x4000
#define ICMP4_MAX	576	/* of a whole error */
#define QUOTE6_MAX	1232	/* the smallest MTU less both headers */

static __u32 min32(__u32 a, __u32 b)
{
	return a < b ? a : b;
}

static __u16 csum_update(__u16 csum, const void *from, const void *to, size_t len)
{
	__u32 sum = (__u16)~ntohs(csum);
	const __u8 *p = from;

	for (size_t i = 0; i < len; i += 2)
		sum += (__u16)~(p[i] << 8 | p[i + 1]);
	return htons(csum_fold(csum_add_bytes(sum, to, len)));
}

/* Where the TCP or UDP checksum of a quoted packet is, if the quotation reaches that far. */
static __u16 *quoted_csum(__u8 *l4, __u32 left, __u8 proto)
{
	struct tcphdr *th = (void *)l4;
	struct udphdr *uh = (void *)l4;

	if (proto == IPPROTO_TCP && left >= sizeof(*th))
		return &th->check;
	if ((proto == IPPROTO_UDP || proto == IPPROTO_UDPLITE) && left >= sizeof(*uh) && uh->check)
		return &uh->check;
	return NULL;
}

/* Ports and checksum of the quoted transport header, as before the translation. */
static void untranslate_l4(const struct event *ev, __u8 *l4, __u32 left, __u8 proto,
			   const void *daddr, size_t addr_len)
{
	bool ports = proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_UDPLITE ||
		     proto == IPPROTO_SCTP || proto == IPPROTO_DCCP;
	__u16 *csum = quoted_csum(l4, left, proto);

	if (!ports || left < 8)
		return;
	if (csum) {
		*csum = csum_update(*csum, daddr, ev->orig_daddr, addr_len);
		*csum = csum_update(*csum, l4 + 2, &ev->orig_dport, 2);
		if (!*csum && proto != IPPROTO_TCP)
			*csum = 0xffff;
	}
	memcpy(l4 + 2, &ev->orig_dport, 2);
}

/* What conntrack does to the ICMP errors of a connection that it knows. */
static void untranslate4(const struct event *ev, __u8 *quote, __u32 len)
{
	struct iphdr *ih = (void *)quote;
	__u32 off = ih->ihl * 4;

	if (off < len)
		untranslate_l4(ev, quote + off, len - off, ih->protocol, &ih->daddr, 4);
	ih->check = csum_update(ih->check, &ih->daddr, ev->orig_daddr, 4);
	memcpy(&ih->daddr, ev->orig_daddr, 4);
}

static void untranslate6(const struct event *ev, __u8 *quote, __u32 len)
{
	struct ipv6hdr *ih = (void *)quote;
	__u8 proto;
	int off = skip_ext6(ev, &proto, NULL);

	if (off > 0 && (__u32)off < len)
		untranslate_l4(ev, quote + off, len - off, proto, &ih->daddr, 16);
	memcpy(&ih->daddr, ev->orig_daddr, 16);
}

/* The TCP header of a reset. @off: of the one that it answers. */
static void put_reset(const struct event *ev, __u32 off, struct tcphdr *th)
{
	const struct tcphdr *oth = (const void *)(ev->data + off);

	memset(th, 0, sizeof(*th));
	th->source = ev->has_ct == EVENT_CT_DNAT ? ev->orig_dport : oth->dest;
	th->dest = oth->source;
	th->doff = sizeof(*th) / 4;
	th->rst = 1;
	if (oth->ack) {
		th->seq = oth->ack_seq;
		return;
	}
	th->ack = 1;
	th->ack_seq = htonl(ntohl(oth->seq) + oth->syn + oth->fin + ev->len - off -
			    (oth->doff << 2));
}

/* @addrs: source and destination of the answer. */
static void put_tcp_csum(struct tcphdr *th, const void *addrs, size_t addr_len)
{
	__u32 sum = csum_add_bytes(IPPROTO_TCP + sizeof(*th), addrs, 2 * addr_len);

	th->check = htons(csum_fold(csum_add_bytes(sum, th, sizeof(*th))));
}

static size_t build_reset4(const struct event *ev, const struct reject_facts *f, __u8 *out)
{
	const struct iphdr *oih = (const void *)ev->data;
	struct iphdr *ih = (void *)out;
	struct tcphdr *th = (void *)(ih + 1);

	memset(ih, 0, sizeof(*ih));
	ih->version = 4;
	ih->ihl = 5;
	ih->frag_off = htons(IP_DF);
	ih->protocol = IPPROTO_TCP;
	ih->ttl = f->hoplimit;
	ih->daddr = oih->saddr;
	memcpy(&ih->saddr, ev->has_ct == EVENT_CT_DNAT ? ev->orig_daddr : (const void *)&oih->daddr,
	       4);
	put_reset(ev, oih->ihl * 4, th);
	put_tcp_csum(th, &ih->saddr, 4);
	return sizeof(*ih) + sizeof(*th);
}

static size_t build_reset6(const struct event *ev, const struct reject_facts *f, __u8 *out)
{
	const struct ipv6hdr *oih = (const void *)ev->data;
	struct ipv6hdr *ih = (void *)out;
	struct tcphdr *th = (void *)(ih + 1);
	__u8 proto;

	memset(ih, 0, sizeof(*ih));
	ih->version = 6;
	ih->payload_len = htons(sizeof(*th));
	ih->nexthdr = IPPROTO_TCP;
	ih->hop_limit = f->hoplimit;
	ih->daddr = oih->saddr;
	memcpy(&ih->saddr, ev->has_ct == EVENT_CT_DNAT ? ev->orig_daddr : (const void *)&oih->daddr,
	       16);
	put_reset(ev, skip_ext6(ev, &proto, NULL), th);
	put_tcp_csum(th, &ih->saddr, 16);
	return sizeof(*ih) + sizeof(*th);
}

size_t reject_build_reset(const struct event *ev, const struct reject_facts *f, __u8 *out)
{
	if (ev->nfproto == NFPROTO_IPV4)
		return build_reset4(ev, f, out);
	return build_reset6(ev, f, out);
}

static const __u8 code4[] = {
	[IPT_ICMP_NET_UNREACHABLE] = ICMP_NET_UNREACH,
	[IPT_ICMP_HOST_UNREACHABLE] = ICMP_HOST_UNREACH,
	[IPT_ICMP_PROT_UNREACHABLE] = ICMP_PROT_UNREACH,
	[IPT_ICMP_PORT_UNREACHABLE] = ICMP_PORT_UNREACH,
	[IPT_ICMP_NET_PROHIBITED] = ICMP_NET_ANO,
	[IPT_ICMP_HOST_PROHIBITED] = ICMP_HOST_ANO,
	[IPT_ICMP_ADMIN_PROHIBITED] = ICMP_PKT_FILTERED,
};

static const __u8 code6[] = {
	[IP6T_ICMP6_NO_ROUTE] = ICMPV6_NOROUTE,
	[IP6T_ICMP6_ADM_PROHIBITED] = ICMPV6_ADM_PROHIBITED,
	[IP6T_ICMP6_NOT_NEIGHBOUR] = ICMPV6_NOT_NEIGHBOUR,
	[IP6T_ICMP6_ADDR_UNREACH] = ICMPV6_ADDR_UNREACH,
	[IP6T_ICMP6_PORT_UNREACH] = ICMPV6_PORT_UNREACH,
	[IP6T_ICMP6_POLICY_FAIL] = ICMPV6_POLICY_FAIL,
	[IP6T_ICMP6_REJECT_ROUTE] = ICMPV6_REJECT_ROUTE,
};

/* The kernel's resets leave the rest of the checksum to the device. */
static void unsum_reset4(__u8 *quote, __u32 len)
{
	struct iphdr *ih = (void *)quote;
	struct tcphdr *th = (void *)(ih + 1);

	if (ih->ihl == 5 && ih->protocol == IPPROTO_TCP && len >= sizeof(*ih) + sizeof(*th))
		th->check = htons(~csum_fold(csum_add_bytes(IPPROTO_TCP + sizeof(*th),
							    &ih->saddr, 8)));
}

/* The IP header of an ICMPv4 error, options included. */
static void put_ip4(const struct event *ev, const struct reject_facts *f, __u8 *out)
{
	const struct iphdr *oih = (const void *)ev->data;
	struct reply_opts opts = f->opts;
	struct iphdr *ih = (void *)out;

	memset(ih, 0, sizeof(*ih));
	ih->version = 4;
	ih->ihl = 5 + opts.len / 4;
	ih->tos = reject_tos(ev);
	ih->ttl = f->hoplimit;
	ih->protocol = IPPROTO_ICMP;
	memcpy(&ih->saddr, f->saddr, 4);
	ih->daddr = opts.srr ? opts.faddr : oih->saddr;
	reply_opts_finish(&opts, ih->saddr, oih->saddr);
	memcpy(ih + 1, opts.data, opts.len);
	if (ev->has_ct == EVENT_CT_DNAT)
		memcpy(&ih->saddr, ev->orig_daddr, 4);
}

static size_t build_icmp4(const struct event *ev, const struct reject_facts *f, __u8 *out)
{
	__u32 hlen = sizeof(struct iphdr) + f->opts.len + sizeof(struct icmphdr);
	struct icmphdr *ic = (void *)(out + hlen - sizeof(*ic));
	__u32 room = min32(f->mtu, ICMP4_MAX), len;

	if (room <= hlen + sizeof(struct iphdr))
		return 0;
	len = min32(min32(room - hlen, ev->len), ev->data_len);
	put_ip4(ev, f, out);
	memset(ic, 0, sizeof(*ic));
	ic->type = ICMP_DEST_UNREACH;
	ic->code = code4[ev->with];
	memcpy(ic + 1, ev->data, len);
	if (ev->has_ct == EVENT_CT_DNAT)
		untranslate4(ev, (__u8 *)(ic + 1), len);
	if (ev->self)
		unsum_reset4((__u8 *)(ic + 1), len);
	ic->checksum = htons(csum_fold(csum_add_bytes(0, ic, sizeof(*ic) + len)));
	return hlen + len;
}

static size_t build_icmp6(const struct event *ev, __u8 *out)
{
	__u32 len = min32(QUOTE6_MAX, min32(ev->len, ev->data_len));
	struct icmp6hdr *ic = (void *)out;

	memset(ic, 0, sizeof(*ic));
	ic->icmp6_type = ICMPV6_DEST_UNREACH;
	ic->icmp6_code = code6[ev->with];
	memcpy(ic + 1, ev->data, len);
	if (ev->has_ct == EVENT_CT_DNAT)
		untranslate6(ev, (__u8 *)(ic + 1), len);
	return sizeof(*ic) + len;
}

size_t reject_build_icmp(const struct event *ev, const struct reject_facts *f, __u8 *out)
{
	return ev->nfproto == NFPROTO_IPV4 ? build_icmp4(ev, f, out) : build_icmp6(ev, out);
}
