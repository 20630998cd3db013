// SPDX-License-Identifier: GPL-2.0
/*
 * A change in place: what classify_edit() made differs from the table in force by some slots
 * of its hash tables only, and the programs in force need not be others.
 *
 * Packets look all the time.  So keys are written where no key of the table is, and slots
 * that are free have no rule (value CL_NONE): until its value comes, a key is not there.  A
 * bucket that has to make room is there twice for a moment, and then its displacement changes;
 * what it had before stays as it is, for packets that have read the displacement already, until
 * a grace period has gone by: struct cl_stale.  All that alters nothing.  Then a value, or that
 * there is none, is the change itself.
 */
#include <stdlib.h>

#include "classify_slot.h"
#include "compile.h"

/* For each of the tables, as it is in force and as it is to be: until @fn says false. */
static bool each_table(const struct ir_table *old, const struct ir_table *new,
		       bool (*fn)(struct tab *old, struct tab *new, void *arg), void *arg)
{
	struct edit x = { .im = *old->image }, y = { .im = *new->image };

	for (__u32 i = 0; i < old->ngroups; i++)
		for (__u32 k = 0; k < old->groups[i].nfamilies; k++)
			for (int n = 0; n < old->groups[i].families[k].ntables; n++) {
				struct tab a = tab(&x, &old->groups[i].families[k], n);
				struct tab b = tab(&y, &new->groups[i].families[k], n);

				if (!fn(&a, &b, arg))
					return false;
			}
	return true;
}

static bool same_family(const struct cl_family *a, const struct cl_family *b)
{
	if (a->id != b->id || a->first != b->first || a->depth != b->depth ||
	    a->deep != b->deep || a->ntables != b->ntables)
		return false;
	for (int i = 0; i < a->ntables; i++)
		if (memcmp(&a->tables[i].ph, &b->tables[i].ph, sizeof(a->tables[i].ph)))
			return false;
	return true;
}

/* The same programs would be made of both. */
static bool same_programs(const struct ir_table *a, const struct ir_table *b)
{
	if (a->ncounters != b->ncounters || a->image->size != b->image->size ||
	    a->image->apart != b->image->apart || a->image->fd < 0)
		return false;
	for (__u32 i = 0; i < a->nchains; i++)
		if (a->chains[i].nrules != b->chains[i].nrules)
			return false;
	for (__u32 i = 0; i < a->ngroups; i++) {
		const struct ir_group *x = &a->groups[i], *y = &b->groups[i];

		if (x->nnodes != y->nnodes || x->nodes != y->nodes)
			return false;
		for (__u32 k = 0; k < x->nfamilies; k++)
			if (!same_family(&x->families[k], &y->families[k]))
				return false;
	}
	return true;
}

static __u64 value_at(const struct tab *b, __u32 slot)
{
	return b->t->slots + (size_t)slot * b->f->slot_size + b->f->slot_size - 4;
}

/* Where the slot is in a CPU's counters; 0: nowhere. */
static __u64 counted_at(const struct tab *b, __u32 slot)
{
	if (b->t->counter == CL_NONE)
		return 0;
	return b->t->counter * 8ull + (__u64)slot * counted_size(cl_counted_size(b->f));
}

static bool is_stale(const struct cl_stale *s, __u64 image)
{
	for (__u32 i = 0; i < s->n; i++)
		if (s->slot[i].image == image)
			return true;
	return false;
}

/* The slot has a rule. */
static bool has_rule(const struct tab *b, __u32 i, __u64 *word)
{
	return used(b, i, word) && get_value(b, i) != CL_NONE;
}

/* The key has that value. */
static bool has_it(const struct tab *b, const __u64 *word, __u32 value)
{
	return is_there(b, word) && get_value(b, slot_of(b, word)) == value;
}

static bool has_any(const struct tab *b, const __u64 *word)
{
	return is_there(b, word) && get_value(b, slot_of(b, word)) != CL_NONE;
}

struct taking {
	const struct cl_stale *stale;
	struct cl_change *c;
};

/* Slot @i differs: what is to be done; false: it cannot be. */
static bool take_slot(const struct tab *old, const struct tab *new, __u32 i, struct taking *t)
{
	__u64 was[PHASH_WORDS], is[PHASH_WORDS];
	bool had = has_rule(old, i, was), has = has_rule(new, i, is);
	struct cl_change *c = t->c;
	struct cl_slot_change *s = &c->slot[c->n];

	if (!had && !has)	/* free, with another key */
		return used(new, i, is) == used(old, i, was);
	if ((had && has) || c->n == CL_CHANGES || old->f->ntables != 1 || old->f->depth ||
	    is_stale(t->stale, value_at(old, i)))
		return false;
	*s = (struct cl_slot_change){
		.image = value_at(old, i), .counted = counted_at(old, i),
		.value = get_value(had ? old : new, i), .slot_size = old->f->slot_size,
		.size = counted_size(cl_counted_size(old->f)),
	};
	if (had) {
		s->kind = has_it(new, was, s->value) ? CL_LEAVES : CL_GOES;
		if (s->kind == CL_GOES && has_any(new, was))
			return false;
	} else {
		s->kind = has_it(old, is, s->value) ? CL_COPIED : CL_COMES;
		if (s->kind == CL_COMES && has_any(old, is))
			return false;
	}
	c->wide |= !had && old->f->slot_size - 4 > 4;
	c->n++;
	return true;
}

static bool same_slots(const struct tab *old, const struct tab *new)
{
	return !memcmp(slot_at(old, 0), slot_at(new, 0), (size_t)old->t->ph.nslots * old->f->slot_size);
}

static bool same_slot(const struct tab *old, const struct tab *new, __u32 i)
{
	return !memcmp(slot_at(old, i), slot_at(new, i), old->f->slot_size);
}

static bool take_table(struct tab *old, struct tab *new, void *arg)
{
	if (same_slots(old, new))
		return true;
	for (__u32 i = 0; i < old->t->ph.nslots; i++)
		if (!same_slot(old, new, i) && !take_slot(old, new, i, arg))
			return false;
	return true;
}

static bool keep_counter(struct tab *old, struct tab *new, void *arg)
{
	(void)arg;
	new->t->counter = old->t->counter;
	return true;
}

bool classify_fits(const struct ir_table *old, struct ir_table *new, const struct cl_stale *stale,
		   struct cl_change *c)
{
	struct taking t = { stale, c };

	*c = (struct cl_change){ 0 };
	if (!same_programs(old, new) || !each_table(old, new, take_table, &t))
		return false;
	each_table(old, new, keep_counter, NULL);
	new->counted = old->counted;
	return true;
}

static void store(__u8 *p, __u32 value)
{
	__atomic_store_n((__u32 *)p, value, __ATOMIC_RELEASE);
}

static struct cl_write write_of(const struct cl_slot_change *s, __u32 value)
{
	return (struct cl_write){
		.image = s->image, .counted = s->counted ? s->counted + s->size - 4 : 0,
		.value = value,
	};
}

void classify_write(const struct cl_write *w, __u32 n, void *image, void *live, size_t stride)
{
	for (__u32 i = 0; i < n; i++) {
		store(image + w[i].image, w[i].value);
		for (int cpu = 0; w[i].counted && cpu < possible_cpus(); cpu++)
			store(live + cpu * stride + w[i].counted, w[i].value);
	}
}

static void put(const struct cl_slot_change *s, __u32 value, void *image, void *live, size_t stride)
{
	struct cl_write w = write_of(s, value);

	classify_write(&w, 1, image, live, stride);
}

/* The key of a slot that has no rule; what its counters had is nobody's. */
static void put_key(const struct cl_slot_change *s, const __u8 *from, __u8 *image, __u8 *live,
		    size_t stride)
{
	__u32 len = s->slot_size - 4;
	__u64 key = s->image - len;

	put(s, CL_NONE, image, live, stride);
	memcpy(image + key, from + key, len);
	for (int cpu = 0; s->counted && cpu < possible_cpus(); cpu++) {
		__u8 *slot = live + cpu * stride + s->counted;

		memset(slot, 0, CL_COUNTED_KEY);
		memcpy(slot + CL_COUNTED_KEY, from + key, len);
	}
}

void classify_put_keys(const struct ir_table *old, const struct ir_table *new,
		       const struct cl_change *c, void *live, size_t stride)
{
	for (__u32 i = 0; i < c->n; i++)
		if (c->slot[i].kind == CL_COPIED || c->slot[i].kind == CL_COMES)
			put_key(&c->slot[i], new->image->p, old->image->p, live, stride);
}

static void put_sieve(const struct cl_sieve *s, const __u8 *from, __u8 *image)
{
	__u64 n = s->bits ? 1ull << s->bits : 0;

	for (__u64 i = 0; i < n; i++) {
		__u64 at = s->at + i * 4;

		if (memcmp(image + at, from + at, 4))
			store(image + at, *(const __u32 *)(from + at));
	}
}

static bool put_displacements(struct tab *old, struct tab *new, void *arg)
{
	__u16 *was = (void *)(old->x->im.p + old->t->disp), *is = (void *)(new->x->im.p + new->t->disp);

	(void)arg;
	if (!memcmp(is, was, old->t->ph.nbuckets * sizeof(*is)))
		return true;
	for (__u32 i = 0; i < old->t->ph.nbuckets; i++)
		if (is[i] != was[i])
			__atomic_store_n(&was[i], is[i], __ATOMIC_RELEASE);
	return true;
}

void classify_move_keys(const struct ir_table *old, const struct ir_table *new,
			const struct cl_change *c, void *live, size_t stride)
{
	__u8 *image = old->image->p;

	for (__u32 i = 0; i < c->n; i++)
		if (c->slot[i].kind == CL_COPIED)
			put(&c->slot[i], c->slot[i].value, image, live, stride);
	for (__u32 i = 0; i < old->ngroups; i++)
		for (int k = 0; k < 2; k++)
			put_sieve(&old->groups[i].sieve[k], new->image->p, image);
	each_table(old, new, put_displacements, NULL);
}

/* Free slots whose keys are others; what classify_put_keys() wrote is the same now. */
static bool put_free(struct tab *old, struct tab *new, void *arg)
{
	const struct cl_change *c = arg;

	if (same_slots(old, new))
		return true;
	for (__u32 i = 0; i < old->t->ph.nslots; i++) {
		bool leaves = false;

		if (same_slot(old, new, i))
			continue;
		for (__u32 k = 0; k < c->n; k++)
			leaves |= c->slot[k].kind == CL_LEAVES && c->slot[k].image == value_at(old, i);
		if (!leaves)
			memcpy(slot_at(old, i), slot_at(new, i), old->f->slot_size - 4);
	}
	return true;
}

bool classify_left(const struct cl_change *c, struct cl_stale *stale)
{
	for (__u32 i = 0; i < c->n; i++) {
		if (c->slot[i].kind != CL_LEAVES)
			continue;
		if (stale->n == CL_CHANGES)
			return false;
		stale->slot[stale->n++] = c->slot[i];
	}
	return true;
}

void classify_changed(struct ir_table *old, struct ir_table *new, const struct cl_change *c,
		      struct cl_stale *stale)
{
	each_table(old, new, put_free, (void *)c);
	stale->n = 0;
	classify_left(c, stale);
	free(new->image->p);
	*new->image = *old->image;
	old->image->p = NULL;
	old->image->fd = -1;
}

__u32 classify_writes(const struct cl_change *c, const struct cl_stale *stale, struct cl_write *w)
{
	__u32 n = 0;

	for (__u32 i = 0; i < stale->n; i++)
		w[n++] = write_of(&stale->slot[i], CL_NONE);
	for (__u32 i = 0; i < c->n; i++)
		if (c->slot[i].kind == CL_COMES)
			w[n++] = write_of(&c->slot[i], c->slot[i].value);
	for (__u32 i = 0; i < c->n; i++)
		if (c->slot[i].kind == CL_GOES)
			w[n++] = write_of(&c->slot[i], CL_NONE);
	return n;
}
