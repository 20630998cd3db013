// SPDX-License-Identifier: GPL-2.0
/*
 * Gate rules into and out of a ruleset: entries move, and with them hook
 * entries, underflows and jump targets.
 */
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/xt_bpf.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "gate.h"

struct gate_rule {
	struct {		/* struct xt_entry_match, without its data[] */
		__u16 match_size;
		char name[XT_EXTENSION_MAXNAMELEN];
		__u8 revision;
	} match;
	struct xt_bpf_info_v1 info;
	struct xt_standard_target target;
};

_Static_assert(offsetof(struct gate_rule, info) == sizeof(struct xt_entry_match), "match");
_Static_assert(sizeof(struct gate_rule) % 8 == 0, "alignment of entries");

static size_t gate_size(const struct xt_family *f)
{
	return f->entry_size + sizeof(struct gate_rule);
}

static __u16 *next_offset(const struct xt_family *f, void *entry)
{
	if (f->nfproto == NFPROTO_IPV6)
		return &((struct ip6t_entry *)entry)->next_offset;
	return &((struct ipt_entry *)entry)->next_offset;
}

static __u16 *target_offset(const struct xt_family *f, void *entry)
{
	if (f->nfproto == NFPROTO_IPV6)
		return &((struct ip6t_entry *)entry)->target_offset;
	return &((struct ipt_entry *)entry)->target_offset;
}

static void put_gate(const struct xt_family *f, void *entry, const char *path)
{
	struct gate_rule *g = entry + f->entry_size;

	memset(entry, 0, gate_size(f));
	*target_offset(f, entry) = f->entry_size + offsetof(struct gate_rule, target);
	*next_offset(f, entry) = gate_size(f);
	g->match.match_size = sizeof(g->match) + sizeof(g->info);
	strcpy(g->match.name, "bpf");
	g->match.revision = 1;
	g->info.mode = XT_BPF_MODE_PATH_PINNED;
	strncpy(g->info.path, path, sizeof(g->info.path) - 1);
	g->target.target.u.target_size = sizeof(g->target);
	g->target.verdict = -NF_ACCEPT - 1;
}

static bool is_gate(const struct xt_family *f, void *entry, const char *path)
{
	const struct gate_rule *g = entry + f->entry_size;

	return *next_offset(f, entry) == gate_size(f) &&
	       g->match.match_size == sizeof(g->match) + sizeof(g->info) &&
	       !strcmp(g->match.name, "bpf") && g->match.revision == 1 &&
	       g->info.mode == XT_BPF_MODE_PATH_PINNED && !strcmp(g->info.path, path);
}

/* The size of the entry at @at of @size bytes; 0 if it cannot be one. */
static __u32 entry_at(const struct xt_family *f, void *entries, __u32 at, __u32 size)
{
	__u32 next, target;

	if (at > size || size - at < f->entry_size + sizeof(struct xt_entry_target))
		return 0;
	next = *next_offset(f, entries + at);
	target = *target_offset(f, entries + at);
	if (next > size - at || next % 8 || target < f->entry_size ||
	    target + sizeof(struct xt_entry_target) > next)
		return 0;
	return next;
}

/* The verdict of an entry that jumps, else NULL. */
static int *jump_of(const struct xt_family *f, void *entry)
{
	struct xt_standard_target *t = entry + *target_offset(f, entry);

	if (t->target.u.user.name[0] || *target_offset(f, entry) + sizeof(*t) >
	    *next_offset(f, entry) || t->verdict < 0)
		return NULL;
	return &t->verdict;
}

/* Where a gate stands, or is to stand: offsets in the old entries, ascending. */
struct places {
	__u32 n, at[XT_HOOKS];
};

static bool is_place(const struct places *p, __u32 offset)
{
	for (__u32 i = 0; i < p->n; i++)
		if (p->at[i] == offset)
			return true;
	return false;
}

static void add_place(struct places *p, __u32 offset)
{
	__u32 i = p->n;

	if (p->n == XT_HOOKS || is_place(p, offset))
		return;
	for (; i && p->at[i - 1] > offset; i--)
		p->at[i] = p->at[i - 1];
	p->at[i] = offset;
	p->n++;
}

static __u32 before(const struct places *p, __u32 offset, bool itself)
{
	__u32 n = 0;

	for (__u32 i = 0; i < p->n; i++)
		n += p->at[i] < offset || (itself && p->at[i] == offset);
	return n;
}

int gate_insert(struct gated *out, const struct xt_family *f, const struct xt_replace_hdr *h,
		const void *entries, const char *path)
{
	const size_t gate = gate_size(f);
	__u32 to = 0, index = 0, size;
	struct places p = {};

	memset(out, 0, sizeof(*out));
	out->h = *h;
	for (int i = 0; i < XT_HOOKS; i++)
		if (h->valid_hooks & (1 << i))
			add_place(&p, h->hook_entry[i]);
	out->entries = malloc(h->size + p.n * gate);
	if (!out->entries)
		return -ENOMEM;
	for (__u32 at = 0; at < h->size; at += size, index++) {
		int *jump;

		size = entry_at(f, (void *)entries, at, h->size);
		if (!size)
			goto bad;
		if (is_place(&p, at)) {
			put_gate(f, out->entries + to, path);
			out->at[out->ngates++] = index++;
			to += gate;
		}
		memcpy(out->entries + to, entries + at, size);
		jump = jump_of(f, out->entries + to);
		if (jump)
			*jump += before(&p, *jump, true) * gate;
		to += size;
	}
	if (out->ngates != p.n)
		goto bad;
	for (int i = 0; i < XT_HOOKS; i++) {
		if (!(h->valid_hooks & (1 << i)))
			continue;
		out->h.hook_entry[i] += before(&p, h->hook_entry[i], false) * gate;
		out->h.underflow[i] += before(&p, h->underflow[i], true) * gate;
	}
	out->h.size = to;
	out->h.num_entries += out->ngates;
	return 0;
bad:
	free(out->entries);
	out->entries = NULL;
	return -EINVAL;
}

int gate_remove(struct gated *out, const struct xt_family *f, struct xt_replace_hdr *h,
		void *entries, const char *path)
{
	const size_t gate = gate_size(f);
	__u32 to = 0, index = 0, size;
	struct places p = {};

	memset(out, 0, sizeof(*out));
	for (__u32 at = 0; at < h->size; at += size, index++) {
		size = entry_at(f, entries, at, h->size);
		if (!size)
			return -EINVAL;
		if (out->ngates < XT_HOOKS && is_gate(f, entries + at, path)) {
			add_place(&p, at);
			out->at[out->ngates++] = index;
		}
	}
	for (__u32 at = 0; at < h->size; at += size) {
		int *jump = jump_of(f, entries + at);

		size = *next_offset(f, entries + at);
		if (is_place(&p, at))
			continue;
		if (jump)
			*jump -= before(&p, *jump, false) * gate;
		memmove(entries + to, entries + at, size);
		to += size;
	}
	for (int i = 0; i < XT_HOOKS; i++) {
		h->hook_entry[i] -= before(&p, h->hook_entry[i], false) * gate;
		h->underflow[i] -= before(&p, h->underflow[i], false) * gate;
	}
	h->size = to;
	h->num_entries -= out->ngates;
	h->num_counters = h->num_entries;
	return 0;
}

void gate_strip_counters(struct xt_counters *counters, __u32 n, __u32 ngates, const __u32 *at)
{
	__u32 to = 0, g = 0;

	for (__u32 i = 0; i < n; i++) {
		if (g < ngates && at[g] == i)
			g++;
		else
			counters[to++] = counters[i];
	}
}
