// SPDX-License-Identifier: GPL-2.0
/*
 * Which packets REJECT answers, and parts of the answers; rate limits; and
 * that no record, whatever is in it, leads out of bounds.
 */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4/ipt_REJECT.h>
#include <linux/netfilter_ipv6/ip6t_REJECT.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "sidefx_priv.h"
#include "tap.h"

#define A4 "10.1.1.2"
#define B4 "10.1.1.1"
#define A6 "fd01::2"
#define B6 "fd01::1"
#define MCAST 2		/* PACKET_MULTICAST */

/* A packet and what is to be answered. */
struct spec {
	const char *name;
	__u8 with, proto;
	__u8 byte;		/* TCP: flags, ICMP: type */
	__u8 pkt_type;
	__u16 frag;		/* IPv4 */
	bool bad, csum_ok;	/* a wrong checksum; one that needs no check */
	const char *src, *dst;
	enum reject_answer want;
	__u16 cut;		/* bytes of transport header, 0: all */
};

#define PORT4 IPT_ICMP_PORT_UNREACHABLE
#define RST4 IPT_TCP_RESET
#define PORT6 IP6T_ICMP6_PORT_UNREACH
#define RST6 IP6T_TCP_RESET

static const struct spec specs[] = {
	{ "UDP", PORT4, 17, 0, 0, 0, 0, 0, A4, B4, REJECT_ICMP, 0 },
	{ "UDP, bad checksum", PORT4, 17, 0, 0, 0, 1, 0, A4, B4, REJECT_NONE, 0 },
	{ "UDP, bad checksum, unchecked", PORT4, 17, 0, 0, 0, 1, 1, A4, B4, REJECT_ICMP, 0 },
	{ "a later fragment", PORT4, 17, 0, 0, 7, 0, 1, A4, B4, REJECT_NONE, 0 },
	{ "the first fragment", PORT4, 17, 0, 0, 0x2000, 0, 1, A4, B4, REJECT_ICMP, 0 },
	{ "to a multicast MAC", PORT4, 17, 0, MCAST, 0, 0, 0, A4, B4, REJECT_NONE, 0 },
	{ "to a multicast address", PORT4, 17, 0, 0, 0, 0, 0, A4, "224.0.0.5", REJECT_NONE, 0 },
	{ "echo request", PORT4, 1, 8, 0, 0, 0, 0, A4, B4, REJECT_ICMP, 0 },
	{ "time exceeded", PORT4, 1, 11, 0, 0, 0, 0, A4, B4, REJECT_NONE, 0 },
	{ "an unknown ICMP type", PORT4, 1, 77, 0, 0, 0, 0, A4, B4, REJECT_NONE, 0 },
	{ "ICMP without a type", PORT4, 1, 8, 0, 0, 0, 1, A4, B4, REJECT_NONE, 0xffff },
	{ "ECHOREPLY is no more", IPT_ICMP_ECHOREPLY, 17, 0, 0, 0, 0, 0, A4, B4, REJECT_NONE, 0 },
	{ "a kind nobody knows", 99, 17, 0, 0, 0, 0, 0, A4, B4, REJECT_NONE, 0 },
	{ "SCTP is not checked", PORT4, 132, 0, 0, 0, 1, 0, A4, B4, REJECT_ICMP, 0 },
	{ "OSPF is", PORT4, 89, 0, 0, 0, 1, 0, A4, B4, REJECT_NONE, 0 },
	{ "SYN", RST4, 6, 2, 0, 0, 0, 0, A4, B4, REJECT_RESET, 0 },
	{ "SYN to a multicast MAC", RST4, 6, 2, MCAST, 0, 0, 0, A4, B4, REJECT_RESET, 0 },
	{ "RST", RST4, 6, 4, 0, 0, 0, 0, A4, B4, REJECT_NONE, 0 },
	{ "RST, with an ICMP error", PORT4, 6, 4, 0, 0, 0, 0, A4, B4, REJECT_ICMP, 0 },
	{ "SYN, bad checksum", RST4, 6, 2, 0, 0, 1, 0, A4, B4, REJECT_NONE, 0 },
	{ "SYN, bad checksum, unchecked", RST4, 6, 2, 0, 0, 1, 1, A4, B4, REJECT_RESET, 0 },
	{ "half a TCP header", RST4, 6, 2, 0, 0, 0, 1, A4, B4, REJECT_NONE, 19 },
	{ "UDP, reset", RST4, 17, 0, 0, 0, 0, 0, A4, B4, REJECT_NONE, 0 },
	{ "IPv6 UDP", PORT6, 17, 0, 0, 0, 0, 0, A6, B6, REJECT_ICMP, 0 },
	{ "IPv6 UDP, bad checksum", PORT6, 17, 0, 0, 0, 1, 0, A6, B6, REJECT_NONE, 0 },
	{ "IPv6 unspecified source", PORT6, 17, 0, 0, 0, 0, 0, "::", B6, REJECT_NONE, 0 },
	{ "IPv6 multicast source", PORT6, 17, 0, 0, 0, 0, 0, "ff02::1", B6, REJECT_NONE, 0 },
	{ "IPv6 multicast destination", PORT6, 17, 0, 0, 0, 0, 0, A6, "ff02::1", REJECT_NONE, 0 },
	{ "IPv6 to a multicast MAC", PORT6, 17, 0, MCAST, 0, 0, 0, A6, B6, REJECT_NONE, 0 },
	{ "IPv6 echo request", PORT6, 58, 128, 0, 0, 0, 0, A6, B6, REJECT_ICMP, 0 },
	{ "IPv6 packet too big", PORT6, 58, 2, 0, 0, 0, 0, A6, B6, REJECT_NONE, 0 },
	{ "IPv6 no next header", PORT6, 59, 0, 0, 0, 0, 0, A6, B6, REJECT_NONE, 0 },
	{ "IPv6 no next header, unchecked", PORT6, 59, 0, 0, 0, 0, 1, A6, B6, REJECT_ICMP, 0 },
	{ "IPv6 SYN", RST6, 6, 2, 0, 0, 0, 0, A6, B6, REJECT_RESET, 0 },
	{ "IPv6 SYN to a multicast MAC", RST6, 6, 2, MCAST, 0, 0, 0, A6, B6, REJECT_RESET, 0 },
	{ "IPv6 RST", RST6, 6, 4, 0, 0, 0, 0, A6, B6, REJECT_NONE, 0 },
	{ "IPv6 SYN from a mapped address", RST6, 6, 2, 0, 0, 0, 0, "::ffff:1.2.3.4", B6,
	  REJECT_NONE, 0 },
	{ "IPv6 SYN from multicast", RST6, 6, 2, 0, 0, 0, 0, "ff02::1", B6, REJECT_NONE, 0 },
};

static void put_header(struct event *ev, const struct spec *s)
{
	struct ipv6hdr *ih6 = (void *)ev->data;
	struct iphdr *ih = (void *)ev->data;

	if (strchr(s->src, ':')) {
		ih6->version = 6;
		ih6->nexthdr = s->proto;
		ih6->payload_len = htons(ev->len - sizeof(*ih6));
		inet_pton(AF_INET6, s->src, &ih6->saddr);
		inet_pton(AF_INET6, s->dst, &ih6->daddr);
		return;
	}
	ih->version = 4;
	ih->ihl = 5;
	ih->tot_len = htons(ev->len);
	ih->frag_off = htons(s->frag);
	ih->protocol = s->proto;
	inet_pton(AF_INET, s->src, &ih->saddr);
	inet_pton(AF_INET, s->dst, &ih->daddr);
	ih->check = htons(csum_fold(csum_add_bytes(0, ih, sizeof(*ih))));
}

/* 40 bytes of transport, right by what was left to the last two. */
static void put_body(struct event *ev, const struct spec *s, __u32 off)
{
	__u8 *l4 = ev->data + off;
	__u32 alen = off == 40 ? 16 : 4, sum = 0, fill;

	memset(l4, 0x11, 38);
	if (s->proto == IPPROTO_TCP) {
		l4[12] = 0x50;
		l4[13] = s->byte;
	} else {
		l4[0] = s->byte;
	}
	if (alen == 16 || s->proto == IPPROTO_TCP || s->proto == IPPROTO_UDP)
		sum = s->proto + 40;
	if (sum)
		sum = csum_add_bytes(sum, ev->data + off - 2 * alen, 2 * alen);
	fill = htons(csum_fold(csum_add_bytes(sum, l4, 38))) + s->bad;
	memcpy(l4 + 38, &fill, 2);
}

static void make(struct event *ev, const struct spec *s)
{
	bool v6 = strchr(s->src, ':');
	__u32 off = v6 ? 40 : 20;

	memset(ev, 0, sizeof(*ev));
	ev->kind = EVENT_REJECT;
	ev->nfproto = v6 ? NFPROTO_IPV6 : NFPROTO_IPV4;
	ev->hook = NF_INET_LOCAL_IN;
	ev->with = s->with;
	ev->pkt_type = s->pkt_type;
	ev->csum_ok = s->csum_ok;
	ev->len = ev->data_len = off + 40;
	put_header(ev, s);
	put_body(ev, s, off);
	if (s->cut)
		ev->len = ev->data_len = off + (s->cut == 0xffff ? 0 : s->cut);
}

static void test_answers(void)
{
	struct event ev;

	for (size_t i = 0; i < sizeof(specs) / sizeof(*specs); i++) {
		make(&ev, &specs[i]);
		tap_ok(reject_answer(&ev) == specs[i].want, "%s", specs[i].name);
	}
}

static void test_quote(void)
{
	static const struct { __u32 len, mtu, want; } sizes[] = {
		{ 60, 1500, 88 }, { 548, 1500, 576 }, { 549, 1500, 576 }, { 1500, 1500, 576 },
		{ 1500, 575, 575 }, { 1500, 49, 49 }, { 1500, 48, 0 }, { 1500, 0, 0 },
	};
	__u8 out[REJECT_MAX];
	struct event ev;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct reject_facts f = { .mtu = sizes[i].mtu };

		make(&ev, &specs[0]);
		ev.len = ev.data_len = sizes[i].len;
		tap_ok(reject_build_icmp(&ev, &f, out) == sizes[i].want,
		       "ICMP error: %u bytes, MTU %u", sizes[i].len, sizes[i].mtu);
	}
	make(&ev, &(struct spec){ "", PORT6, 17, 0, 0, 0, 0, 0, A6, B6, REJECT_ICMP, 0 });
	ev.len = 9000;
	ev.data_len = EVENT_DATA_MAX;
	tap_ok(reject_build_icmp(&ev, &(struct reject_facts){ 0 }, out) == 1280 - 40,
	       "ICMPv6 error: the smallest MTU");
}

/* The acknowledged number is past all that the packet had. */
static void test_reset(void)
{
	static __u8 out[REJECT_MAX] __attribute__((aligned(8)));
	const struct tcphdr *th = (void *)(out + 20);
	struct reject_facts f = { .hoplimit = 9 };
	struct event ev;

	make(&ev, &(struct spec){ "", RST4, 6, 3, 0, 0, 0, 0, A4, B4, REJECT_RESET, 0 });
	tap_ok(reject_build_reset(&ev, &f, out) == 40 && th->rst && th->ack && !th->seq &&
	       ntohl(th->ack_seq) == 0x11111111 + 2 + 20 && out[8] == 9,
	       "reset of SYN+FIN with 20 bytes");
	ev.data[33] = 0x10;
	tap_ok(reject_build_reset(&ev, &f, out) == 40 && th->rst && !th->ack && !th->ack_seq &&
	       ntohl(th->seq) == 0x11111111, "reset of ACK");
}

static void test_peer_limit(void)
{
	struct xrlim_key a = { .netns = 1, .addr = { 1 }, .nfproto = NFPROTO_IPV4 }, b = a;
	__u64 now = 100000;
	int sent = 0;

	for (int i = 0; i < 20; i++)
		sent += xrlim_peer(&a, 1000, now);
	tap_ok(sent == 6, "one destination: six at once");
	tap_ok(!xrlim_peer(&a, 1000, now + 999) && xrlim_peer(&a, 1000, now + 1000) &&
	       !xrlim_peer(&a, 1000, now + 1001), "then one a second");
	b.netns = 2;
	tap_ok(xrlim_peer(&b, 1000, now), "other namespaces have their own");
	b = a;
	b.addr[15] = 1;
	tap_ok(xrlim_peer(&b, 1000, now), "other destinations, too");
	sent = 0;
	for (int i = 0; i < 20; i++)
		sent += xrlim_peer(&a, 0, now + 2000);
	tap_ok(sent == 20, "icmp_ratelimit 0: no limit");
	sent = 0;
	for (int i = 0; i < 20; i++)
		sent += xrlim_peer(&a, 1000, now + 1000000);
	tap_ok(sent == 6, "no more than six after a long time");
}

static int global_burst(struct xrlim_global *g, __u64 now)
{
	int n = 0;

	while (n < 1000 && xrlim_global_allow(g, 1000, 50, now)) {
		xrlim_global_consume(g);
		n++;
	}
	return n;
}

static void test_global_limit(void)
{
	struct xrlim_global g = { 0 };
	int n = global_burst(&g, 100000);

	tap_ok(n >= 20 && n < 150, "all destinations: about 50 at once (%d)", n);
	tap_ok(!xrlim_global_allow(&g, 1000, 50, 100019), "none for 20 ms");
	n = global_burst(&g, 100030);
	tap_ok(n >= 8 && n < 100, "after 30 ms about 30 (%d)", n);
	g.credit = 0;
	tap_ok(!xrlim_global_allow(&g, 0, 50, 200000), "icmp_msgs_per_sec 0: none");
}

static bool nobody(void *ctx, __be32 addr)
{
	(void)ctx;
	return addr & 1;
}

static void use(const struct event *ev)
{
	struct reject_facts f = { .mtu = random() % 2000 };
	static __u8 out[REJECT_MAX] __attribute__((aligned(8)));
	struct log_buf b;

	log_line(&b, ev);
	switch (reject_answer(ev)) {
	case REJECT_RESET:
		reject_build_reset(ev, &f, out);
		break;
	case REJECT_ICMP:
		if (ev->nfproto == NFPROTO_IPV6 || !reply_opts_echo(&f.opts, ev, nobody, NULL))
			reject_build_icmp(ev, &f, out);
		break;
	case REJECT_NONE:
		break;
	}
}

/* Right enough to get far: a header whose fields are then shaken. */
static void test_random(void)
{
	static struct event ev;
	size_t n = sizeof(specs) / sizeof(*specs);

	srandom(1);
	for (int i = 0; i < 300000; i++) {
		make(&ev, &specs[random() % n]);
		for (int j = random() % 40; j; j--)
			ev.data[random() % (j & 1 ? 80 : 400)] =
				random() % 3 ? random() : random() % 70;
		ev.csum_ok = random();
		ev.flags = random();
		ev.has_ct = random() % 3;
		ev.hh_len = random() % 64;
		ev.mac_len = random() % 64;
		ev.len = random() % (random() % 8 ? 120 : 3000);
		ev.data_len = ev.len < EVENT_DATA_MAX ? ev.len : EVENT_DATA_MAX;
		ev.nfproto = ev.data[0] >> 4 == 6 ? NFPROTO_IPV6 : NFPROTO_IPV4;
		use(&ev);
	}
	tap_ok(true, "300000 packets of all kinds");
}

/* Records that a program would not write are counted, and nothing else. */
static void test_records(void)
{
	static struct event good, ev;
	const struct sidefx_stats *s = sidefx_get_stats();
	__u64 bad = s->bad;

	make(&good, &specs[0]);
	good.kind = EVENT_REJECT;
	good.pkt_type = MCAST;	/* no answer, and no namespace needed */
	for (size_t len = 0; len < offsetof(struct event, data) + good.data_len; len++)
		sidefx_event(NULL, &good, len);
	tap_ok(s->bad - bad == offsetof(struct event, data) + good.data_len, "too short");
	bad = s->bad;
#define BAD(field, value) do { ev = good; ev.field = value; \
		sidefx_event(NULL, &ev, sizeof(ev)); } while (0)
	BAD(data_len, EVENT_DATA_MAX + 1);
	BAD(data_len, ~0u);
	BAD(len, good.data_len - 1);
	BAD(len, good.data_len + 1);
	BAD(nfproto, 0);
	BAD(hook, 5);
	BAD(has_ct, 3);
	BAD(kind, 0);
	BAD(kind, 3);
	tap_ok(s->bad - bad == 9, "fields out of range");
	bad = s->reject_none;
	sidefx_event(NULL, &good, sizeof(good));
	tap_ok(s->reject_none == bad + 1, "a good one");
}

int main(void)
{
	test_answers();
	test_quote();
	test_reset();
	test_peer_limit();
	test_global_limit();
	test_random();
	test_records();
	return tap_done();
}
