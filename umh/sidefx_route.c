// SPDX-License-Identifier: GPL-2.0
/*
 * Questions to rtnetlink.  Its answers are there when the question has been
 * sent, so that nothing waits here.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ipv6.h>
#include <linux/netfilter.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "sidefx_priv.h"

#define REPLY_MAX 32768

static __u32 seq;

/*
 * Sends @nlh and calls @fn for each message of the answer.  0 or a negative
 * errno.  Answers to earlier questions are passed over.
 */
static int ask(int fd, struct nlmsghdr *nlh, mnl_cb_t fn, void *arg)
{
	static char buf[REPLY_MAX] __attribute__((aligned(8)));
	ssize_t n;
	int ret;

	nlh->nlmsg_seq = ++seq;
	if (send(fd, nlh, nlh->nlmsg_len, MSG_DONTWAIT) < 0)
		return -errno;
	for (;;) {
		n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n < 0)
			return -errno;
		if (n >= (ssize_t)sizeof(*nlh) && ((struct nlmsghdr *)buf)->nlmsg_seq != seq)
			continue;
		ret = mnl_cb_run(buf, n, seq, 0, fn, arg);
		if (ret < 0)
			return -errno;
		if (ret == MNL_CB_STOP)
			return 0;
	}
}

/* Begins a question of @type in @buf. */
static struct nlmsghdr *question(char *buf, __u16 type, __u16 flags)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	return nlh;
}

static void put_opt_u32(struct nlmsghdr *nlh, __u16 type, __u32 v)
{
	if (v)
		mnl_attr_put_u32(nlh, type, v);
}

static __u32 metric(const struct nlattr *metrics, __u16 type)
{
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, metrics)
		if (mnl_attr_get_type(a) == type && mnl_attr_get_payload_len(a) >= 4)
			return mnl_attr_get_u32(a);
	return 0;
}

static void get_bytes(const struct nlattr *a, __u8 *to)
{
	__u16 len = mnl_attr_get_payload_len(a);

	memcpy(to, mnl_attr_get_payload(a), len < 16 ? len : 16);
}

static int route_cb(const struct nlmsghdr *nlh, void *arg)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *a;
	struct route *r = arg;

	r->flags = rtm->rtm_flags;
	r->type = rtm->rtm_type;
	r->dst_len = rtm->rtm_dst_len;
	mnl_attr_for_each(a, nlh, sizeof(*rtm)) {
		switch (mnl_attr_get_type(a)) {
		case RTA_OIF:
			r->oif = mnl_attr_get_u32(a);
			break;
		case RTA_GATEWAY:
		case RTA_VIA:
			r->gateway = true;
			break;
		case RTA_DST:
			get_bytes(a, r->dst);
			break;
		case RTA_PREFSRC:
			get_bytes(a, r->src);
			r->has_src = true;
			break;
		case RTA_METRICS:
			r->mtu = metric(a, RTAX_MTU);
			r->hoplimit = metric(a, RTAX_HOPLIMIT);
		}
	}
	return MNL_CB_STOP;
}

int route_get(int fd, const struct route_query *q, struct route *r)
{
	size_t alen = q->nfproto == NFPROTO_IPV4 ? 4 : 16;
	char buf[256] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = question(buf, RTM_GETROUTE, 0);
	struct rtmsg *rtm;

	memset(r, 0, sizeof(*r));
	rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));
	rtm->rtm_family = alen == 4 ? AF_INET : AF_INET6;
	rtm->rtm_tos = q->tos;
	rtm->rtm_dst_len = alen * 8;
	rtm->rtm_flags = q->fib_match ? RTM_F_FIB_MATCH : 0;
	mnl_attr_put(nlh, RTA_DST, alen, q->dst);
	if (q->src) {
		rtm->rtm_src_len = alen * 8;
		mnl_attr_put(nlh, RTA_SRC, alen, q->src);
	}
	put_opt_u32(nlh, RTA_IIF, q->iif);
	put_opt_u32(nlh, RTA_OIF, q->oif);
	put_opt_u32(nlh, RTA_MARK, q->mark);
	return ask(fd, nlh, route_cb, r);
}

/* What a link message says of VRFs. */
struct link_vrf {
	__u32 master;
	bool is, slave;
};

static void linkinfo(const struct nlattr *info, struct link_vrf *v)
{
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, info) {
		if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
			v->is = !strcmp(mnl_attr_get_str(a), "vrf");
		else if (mnl_attr_get_type(a) == IFLA_INFO_SLAVE_KIND)
			v->slave = !strcmp(mnl_attr_get_str(a), "vrf");
	}
}

static void af_spec(const struct nlattr *spec, struct link_info *l)
{
	const struct nlattr *af, *a;
	const __s32 *conf;

	mnl_attr_for_each_nested(af, spec) {
		if (mnl_attr_get_type(af) != AF_INET6)
			continue;
		mnl_attr_for_each_nested(a, af) {
			conf = mnl_attr_get_payload(a);
			if (mnl_attr_get_type(a) == IFLA_INET6_CONF &&
			    mnl_attr_get_payload_len(a) > DEVCONF_HOPLIMIT * sizeof(*conf))
				l->hop_limit6 = conf[DEVCONF_HOPLIMIT];
		}
	}
}

static int link_cb(const struct nlmsghdr *nlh, void *arg)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);
	struct link_vrf v = { 0 };
	struct link_info *l = arg;
	const struct nlattr *a;

	mnl_attr_for_each(a, nlh, sizeof(*ifi)) {
		switch (mnl_attr_get_type(a)) {
		case IFLA_MTU:
			l->mtu = mnl_attr_get_u32(a);
			break;
		case IFLA_MASTER:
			v.master = mnl_attr_get_u32(a);
			break;
		case IFLA_LINKINFO:
			linkinfo(a, &v);
			break;
		case IFLA_AF_SPEC:
			af_spec(a, l);
		}
	}
	l->vrf = v.is ? (__u32)ifi->ifi_index : v.slave ? v.master : 0;
	return MNL_CB_STOP;
}

int link_get(int fd, __u32 ifindex, struct link_info *l)
{
	char buf[128] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = question(buf, RTM_GETLINK, 0);
	struct ifinfomsg *ifi;

	memset(l, 0, sizeof(*l));
	ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
	ifi->ifi_index = ifindex;
	mnl_attr_put_u32(nlh, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	return ask(fd, nlh, link_cb, l);
}

static void addr_parse(const struct nlmsghdr *nlh, struct addr *ad)
{
	const struct nlattr *a;

	memset(ad, 0, sizeof(*ad));
	ad->ifa = mnl_nlmsg_get_payload(nlh);
	ad->flags = ad->ifa->ifa_flags;
	mnl_attr_for_each(a, nlh, sizeof(*ad->ifa)) {
		if (mnl_attr_get_type(a) == IFA_ADDRESS)
			ad->addr = mnl_attr_get_payload(a);
		else if (mnl_attr_get_type(a) == IFA_LOCAL)
			ad->local = mnl_attr_get_payload(a);
		else if (mnl_attr_get_type(a) == IFA_FLAGS)
			ad->flags = mnl_attr_get_u32(a);
	}
	if (!ad->local)
		ad->local = ad->addr;
}

static struct nlmsghdr *addr_request(char *buf, __u8 family, __u16 flags, __u32 ifindex)
{
	struct nlmsghdr *nlh = question(buf, RTM_GETADDR, flags);
	struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));

	ifa->ifa_family = family;
	ifa->ifa_index = ifindex;
	return nlh;
}

static int owner_cb(const struct nlmsghdr *nlh, void *arg)
{
	struct addr ad;

	addr_parse(nlh, &ad);
	if (!(ad.flags & IFA_F_TENTATIVE) || ad.flags & IFA_F_OPTIMISTIC)
		*(__u32 *)arg = ad.ifa->ifa_index;
	return MNL_CB_STOP;
}

__u32 addr6_owner(int fd, const void *addr, __u32 ifindex)
{
	char buf[128] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = addr_request(buf, AF_INET6, 0, ifindex);
	__u32 owner = 0;

	mnl_attr_put(nlh, IFA_ADDRESS, 16, addr);
	return ask(fd, nlh, owner_cb, &owner) ? 0 : owner;
}

struct each {
	void (*fn)(const struct addr *a, void *arg);
	void *arg;
};

static int each_cb(const struct nlmsghdr *nlh, void *arg)
{
	struct each *e = arg;
	struct addr ad;

	addr_parse(nlh, &ad);
	e->fn(&ad, e->arg);
	return MNL_CB_OK;
}

int addr_each(int fd, __u8 family, void (*fn)(const struct addr *a, void *arg), void *arg)
{
	char buf[128] __attribute__((aligned(8)));
	struct each e = { fn, arg };

	return ask(fd, addr_request(buf, family, NLM_F_DUMP, 0), each_cb, &e);
}

struct select4 {
	__u32 ifindex;
	__be32 dst, any, here, same;	/* of any device, of ours, of ours in dst's network */
};

static void select4(const struct addr *ad, void *arg)
{
	struct select4 *s = arg;
	__be32 local, net, mask;

	if (!ad->local || !ad->addr || ad->flags & IFA_F_SECONDARY ||
	    ad->ifa->ifa_scope > RT_SCOPE_LINK)
		return;
	memcpy(&local, ad->local, 4);
	memcpy(&net, ad->addr, 4);
	mask = ad->ifa->ifa_prefixlen ? htonl(~0u << (32 - ad->ifa->ifa_prefixlen)) : 0;
	if (!s->any)
		s->any = local;
	if (ad->ifa->ifa_index != s->ifindex)
		return;
	if (!s->here)
		s->here = local;
	if (!s->same && !((net ^ s->dst) & mask))
		s->same = local;
}

__be32 addr4_select(int fd, __u32 ifindex, __be32 dst)
{
	struct select4 s = { .ifindex = ifindex, .dst = dst };

	addr_each(fd, AF_INET, select4, &s);
	return s.same ? s.same : s.here ? s.here : s.any;
}
