// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/filter.h>
#include <linux/netfilter.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "mnl_util.h"
#include "netdev_priv.h"

/* One dump's state. */
struct scan {
	int family;		/* AF_* */
	struct local_addrs *l;
	int nrules;
};

/* 0, or -1 with errno */
static int addr_add(struct addr_list *a, const void *addr, size_t len)
{
	if (a->n == a->cap) {
		int cap = a->cap ? 2 * a->cap : 16;
		void *v = realloc(a->v, cap * sizeof(*a->v));

		if (!v)
			return -1;
		a->v = v;
		a->cap = cap;
	}
	memset(a->v[a->n], 0, sizeof(*a->v));
	memcpy(a->v[a->n++], addr, len);
	return 0;
}

static int addr_cmp(const void *a, const void *b)
{
	return memcmp(a, b, 16);
}

static void addr_sort(struct addr_list *a)
{
	int n = 0;

	if (!a->n)
		return;
	qsort(a->v, a->n, sizeof(*a->v), addr_cmp);
	for (int i = 0; i < a->n; i++)
		if (!n || addr_cmp(a->v[i], a->v[n - 1]))
			memmove(a->v[n++], a->v[i], sizeof(*a->v));
	a->n = n;
}

static bool addr_equal(const struct addr_list *a, const struct addr_list *b)
{
	return a->n == b->n && (!a->n || !memcmp(a->v, b->v, a->n * sizeof(*a->v)));
}

bool local_equal(const struct local_addrs *a, const struct local_addrs *b)
{
	return a->plain == b->plain && addr_equal(&a->local, &b->local) &&
	       addr_equal(&a->broadcast, &b->broadcast);
}

void local_free(struct local_addrs *l)
{
	free(l->local.v);
	free(l->broadcast.v);
	memset(l, 0, sizeof(*l));
}

/* Routes of the kernel's own that are no host's: 127.0.0.0/8 and ff00::/8. */
static bool known_prefix(const struct rtmsg *r, const __u8 *dst)
{
	if (r->rtm_dst_len != 8)
		return false;
	if (r->rtm_family == AF_INET)
		return dst[0] == 127 && r->rtm_type == RTN_LOCAL;
	/* older kernels have it as unicast */
	return dst[0] == 0xff && (r->rtm_type == RTN_MULTICAST || r->rtm_type == RTN_UNICAST);
}

/* The list that a host route of @type belongs to, or NULL. */
static struct addr_list *list_of(struct scan *s, int type)
{
	if (type == RTN_LOCAL || (type == RTN_ANYCAST && s->family == AF_INET6))
		return &s->l->local;
	if (type == RTN_BROADCAST && s->family == AF_INET)
		return &s->l->broadcast;
	return NULL;
}

/* A route of the table "local", or one of these types in another table. */
static int see_route(const struct nlmsghdr *h, void *arg)
{
	const struct rtmsg *r = mnl_nlmsg_get_payload(h);
	struct scan *s = arg;
	size_t len = s->family == AF_INET ? 4 : 16;
	__u32 table = r->rtm_table;
	const __u8 *dst = NULL;
	struct addr_list *list = list_of(s, r->rtm_type);
	struct nlattr *a;

	if (r->rtm_family != s->family || (r->rtm_flags & RTM_F_CLONED))
		return MNL_CB_OK;
	mnl_attr_for_each(a, h, sizeof(*r)) {
		if (mnl_attr_get_type(a) == RTA_TABLE)
			table = mnl_attr_get_u32(a);
		if (mnl_attr_get_type(a) == RTA_DST && mnl_attr_get_payload_len(a) == len)
			dst = mnl_attr_get_payload(a);
	}
	if (table != RT_TABLE_LOCAL) {
		/* kernels without strict dumps give all of them */
		if (list)
			s->l->plain = false;
		return MNL_CB_OK;
	}
	if (dst && known_prefix(r, dst))
		return MNL_CB_OK;
	if (!list || !dst || r->rtm_dst_len != 8 * len || r->rtm_src_len || r->rtm_tos)
		s->l->plain = false;
	else if (addr_add(list, dst, len))
		return MNL_CB_ERROR;
	return MNL_CB_OK;
}

/* Routes of one table and type; 0: of all. */
static int dump_routes(struct mnl_socket *sock, struct scan *s, int table, int type)
{
	char buf[NLU_REQ];
	struct nlmsghdr *h = nlu_request(buf, RTM_GETROUTE, NLM_F_DUMP);
	struct rtmsg *r = mnl_nlmsg_put_extra_header(h, sizeof(*r));
	int ret;

	r->rtm_family = s->family;
	r->rtm_table = table;
	r->rtm_type = type;
	ret = nlu_dump(sock, h, see_route, s);
	/* no such table: nothing in it */
	return ret == -ENOENT ? 0 : ret;
}

/* The rules that the kernel starts with: local, main and (IPv4) default. */
static bool default_rule(const struct fib_rule_hdr *r, __u32 table, __u32 prio)
{
	if (r->dst_len || r->src_len || r->tos || r->action != FR_ACT_TO_TBL ||
	    (r->flags & FIB_RULE_INVERT))
		return false;
	return (prio == 0 && table == RT_TABLE_LOCAL) ||
	       (prio == 32766 && table == RT_TABLE_MAIN) ||
	       (prio == 32767 && table == RT_TABLE_DEFAULT);
}

static int see_rule(const struct nlmsghdr *h, void *arg)
{
	const struct fib_rule_hdr *r = mnl_nlmsg_get_payload(h);
	__u32 table = r->table, prio = 0;
	struct scan *s = arg;
	bool known = true;
	struct nlattr *a;

	if (r->family != s->family)
		return MNL_CB_OK;
	mnl_attr_for_each(a, h, sizeof(*r)) {
		switch (mnl_attr_get_type(a)) {
		case FRA_TABLE:
			table = mnl_attr_get_u32(a);
			break;
		case FRA_PRIORITY:
			prio = mnl_attr_get_u32(a);
			break;
		case FRA_SUPPRESS_PREFIXLEN:
			known &= mnl_attr_get_u32(a) == ~0U;
			break;
		case FRA_PROTOCOL:
			break;
		default:	/* it selects by something */
			known = false;
		}
	}
	if (known && default_rule(r, table, prio))
		s->nrules++;
	else
		s->l->plain = false;
	return MNL_CB_OK;
}

static int dump_rules(struct mnl_socket *sock, struct scan *s)
{
	char buf[NLU_REQ];
	struct nlmsghdr *h = nlu_request(buf, RTM_GETRULE, NLM_F_DUMP);
	struct fib_rule_hdr *r = mnl_nlmsg_put_extra_header(h, sizeof(*r));
	int ret;

	r->family = s->family;
	ret = nlu_dump(sock, h, see_rule, s);
	if (ret == -EAFNOSUPPORT || ret == -EOPNOTSUPP)
		return 0;	/* a kernel without policy routing */
	/* IPv6 has two; fewer: someone took a default one away */
	if (!ret && s->nrules < (s->family == AF_INET ? 3 : 2))
		s->l->plain = false;
	return ret;
}

static int get_once(struct local_addrs *l, struct mnl_socket *sock, int family)
{
	static const struct {
		int family, table, type;
	} dumps[] = {
		{ AF_INET, RT_TABLE_LOCAL, 0 },
		{ AF_INET, 0, RTN_LOCAL },
		{ AF_INET, 0, RTN_BROADCAST },
		{ AF_INET6, RT_TABLE_LOCAL, 0 },
		{ AF_INET6, 0, RTN_LOCAL },
		{ AF_INET6, 0, RTN_ANYCAST },
	};
	struct scan s = { .family = family, .l = l };
	int ret;

	l->plain = true;
	ret = dump_rules(sock, &s);
	for (size_t i = 0; i < MNL_ARRAY_SIZE(dumps) && !ret; i++)
		if (dumps[i].family == family && l->plain)
			ret = dump_routes(sock, &s, dumps[i].table, dumps[i].type);
	return ret;
}

/* An address that is in both lists: which one holds depends on metrics. */
static bool disjoint(const struct local_addrs *l)
{
	for (int i = 0; i < l->broadcast.n; i++)
		if (l->local.n && bsearch(l->broadcast.v[i], l->local.v, l->local.n,
					  sizeof(*l->local.v), addr_cmp))
			return false;
	return true;
}

int local_get(struct local_addrs *l, struct mnl_socket *s, int nfproto)
{
	int family = nfproto == NFPROTO_IPV4 ? AF_INET : AF_INET6;
	int ret = -EINTR;

	memset(l, 0, sizeof(*l));
	for (int i = 0; i < DUMP_RETRIES && ret == -EINTR; i++) {
		local_free(l);
		ret = get_once(l, s, family);
	}
	if (ret || !l->plain) {
		local_free(l);
		return ret;
	}
	addr_sort(&l->local);
	addr_sort(&l->broadcast);
	l->plain = disjoint(l);
	return 0;
}

int local_filter(int fd)
{
	/* classic BPF loads are big-endian, netlink is the host's */
	const __u32 type = offsetof(struct nlmsghdr, nlmsg_type);
	const __u32 route = NLMSG_HDRLEN;
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, type),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWROUTE), 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELROUTE), 0, 6),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, route + offsetof(struct rtmsg, rtm_table)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, RT_TABLE_LOCAL, 4, 0),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, route + offsetof(struct rtmsg, rtm_type)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, RTN_LOCAL, 0, 1),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, RTN_ANYCAST, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, ~0U),
	};
	struct sock_fprog p = { MNL_ARRAY_SIZE(f), f };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof(p)) ? -errno : 0;
}
