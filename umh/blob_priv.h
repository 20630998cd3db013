/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared by blob.c, blob_check.c and blob_build.c: where the fields of an
 * entry are, and what the checks find out about each entry.
 */
#ifndef XTJIT_BLOB_PRIV_H
#define XTJIT_BLOB_PRIV_H

#include <linux/types.h>
#include <string.h>

#include "blob.h"

/* XT_MAX_TABLE_SIZE of net/netfilter/x_tables.c */
#define XT_TABLE_BYTES	(512u << 20)

/* sizeof(struct xt_entry_match), and of xt_entry_target */
#define PART_HDR	32
#define STANDARD_SIZE	40	/* struct xt_standard_target */
#define ERROR_SIZE	64	/* struct xt_error_target */
#define EXT_NAME_LEN	29	/* XT_EXTENSION_MAXNAMELEN */
#define ERROR_NAME_LEN	30	/* XT_FUNCTION_MAXNAMELEN */
#define REPLACE_SIZE	96	/* struct ipt_replace, struct ip6t_replace */

/*
 * Where struct ipt_entry and struct ip6t_entry differ, in offsets.  Alike:
 * both begin with src, dst, smsk, dmsk, the interface names and their masks.
 */
struct entry_row {
	__u16 ip_size;		/* of struct ipt_ip, ip6t_ip6: they come first */
	__u16 ifaces;		/* iniface */
	__u16 proto, flags, invflags;
	__u16 tos;		/* 0: there is none */
	__u16 target_offset, next_offset, comefrom, counters;
	__u8 flags_mask, goto_flag;
	__u8 proto_flag;	/* IPv6: there is a protocol; 0: there is no such flag */
};

const struct entry_row *entry_row(const struct xt_family *f);

static inline __u16 get16(const void *p)
{
	__u16 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline __u32 get32(const void *p)
{
	__u32 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* The header of a match or target is: u16 size, char name[29], u8 revision. */
static inline __u16 part_size(const __u8 *p)
{
	return get16(p);
}

static inline const char *part_name(const __u8 *p)
{
	return (const char *)p + 2;
}

static inline __u8 part_rev(const __u8 *p)
{
	return p[PART_HDR - 1];
}

/* The entry at @e is for any packet. */
static inline bool entry_unconditional(const struct xt_family *f, const __u8 *e)
{
	const struct entry_row *row = entry_row(f);

	return get16(e + row->target_offset) == f->entry_size && !e[0] &&
	       !memcmp(e, e + 1, row->ip_size - 1);
}

static inline bool part_is_standard(const __u8 *p)
{
	return !part_name(p)[0];
}

static inline bool part_is_error(const __u8 *p)
{
	return !memcmp(part_name(p), "ERROR", sizeof("ERROR"));
}

enum entry_kind {
	ENTRY_OTHER,
	ENTRY_JUMP,		/* a standard target with an offset */
	ENTRY_VERDICT,		/* a standard target with a verdict */
	ENTRY_END,		/* the same, unconditional */
	ENTRY_ERROR,
};

#define NO_ENTRY (~0u)

/* A table under check: the kernel's view of it, by index of entry. */
struct blob_check {
	const struct xt_family *family;
	const struct entry_row *row;
	const struct xt_replace_hdr *h;
	__u8 *blob;
	struct xt_err *err;
	__u32 n, nparts;	/* entries, matches */
	__u32 *offset;
	__u32 *jump;		/* ENTRY_JUMP: where to, or NO_ENTRY */
	__u32 *back;
	__u8 *kind;		/* enum entry_kind */
	__u8 *mark;		/* bit per hook from which it can be reached */
	__u32 entry[XT_HOOKS], underflow[XT_HOOKS];	/* NO_ENTRY: no such hook */
};

static inline __u8 *entry_at(const struct blob_check *c, __u32 i)
{
	return c->blob + c->offset[i];
}

static inline __u8 *target_of(const struct blob_check *c, __u8 *e)
{
	return e + get16(e + c->row->target_offset);
}

/* The limits of xt_alloc_table_info() and of this decoder. */
int blob_check_size(__u32 size, struct xt_err *err);

/*
 * translate_table() on c->blob, of which c->family, h and err are set; and the
 * same changes to it (counters zeroed, comefrom).  Either way
 * the caller frees c->offset, which holds all of c's arrays.
 */
int blob_check(struct blob_check *c);

#endif
