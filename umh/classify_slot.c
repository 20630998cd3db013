// SPDX-License-Identifier: GPL-2.0
/* Keys in and out of a hash table whose size stays. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "classify_slot.h"

#define SEEDS		16	/* attempts at a perfect hash, where a table is built anew */
#define BUCKET		32	/* keys of one bucket; more: the table is built anew */

/*
 * What is free has the key of another that is in the table: one that is not
 * might be found there when its bucket is moved.
 */
void slot_release(const struct tab *b, __u32 i)
{
	__u32 n = b->t->ph.nslots, other = (i + 1) % n;
	__u64 gone[PHASH_WORDS], word[PHASH_WORDS];

	get_words(b, i, gone);
	while (other != i && !used(b, other, word))
		other = (other + 1) % n;
	if (other == i) {
		put_value(b, i, CL_NONE);	/* the only one: it stays, without a rule */
		return;
	}
	for (__u32 k = 0; k < n; k++) {
		get_words(b, k, word);
		if (memcmp(word, gone, sizeof(word)))
			continue;
		memcpy(slot_at(b, k), slot_at(b, other), b->f->slot_size);
		put_value(b, k, CL_NONE);
	}
	b->t->nkeys--;
}

/* The keys of a table and what they have, @extra first. */
static struct cl_items gather(const struct tab *b, const __u64 *extra)
{
	struct cl_items it = { .cap = b->t->ph.nslots + 1 };

	it.it = calloc(it.cap, sizeof(*it.it));
	if (!it.it)
		abort();
	memcpy(it.it[0].word, extra, b->f->nwords * sizeof(*extra));
	it.it[it.n++].value = CL_NONE;
	for (__u32 i = 0; i < b->t->ph.nslots; i++)
		if (used(b, i, it.it[it.n].word))
			it.it[it.n++].value = get_value(b, i);
	return it;
}

static void store_all(const struct tab *b, const struct cl_items *it)
{
	for (__u32 i = 0; i < b->t->ph.nslots; i++) {
		put_words(b, i, it->it[0].word);
		put_value(b, i, it->it[0].value);
	}
	for (__u32 i = 0; i < it->n; i++) {
		__u32 slot = slot_of(b, it->it[i].word);

		put_words(b, slot, it->it[i].word);
		put_value(b, slot, it->it[i].value);
	}
}

/* The same table with one more key; -EAGAIN: there is no room. */
static int build_anew(const struct tab *b, const __u64 *extra)
{
	struct cl_items it = gather(b, extra);
	__u64 *hash = malloc(it.n * sizeof(*hash));
	struct phash ph = b->t->ph;
	int ret = -EAGAIN;

	if (!hash)
		abort();
	for (int seed = 1; it.n + it.n / 16 < ph.nslots && ret == -EAGAIN && seed <= SEEDS; seed++) {
		phash_init(&ph, 1, seed);
		ph.nbuckets = b->t->ph.nbuckets;
		ph.nslots = b->t->ph.nslots;
		for (__u32 i = 0; i < it.n; i++)
			hash[i] = phash_hash(&ph, it.it[i].word, b->f->nwords);
		ret = phash_build(&ph, hash, it.n, (void *)(b->x->im.p + b->t->disp));
	}
	free(hash);
	if (!ret) {
		b->t->ph = ph;
		b->t->nkeys = it.n;
		store_all(b, &it);
	}
	free(it.it);
	return ret;
}

/* A bucket's keys, where they are, and which slots others have. */
struct bucket {
	__u32 n, slot[BUCKET], value[BUCKET];
	__u64 word[BUCKET][PHASH_WORDS], hash[BUCKET];
	__u64 *taken;			/* bit per slot */
};

static bool set_taken(struct bucket *k, __u32 slot, bool on)
{
	__u64 bit = 1ULL << slot % 64, was = k->taken[slot / 64] & bit;

	k->taken[slot / 64] = (k->taken[slot / 64] & ~bit) | (on ? bit : 0);
	return was;
}

/* The bucket of the key, which is its first. False: it is too large. */
static bool find_bucket(const struct tab *b, const __u64 *word, struct bucket *k)
{
	const struct phash *ph = &b->t->ph;
	const __u16 *disp = (void *)(b->x->im.p + b->t->disp);
	__u32 bucket;

	memcpy(k->word[0], word, sizeof(k->word[0]));
	k->hash[0] = phash_hash(ph, word, b->f->nwords);
	k->value[0] = CL_NONE;
	k->n = 1;
	bucket = phash_bucket(ph, k->hash[0]);
	for (__u32 i = 0; i < ph->nslots; i++) {
		__u64 h, there[PHASH_WORDS];

		get_words(b, i, there);
		h = phash_hash(ph, there, b->f->nwords);
		if (phash_slot(ph, h, disp[phash_bucket(ph, h)]) != i)
			continue;
		/* its own, too: packets may be under way to what is there */
		set_taken(k, i, true);
		if (phash_bucket(ph, h) != bucket)
			continue;
		if (k->n == BUCKET)
			return false;
		memcpy(k->word[k->n], there, sizeof(there));
		k->hash[k->n] = h;
		k->slot[k->n] = i;
		k->value[k->n++] = get_value(b, i);
	}
	return true;
}

static bool fits(const struct tab *b, struct bucket *k, __u32 d)
{
	__u32 n = 0;

	while (n < k->n && !set_taken(k, phash_slot(&b->t->ph, k->hash[n], d), true))
		n++;
	if (n == k->n)
		return true;
	while (n--)
		set_taken(k, phash_slot(&b->t->ph, k->hash[n], d), false);
	return false;
}

/* Another displacement for the key's bucket, one that has a free slot for it, too. */
static bool move_bucket(const struct tab *b, const __u64 *word, struct bucket *k)
{
	const struct phash *ph = &b->t->ph;
	__u16 *disp = (void *)(b->x->im.p + b->t->disp);
	__u32 d = 0;

	if (b->t->nkeys + b->t->nkeys / 16 + 1 >= ph->nslots || !find_bucket(b, word, k))
		return false;
	while (d <= 0xffff && !fits(b, k, d))
		d++;
	if (d > 0xffff)
		return false;
	disp[phash_bucket(ph, k->hash[0])] = d;
	for (__u32 i = 1; i < k->n; i++) {	/* free now */
		put_words(b, k->slot[i], word);
		put_value(b, k->slot[i], CL_NONE);
	}
	for (__u32 i = 0; i < k->n; i++) {
		__u32 slot = phash_slot(ph, k->hash[i], d);

		put_words(b, slot, k->word[i]);
		put_value(b, slot, k->value[i]);
	}
	b->t->nkeys++;
	return true;
}

int slot_put_key(const struct tab *b, const __u64 *word)
{
	__u32 i = slot_of(b, word);
	__u64 there[PHASH_WORDS];
	struct bucket k;
	bool moved;

	if (!used(b, i, there)) {
		put_words(b, i, word);
		put_value(b, i, CL_NONE);
		b->t->nkeys++;
		return 0;
	}
	k.taken = calloc(b->t->ph.nslots / 64 + 1, sizeof(*k.taken));
	if (!k.taken)
		abort();
	moved = move_bucket(b, word, &k);
	free(k.taken);
	return moved ? 0 : build_anew(b, word);
}
