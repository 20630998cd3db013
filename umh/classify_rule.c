// SPDX-License-Identifier: GPL-2.0
/*
 * What a rule is to a lookup: its conditions, and the prefixes of its keys.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "classify_priv.h"

static bool v6(const struct ir_table *t)
{
	return t->family->addr_size == 16;
}

int cl_width(const struct ir_table *t, enum cl_field f)
{
	switch (f) {
	case CL_SADDR:
	case CL_DADDR:
		return v6(t) ? 128 : 32;
	case CL_SPORT:
	case CL_DPORT:
		return 16;
	case CL_SMAC:
		return 48;
	case CL_CHAIN:
		return 32;
	default:
		return 128;
	}
}

static cl_num ones(int width)
{
	return width == 128 ? ~(cl_num)0 : ((cl_num)1 << width) - 1;
}

static cl_num prefix_mask(int width, int len)
{
	return len ? ones(width) & ~ones(width - len) : 0;
}

static cl_num number(const void *bytes)
{
	__u64 w[2];

	memcpy(w, bytes, 16);
	return (cl_num)be64toh(w[0]) << 64 | be64toh(w[1]);
}

/* The length of the prefix that @mask is of, or -1. */
static int prefix_len(cl_num mask, int width)
{
	cl_num low = ~mask & ones(width);
	int len = width;

	if (low & (low + 1))
		return -1;
	for (; low; low >>= 1)
		len--;
	return len;
}

bool cl_pure(const struct ir_rule *r)
{
	for (int i = 0; i < r->npreds; i++)
		switch (r->preds[i].kind) {
		case IR_P_RANGE:
		case IR_P_ADDR6:
		case IR_P_RANGE6:
		case IR_P_PROTO:
		case IR_P_IFACE:
		case IR_P_L4:
		case IR_P_PORTS:
		case IR_P_CHAIN:
			break;
		case IR_P_RANDOM:
			if (r->preds[0].kind != IR_P_CHAIN)
				return false;	/* cl_merge() has seen to it */
			break;
		default:
			return false;
		}
	return r->npreds > 0;
}

const struct ir_pred *cl_draw(const struct ir_rule *r)
{
	for (int i = 0; i < r->npreds; i++)
		if (r->preds[i].kind == IR_P_RANDOM)
			return &r->preds[i];
	return NULL;
}

bool cl_is_guard(const struct ir_pred *p)
{
	return p->kind == IR_P_L4 || p->kind == IR_P_PROTO;
}

/* What a predicate could be: of which field, and whether it is a range or list. */
struct key {
	int field;		/* -1: none */
	bool loose;		/* several prefixes, or rather a condition if shared */
	int len;		/* -1: a range */
	cl_num lo, hi;
};

static int key_field(enum ir_field f)
{
	switch (f) {
	case IR_SADDR:
		return CL_SADDR;
	case IR_DADDR:
		return CL_DADDR;
	case IR_SPORT:
		return CL_SPORT;
	case IR_DPORT:
		return CL_DPORT;
	case IR_SMAC:
		return CL_SMAC;
	default:
		return -1;
	}
}

static void key_range(const struct ir_table *t, const struct ir_pred *p, struct key *k)
{
	bool whole = p->mask == ir_field_mask(p->field);
	int f = key_field(p->field);

	if (f < 0 || p->inv || p->lo > p->hi || (p->hi & ~p->mask))
		return;
	if (p->lo == p->hi) {
		k->len = prefix_len(p->mask, cl_width(t, f));
		if (k->len < 0 || (!whole && f > CL_DADDR))
			return;
	} else {
		if (!whole || f > CL_DPORT)
			return;
		k->len = -1;
	}
	k->field = f;
	k->loose = p->lo != p->hi;
	k->lo = p->lo;
	k->hi = p->hi;
}

static void key_addr6(const struct ir_pred *p, struct key *k)
{
	cl_num v = number(p->value6), m = number(p->mask6);

	if (p->inv || p->field > IR6_DADDR)
		return;
	if (p->kind == IR_P_RANGE6) {
		if (v > m)
			return;
		k->len = -1;
		k->loose = true;
		k->hi = m;
	} else {
		k->len = prefix_len(m, 128);
		if (k->len < 0 || (v & ~m))
			return;
		k->hi = v;
	}
	k->lo = v;
	k->field = p->field == IR6_SADDR ? CL_SADDR : CL_DADDR;
}

static void key_iface(const struct ir_pred *p, struct key *k)
{
	cl_num m = number(p->nmask), v = number(p->name);

	k->len = prefix_len(m, 128);
	if (p->inv || k->len < 0 || (v & ~m))
		return;
	k->field = p->field ? CL_OFACE : CL_IFACE;
	k->loose = true;
	k->lo = k->hi = v;
}

static void key_of(const struct ir_table *t, const struct ir_pred *p, struct key *k)
{
	*k = (struct key){ .field = -1 };
	switch (p->kind) {
	case IR_P_RANGE:
		key_range(t, p, k);
		break;
	case IR_P_ADDR6:
	case IR_P_RANGE6:
		key_addr6(p, k);
		break;
	case IR_P_IFACE:
		key_iface(p, k);
		break;
	case IR_P_PORTS:
		if (p->inv || p->src + p->dst != 1)
			break;
		k->field = p->src ? CL_SPORT : CL_DPORT;
		k->loose = p->nports > 1 || p->range[0][0] != p->range[0][1];
		k->len = -1;
		break;
	case IR_P_CHAIN:
		k->field = CL_CHAIN;
		k->len = cl_width(t, CL_CHAIN);
		k->lo = k->hi = p->value;
		break;
	}
}

/* @i: the how manieth it is of its rule. */
static __u32 cond_index(struct cl_conds *cs, const struct ir_pred *p, enum cl_how how, int i)
{
	__u32 *hint = &cs->hint[i % CL_HINTS];
	struct cl_cond c;

	if (*hint < cs->set.n) {
		const struct cl_cond *last = set_at(&cs->set, *hint);

		if (last->how == how && !memcmp(&last->p, p, sizeof(*p)))
			return *hint;
	}
	memset(&c, 0, sizeof(c));
	memcpy(&c.p, p, sizeof(c.p));
	c.how = how;
	*hint = set_index(&cs->set, &c);
	return *hint;
}

void cl_conds_free(struct cl_conds *cs)
{
	set_free(&cs->set);
	set_free(&cs->loose);
	free(cs->uses);
}

void cl_count(const struct ir_table *t, const struct ir_rule *r, struct cl_conds *cs)
{
	for (int i = 0; i < r->npreds; i++) {
		struct key k;
		__u32 at;

		key_of(t, &r->preds[i], &k);
		if (k.field < 0 || !k.loose)
			continue;
		at = set_index(&cs->loose, &r->preds[i]);
		if (cs->cap < cs->loose.cap) {
			cs->uses = realloc(cs->uses, cs->loose.cap * sizeof(*cs->uses));
			if (!cs->uses)
				abort();
			memset(cs->uses + cs->cap, 0,
			       (cs->loose.cap - cs->cap) * sizeof(*cs->uses));
			cs->cap = cs->loose.cap;
		}
		cs->uses[at]++;
	}
}

/* Several rules have it: it is a condition rather than keys. */
static bool shared(const struct cl_conds *cs, const struct ir_pred *p)
{
	__u32 at = set_find(&cs->loose, p);

	return at != SET_NONE && cs->uses[at] >= CL_SHARED;
}

/* Cuts lo..hi into prefixes; false: there are too many. */
static bool cut(struct cl_parsed *out, int f, int width, cl_num lo, cl_num hi)
{
	for (;;) {
		int len = width;
		cl_num size = 1;

		if (out->nalts[f] == CL_ALTS)
			return false;
		while (len && !(lo & size) && hi - lo >= (size << 1) - 1) {
			size <<= 1;
			len--;
		}
		out->alts[f][out->nalts[f]++] = (struct cl_prefix){ lo, len };
		if (!len || hi - lo < size)
			return true;
		lo += size;
	}
}

static bool cut_all(const struct ir_table *t, const struct ir_pred *p, const struct key *k,
		    struct cl_parsed *out)
{
	int width = cl_width(t, k->field);

	if (p->kind != IR_P_PORTS)
		return cut(out, k->field, width, k->lo, k->hi);
	for (int i = 0; i < p->nports; i++)
		if (p->range[i][0] <= p->range[i][1] &&
		    !cut(out, k->field, width, p->range[i][0], p->range[i][1]))
			return false;
	return out->nalts[k->field] > 0;
}

static bool parse_key(const struct ir_table *t, const struct ir_pred *p, struct cl_conds *cs,
		      struct cl_parsed *out)
{
	struct key k;

	key_of(t, p, &k);
	if (k.field < 0 || out->has[k.field])
		return false;
	if (k.loose && shared(cs, p))
		return false;
	out->nalts[k.field] = 0;
	if (k.len >= 0) {
		out->alts[k.field][0] = (struct cl_prefix){ k.lo, k.len };
		out->nalts[k.field] = 1;
	} else if (!cut_all(t, p, &k, out)) {
		return false;
	}
	out->has[k.field] = true;
	return true;
}

static bool add_cond(struct cl_parsed *out, __u32 i)
{
	int n = out->nconds;

	if (n == CL_CONDS || i > 0xffff)
		return false;
	for (; n && out->conds[n - 1] > i; n--)		/* in order: alike rules are equal */
		out->conds[n] = out->conds[n - 1];
	out->conds[n] = i;
	out->nconds++;
	return true;
}

bool cl_parse(const struct ir_table *t, const struct ir_rule *r, int n, struct cl_conds *cs,
	      struct cl_parsed *out)
{
	out->nconds = 0;
	out->nkeys = 1;
	memset(out->has, 0, sizeof(out->has));
	for (int i = 0; i < n; i++) {
		const struct ir_pred *p = &r->preds[i];
		enum cl_how how = cl_is_guard(p) ? CL_GUARD : CL_PLAIN;

		if (!parse_key(t, p, cs, out) && !add_cond(out, cond_index(cs, p, how, i)))
			return false;
	}
	for (int f = 0; f < CL_NFIELDS; f++)
		if (out->has[f])
			out->nkeys *= out->nalts[f];
	return out->nkeys <= CL_PRODUCT;
}

bool cl_parse_bad(struct cl_conds *cs, struct cl_parsed *out, const struct ir_pred *p)
{
	return add_cond(out, cond_index(cs, p, CL_BAD, CL_HINTS - 1));
}

__u64 cl_part_mask(const struct ir_table *t, const struct cl_part *part, int len)
{
	int width = cl_width(t, part->field);
	cl_num m = prefix_mask(width, len);

	if (width == 128)
		m = part->half ? (__u64)m : (__u64)(m >> 64);
	return part->field == CL_IFACE || part->field == CL_OFACE ? htobe64((__u64)m) : (__u64)m;
}
