// SPDX-License-Identifier: GPL-2.0
/*
 * Keys in and out of the tables of a family whose shape stays: the same lengths,
 * tables of the same size.  What an entry has is told by the group's references:
 * it is the first rule, or the list, of all that have its key or a shorter
 * prefix of it.  A reference is known by a hash: the rule itself is asked before
 * it is believed.
 */
#include <errno.h>
#include <string.h>

#include "classify_slot.h"

#define AFFECTED	512	/* entries that one key may change */
#define LEVELS		129
#define VALUES		32	/* rules of one entry that are looked at */

/* Bits of the key's words that count at that length. */
static void mask_words(const struct edit *x, const struct cl_family *f, int level, __u64 *word)
{
	__u64 mask[PHASH_WORDS] = { 0 };

	for (int k = 0; k < f->nparts; k++) {
		const struct cl_part *p = &f->parts[k];
		int len = p->field == f->vary ? f->tables[level].len : f->len[p->field];

		mask[p->word] |= cl_part_mask(x->old, p, len) << p->shift;
	}
	for (int k = 0; k < f->nwords; k++)
		word[k] &= mask[k];
}

/*
 * What an entry has
 */

static __u32 room_for(const struct edit *x)
{
	return 64 * (x->e->nadd + x->e->ndel) + 256;
}

size_t edit_more(const struct edit *x)
{
	if (!x->tables || !x->g->nnodes)
		return 0;
	return (x->g->nnodes + room_for(x)) * sizeof(__u32[2]) + 8;
}

int edit_room(struct edit *x)
{
	struct ir_group *g = x->g;
	size_t bytes = g->nnodes * sizeof(__u32[2]), more;
	__u64 at;

	if (!g->nnodes)
		return 0;
	/* what was left behind by earlier changes is too much */
	if (x->im.size > 2 * x->old->image->planned + (1 << 16))
		return -EAGAIN;
	x->room = room_for(x);
	more = x->room * sizeof(__u32[2]);
	if (g->nodes + bytes == x->im.size) {
		cl_image_add(&x->im, more);
		return 0;
	}
	at = cl_image_add(&x->im, bytes + more);
	memcpy(x->im.p + at, x->im.p + g->nodes, bytes);
	g->nodes = at;
	return 0;
}

void edit_trim(struct edit *x)
{
	if (x->room)
		x->im.size = x->g->nodes + x->g->nnodes * sizeof(__u32[2]);
	x->room = 0;
}

static __u32 (*node(const struct edit *x, __u32 i))[2]
{
	return (void *)(x->im.p + x->g->nodes + i * sizeof(__u32[2]));
}

/* A list of @n values; CL_NONE if there are none; *ok is set to false if there is no room. */
static __u32 make_list(struct edit *x, const __u32 *v, __u32 n, bool *ok)
{
	__u32 next = CL_NONE;

	*ok = n <= x->room && x->g->nnodes;
	while (*ok && n--) {
		(*node(x, x->g->nnodes))[0] = v[n];
		(*node(x, x->g->nnodes))[1] = next;
		next = x->g->nnodes++;
		x->room--;
	}
	return next;
}

static bool goes_on(const struct edit *x, __u32 value)
{
	return x->g->resumes && x->g->acts[value & 0xff].on;
}

/* All rules of an entry, in order, up to the first that ends the search. */
struct values {
	__u32 v[VALUES], n;
	int level[VALUES];	/* of the key by which it is there */
};

/* False: there are too many. */
static bool add_value(struct values *s, __u32 value, int level)
{
	__u32 i = s->n;

	while (i && s->v[i - 1] > value)
		i--;
	if (i && s->v[i - 1] == value)
		return true;
	if (s->n == VALUES)
		return false;
	memmove(s->v + i + 1, s->v + i, (s->n - i) * sizeof(s->v[0]));
	memmove(s->level + i + 1, s->level + i, (s->n - i) * sizeof(s->level[0]));
	s->v[i] = value;
	s->level[i] = level;
	s->n++;
	return true;
}

/* From the references to the key, and to its shorter prefixes. */
static bool find_values(struct edit *x, const struct at *a, struct values *s)
{
	const struct cl_family *f = &x->g->families[a->family];
	__u32 hash[LEVELS];

	s->n = 0;
	for (int k = 0; k <= a->level; k++) {
		__u64 word[PHASH_WORDS];

		memcpy(word, a->k.word, sizeof(word));
		if (f->nwords)
			mask_words(x, f, k, word);
		hash[k] = cl_ref_hash(f, word, f->nwords ? f->tables[k].len : 0);
	}
	for (__u32 i = 0; i < x->g->nrefs; i++)
		for (int k = 0; k <= a->level; k++)
			if (x->g->refs[i].hash == hash[k] &&
			    !add_value(s, x->g->refs[i].value, k))
				return false;
	return true;
}

/* What is there by its hash is there indeed. */
static bool verify(struct edit *x, const struct at *a, const struct values *s, __u32 n)
{
	const struct cl_family *f = &x->g->families[a->family];

	for (__u32 i = 0; i < n; i++) {
		struct at key = *a;

		key.level = s->level[i];
		if (f->nwords) {
			mask_words(x, f, key.level, key.k.word);
			key.k.len = f->tables[key.level].len;
		}
		if (!edit_has_key(x, s->v[i] >> 8, &key))
			return false;
	}
	return true;
}

/* What the entry is to have, of its references. 0 or -EAGAIN. */
static int value_of(struct edit *x, const struct at *a, __u32 *value)
{
	const struct cl_family *f = &x->g->families[a->family];
	struct values s;
	__u32 n = 0;
	bool ok = true;

	if (!find_values(x, a, &s))
		return -EAGAIN;
	while (n < s.n) {
		if (!goes_on(x, s.v[n++]))
			break;
	}
	if (!verify(x, a, &s, n) || n > CL_DEPTH)
		return -EAGAIN;
	if (f->depth) {
		*value = make_list(x, s.v, n, &ok);
		if ((int)n > f->depth)
			x->g->families[a->family].depth = n;
		return ok ? 0 : -EAGAIN;
	}
	*value = n ? s.v[0] : CL_NONE;
	return n > 1 ? -EAGAIN : 0;
}

/* The entry's rules are looked up again. */
static int renew(const struct tab *b, const struct at *a)
{
	__u32 value;
	int ret = value_of(b->x, a, &value);

	if (!ret)
		put_value(b, slot_of(b, a->k.word), value);
	return ret;
}

/* The rule is among those that the entry has. */
static bool has_value(const struct tab *b, __u32 i, __u32 value)
{
	__u32 is = get_value(b, i);

	if (!b->f->depth)
		return is == value;
	for (; is != CL_NONE; is = (*node(b->x, is))[1])
		if ((*node(b->x, is))[0] == value)
			return true;
	return false;
}

/*
 * The rule comes to an entry below its key, or goes.  Where none go on, the first
 * is all there is.
 */
static int change_entry(const struct tab *b, const struct at *a, __u32 value, bool comes)
{
	__u32 i = slot_of(b, a->k.word);

	if (comes && !b->x->g->resumes) {
		if (value < get_value(b, i))
			put_value(b, i, value);
		return 0;
	}
	return comes || has_value(b, i, value) ? renew(b, a) : 0;
}

/* All entries of longer prefixes below the key. */
static int change_below(struct edit *x, const struct at *a, __u32 value, bool comes)
{
	struct cl_family *f = &x->g->families[a->family];
	int changed = 0, ret = 0;

	for (int level = a->level + 1; level < f->ntables; level++) {
		struct tab b = tab(x, f, level);

		for (__u32 i = 0; i < b.t->ph.nslots && !ret; i++) {
			struct at below = { .family = a->family, .level = level };
			__u64 word[PHASH_WORDS];

			if (!used(&b, i, below.k.word))
				continue;
			memcpy(word, below.k.word, sizeof(word));
			mask_words(x, f, a->level, word);
			if (memcmp(word, a->k.word, sizeof(word)))
				continue;
			below.k.len = b.t->len;
			ret = ++changed > AFFECTED ? -EAGAIN :
			      change_entry(&b, &below, value, comes);
		}
	}
	return ret;
}

/*
 * Keys
 */

static bool take_ref(struct ir_group *g, __u32 hash, __u32 value)
{
	for (__u32 i = 0; i < g->nrefs; i++)
		if (g->refs[i].hash == hash && g->refs[i].value == value) {
			g->refs[i] = g->refs[--g->nrefs];
			return true;
		}
	return false;
}

/* A family without a key: its first rule. */
static int renew_first(struct edit *x, const struct at *a)
{
	return value_of(x, a, &x->g->families[a->family].first);
}

int edit_delete(struct edit *x, const struct at *a, __u32 value)
{
	struct cl_family *f = &x->g->families[a->family];
	struct tab b;
	int ret;

	if (f->deep || !take_ref(x->g, cl_ref_hash(f, a->k.word, a->k.len), value))
		return -EAGAIN;
	f->nrules--;
	if (!f->nwords)
		return renew_first(x, a);
	b = tab(x, f, a->level);
	if (!is_there(&b, a->k.word))
		return -EAGAIN;
	ret = has_value(&b, slot_of(&b, a->k.word), value) ? renew(&b, a) : 0;
	if (!ret && f->ntables == 1 && get_value(&b, slot_of(&b, a->k.word)) == CL_NONE)
		slot_release(&b, slot_of(&b, a->k.word));
	return ret ?: change_below(x, a, value, false);
}

/* Where bisection must go right to get to the key, there are markers; see classify_data.c. */
static int put_markers(struct edit *x, const struct at *a)
{
	struct cl_family *f = &x->g->families[a->family];
	int lo = 0, hi = f->ntables - 1, ret = 0;

	while (!ret && !f->spread) {
		int mid = cl_middle(f, lo, hi);
		struct at m = *a;
		struct tab b;

		if (mid == a->level)
			break;
		if (mid > a->level) {
			hi = mid - 1;
			continue;
		}
		b = tab(x, f, mid);
		m.level = mid;
		m.k.len = b.t->len;
		mask_words(x, f, mid, m.k.word);
		if (!is_there(&b, m.k.word)) {
			f->nmarkers++;
			ret = slot_put_key(&b, m.k.word) ?: renew(&b, &m);
		}
		lo = mid + 1;
	}
	return ret;
}

int edit_insert(struct edit *x, const struct at *a, __u32 value)
{
	struct cl_family *f = &x->g->families[a->family];
	struct ir_group *g = x->g;
	struct tab b;
	int ret = 0;

	if (f->deep)
		return -EAGAIN;
	g->refs = ir_grow(x->out->arena, g->refs, g->nrefs, sizeof(*g->refs));
	g->refs[g->nrefs++] = (struct cl_ref){ cl_ref_hash(f, a->k.word, a->k.len), value };
	f->nrules++;
	if (!f->nwords)
		return renew_first(x, a);
	if (value < f->first)
		f->first = value;
	b = tab(x, f, a->level);
	cl_sieve_add(g, &x->im, f, b.t, &a->k);
	if (!is_there(&b, a->k.word))
		ret = slot_put_key(&b, a->k.word) ?: put_markers(x, a);
	return ret ?: renew(&b, a) ?: change_below(x, a, value, true);
}
