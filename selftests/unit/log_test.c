// SPDX-License-Identifier: GPL-2.0
/*
 * Log lines of packets that are hard to send.  That all others are the
 * kernel's own, byte for byte, is what netns/sidefx_test.py shows.
 */
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_log.h>
#include <net/if_arp.h>
#include <string.h>

#include "sidefx_priv.h"
#include "tap.h"

#define MAC "\2\0\0\0\1\1\2\0\0\0\1\2\10\0"
#define IP4(len, proto) "\x45\0\0" len "\x12\x34\x40\0\x40" proto "\0\0\xa\1\1\2\xa\1\1\1"
#define UDP "\x03\xe8\0\x35\0\x08\0\0"
#define SRC4 "SRC=10.1.1.2 DST=10.1.1.1 "
#define ID4 "TOS=0x00 PREC=0x00 TTL=64 ID=4660 DF "

struct log_case {
	const char *name;
	struct event ev;	/* len: 0: as many as there are */
	const char *data;
	size_t size;
	const char *want;
};

#define DATA(s) .data = s, .size = sizeof(s) - 1

static const struct log_case cases[] = {
	{ "an empty prefix, no device", { .nfproto = NFPROTO_IPV4 },
	  DATA(IP4("\x1c", "\x11") UDP),
	  "IN= OUT= " SRC4 "LEN=28 " ID4 "PROTO=UDP SPT=1000 DPT=53 LEN=8 " },
	{ "a prefix of 29 bytes, mark, both devices",
	  { .nfproto = NFPROTO_IPV4, .prefix = "12345678901234567890123456789",
	    .in_name = "abcdefghijklmno", .out_name = "o", .mark = 0xffffffff },
	  DATA(IP4("\x1c", "\x11") UDP),
	  "12345678901234567890123456789IN=abcdefghijklmno OUT=o MAC= " SRC4 "LEN=28 " ID4
	  "PROTO=UDP SPT=1000 DPT=53 LEN=8 MARK=0xffffffff " },
	{ "the user, where asked for",
	  { .nfproto = NFPROTO_IPV4, .flags = NF_LOG_UID, .has_sk = 1, .uid = 1000, .gid = 7 },
	  DATA(IP4("\x1c", "\x11") UDP),
	  "IN= OUT= " SRC4 "LEN=28 " ID4 "PROTO=UDP SPT=1000 DPT=53 LEN=8 UID=1000 GID=7 " },
	{ "no user without a socket", { .nfproto = NFPROTO_IPV4, .flags = NF_LOG_UID },
	  DATA(IP4("\x1c", "\x11") UDP),
	  "IN= OUT= " SRC4 "LEN=28 " ID4 "PROTO=UDP SPT=1000 DPT=53 LEN=8 " },
	{ "hard_header_len of a VLAN device: 4 bytes of the packet",
	  { .nfproto = NFPROTO_IPV4, .in_name = "v", .mac_len = 14, .mac = MAC, .hh_len = 18,
	    .in_type = ARPHRD_ETHER },
	  DATA(IP4("\x1c", "\x11") UDP),
	  "IN=v OUT= MAC=02:00:00:00:01:01:02:00:00:00:01:02:08:00:45:00:00:1c " SRC4 "LEN=28 "
	  ID4 "PROTO=UDP SPT=1000 DPT=53 LEN=8 " },
	{ "macdecode of a device that is not Ethernet",
	  { .nfproto = NFPROTO_IPV4, .in_name = "p", .flags = NF_LOG_MACDECODE,
	    .in_type = ARPHRD_PPP },
	  DATA(IP4("\x1c", "\x11") UDP),
	  "IN=p OUT= MAC= " SRC4 "LEN=28 " ID4 "PROTO=UDP SPT=1000 DPT=53 LEN=8 " },
	{ "a large segment: the length is the buffer's", { .nfproto = NFPROTO_IPV4, .len = 70000 },
	  DATA(IP4("\0", "\x11") UDP),
	  "IN= OUT= " SRC4 "LEN=70000 " ID4 "PROTO=UDP SPT=1000 DPT=53 LEN=8 " },
	{ "not even a header", { .nfproto = NFPROTO_IPV4 }, DATA("\x45\0\0"),
	  "IN= OUT= TRUNCATED" },
	{ "IPv6: not even a header", { .nfproto = NFPROTO_IPV6 }, DATA("\x60\0\0"),
	  "IN= OUT= TRUNCATED" },
};

static void run_case(const struct log_case *c)
{
	struct event ev = c->ev;
	struct log_buf b;

	memcpy(ev.data, c->data, c->size);
	ev.data_len = c->size;
	if (!ev.len)
		ev.len = c->size;
	log_line(&b, &ev);
	if (!tap_ok(!strcmp(b.text, c->want), "%s", c->name))
		tap_diag("got  '%s'\n# want '%s'", b.text, c->want);
}

/* As struct nf_log_buf: what does not fit is cut off, once and for all. */
static void test_full(void)
{
	struct log_buf b = { 0 };

	for (int i = 0; i < 100; i++)
		log_add(&b, "%s", "0123456789abcdef");
	log_add(&b, "x");
	tap_ok(b.count == LOG_MAX && strlen(b.text) == LOG_MAX - 1 && !strchr(b.text, 'x'),
	       "a line that is too long is cut off");
}

int main(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		run_case(&cases[i]);
	test_full();
	return tap_done();
}
