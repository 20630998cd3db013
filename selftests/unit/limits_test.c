// SPDX-License-Identifier: GPL-2.0
/*
 * The limits of lookups, on both sides of their edges: chains that are merged, long
 * lists, sieves, rules that an edit leaves apart, slots that have counters.  What packets
 * make of it is classify_test's.
 */
#include <errno.h>
#include <stdlib.h>

#include "classify_priv.h"
#include "ir_string.h"
#include "tap.h"

#define IP(a, n) (a), (n) >> 16 & 255, (n) >> 8 & 255, (n) & 255

struct table {
	struct ir_table ir, grouped;
};

static void table_free(struct table *t)
{
	classify_free(&t->grouped);
	ir_table_free(&t->ir);
}

/* Of the text in @f, @text. */
static void table_make(struct table *t, FILE *f, char **text)
{
	struct xt_err err = { 0 };

	fclose(f);
	if (ir_parse_string(*text, &t->ir, &err) ||
	    classify(&t->ir, &cl_limits_default, &t->grouped, &err)) {
		fprintf(stderr, "%s\n%s\n", *text, err.text);
		exit(1);
	}
	free(*text);
}

static FILE *text_begin(char **text, size_t *len, int counters)
{
	FILE *f = open_memstream(text, len);

	fprintf(f, "table ip raw\ncounters %d\nchain PREROUTING hook 0\n", counters);
	return f;
}

/* So many depths of so many chains of so many rules, each of which ends with @last. */
static __u32 merged(int depths, int chains, int rules, const char *last)
{
	int n = 0, counters = chains * (depths * rules + 2) + 1;
	struct table t;
	char *text;
	size_t len;
	FILE *f = text_begin(&text, &len, counters);
	__u32 ret;

	for (int i = 0; i < chains; i++)
		fprintf(f, "%d: daddr == %d.%d.%d.%d -> jump %d\n", n++, IP(10, i), 1 + i);
	fprintf(f, "%d: -> accept\n", n++);
	for (int d = 0; d < depths; d++)
		for (int i = 0; i < chains; i++) {
			fprintf(f, "chain c%d\n", d * chains + i);
			for (int k = 0; k < rules - 1; k++)
				fprintf(f, "%d: saddr == %d.%d.%d.%d -> drop\n", n++, IP(11, k));
			if (d + 1 < depths)
				fprintf(f, "%d: -> jump %d\n", n++, 1 + (d + 1) * chains + i);
			else
				fprintf(f, "%d: %s-> drop\n", n++, last);
		}
	table_make(&t, f, &text);
	ret = t.grouped.nchains - t.ir.nchains;
	table_free(&t);
	return ret;
}

/* Chains of two rules that draw lots. */
static __u32 merged_lots(const char *one, const char *two)
{
	struct table t;
	char *text;
	size_t len;
	FILE *f = text_begin(&text, &len, 64 * 3 + 1);
	int n = 0;
	__u32 ret;

	for (int i = 0; i < 64; i++)
		fprintf(f, "%d: daddr == %d.%d.%d.%d -> jump %d\n", n++, IP(10, i), 1 + i);
	fprintf(f, "%d: -> accept\n", n++);
	for (int i = 0; i < 64; i++) {
		fprintf(f, "chain c%d\n%d: %s-> drop\n", i, n, one);
		fprintf(f, "%d: %s-> accept\n", n + 1, two);
		n += 2;
	}
	table_make(&t, f, &text);
	ret = t.grouped.nchains - t.ir.nchains;
	table_free(&t);
	return ret;
}

static void test_merge(void)
{
	tap_ok(merged(1, 63, 4, "") == 0, "63 chains are not merged");
	tap_ok(merged(1, 64, 4, "") == 1, "64 are");
	tap_ok(merged(1, 64, 32, "") == 1, "64 of 32 rules are");
	tap_ok(merged(1, 64, 33, "") == 0, "64 of 33 are not");
	tap_ok(merged(6, 64, 2, "") == 6, "six depths of them are");
	tap_ok(merged(7, 64, 2, "") == 6, "the seventh is not");
	tap_ok(merged(1, 64, 4, "mark == 0; limit 0 ") == 0, "nor are those with what no group has");
	tap_ok(merged_lots("random 0x40000000 ", "random 0x20000000 ") == 1, "lots of other odds");
	tap_ok(merged_lots("random 0x40000000 ", "random 0x40000000 ") == 0, "not of the same");
	tap_ok(merged_lots("random 0x40000000; random 0x40000000 ", "") == 0, "nor twice in a rule");
}

/* Of 320 rules, @n that packets go on behind have one key: how their family has them. */
static void test_list(int n, bool deep, __u32 rest)
{
	struct table t;
	char *text;
	size_t len;
	FILE *f = text_begin(&text, &len, 321);
	const struct ir_group *g;

	for (int i = 0; i < 320; i++)
		if (i % 29 == 1 && i / 29 < n)
			fprintf(f, "%d: saddr == 10.0.0.0/8 -> next\n", i);
		else
			fprintf(f, "%d: saddr == %d.%d.%d.%d/8 -> drop\n", i, IP(11 + i % 200, 0));
	fprintf(f, "320: -> accept\n");
	table_make(&t, f, &text);
	g = t.grouped.groups;
	tap_ok(t.grouped.ngroups == 1 && g->families[0].deep == deep && g->nrest == rest,
	       "%d of 320 rules in a list, %s, %u between", n,
	       deep ? "found by halves" : "not found by halves", rest);
	table_free(&t);
}

/*
 * 400 rules whose addresses, of @field, have @n lengths; so many in a row have the first two
 * bytes alike.  @sieve: the group has one; @spread: its only family is not searched.
 */
static void test_sieve(const char *field, int n, int alike, bool sieve, bool spread)
{
	struct table t;
	char *text;
	size_t len;
	FILE *f = text_begin(&text, &len, 401);
	const struct ir_group *g;
	const struct cl_family *of;

	for (int i = 0; i < 400; i++) {
		__u32 a = (i / alike * 0x9e3779b1 & 0xffff0000) | (i & 255) << 8;
		int l = 17 + i % n;

		a &= ~0u << (32 - l);
		fprintf(f, "%d: %s == %u.%u.%u.%u/%d -> drop\n", i, field, a >> 24, a >> 16 & 255,
			a >> 8 & 255, a & 255, l);
	}
	fprintf(f, "400: -> accept\n");
	table_make(&t, f, &text);
	g = t.grouped.groups;
	of = g->families;
	tap_ok(t.grouped.ngroups == 1 && !of->sieve == !sieve && of->spread == spread &&
	       !of->nmarkers == (spread || n == 1),
	       "%s of %d lengths, %d alike: a sieve: %s, of its tables: %s", field, n, alike,
	       sieve ? "yes" : "no", spread ? "yes" : "no");
	table_free(&t);
}

/* So many kinds of rules, by conditions, that name sources of one length: each has a bit, or shares. */
static void test_sieve_kinds(int kinds)
{
	struct table t;
	char *text;
	size_t len;
	FILE *f = text_begin(&text, &len, kinds * 20 + 1);
	__u32 all = 0, twice = 0;
	const struct ir_group *g;

	for (int i = 0; i < kinds * 20; i++)
		fprintf(f, "%d: ttl == %d; saddr == %d.%d.%d.%d/32 -> drop\n", i, i % kinds,
			IP(i * 7 & 255, i));
	fprintf(f, "%d: -> accept\n", kinds * 20);
	table_make(&t, f, &text);
	g = t.grouped.groups;
	for (__u32 i = 0; i < g->nfamilies; i++) {
		twice |= all & g->families[i].sieve;
		all |= g->families[i].sieve;
	}
	tap_ok(t.grouped.ngroups == 1 && (int)g->nfamilies == kinds &&
	       all == (kinds < 3 ? 0 : kinds < 32 ? (1u << kinds) - 1 : ~0u) &&
	       !twice == (kinds <= 32), "%d kinds of rules%s in a sieve%s", kinds,
	       kinds < 3 ? " are not" : "", kinds > 32 ? ", some together" : "");
	table_free(&t);
}

static void test_sieves(void)
{
	test_sieve("saddr", 1, 1, false, false);
	test_sieve("saddr", 3, 1, false, false);
	test_sieve("saddr", 4, 1, true, true);
	test_sieve("daddr", 16, 1, true, true);
	test_sieve("saddr", 16, 8, true, false);
	test_sieve("saddr", 16, 10, false, false);
	test_sieve_kinds(2);
	test_sieve_kinds(3);
	test_sieve_kinds(32);
	test_sieve_kinds(33);
}

static const struct ir_rule *no_rule(void *arg, __u32 counter, __u32 *chain)
{
	(void)arg;
	(void)counter;
	(void)chain;
	return NULL;
}

/* How many rules unlike those of the group can come, one by one. */
static void test_apart(void)
{
	static const char one[] = "table ip raw\ncounters 2\nchain PREROUTING hook 0\n"
				  "0: ttl == 5 -> accept\n1: -> accept\n";
	struct ir_table edited[20], rule;
	struct xt_err err = { 0 };
	struct cl_edit e = { .at = 10, .nadd = 1, .rule = no_rule };
	struct table t;
	char *text;
	size_t len;
	FILE *f = text_begin(&text, &len, 21);
	int n = 0, ret = 0;

	for (int i = 0; i < 20; i++)
		fprintf(f, "%d: saddr == %d.%d.%d.%d -> drop\n", i, IP(10, i));
	fprintf(f, "20: -> accept\n");
	table_make(&t, f, &text);
	if (ir_parse_string(one, &rule, &err))
		exit(1);
	e.add = rule.chains[0].rules;
	while (n < 20 && !ret) {
		ret = classify_edit(n ? &edited[n - 1] : &t.grouped, &e, &edited[n], &err);
		n += !ret;
	}
	tap_ok(n == 16 && ret == -EAGAIN, "16 rules come by themselves, %d did: %s", n, err.text);
	tap_ok(n && edited[n - 1].groups[0].nrest == 16 && edited[n - 1].groups[0].nmembers == 20,
	       "they are between the group's");
	while (n--)
		classify_free(&edited[n]);
	ir_table_free(&rule);
	table_free(&t);
}

static size_t counted_bytes(const struct ir_table *t)
{
	size_t size = 0;

	for (int i = 0; i < COUNTED_SIZES; i++)
		size += (size_t)t->counted.n[i] * counted_size(i);
	return size;
}

/* Bytes of the slots with counters of so many rules, each of a source and, if so, a range of ports. */
static size_t slot_counters(struct table *t, int rules, bool ranges)
{
	char *text;
	size_t len;
	FILE *f = text_begin(&text, &len, rules + 1);

	for (int i = 0; i < rules; i++) {
		fprintf(f, "%d: saddr == %d.%d.%d.%d", i, IP(10, i));
		if (ranges)
			fprintf(f, "; proto == 6; l4 20 tcp; dport in %d-%d", i + 1, 65534 - i);
		fputs(" -> drop\n", f);
	}
	fprintf(f, "%d: -> accept\n", rules);
	table_make(t, f, &text);
	return counted_bytes(&t->grouped);
}

/* Those of all slots or of none: by how many there are for a rule, and by what there is room for. */
static void test_slots(void)
{
	struct table t;
	size_t n = slot_counters(&t, 100, false);

	tap_ok(n > 100 * 24 && n < 200 * 24, "100 sources have slots with counters, %zu bytes", n);
	cl_count_slots(&t.grouped, n);
	tap_ok(counted_bytes(&t.grouped) == n, "there is room for them");
	cl_count_slots(&t.grouped, n - 1);
	tap_ok(!counted_bytes(&t.grouped), "there is room for a byte less");
	table_free(&t);
	n = slot_counters(&t, 100, true);
	tap_ok(t.grouped.ngroups == 1 && !n, "a rule of many keys has none, %zu", n);
	table_free(&t);
}

int main(void)
{
	test_merge();
	test_list(8, false, 0);
	test_list(9, true, 0);
	test_list(10, true, 0);
	test_list(11, false, 11);
	test_sieves();
	test_apart();
	test_slots();
	return tap_done();
}
