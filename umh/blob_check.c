// SPDX-License-Identifier: GPL-2.0
/*
 * The checks of net/ipv4/netfilter/ip_tables.c translate_table(), in its order:
 * each entry by itself, the hooks, loops, then what xt_check_match() and
 * xt_check_target() ask of every extension.
 */
#include <errno.h>
#include <stdlib.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>

#include "blob_priv.h"

_Static_assert(sizeof(struct xt_entry_match) == PART_HDR, "uapi");
_Static_assert(sizeof(struct xt_entry_target) == PART_HDR, "uapi");
_Static_assert(sizeof(struct xt_standard_target) == STANDARD_SIZE, "uapi");
_Static_assert(sizeof(struct xt_error_target) == ERROR_SIZE, "uapi");
_Static_assert(sizeof(((struct xt_entry_match *)0)->u.user.name) == EXT_NAME_LEN, "uapi");
_Static_assert(IPT_INV_MASK == IP6T_INV_MASK, "uapi");

#define ENTRY_ALIGN	8
#define ON_PATH		(1 << XT_HOOKS)	/* in blob_check.mark */

#define INFO_SIZE	64		/* the kernel's sizeof(struct xt_table_info) */

static const struct entry_row row_ip = {
	.ip_size = sizeof(struct ipt_ip),
	.ifaces = offsetof(struct ipt_ip, iniface),
	.proto = offsetof(struct ipt_ip, proto),
	.flags = offsetof(struct ipt_ip, flags),
	.invflags = offsetof(struct ipt_ip, invflags),
	.target_offset = offsetof(struct ipt_entry, target_offset),
	.next_offset = offsetof(struct ipt_entry, next_offset),
	.comefrom = offsetof(struct ipt_entry, comefrom),
	.counters = offsetof(struct ipt_entry, counters),
	.flags_mask = IPT_F_MASK,
	.goto_flag = IPT_F_GOTO,
};

static const struct entry_row row_ip6 = {
	.ip_size = sizeof(struct ip6t_ip6),
	.ifaces = offsetof(struct ip6t_ip6, iniface),
	.proto = offsetof(struct ip6t_ip6, proto),
	.flags = offsetof(struct ip6t_ip6, flags),
	.invflags = offsetof(struct ip6t_ip6, invflags),
	.tos = offsetof(struct ip6t_ip6, tos),
	.target_offset = offsetof(struct ip6t_entry, target_offset),
	.next_offset = offsetof(struct ip6t_entry, next_offset),
	.comefrom = offsetof(struct ip6t_entry, comefrom),
	.counters = offsetof(struct ip6t_entry, counters),
	.flags_mask = IP6T_F_MASK,
	.goto_flag = IP6T_F_GOTO,
	.proto_flag = IP6T_F_PROTO,
};

const struct entry_row *entry_row(const struct xt_family *f)
{
	return f->nfproto == NFPROTO_IPV6 ? &row_ip6 : &row_ip;
}

int blob_check_size(__u32 size, struct xt_err *err)
{
	if (size >= XT_TABLE_BYTES - INFO_SIZE)
		return xt_fail(err, -ENOMEM, "a table of %u bytes is too large", size);
	return 0;
}

/* An error in the entry at @off, which will be number c->n. */
static int bad(struct blob_check *c, __u32 off, const char *what)
{
	return xt_fail(c->err, -EINVAL, "entry %u at offset %u: %s", c->n, off, what);
}

static bool verdict_ok(int v)
{
	switch (v) {
	case -NF_ACCEPT - 1:
	case -NF_DROP - 1:
	case -NF_QUEUE - 1:
	case XT_RETURN:
		return true;
	}
	return v > 0;
}

/* The matches fill exactly what is between the entry's header and its target. */
static int check_matches(struct blob_check *c, __u32 off, __u32 len)
{
	const __u8 *p = c->blob + off + c->family->entry_size;

	for (; len; c->nparts++) {
		if ((p - c->blob) % ENTRY_ALIGN)
			return bad(c, off, "a match is not aligned");
		if (len < PART_HDR)
			return bad(c, off, "a match ends past the target");
		if (part_size(p) < PART_HDR)
			return bad(c, off, "a match is smaller than its header");
		if (part_size(p) > len)
			return bad(c, off, "a match ends past the target");
		len -= part_size(p);
		p += part_size(p);
	}
	return 0;
}

static int check_target(struct blob_check *c, __u32 off, __u32 target, __u32 next)
{
	const __u8 *t = c->blob + off + target;

	if (part_size(t) < PART_HDR)
		return bad(c, off, "the target is smaller than its header");
	if (target + part_size(t) > next)
		return bad(c, off, "the target ends past the entry");
	if (part_is_standard(t)) {
		if (((target + STANDARD_SIZE + 7) & ~7u) != next)
			return bad(c, off, "the entry does not end with its standard target");
		if (!verdict_ok((int)get32(t + PART_HDR)))
			return bad(c, off, "no such verdict");
	} else if (part_is_error(t)) {
		if (part_size(t) != ERROR_SIZE)
			return bad(c, off, "an ERROR target of the wrong size");
		if (!memchr(t + PART_HDR, 0, ERROR_NAME_LEN))
			return bad(c, off, "the name of an ERROR target does not end");
	}
	return 0;
}

static int check_offsets(struct blob_check *c, __u32 off)
{
	const __u8 *e = c->blob + off;
	__u32 left = c->h->size - off;
	__u32 head = c->family->entry_size;
	__u32 target, next;

	if (off % ENTRY_ALIGN)
		return bad(c, off, "not aligned");
	if (left <= head)
		return bad(c, off, "the table ends within its header");
	next = get16(e + c->row->next_offset);
	if (next > left)
		return bad(c, off, "the table ends before it does");
	if (next < head + PART_HDR)
		return bad(c, off, "too small to have a target");
	if (e[c->row->flags] & ~c->row->flags_mask)
		return bad(c, off, "unknown flags");
	if (e[c->row->invflags] & ~IPT_INV_MASK)
		return bad(c, off, "unknown inversion flags");
	target = get16(e + c->row->target_offset);
	if (target < head)
		return bad(c, off, "the target is within the header");
	if (target + PART_HDR > next)
		return bad(c, off, "the target begins past the entry");
	return check_target(c, off, target, next) ?: check_matches(c, off, target - head);
}

static enum entry_kind kind_of(const struct blob_check *c, __u8 *e)
{
	const __u8 *t = target_of(c, e);

	if (part_is_error(t))
		return ENTRY_ERROR;
	if (!part_is_standard(t))
		return ENTRY_OTHER;
	if ((int)get32(t + PART_HDR) >= 0)
		return ENTRY_JUMP;
	return entry_unconditional(c->family, e) ? ENTRY_END : ENTRY_VERDICT;
}

/* Is it a hook's entry point, or its policy? */
static int check_hooks(struct blob_check *c, __u32 off, enum entry_kind kind)
{
	__u8 *e = c->blob + off;
	int verdict;

	for (int h = 0; h < XT_HOOKS; h++) {
		if (!(c->h->valid_hooks & (1 << h)))
			continue;
		if (off == c->h->hook_entry[h])
			c->entry[h] = c->n;
		if (off != c->h->underflow[h])
			continue;
		if (kind != ENTRY_END)
			return bad(c, off, "a policy that is not an unconditional verdict");
		verdict = (int)get32(target_of(c, e) + PART_HDR);
		if (verdict != -NF_ACCEPT - 1 && verdict != -NF_DROP - 1)
			return bad(c, off, "a policy that is neither ACCEPT nor DROP");
		c->underflow[h] = c->n;
	}
	return 0;
}

static int check_entry(struct blob_check *c, __u32 off)
{
	__u8 *e = c->blob + off;
	enum entry_kind kind;
	int err;

	err = check_offsets(c, off);
	if (err)
		return err;
	kind = kind_of(c, e);
	err = check_hooks(c, off, kind);
	if (err)
		return err;
	memset(e + c->row->counters, 0, sizeof(struct xt_counters));
	memset(e + c->row->comefrom, 0, sizeof(__u32));

	c->offset[c->n] = off;
	c->kind[c->n] = kind;
	c->jump[c->n] = kind == ENTRY_JUMP ? get32(target_of(c, e) + PART_HDR) : NO_ENTRY;
	return 0;
}

/* Room for as many entries as the header announces. */
static int alloc_entries(struct blob_check *c)
{
	__u32 n = c->h->num_entries;

	if (n > XT_TABLE_BYTES / sizeof(__u32))
		return xt_fail(c->err, -ENOMEM, "a table of %u entries is too large", n);
	if (n > c->h->size / (c->family->entry_size + PART_HDR))
		return xt_fail(c->err, -EINVAL, "%u bytes cannot hold %u entries",
			       c->h->size, n);
	if (n > XT_MAX_RULES)
		return xt_fail(c->err, -ENOMEM, "%u entries: more than %u are not supported",
			       n, XT_MAX_RULES);
	c->offset = calloc(n + 1, 3 * sizeof(__u32) + 2);
	if (!c->offset)
		return xt_fail(c->err, -ENOMEM, "out of memory");
	c->jump = c->offset + n;
	c->back = c->jump + n;
	c->kind = (__u8 *)(c->back + n);
	c->mark = c->kind + n;
	return 0;
}

static int check_entries(struct blob_check *c)
{
	__u32 off = 0;
	int err;

	while (off < c->h->size) {
		if (c->n == c->h->num_entries)
			return xt_fail(c->err, -EINVAL, "more than the announced %u entries",
				       c->h->num_entries);
		err = check_entry(c, off);
		if (err)
			return err;
		c->n++;
		off += get16(c->blob + off + c->row->next_offset);
	}
	if (c->n != c->h->num_entries)
		return xt_fail(c->err, -EINVAL, "%u entries, but %u announced",
			       c->n, c->h->num_entries);
	return 0;
}

/* Every hook has an entry point and a policy, and both ascend. */
static int check_table_hooks(const struct blob_check *c)
{
	int prev = -1;

	for (int h = 0; h < XT_HOOKS; h++) {
		if (!(c->h->valid_hooks & (1 << h)))
			continue;
		if (c->entry[h] == NO_ENTRY || c->underflow[h] == NO_ENTRY)
			return xt_fail(c->err, -EINVAL, "%s: no entry at its %s offset",
				       xt_hook_name[h],
				       c->entry[h] == NO_ENTRY ? "first" : "policy's");
		if (prev >= 0 && (c->underflow[h] <= c->underflow[prev] ||
				  c->entry[h] <= c->entry[prev]))
			return xt_fail(c->err, -EINVAL, "%s is not after %s",
				       xt_hook_name[h], xt_hook_name[prev]);
		prev = h;
	}
	return 0;
}

static __u32 find_entry(const struct blob_check *c, __u32 offset)
{
	__u32 low = 0, high = c->n;

	while (low < high) {
		__u32 mid = low + (high - low) / 2;

		if (c->offset[mid] < offset)
			low = mid + 1;
		else
			high = mid;
	}
	return low < c->n && c->offset[low] == offset ? low : NO_ENTRY;
}

static void find_jumps(struct blob_check *c)
{
	for (__u32 i = 0; i < c->n; i++)
		if (c->kind[i] == ENTRY_JUMP)
			c->jump[i] = find_entry(c, c->jump[i]);
}

/*
 * Back from @i to the nearest entry on the path that was left by a jump.
 * Entries are taken off the path on the way.  NO_ENTRY: the path is empty.
 */
static __u32 step_back(struct blob_check *c, __u32 i)
{
	__u32 from;

	do {
		c->mark[i] &= ~ON_PATH;
		from = i;
		i = c->back[i];
		if (i == from)
			return NO_ENTRY;
	} while (from == i + 1);
	return i;
}

/*
 * Follows every path from @hook's entry point, each entry once; as in the
 * kernel, what comes after a goto counts as reached.
 */
static int mark_hook(struct blob_check *c, int hook)
{
	__u32 i = c->entry[hook], next;

	c->back[i] = i;
	for (;;) {
		bool seen = c->mark[i] & (1 << hook);

		if (c->mark[i] & ON_PATH)
			return xt_fail(c->err, -ELOOP, "%s: a loop through the entry at offset %u",
				       xt_hook_name[hook], c->offset[i]);
		c->mark[i] |= 1 << hook | ON_PATH;
		if (seen || c->kind[i] == ENTRY_END) {
			i = step_back(c, i);
			if (i == NO_ENTRY)
				return 0;
			next = i + 1;
		} else {
			next = c->kind[i] == ENTRY_JUMP ? c->jump[i] : i + 1;
		}
		if (next >= c->n)
			return xt_fail(c->err, -ELOOP, "the entry at offset %u leads nowhere",
				       c->offset[i]);
		c->back[next] = i;
		i = next;
	}
}

static int check_loops(struct blob_check *c)
{
	int err;

	find_jumps(c);
	for (int h = 0; h < XT_HOOKS; h++) {
		if (!(c->h->valid_hooks & (1 << h)))
			continue;
		err = mark_hook(c, h);
		if (err)
			return err;
	}
	for (__u32 i = 0; i < c->n; i++) {
		__u32 comefrom = c->mark[i];

		memcpy(entry_at(c, i) + c->row->comefrom, &comefrom, sizeof(comefrom));
	}
	return 0;
}

/* Every extension's data has the size XT_ALIGN() makes of it. */
static int check_part(struct blob_check *c, __u32 i, const __u8 *p, const char *what)
{
	if (strnlen(part_name(p), EXT_NAME_LEN) == EXT_NAME_LEN)
		return xt_fail(c->err, -EINVAL, "entry %u at offset %u: the %s's name does not end",
			       i, c->offset[i], what);
	if (part_size(p) % ENTRY_ALIGN)
		return xt_fail(c->err, -EINVAL, "entry %u at offset %u: %s %s: invalid size %u",
			       i, c->offset[i], what, part_name(p), part_size(p) - PART_HDR);
	return 0;
}

/* The kernel's two built-in targets have one revision and one size each. */
static int check_builtin(struct blob_check *c, __u32 i, const __u8 *t)
{
	if (part_rev(t))
		return xt_fail(c->err, -ENOENT,
			       "entry %u at offset %u: target \"%s\": no revision %u",
			       i, c->offset[i], part_name(t), part_rev(t));
	if (part_size(t) != (part_is_error(t) ? ERROR_SIZE : STANDARD_SIZE))
		return xt_fail(c->err, -EINVAL,
			       "entry %u at offset %u: target \"%s\": invalid size %u",
			       i, c->offset[i], part_name(t), part_size(t) - PART_HDR);
	return 0;
}

static int check_parts(struct blob_check *c, __u32 i)
{
	__u8 *e = entry_at(c, i), *t = target_of(c, e);
	int err;

	for (__u8 *p = e + c->family->entry_size; p < t; p += part_size(p)) {
		err = check_part(c, i, p, "match");
		if (err)
			return err;
	}
	if (part_is_standard(t) || part_is_error(t))
		return check_builtin(c, i, t);
	return check_part(c, i, t, "target");
}

int blob_check(struct blob_check *c)
{
	int err;

	c->row = entry_row(c->family);
	memset(c->entry, 0xff, sizeof(c->entry));
	memset(c->underflow, 0xff, sizeof(c->underflow));
	err = blob_check_size(c->h->size, c->err) ?: alloc_entries(c);
	err = err ?: check_entries(c);
	err = err ?: check_table_hooks(c);
	err = err ?: check_loops(c);
	for (__u32 i = 0; !err && i < c->n; i++)
		err = check_parts(c, i);
	return err;
}
