// SPDX-License-Identifier: GPL-2.0
/*
 * What the helper finds out about this kernel, next to what ip_tables does with
 * such packets: they are sent in a namespace whose rules drop what they match.
 */
#include <errno.h>
#include <linux/types.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "probe.h"
#include "tap.h"

static int sock[2];

static bool drops4(const void *packet, size_t len)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	return sendto(sock[0], packet, len, 0, (void *)&to, sizeof(to)) < 0 && errno == EPERM;
}

static bool drops6(void *packet, size_t len, int plen)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct ip6_hdr *h = packet;

	h->ip6_flow = htonl(6 << 28);
	h->ip6_hlim = 64;
	h->ip6_plen = htons(plen);
	h->ip6_src = h->ip6_dst = to.sin6_addr;
	return sendto(sock[1], packet, len, 0, (void *)&to, sizeof(to)) < 0 && errno == EPERM;
}

static bool rule(const char *command)
{
	return !system("iptables-legacy -F && ip6tables-legacy -F") && !system(command);
}

/* TCP behind @n destination options headers. */
static bool found_behind(int n)
{
	unsigned char p[40 + 8 * 200 + 20] = { [6] = IPPROTO_DSTOPTS };

	for (int i = 0; i < n; i++) {
		p[40 + 8 * i] = i == n - 1 ? IPPROTO_TCP : IPPROTO_DSTOPTS;
		p[40 + 8 * i + 2] = 1;
		p[40 + 8 * i + 3] = 4;
	}
	return drops6(p, 40 + 8 * n + 20, 8 * n + 20);
}

/* Malformed packets are dropped by the rule, too: so it is one that such packets must not meet. */
static void test_exthdrs(void)
{
	unsigned char odd[48] = { [6] = IPPROTO_DSTOPTS, [40] = IPPROTO_TCP, 64 };
	bool ok = rule("ip6tables-legacy -A OUTPUT -p tcp -j ACCEPT");
	int n = 1;

	tap_ok(ok && drops6(odd, sizeof(odd), 8) == probe()->exthdr_checked,
	       "headers longer than the packet are %s", probe()->exthdr_checked ? "refused" : "not");
	while (ok && n <= PROBE_EXTHDRS && !found_behind(n))
		n++;
	if (!tap_ok(ok && n - 1 == probe()->exthdrs, "%d extension headers", probe()->exthdrs))
		tap_diag("it is %d", n - 1);
}

static void test_tcpmss(void)
{
	struct {
		struct iphdr ip;
		struct tcphdr tcp;
		__u8 mss[4];
	} p = {
		.ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP,
			.frag_off = htons(IP_MF | 20), .daddr = htonl(INADDR_LOOPBACK),
			.saddr = htonl(INADDR_LOOPBACK) },
		.tcp = { .doff = 6, .syn = 1 },
		.mss = { TCPOPT_MAXSEG, TCPOLEN_MAXSEG, 1460 >> 8, 1460 & 0xff },
	};
	bool ok = rule("iptables-legacy -A OUTPUT -p tcp -m tcpmss --mss 1460 -j DROP");

	tap_ok(ok && drops4(&p, sizeof(p)) == !probe()->tcpmss_whole,
	       "tcpmss looks %s", probe()->tcpmss_whole ? "at whole packets only" : "into fragments");
	p.ip.frag_off = 0;
	tap_ok(ok && drops4(&p, sizeof(p)), "tcpmss matches a whole packet");
}

static void test_length(void)
{
	unsigned char p[60] = { [6] = IPPROTO_NONE };
	bool ok = rule("ip6tables-legacy -A OUTPUT -m length --length 60 -j DROP");

	tap_ok(ok && drops6(p, 60, 10) == probe()->length6_packet,
	       "length takes the %s length", probe()->length6_packet ? "packet's own" : "header's");
	tap_ok(ok && drops6(p, 55, 20) == !probe()->length6_packet, "and no other");
}

int main(void)
{
	if (unshare(CLONE_NEWNET)) {
		tap_skip("probe", "no network namespace of our own: not root?");
		return tap_done();
	}
	sock[0] = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
	sock[1] = socket(AF_INET6, SOCK_RAW, IPPROTO_RAW);
	if (system("ip link set lo up; iptables-legacy -L -n >/dev/null &&"
		   "ip6tables-legacy -L -n >/dev/null")) {
		tap_skip("probe", "the kernel has no ip_tables");
		return tap_done();
	}
	test_exthdrs();
	test_tcpmss();
	test_length();
	return tap_done();
}
