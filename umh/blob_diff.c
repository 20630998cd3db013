// SPDX-License-Identifier: GPL-2.0
/*
 * Two tables compared, entry by entry: what iptables changes in a large one is
 * mostly one rule.
 */
#include <linux/netfilter/x_tables.h>
#include <stdlib.h>

#include "blob_priv.h"

__u32 *xt_offsets(const struct xt_family *f, const void *blob, __u32 n, __u32 size)
{
	const struct entry_row *row = entry_row(f);
	__u32 *at = malloc(((size_t)n + 1) * sizeof(*at)), off = 0;

	for (__u32 i = 0; at && i < n; i++) {
		__u32 len = 0;

		at[i] = off;
		if (off + f->entry_size + PART_HDR <= size && off <= size)
			len = get16((const __u8 *)blob + off + row->next_offset);
		if (len < f->entry_size + PART_HDR || len % 8 || len > size - off) {
			free(at);
			return NULL;
		}
		off += len;
	}
	if (at && off != size) {
		free(at);
		return NULL;
	}
	if (at)
		at[n] = off;
	return at;
}

struct cmp {
	const struct xt_family *f;
	const struct entry_row *row;
	const __u8 *old, *new;
	const __u32 *at, *to;
	__u32 shift;		/* of what is behind the change */
	__u32 same, shifted;	/* the last jump that stayed, the first that was shifted */
};

/* Where entry @e of a checked table of @len bytes jumps to; 0: it does not. */
static __u32 jump_of(const struct cmp *c, const __u8 *e, __u32 len)
{
	__u16 t = get16(e + c->row->target_offset);
	int v;

	if (len != t + (__u32)STANDARD_SIZE || !part_is_standard(e + t))
		return 0;
	v = get32(e + t + PART_HDR);
	return v > 0 ? v : 0;
}

/* All but counters, and where it can be reached from. */
static bool same_entry(struct cmp *c, __u32 i, __u32 k)
{
	const __u8 *a = c->old + c->at[i], *b = c->new + c->to[k];
	__u32 len = c->at[i + 1] - c->at[i], size = c->f->entry_size, rest = len, from, to;

	if (c->to[k + 1] - c->to[k] != len || memcmp(a, b, c->row->comefrom))
		return false;
	from = jump_of(c, a, len);
	if (from) {
		rest = len - STANDARD_SIZE + PART_HDR;
		to = get32(b + rest);
		if (to == from && from > c->same)
			c->same = from;
		if (to != from && to != from + c->shift)
			return false;
		if (to != from && from < c->shifted)
			c->shifted = from;
	}
	if (memcmp(a + size, b + size, rest - size))
		return false;
	return rest == len || !memcmp(a + rest + 4, b + rest + 4, len - rest - 4);
}

/* Hooks begin and end where they did. */
static bool same_hooks(const struct xt_replace_hdr *oh, const struct xt_replace_hdr *h,
		       const struct xt_diff *d)
{
	__u32 shift = d->new_len - d->old_len;

	for (int i = 0; i < XT_HOOKS; i++) {
		if (!(h->valid_hooks & (1 << i)))
			continue;
		if (h->hook_entry[i] != oh->hook_entry[i] +
		    (oh->hook_entry[i] > d->offset ? shift : 0) ||
		    h->underflow[i] != oh->underflow[i] +
		    (oh->underflow[i] >= d->offset ? shift : 0))
			return false;
	}
	return true;
}

bool xt_diff(const struct xt_family *f, const struct xt_replace_hdr *oh, const void *old,
	     const __u32 *at, const struct xt_replace_hdr *h, const void *blob, const __u32 *to,
	     struct xt_diff *d)
{
	struct cmp c = {
		.f = f, .row = entry_row(f), .old = old, .new = blob, .at = at, .to = to,
		.shift = h->size - oh->size, .shifted = ~0u,
	};
	__u32 n = oh->num_entries, m = h->num_entries, p = 0;

	if (h->valid_hooks != oh->valid_hooks)
		return false;
	while (p < n && p < m && same_entry(&c, p, p))
		p++;
	while (n > p && m > p && same_entry(&c, n - 1, m - 1)) {
		n--;
		m--;
	}
	*d = (struct xt_diff){
		.at = p, .ndel = n - p, .nadd = m - p, .offset = at[p],
		.old_len = at[n] - at[p], .new_len = to[m] - to[p],
		.jumps = c.shift && c.shifted != ~0u,
	};
	if (c.shift && (c.same > d->offset || c.shifted <= d->offset))
		return false;
	return same_hooks(oh, h, d);
}

static void shift_jumps(const struct cmp *c, const struct xt_diff *d, __u8 *blob, __u32 n)
{
	for (__u32 i = 0; i < n; i++) {
		__u32 len = c->to[i + 1] - c->to[i], v;

		if (i >= d->at && i - d->at < d->nadd)
			continue;
		v = jump_of(c, blob + c->to[i], len);
		if (v <= d->offset)
			continue;
		v += c->shift;
		memcpy(blob + c->to[i] + len - STANDARD_SIZE + PART_HDR, &v, sizeof(v));
	}
}

void xt_diff_apply(const struct xt_family *f, const struct xt_diff *d, const void *old,
		   const __u32 *to, __u32 n, const void *blob, void *out)
{
	struct cmp c = {
		.f = f, .row = entry_row(f), .to = to, .shift = d->new_len - d->old_len,
	};
	__u32 comefrom = d->nadd ? xt_blob_comefrom(f, old, d->offset) : 0;

	memcpy(out, old, d->offset);
	memcpy(out + d->offset, (const __u8 *)blob + d->offset, d->new_len);
	memcpy(out + d->offset + d->new_len, (const __u8 *)old + d->offset + d->old_len,
	       to[n] - d->offset - d->new_len);
	for (__u32 i = d->at; i < d->at + d->nadd; i++) {
		memset(out + to[i] + c.row->counters, 0, sizeof(struct xt_counters));
		memcpy(out + to[i] + c.row->comefrom, &comefrom, sizeof(comefrom));
	}
	if (d->jumps)
		shift_jumps(&c, d, out, n);
}

__u32 xt_blob_comefrom(const struct xt_family *f, const void *blob, __u32 offset)
{
	return get32((const __u8 *)blob + offset + entry_row(f)->comefrom);
}
