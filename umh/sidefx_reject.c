// SPDX-License-Identifier: GPL-2.0
/*
 * REJECT: what the answer needs to know of the namespace, and sending it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/in_route.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netfilter.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "sidefx_priv.h"

#define IFINDEX_LO	1		/* LOOPBACK_IFINDEX, in every namespace */
#define DUMMY_SADDR	0xc0000008	/* INADDR_DUMMY, of a host without an address */

/* One answer on its way. */
struct answer {
	const struct event *ev;
	struct ns_ctx *ns;
	struct reject_facts facts;
	__u8 buf[REJECT_MAX] __attribute__((aligned(8)));
	size_t len;
	__u8 src[16], dst[16];	/* for the route lookup; src: 0: none */
	__u32 oif, mark;
	__u8 tos;
	bool loops;		/* to an address of our own, or to all */
};

static void add_cmsg(struct msghdr *msg, int level, int type, const void *data, size_t len)
{
	struct cmsghdr *c = (void *)((__u8 *)msg->msg_control + msg->msg_controllen);

	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), data, len);
	msg->msg_controllen += CMSG_SPACE(len);
}

static enum reject_result answer_send(struct answer *a, enum ns_sock kind, void *name,
				      socklen_t namelen)
{
	char control[256] __attribute__((aligned(8))) = { 0 };
	struct iovec iov = { a->buf, a->len };
	struct msghdr msg = {
		.msg_name = name, .msg_namelen = namelen, .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control,
	};
	struct in_pktinfo info = { .ipi_ifindex = a->oif };
	struct in6_pktinfo info6 = { .ipi6_ifindex = a->oif };
	int fd = ns_socket(a->ns, kind, a->ev->has_ct != EVENT_CT_NONE), tos = a->tos;
	bool sent;

	if (fd < 0 || !a->len)
		return REJECT_FAILED;
	memcpy(&info.ipi_spec_dst, a->src, 4);
	memcpy(&info6.ipi6_addr, a->src, 16);
	if (kind == NS_RAW4)
		add_cmsg(&msg, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
	else
		add_cmsg(&msg, IPPROTO_IPV6, IPV6_PKTINFO, &info6, sizeof(info6));
	if (a->mark)
		add_cmsg(&msg, SOL_SOCKET, SO_MARK, &a->mark, sizeof(a->mark));
	if (tos && !a->loops)	/* it would set the priority */
		add_cmsg(&msg, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
	if (ns_announce(fd, a->ev, a->loops))
		return REJECT_FAILED;
	sent = sendmsg(fd, &msg, MSG_DONTWAIT) >= 0;
	if (a->loops)
		ns_announce(fd, NULL, true);
	return sent ? REJECT_SENT : REJECT_FAILED;
}

static enum reject_result answer_send4(struct answer *a)
{
	struct sockaddr_in to = { .sin_family = AF_INET };

	memcpy(&to.sin_addr, a->dst, 4);
	return answer_send(a, NS_RAW4, &to, sizeof(to));
}

static enum reject_result answer_send6(struct answer *a, enum ns_sock kind)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6 };

	memcpy(&to.sin6_addr, a->dst, 16);
	if (IN6_IS_ADDR_LINKLOCAL(&to.sin6_addr))
		to.sin6_scope_id = a->oif;
	return answer_send(a, kind, &to, sizeof(to));
}

/* The VRF that the packet is in. */
static __u32 packet_vrf(const struct answer *a)
{
	__u32 dev = a->ev->in_ifindex ? a->ev->in_ifindex : a->ev->out_ifindex;

	return dev > IFINDEX_LO ? ns_link(a->ns, dev)->vrf : 0;
}

/*
 * The route that the packet itself is on: its flags tell whether it is for us
 * or for many.  What came through lo was routed as it was sent.
 */
static void packet_route4(const struct answer *a, struct route *r)
{
	const struct event *ev = a->ev;
	const struct iphdr *ih = (const void *)ev->data;
	struct route_query q = {
		.nfproto = NFPROTO_IPV4, .tos = ih->tos & 0x1c, .mark = ev->mark,
		.src = &ih->saddr, .dst = &ih->daddr,
	};

	if (ev->hook != NF_INET_LOCAL_OUT && ev->in_ifindex != IFINDEX_LO)
		q.iif = ev->in_ifindex;
	if (!route_get(a->ns->rtnl, &q, r))
		return;
	q.src = NULL;		/* a raw socket sends from any address */
	if (!q.iif && !route_get(a->ns->rtnl, &q, r))
		return;
	memset(r, 0, sizeof(*r));
	if (ev->hook == NF_INET_LOCAL_IN)
		r->flags = ih->daddr == INADDR_BROADCAST ? RTCF_BROADCAST : RTCF_LOCAL;
}

/* What is sent there comes back to us. */
static bool loops4(const struct answer *a, __be32 addr)
{
	struct route_query q = { .nfproto = NFPROTO_IPV4, .dst = &addr };
	struct route r;

	return !route_get(a->ns->rtnl, &q, &r) &&
	       (r.oif == IFINDEX_LO || r.flags & RTCF_BROADCAST);
}

static enum reject_result reset4(struct answer *a)
{
	const struct iphdr *ih = (const void *)a->ev->data;
	struct route r;

	packet_route4(a, &r);
	if (r.flags & (RTCF_BROADCAST | RTCF_MULTICAST))
		return REJECT_NO_ANSWER;
	a->facts.hoplimit = r.hoplimit ? r.hoplimit : a->ns->sysctl.default_ttl;
	a->oif = packet_vrf(a);
	memcpy(a->src, &ih->daddr, 4);
	memcpy(a->dst, &ih->saddr, 4);
	a->loops = loops4(a, ih->saddr);
	a->len = reject_build_reset(a->ev, &a->facts, a->buf);
	return answer_send4(a);
}

static bool is_unicast4(void *ctx, __be32 addr)
{
	const struct answer *a = ctx;
	struct route_query q = { .nfproto = NFPROTO_IPV4, .dst = &addr };
	struct route r;

	if (!addr || addr == INADDR_BROADCAST || IN_MULTICAST(ntohl(addr)))
		return false;
	return route_get(a->ns->rtnl, &q, &r) ||
	       !(r.flags & (RTCF_LOCAL | RTCF_BROADCAST));
}

/* The source that an ICMP error is to have; 0: what its route says. */
static __be32 icmp_source4(const struct answer *a, const struct route *packet)
{
	const struct iphdr *ih = (const void *)a->ev->data;

	if (packet->flags & RTCF_LOCAL)
		return ih->daddr;
	if (a->ns->sysctl.inbound_ifaddr && a->ev->hook != NF_INET_LOCAL_OUT)
		return addr4_select(a->ns->rtnl, a->ev->in_ifindex, ih->saddr);
	return 0;
}

/* Looks the answer's route up and takes from it what the answer needs. 0 or a negative errno. */
static int icmp_route4(struct answer *a, __be32 saddr, struct route *r)
{
	struct route_query q = {
		.nfproto = NFPROTO_IPV4, .tos = a->tos & 0x1c, .mark = a->mark, .oif = a->oif,
		.src = saddr ? &saddr : NULL, .dst = a->dst,
	};
	__be32 dummy = htonl(DUMMY_SADDR);
	int err = route_get(a->ns->rtnl, &q, r);

	if (err)
		return err;
	a->loops = r->oif == IFINDEX_LO || r->flags & RTCF_BROADCAST;
	memcpy(a->src, &saddr, 4);
	memcpy(a->facts.saddr, saddr ? &saddr : r->has_src ? (void *)r->src : &dummy, 4);
	a->facts.hoplimit = r->hoplimit ? r->hoplimit : a->ns->sysctl.default_ttl;
	a->facts.mtu = r->mtu ? r->mtu : ns_link(a->ns, r->oif)->mtu;
	return 0;
}

static bool peer_allows(const struct answer *a, __u32 timeout)
{
	struct xrlim_key key = {
		.netns = a->ns->cookie, .nfproto = a->ev->nfproto, .vif = packet_vrf(a),
	};

	memcpy(key.addr, a->dst, a->ev->nfproto == NFPROTO_IPV4 ? 4 : 16);
	return xrlim_peer(&key, timeout, now_ms());
}

static bool global_allows(const struct answer *a)
{
	const struct ns_sysctl *s = &a->ns->sysctl;

	return xrlim_global_allow(&a->ns->global, s->msgs_per_sec, s->msgs_burst, now_ms());
}

static enum reject_result icmp4(struct answer *a)
{
	const struct iphdr *ih = (const void *)a->ev->data;
	const struct ns_sysctl *s = &a->ns->sysctl;
	bool limited = s->ratemask4 & 1 << 3 && a->ev->in_ifindex != IFINDEX_LO;
	struct route packet, r;

	packet_route4(a, &packet);
	if (packet.flags & (RTCF_BROADCAST | RTCF_MULTICAST))
		return REJECT_NO_ANSWER;
	if (limited && !global_allows(a))
		return REJECT_LIMITED;
	if (reply_opts_echo(&a->facts.opts, a->ev, is_unicast4, a))
		return REJECT_NO_ANSWER;
	memcpy(a->dst, a->facts.opts.srr ? &a->facts.opts.faddr : &ih->saddr, 4);
	a->tos = reject_tos(a->ev);
	a->oif = packet_vrf(a);
	if (icmp_route4(a, icmp_source4(a, &packet), &r))
		return REJECT_FAILED;
	if (limited && r.oif != IFINDEX_LO && !peer_allows(a, s->ratelimit4))
		return REJECT_LIMITED;
	if (limited)
		xrlim_global_consume(&a->ns->global);
	a->len = reject_build_icmp(a->ev, &a->facts, a->buf);
	return answer_send4(a);
}

static const struct in6_addr any6;

/* From a->src, if there is one, to a->dst. 0 or a negative errno. */
static int route6(const struct answer *a, bool fib_match, struct route *r)
{
	struct route_query q = {
		.nfproto = NFPROTO_IPV6, .fib_match = fib_match, .mark = a->mark, .oif = a->oif,
		.src = memcmp(a->src, &any6, 16) ? a->src : NULL, .dst = a->dst,
	};
	int err = route_get(a->ns->rtnl, &q, r);

	if (!err && r->type >= RTN_BLACKHOLE)
		err = -EHOSTUNREACH;
	return err;
}

/*
 * The kernel's lookup has no device where ours must have one, for a link-local
 * address: the one that a lookup without it found.
 */
static void scope_device(struct answer *a, const struct route *r)
{
	if (!a->oif && (IN6_IS_ADDR_LINKLOCAL((struct in6_addr *)a->src) ||
			IN6_IS_ADDR_LINKLOCAL((struct in6_addr *)a->dst)))
		a->oif = r->oif;
}

static enum reject_result reset6(struct answer *a)
{
	const struct ipv6hdr *ih = (const void *)a->ev->data;
	struct route r;

	memcpy(a->src, &ih->daddr, 16);
	memcpy(a->dst, &ih->saddr, 16);
	a->oif = packet_vrf(a);
	if (route6(a, false, &r))
		return REJECT_FAILED;
	scope_device(a, &r);
	a->loops = r.oif == IFINDEX_LO;
	a->facts.hoplimit = r.hoplimit ? r.hoplimit : ns_link(a->ns, r.oif)->hop_limit6;
	a->len = reject_build_reset(a->ev, &a->facts, a->buf);
	return answer_send6(a, NS_RAW6);
}

/* skb->dev: at OUTPUT there is none, and REJECT makes it lo. */
static __u32 packet_dev6(const struct event *ev)
{
	return ev->hook == NF_INET_LOCAL_OUT ? IFINDEX_LO : ev->in_ifindex;
}

/* True: the packet was sent to an address of ours, which will be the answer's source. */
static bool icmp_local6(const struct answer *a)
{
	const struct ipv6hdr *ih = (const void *)a->ev->data;
	bool scoped = IN6_IS_ADDR_LINKLOCAL(&ih->daddr) || IN6_IS_ADDR_LOOPBACK(&ih->daddr);
	struct route_query q = { .nfproto = NFPROTO_IPV6, .dst = &ih->daddr };
	struct route r;

	if (a->ev->hook == NF_INET_FORWARD)
		return false;
	if (addr6_owner(a->ns->rtnl, &ih->daddr, scoped ? packet_dev6(a->ev) : 0))
		return true;
	return !route_get(a->ns->rtnl, &q, &r) && r.type == RTN_ANYCAST;
}

/* icmp6_iif(): the device that a link-local source is on. */
static __u32 icmp_iif6(const struct answer *a)
{
	const struct ipv6hdr *ih = (const void *)a->ev->data;
	struct route_query q = {
		.nfproto = NFPROTO_IPV6, .fib_match = true, .dst = &ih->daddr,
	};
	__u32 dev = packet_dev6(a->ev), owner;
	struct route r;

	if (!IN6_IS_ADDR_LINKLOCAL(&ih->saddr))
		return packet_vrf(a);
	if (dev != IFINDEX_LO)
		return dev;
	if (a->ev->hook == NF_INET_LOCAL_OUT && a->ev->out_ifindex != IFINDEX_LO)
		return a->ev->out_ifindex;
	/* several may have its address: the one of its route */
	if (!IN6_IS_ADDR_LINKLOCAL(&ih->daddr) && !route_get(a->ns->rtnl, &q, &r) && r.oif)
		return r.oif;
	owner = addr6_owner(a->ns->rtnl, &ih->daddr, 0);
	return owner ? owner : dev;
}

/* ipv6_anycast_destination(): @fib is the route to the packet's source. */
static bool is_anycast6(const struct answer *a, const struct route *r, const struct route *fib)
{
	return r->type == RTN_ANYCAST ||
	       (fib->dst_len < 127 && !fib->gateway && !memcmp(fib->dst, a->dst, 16));
}

/*
 * The source of an answer to a packet that was not sent to us: what the route
 * says, else an address as for a packet that goes out where this one came in.
 * Like the kernel's, this lookup knows of no mark and no device.
 */
static void icmp_source6(struct answer *a)
{
	__u32 in = a->ev->hook == NF_INET_LOCAL_OUT ? 0 : a->ev->in_ifindex;
	struct answer plain = { .ns = a->ns };
	struct route r, fib;

	memcpy(plain.dst, a->dst, 16);
	if (!in || (!route6(&plain, true, &fib) && fib.has_src))
		return;
	if (!route6(&plain, false, &r) && r.oif == in && r.has_src)
		memcpy(a->src, r.src, 16);
	else
		addr6_select(a->ns->rtnl, in, a->dst, a->src);
}

static enum reject_result icmp6_limit(struct answer *a, const struct route *r,
				      const struct route *fib)
{
	__u32 timeout = a->ns->sysctl.ratelimit6;

	if (ns_wide_prefixes() && fib->dst_len < 128)
		timeout >>= (128 - fib->dst_len) >> 5;
	if (r->oif != IFINDEX_LO && !peer_allows(a, timeout))
		return REJECT_LIMITED;
	xrlim_global_consume(&a->ns->global);
	return REJECT_SENT;
}

static enum reject_result icmp6(struct answer *a)
{
	const struct ipv6hdr *ih = (const void *)a->ev->data;
	bool limited = a->ns->sysctl.limit6 && packet_dev6(a->ev) != IFINDEX_LO;
	struct route r, fib;

	if (limited && !global_allows(a))
		return REJECT_LIMITED;
	memcpy(a->dst, &ih->saddr, 16);
	if (icmp_local6(a))
		memcpy(a->src, &ih->daddr, 16);
	else
		icmp_source6(a);
	a->oif = icmp_iif6(a);
	if (route6(a, false, &r) || route6(a, true, &fib))
		return REJECT_FAILED;
	if (limited && icmp6_limit(a, &r, &fib) != REJECT_SENT)
		return REJECT_LIMITED;
	if (is_anycast6(a, &r, &fib))
		return REJECT_NO_ANSWER;
	if (a->ev->has_ct == EVENT_CT_DNAT)
		memcpy(a->src, a->ev->orig_daddr, 16);
	scope_device(a, &r);
	a->loops = r.oif == IFINDEX_LO;
	a->len = reject_build_icmp(a->ev, &a->facts, a->buf);
	return answer_send6(a, NS_ICMP6);
}

enum reject_result reject_packet(const struct event *ev)
{
	enum reject_answer what = reject_answer(ev);
	bool v4 = ev->nfproto == NFPROTO_IPV4;
	struct answer a = { .ev = ev };

	if (what == REJECT_NONE)
		return REJECT_NO_ANSWER;
	a.ns = ns_get(ev->netns);
	if (!a.ns)
		return REJECT_FAILED;
	if (v4 ? a.ns->sysctl.fwmark_reflect4 : a.ns->sysctl.fwmark_reflect6)
		a.mark = ev->mark;
	if (what == REJECT_RESET)
		return v4 ? reset4(&a) : reset6(&a);
	return v4 ? icmp4(&a) : icmp6(&a);
}
