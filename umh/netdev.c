// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <linux/if_arp.h>
#include <linux/netconf.h>
#include <linux/netfilter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mnl_util.h"
#include "netdev.h"
#include "netdev_priv.h"
#include "nsid.h"

#ifndef NETLINK_GET_STRICT_CHK
#define NETLINK_GET_STRICT_CHK 12
#endif

#define GROUP(g) (1u << (RTNLGRP_##g - 1))
#define GROUPS (GROUP(LINK) | GROUP(IPV4_IFADDR) | GROUP(IPV6_IFADDR) | \
		GROUP(IPV4_ROUTE) | GROUP(IPV6_ROUTE) | GROUP(IPV4_RULE) | \
		GROUP(IPV6_RULE) | GROUP(IPV4_NETCONF))

struct dev_list {
	struct netdev *v;
	int n, cap;
};

/* The IPv4 settings of one device. */
struct conf {
	int ifindex, rp_filter;
};

struct conf_list {
	struct conf *v;
	int n, cap;
	int all;		/* of "all": the greater of the two is in force */
};

/* What has to be read again. */
enum {
	STALE_LINKS = 1,
	STALE_CONF = 2,
	STALE_LOCAL = 4,
	STALE_ALL = 7,
};

struct netdevs {
	struct netdevs *next;
	int nsid;
	struct mnl_socket *ask;		/* for dumps, during one */
	struct dev_list devs;
	struct conf_list confs;
	struct local_addrs local[2];	/* IPv4, IPv6 */
	int stale;			/* STALE_* */
	bool changed;			/* since the last netdevs_update() */
};

static int watch = -1;			/* notifications of all namespaces */
static struct netdevs *all;

static const int nfprotos[2] = { NFPROTO_IPV4, NFPROTO_IPV6 };

/* Room for one more of @size bytes. */
static int grow(void *v, int n, int *cap, size_t size)
{
	void **p = v, *more;

	if (n < *cap)
		return 0;
	more = realloc(*p, (*cap * 2 + 8) * size);
	if (!more)
		return -ENOMEM;
	*p = more;
	*cap = *cap * 2 + 8;
	return 0;
}

static struct netdev *dev_find(struct dev_list *l, __u32 ifindex)
{
	for (int i = 0; i < l->n; i++)
		if (l->v[i].ifindex == ifindex)
			return &l->v[i];
	return NULL;
}

static bool has_no_mac(int type)
{
	switch (type) {
	case ARPHRD_NONE:
	case ARPHRD_PPP:
	case ARPHRD_RAWIP:
	case ARPHRD_TUNNEL:
	case ARPHRD_TUNNEL6:
	case ARPHRD_SIT:
	case ARPHRD_IPGRE:
	case ARPHRD_IP6GRE:
		return true;
	}
	return false;
}

static bool is_kind(const struct nlattr *info, const char *kind)
{
	struct nlattr *a;

	mnl_attr_for_each_nested(a, info)
		if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
			return !strcmp(mnl_attr_get_str(a), kind);
	return false;
}

/* False for a message that is not about a device as such (a bridge port's, say). */
static bool parse_link(const struct nlmsghdr *h, struct netdev *d)
{
	const struct ifinfomsg *i = mnl_nlmsg_get_payload(h);
	struct nlattr *a;

	memset(d, 0, sizeof(*d));
	if (i->ifi_family != AF_UNSPEC)
		return false;
	d->ifindex = i->ifi_index;
	d->loopback = i->ifi_flags & IFF_LOOPBACK;
	d->ether = i->ifi_type == ARPHRD_ETHER;
	d->raw_ip = has_no_mac(i->ifi_type);
	mnl_attr_for_each(a, h, sizeof(*i)) {
		if (mnl_attr_get_type(a) == IFLA_IFNAME)
			strncpy(d->name, mnl_attr_get_str(a), sizeof(d->name) - 1);
		if (mnl_attr_get_type(a) == IFLA_MASTER)
			d->enslaved = mnl_attr_get_u32(a) != 0;
		if (mnl_attr_get_type(a) == IFLA_LINKINFO)
			d->veth = is_kind(a, "veth");
	}
	return true;
}

/* Takes @d in; *changed if it is new or differs. 0 or -ENOMEM. */
static int dev_put(struct dev_list *l, const struct netdev *d, bool *changed)
{
	struct netdev *old = dev_find(l, d->ifindex);
	struct netdev new = *d;

	if (old) {
		new.rp_filter = old->rp_filter;
		*changed |= memcmp(old, &new, sizeof(new)) != 0;
		*old = new;
		return 0;
	}
	if (grow(&l->v, l->n, &l->cap, sizeof(*l->v)))
		return -ENOMEM;
	l->v[l->n++] = new;
	*changed = true;
	return 0;
}

static void dev_del(struct dev_list *l, __u32 ifindex, bool *changed)
{
	struct netdev *d = dev_find(l, ifindex);

	if (!d)
		return;
	memmove(d, d + 1, (char *)(l->v + l->n) - (char *)(d + 1));
	l->n--;
	*changed = true;
}

static int see_link(const struct nlmsghdr *h, void *arg)
{
	struct netdev d;
	bool ignored;

	if (!parse_link(h, &d) || !dev_put(arg, &d, &ignored))
		return MNL_CB_OK;
	errno = ENOMEM;
	return MNL_CB_ERROR;
}

static int dump_links(struct mnl_socket *s, struct dev_list *l)
{
	char buf[NLU_REQ];
	struct nlmsghdr *h = nlu_request(buf, RTM_GETLINK, NLM_F_DUMP);

	mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
	return nlu_dump(s, h, see_link, l);
}

static bool same_devs(const struct dev_list *a, struct dev_list *b)
{
	if (a->n != b->n)
		return false;
	for (int i = 0; i < a->n; i++) {
		struct netdev *d = dev_find(b, a->v[i].ifindex);

		if (!d)
			return false;
		d->rp_filter = a->v[i].rp_filter;
		if (memcmp(d, &a->v[i], sizeof(*d)))
			return false;
	}
	return true;
}

static int read_links(struct netdevs *n)
{
	struct dev_list l = { .v = NULL };
	int ret = -EINTR;

	for (int i = 0; i < DUMP_RETRIES && ret == -EINTR; i++) {
		l.n = 0;
		ret = dump_links(n->ask, &l);
	}
	if (ret) {
		free(l.v);
		return ret;
	}
	n->changed |= !same_devs(&n->devs, &l);
	free(n->devs.v);
	n->devs = l;
	return 0;
}

static int see_conf(const struct nlmsghdr *h, void *arg)
{
	struct conf c = { 0, 0 };
	struct conf_list *l = arg;
	struct nlattr *a;

	mnl_attr_for_each(a, h, sizeof(struct netconfmsg)) {
		if (mnl_attr_get_type(a) == NETCONFA_IFINDEX)
			c.ifindex = mnl_attr_get_u32(a);
		if (mnl_attr_get_type(a) == NETCONFA_RP_FILTER)
			c.rp_filter = mnl_attr_get_u32(a);
	}
	if (c.ifindex == NETCONFA_IFINDEX_ALL)
		l->all = c.rp_filter;
	if (c.ifindex <= 0)
		return MNL_CB_OK;
	if (grow(&l->v, l->n, &l->cap, sizeof(*l->v))) {
		errno = ENOMEM;
		return MNL_CB_ERROR;
	}
	l->v[l->n++] = c;
	return MNL_CB_OK;
}

static int read_confs(struct netdevs *n)
{
	int ret = -EINTR;

	for (int i = 0; i < DUMP_RETRIES && ret == -EINTR; i++) {
		char buf[NLU_REQ];
		struct nlmsghdr *h = nlu_request(buf, RTM_GETNETCONF, NLM_F_DUMP);
		struct netconfmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

		m->ncm_family = AF_INET;
		n->confs.n = n->confs.all = 0;
		ret = nlu_dump(n->ask, h, see_conf, &n->confs);
	}
	/* to check when there is no need costs time only */
	if (ret)
		n->confs.all = 1;
	return ret;
}

static void apply_confs(struct netdevs *n)
{
	for (int i = 0; i < n->devs.n; i++) {
		struct netdev *d = &n->devs.v[i];
		bool on = n->confs.all != 0;

		for (int j = 0; j < n->confs.n && !on; j++)
			on = n->confs.v[j].ifindex == (int)d->ifindex && n->confs.v[j].rp_filter;
		n->changed |= on != d->rp_filter;
		d->rp_filter = on;
	}
}

static int read_local(struct netdevs *n)
{
	int ret = 0;

	for (int i = 0; i < 2; i++) {
		struct local_addrs l;
		int e = local_get(&l, n->ask, nfprotos[i]);

		n->changed |= !local_equal(&l, &n->local[i]);
		local_free(&n->local[i]);
		n->local[i] = l;
		ret = ret ? ret : e;
	}
	return ret;
}

/* Reads what is stale; what fails stays so. 0 or the first negative errno. */
static int read_stale(struct netdevs *n)
{
	static const struct {
		int bit;
		int (*read)(struct netdevs *n);
	} parts[] = {
		{ STALE_LINKS, read_links },
		{ STALE_CONF, read_confs },
		{ STALE_LOCAL, read_local },
	};
	int was = n->stale, ret = 0;

	for (size_t i = 0; i < MNL_ARRAY_SIZE(parts); i++) {
		int e = was & parts[i].bit ? parts[i].read(n) : 0;

		if (!e)
			n->stale &= ~parts[i].bit;
		ret = ret ? ret : e;
	}
	if (was || n->changed)
		apply_confs(n);
	return ret;
}

static int refresh(struct netdevs *n)
{
	int on = 1, ret = 0;

	if (n->stale)
		ret = nlu_open(&n->ask, NETLINK_ROUTE, 0, 0);
	if (ret)
		return ret;
	/* Linux 4.20; without it dumps are not filtered, and longer */
	if (n->ask)
		mnl_socket_setsockopt(n->ask, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
	ret = read_stale(n);
	if (n->ask)
		mnl_socket_close(n->ask);
	n->ask = NULL;
	return ret;
}

static void link_event(struct netdevs *n, const struct nlmsghdr *h)
{
	const struct ifinfomsg *i = mnl_nlmsg_get_payload(h);
	struct netdev d;

	if (!parse_link(h, &d))
		return;
	/* routes vanish with a device, or with its being up, without a word */
	if (h->nlmsg_type == RTM_DELLINK || i->ifi_change & IFF_UP)
		n->stale |= STALE_LOCAL;
	if (h->nlmsg_type == RTM_DELLINK)
		dev_del(&n->devs, d.ifindex, &n->changed);
	else if (dev_put(&n->devs, &d, &n->changed))
		n->stale |= STALE_LINKS;
}

static int on_event(const struct nlmsghdr *h, void *arg)
{
	struct netdevs *n = arg;

	switch (h->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		link_event(n, h);
		break;
	case RTM_NEWNETCONF:
	case RTM_DELNETCONF:
		/* a change of "default" changes devices that are not named */
		n->stale |= STALE_CONF;
		break;
	default:
		n->stale |= STALE_LOCAL;
	}
	return MNL_CB_OK;
}

/* What was lost may have been about any of them. */
static void all_stale(void)
{
	for (struct netdevs *n = all; n; n = n->next)
		n->stale = STALE_ALL;
}

void netdevs_receive(void)
{
	char buf[32768] __attribute__((aligned(8)));
	ssize_t len;
	int nsid;

	for (;;) {
		len = nsid_recv(watch, buf, sizeof(buf), &nsid);
		if (len < 0 && (errno == ENOBUFS || errno == ENOSPC))
			all_stale();
		else if (len == 0 || (len < 0 && errno != EINTR))
			break;
		for (struct netdevs *n = all; n && len > 0; n = n->next)
			if (n->nsid == nsid)
				mnl_cb_run(buf, len, 0, 0, on_event, n);
	}
}

bool netdevs_pending(const struct netdevs *n)
{
	return n->stale || n->changed;
}

bool netdevs_update(struct netdevs *n)
{
	bool changed;

	netdevs_receive();
	refresh(n);
	changed = n->changed;
	n->changed = false;
	return changed;
}

int netdevs_init(struct xt_err *err)
{
	int ret;

	watch = nsid_listen(NETLINK_ROUTE, GROUPS);
	ret = watch < 0 ? watch : local_filter(watch);
	if (!ret)
		return watch;
	netdevs_exit();
	return xt_fail(err, ret, "cannot watch devices: %s", strerror(-ret));
}

void netdevs_exit(void)
{
	if (watch >= 0)
		close(watch);
	watch = -1;
}

/* On the list first: what changes from then on is told. */
struct netdevs *netdevs_open(struct xt_err *err)
{
	struct netdevs *n = calloc(1, sizeof(*n));
	int ret = n ? nsid_here(&n->nsid) : -ENOMEM;

	if (!ret) {
		n->next = all;
		all = n;
		n->stale = STALE_ALL;
		ret = refresh(n);
	}
	if (!ret) {
		n->changed = false;
		return n;
	}
	if (n)
		netdevs_close(n);
	xt_fail(err, ret, "cannot watch the namespace's devices: %s", strerror(-ret));
	return NULL;
}

void netdevs_close(struct netdevs *n)
{
	struct netdevs **p = &all;

	while (*p && *p != n)
		p = &(*p)->next;
	if (*p)
		*p = n->next;
	local_free(&n->local[0]);
	local_free(&n->local[1]);
	free(n->devs.v);
	free(n->confs.v);
	free(n);
}

int netdevs_nsid(const struct netdevs *n)
{
	return n->nsid;
}

const struct netdev *netdevs_list(const struct netdevs *n, int *count)
{
	*count = n->devs.n;
	return n->devs.v;
}

static int give(const struct netdevs *n, int nfproto, bool broadcast, int max,
		const __u8 (**list)[16])
{
	const struct local_addrs *l = &n->local[nfproto == NFPROTO_IPV6];
	const struct addr_list *a = broadcast ? &l->broadcast : &l->local;

	if (!l->plain || a->n > max)
		return -1;
	*list = (const __u8 (*)[16])a->v;
	return a->n;
}

int netdevs_local(const struct netdevs *n, int nfproto, int max, const __u8 (**list)[16])
{
	return give(n, nfproto, false, max, list);
}

int netdevs_broadcast(const struct netdevs *n, int max, const __u8 (**list)[16])
{
	return give(n, NFPROTO_IPV4, true, max, list);
}
