// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ir_scan.h"
#include "ir_text.h"

static bool value(struct scan *s, enum ir_field f, __u64 *v)
{
	struct in_addr a;

	if (f == IR_SMAC)
		return scan_mac(s, v);
	if (!ir_field_is_addr(f))
		return scan_number(s, UINT64_MAX, v);
	if (!scan_addr(s, AF_INET, &a))
		return false;
	*v = ntohl(a.s_addr);
	return true;
}

static bool prefix(struct scan *s, __u32 bits, __u32 *len)
{
	return scan_num32(s, len) && (*len <= bits || scan_fail(s, "prefix too long"));
}

static bool range(struct scan *s, struct ir_pred *p, enum ir_field f)
{
	bool masked = scan_sign(s, "&");
	__u32 len;

	p->kind = IR_P_RANGE;
	p->field = f;
	p->mask = ir_field_mask(f);
	if (masked && !scan_number(s, UINT64_MAX, &p->mask))
		return false;
	p->lo = 1;
	p->hi = p->mask;
	if (scan_sign(s, "==")) {
		if (!value(s, f, &p->lo))
			return false;
		p->hi = p->lo;
		if (!ir_field_is_addr(f) || !scan_sign(s, "/"))
			return true;
		if (!prefix(s, 32, &len))
			return false;
		p->mask = (__u32)(~0ULL << (32 - len));
		return true;
	}
	if (scan_word(s, "in"))
		return value(s, f, &p->lo) && (scan_sign(s, "-") || scan_fail(s, "- is expected")) &&
		       value(s, f, &p->hi);
	return masked || scan_fail(s, "==, in or & is expected");
}

static bool addr6(struct scan *s, struct ir_pred *p, enum ir_field6 f)
{
	__u32 len;

	p->kind = IR_P_ADDR6;
	p->field = f;
	memset(p->mask6, 0xff, sizeof(p->mask6));
	if (scan_word(s, "in")) {
		p->kind = IR_P_RANGE6;
		return scan_addr(s, AF_INET6, p->value6) &&
		       (scan_sign(s, "-") || scan_fail(s, "- is expected")) &&
		       scan_addr(s, AF_INET6, p->mask6);
	}
	if (scan_sign(s, "&") && !scan_addr(s, AF_INET6, p->mask6))
		return false;
	if (!scan_sign(s, "=="))
		return scan_fail(s, "==, in or & is expected");
	if (!scan_addr(s, AF_INET6, p->value6) || !scan_sign(s, "/"))
		return !s->why;
	if (!prefix(s, 128, &len))
		return false;
	for (__u32 i = len; i < 128; i++)
		p->mask6[i / 8] &= ~(0x80 >> i % 8);
	return true;
}

static bool iface(struct scan *s, struct ir_pred *p)
{
	bool wild;
	size_t len;

	p->kind = IR_P_IFACE;
	if (scan_word(s, "out"))
		p->field = 1;
	else if (!scan_word(s, "in"))
		return scan_fail(s, "in or out is expected");
	scan_space(s);
	if (*s->p == '"') {
		if (!scan_string(s, p->name, IR_IFNAMSIZ, &len, &wild))
			return false;
		if (len + !wild > IR_IFNAMSIZ)
			return scan_fail(s, "name too long");
		memset(p->nmask, 0xff, len + !wild);
		return true;
	}
	for (int i = 0; i < IR_IFNAMSIZ; i++)
		if (!scan_hex_byte(s, (__u8 *)&p->name[i]))
			return false;
	if (!scan_sign(s, "/"))
		return scan_fail(s, "/ is expected");
	for (int i = 0; i < IR_IFNAMSIZ; i++)
		if (!scan_hex_byte(s, &p->nmask[i]))
			return false;
	return true;
}

static bool ports(struct scan *s, struct ir_pred *p)
{
	bool any;

	p->kind = IR_P_PORTS;
	any = scan_word(s, "any");
	p->src = any || scan_word(s, "src");
	p->dst = any || (!p->src && scan_word(s, "dst"));
	if (!(p->src || p->dst) || !scan_word(s, "in"))
		return scan_fail(s, "src, dst or any, and in are expected");
	do {
		__u16 *r = p->range[p->nports];

		if (p->nports++ == IR_MAX_PORTS)
			return scan_fail(s, "too many ports");
		if (!scan_num16(s, &r[0]))
			return false;
		r[1] = r[0];
		if (*s->p != '-')	/* without space: not the one of "->" */
			continue;
		s->p++;
		if (!scan_num16(s, &r[1]))
			return false;
	} while (scan_sign(s, ","));
	return true;
}

static bool owner(struct scan *s, struct ir_pred *p)
{
	struct ir_owner *o = &p->owner;

	p->kind = IR_P_OWNER;
	return scan_named8(s, "match", &o->match) && scan_named8(s, "invert", &o->invert) &&
	       scan_named(s, "uid", &o->uid_min) && scan_sign(s, "-") && scan_num32(s, &o->uid_max) &&
	       scan_named(s, "gid", &o->gid_min) && scan_sign(s, "-") && scan_num32(s, &o->gid_max);
}

static bool addrtype(struct scan *s, struct ir_pred *p)
{
	p->kind = IR_P_ADDRTYPE;
	p->field = scan_word(s, "dst");
	return (p->field || scan_word(s, "src") || scan_fail(s, "src or dst is expected")) &&
	       scan_num32(s, &p->value);
}

static bool tcpmss(struct scan *s, struct ir_pred *p)
{
	p->kind = IR_P_TCPMSS;
	return scan_word(s, "in") && scan_number(s, UINT16_MAX, &p->lo) && scan_sign(s, "-") &&
	       scan_number(s, UINT16_MAX, &p->hi);
}

static bool l4(struct scan *s, struct ir_pred *p)
{
	p->kind = IR_P_L4;
	if (!scan_num32(s, &p->len))
		return false;
	p->field = scan_word(s, "tcp") ? IR_L4_TCP : IR_L4_PLAIN;
	return true;
}

static bool proto6(struct scan *s, struct ir_pred *p)
{
	p->kind = IR_P_PROTO;
	return scan_sign(s, "==") && scan_num32(s, &p->value);
}

static bool tcpopt(struct scan *s, struct ir_pred *p)
{
	p->kind = IR_P_TCPOPT;
	return scan_num32(s, &p->value);
}

static bool limit(struct scan *s, struct ir_pred *p)
{
	p->kind = IR_P_LIMIT;
	return scan_num32(s, &p->index);
}

static bool nth(struct scan *s, struct ir_pred *p)
{
	p->kind = IR_P_NTH;
	return scan_num32(s, &p->index) && scan_named(s, "period", &p->value);
}

static bool rnd(struct scan *s, struct ir_pred *p)
{
	p->kind = IR_P_RANDOM;
	return scan_num32(s, &p->value);
}

static bool native(struct scan *s, struct ir_pred *p)
{
	p->kind = IR_P_NATIVE;
	return scan_num32(s, &p->index);
}

static bool nothing(struct scan *s, struct ir_pred *p)
{
	(void)s;
	p->kind = IR_P_FALSE;
	return true;
}

static const struct {
	const char *word;
	bool (*read)(struct scan *s, struct ir_pred *p);
} tests[] = {
	{ "iface", iface }, { "ports", ports }, { "owner", owner }, { "addrtype", addrtype },
	{ "tcpmss", tcpmss }, { "l4", l4 }, { "proto6", proto6 }, { "tcpopt", tcpopt },
	{ "limit", limit }, { "nth", nth }, { "random", rnd }, { "native", native },
	{ "false", nothing },
};

static bool pred(struct scan *s, struct ir_rule *r)
{
	struct ir_pred *p = ir_pred_add(s->t->arena, r, IR_P_FALSE);

	p->inv = scan_sign(s, "!");
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		if (scan_word(s, tests[i].word))
			return tests[i].read(s, p) || scan_fail(s, "bad predicate");
	for (int f = 0; f < IR_NFIELDS; f++)
		if (scan_word(s, ir_field_name[f]))
			return range(s, p, f);
	for (int f = 0; f < IR6_NFIELDS; f++)
		if (scan_word(s, ir_field6_name[f]))
			return addr6(s, p, f);
	return scan_fail(s, "no such field or test");
}

static bool action(struct scan *s, struct ir_rule *r)
{
	for (int i = 0; i < IR_A_LOOKUP; i++) {
		if (!scan_word(s, ir_action_name[i]))
			continue;
		r->action = i;
		if (ir_action_has_arg(i))
			return scan_num32(s, &r->arg);
		return true;
	}
	return scan_fail(s, "no such action");
}

static bool rule(struct scan *s)
{
	struct ir_chain *c = s->chain;
	struct ir_rule *r;

	if (!c)
		return scan_fail(s, "a rule before the first chain");
	c->rules = ir_grow(s->t->arena, c->rules, c->nrules, sizeof(*r));
	r = &c->rules[c->nrules++];
	if (!scan_num32(s, &r->counter))
		return false;
	if (!scan_sign(s, ":"))
		return scan_fail(s, ": is expected");
	while (!scan_sign(s, "->")) {
		if (r->npreds && !scan_sign(s, ";"))
			return scan_fail(s, "; or -> is expected");
		if (!pred(s, r))
			return false;
	}
	return action(s, r);
}

static bool table(struct scan *s)
{
	static const struct xt_family *const families[] = { &xt_family_ip6, &xt_family_ip };
	char buf[32];

	if (s->t->table)
		return scan_fail(s, "a second table");
	for (int i = 0; i < 2 && !s->t->family; i++)
		if (scan_word(s, families[i]->name))
			s->t->family = families[i];
	if (!s->t->family)
		return scan_fail(s, "no such family");
	if (!scan_name(s, buf, sizeof(buf)))
		return false;
	s->t->table = xt_table_row(s->t->family, buf);
	return s->t->table || scan_fail(s, "no such table");
}

static bool chain(struct scan *s)
{
	struct ir_table *t = s->t;
	__u64 hook;

	t->chains = ir_grow(t->arena, t->chains, t->nchains, sizeof(*t->chains));
	s->chain = &t->chains[t->nchains++];
	s->chain->hook = -1;
	if (!scan_name(s, s->chain->name, sizeof(s->chain->name)))
		return false;
	if (!scan_word(s, "hook"))
		return true;
	if (!scan_number(s, XT_HOOKS - 1, &hook))
		return false;
	s->chain->hook = hook;
	t->base_chain[hook] = t->nchains - 1;
	return true;
}

/* The numbers of logs, limits, nths and slots are those of their order. */
static bool next_index(struct scan *s, __u32 n)
{
	__u32 i;

	return scan_num32(s, &i) && (i == n || scan_fail(s, "not the next number"));
}

static bool log_row(struct scan *s)
{
	struct ir_table *t = s->t;
	struct ir_log *l;
	size_t len;
	bool wild;

	if (!next_index(s, t->nlogs))
		return false;
	t->logs = ir_grow(t->arena, t->logs, t->nlogs, sizeof(*l));
	l = &t->logs[t->nlogs++];
	return scan_named8(s, "level", &l->level) && scan_named8(s, "flags", &l->flags) &&
	       (scan_word(s, "prefix") || scan_fail(s, "a word is missing")) &&
	       scan_string(s, l->prefix, sizeof(l->prefix) - 1, &len, &wild) &&
	       (!wild || scan_fail(s, "+ at the end of a prefix"));
}

static bool limit_row(struct scan *s)
{
	struct ir_table *t = s->t;
	struct ir_limit *l;

	if (!next_index(s, t->nlimits))
		return false;
	t->limits = ir_grow(t->arena, t->limits, t->nlimits, sizeof(*l));
	l = &t->limits[t->nlimits++];
	return scan_named(s, "avg", &l->avg) && scan_named(s, "burst", &l->burst);
}

static bool nth_row(struct scan *s)
{
	struct ir_table *t = s->t;
	struct ir_nth *n;

	if (!next_index(s, t->nnths))
		return false;
	t->nths = ir_grow(t->arena, t->nths, t->nnths, sizeof(*n));
	n = &t->nths[t->nnths++];
	return scan_named(s, "every", &n->every) && scan_named(s, "first", &n->first);
}

static bool slot_row(struct scan *s)
{
	struct ir_table *t = s->t;
	struct xtjit_slot *l;
	bool match;

	if (!next_index(s, t->nslots))
		return false;
	t->slots = ir_grow(t->arena, t->slots, t->nslots, sizeof(*l));
	t->slot_names = ir_grow(t->arena, t->slot_names, t->nslots, IR_EXT_NAME);
	l = &t->slots[t->nslots];
	match = scan_word(s, "match");
	if (!match && !scan_word(s, "target"))
		return scan_fail(s, "match or target is expected");
	l->kind = match ? XTJIT_SLOT_MATCH : XTJIT_SLOT_TARGET;
	return scan_name(s, t->slot_names[t->nslots++], IR_EXT_NAME) &&
	       scan_named(s, "entry", &l->entry) && scan_named(s, "ext", &l->ext) &&
	       scan_named(s, "hooks", &l->hooks);
}

static bool line(struct scan *s)
{
	bool ok;

	if (scan_word(s, "table"))
		ok = table(s);
	else if (!s->t->table)
		ok = scan_fail(s, "the table must be named first");
	else if (scan_word(s, "counters"))
		ok = scan_num32(s, &s->t->ncounters);
	else if (scan_word(s, "chain"))
		ok = chain(s);
	else if (scan_word(s, "log"))
		ok = log_row(s);
	else if (scan_word(s, "limit"))
		ok = limit_row(s);
	else if (scan_word(s, "nth"))
		ok = nth_row(s);
	else if (scan_word(s, "slot"))
		ok = slot_row(s);
	else
		ok = rule(s);
	if (!ok)
		return false;
	scan_space(s);
	return !*s->p || scan_fail(s, "more than is expected");
}

/* Cuts off the line's end and its comment; false if nothing is left. */
static bool trim(char *text)
{
	bool quoted = false;
	char *p;

	for (p = text; *p && *p != '\n' && (quoted || *p != '#'); p++)
		quoted ^= *p == '"';
	*p = 0;
	return text[strspn(text, " \t")];
}

int ir_parse(FILE *in, struct ir_table *t, struct xt_err *err)
{
	struct scan s = { .t = t };
	char *text = NULL;
	size_t size = 0;
	bool ok = true;

	memset(t, 0, sizeof(*t));
	memset(t->base_chain, -1, sizeof(t->base_chain));
	t->arena = ir_arena_new();
	while (ok && getline(&text, &size, in) >= 0) {
		s.line++;
		s.p = text;
		if (trim(text))
			ok = line(&s);
	}
	free(text);
	if (ok && !t->table)
		ok = scan_fail(&s, "no table");
	if (ok)
		return 0;
	ir_table_free(t);
	return xt_fail(err, -EINVAL, "line %d: %s", s.line, s.why ? s.why : "bad line");
}
