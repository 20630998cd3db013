// SPDX-License-Identifier: GPL-2.0
/*
 * The other way: blobs as iptables and the kernel make them.
 */
#include <stdlib.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>

#include "blob_priv.h"

_Static_assert(sizeof(struct ipt_replace) == REPLACE_SIZE, "uapi");
_Static_assert(sizeof(struct ip6t_replace) == REPLACE_SIZE, "uapi");
_Static_assert(offsetof(struct ipt_replace, counters) == sizeof(struct xt_replace_hdr), "uapi");
_Static_assert(offsetof(struct ip6t_replace, counters) == sizeof(struct xt_replace_hdr), "uapi");
_Static_assert(offsetof(struct ipt_replace, num_counters) ==
	       offsetof(struct xt_replace_hdr, num_counters), "uapi");

/* Fills the zeroed entry @e, whose target has @size bytes; returns the target. */
static __u8 *init_entry(const struct xt_family *f, __u8 *e, __u16 size)
{
	const struct entry_row *row = entry_row(f);
	__u16 target = f->entry_size, next = target + size;

	memcpy(e + row->target_offset, &target, sizeof(target));
	memcpy(e + row->next_offset, &next, sizeof(next));
	memcpy(e + target, &size, sizeof(size));
	return e + target;
}

void *xt_initial_blob(const struct xt_family *f, const struct xt_table_row *t,
		      struct xt_replace_hdr *h)
{
	const __u32 standard = f->entry_size + STANDARD_SIZE;
	const int accept = -NF_ACCEPT - 1;
	__u8 *blob, *target;

	memset(h, 0, sizeof(*h));
	strncpy(h->name, t->name, sizeof(h->name) - 1);
	h->valid_hooks = t->valid_hooks;
	h->num_entries = __builtin_popcount(t->valid_hooks) + 1;
	h->num_counters = h->num_entries;
	blob = calloc(h->num_entries, f->entry_size + ERROR_SIZE);
	if (!blob)
		return NULL;
	for (int i = 0; i < XT_HOOKS; i++) {
		if (!(t->valid_hooks & (1 << i)))
			continue;
		h->hook_entry[i] = h->underflow[i] = h->size;
		target = init_entry(f, blob + h->size, STANDARD_SIZE);
		memcpy(target + PART_HDR, &accept, sizeof(accept));
		h->size += standard;
	}
	target = init_entry(f, blob + h->size, ERROR_SIZE);
	memcpy(target + 2, "ERROR", sizeof("ERROR"));
	memcpy(target + PART_HDR, "ERROR", sizeof("ERROR"));
	h->size += f->entry_size + ERROR_SIZE;
	return blob;
}

void *xt_replace_build(const struct xt_family *f, const struct xt_replace_hdr *h,
		       const void *entries, void *counters, size_t *len)
{
	__u8 *arg;

	(void)f;	/* the two structs are alike */
	*len = REPLACE_SIZE + (size_t)h->size;
	arg = malloc(*len);
	if (!arg)
		return NULL;
	memcpy(arg, h, sizeof(*h));
	memcpy(arg + sizeof(*h), &counters, sizeof(counters));
	memcpy(arg + REPLACE_SIZE, entries, h->size);
	return arg;
}

void xt_blob_put_counters(const struct xt_ruleset *rs, void *blob,
			  const __u64 (*counters)[2])
{
	const struct entry_row *row = entry_row(rs->family);
	__u8 *e = blob;

	for (__u32 i = 0; i < rs->nrules; i++, e += get16(e + row->next_offset))
		memcpy(e + row->counters, counters[i], sizeof(counters[i]));
}
