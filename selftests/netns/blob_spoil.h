/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Spoils a SO_SET_REPLACE request at random: any byte, and the fields that the
 * checks look at with values that nearly fit.
 */
#ifndef XTJIT_BLOB_SPOIL_H
#define XTJIT_BLOB_SPOIL_H

#include <string.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>

#include "../../umh/blob.h"

#define ARG_HDR		96	/* struct ipt_replace */
#define ARG_MAX		65536
#define MAX_ENTRIES	1024
#define PART		32	/* header of a match, a target */

static __u64 prng_state = 1;

/* xorshift64* */
static __u32 prng(__u32 below)
{
	prng_state ^= prng_state >> 12;
	prng_state ^= prng_state << 25;
	prng_state ^= prng_state >> 27;
	return ((prng_state * 2685821657736338717ull) >> 32) % below;
}

/* A request that is to be spoiled, and where its entries begin. */
struct request {
	const struct xt_family *f;
	__u32 len;			/* as given to setsockopt() */
	__u32 n, offset[MAX_ENTRIES];
	union {
		unsigned char arg[ARG_MAX];
		struct xt_replace_hdr h;
	};
};

static unsigned char *entry(struct request *r, __u32 i)
{
	return r->arg + ARG_HDR + r->offset[i];
}

static __u16 *target_offset(struct request *r, unsigned char *e)
{
	return r->f == &xt_family_ip6 ? &((struct ip6t_entry *)e)->target_offset
				      : &((struct ipt_entry *)e)->target_offset;
}

static __u16 *next_offset(struct request *r, unsigned char *e)
{
	return r->f == &xt_family_ip6 ? &((struct ip6t_entry *)e)->next_offset
				      : &((struct ipt_entry *)e)->next_offset;
}

static unsigned char *target(struct request *r, __u32 i)
{
	return entry(r, i) + *target_offset(r, entry(r, i));
}

/* Finds the entries, as far as they are sane. */
static void find_entries(struct request *r)
{
	__u32 off = 0, left = r->h.size;

	if (left > ARG_MAX - ARG_HDR)
		left = 0;
	for (r->n = 0; left >= r->f->entry_size && r->n < MAX_ENTRIES && off % 8 == 0;) {
		unsigned char *e = r->arg + ARG_HDR + off;
		__u32 next = *next_offset(r, e), to = *target_offset(r, e);

		if (next > left || to + PART > next || to < r->f->entry_size)
			break;
		r->offset[r->n++] = off;
		off += next;
		left -= next;
	}
}

/* What spoils a request; each has something to work on, or does nothing. */

static void flip_entry_bytes(struct request *r)
{
	if (r->h.size && r->h.size <= ARG_MAX - ARG_HDR)
		r->arg[ARG_HDR + prng(r->h.size)] = prng(2) ? prng(256) : prng(16);
}

static void flip_header_bytes(struct request *r)
{
	r->arg[prng(88)] = prng(2) ? prng(256) : prng(8);
}

static __u16 nearby(__u16 v)
{
	static const __s16 steps[] = { 1, -1, 4, -4, 8, -8, 16, -16, 32, -32, 40, -40, 64, 152 };

	switch (prng(8)) {
	case 0:
		return prng(65536);
	case 1:
		return 0;
	case 2:
		return 65528;
	}
	return v + steps[prng(sizeof(steps) / sizeof(*steps))];
}

static void change_offsets(struct request *r)
{
	unsigned char *e = entry(r, prng(r->n));
	__u16 *field = prng(2) ? target_offset(r, e) : next_offset(r, e);

	*field = nearby(*field);
}

/* Any byte of the selectors: among them flags and invflags. */
static void change_selector(struct request *r)
{
	__u32 size = r->f == &xt_family_ip6 ? sizeof(struct ip6t_ip6) : sizeof(struct ipt_ip);
	unsigned char *e = entry(r, prng(r->n));
	__u32 at = prng(2) ? prng(size) : size - 1 - prng(8);

	e[at] = prng(3) ? 1 << prng(8) : 0;
}

static void change_part(struct request *r)
{
	__u32 i = prng(r->n);
	unsigned char *p = prng(2) ? target(r, i) : entry(r, i) + r->f->entry_size;
	__u16 size;

	switch (prng(5)) {
	case 0:
		memcpy(&size, p, sizeof(size));
		size = nearby(size);
		memcpy(p, &size, sizeof(size));
		break;
	case 1:
		p[PART - 1] = prng(3);
		break;
	case 2:
		memset(p + 2, 'x', 29);
		break;
	case 3:
		strcpy((char *)p + 2, prng(2) ? "ERROR" : "");
		break;
	default:
		p[2 + prng(6)] = prng(2) ? 0 : 'R';
	}
}

static int some_verdict(struct request *r)
{
	switch (prng(8)) {
	case 0:
		return -(int)prng(8);
	case 1:
		return prng(r->h.size + 16);
	case 2:
		return prng(2) ? (int)r->h.size : (int)prng(~0u);
	}
	return r->offset[prng(r->n)];
}

static int get_verdict(struct request *r, __u32 i)
{
	int verdict;

	memcpy(&verdict, target(r, i) + PART, sizeof(verdict));
	return verdict;
}

static void set_verdict(struct request *r, __u32 i, int verdict)
{
	unsigned char *t = target(r, i);

	if (!t[2] && *next_offset(r, entry(r, i)) - *target_offset(r, entry(r, i)) >= 36)
		memcpy(t + PART, &verdict, sizeof(verdict));
}

static void change_verdict(struct request *r)
{
	set_verdict(r, prng(r->n), some_verdict(r));
}

/* Other jumps: loops, or none. */
static void change_jumps(struct request *r)
{
	for (__u32 i = 0; i < r->n; i++)
		if (!target(r, i)[2] && get_verdict(r, i) > 0 && prng(2))
			set_verdict(r, i, r->offset[prng(r->n)]);
}

static __u32 some_offset(struct request *r)
{
	return prng(8) ? r->offset[prng(r->n)] : prng(r->h.size + 16);
}

static void change_hooks(struct request *r)
{
	__u32 i = prng(XT_HOOKS), j = prng(XT_HOOKS), *at = prng(2) ? r->h.hook_entry
								     : r->h.underflow;
	__u32 tmp = at[i];

	switch (prng(4)) {
	case 0:
		r->h.valid_hooks ^= 1u << prng(prng(4) ? 5 : 32);
		break;
	case 1:
		at[i] = at[j];
		at[j] = tmp;
		break;
	default:
		at[i] = some_offset(r);
	}
}

static void change_numbers(struct request *r)
{
	static const __u32 counters[] = { 0, 1, 134217725, 134217726, 134217727, 33554433, ~0u };

	switch (prng(4)) {
	case 0:
		r->h.num_entries += prng(5) - 2;
		break;
	case 1:
		r->h.size += prng(2) ? 8 * (prng(41) - 20) : prng(33) - 16;
		break;
	case 2:
		r->h.num_counters = counters[prng(sizeof(counters) / sizeof(*counters))];
		break;
	default:
		r->len += prng(2) ? prng(17) - 8 : -prng(r->len);
	}
}

static void change_table(struct request *r)
{
	static const char *const names[] = {
		"", "filter", "mangle", "raw", "security", "nat", "filte", "broute", "Filter",
	};

	if (prng(4))
		strcpy(r->h.name, names[prng(sizeof(names) / sizeof(*names))]);
	else
		memset(r->h.name, 'x', sizeof(r->h.name));
}

/* Moves the offsets behind @from: what was well-formed stays so. */
static void shift_offsets(struct request *r, __u32 from, int by)
{
	for (int h = 0; h < XT_HOOKS; h++) {
		if (r->h.hook_entry[h] > from)
			r->h.hook_entry[h] += by;
		if (r->h.underflow[h] > from)
			r->h.underflow[h] += by;
	}
	for (__u32 i = 0; i < r->n; i++) {
		int v = get_verdict(r, i);

		if (!target(r, i)[2] && v > (int)from)
			set_verdict(r, i, v + by);
	}
}

/* Takes an entry out, or doubles it. */
static void change_count(struct request *r)
{
	__u32 i = prng(r->n), end = r->h.size;
	int by = *next_offset(r, entry(r, i));
	unsigned char *e = entry(r, i);

	if (end + by > ARG_MAX - ARG_HDR)
		return;
	if (prng(4))
		shift_offsets(r, r->offset[i], prng(2) ? by : -by);
	if (prng(2)) {
		memmove(e + by, e, end - r->offset[i]);
		r->h.num_entries++;
	} else {
		memmove(e, e + by, end - r->offset[i] - by);
		r->h.num_entries--;
		by = -by;
	}
	r->h.size += by;
	r->len += by;
}

/* Some bytes after an entry that it takes for its own. */
static void insert_gap(struct request *r)
{
	__u32 i = prng(r->n), end = r->h.size, by = prng(2) ? 8 : 1 + prng(16);
	unsigned char *e = entry(r, i);
	__u32 next = *next_offset(r, e);

	if (end + by > ARG_MAX - ARG_HDR || next + by > 65535)
		return;
	shift_offsets(r, r->offset[i], by);
	memmove(e + next + by, e + next, end - r->offset[i] - next);
	*next_offset(r, e) += by;
	r->h.size += by;
	r->len += by;
}

static void (*const changes[])(struct request *r) = {
	flip_entry_bytes, flip_entry_bytes, flip_header_bytes, change_offsets, change_offsets,
	change_selector, change_selector, change_part, change_part, change_verdict,
	change_verdict, change_verdict, change_jumps, change_jumps, change_hooks, change_hooks,
	change_numbers, change_table, change_count, change_count, insert_gap, insert_gap,
};

static void spoil(struct request *r)
{
	__u32 n = 1 + (prng(2) ? prng(4) : 0);

	while (n--) {
		__u32 i = prng(sizeof(changes) / sizeof(*changes));

		find_entries(r);
		if (r->n)
			changes[i](r);
	}
	/* the kernel would allocate and clear up to 512 MB for these */
	if (r->h.num_entries > MAX_ENTRIES && r->h.num_entries <= 1 << 27)
		r->h.num_entries = (1 << 27) + 1;
	if (r->h.num_counters > 4 * MAX_ENTRIES && r->h.num_counters <= 1 << 25)
		r->h.num_counters = (1 << 25) + 1;
	if (r->len > ARG_MAX)
		r->len = 0;
	find_entries(r);
}

#endif
