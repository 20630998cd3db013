/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A set of records of one size, each known by its index, in order of arrival.
 * Zero-initialised but for .size; out of memory aborts, as in ir.h.
 */
#ifndef XTJIT_SET_H
#define XTJIT_SET_H

#include <linux/types.h>
#include <stddef.h>

struct set {
	size_t size;		/* of a record; its padding counts */
	__u8 *rec;
	__u32 n, cap;
	__u32 *hash, nhash;	/* index + 1, a power of two of them */
};

#define SET_NONE 0xffffffffu

/* The index of the record at @rec, which is added if it is not there. */
__u32 set_index(struct set *s, const void *rec);
/* The same; *@hint, kept from the last time, mostly is it already. */
__u32 set_guess(struct set *s, const void *rec, __u32 *hint);
/* The index, or SET_NONE. */
__u32 set_find(const struct set *s, const void *rec);
void *set_at(const struct set *s, __u32 i);
void set_free(struct set *s);

#endif
