// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ir.h"

/* What of the packet the predicates so far have made sure of. */
struct seen {
	__u32 l4;		/* bytes of transport header */
	bool proto;		/* IPv6: the transport header was found */
};

static const char *check_range(const struct ir_table *t, const struct ir_pred *p,
			       const struct seen *s)
{
	static const __u8 l4[IR_NFIELDS] = {
		[IR_SPORT] = 4, [IR_DPORT] = 4, [IR_TCPFLAGS] = 14, [IR_ICMP] = 4,
	};
	bool v6 = t->family->nfproto == xt_family_ip6.nfproto;

	if (p->field >= IR_NFIELDS)
		return "no such field";
	if (!p->mask || (p->mask & ~ir_field_mask(p->field)))
		return "mask out of bounds";
	if (p->lo > p->hi || p->hi > p->mask)
		return "range out of bounds";
	if (s->l4 < l4[p->field])
		return "no guard before a field of the transport header";
	if (v6 && (p->field <= IR_FRAGOFF ||
		   (p->field >= IR_CTORIGSRC && p->field <= IR_CTREPLDST)))
		return "a field of IPv4";
	return NULL;
}

static const char *check_ports(const struct ir_pred *p, const struct seen *s)
{
	if (p->nports < 1 || p->nports > IR_MAX_PORTS)
		return "number of ports out of bounds";
	if (!p->src && !p->dst)
		return "ports of neither side";
	for (int i = 0; i < p->nports; i++)
		if (p->range[i][0] > p->range[i][1])
			return "empty range of ports";
	return s->l4 < 4 ? "no guard before a field of the transport header" : NULL;
}

static const char *check_slot(const struct ir_table *t, __u32 slot, __u32 kind)
{
	if (slot >= t->nslots)
		return "no such slot";
	return t->slots[slot].kind != kind ? "a slot of the other kind" : NULL;
}

static const char *check_pred(const struct ir_table *t, const struct ir_pred *p,
			      struct seen *s)
{
	bool v6 = t->family->nfproto == xt_family_ip6.nfproto;

	switch (p->kind) {
	case IR_P_RANGE:
		return check_range(t, p, s);
	case IR_P_ADDR6:
	case IR_P_RANGE6:
		if (p->field >= IR6_NFIELDS)
			return "no such field";
		return v6 ? NULL : "a field of IPv6";
	case IR_P_PROTO:
		s->proto = true;
		return v6 ? NULL : "a field of IPv6";
	case IR_P_IFACE:
		return p->field > 1 ? "no such direction" : NULL;
	case IR_P_ADDRTYPE:
		if (p->field > 1)
			return "no such direction";
		return v6 ? "a field of IPv4" : NULL;
	case IR_P_L4:
		if (p->field > IR_L4_TCP || !p->len || p->len > 60 || p->inv)
			return "bad guard";
		if (v6 && !s->proto)
			return "a guard without protocol";
		if (s->l4 < p->len)
			s->l4 = p->len;
		return NULL;
	case IR_P_PORTS:
		return check_ports(p, s);
	case IR_P_TCPOPT:
		return s->l4 < 20 ? "no guard before a TCP option" : NULL;
	case IR_P_TCPMSS:
		return v6 && !s->proto ? "no protocol before a TCP option" : NULL;
	case IR_P_LIMIT:
		return p->index >= t->nlimits ? "no such limit" : NULL;
	case IR_P_NTH:
		if (p->index >= t->nnths)
			return "no such nth";
		return p->value != t->nths[p->index].every + 1 ? "another nth's period" : NULL;
	case IR_P_NATIVE:
		if (p->inv)
			return "a native match, inverted";
		return check_slot(t, p->index, XTJIT_SLOT_MATCH);
	default:
		return p->kind < IR_P_BEFORE ? NULL : "no such predicate";
	}
}

static const char *check_action(const struct ir_table *t, const struct ir_rule *r)
{
	switch (r->action) {
	case IR_A_JUMP:
	case IR_A_GOTO:
		if (r->arg >= t->nchains)
			return "no such chain";
		return t->chains[r->arg].hook >= 0 ? "jump to a base chain" : NULL;
	case IR_A_LOG:
		return r->arg >= t->nlogs ? "no such log" : NULL;
	case IR_A_NATIVE:
		return check_slot(t, r->arg, XTJIT_SLOT_TARGET);
	default:
		return r->action < IR_A_LOOKUP ? NULL : "no such action";
	}
}

static const char *check_rule(const struct ir_table *t, const struct ir_rule *r)
{
	struct seen s = { 0 };
	const char *why;

	if (r->counter >= t->ncounters)
		return "no such counter";
	for (int i = 0; i < r->npreds; i++) {
		why = check_pred(t, &r->preds[i], &s);
		if (why)
			return why;
	}
	return check_action(t, r);
}

/* A base chain is the one of its hook, and ends with its policy. */
static const char *check_chain(const struct ir_table *t, __u32 n)
{
	const struct ir_chain *c = &t->chains[n];
	const struct ir_rule *last = c->nrules ? &c->rules[c->nrules - 1] : NULL;

	if (!memchr(c->name, 0, sizeof(c->name)))
		return "name not terminated";
	if (c->hook < 0)
		return NULL;
	if (c->hook >= XT_HOOKS || t->base_chain[c->hook] != (int)n)
		return "not the chain of its hook";
	if (!last || last->npreds || (last->action != IR_A_ACCEPT && last->action != IR_A_DROP))
		return "no policy at the end";
	return NULL;
}

static const char *check_hooks(const struct ir_table *t)
{
	for (int h = 0; h < XT_HOOKS; h++) {
		int n = t->base_chain[h];

		if (n < 0)
			continue;
		if ((__u32)n >= t->nchains || t->chains[n].hook != h)
			return "base chains and hooks differ";
		if (!(t->table->valid_hooks & (1u << h)))
			return "a chain at a hook that the table does not have";
	}
	return NULL;
}

/* A slot is one place: where the module goes on is told by it. */
static bool rule_slots(const struct ir_rule *r, bool *used)
{
	bool twice = r->action == IR_A_NATIVE && used[r->arg];

	if (r->action == IR_A_NATIVE)
		used[r->arg] = true;
	for (int i = 0; i < r->npreds; i++)
		if (r->preds[i].kind == IR_P_NATIVE) {
			twice |= used[r->preds[i].index];
			used[r->preds[i].index] = true;
		}
	return twice;
}

/* All rules have been checked. */
static const char *check_slots(const struct ir_table *t)
{
	bool *used = t->nslots ? calloc(t->nslots, sizeof(*used)) : NULL, twice = false;

	for (__u32 i = 0; used && i < t->nchains; i++)
		for (__u32 j = 0; j < t->chains[i].nrules; j++)
			twice |= rule_slots(&t->chains[i].rules[j], used);
	if (t->nslots && !used)
		return "out of memory";
	free(used);
	return twice ? "a slot in two places" : NULL;
}

int ir_check(const struct ir_table *t, struct xt_err *err)
{
	const char *why = check_hooks(t);

	if (why)
		return xt_fail(err, -EINVAL, "IR of %s: %s", t->table->name, why);
	for (__u32 i = 0; i < t->nchains; i++) {
		const struct ir_chain *c = &t->chains[i];

		why = check_chain(t, i);
		if (why)
			return xt_fail(err, -EINVAL, "IR of %s, chain %u: %s",
				       t->table->name, i, why);
		for (__u32 j = 0; j < c->nrules; j++) {
			why = check_rule(t, &c->rules[j]);
			if (why)
				return xt_fail(err, -EINVAL, "IR of %s, chain %s, rule %u: %s",
					       t->table->name, c->name, j, why);
		}
	}
	why = check_slots(t);
	return why ? xt_fail(err, -EINVAL, "IR of %s: %s", t->table->name, why) : 0;
}
