// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/xt_length.h>
#include <linux/netfilter/xt_tcpmss.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mnl_util.h"
#include "probe.h"

#define NAME "probe"
#define BATCH 4096

struct batch {
	char buf[BATCH];
	size_t len;
};

static struct nlmsghdr *begin(struct batch *b, int type, int family, int flags)
{
	struct nlmsghdr *h = nlu_request(b->buf + b->len, type, flags);
	struct nfgenmsg *g = mnl_nlmsg_put_extra_header(h, sizeof(*g));

	g->nfgen_family = family;
	g->version = NFNETLINK_V0;
	g->res_id = htons(type < NLMSG_MIN_TYPE + 2 ? NFNL_SUBSYS_NFTABLES : 0);
	return h;
}

static struct nlmsghdr *begin_nft(struct batch *b, int msg, int family, int flags)
{
	return begin(b, NFNL_SUBSYS_NFTABLES << 8 | msg, family, NLM_F_CREATE | flags);
}

static void end(struct batch *b, const struct nlmsghdr *h)
{
	b->len += NLMSG_ALIGN(h->nlmsg_len);
}

/* A chain at the hook of what this machine sends. */
static void put_chain(struct batch *b, int family)
{
	struct nlmsghdr *h = begin_nft(b, NFT_MSG_NEWTABLE, family, 0);
	struct nlattr *hook;

	mnl_attr_put_strz(h, NFTA_TABLE_NAME, NAME);
	end(b, h);
	h = begin_nft(b, NFT_MSG_NEWCHAIN, family, 0);
	mnl_attr_put_strz(h, NFTA_CHAIN_TABLE, NAME);
	mnl_attr_put_strz(h, NFTA_CHAIN_NAME, NAME);
	mnl_attr_put_strz(h, NFTA_CHAIN_TYPE, "filter");
	hook = mnl_attr_nest_start(h, NFTA_CHAIN_HOOK);
	mnl_attr_put_u32(h, NFTA_HOOK_HOOKNUM, htonl(NF_INET_LOCAL_OUT));
	mnl_attr_put_u32(h, NFTA_HOOK_PRIORITY, 0);
	mnl_attr_nest_end(h, hook);
	end(b, h);
}

static struct nlattr *expr(struct nlmsghdr *h, const char *name, struct nlattr **data)
{
	struct nlattr *elem = mnl_attr_nest_start(h, NFTA_LIST_ELEM);

	mnl_attr_put_strz(h, NFTA_EXPR_NAME, name);
	*data = mnl_attr_nest_start(h, NFTA_EXPR_DATA);
	return elem;
}

static void expr_end(struct nlmsghdr *h, struct nlattr *elem, struct nlattr *data)
{
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, elem);
}

/* The last header is TCP's. */
static void match_tcp(struct nlmsghdr *h)
{
	struct nlattr *data, *elem = expr(h, "meta", &data), *value;
	const __u8 tcp = IPPROTO_TCP;

	mnl_attr_put_u32(h, NFTA_META_KEY, htonl(NFT_META_L4PROTO));
	mnl_attr_put_u32(h, NFTA_META_DREG, htonl(NFT_REG_1));
	expr_end(h, elem, data);
	elem = expr(h, "cmp", &data);
	mnl_attr_put_u32(h, NFTA_CMP_SREG, htonl(NFT_REG_1));
	mnl_attr_put_u32(h, NFTA_CMP_OP, htonl(NFT_CMP_EQ));
	value = mnl_attr_nest_start(h, NFTA_CMP_DATA);
	mnl_attr_put(h, NFTA_DATA_VALUE, sizeof(tcp), &tcp);
	mnl_attr_nest_end(h, value);
	expr_end(h, elem, data);
}

static void match_xt(struct nlmsghdr *h, const char *name, const void *info, size_t size)
{
	struct nlattr *data, *elem = expr(h, "match", &data);
	char aligned[8] = { 0 };	/* XT_ALIGN() */

	memcpy(aligned, info, size);
	mnl_attr_put_strz(h, NFTA_MATCH_NAME, name);
	mnl_attr_put_u32(h, NFTA_MATCH_REV, 0);
	mnl_attr_put(h, NFTA_MATCH_INFO, sizeof(aligned), aligned);
	expr_end(h, elem, data);
}

/* -m tcpmss --mss 1000 */
static void match_tcpmss(struct nlmsghdr *h)
{
	const struct xt_tcpmss_match_info info = { .mss_min = 1000, .mss_max = 1000 };

	match_xt(h, "tcpmss", &info, sizeof(info));
}

/* -m length --length 50 */
static void match_length(struct nlmsghdr *h)
{
	const struct xt_length_info info = { .min = 50, .max = 50 };

	match_xt(h, "length", &info, sizeof(info));
}

static void drop(struct nlmsghdr *h)
{
	struct nlattr *data, *elem = expr(h, "immediate", &data), *value, *verdict;

	mnl_attr_put_u32(h, NFTA_IMMEDIATE_DREG, htonl(NFT_REG_VERDICT));
	value = mnl_attr_nest_start(h, NFTA_IMMEDIATE_DATA);
	verdict = mnl_attr_nest_start(h, NFTA_DATA_VERDICT);
	mnl_attr_put_u32(h, NFTA_VERDICT_CODE, htonl(NF_DROP));
	mnl_attr_nest_end(h, verdict);
	mnl_attr_nest_end(h, value);
	expr_end(h, elem, data);
}

/* What @match (-p tcp) matches of what is sent is dropped. 0 or a negative errno. */
static int set_rule(int family, void (*match)(struct nlmsghdr *h))
{
	struct nlattr *list, *compat;
	struct batch b = { .len = 0 };
	struct nlmsghdr *h;
	struct mnl_socket *s;
	int ret = nlu_open(&s, NETLINK_NETFILTER, 0, 0);

	if (ret)
		return ret;
	end(&b, begin(&b, NFNL_MSG_BATCH_BEGIN, AF_UNSPEC, 0));
	put_chain(&b, family);
	h = begin_nft(&b, NFT_MSG_NEWRULE, family, NLM_F_APPEND | NLM_F_ACK);
	mnl_attr_put_strz(h, NFTA_RULE_TABLE, NAME);
	mnl_attr_put_strz(h, NFTA_RULE_CHAIN, NAME);
	list = mnl_attr_nest_start(h, NFTA_RULE_EXPRESSIONS);
	match(h);
	drop(h);
	mnl_attr_nest_end(h, list);
	compat = mnl_attr_nest_start(h, NFTA_RULE_COMPAT);
	mnl_attr_put_u32(h, NFTA_RULE_COMPAT_PROTO, htonl(IPPROTO_TCP));
	mnl_attr_put_u32(h, NFTA_RULE_COMPAT_FLAGS, 0);
	mnl_attr_nest_end(h, compat);
	end(&b, h);
	end(&b, begin(&b, NFNL_MSG_BATCH_END, AF_UNSPEC, 0));
	ret = mnl_socket_sendto(s, b.buf, b.len) < 0 ? -errno : nlu_wait(s, 0, NULL, NULL);
	mnl_socket_close(s);
	return ret;
}

/*
 * True if the rule matches the packet, which is to this machine itself; @plen is
 * the length in its header.
 */
static bool matches6(int s, void *packet, size_t len, size_t plen)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct ip6_hdr *h = packet;

	h->ip6_flow = htonl(6 << 28);
	h->ip6_plen = htons(plen);
	h->ip6_src = h->ip6_dst = to.sin6_addr;
	return sendto(s, packet, len, 0, (void *)&to, sizeof(to)) < 0 && errno == EPERM;
}

/* Destination options of 520 bytes in a packet that has 8 of them. */
static bool matches_odd(int s)
{
	unsigned char p[48] = { [6] = IPPROTO_DSTOPTS, 64, [40] = IPPROTO_TCP, 64 };

	return matches6(s, p, sizeof(p), 8);
}

/* A TCP header behind @n destination options headers. */
static bool matches_exthdrs(int s, int n)
{
	unsigned char p[40 + 8 * (PROBE_EXTHDRS + 1) + 20] = { [6] = IPPROTO_DSTOPTS, 64 };

	for (int i = 0; i < n; i++) {
		p[40 + 8 * i] = i == n - 1 ? IPPROTO_TCP : IPPROTO_DSTOPTS;
		p[40 + 8 * i + 2] = 1;		/* PadN */
		p[40 + 8 * i + 3] = 4;
	}
	return matches6(s, p, 40 + 8 * n + 20, 8 * n + 20);
}

static void try_exthdrs(struct probe *p)
{
	int s = socket(AF_INET6, SOCK_RAW, IPPROTO_RAW), low = 0, high = PROBE_EXTHDRS + 1;

	if (s < 0 || set_rule(NFPROTO_IPV6, match_tcp) || !matches_exthdrs(s, 1))
		return;
	p->exthdr_checked = !matches_odd(s);
	while (high - low > 1) {
		int mid = (low + high) / 2;

		if (matches_exthdrs(s, mid))
			low = mid;
		else
			high = mid;
	}
	p->exthdrs = low;
}

/* A packet of that length, with another in its header. */
static bool matches_length(int s, size_t len, size_t header)
{
	unsigned char p[60] = { [6] = IPPROTO_NONE, 64 };

	return matches6(s, p, len, header - 40);
}

static void try_length6(struct probe *p)
{
	int s = socket(AF_INET6, SOCK_RAW, IPPROTO_RAW);

	if (s < 0 || set_rule(NFPROTO_IPV6, match_length) || !matches_length(s, 50, 50))
		return;
	p->length6_packet = matches_length(s, 50, 45) && !matches_length(s, 45, 50);
}

/* A TCP header with an MSS option, or the same as the middle of a fragmented packet. */
static bool matches_mss(int s, int fragment)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct {
		struct iphdr ip;
		struct tcphdr tcp;
		__u8 mss[4];
	} p = {
		.ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP,
			.frag_off = htons(fragment), .saddr = to.sin_addr.s_addr,
			.daddr = to.sin_addr.s_addr },
		.tcp = { .doff = 6, .syn = 1 },
		.mss = { TCPOPT_MAXSEG, TCPOLEN_MAXSEG, 1000 >> 8, 1000 & 0xff },
	};

	return sendto(s, &p, sizeof(p), 0, (void *)&to, sizeof(to)) < 0 && errno == EPERM;
}

static void try_tcpmss(struct probe *p)
{
	int s = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);

	if (s < 0 || set_rule(NFPROTO_IPV4, match_tcpmss) || !matches_mss(s, 0))
		return;
	p->tcpmss_whole = !matches_mss(s, IP_MF | 20);
}

static bool lo_up(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int s = socket(AF_INET, SOCK_DGRAM, 0);

	return s >= 0 && !ioctl(s, SIOCSIFFLAGS, &lo);
}

/* In a process of its own, which leaves nothing but its answer. */
static void child(int out, struct probe p)
{
	static void (*const tries[])(struct probe *p) = { try_exthdrs, try_tcpmss, try_length6 };

	for (unsigned int i = 0; i < sizeof(tries) / sizeof(tries[0]); i++)
		if (!unshare(CLONE_NEWNET) && lo_up())
			tries[i](&p);
	_exit(write(out, &p, sizeof(p)) != sizeof(p));
}

struct probe *probe(void)
{
	static struct probe p = {
		.exthdr_checked = true, .exthdrs = PROBE_EXTHDRS, .tcpmss_whole = true,
		.length6_packet = true,
	};
	static bool known;
	struct probe told;
	int pair[2];
	pid_t pid;

	if (known || pipe(pair))
		return &p;
	pid = fork();
	if (!pid)
		child(pair[1], p);
	close(pair[1]);
	if (pid > 0 && read(pair[0], &told, sizeof(told)) == sizeof(told))
		p = told;
	close(pair[0]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	known = true;
	return &p;
}
