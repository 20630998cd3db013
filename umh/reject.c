// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <linux/if_packet.h>
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

#define IP_OFFSET	0x1fff
#define FRAG6_OFFSET	0xfff8

__u32 csum_add_bytes(__u32 sum, const void *data, size_t len)
{
	const __u8 *p = data;
	__u64 s = sum;

	for (; len > 1; len -= 2, p += 2)
		s += p[0] << 8 | p[1];
	if (len)
		s += p[0] << 8;
	while (s >> 32)
		s = (s & 0xffffffff) + (s >> 32);
	return s;
}

__u16 csum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* The sum of the pseudo header; @addrs: source and destination. */
static __u32 csum_pseudo(const void *addrs, size_t addr_len, __u8 proto, __u32 len)
{
	return csum_add_bytes(proto + (len >> 16) + (len & 0xffff), addrs, 2 * addr_len);
}

/* nf_reject_verify_csum() */
static bool csum_wanted(const struct event *ev, __u32 off, __u8 proto)
{
	const struct udphdr *uh;

	switch (proto) {
	case IPPROTO_UDP:
		uh = event_bytes(ev, off, sizeof(*uh));
		return !uh || uh->check;
	case IPPROTO_GRE:
	case IPPROTO_AH:
	case IPPROTO_ESP:
	case IPPROTO_SCTP:
	case IPPROTO_UDPLITE:
		return false;
	case IPPROTO_DCCP:
		return kernel_since(6, 17);	/* which knows nothing of DCCP */
	}
	return true;
}

/*
 * nf_ip_checksum(): over the IP header too, which sums up to nothing where it is
 * right; options that the kernel has filled in make it wrong.
 */
static bool csum_right4(const struct event *ev, __u32 off, __u8 proto)
{
	const struct iphdr *ih = (const void *)ev->data;
	__u32 sum = 0;

	if (ev->csum_ok)
		return true;
	if (ev->data_len < ev->len)
		return !csum_fold(csum_add_bytes(0, ih, off));
	if (proto == IPPROTO_TCP || proto == IPPROTO_UDP)
		sum = csum_pseudo(&ih->saddr, 4, proto, ev->len - off);
	return !csum_fold(csum_add_bytes(sum, ev->data, ev->len));
}

static bool csum_right6(const struct event *ev, __u32 off, __u8 proto)
{
	const struct ipv6hdr *ih = (const void *)ev->data;
	__u32 sum = csum_pseudo(&ih->saddr, 16, proto, ev->len - off);

	if (ev->csum_ok || ev->data_len < ev->len)
		return true;
	return !csum_fold(csum_add_bytes(sum, ev->data + off, ev->len - off));
}

int skip_ext6(const struct event *ev, __u8 *proto, __u16 *frag)
{
	__u32 off = sizeof(struct ipv6hdr), len;
	const struct ipv6_opt_hdr *hp;
	const __be16 *fp;

	if (frag)
		*frag = 0;
	*proto = ((const struct ipv6hdr *)ev->data)->nexthdr;
	for (;;) {
		switch (*proto) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_FRAGMENT:
		case IPPROTO_AH:
		case IPPROTO_DSTOPTS:
			break;
		case IPPROTO_NONE:
			return -1;
		default:
			return off;
		}
		hp = event_bytes(ev, off, sizeof(*hp));
		if (!hp)
			return -1;
		len = *proto == IPPROTO_AH ? (hp->hdrlen + 2) << 2 : (hp->hdrlen + 1) << 3;
		if (*proto == IPPROTO_FRAGMENT) {
			fp = event_bytes(ev, off + 2, sizeof(*fp));
			if (!fp)
				return -1;
			if (frag)
				*frag = ntohs(*fp);
			if (ntohs(*fp) & FRAG6_OFFSET)
				return off;
			len = 8;
		}
		*proto = hp->nexthdr;
		off += len;
	}
}

static enum reject_answer reset_answer4(const struct event *ev, const struct iphdr *ih)
{
	__u32 off = ih->ihl * 4;
	const struct tcphdr *th = event_bytes(ev, off, sizeof(*th));

	if (ih->protocol != IPPROTO_TCP || !th || th->rst ||
	    !csum_right4(ev, off, IPPROTO_TCP))
		return REJECT_NONE;
	return REJECT_RESET;
}

/* ICMP errors, and types that nobody knows, are not answered with an error. */
static bool icmp_is_error(__u8 type)
{
	switch (type) {
	case ICMP_ECHOREPLY:
	case ICMP_ECHO:
	case ICMP_TIMESTAMP:
	case ICMP_TIMESTAMPREPLY:
	case ICMP_INFO_REQUEST:
	case ICMP_INFO_REPLY:
	case ICMP_ADDRESS:
	case ICMP_ADDRESSREPLY:
		return false;
	}
	return true;
}

static enum reject_answer answer4(const struct event *ev)
{
	const struct iphdr *ih = event_bytes(ev, 0, sizeof(*ih));
	const __u8 *type;
	__u32 off;

	if (!ih || ih->frag_off & htons(IP_OFFSET) || IN_MULTICAST(ntohl(ih->daddr)))
		return REJECT_NONE;
	if (ev->with == IPT_TCP_RESET)
		return reset_answer4(ev, ih);
	off = ih->ihl * 4;
	if (ev->pkt_type != PACKET_HOST || ev->with > IPT_ICMP_ADMIN_PROHIBITED ||
	    ev->with == IPT_ICMP_ECHOREPLY)
		return REJECT_NONE;
	if (!ev->csum_valid && csum_wanted(ev, off, ih->protocol) &&
	    !csum_right4(ev, off, ih->protocol))
		return REJECT_NONE;
	if (ih->protocol == IPPROTO_ICMP) {
		type = event_bytes(ev, off, 1);
		/* the kernel's own are sent while the socket of errors is locked */
		if (!type || icmp_is_error(*type) || ev->kernel_sk)
			return REJECT_NONE;
	}
	return REJECT_ICMP;
}

/* IPV6_ADDR_UNICAST of ipv6_addr_type() */
static bool unicast6(const struct in6_addr *a)
{
	return !IN6_IS_ADDR_MULTICAST(a) && !IN6_IS_ADDR_UNSPECIFIED(a) &&
	       !IN6_IS_ADDR_V4MAPPED(a);
}

static enum reject_answer reset_answer6(const struct event *ev, const struct ipv6hdr *ih)
{
	const struct tcphdr *th;
	__u8 proto;
	int off;

	if (!unicast6(&ih->saddr) || !unicast6(&ih->daddr))
		return REJECT_NONE;
	off = skip_ext6(ev, &proto, NULL);
	if (off < 0 || proto != IPPROTO_TCP)
		return REJECT_NONE;
	th = event_bytes(ev, off, sizeof(*th));
	if (!th || th->rst || !csum_right6(ev, off, IPPROTO_TCP))
		return REJECT_NONE;
	return REJECT_RESET;
}

/* reject6_csum_ok() */
static bool csum_passes6(const struct event *ev)
{
	__u16 frag;
	__u8 proto;
	int off;

	if (ev->csum_ok || ev->csum_valid)
		return true;
	off = skip_ext6(ev, &proto, &frag);
	if (off < 0 || (__u32)off >= ev->len || frag & FRAG6_OFFSET)
		return false;
	return !csum_wanted(ev, off, proto) || csum_right6(ev, off, proto);
}

/*
 * is_ineligible(): an ICMPv6 error, or a packet that ends where it may be one.  And
 * the kernel's own echo replies: they are sent while the socket of errors is locked.
 */
static bool icmp6_unanswered(const struct event *ev)
{
	const __u8 *type;
	__u16 frag;
	__u8 proto;
	int off = skip_ext6(ev, &proto, &frag);

	if (off < 0 || proto != IPPROTO_ICMPV6)
		return false;
	type = event_bytes(ev, off, 1);
	if (!type)
		return !frag;
	return !(*type & ICMPV6_INFOMSG_MASK) ||
	       (ev->kernel_sk && (*type == ICMPV6_ECHO_REPLY || *type == ICMPV6_EXT_ECHO_REPLY));
}

static enum reject_answer answer6(const struct event *ev)
{
	const struct ipv6hdr *ih = event_bytes(ev, 0, sizeof(*ih));

	if (!ih || ev->with == IP6T_ICMP6_ECHOREPLY || ev->with > IP6T_ICMP6_REJECT_ROUTE)
		return REJECT_NONE;
	if (ev->with == IP6T_TCP_RESET)
		return reset_answer6(ev, ih);
	if (ev->pkt_type != PACKET_HOST || IN6_IS_ADDR_MULTICAST(&ih->daddr) ||
	    IN6_IS_ADDR_MULTICAST(&ih->saddr) || IN6_IS_ADDR_UNSPECIFIED(&ih->saddr))
		return REJECT_NONE;
	return csum_passes6(ev) && !icmp6_unanswered(ev) ? REJECT_ICMP : REJECT_NONE;
}

/*
 * A reply that the kernel itself sends: icmp_reply() and icmpv6_echo_reply()
 * have the ICMP socket locked meanwhile, and icmp_send() gives up on finding it so.
 */
static bool under_icmp_lock(const struct event *ev)
{
	bool v4 = ev->nfproto == NFPROTO_IPV4;
	__u32 at = v4 ? (ev->data[0] & 15) * 4 : 40;
	__u8 proto = ev->data[v4 ? 9 : 6];

	if (ev->hook != NF_INET_LOCAL_OUT || ev->has_sk || at >= ev->data_len)
		return false;
	if (v4)
		return proto == IPPROTO_ICMP && (ev->data[at] == ICMP_ECHOREPLY ||
						 ev->data[at] == ICMP_TIMESTAMPREPLY);
	return proto == IPPROTO_ICMPV6 && ev->data[at] == ICMPV6_ECHO_REPLY;
}

enum reject_answer reject_answer(const struct event *ev)
{
	enum reject_answer what = ev->nfproto == NFPROTO_IPV4 ? answer4(ev) : answer6(ev);

	return what == REJECT_ICMP && under_icmp_lock(ev) ? REJECT_NONE : what;
}

__u8 reject_tos(const struct event *ev)
{
	return (((const struct iphdr *)ev->data)->tos & 0x1e) | 0xc0;
}
