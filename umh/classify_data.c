// SPDX-License-Identifier: GPL-2.0
/*
 * A family's tables: keys with equal ones put together, markers, what shorter
 * prefixes add, and the perfect hash of each length.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "classify_priv.h"

#define SEEDS 64	/* attempts at a perfect hash */
#define SPARSE 2	/* log2 of possible keys to those that are there */
#define NODES (1 << 22)	/* of all lists of a group */

__u64 cl_image_add(struct cl_image *im, size_t size)
{
	size_t at = (im->size + 7) & ~(size_t)7;

	if (at + size > im->cap && im->fd >= 0)
		abort();		/* edit_more() was wrong */
	if (at + size > im->cap) {
		im->cap = (at + size) * 2;
		im->p = realloc(im->p, im->cap);
		if (!im->p)
			abort();
	}
	memset(im->p + im->size, 0, at + size - im->size);
	im->size = at + size;
	return at;
}

/* Widest parts first, each where it still fits. */
static bool add_part(struct cl_family *f, __u8 used[PHASH_WORDS], int field, int half, int bits)
{
	int w = 0;

	while (w < f->nwords && used[w] + bits > 64)
		w++;
	if (w == PHASH_WORDS)
		return false;
	f->parts[f->nparts++] = (struct cl_part){
		.field = field, .half = half, .word = w, .shift = used[w], .bits = bits,
	};
	used[w] += bits;
	if (w == f->nwords)
		f->nwords++;
	return true;
}

bool cl_family_layout(const struct ir_table *t, struct cl_family *f)
{
	static const int widths[] = { 128, 48, 32, 16 };
	__u8 used[PHASH_WORDS] = { 0 };
	int at = 0;

	for (int i = 0; i < 4; i++)
		for (int k = 0; k < CL_NFIELDS; k++) {
			if (!f->has[k] || cl_width(t, k) != widths[i])
				continue;
			if (widths[i] == 128 && !add_part(f, used, k, 0, 64))
				return false;
			if (!add_part(f, used, k, widths[i] == 128, widths[i] == 128 ? 64 : widths[i]))
				return false;
		}
	for (int size = 8; size >= 4; size -= 4)
		for (int w = 0; w < f->nwords; w++) {
			if ((used[w] > 32 ? 8 : 4) != size)
				continue;
			f->word_size[w] = size;
			f->word_at[w] = at;
			at += size;
		}
	f->slot_size = at + 4;
	return true;
}

static __u64 part_value(const struct cl_part *p, cl_num v, int width)
{
	__u64 w = width == 128 && !p->half ? (__u64)(v >> 64) : (__u64)v;

	return p->field == CL_IFACE || p->field == CL_OFACE ? htobe64(w) : w;
}

void cl_items_add(const struct ir_table *t, const struct cl_family *f, struct cl_items *it,
		  const struct cl_prefix *const key[CL_NFIELDS], __u32 value)
{
	struct cl_item *i;

	if (it->n == it->cap) {
		it->cap = it->cap ? it->cap * 2 : 64;
		it->it = realloc(it->it, it->cap * sizeof(*it->it));
		if (!it->it)
			abort();
	}
	i = &it->it[it->n++];
	memset(i, 0, sizeof(*i));
	i->value = value;
	i->len = f->vary >= 0 ? key[f->vary]->len : 0;
	for (int k = 0; k < f->nparts; k++) {
		const struct cl_part *p = &f->parts[k];
		int width = cl_width(t, p->field);

		i->word[p->word] |= (part_value(p, key[p->field]->v, width) &
				     cl_part_mask(t, p, key[p->field]->len)) << p->shift;
	}
}

__u32 cl_ref_hash(const struct cl_family *f, const __u64 *word, int len)
{
	__u64 h = ((__u64)f->id << 8 | len) * 0xd6e8feb86659fd93;

	for (int i = 0; i < f->nwords; i++) {
		h = (h ^ word[i]) * 0x9e3779b97f4a7c15;
		h ^= h >> 32;
	}
	return h * 0xbf58476d1ce4e5b9 >> 32;
}

__u32 cl_room(__u32 n)
{
	return n + n / 16 + 8;
}

/* An entry: all rules of one key, those of shorter prefixes with them once it is full. */
struct entry {
	__u64 word[PHASH_WORDS];
	__u32 list;		/* of nodes; CL_NONE: a marker */
	__u32 tail;
	__u8 level;		/* index of its length */
};

struct work {
	const struct ir_table *t;
	struct cl_family *f;
	struct cl_lists *l;
	struct entry *e;
	__u32 n, cap;
	__u32 *hash, nhash;	/* index + 1 */
	__u64 (*mask)[PHASH_WORDS];	/* of the words, by level */
	struct phash any;
};

static __u64 key_hash(const struct work *w, const __u64 *word, int level)
{
	return phash_hash(&w->any, word, w->f->nwords) + level * 0x9e3779b97f4a7c15;
}

static __u32 *find(const struct work *w, const __u64 *word, int level)
{
	__u32 i = key_hash(w, word, level) >> 32 & (w->nhash - 1);

	for (; w->hash[i]; i = (i + 1) & (w->nhash - 1)) {
		const struct entry *e = &w->e[w->hash[i] - 1];

		if (e->level == level && !memcmp(e->word, word, w->f->nwords * sizeof(*word)))
			break;
	}
	return &w->hash[i];
}

static void rehash(struct work *w)
{
	w->cap = w->cap * 2 + 64;
	for (w->nhash = 128; w->nhash < w->cap * 2;)
		w->nhash *= 2;
	w->e = realloc(w->e, w->cap * sizeof(*w->e));
	free(w->hash);
	w->hash = calloc(w->nhash, sizeof(*w->hash));
	if (!w->e || !w->hash)
		abort();
	for (__u32 i = 0; i < w->n; i++)
		*find(w, w->e[i].word, w->e[i].level) = i + 1;
}

/* The entry of a key; made if need be. */
static struct entry *entry(struct work *w, const __u64 *word, int level)
{
	__u32 *at;

	if (w->n == w->cap)
		rehash(w);
	at = find(w, word, level);
	if (!*at) {
		w->e[w->n] = (struct entry){ .list = CL_NONE, .tail = CL_NONE, .level = level };
		memcpy(w->e[w->n].word, word, w->f->nwords * sizeof(*word));
		*at = ++w->n;
	}
	return &w->e[*at - 1];
}

static __u32 new_node(struct cl_lists *l, __u32 value)
{
	if (l->n == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 256;
		l->node = realloc(l->node, l->cap * sizeof(*l->node));
		if (!l->node)
			abort();
	}
	l->node[l->n][0] = value;
	l->node[l->n][1] = CL_NONE;
	return l->n++;
}

static bool goes_on(const struct cl_lists *l, __u32 value)
{
	return l->goes_on && l->goes_on(l->arg, value);
}

/* Values come in order: what is behind one that does not go on is never met. */
static void append(struct work *w, struct entry *e, __u32 value)
{
	__u32 n;

	if (!w->l->goes_on) {
		if (e->list == CL_NONE)
			e->list = value;
		return;
	}
	if (e->tail != CL_NONE &&
	    (w->l->node[e->tail][0] == value || !goes_on(w->l, w->l->node[e->tail][0])))
		return;
	n = new_node(w->l, value);
	if (e->tail == CL_NONE)
		e->list = n;
	else
		w->l->node[e->tail][1] = n;
	e->tail = n;
}

static int level_of(const struct cl_family *f, int len)
{
	int i = 0;

	while (i < f->ntables && f->tables[i].len != len)
		i++;
	return i;
}

void cl_family_lengths(struct ir_arena *a, struct cl_family *f, const struct cl_items *it)
{
	bool seen[129] = { false };

	f->ntables = 0;
	for (__u32 i = 0; i < it->n; i++) {
		f->ntables += !seen[it->it[i].len];
		seen[it->it[i].len] = true;
	}
	f->tables = ir_alloc(a, f->ntables * sizeof(*f->tables));
	f->ntables = 0;
	for (int len = 0; len <= 128; len++)
		if (seen[len])
			f->tables[f->ntables++].len = len;
}

static void find_masks(struct work *w)
{
	struct cl_family *f = w->f;

	w->mask = calloc(f->ntables, sizeof(*w->mask));
	if (!w->mask)
		abort();
	for (int i = 0; i < f->ntables; i++)
		for (int k = 0; k < f->nparts; k++) {
			const struct cl_part *p = &f->parts[k];
			int len = p->field == f->vary ? f->tables[i].len : f->len[p->field];

			w->mask[i][p->word] |= cl_part_mask(w->t, p, len) << p->shift;
		}
}

/* Bits that tell keys of this length from each other. */
static int key_bits(const struct work *w, int level)
{
	int n = 0;

	for (int k = 0; k < w->f->nwords; k++)
		n += __builtin_popcountll(w->mask[level][k]);
	return n;
}

/* See cl_middle(). */
static void find_root(struct work *w)
{
	struct cl_family *f = w->f;
	int middle = (f->ntables - 1) / 2;
	__u32 longer = w->n;	/* keys of this length, with the longer ones cut to it, at most */

	for (f->root = 0; f->root < middle; f->root++) {
		int bits = key_bits(w, f->root);

		if (bits >= 32 || longer < 1u << bits >> SPARSE)
			return;
		for (__u32 i = 0; i < w->n; i++)
			longer -= w->e[i].level == f->root;
	}
}

/* Where bisection must go right to get to an entry, it must find something. */
static void add_markers(struct work *w)
{
	__u32 n = w->n;

	for (__u32 i = 0; i < n; i++) {
		int lo = 0, hi = w->f->ntables - 1, level = w->e[i].level;

		for (;;) {
			int mid = cl_middle(w->f, lo, hi);
			__u64 word[PHASH_WORDS];

			if (mid == level)
				break;
			if (mid > level) {
				hi = mid - 1;
				continue;
			}
			for (int k = 0; k < w->f->nwords; k++)
				word[k] = w->e[i].word[k] & w->mask[mid][k];
			entry(w, word, mid);
			lo = mid + 1;
		}
	}
	w->f->nmarkers = w->n - n;
}

/* The nodes of both lists, in order, up to the first that does not go on. */
static __u32 merge(struct work *w, __u32 a, __u32 b)
{
	struct entry e = { .list = CL_NONE, .tail = CL_NONE };

	if (!w->l->goes_on)
		return a < b ? a : b;
	if (a == CL_NONE || b == CL_NONE)
		return a == CL_NONE ? b : a;
	while (a != CL_NONE || b != CL_NONE) {
		__u32 *pick = b == CL_NONE ? &a : a == CL_NONE ? &b :
			      w->l->node[a][0] <= w->l->node[b][0] ? &a : &b;
		__u32 value = w->l->node[*pick][0];

		append(w, &e, value);
		if (!goes_on(w->l, value))
			break;
		*pick = w->l->node[*pick][1];
	}
	return e.list;
}

static __u32 parent_list(struct work *w, const struct entry *e)
{
	for (int level = e->level - 1; level >= 0; level--) {
		__u64 word[PHASH_WORDS];
		__u32 at;

		for (int k = 0; k < w->f->nwords; k++)
			word[k] = e->word[k] & w->mask[level][k];
		at = *find(w, word, level);
		if (at)
			return w->e[at - 1].list;
	}
	return CL_NONE;
}

/* Shorter ones first: the next shorter one has all that is shorter. */
static void inherit(struct work *w)
{
	for (int level = 1; level < w->f->ntables; level++)
		for (__u32 i = 0; i < w->n && w->l->n <= NODES; i++)
			if (w->e[i].level == level)
				w->e[i].list = merge(w, w->e[i].list, parent_list(w, &w->e[i]));
}

static int depth(const struct work *w)
{
	int most = 0;

	for (__u32 i = 0; w->l->goes_on && i < w->n; i++) {
		int n = 0;

		for (__u32 k = w->e[i].list; k != CL_NONE; k = w->l->node[k][1])
			n++;
		if (n > most)
			most = n;
	}
	return most;
}

/* Long lists as arrays; entries that have the same one still do. */
static int deepen(struct work *w)
{
	__u32 n = w->l->n, *array = calloc(n + 1, sizeof(*array));
	int ret = 0;

	if (!array)
		abort();
	for (__u32 i = 0; i < w->n && !ret; i++) {
		__u32 list = w->e[i].list, size = 0;

		if (list == CL_NONE)
			continue;
		if (!array[list]) {
			__u32 head = new_node(w->l, CL_NONE);

			for (__u32 k = list; k != CL_NONE; k = w->l->node[k][1], size++)
				new_node(w->l, w->l->node[k][0]);
			w->l->node[head][1] = size;
			array[list] = head;		/* not 0: the list itself is before it */
			ret = w->l->n > NODES ? -E2BIG : 0;
		}
		w->e[i].list = array[list];
	}
	free(array);
	return ret;
}

/* Lists of one are values. */
static void flatten(struct work *w)
{
	for (__u32 i = 0; i < w->n; i++)
		if (w->e[i].list != CL_NONE)
			w->e[i].list = w->l->node[w->e[i].list][0];
}

static void store(const struct cl_family *f, const struct entry *e, __u8 *slot)
{
	for (int k = 0; k < f->nwords; k++)
		memcpy(slot + f->word_at[k], &e->word[k], f->word_size[k]);
	memcpy(slot + f->slot_size - 4, &e->list, 4);
}

/* Free slots have a key that is never looked for there, for its own is another, and no rule. */
static void fill(const struct work *w, const struct cl_table *tab, const struct entry *any,
		 __u8 *slots)
{
	struct entry free = *any;

	free.list = CL_NONE;
	for (__u32 i = 0; i < tab->ph.nslots; i++)
		store(w->f, &free, slots + (size_t)i * w->f->slot_size);
}

static void store_all(const struct work *w, const struct cl_table *tab, int level,
		      const struct cl_image *im)
{
	const __u16 *disp = (void *)(im->p + tab->disp);
	__u8 *slots = im->p + tab->slots;
	bool filled = false;

	for (__u32 i = 0; i < w->n; i++) {
		const struct entry *e = &w->e[i];
		__u64 h;

		if (e->level != level)
			continue;
		if (!filled)
			fill(w, tab, e, slots);
		filled = true;
		h = phash_hash(&tab->ph, e->word, w->f->nwords);
		store(w->f, e, slots + (size_t)w->f->slot_size *
		      phash_slot(&tab->ph, h, disp[phash_bucket(&tab->ph, h)]));
	}
}

static int build_table(struct work *w, int level, struct cl_image *im, __u64 *hash)
{
	struct cl_table *tab = &w->f->tables[level];
	int ret = -EAGAIN;

	tab->nkeys = 0;
	for (__u32 i = 0; i < w->n; i++)
		tab->nkeys += w->e[i].level == level;
	for (int seed = 1; ret == -EAGAIN && seed <= SEEDS; seed++) {
		__u32 n = 0;

		phash_init(&tab->ph, cl_room(tab->nkeys), seed);
		for (__u32 i = 0; i < w->n; i++)
			if (w->e[i].level == level)
				hash[n++] = phash_hash(&tab->ph, w->e[i].word, w->f->nwords);
		if (seed == 1) {
			tab->disp = cl_image_add(im, tab->ph.nbuckets * sizeof(__u16));
			tab->slots = cl_image_add(im, (size_t)tab->ph.nslots * w->f->slot_size);
		}
		ret = phash_build(&tab->ph, hash, n, (void *)(im->p + tab->disp));
	}
	if (!ret)
		store_all(w, tab, level, im);
	return ret;
}

static int build_tables(struct work *w, struct cl_image *im)
{
	__u64 *hash = malloc((w->n + 1) * sizeof(*hash));
	int ret = hash ? 0 : -ENOMEM;

	for (int i = 0; !ret && i < w->f->ntables; i++)
		ret = build_table(w, i, im, hash);
	free(hash);
	return ret;
}

int cl_family_build(const struct ir_table *t, struct cl_family *f, const struct cl_items *it,
		    struct cl_lists *l, struct cl_image *im)
{
	struct work w = { .t = t, .f = f, .l = l, .cap = it->n / 2 };
	int ret = 0;

	phash_init(&w.any, 1, 0);
	rehash(&w);
	find_masks(&w);
	for (__u32 i = 0; i < it->n; i++)
		append(&w, entry(&w, it->it[i].word, level_of(f, it->it[i].len)),
		       it->it[i].value);
	find_root(&w);
	if (f->ntables > 1) {
		if (!f->spread)
			add_markers(&w);
		inherit(&w);
	}
	f->depth = depth(&w);
	f->deep = f->depth > CL_DEPTH;
	if ((f->deep && (__u32)f->depth > l->most) || l->n > NODES)
		ret = -E2BIG;
	else if (f->deep)
		ret = deepen(&w);
	if (l->goes_on && f->depth <= 1) {
		flatten(&w);
		f->depth = 0;
	}
	if (!ret)
		ret = build_tables(&w, im);
	free(w.e);
	free(w.hash);
	free(w.mask);
	return ret;
}
