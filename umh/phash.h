/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Perfect hashing: each of n keys has a slot of its own, found without probing.
 *
 *	h = hash of the key's words		(64 bits)
 *	b = low half of h, scaled to nbuckets	-> the bucket's displacement d, 16 bits
 *	slot = high half of h * (2 d + 1), scaled to nslots
 *
 * where scaling a 32-bit x to n is x * n >> 32.  About four keys share a
 * bucket, and for each bucket a displacement was found that sends its keys to
 * slots that are free: two memory accesses, hit or miss, and no loop, which is
 * what a program likes (and its verifier).
 */
#ifndef XTJIT_PHASH_H
#define XTJIT_PHASH_H

#include <linux/types.h>

#define PHASH_WORDS 6

struct phash {
	__u32 nbuckets, nslots;
	__u64 mul[PHASH_WORDS];		/* odd */
};

/* The shape for @n keys, and the multipliers of attempt @seed. */
void phash_init(struct phash *p, __u32 n, __u32 seed);

/* w *= mul, h ^= h >> 32, for each of the words; what programs compute. */
static inline __u64 phash_hash(const struct phash *p, const __u64 *word, int words)
{
	__u64 h = 0;

	for (int i = 0; i < words; i++) {
		h = (h + word[i]) * p->mul[i];
		h ^= h >> 32;
	}
	return h;
}

static inline __u32 phash_scale(__u32 x, __u32 n)
{
	return (__u64)x * n >> 32;
}

static inline __u32 phash_bucket(const struct phash *p, __u64 h)
{
	return phash_scale((__u32)h, p->nbuckets);
}

static inline __u32 phash_slot(const struct phash *p, __u64 h, __u32 d)
{
	return phash_scale(h * (2 * (__u64)d + 1) >> 32, p->nslots);
}

/*
 * Finds a displacement for each bucket, so that the @n hashes (of distinct
 * keys) have slots of their own.  0; -EAGAIN if there is none with these
 * multipliers; -ENOMEM.
 */
int phash_build(const struct phash *p, const __u64 *hash, __u32 n, __u16 *disp);

#endif
