// SPDX-License-Identifier: GPL-2.0
/*
 * The IR's text: what is read prints the same, what is printed reads the same,
 * and what is wrong is refused.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ir_string.h"
#include "ir_text.h"
#include "tap.h"

static const char every_form[] =
	"table ip filter\n"
	"counters 40\n"
	"log 0 level 4 flags 0x0 prefix \"\"\n"
	"log 1 level 7 flags 0x2f prefix \"# a; \\x22b\\x22 \\x5c\\x2b -> \"\n"
	"limit 0 avg 10000 burst 5\n"
	"limit 1 avg 4294967295 burst 1\n"
	"nth 0 every 2 first 1\n"
	"slot 0 match recent entry 112 ext 160 hooks 0x2\n"
	"slot 1 target \"A \\x22b\\x22\" entry 4294967295 ext 0 hooks 0x1f\n"
	"chain INPUT hook 1\n"
	"  0: -> next\n"
	"  1: saddr == 10.1.2.3; ! daddr == 10.0.0.0/8 -> accept\n"
	"  2: saddr & 0xff00ff00 == 10.0.3.0; saddr in 10.0.0.1-10.0.0.9 -> drop\n"
	"  3: proto == 6; l4 20 tcp; dport in 22-23; sport == 0 -> return\n"
	"  4: tcpflags & 0x17 == 0x2; icmp in 0x300-0x30f -> next\n"
	"  5: ctstate & 0x6; ! ctstate & 0x100; ctstate & 0x6 == 0x2 -> jump 2\n"
	"  6: iface in \"eth0\"; ! iface out \"ppp+\"; iface in \"a\\x2b \" -> goto 2\n"
	"  7: iface in 65746830000000000000000000000000/ffff00ff000000000000000000000000 -> next\n"
	"  8: ports src in 80; ports dst in 1-2,3; ! ports any in 0-65535 -> next\n"
	"  9: tcpopt 2; ! tcpmss in 0-536; tcpmss in 9-1 -> next\n"
	"  10: limit 1; nth 0 period 3; ! random 0x40000000 -> log 1\n"
	"  11: owner match 0xb invert 0x1 uid 0-4294967294 gid 5-6 -> reject 7\n"
	"  12: macok == 1; smac == 00:11:22:aa:bb:cc; ! mark & 0xff == 0x1 -> defer\n"
	"  13: ct == 1; ctstatus & 0x8; ctproto == 17; ctdir == 0; ctexpire in 1-9 -> next\n"
	"  14: ctorigsrc == 1.2.3.4; ctrepldst == 1.2.0.0/16; ctreplsrcport in 1-9 -> next\n"
	"  15: len in 0-65535; dsfield & 0xfc == 0x20; ttl == 1; pkttype == 2 -> next\n"
	"  16: fragoff == 0; false -> next\n"
	"  17: ttl == 3; native 0; ttl == 4 -> native 1\n"
	"  19: addrtype src 0x4; ! addrtype dst 0x3f -> next\n"
	"  18: -> queue\n"
	"  17: -> drop\n"
	"chain \"a b\\x22\"\n"
	"chain web\n"
	"  18: limit 0 -> log 0\n";

static const char every_form6[] =
	"table ip6 mangle\n"
	"counters 5\n"
	"chain PREROUTING hook 0\n"
	"  0: saddr6 == 2001:db8::1; ! daddr6 == 2001:db8::/32 -> next\n"
	"  1: saddr6 & ffff::ff == 2001::1; daddr6 in fc00::1-fc00::9; saddr6 == ::/0 -> next\n"
	"  2: ! proto6 == 6; proto6 == 58; l4 8; ctorigsrc6 == ::ffff:1.2.3.4 -> next\n"
	"  3: ctreplsrc6 == ::1; ctorigdst6 == ::2; ctrepldst6 == ::3 -> next\n"
	"  4: -> accept\n";

static void test_text(const char *name, const char *text)
{
	struct xt_err err = { 0 };
	struct ir_table t;
	char *again;

	if (!tap_ok(!ir_parse_string(text, &t, &err), "%s: is read", name)) {
		tap_diag("%s", err.text);
		return;
	}
	again = ir_string(&t);
	if (!tap_ok(!strcmp(text, again), "%s: prints the same", name))
		tap_diag("%s", again);
	free(again);
	ir_table_free(&t);
}

static __u64 prng(void)
{
	static __u64 state = 88172645463325252ull;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* A number with all sizes alike, and often an edge. */
static __u64 any(__u64 max)
{
	switch (prng() % 4) {
	case 0:
		return 0;
	case 1:
		return max;
	default:
		return (prng() >> prng() % 64) & max;
	}
}

static void any_bytes(void *p, size_t n, int some)
{
	for (size_t i = 0; i < n; i++)
		((__u8 *)p)[i] = prng() % some ? any(255) : 0;
}

static void any_iface(struct ir_pred *p)
{
	p->field = prng() % 2;
	if (prng() % 3) {
		size_t len = 1 + prng() % 15;

		any_bytes(p->name, len, 9);
		memset(p->nmask, 0xff, len + prng() % 2);
	} else {
		any_bytes(p->name, sizeof(p->name), 2);
		any_bytes(p->nmask, sizeof(p->nmask), 2);
	}
}

static void any_ports(struct ir_pred *p)
{
	int sides = 1 + prng() % 3;

	p->src = sides & 1;
	p->dst = sides >> 1;
	p->nports = 1 + prng() % IR_MAX_PORTS;
	for (int i = 0; i < p->nports; i++) {
		p->range[i][0] = any(65535);
		p->range[i][1] = prng() % 2 ? p->range[i][0] : any(65535);
	}
}

static void any_addr6(struct ir_pred *p)
{
	p->field = prng() % IR6_NFIELDS;
	any_bytes(p->value6, 16, 3);
	any_bytes(p->mask6, 16, 3);
	if (p->kind == IR_P_ADDR6 && prng() % 2) {
		memset(p->mask6, 0, 16);
		for (int i = prng() % 129; i > 0; i--)
			p->mask6[(i - 1) / 8] |= 0x80 >> (i - 1) % 8;
	}
}

static void any_range(struct ir_pred *p)
{
	__u64 full;

	p->field = prng() % IR_NFIELDS;
	full = ir_field_mask(p->field);
	p->mask = prng() % 2 ? full : any(full);
	p->lo = prng() % 3 ? any(full) : 1;
	p->hi = prng() % 2 ? p->lo : prng() % 2 ? p->mask : any(full);
}

static void any_pred(struct ir_arena *a, struct ir_rule *r, int kind)
{
	struct ir_pred *p = ir_pred_add(a, r, kind);

	p->inv = prng() % 2;
	switch (kind) {
	case IR_P_RANGE:
		return any_range(p);
	case IR_P_ADDR6:
	case IR_P_RANGE6:
		return any_addr6(p);
	case IR_P_IFACE:
		return any_iface(p);
	case IR_P_PORTS:
		return any_ports(p);
	case IR_P_L4:
		p->field = prng() % 2;
		p->len = any(60);
		return;
	case IR_P_TCPMSS:
		p->lo = any(65535);
		p->hi = any(65535);
		return;
	case IR_P_OWNER:
		p->owner = (struct ir_owner){ any(~0u), any(~0u), any(~0u), any(~0u),
					      any(255), any(255) };
		return;
	case IR_P_LIMIT:
	case IR_P_NATIVE:
		p->index = any(~0u);
		return;
	case IR_P_NTH:
		p->index = any(~0u);
		p->value = any(~0u);
		return;
	case IR_P_ADDRTYPE:
		p->field = prng() % 2;
		p->value = any(~0u);
		return;
	case IR_P_PROTO:
	case IR_P_TCPOPT:
	case IR_P_RANDOM:
		p->value = any(~0u);
		return;
	}
}

static void any_chain(struct ir_table *t, struct ir_chain *c)
{
	size_t len = prng() % 31;

	for (size_t i = 0; i < len; i++)
		c->name[i] = 1 + any(254);
	c->hook = -1;
	c->nrules = prng() % 8;
	c->rules = ir_alloc(t->arena, c->nrules * sizeof(*c->rules));
	for (__u32 i = 0; i < c->nrules; i++) {
		struct ir_rule *r = &c->rules[i];

		r->counter = any(~0u);
		r->action = prng() % IR_A_LOOKUP;
		if (ir_action_has_arg(r->action))
			r->arg = any(~0u);
		for (int n = prng() % 5; n > 0; n--)
			any_pred(t->arena, r, prng() % IR_P_BEFORE);
	}
}

static void any_table(struct ir_table *t)
{
	memset(t, 0, sizeof(*t));
	memset(t->base_chain, -1, sizeof(t->base_chain));
	t->arena = ir_arena_new();
	t->family = prng() % 2 ? &xt_family_ip : &xt_family_ip6;
	t->table = &t->family->tables[prng() % XT_TABLES];
	t->ncounters = any(~0u);
	t->nlogs = prng() % 3;
	t->logs = ir_alloc(t->arena, t->nlogs * sizeof(*t->logs));
	for (__u32 i = 0; i < t->nlogs; i++) {
		t->logs[i].level = any(255);
		t->logs[i].flags = any(255);
		for (int n = prng() % 30; n > 0; n--)
			t->logs[i].prefix[n - 1] = 1 + any(254);
	}
	t->nlimits = prng() % 3;
	t->limits = ir_alloc(t->arena, t->nlimits * sizeof(*t->limits));
	for (__u32 i = 0; i < t->nlimits; i++)
		t->limits[i] = (struct ir_limit){ any(~0u), any(~0u) };
	t->nnths = prng() % 3;
	t->nths = ir_alloc(t->arena, t->nnths * sizeof(*t->nths));
	for (__u32 i = 0; i < t->nnths; i++)
		t->nths[i] = (struct ir_nth){ any(~0u), any(~0u) };
	t->nslots = prng() % 3;
	t->slots = ir_alloc(t->arena, t->nslots * sizeof(*t->slots));
	t->slot_names = ir_alloc(t->arena, t->nslots * sizeof(*t->slot_names));
	for (__u32 i = 0; i < t->nslots; i++) {
		t->slots[i] = (struct xtjit_slot){ any(~0u), any(~0u), any(~0u), prng() % 2 };
		for (int n = prng() % 29; n > 0; n--)
			t->slot_names[i][n - 1] = 1 + any(254);
	}
	t->nchains = prng() % 4;
	t->chains = ir_alloc(t->arena, t->nchains * sizeof(*t->chains));
	for (__u32 i = 0; i < t->nchains; i++)
		any_chain(t, &t->chains[i]);
}

static bool same_rule(const struct ir_rule *a, const struct ir_rule *b)
{
	return a->counter == b->counter && a->action == b->action && a->arg == b->arg &&
	       a->npreds == b->npreds &&
	       (!a->npreds || !memcmp(a->preds, b->preds, a->npreds * sizeof(*a->preds)));
}

static bool same_chain(const struct ir_chain *a, const struct ir_chain *b)
{
	if (memcmp(a->name, b->name, sizeof(a->name)) || a->hook != b->hook ||
	    a->nrules != b->nrules)
		return false;
	for (__u32 i = 0; i < a->nrules; i++)
		if (!same_rule(&a->rules[i], &b->rules[i]))
			return false;
	return true;
}

#define SAME(array, n) \
	(a->n == b->n && (!a->n || !memcmp(a->array, b->array, a->n * sizeof(*a->array))))

static bool same_table(const struct ir_table *a, const struct ir_table *b)
{
	if (a->family != b->family || a->table != b->table || a->ncounters != b->ncounters ||
	    !SAME(logs, nlogs) || !SAME(limits, nlimits) || !SAME(nths, nnths) ||
	    !SAME(slots, nslots) || !SAME(slot_names, nslots) ||
	    memcmp(a->base_chain, b->base_chain, sizeof(a->base_chain)) ||
	    a->nchains != b->nchains)
		return false;
	for (__u32 i = 0; i < a->nchains; i++)
		if (!same_chain(&a->chains[i], &b->chains[i]))
			return false;
	return true;
}

static void test_random(void)
{
	struct xt_err err = { 0 };
	bool ok = true;

	for (int i = 0; i < 5000 && ok; i++) {
		struct ir_table t, back;
		char *text;

		any_table(&t);
		text = ir_string(&t);
		ok = !ir_parse_string(text, &back, &err);
		if (ok) {
			ok = same_table(&t, &back);
			ir_table_free(&back);
		}
		if (!ok)
			tap_diag("%s\n%s", err.text, text);
		free(text);
		ir_table_free(&t);
	}
	tap_ok(ok, "any table reads back as it was");
}

static const struct {
	const char *name, *text;
} wrong[] = {
	{ "no table", "" },
	{ "a chain before the table", "chain INPUT hook 1\n" },
	{ "two tables", "table ip raw\ntable ip raw\n" },
	{ "an unknown family", "table arp filter\n" },
	{ "an unknown table", "table ip other\n" },
	{ "a rule before a chain", "table ip raw\n1: -> drop\n" },
	{ "no action", "table ip raw\nchain a\n1:\n" },
	{ "an unknown action", "table ip raw\nchain a\n1: -> fly\n" },
	{ "an action's missing number", "table ip raw\nchain a\n1: -> jump\n" },
	{ "more than an action", "table ip raw\nchain a\n1: -> drop 3\n" },
	{ "an unknown field", "table ip raw\nchain a\n1: colour == 3 -> drop\n" },
	{ "a field alone", "table ip raw\nchain a\n1: mark -> drop\n" },
	{ "a missing semicolon", "table ip raw\nchain a\n1: ttl == 1 ttl == 2 -> drop\n" },
	{ "too many ports", "table ip raw\nchain a\n"
	  "1: ports src in 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16 -> drop\n" },
	{ "a long name of a device", "table ip raw\nchain a\n1: iface in \"0123456789abcdef\" -> drop\n" },
	{ "a long prefix", "table ip raw\n"
	  "log 0 level 1 flags 0 prefix \"123456789012345678901234567890\"\n" },
	{ "a bad address", "table ip raw\nchain a\n1: saddr == 1.2.3 -> drop\n" },
	{ "a long prefix of an address", "table ip raw\nchain a\n1: saddr == 1.2.3.4/33 -> drop\n" },
	{ "a number too large", "table ip raw\nchain a\n4294967296: -> drop\n" },
	{ "logs out of order", "table ip raw\nlog 1 level 1 flags 0 prefix \"\"\n" },
	{ "slots out of order", "table ip raw\nslot 1 match a entry 0 ext 0 hooks 0\n" },
	{ "a slot of no kind", "table ip raw\nslot 0 verdict a entry 0 ext 0 hooks 0\n" },
	{ "a hook that is none", "table ip raw\nchain a hook 5\n" },
};

static void test_wrong(void)
{
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct xt_err err = { 0 };
		struct ir_table t;
		int ret = ir_parse_string(wrong[i].text, &t, &err);

		if (!tap_ok(ret == -EINVAL && err.err == -EINVAL &&
			    !strncmp(err.text, "line ", 5), "refused: %s", wrong[i].name))
			tap_diag("%d %s", ret, err.text);
		if (!ret)
			ir_table_free(&t);
	}
}

/*
 * Of a table with "counters 3", one log, one limit, one nth of period 3, and the
 * slots of one match and one target.
 */
static const struct {
	const char *rules;	/* of INPUT, before its policy */
	const char *why;	/* in the error's text; NULL: all is well */
} checks[] = {
	{ "0: proto == 6; l4 20; tcpflags == 0x2 -> jump 1\n", NULL },
	{ "0: limit 0; nth 0 period 3 -> log 0\n", NULL },
	{ "0: ctstate & 0x6 -> goto 1\n", NULL },
	{ "0: tcpmss in 9-1 -> next\n", NULL },
	{ "0: native 0 -> native 1\n", NULL },
	{ "0: -> queue\n", NULL },
	{ "0: native 2 -> next\n", "no such slot" },
	{ "0: native 1 -> next\n", "a slot of the other kind" },
	{ "0: -> native 0\n", "a slot of the other kind" },
	{ "0: ! native 0 -> next\n", "inverted" },
	{ "0: native 0 -> next\n1: native 0 -> next\n", "two places" },
	{ "0: -> native 1\n1: -> native 1\n", "two places" },
	{ "3: -> next\n", "no such counter" },
	{ "0: -> jump 2\n", "no such chain" },
	{ "0: -> jump 0\n", "jump to a base chain" },
	{ "0: -> log 1\n", "no such log" },
	{ "0: limit 1 -> next\n", "no such limit" },
	{ "0: nth 1 period 3 -> next\n", "no such nth" },
	{ "0: nth 0 period 4 -> next\n", "period" },
	{ "0: sport == 1 -> next\n", "guard" },
	{ "0: l4 4; tcpflags == 1 -> next\n", "guard" },
	{ "0: l4 8; tcpopt 2 -> next\n", "guard" },
	{ "0: ports any in 1 -> next\n", "guard" },
	{ "0: l4 4; ports any in 2-1 -> next\n", "empty range" },
	{ "0: ! l4 4 -> next\n", "bad guard" },
	{ "0: l4 61 -> next\n", "bad guard" },
	{ "0: ttl == 256 -> next\n", "range" },
	{ "0: ttl in 3-2 -> next\n", "range" },
	{ "0: ttl & 0x100 == 0 -> next\n", "mask" },
	{ "0: ttl & 0x0 == 0 -> next\n", "mask" },
	{ "0: saddr6 == ::1 -> next\n", "IPv6" },
	{ "0: proto6 == 6 -> next\n", "IPv6" },
	{ "0: addrtype src 0x4; ! addrtype dst 0x0 -> next\n", NULL },
};

static void check_one(const char *text, const char *name, const char *why)
{
	struct xt_err err = { 0 };
	struct ir_table t;
	int ret;

	if (ir_parse_string(text, &t, &err)) {
		tap_ok(false, "check: %s", name);
		tap_diag("%s", err.text);
		return;
	}
	ret = ir_check(&t, &err);
	if (!tap_ok(why ? ret == -EINVAL && strstr(err.text, why) : !ret, "check: %s", name))
		tap_diag("%d %s", ret, err.text);
	ir_table_free(&t);
}

static void test_check(void)
{
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		char text[1024], name[128];

		snprintf(text, sizeof(text), "table ip filter\ncounters 3\n"
			 "log 0 level 4 flags 0 prefix \"\"\nlimit 0 avg 1 burst 1\n"
			 "nth 0 every 2 first 0\nslot 0 match a entry 0 ext 0 hooks 0\n"
			 "slot 1 target b entry 0 ext 0 hooks 0\nchain INPUT hook 1\n%s2: -> accept\n"
			 "chain a\n1: -> return\n", checks[i].rules);
		snprintf(name, sizeof(name), "%.*s",
			 (int)strcspn(checks[i].rules, "\n"), checks[i].rules);
		check_one(text, name, checks[i].why);
	}
	check_one("table ip raw\ncounters 1\nchain PREROUTING hook 0\n", "no policy", "policy");
	check_one("table ip6 raw\ncounters 1\nchain PREROUTING hook 0\n0: addrtype src 0x4 -> drop\n"
		  "0: -> drop\n", "addrtype of IPv6", "IPv4");
	check_one("table ip raw\ncounters 1\nchain PREROUTING hook 0\n0: ttl == 1 -> drop\n",
		  "policy with a condition", "policy");
	check_one("table ip raw\ncounters 1\nchain PREROUTING hook 0\n0: -> return\n",
		  "policy without verdict", "policy");
	check_one("table ip raw\ncounters 1\nchain INPUT hook 1\n0: -> drop\n",
		  "foreign hook", "hook that the table does not have");
	check_one("table ip raw\ncounters 1\nchain OUTPUT hook 3\n0: -> drop\n"
		  "chain OUTPUT hook 3\n0: -> drop\n", "two chains of a hook", "hook");
	check_one("table ip6 raw\ncounters 1\nchain a\n0: l4 4 -> drop\n",
		  "IPv6 guard without protocol", "without protocol");
	check_one("table ip6 raw\ncounters 1\nchain a\n0: ctorigsrc == 1.2.3.4 -> drop\n",
		  "IPv4 address in IPv6", "field of IPv4");
}

/* "" is no predicate at all. */
static const struct {
	enum ir_field f;
	__u64 mask, lo, hi;
	bool inv;
	const char *text;
} ranges[] = {
	{ IR_DPORT, ~0ull, 0, 65535, false, "" },
	{ IR_DPORT, ~0ull, 0, 65535, true, "false" },
	{ IR_DPORT, ~0ull, 5, 4, false, "false" },
	{ IR_DPORT, ~0ull, 5, 4, true, "" },
	{ IR_DPORT, ~0ull, 5, 65535, false, "dport in 5-65535" },
	{ IR_PROTO, ~0ull, 300, 300, false, "false" },
	{ IR_PROTO, ~0ull, 300, 300, true, "" },
	{ IR_SADDR, 0, 0, 0, false, "" },
	{ IR_SADDR, 0, 0, 0, true, "false" },
	{ IR_SADDR, 0xffffff00, 0x0a000001, 0x0a000001, false, "false" },
	{ IR_SADDR, 0xffffff00, 0x0a000001, 0x0a000001, true, "" },
	{ IR_SADDR, 0xffffff00, 0x0a000000, 0x0a000000, true, "! saddr == 10.0.0.0/24" },
	{ IR_TTL, ~0ull, 250, 1000, false, "ttl in 250-255" },
	{ IR_CTDIR, ~0ull, 0, 1, false, "" },
	{ IR_CTDIR, ~0ull, 0, 1, true, "ct == 0" },
	{ IR_CTPROTO, ~0ull, 300, 300, false, "ct == 0" },
	{ IR_CTSTATUS, 0, 1, 0, false, "ct == 0" },
	{ IR_CTSTATUS, 0, 1, 0, true, "" },
	{ IR_CT, ~0ull, 2, 2, false, "false" },
};

static void test_ranges(void)
{
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		struct ir_table t = { .arena = ir_arena_new() };
		struct ir_rule r = { 0 };
		char *text = NULL, want[64];
		size_t len;
		FILE *out = open_memstream(&text, &len);

		ir_range(t.arena, &r, ranges[i].f, ranges[i].mask, ranges[i].lo,
			 ranges[i].hi, ranges[i].inv);
		ir_print_rule(out, &t, &r);
		fclose(out);
		snprintf(want, sizeof(want), "0:%s%s -> next", *ranges[i].text ? " " : "",
			 ranges[i].text);
		if (!tap_ok(!strcmp(text, want), "range %zu: %s", i, want))
			tap_diag("%s", text);
		free(text);
		ir_table_free(&t);
	}
}

/* The arena keeps what was given out, whatever is given out after it. */
static void test_arena(void)
{
	struct ir_arena *a = ir_arena_new();
	struct ir_rule r[3] = { { 0 } };
	__u32 *list = NULL;
	bool ok = true;

	for (__u32 i = 0; i < 20000; i++) {
		ir_pred_add(a, &r[i % 3], IR_P_TCPOPT)->value = i;
		list = ir_grow(a, list, i, sizeof(*list));
		list[i] = i;
		if (i % 1000 == 0)
			memset(ir_alloc(a, 100000), 0xff, 100000);
	}
	for (__u32 i = 0; i < 20000; i++) {
		const struct ir_pred *p = &r[i % 3].preds[i / 3];

		ok &= list[i] == i && p->value == i && p->kind == IR_P_TCPOPT && !p->inv;
	}
	tap_ok(ok, "arena: growing arrays keep their contents");
	ir_arena_free(a);
}

int main(void)
{
	test_text("every form", every_form);
	test_text("every form of IPv6", every_form6);
	test_random();
	test_wrong();
	test_check();
	test_ranges();
	test_arena();
	return tap_done();
}
