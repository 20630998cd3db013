/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One hash table of a family, slot by slot, while a change is made: a slot has a
 * key's words and its value.  classify_slot.c puts keys in and takes them out.
 */
#ifndef XTJIT_CLASSIFY_SLOT_H
#define XTJIT_CLASSIFY_SLOT_H

#include <string.h>

#include "classify_edit.h"

/* One table of a family. */
struct tab {
	struct edit *x;
	struct cl_family *f;
	struct cl_table *t;
	int level;
};

static inline struct tab tab(struct edit *x, struct cl_family *f, int level)
{
	return (struct tab){ .x = x, .f = f, .t = &f->tables[level], .level = level };
}

static inline __u8 *slot_at(const struct tab *b, __u32 i)
{
	return b->x->im.p + b->t->slots + (size_t)i * b->f->slot_size;
}

static inline __u32 get_value(const struct tab *b, __u32 i)
{
	__u32 v;

	memcpy(&v, slot_at(b, i) + b->f->slot_size - 4, 4);
	return v;
}

static inline void put_value(const struct tab *b, __u32 i, __u32 v)
{
	memcpy(slot_at(b, i) + b->f->slot_size - 4, &v, 4);
}

static inline void get_words(const struct tab *b, __u32 i, __u64 *word)
{
	memset(word, 0, PHASH_WORDS * sizeof(*word));
	for (int k = 0; k < b->f->nwords; k++)
		memcpy(&word[k], slot_at(b, i) + b->f->word_at[k], b->f->word_size[k]);
}

static inline void put_words(const struct tab *b, __u32 i, const __u64 *word)
{
	for (int k = 0; k < b->f->nwords; k++)
		memcpy(slot_at(b, i) + b->f->word_at[k], &word[k], b->f->word_size[k]);
}

static inline __u32 slot_of(const struct tab *b, const __u64 *word)
{
	const struct phash *ph = &b->t->ph;
	const __u16 *disp = (void *)(b->x->im.p + b->t->disp);
	__u64 h = phash_hash(ph, word, b->f->nwords);

	return phash_slot(ph, h, disp[phash_bucket(ph, h)]);
}

/* What is free has a key whose slot is another. */
static inline bool used(const struct tab *b, __u32 i, __u64 *word)
{
	get_words(b, i, word);
	return slot_of(b, word) == i;
}

static inline bool is_there(const struct tab *b, const __u64 *word)
{
	__u64 there[PHASH_WORDS];

	get_words(b, slot_of(b, word), there);
	return !memcmp(there, word, b->f->nwords * sizeof(*word));
}

/* An entry for the key, without a rule as yet: 0; -EAGAIN: there is no room. */
int slot_put_key(const struct tab *b, const __u64 *word);
/* Takes out the key in slot @i. */
void slot_release(const struct tab *b, __u32 i);

#endif
