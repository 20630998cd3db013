/* SPDX-License-Identifier: GPL-2.0 */
/* Random tables, as text of the IR, whose rules form groups; and packets that meet them. */
#ifndef XTJIT_CLASSIFY_RANDOM_H
#define XTJIT_CLASSIFY_RANDOM_H

#include <stdio.h>
#include <string.h>

#include "prng.h"

#define CHAINS 5
#define LAYER 8		/* small chains at one depth */

static const char *pick(const char *const *words, int n)
{
	return words[prng(n)];
}

#define PICK(...) pick((const char *const[]){ __VA_ARGS__ }, \
		       sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *))

/* One shape of ruleset a table, so that its families are large. */
struct shape {
	bool v6;
	int rules, nets;	/* so many first halves of addresses */
	int chains, layer;	/* layer: so many at each depth, small ones; 0: at any */
	bool wide;			/* IPv4 addresses are all over the place */
	bool deep;			/* many rules that packets go on behind, of short prefixes */
	bool src, dst, ports, ranges, lists, jumps, goes_on, rest, ifaces, states, macs;
};

/* The first byte of an IPv4 address. */
static __u32 first_byte(const struct shape *s)
{
	return s->wide ? prng(9) * 29 : 10;
}

static void put_addr(FILE *f, const struct shape *s, const char *field)
{
	static const int lens[] = { 8, 9, 12, 15, 16, 17, 20, 23, 24, 25, 27, 30, 31, 32, 32, 32 };
	int len = lens[prng(s->deep ? 3 : 16)];

	if (prng(12) == 0)
		fputs("! ", f);
	if (s->v6) {
		__u32 a = prng(s->nets), b = prng(5), c = prng(4);
		int l6 = (const int[]){ 32, 48, 60, 64, 127, 128 }[prng(6)];

		/* in canonical form under each of the lengths */
		fprintf(f, "%s6 == 2001:db8:%x:%x::%x/%d; ", field, l6 > 32 ? a : 0,
			l6 == 60 ? b & ~15 : l6 > 60 ? b : 0, l6 == 127 ? c & ~1 : l6 > 127 ? c : 0, l6);
		return;
	}
	if (s->ranges && prng(60) == 0) {
		fprintf(f, "%s in 0.0.0.0-255.255.255.255; ", field);
		return;
	}
	if (s->ranges && prng(6) == 0) {
		__u32 a = prng(200);

		fprintf(f, "%s in 10.%u.%u.%u-10.%u.%u.%u; ", field, prng(2), a % 3, a,
			2 + prng(2), a % 5, a + prng(50));
		return;
	}
	__u32 v = first_byte(s) << 24 | prng(s->nets) << 16 | prng(4) << 8 | prng(6);

	v &= ~0u << (32 - len);
	fprintf(f, "%s == %u.%u.%u.%u/%d; ", field, v >> 24, v >> 16 & 255, v >> 8 & 255, v & 255,
		len);
}

static void put_ports(FILE *f, const struct shape *s)
{
	const char *dir = PICK("s", "d", "d");
	int n;

	if (prng(10) == 0)
		fputs("! ", f);
	if (s->ranges && prng(3) == 0) {
		fprintf(f, "%sport in %u-%u; ", dir, prng(20), 20 + prng(60));
	} else if (s->lists && prng(3) == 0) {
		fprintf(f, "ports %s in ", PICK("src", "dst", "any"));
		n = 1 + prng(5);
		while (n--)
			fprintf(f, "%u%s%s", prng(30), prng(3) ? "" : "-40", n ? "," : "; ");
	} else {
		fprintf(f, "%sport == %u; ", dir, prng(30));
	}
}

static void put_proto(FILE *f, const struct shape *s)
{
	const char *inv = prng(15) ? "" : "! ";
	int kind = prng(4);

	fprintf(f, "%s%s == %s; ", inv, s->v6 ? "proto6" : "proto",
		(const char *const[]){ "6", "17", "6", s->v6 ? "58" : "1" }[kind]);
	if (*inv || kind == 3)
		return;
	if (s->states && prng(3) == 0)
		fputs("ctstate & 0x9; ", f);
	if (prng(8) == 0)
		return;
	if (kind == 1) {
		fputs("l4 8; ", f);
	} else {
		fprintf(f, "l4 20%s; ", s->v6 ? "" : " tcp");
		if (prng(4) == 0)
			fprintf(f, "%stcpflags & 0x2 == 2; ", PICK("", "! "));
	}
	if (s->ports)
		put_ports(f, s);
}

static void put_tests(FILE *f, const struct shape *s)
{
	if (s->src && prng(10) < 8)
		put_addr(f, s, "saddr");
	if (s->dst && prng(10) < 8)
		put_addr(f, s, "daddr");
	if (s->ifaces && prng(4) == 0)
		fprintf(f, "%siface %s; ", PICK("", "", "! "),
			PICK("in \"in0\"", "in \"in+\"", "in \"out0\"", "out \"out0\""));
	if (s->macs && prng(3) == 0)
		fprintf(f, "macok == 1; smac == 02:00:00:00:00:%02x; ", 0x0e + prng(4));
	if (s->ports && prng(10) < 8)
		put_proto(f, s);
	if (s->states && prng(6) == 0)
		fprintf(f, "%sctstate & 0x%x; ", PICK("", "! "), 1 << prng(4));
	if (s->layer && prng(8) == 0)		/* what is certain */
		fprintf(f, "random 0x%x; ", prng(3) ? 0x80000000 + (__u32)prng(5) : 0);
	if (prng(20) == 0)
		fputs(PICK("ttl == 64; ", "! ttl == 9; ", "mark == 0; ", "mark == 7; "), f);
	if (s->rest && prng(15) == 0)
		fputs(PICK("nth 0 period 3; ", "nth 1 period 2; ", "false; "), f);
}

static void put_action(FILE *f, const struct shape *s, int chain)
{
	int x = prng(20);

	int next = s->layer ? (chain + s->layer - 1) / s->layer * s->layer + 1 : chain + 1;

	if (s->jumps && x < (s->layer && !chain ? 16 : 8) && next < s->chains)
		fprintf(f, "-> %s %u\n", prng(4) ? "jump" : "goto",
			next + prng(s->chains - next));
	else if (s->goes_on && x < (s->deep ? 19 : 11))
		fprintf(f, "-> %s\n", prng(3) ? "next" : "log 0");
	else
		fprintf(f, "-> %s\n", PICK("drop", "drop", "accept", "return", "drop"));
}

static char *random_table(const struct shape *s, int *counters)
{
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	int n = 0;

	*counters = (s->rules + 6) * s->chains;
	fprintf(f, "table %s %s\ncounters %d\nlog 0 level 4 flags 0x0 prefix \"x\"\n"
		"nth 0 every 2 first 0\nnth 1 every 1 first 0\n", s->v6 ? "ip6" : "ip", "raw",
		*counters);
	for (int c = 0; c < s->chains; c++) {
		int rules = !c ? s->rules : s->layer ? (int)prng(5) : s->rules / 3;

		fprintf(f, c ? "chain c%d\n" : "chain PREROUTING hook %d\n", c);
		for (int i = 0; i < rules; i++) {
			bool all = s->layer && c && !prng(4);

			fprintf(f, "%d: ", n++);
			if (!all) {
				put_tests(f, s);
				fseek(f, -1, SEEK_CUR);
			}
			put_action(f, s, c);
		}
		if (!c)
			fprintf(f, "%d: -> accept\n", n++);
	}
	fclose(f);
	/* the parser wants no ; before -> */
	for (char *p = text; (p = strstr(p, ";->")); p++)
		p[0] = ' ';
	return text;
}

static void random_words(const struct shape *s, char *w, size_t size)
{
	char saddr[64], daddr[64];
	static const char *const odd6[] = { "ext dst", "ext hop ext bad", "ext routing", "frag 3",
					    "mf", "l4 3", "l4 9", "ext none" };
	static const char *const odd4[] = { "frag 1", "frag 100", "mf", "l4 3", "l4 9", "l4 19",
					    "ipopt 8", "l4 0" };

	if (s->v6) {
		snprintf(saddr, sizeof(saddr), "2001:db8:%x:%x::%x", prng(s->nets), prng(6), prng(5));
		snprintf(daddr, sizeof(daddr), "2001:db8:%x:%x::%x", prng(s->nets), prng(6), prng(5));
	} else {
		snprintf(saddr, sizeof(saddr), "%u.%u.%u.%u", first_byte(s), prng(s->nets + 1),
			 prng(5), prng(8));
		snprintf(daddr, sizeof(daddr), "%u.%u.%u.%u", first_byte(s), prng(s->nets + 1),
			 prng(5), prng(8));
	}
	snprintf(w, size, "%s saddr %s daddr %s sport %u dport %u flags %u %s %s %s",
		 PICK("tcp", "tcp", "udp", "icmp 8 0", "proto 47"), saddr, daddr, prng(32), prng(32),
		 prng(4), prng(8) ? "" : "ttl 9", prng(8) ? "" : "smac 02:00:00:00:00:0f",
		 prng(6) ? "" : s->v6 ? odd6[prng(8)] : odd4[prng(8)]);
}

static void random_shape(struct shape *s)
{
	*s = (struct shape){
		.v6 = prng(3) == 0, .rules = 4 + prng(prng(3) ? 60 : 300), .nets = 1 + prng(8),
		.src = prng(4), .dst = prng(2), .ports = prng(3), .ranges = prng(3) == 0,
		.lists = prng(3) == 0, .jumps = prng(2), .goes_on = prng(3) == 0,
		.rest = prng(3) == 0, .ifaces = prng(4) == 0, .states = prng(3) == 0,
		.macs = prng(5) == 0, .chains = CHAINS,
	};
	if (prng(4) == 0) {
		s->layer = LAYER;
		s->chains = 1 + 3 * LAYER;
		s->jumps = true;
	}
	if (prng(6) == 0) {
		s->deep = s->goes_on = true;
		s->rules += 100;
		s->nets = 2;
	}
	s->wide = prng(3) == 0;
	if (!s->src && !s->dst)
		s->src = true;
}

#endif
