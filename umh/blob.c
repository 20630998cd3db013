// SPDX-License-Identifier: GPL-2.0
/*
 * From a checked blob to rules and chains.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <linux/netfilter.h>
#include <linux/netfilter/x_tables.h>

#include "blob_priv.h"

int xt_replace_parse(const struct xt_family *f, const void *arg, size_t len,
		     struct xt_replace_hdr *h, const void **entries,
		     struct xt_err *err)
{
	if (len < REPLACE_SIZE)
		return xt_fail(err, -EINVAL, "%s: a request of %zu bytes is too short",
			       f->name, len);
	memcpy(h, arg, sizeof(*h));
	h->name[sizeof(h->name) - 1] = 0;
	if (h->num_counters >= INT_MAX / sizeof(struct xt_counters))
		return xt_fail(err, -ENOMEM, "%u counters are too many", h->num_counters);
	if (!h->num_counters)
		return xt_fail(err, -EINVAL, "a request for no counters");
	if (len - REPLACE_SIZE < h->size)
		return xt_fail(err, -EINVAL, "a request of %zu bytes holds no table of %u",
			       len, h->size);
	*entries = (const char *)arg + REPLACE_SIZE;
	return blob_check_size(h->size, err);
}

/* What __do_replace() checks once the entries are found good. */
static int find_table(struct xt_ruleset *rs, const struct xt_replace_hdr *h,
		      struct xt_err *err)
{
	char name[sizeof(h->name) + 1] = "";

	memcpy(name, h->name, sizeof(h->name));
	if (h->num_counters > XT_TABLE_BYTES / sizeof(struct xt_counters))
		return xt_fail(err, -ENOMEM, "%u counters are too many", h->num_counters);
	rs->table = xt_table_row(rs->family, name);
	if (!rs->table)
		return xt_fail(err, -ENOENT, "there is no table \"%s\"", name);
	if (rs->table->valid_hooks != h->valid_hooks)
		return xt_fail(err, -EINVAL, "table %s: hooks 0x%x are not its hooks 0x%x",
			       name, h->valid_hooks, rs->table->valid_hooks);
	return 0;
}

/* The kernel takes it, but iptables never lays out a table like this. */
static int odd(const struct blob_check *c, __u32 i, const char *what)
{
	return xt_fail(c->err, -EOPNOTSUPP, "not a table of iptables: entry %u at offset %u %s",
		       i, c->offset[i], what);
}

/* Makes entries @first to @last one more chain. */
static struct xt_chain *add_chain(struct xt_ruleset *rs, __u32 first, __u32 last)
{
	struct xt_chain *ch = &rs->chains[rs->nchains];

	ch->first = first;
	ch->count = last - first + 1;
	for (__u32 i = first; i <= last; i++)
		rs->rules[i].chain = rs->nchains;
	rs->nchains++;
	return ch;
}

static int add_base_chain(struct xt_ruleset *rs, const struct blob_check *c, int hook,
			  __u32 first)
{
	struct xt_chain *ch;

	if (c->entry[hook] != first || c->underflow[hook] < first)
		return odd(c, c->entry[hook], "begins a chain that is not where it should be");
	for (__u32 i = first; i <= c->underflow[hook]; i++)
		if (c->kind[i] == ENTRY_ERROR)
			return odd(c, i, "has an ERROR target in a base chain");
	rs->base_chain[hook] = rs->nchains;
	ch = add_chain(rs, first, c->underflow[hook]);
	ch->name = xt_hook_name[hook];
	ch->hook = hook;
	return 0;
}

/* The chain that the ERROR entry @head names. *end is the entry after it. */
static int add_user_chain(struct xt_ruleset *rs, const struct blob_check *c,
			  __u32 head, __u32 *end)
{
	struct xt_chain *ch;
	__u32 last = head;

	if (c->kind[head] != ENTRY_ERROR)
		return odd(c, head, "is in no chain");
	while (last + 1 < c->n && c->kind[last + 1] != ENTRY_ERROR)
		last++;
	*end = last + 1;
	if (last + 1 == c->n)
		return odd(c, last, "is after the last ERROR target");
	if (c->kind[last] != ENTRY_END)
		return odd(c, last, "falls out of its chain");
	rs->rules[head].chain = rs->nchains;
	ch = add_chain(rs, head + 1, last);
	ch->name = (const char *)target_of(c, entry_at(c, head)) + PART_HDR;
	ch->hook = -1;
	return 0;
}

/* Base chains up to their policies, user chains with their heads, an ERROR target. */
static int lay_out(struct xt_ruleset *rs, const struct blob_check *c)
{
	__u32 next = 0;
	int err = 0;

	for (int h = 0; h < XT_HOOKS; h++) {
		rs->base_chain[h] = -1;
		if (c->entry[h] == NO_ENTRY)
			continue;
		err = add_base_chain(rs, c, h, next);
		if (err)
			return err;
		next = c->underflow[h] + 1;
	}
	while (!err && next + 1 < c->n)
		err = add_user_chain(rs, c, next, &next);
	if (err)
		return err;
	if (next >= c->n || c->kind[next] != ENTRY_ERROR)
		return odd(c, c->n - 1, "is the last, but not an ERROR target");
	rs->rules[next].chain = rs->nchains;
	return 0;
}

static void decode_part(struct xt_part *part, const __u8 *p)
{
	part->name = part_name(p);
	part->rev = part_rev(p);
	part->data = p + PART_HDR;
	part->size = part_size(p) - PART_HDR;
}

static void decode_base(struct xt_base *b, const struct blob_check *c, const __u8 *e)
{
	size_t len = c->family->addr_size;
	const __u8 *ifaces = e + c->row->ifaces;

	memcpy(b->src, e, len);
	memcpy(b->dst, e + len, len);
	memcpy(b->smsk, e + 2 * len, len);
	memcpy(b->dmsk, e + 3 * len, len);
	memcpy(b->iniface, ifaces, sizeof(b->iniface));
	memcpy(b->outiface, ifaces + 16, sizeof(b->outiface));
	memcpy(b->iniface_mask, ifaces + 32, sizeof(b->iniface_mask));
	memcpy(b->outiface_mask, ifaces + 48, sizeof(b->outiface_mask));
	b->proto = get16(e + c->row->proto);
	b->tos = c->row->tos ? e[c->row->tos] : 0;
	b->flags = e[c->row->flags];
	b->invflags = e[c->row->invflags];
}

static enum xt_verdict decode_verdict(const struct blob_check *c, __u32 i)
{
	__u8 *e = entry_at(c, i);

	switch ((enum entry_kind)c->kind[i]) {
	case ENTRY_ERROR:
		return XT_V_ERROR;
	case ENTRY_OTHER:
		return XT_V_TARGET;
	case ENTRY_JUMP:
		if (c->jump[i] == i + 1)
			return XT_V_NEXT;
		return e[c->row->flags] & c->row->goto_flag ? XT_V_GOTO : XT_V_JUMP;
	default:
		break;
	}
	switch ((int)get32(target_of(c, e) + PART_HDR)) {
	case -NF_ACCEPT - 1:
		return XT_V_ACCEPT;
	case -NF_DROP - 1:
		return XT_V_DROP;
	case -NF_QUEUE - 1:
		return XT_V_QUEUE;
	}
	return XT_V_RETURN;
}

/* Decodes entry @i; its matches go to @parts. */
static void decode_rule(struct xt_rule *r, const struct blob_check *c, __u32 i,
			struct xt_part *parts)
{
	__u8 *e = entry_at(c, i), *t = target_of(c, e);

	r->offset = c->offset[i];
	r->matches = parts;
	decode_base(&r->base, c, e);
	for (__u8 *p = e + c->family->entry_size; p < t; p += part_size(p))
		decode_part(&parts[r->nmatches++], p);
	decode_part(&r->target, t);
	r->verdict = decode_verdict(c, i);
	r->to = c->jump[i];
}

static int alloc_ruleset(struct xt_ruleset *rs, const struct blob_check *c)
{
	size_t nchains = XT_HOOKS;

	for (__u32 i = 0; i < c->n; i++)
		nchains += c->kind[i] == ENTRY_ERROR;
	rs->mem = calloc(1, c->n * sizeof(*rs->rules) + nchains * sizeof(*rs->chains) +
			    c->nparts * sizeof(struct xt_part));
	if (!rs->mem)
		return xt_fail(c->err, -ENOMEM, "out of memory");
	rs->rules = rs->mem;
	rs->chains = (struct xt_chain *)(rs->rules + c->n);
	rs->rules[0].matches = (struct xt_part *)(rs->chains + nchains);
	return 0;
}

/* Without the flag, Linux 6.18 matches any protocol; 6.1 sets the flag. */
static bool proto_unclear(const struct xt_base *b, const struct entry_row *row)
{
	return b->proto && (b->flags & row->proto_flag) != row->proto_flag;
}

/* A jump goes to the beginning of a user chain. */
static int check_rules(const struct xt_ruleset *rs, const struct blob_check *c)
{
	for (__u32 i = 0; i < c->n; i++) {
		const struct xt_rule *r = &rs->rules[i];
		const struct xt_chain *ch;

		if (proto_unclear(&r->base, c->row))
			return odd(c, i, "has a protocol, but not its flag");
		if (r->verdict != XT_V_JUMP && r->verdict != XT_V_GOTO)
			continue;
		if (r->to >= c->n || rs->rules[r->to].chain >= rs->nchains)
			return odd(c, i, "jumps to no chain");
		ch = &rs->chains[rs->rules[r->to].chain];
		if (ch->hook >= 0 || ch->first != r->to)
			return odd(c, i, "jumps into a chain");
	}
	return 0;
}

static int decode(struct xt_ruleset *rs, struct blob_check *c)
{
	struct xt_part *parts;
	int err;

	err = blob_check(c) ?: find_table(rs, c->h, c->err);
	err = err ?: alloc_ruleset(rs, c);
	if (err)
		return err;
	parts = rs->rules[0].matches;
	for (__u32 i = 0; i < c->n; i++) {
		decode_rule(&rs->rules[i], c, i, parts);
		parts += rs->rules[i].nmatches;
	}
	rs->nrules = c->n;
	for (int h = 0; h < XT_HOOKS; h++) {
		rs->hook_entry[h] = c->entry[h] == NO_ENTRY ? ~0u : c->h->hook_entry[h];
		rs->underflow[h] = c->underflow[h] == NO_ENTRY ? ~0u : c->h->underflow[h];
	}
	return lay_out(rs, c) ?: check_rules(rs, c);
}

int xt_ruleset_decode(struct xt_ruleset *rs, const struct xt_family *f,
		      const struct xt_replace_hdr *h, const void *blob,
		      struct xt_err *err)
{
	struct blob_check c = { .family = f, .h = h, .err = err };
	int ret;

	memset(rs, 0, sizeof(*rs));
	ret = blob_check_size(h->size, err);
	if (ret)
		return ret;
	c.blob = malloc(h->size + 1);
	if (!c.blob)
		return xt_fail(err, -ENOMEM, "out of memory");
	memcpy(c.blob, blob, h->size);
	rs->family = f;
	rs->blob = c.blob;
	rs->size = h->size;
	ret = decode(rs, &c);
	free(c.offset);
	if (ret)
		xt_ruleset_free(rs);
	return ret;
}

__u32 xt_rule_number(const struct xt_ruleset *rs, __u32 rule)
{
	const struct xt_rule *r = &rs->rules[rule];

	return r->verdict == XT_V_ERROR ? 0 : rule - rs->chains[r->chain].first + 1;
}

bool xt_rule_is_end(const struct xt_ruleset *rs, __u32 rule)
{
	const struct xt_rule *r = &rs->rules[rule];

	switch (r->verdict) {
	case XT_V_ACCEPT:
	case XT_V_DROP:
	case XT_V_QUEUE:
	case XT_V_RETURN:
		return entry_unconditional(rs->family, rs->blob + r->offset);
	default:
		return false;
	}
}

void xt_ruleset_free(struct xt_ruleset *rs)
{
	free((void *)rs->blob);
	free(rs->mem);
	memset(rs, 0, sizeof(*rs));
}
