// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "phash.h"

#define PER_BUCKET	4	/* keys, on average */
#define MAX_BUCKET	64	/* more in one: another seed */

static __u64 splitmix(__u64 *x)
{
	__u64 z = *x += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

void phash_init(struct phash *p, __u32 n, __u32 seed)
{
	__u64 x = seed;

	p->nbuckets = n / PER_BUCKET + 1;
	p->nslots = n + n / 5 + 1;
	for (int i = 0; i < PHASH_WORDS; i++)
		p->mul[i] = splitmix(&x) | 1;
}

struct build {
	__u32 *start;		/* of each bucket's keys */
	__u64 *key;		/* hashes, by bucket */
	__u32 *order;		/* buckets, the largest first */
	__u64 *used;		/* bit per slot */
};

/* Hashes by bucket. */
static void scatter(const struct phash *p, struct build *b, const __u64 *hash, __u32 n)
{
	for (__u32 i = 0; i < n; i++)
		b->start[phash_bucket(p, hash[i]) + 1]++;
	for (__u32 i = 0; i < p->nbuckets; i++)
		b->start[i + 1] += b->start[i];
	for (__u32 i = 0; i < n; i++)
		b->key[b->start[phash_bucket(p, hash[i])]++] = hash[i];
	memmove(b->start + 1, b->start, p->nbuckets * sizeof(*b->start));
	b->start[0] = 0;
}

static bool by_size(const struct phash *p, struct build *b)
{
	__u32 count[MAX_BUCKET + 2] = { 0 };

	for (__u32 i = 0; i < p->nbuckets; i++) {
		__u32 size = b->start[i + 1] - b->start[i];

		if (size > MAX_BUCKET)
			return false;
		count[MAX_BUCKET - size + 1]++;
	}
	for (int i = 0; i <= MAX_BUCKET; i++)
		count[i + 1] += count[i];
	for (__u32 i = 0; i < p->nbuckets; i++)
		b->order[count[MAX_BUCKET - (b->start[i + 1] - b->start[i])]++] = i;
	return true;
}

static bool take(struct build *b, __u32 slot)
{
	__u64 bit = 1ULL << slot % 64;

	if (b->used[slot / 64] & bit)
		return false;
	b->used[slot / 64] |= bit;
	return true;
}

static bool fits(const struct phash *p, struct build *b, const __u64 *key, __u32 n, __u32 d)
{
	for (__u32 i = 0; i < n; i++) {
		if (take(b, phash_slot(p, key[i], d)))
			continue;
		while (i--) {
			__u32 slot = phash_slot(p, key[i], d);

			b->used[slot / 64] &= ~(1ULL << slot % 64);
		}
		return false;
	}
	return true;
}

static int displace(const struct phash *p, struct build *b, __u16 *disp)
{
	for (__u32 i = 0; i < p->nbuckets; i++) {
		__u32 k = b->order[i], n = b->start[k + 1] - b->start[k], d = 0;

		while (n && d <= 0xffff && !fits(p, b, b->key + b->start[k], n, d))
			d++;
		if (d > 0xffff)
			return -EAGAIN;
		disp[k] = d;
	}
	return 0;
}

int phash_build(const struct phash *p, const __u64 *hash, __u32 n, __u16 *disp)
{
	struct build b = {
		.start = calloc(p->nbuckets + 2, sizeof(*b.start)),
		.key = malloc((n + 1) * sizeof(*b.key)),
		.order = malloc((p->nbuckets + 1) * sizeof(*b.order)),
		.used = calloc(p->nslots / 64 + 1, sizeof(*b.used)),
	};
	int ret = -ENOMEM;

	if (b.start && b.key && b.order && b.used) {
		scatter(p, &b, hash, n);
		ret = by_size(p, &b) ? displace(p, &b, disp) : -EAGAIN;
	}
	free(b.start);
	free(b.key);
	free(b.order);
	free(b.used);
	return ret;
}
