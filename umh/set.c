// SPDX-License-Identifier: GPL-2.0
#include <stdlib.h>
#include <string.h>

#include "set.h"

static __u32 hash_of(const void *rec, size_t size)
{
	const __u8 *p = rec;
	__u64 h = size, w;

	for (; size >= 8; size -= 8, p += 8) {
		memcpy(&w, p, 8);
		h = (h ^ w) * 0x9e3779b97f4a7c15;
		h ^= h >> 32;
	}
	for (w = 0; size--; p++)
		w = w << 8 | *p;
	h = (h ^ w) * 0xbf58476d1ce4e5b9;
	return h >> 32;
}

static __u32 *place(const struct set *s, const void *rec)
{
	__u32 i = hash_of(rec, s->size) & (s->nhash - 1);

	while (s->hash[i] && memcmp(s->rec + (size_t)(s->hash[i] - 1) * s->size, rec, s->size))
		i = (i + 1) & (s->nhash - 1);
	return &s->hash[i];
}

static void grow(struct set *s)
{
	s->cap = s->cap ? s->cap * 2 : 16;
	s->nhash = s->cap * 2;
	s->rec = realloc(s->rec, s->cap * s->size);
	free(s->hash);
	s->hash = calloc(s->nhash, sizeof(*s->hash));
	if (!s->rec || !s->hash)
		abort();
	for (__u32 i = 0; i < s->n; i++)
		*place(s, s->rec + (size_t)i * s->size) = i + 1;
}

__u32 set_index(struct set *s, const void *rec)
{
	__u32 *at;

	if (s->n == s->cap)
		grow(s);
	at = place(s, rec);
	if (!*at) {
		memcpy(s->rec + (size_t)s->n * s->size, rec, s->size);
		*at = ++s->n;
	}
	return *at - 1;
}

__u32 set_guess(struct set *s, const void *rec, __u32 *hint)
{
	if (*hint >= s->n || memcmp(s->rec + (size_t)*hint * s->size, rec, s->size))
		*hint = set_index(s, rec);
	return *hint;
}

__u32 set_find(const struct set *s, const void *rec)
{
	return s->n ? *place(s, rec) - 1 : SET_NONE;
}

void *set_at(const struct set *s, __u32 i)
{
	return s->rec + (size_t)i * s->size;
}

void set_free(struct set *s)
{
	free(s->rec);
	free(s->hash);
	*s = (struct set){ .size = s->size };
}
