/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Frames from words.  Of IPv4 or IPv6, as the case's table is; from a neighbour
 * on the one network (in0) to this machine, unless words say otherwise:
 *
 *   tcp udp icmp TYPE CODE proto N		what follows the IP header
 *   saddr A daddr A sport N dport N flags N ttl N tos N
 *   forward					to a host on the other network (out0)
 *   back					from there, to the neighbour; arrives on out0
 *   payload N					bytes behind the transport header
 *   l4 N					only N bytes behind the IP header
 *   doff N					TCP header length, in words
 *   mss N opt KIND LEN nop eol			TCP options
 *   frag OFFSET, mf, df			in units of 8 bytes; IPv6: a fragment header
 *   ipopt N					N no-operation IPv4 options
 *   ext hop|routing|dst|ah|esp|none|bad		IPv6 extension headers, in this order
 *   exts N					N destination options headers
 *   short N, pad N				bytes that are missing, too many at the end
 *   dmac ours|other|bcast|multi, smac MAC
 *   badsum, iplen N, ihl N, version N, ethertype N, vlan
 *   badl4, nosum, udplen N			a transport checksum that is wrong, or 0
 */
#ifndef XTJIT_FLAVOR_PKT_H
#define XTJIT_FLAVOR_PKT_H

#include <arpa/inet.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PKT_MAX 4000
#define PKT_MAX_EXTS 200

struct packet {
	bool forward, back;
	__u8 frame[PKT_MAX];
	int len;		/* of the frame */
	int l3len;		/* what counters add */
};

struct spec {
	bool v6;
	int proto, type, code, flags, ttl, tos, payload, l4, doff, frag, ipopt, cut, pad;
	int iplen, ihl, version, ethertype, sport, dport, ntcpopt, nexts, udplen;
	bool mf, df, badsum, vlan, badl4, nosum;
	char saddr[48], daddr[48];
	__u8 dmac[6], smac[6], tcpopt[40], exts[PKT_MAX_EXTS];
};

enum { EXT_BAD = 255, EXT_FRAG = 44, EXT_AH = 51, EXT_DST = 60 };

static const __u8 mac_in[6] = { 2, 0, 0, 0, 0, 1 }, mac_out[6] = { 2, 0, 0, 0, 0, 2 };

static void put16(__u8 *p, int v)
{
	p[0] = v >> 8;
	p[1] = v;
}

static __u32 sum(const __u8 *p, int n, __u32 s)
{
	for (int i = 0; i < n; i++)
		s += i & 1 ? p[i] : p[i] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}

/* The word's number; *ok becomes false if it is none. */
static int number(char **save, bool *ok)
{
	char *w = strtok_r(NULL, " \t\n", save), *end;
	long v = w ? strtol(w, &end, 0) : 0;

	*ok &= w && !*end;
	return v;
}

static bool text(char **save, char *to, size_t size)
{
	char *w = strtok_r(NULL, " \t\n", save);

	return w && (size_t)snprintf(to, size, "%s", w) < size;
}

static bool ext_word(struct spec *s, const char *name)
{
	static const struct {
		const char *name;
		__u8 number;
	} exts[] = {
		{ "hop", 0 }, { "routing", 43 }, { "dst", EXT_DST }, { "ah", EXT_AH },
		{ "esp", 50 }, { "none", 59 }, { "bad", EXT_BAD },
	};

	for (size_t i = 0; i < sizeof(exts) / sizeof(exts[0]); i++)
		if (!strcmp(name, exts[i].name) && s->nexts < PKT_MAX_EXTS) {
			s->exts[s->nexts++] = exts[i].number;
			return true;
		}
	return false;
}

static bool dmac_word(struct spec *s, const char *name)
{
	static const __u8 other[6] = { 2, 9, 9, 9, 9, 9 }, multi[6] = { 1, 0, 0x5e, 0, 0, 1 };

	if (!strcmp(name, "bcast"))
		memset(s->dmac, 0xff, 6);
	else if (!strcmp(name, "other"))
		memcpy(s->dmac, other, 6);
	else if (!strcmp(name, "multi"))
		memcpy(s->dmac, multi, 6);
	else
		return !strcmp(name, "ours");
	return true;
}

static bool smac_word(struct spec *s, const char *t)
{
	__u8 *m = s->smac;

	return sscanf(t, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", m, m + 1, m + 2, m + 3, m + 4,
		      m + 5) == 6;
}

static void tcp_option(struct spec *s, int kind, int len, int value)
{
	__u8 *o = s->tcpopt + s->ntcpopt;

	if (s->ntcpopt + (len < 2 ? 1 : len) > 40)
		return;
	o[0] = kind;
	if (kind > 1)
		o[1] = len;
	if (len == 4)
		put16(o + 2, value);
	s->ntcpopt += kind < 2 ? 1 : len < 2 ? 2 : len;
}

/* Words that set a number. */
static bool number_word(struct spec *s, const char *w, char **save, bool *ok)
{
	const struct {
		const char *word;
		int *to;
	} numbers[] = {
		{ "proto", &s->proto }, { "sport", &s->sport }, { "dport", &s->dport },
		{ "flags", &s->flags }, { "ttl", &s->ttl }, { "tos", &s->tos },
		{ "payload", &s->payload }, { "l4", &s->l4 }, { "doff", &s->doff },
		{ "frag", &s->frag }, { "ipopt", &s->ipopt }, { "short", &s->cut },
		{ "pad", &s->pad }, { "iplen", &s->iplen }, { "ihl", &s->ihl },
		{ "version", &s->version }, { "ethertype", &s->ethertype },
		{ "udplen", &s->udplen },
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (!strcmp(w, numbers[i].word)) {
			*numbers[i].to = number(save, ok);
			return true;
		}
	return false;
}

static bool option_word(struct spec *s, const char *w, char **save, bool *ok)
{
	int kind, n;

	if (!strcmp(w, "nop")) {
		tcp_option(s, 1, 1, 0);
	} else if (!strcmp(w, "eol")) {
		tcp_option(s, 0, 1, 0);
	} else if (!strcmp(w, "mss")) {
		tcp_option(s, 2, 4, number(save, ok));
	} else if (!strcmp(w, "opt")) {
		kind = number(save, ok);
		tcp_option(s, kind, number(save, ok), 0);
	} else if (!strcmp(w, "exts")) {
		n = number(save, ok);
		while (n-- > 0 && s->nexts < PKT_MAX_EXTS)
			s->exts[s->nexts++] = EXT_DST;
	} else {
		return false;
	}
	return true;
}

static bool simple_word(struct spec *s, struct packet *p, const char *w)
{
	if (!strcmp(w, "tcp"))
		s->proto = 6;
	else if (!strcmp(w, "udp"))
		s->proto = 17;
	else if (!strcmp(w, "mf"))
		s->mf = true;
	else if (!strcmp(w, "df"))
		s->df = true;
	else if (!strcmp(w, "badsum"))
		s->badsum = true;
	else if (!strcmp(w, "badl4"))
		s->badl4 = true;
	else if (!strcmp(w, "nosum"))
		s->nosum = true;
	else if (!strcmp(w, "vlan"))
		s->vlan = true;
	else if (!strcmp(w, "forward"))
		p->forward = true;
	else if (!strcmp(w, "back"))
		p->back = true;
	else
		return false;
	return true;
}

static bool word(struct spec *s, struct packet *p, const char *w, char **save)
{
	char arg[64];
	bool ok = true;

	if (simple_word(s, p, w) || number_word(s, w, save, &ok) || option_word(s, w, save, &ok))
		return ok;
	if (!strcmp(w, "icmp")) {
		s->proto = s->v6 ? 58 : 1;
		s->type = number(save, &ok);
		s->code = number(save, &ok);
		return ok;
	}
	if (!strcmp(w, "saddr"))
		return text(save, s->saddr, sizeof(s->saddr));
	if (!strcmp(w, "daddr"))
		return text(save, s->daddr, sizeof(s->daddr));
	if (!text(save, arg, sizeof(arg)))
		return false;
	if (!strcmp(w, "ext"))
		return ext_word(s, arg);
	if (!strcmp(w, "dmac"))
		return dmac_word(s, arg);
	return !strcmp(w, "smac") && smac_word(s, arg);
}

/* The transport header and its payload; returns its length. */
static int build_l4(const struct spec *s, __u8 *p)
{
	int n = 0, doff = s->doff ? s->doff : 5 + (s->ntcpopt + 3) / 4;

	memset(p, 0, 64);
	switch (s->proto) {
	case 6:
		n = 20 + (s->ntcpopt + 3) / 4 * 4;
		p[12] = doff << 4;
		p[13] = s->flags;
		put16(p + 14, 1024);
		memcpy(p + 20, s->tcpopt, s->ntcpopt);
		break;
	case 17:
		n = 8;
		put16(p + 4, s->udplen ? s->udplen : 8 + s->payload);
		break;
	case 1:
	case 58:
		n = 8;
		p[0] = s->type;
		p[1] = s->code;
		put16(p + 4, 1);
	}
	if (s->proto == 6 || s->proto == 17) {
		put16(p, s->sport);
		put16(p + 2, s->dport);
	}
	for (int i = 0; i < s->payload; i++)
		p[n++] = i;
	return n;
}

static void l4_checksum(const struct spec *s, __u8 *l4, int n, const __u8 *addrs, int naddrs)
{
	int at = s->proto == 6 ? 16 : s->proto == 17 ? 6 : 2;
	__u32 c = s->proto == 1 ? 0 : sum(addrs, naddrs, s->proto + n);

	if (n < 8 || (s->proto != 1 && s->proto != 6 && s->proto != 17 && s->proto != 58))
		return;
	put16(l4 + at, 0);
	put16(l4 + at, s->nosum ? 0 : ~sum(l4, n, c) & 0xffff);
	if (s->badl4)
		l4[at] ^= 0x10;
}

static int build_ip(const struct spec *s, __u8 *p, const __u8 *l4, int n)
{
	int hdr = 20 + (s->ipopt + 3) / 4 * 4;

	memset(p, 0, hdr);
	memset(p + 20, 1, s->ipopt);
	p[0] = (s->version ? s->version : 4) << 4 | (s->ihl ? s->ihl : hdr / 4);
	p[1] = s->tos;
	put16(p + 2, s->iplen ? s->iplen : hdr + n);
	put16(p + 4, 0x1234);
	put16(p + 6, s->frag | (s->mf ? 0x2000 : 0) | (s->df ? 0x4000 : 0));
	p[8] = s->ttl;
	p[9] = s->proto;
	inet_pton(AF_INET, s->saddr, p + 12);
	inet_pton(AF_INET, s->daddr, p + 16);
	memcpy(p + hdr, l4, n);
	if (!s->frag && !s->mf)
		l4_checksum(s, p + hdr, n, p + 12, 8);
	put16(p + 10, ~sum(p, hdr, 0) & 0xffff);
	if (s->badsum)
		p[10] ^= 1;
	return hdr + n;
}

/* One extension header; *@next is where its number goes. */
static int build_ext(const struct spec *s, __u8 *p, int kind, __u8 **next)
{
	static const __u8 padn[4] = { 1, 4, 0, 0 };
	int len = kind == EXT_AH ? 24 : 8;

	memset(p, 0, len);
	**next = kind == EXT_BAD ? EXT_DST : kind;
	*next = p;
	if (kind == EXT_AH)
		p[1] = 4;
	else if (kind == EXT_BAD)
		p[1] = 200;
	else if (kind == EXT_FRAG)
		put16(p + 2, s->frag << 3 | s->mf);
	else if (kind != 43)
		memcpy(p + 2, padn, 4);
	return len;
}

static int build_ip6(const struct spec *s, __u8 *p, const __u8 *l4, int n)
{
	int len = 40, last = s->proto;
	__u8 *next = p + 6;

	memset(p, 0, 40);
	p[0] = (s->version ? s->version : 6) << 4 | s->tos >> 4;
	p[1] = s->tos << 4;
	p[7] = s->ttl;
	inet_pton(AF_INET6, s->saddr, p + 8);
	inet_pton(AF_INET6, s->daddr, p + 24);
	for (int i = 0; i < s->nexts; i++) {
		if (s->exts[i] == 59 || s->exts[i] == 50) {
			last = s->exts[i];
			break;
		}
		len += build_ext(s, p + len, s->exts[i], &next);
	}
	if (s->frag || s->mf)
		len += build_ext(s, p + len, EXT_FRAG, &next);
	*next = last;
	memcpy(p + len, l4, n);
	if (!s->frag && !s->mf)
		l4_checksum(s, p + len, n, p + 8, 32);
	len += n;
	put16(p + 4, s->iplen ? s->iplen : len - 40);
	return len;
}

static void build_frame(const struct spec *s, struct packet *p)
{
	__u8 l4[PKT_MAX] = { 0 };
	int n = build_l4(s, l4), at = 12;

	if (s->l4 >= 0)
		n = s->l4;
	memcpy(p->frame, s->dmac, 6);
	memcpy(p->frame + 6, s->smac, 6);
	if (s->vlan) {
		put16(p->frame + at, 0x8100);
		put16(p->frame + at + 2, 7);
		at += 4;
	}
	put16(p->frame + at, s->ethertype ? s->ethertype : s->v6 ? 0x86dd : 0x0800);
	at += 2;
	p->l3len = s->v6 ? build_ip6(s, p->frame + at, l4, n) : build_ip(s, p->frame + at, l4, n);
	p->len = at + p->l3len + s->pad - s->cut;
}

/* What no word has set. */
static void defaults(struct spec *s, const struct packet *p)
{
	static const char *const addrs[2][3] = {
		{ "10.0.0.2", "10.1.0.2", "10.0.0.1" },
		{ "2001:db8::2", "2001:db8:1::2", "2001:db8::1" },
	};
	const char *const *a = addrs[s->v6];

	if (!s->saddr[0])
		strcpy(s->saddr, p->back ? a[1] : a[0]);
	if (!s->daddr[0])
		strcpy(s->daddr, p->back ? a[0] : p->forward ? a[1] : a[2]);
	if (!memcmp(s->dmac, "\0\0\0\0\0", 6))
		memcpy(s->dmac, p->back ? mac_out : mac_in, 6);
}

/* The frame of the words in @words, which are spoiled; false: no such packet. */
__attribute__((unused))
static bool packet_build(struct packet *p, bool v6, char *words)
{
	struct spec s = {
		.v6 = v6, .proto = 17, .ttl = 64, .sport = 1024, .dport = 53, .l4 = -1,
		.flags = 2, .smac = { 2, 0, 0, 0, 0, 0x10 },
	};
	char *save = NULL, *w;

	memset(p, 0, sizeof(*p));
	for (w = strtok_r(words, " \t\n", &save); w; w = strtok_r(NULL, " \t\n", &save))
		if (!word(&s, p, w, &save))
			return false;
	defaults(&s, p);
	build_frame(&s, p);
	return true;
}

#endif
