// SPDX-License-Identifier: GPL-2.0
/*
 * The group of a run whose members are known: what they do, and their families'
 * tables.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "classify_run.h"

struct making {
	struct ir_group *g;
	struct cl_items *items;		/* by sort */
	__u32 *family;			/* by sort: index + 1 */
	__u32 value;
	__u32 *act;			/* by rule */
	bool failed;
};

static __u32 act_index(struct run *r, const struct ir_rule *rule)
{
	struct cl_act a;

	memset(&a, 0, sizeof(a));
	a.action = rule->action;
	a.on = cl_act_on(r, rule);
	if (rule->action == IR_A_JUMP || rule->action == IR_A_GOTO ||
	    rule->action == IR_A_LOG || rule->action == IR_A_REJECT)
		a.arg = rule->arg;
	return set_index(&r->acts, &a);
}

static void acts(struct run *r, struct making *m)
{
	struct cl_act hotdrop;

	memset(&hotdrop, 0, sizeof(hotdrop));
	hotdrop.action = IR_A_DEFER;
	set_index(&r->acts, &hotdrop);
	for (__u32 i = 0; i < r->n; i++)
		if (r->member[i])
			m->act[i] = act_index(r, &r->rules[i]);
	m->g->nacts = r->acts.n;
	m->g->acts = ir_alloc(r->arena, r->acts.n * sizeof(*m->g->acts));
	memcpy(m->g->acts, r->acts.rec, r->acts.n * sizeof(*m->g->acts));
	for (__u32 i = 0; i < r->acts.n; i++)
		m->g->resumes |= m->g->acts[i].on;
	for (__u32 i = 0; i < r->acts.n; i++) {
		const struct cl_act *a = &m->g->acts[i];

		m->g->native |= a->action == IR_A_NATIVE;
		m->g->enters |= cl_enters(r->t, a);
	}
}

static __u32 value_of(const struct run *r, const struct making *m, __u32 rule, bool hot)
{
	__u32 act = hot ? CL_HOTDROP : m->g->nacts > CL_INDIRECT ? CL_INDIRECT : m->act[rule];

	return r->rules[rule].counter << 8 | act;
}

/* Family of a sort. */
static struct cl_family *family(struct run *r, struct making *m, __u32 sort)
{
	const struct sort *s = set_at(&r->sorts, sort);
	const struct kind *k = set_at(&r->kinds, s->kind);
	struct ir_group *g = m->g;
	struct cl_family *f;

	if (m->family[sort])
		return &g->families[m->family[sort] - 1];
	g->families = ir_grow(r->arena, g->families, g->nfamilies, sizeof(*f));
	f = &g->families[g->nfamilies++];
	m->family[sort] = g->nfamilies;
	memset(f, 0, sizeof(*f));
	f->nconds = k->nconds;
	memcpy(f->conds, k->conds, sizeof(f->conds));
	memcpy(f->has, k->has, sizeof(f->has));
	memcpy(f->len, s->len, sizeof(f->len));
	f->vary = r->lengths[s->kind].vary;
	f->hot = k->hot;
	f->first = m->value;
	f->id = g->nfamilies;
	m->failed |= !cl_family_layout(r->t, f);
	return f;
}

/* Groups whose rules do many things are not changed in place. */
static void add_ref(struct run *r, struct making *m, const struct cl_family *f,
		    const struct cl_item *i)
{
	struct ir_group *g = m->g;

	if (g->nacts > CL_INDIRECT)
		return;
	g->refs = ir_grow(r->arena, g->refs, g->nrefs, sizeof(*g->refs));
	g->refs[g->nrefs++] = (struct cl_ref){
		.hash = cl_ref_hash(f, i ? i->word : NULL, i ? i->len : 0), .value = m->value,
	};
}

static bool add_key(struct run *r, __u32 sort, const struct cl_prefix *const *key,
		    struct making *m)
{
	struct cl_family *f = family(r, m, sort);
	struct cl_items *it = &m->items[sort];

	if (m->failed)
		return false;
	f->nrules++;
	if (f->nwords)
		cl_items_add(r->t, f, it, key, m->value);
	add_ref(r, m, f, f->nwords ? &it->it[it->n - 1] : NULL);
	return true;
}

static bool add_keys(struct run *r, __u32 rule, struct making *m)
{
	for (__u32 i = r->form[rule]; i < r->form[rule + 1]; i++) {
		const struct form *f = &r->forms[i];
		const struct kind *k = set_at(&r->kinds, f->kind);
		const struct cl_prefix *key[CL_NFIELDS] = { NULL };

		m->value = value_of(r, m, rule, k->hot);
		for (int n = 0; n < f->nkeys; n++) {
			cl_key_at(r, f, n, key);
			if (!add_key(r, r->key_sort[f->sorts + n], key, m))
				return false;
		}
	}
	return true;
}

static const struct cl_act *act_of(const struct making *m, __u32 value)
{
	__u32 act = value & 0xff;

	if (act == CL_INDIRECT && m->g->nacts > CL_INDIRECT)
		return NULL;
	return &m->g->acts[act];
}

/* Of many acts, all count as going on: lists are longer than need be. */
static bool goes_on(void *arg, __u32 value)
{
	const struct cl_act *a = act_of(arg, value);

	return a ? a->on : (value & 0xff) != CL_HOTDROP;
}

static int by_first(const void *a, const void *b)
{
	const struct cl_family *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/* What acts are, by counter, where they are too many for a value. */
static void indirect(struct run *r, struct making *m, struct cl_image *im)
{
	struct ir_group *g = m->g;
	__u32 *at;

	if (g->nacts <= CL_INDIRECT)
		return;
	g->indirect = cl_image_add(im, (g->last - g->first + 1) * sizeof(*at));
	at = (void *)(im->p + g->indirect);
	for (__u32 i = 0; i < r->n; i++)
		if (r->member[i])
			at[r->rules[i].counter - g->first] = m->act[i];
}

/* What is each rule's own: its native slot, as which chain it calls a merged one. */
static void own_slots(struct run *r, struct ir_group *g, struct cl_image *im)
{
	__u32 *at;

	if (!g->native && !g->enters)
		return;
	g->room = cl_room(g->last - g->first + 1);
	g->slots = cl_image_add(im, g->room * sizeof(*at));
	at = (void *)(im->p + g->slots);
	for (__u32 i = 0; i < r->n; i++)
		if (r->member[i])
			at[r->rules[i].counter - g->first] =
				r->rules[i].action == IR_A_NATIVE ? r->rules[i].arg :
								    r->rules[i].entry;
}

static int build_families(struct run *r, struct making *m, struct cl_image *im)
{
	struct cl_lists l = { .goes_on = m->g->resumes ? goes_on : NULL, .arg = m };
	struct ir_group *g = m->g;
	const struct cl_items **items = calloc(g->nfamilies + 1, sizeof(*items));
	__u32 deep = r->limits->deep;
	int ret = 0;

	if (!items)
		abort();
	for (__u32 s = 0; s < r->sorts.n; s++)
		if (m->family[s] && g->families[m->family[s] - 1].nwords) {
			items[m->family[s] - 1] = &m->items[s];
			cl_family_lengths(r->arena, &g->families[m->family[s] - 1], &m->items[s]);
		}
	cl_sieves(r->t, g, items, im);

	/* each costs a lookup of its own, where a walk of all rules costs one test for each */
	l.most = deep ? g->nmembers / deep : 0;
	for (__u32 i = 0; !ret && i < g->nfamilies; i++)
		if (items[i])
			ret = cl_family_build(r->t, &g->families[i], items[i], &l, im);
	free(items);
	if (!ret && l.n) {
		g->nnodes = l.n;
		g->nodes = cl_image_add(im, l.n * sizeof(*l.node));
		memcpy(im->p + g->nodes, l.node, l.n * sizeof(*l.node));
	}
	free(l.node);
	return ret;
}

static int make_group(struct run *r, struct ir_group *g, struct cl_image *im)
{
	struct making m = {
		.g = g, .act = calloc(r->n, sizeof(*m.act)),
		.items = calloc(r->sorts.n, sizeof(*m.items)),
		.family = calloc(r->sorts.n, sizeof(*m.family)),
	};
	size_t size = im->size;
	int ret = 0;

	if (!m.act || !m.items || !m.family)
		abort();
	for (__u32 i = 0; i < r->n; i++)
		if (r->member[i]) {
			g->first = g->nmembers++ ? g->first : r->rules[i].counter;
			g->last = r->rules[i].counter;
		}
	acts(r, &m);
	for (__u32 i = 0; i < r->n && !m.failed; i++)
		if (r->member[i])
			add_keys(r, i, &m);
	ret = m.failed ? -E2BIG : build_families(r, &m, im);
	if (!ret) {
		indirect(r, &m, im);
		own_slots(r, g, im);
		qsort(g->families, g->nfamilies, sizeof(*g->families), by_first);
		g->nconds = r->conds.set.n;
		g->conds = ir_alloc(r->arena, g->nconds * sizeof(*g->conds));
		if (g->nconds)
			memcpy(g->conds, r->conds.set.rec, g->nconds * sizeof(*g->conds));
	} else {
		im->size = size;
	}
	for (__u32 s = 0; s < r->sorts.n; s++)
		free(m.items[s].it);
	free(m.items);
	free(m.family);
	free(m.act);
	return ret;
}

bool cl_group_of(struct run *r, struct ir_group *g, struct cl_image *im, int *ret)
{
	for (int i = 0; i < 2 && !*ret; i++) {
		r->no_on = i;
		memset(g, 0, sizeof(*g));
		cl_run_init(r);
		if (cl_run_members(r) >= r->limits->group)
			*ret = make_group(r, g, im);
		cl_run_free(r);
		if (*ret == -E2BIG)
			*ret = 0;
		else
			return g->nmembers && !*ret;
	}
	return false;
}
