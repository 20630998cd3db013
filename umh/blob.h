/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The ruleset blob of SO_SET_REPLACE, decoded once: nothing later reads its
 * raw bytes but an extension its own data.
 */
#ifndef XTJIT_BLOB_H
#define XTJIT_BLOB_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include "err.h"
#include "family.h"

#define XT_MAX_RULES	(1u << 20)	/* entries of one table */

/* One match or target of a rule; points into the blob. */
struct xt_part {
	const char *name;	/* NUL-terminated */
	__u8 rev;
	const void *data;	/* aligned to 8 */
	__u32 size;		/* bytes of data */
};

enum xt_verdict {
	XT_V_ACCEPT,
	XT_V_DROP,
	XT_V_QUEUE,
	XT_V_RETURN,
	XT_V_NEXT,		/* a rule without a target: count and go on */
	XT_V_JUMP,		/* to the entry .to */
	XT_V_GOTO,
	XT_V_TARGET,		/* an extension: .target */
	XT_V_ERROR,		/* the head of a user chain, or the blob's end */
};

/* The selectors of struct ipt_ip and struct ip6t_ip6 in one shape. */
struct xt_base {
	__u8 src[16], dst[16], smsk[16], dmsk[16];	/* IPv4: the first 4 */
	char iniface[16], outiface[16];
	__u8 iniface_mask[16], outiface_mask[16];
	__u16 proto;
	__u8 tos;		/* IPv6, IP6T_F_TOS */
	__u8 flags;		/* IPT_F_*, IP6T_F_* as the family has them */
	__u8 invflags;		/* IPT_INV_*; IP6T_INV_* has the same bits */
};

struct xt_rule {
	__u32 offset;		/* of the entry in the blob */
	__u32 chain;		/* index of the chain it is in, or heads; of the blob's end: nchains */
	struct xt_base base;
	__u32 nmatches;
	struct xt_part *matches;
	enum xt_verdict verdict;
	__u32 to;		/* JUMP, GOTO: index of an entry */
	struct xt_part target;	/* its name and revision are always set */
};

struct xt_chain {
	const char *name;	/* of a base chain: as xt_hook_name has it */
	int hook;		/* enum nf_inet_hooks; -1: a user chain */
	__u32 first, count;	/* entries; a user chain's head is before first */
};

/*
 * A table as decoded.  Entry i of the blob is rules[i]; the counters of a
 * ruleset are indexed the same way.
 */
struct xt_ruleset {
	const struct xt_family *family;
	const struct xt_table_row *table;
	__u32 hook_entry[XT_HOOKS], underflow[XT_HOOKS];	/* offsets; ~0: no such hook */
	__u32 nrules;
	struct xt_rule *rules;
	__u32 nchains;
	struct xt_chain *chains;
	int base_chain[XT_HOOKS];	/* index of a chain, or -1 */
	const void *blob;		/* the entries: borrowed or owned, see below */
	__u32 size;			/* bytes of blob */
	void *mem;			/* what xt_ruleset_free() frees */
};

/* The fixed part of struct ipt_replace, struct ip6t_replace (they are alike). */
struct xt_replace_hdr {
	char name[32];
	__u32 valid_hooks, num_entries, size;
	__u32 hook_entry[XT_HOOKS], underflow[XT_HOOKS];
	__u32 num_counters;
};

/*
 * Decodes @size bytes of entries at @blob (alignment 8) as described by @h, and
 * checks them as net/ipv4/netfilter/ip_tables.c translate_table() does, with
 * its errno for the same defect.  The blob is copied; the ruleset owns its copy,
 * which is as the kernel keeps it: counters zeroed, and in comefrom a bit per
 * hook from which the entry can be reached.
 * Returns 0 or a negative errno, and then nothing needs to be freed.
 *
 * -EOPNOTSUPP: the kernel would take it, but it is not laid out as iptables
 * lays out its tables (entries that fall through from one chain into another,
 * jumps into the middle of a chain), or kernels differ over its meaning (IPv6: a
 * protocol without IP6T_F_PROTO).
 */
int xt_ruleset_decode(struct xt_ruleset *rs, const struct xt_family *f,
		      const struct xt_replace_hdr *h, const void *blob,
		      struct xt_err *err);

/*
 * Reads the header of what SO_SET_REPLACE was given: @len bytes at @arg, of
 * which the entries begin at the returned *entries.  0 or a negative errno
 * (-EINVAL if shorter than it says, -ENOMEM past the limits, as do_replace()).
 */
int xt_replace_parse(const struct xt_family *f, const void *arg, size_t len,
		     struct xt_replace_hdr *h, const void **entries,
		     struct xt_err *err);

/*
 * The table that the kernel makes on first use: one policy ACCEPT a hook, and
 * the error entry (ipt_alloc_initial_table()).  Fills *h (num_counters: as for a
 * replacement of that very table) and returns the entries, malloc()ed, or NULL
 * when out of memory.
 */
void *xt_initial_blob(const struct xt_family *f, const struct xt_table_row *t,
		      struct xt_replace_hdr *h);

/*
 * A SO_SET_REPLACE argument (header, then entries) of @h and @entries,
 * malloc()ed, its length in *len.  @counters is written into it as the pointer
 * where the kernel puts h->num_counters old counters.
 */
void *xt_replace_build(const struct xt_family *f, const struct xt_replace_hdr *h,
		       const void *entries, void *counters, size_t *len);

/*
 * How a new table differs from an old one that was decoded: from entry .at on,
 * at .offset in both, .ndel entries of .old_len bytes gave way to .nadd of
 * .new_len; all else is as it was, and its jumps go where they went.
 */
struct xt_diff {
	__u32 at, ndel, nadd;
	__u32 offset, old_len, new_len;
	bool jumps;		/* some go to behind the change */
};

/* The offset of each of the @n entries of @blob, and its @size; malloc()ed; NULL if they are not there. */
__u32 *xt_offsets(const struct xt_family *f, const void *blob, __u32 n, __u32 size);

/*
 * Compares @old (of @oh, its offsets @at) with @blob (of @h, @to).  False: they
 * differ by more than one run of entries of one chain, or in their hooks.
 */
bool xt_diff(const struct xt_family *f, const struct xt_replace_hdr *oh, const void *old,
	     const __u32 *at, const struct xt_replace_hdr *h, const void *blob, const __u32 *to,
	     struct xt_diff *d);
/*
 * Makes @out (to[n] bytes) the new table as xt_ruleset_decode() would keep it,
 * from @old and the new entries in @blob, all of which can be reached as what was there.
 */
void xt_diff_apply(const struct xt_family *f, const struct xt_diff *d, const void *old,
		   const __u32 *to, __u32 n, const void *blob, void *out);
/* From which hooks (bits) the entry at @offset of a decoded table can be reached. */
__u32 xt_blob_comefrom(const struct xt_family *f, const void *blob, __u32 offset);

/* Writes the counters (2 u64 each, packets and bytes) of entry i of @rs into its place in @blob. */
void xt_blob_put_counters(const struct xt_ruleset *rs, void *blob,
			  const __u64 (*counters)[2]);

/* The number iptables -L --line-numbers gives @rule in its chain, from 1; of an XT_V_ERROR: 0. */
__u32 xt_rule_number(const struct xt_ruleset *rs, __u32 rule);

/* It decides about any packet: a policy, the end of a user chain, -j ACCEPT. */
bool xt_rule_is_end(const struct xt_ruleset *rs, __u32 rule);

void xt_ruleset_free(struct xt_ruleset *rs);

#endif
