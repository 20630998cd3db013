/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Builds the blobs of the decoder's tests, entry by entry.
 */
#ifndef XTJIT_BLOB_TABLE_H
#define XTJIT_BLOB_TABLE_H

#include <stdlib.h>
#include <string.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>

#include "blob.h"

#define HDR	32		/* of a match, a target */

/* A table under construction. */
struct table {
	const struct xt_family *f;
	struct xt_replace_hdr h;
	unsigned char *blob;
	size_t room;
	__u32 *offset;		/* of each entry */
};

static inline bool is_ip6(const struct table *t)
{
	return t->f == &xt_family_ip6;
}

#define FIELD(t, e, member) (is_ip6(t) ? (void *)&((struct ip6t_entry *)(e))->member \
				       : (void *)&((struct ipt_entry *)(e))->member)
#define IPFIELD(t, e, member) (is_ip6(t) ? (void *)&((struct ip6t_entry *)(e))->ipv6.member \
					 : (void *)&((struct ipt_entry *)(e))->ip.member)

static inline void table_init(struct table *t, const struct xt_family *f, __u32 entries)
{
	memset(t, 0, sizeof(*t));
	t->f = f;
	t->room = (size_t)entries * (f->entry_size + 64) + 4096;
	t->blob = calloc(1, t->room);
	t->offset = calloc(entries, sizeof(__u32));
	strcpy(t->h.name, "filter");
	t->h.valid_hooks = 0xe;
	t->h.num_counters = 4;
}

static inline void table_free(struct table *t)
{
	free(t->blob);
	free(t->offset);
}

static inline unsigned char *entry(const struct table *t, __u32 i)
{
	return t->blob + t->offset[i];
}

static inline unsigned char *target(const struct table *t, __u32 i)
{
	return entry(t, i) + *(__u16 *)FIELD(t, entry(t, i), target_offset);
}

static inline unsigned char *part(unsigned char *p, const char *name, __u16 size)
{
	memcpy(p, &size, sizeof(size));
	strcpy((char *)p + 2, name);
	return p + HDR;
}

static inline void set_proto(const struct table *t, unsigned char *e, __u16 proto)
{
	*(__u16 *)IPFIELD(t, e, proto) = proto;
	if (is_ip6(t))
		((struct ip6t_entry *)e)->ipv6.flags |= IP6T_F_PROTO;
}

/* Adds an entry with @msize bytes of tcp match (or 0), and returns its target's data. */
static inline unsigned char *add(struct table *t, __u16 msize, const char *name, __u16 tsize)
{
	unsigned char *e = t->blob + t->h.size;
	__u16 toff = t->f->entry_size + msize, next = toff + tsize;

	t->offset[t->h.num_entries++] = t->h.size;
	t->h.size += next;
	memcpy(FIELD(t, e, target_offset), &toff, sizeof(toff));
	memcpy(FIELD(t, e, next_offset), &next, sizeof(next));
	if (msize) {
		set_proto(t, e, 6);
		part(e + t->f->entry_size, "tcp", msize);
	}
	return part(e + toff, name, tsize);
}

static inline void add_standard(struct table *t, int verdict)
{
	memcpy(add(t, 0, "", 40), &verdict, sizeof(verdict));
}

static inline void add_error(struct table *t, const char *name)
{
	strcpy((char *)add(t, 0, "ERROR", 64), name);
}

static inline void set_verdict(struct table *t, __u32 i, int verdict)
{
	memcpy(target(t, i) + HDR, &verdict, sizeof(verdict));
}

#define V(nf) (-(nf) - 1)

#endif
