// SPDX-License-Identifier: GPL-2.0
/*
 * A change of a table in groups: what is alike is copied with its counters moved
 * to where they are now, keys that go or come are taken out of the families'
 * tables or put in.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "classify_edit.h"

/* The entry of a counter; of one that no rule has, that of the next. */
static __u32 old_entry(const struct cl_edit *e, __u32 counter)
{
	return e->was.entry ? e->was.entry[counter] : counter;
}

static __u32 old_counter(const struct cl_edit *e, __u32 entry)
{
	return e->was.counter ? e->was.counter[entry] : entry;
}

static __u32 new_counter(const struct cl_edit *e, __u32 entry)
{
	return e->is.counter ? e->is.counter[entry] : entry;
}

static __u32 moved(const struct cl_edit *e, __u32 counter)
{
	__u32 entry;

	if (e->keep)
		return counter;
	entry = old_entry(e, counter);
	return new_counter(e, entry >= e->at + e->ndel ? entry - e->ndel + e->nadd :
			      entry > e->at ? e->at : entry);
}

static __u32 moved_value(const struct cl_edit *e, __u32 value)
{
	return value == CL_NONE ? value : moved(e, value >> 8) << 8 | (value & 0xff);
}

static __u32 moved_slot(const struct cl_edit *e, __u32 slot)
{
	if (slot & IR_ENTRY)
		return slot;
	return slot >= e->slot + e->slots_del ? slot - e->slots_del + e->slots_add : slot;
}

/* The counter is one of those that go. */
static bool goes(const struct cl_edit *e, __u32 counter)
{
	__u32 entry = old_entry(e, counter);

	return entry >= e->at && entry - e->at < e->ndel && old_counter(e, entry) == counter;
}

/*
 * The group in which the change is: no rule that stays apart lies between the group's
 * code and the place of those that go or come.
 */
static __u32 find_group(const struct ir_table *t, const struct cl_edit *e)
{
	const struct ir_chain *c = edit_chain(t, e->chain);
	__u32 group = CL_NONE;
	bool in = false;

	for (__u32 i = 0; i < c->nrules; i++) {
		const struct ir_rule *r = &c->rules[i];

		if (r->action == IR_A_LOOKUP) {
			if (group != CL_NONE && old_entry(e, t->groups[r->arg].first) >= e->at + e->ndel)
				return group;
			group = r->arg;
			in = true;
		} else if (r->action == IR_A_DISPATCH) {
			in = false;
		} else if (goes(e, r->counter)) {
			continue;
		} else if (old_entry(e, r->counter) < e->at) {
			if (!in)
				group = CL_NONE;
		} else if (!in) {
			return group;
		}
	}
	return group;
}

static void conds_of(struct edit *x)
{
	struct cl_conds *cs = &x->conds;

	cs->set.size = sizeof(struct cl_cond);
	cs->loose.size = sizeof(struct ir_pred);
	for (__u32 i = 0; i < x->g->nconds; i++) {
		set_index(&cs->set, &x->g->conds[i]);
		if (x->g->conds[i].how == CL_PLAIN)
			set_index(&cs->loose, &x->g->conds[i].p);
	}
	cs->uses = malloc((cs->loose.n + 1) * sizeof(*cs->uses));
	if (!cs->uses)
		abort();
	for (__u32 i = 0; i < cs->loose.n; i++)
		cs->uses[i] = CL_SHARED;
}

static bool alike(const struct cl_family *f, const struct cl_parsed *p, bool hot,
		  const struct cl_prefix *const key[CL_NFIELDS])
{
	if (f->hot != hot || f->nconds != p->nconds ||
	    memcmp(f->conds, p->conds, p->nconds * sizeof(p->conds[0])) ||
	    memcmp(f->has, p->has, sizeof(p->has)))
		return false;
	for (int i = 0; i < CL_NFIELDS; i++)
		if (f->has[i] && i != f->vary && f->len[i] != key[i]->len)
			return false;
	return true;
}

/* The family of a key, if it has a table for it. */
static bool add_key(struct edit *x, bool hot, const struct cl_prefix *const key[CL_NFIELDS],
		    struct keys *out)
{
	struct cl_items it = { 0 };
	const struct cl_family *f;
	__u32 i = 0;

	while (i < x->g->nfamilies && !alike(&x->g->families[i], &x->parsed, hot, key))
		i++;
	if (i == x->g->nfamilies)
		return false;
	f = &x->g->families[i];
	if (out->n == out->cap) {
		out->cap = out->cap * 2 + 8;
		out->at = realloc(out->at, out->cap * sizeof(*out->at));
		if (!out->at)
			abort();
	}
	memset(&out->at[out->n], 0, sizeof(out->at[0]));
	out->at[out->n].family = i;
	if (f->nwords) {
		cl_items_add(x->old, f, &it, key, 0);
		out->at[out->n].k = it.it[0];
		free(it.it);
		while (out->at[out->n].level < f->ntables &&
		       f->tables[out->at[out->n].level].len != out->at[out->n].k.len)
			out->at[out->n].level++;
	}
	return out->at[out->n++].level < f->ntables || !f->nwords;
}

/* Of the form that was parsed. */
static bool add_keys(struct edit *x, bool hot, struct keys *out)
{
	const struct cl_prefix *key[CL_NFIELDS] = { NULL };
	const struct cl_parsed *p = &x->parsed;
	bool any = hot;

	for (int i = 0; i < p->nconds; i++)
		if (p->conds[i] >= x->g->nconds)
			return false;
	for (int f = 0; f < CL_NFIELDS; f++)
		any |= p->has[f];
	for (int i = 0; any && i < p->nkeys; i++) {
		int at = i;

		for (int f = 0; f < CL_NFIELDS; f++) {
			if (!p->has[f])
				continue;
			key[f] = &p->alts[f][at % p->nalts[f]];
			at /= p->nalts[f];
		}
		if (!add_key(x, hot, key, out))
			return false;
	}
	return any;
}

/* All keys of a rule of @chain; false: no member of the group could be like it. */
static bool keys_of(struct edit *x, const struct ir_rule *rule, __u32 chain, struct keys *out)
{
	const struct ir_rule r = cl_of_chain(x->out->arena, x->old, rule, chain);

	out->n = 0;
	if (!cl_pure(&r))
		return false;
	for (int i = 0; i < r.npreds; i++)
		if (cl_is_guard(&r.preds[i]) &&
		    (!cl_parse(x->old, &r, i, &x->conds, &x->parsed) ||
		     !cl_parse_bad(&x->conds, &x->parsed, &r.preds[i]) ||
		     !add_keys(x, true, out)))
			return false;
	return cl_parse(x->old, &r, r.npreds, &x->conds, &x->parsed) && add_keys(x, false, out);
}

/* Its place among the group's acts, if it ends the walk of the chain; else 0. */
static __u32 act_of(const struct ir_group *g, const struct ir_rule *r)
{
	bool reject = r->action == IR_A_REJECT;

	if (r->action != IR_A_ACCEPT && r->action != IR_A_DROP && r->action != IR_A_RETURN &&
	    r->action != IR_A_NATIVE && !reject)
		return 0;
	for (__u32 i = 1; i < g->nacts; i++)
		if (g->acts[i].action == r->action && !g->acts[i].on &&
		    (!reject || g->acts[i].arg == r->arg))
			return i;
	return 0;
}

static bool same_key(const struct at *a, const struct at *b)
{
	return a->family == b->family && a->k.len == b->k.len &&
	       !memcmp(a->k.word, b->k.word, sizeof(a->k.word));
}

/* The rule of that counter, as rules are numbered at this point of the change. */
static const struct ir_rule *rule_of(const struct edit *x, __u32 counter, __u32 *chain)
{
	const struct cl_edit *e = x->e;
	__u32 entry;

	*chain = e->chain;
	for (__u32 i = 0; x->renumbered && i < e->nadd; i++)
		if (new_counter(e, e->at + i) == counter)
			return &e->add[i];
	if (!x->renumbered || e->keep)
		return e->rule(e->arg, old_entry(e, counter), chain);
	entry = e->is.entry ? e->is.entry[counter] : counter;
	return e->rule(e->arg, entry < e->at ? entry : entry - e->nadd + e->ndel, chain);
}

bool edit_has_key(struct edit *x, __u32 counter, const struct at *a)
{
	__u32 chain;
	const struct ir_rule *r = rule_of(x, counter, &chain);
	struct keys k = { 0 };
	bool has = false;

	if (r && keys_of(x, r, chain, &k))
		for (__u32 i = 0; i < k.n; i++)
			has |= same_key(&k.at[i], a);
	free(k.at);
	return has;
}

static int delete_rules(struct edit *x, struct keys *k)
{
	int ret = 0;

	for (__u32 i = 0; i < x->e->ndel && !ret; i++) {
		const struct ir_rule *r = &x->e->del[i], *apart;
		__u32 act, counter = old_counter(x->e, x->e->at + i), value = counter << 8;

		apart = edit_apart(edit_chain(x->old, x->e->chain), counter);
		if (apart && !apart->npreds)
			return -EAGAIN;		/* the chain may return without it */
		if (apart) {			/* it was not copied */
			if (apart->preds[0].kind == IR_P_BEFORE)
				x->out->groups[apart->preds[0].index].nrest--;
			continue;
		}
		act = x->tables ? act_of(x->g, r) : 0;
		if (!act || !keys_of(x, r, x->e->chain, k))
			return -EAGAIN;
		for (__u32 n = 0; n < k->n && !ret; n++) {
			bool hot = x->g->families[k->at[n].family].hot;

			ret = edit_delete(x, &k->at[n], value | (hot ? CL_HOTDROP : act));
		}
		x->g->nmembers--;
	}
	return ret;
}

static int insert_rules(struct edit *x, struct keys *k)
{
	int ret = 0;

	for (__u32 i = 0; i < x->e->nadd && !ret; i++) {
		const struct ir_rule *r = &x->e->add[i];
		/* of those that draw lots, others of the chain may have the same odds: classify_merge.c */
		__u32 act = x->tables && !cl_draw(r) ? act_of(x->g, r) : 0;
		__u32 counter = new_counter(x->e, x->e->at + i);

		if (!act || counter >= (1u << 24) - 1 || !keys_of(x, r, x->e->chain, k)) {
			ret = edit_come_apart(x, r, counter);
			continue;
		}
		for (__u32 n = 0; n < k->n && !ret; n++) {
			bool hot = x->g->families[k->at[n].family].hot;

			ret = edit_insert(x, &k->at[n], counter << 8 | (hot ? CL_HOTDROP : act));
		}
		x->g->nmembers++;
		if (counter < x->g->first)
			x->g->first = counter;
		if (counter > x->g->last)
			x->g->last = counter;
	}
	return ret;
}

/*
 * What is copied
 */

/* Nodes of lists, which several families share. */
static void move_nodes(struct edit *x, const struct ir_group *g)
{
	__u32 (*node)[2] = (void *)(x->im.p + g->nodes);

	for (__u32 i = 0; i < g->nnodes; i++)
		node[i][0] = moved_value(x->e, node[i][0]);
}

static void move_table(struct edit *x, const struct cl_family *f, const struct cl_table *t)
{
	__u8 *p = x->im.p + t->slots + f->slot_size - 4;

	for (__u32 i = 0; i < t->ph.nslots; i++, p += f->slot_size) {
		__u32 v;

		memcpy(&v, p, 4);
		v = moved_value(x->e, v);
		memcpy(p, &v, 4);
	}
}

/* Numbers or places of what group @g's rules have of their own are others. */
static bool slots_move(const struct cl_edit *e, const struct ir_group *g)
{
	return e->slots_del != e->slots_add ||
	       (e->ndel != e->nadd && g->first < e->at && g->last >= e->at);
}

/* What is each rule's own, where group @g has it now that it was @old; rules come to x->g. */
static int move_slots(struct edit *x, const struct ir_group *old, const struct ir_group *g)
{
	const struct cl_edit *e = x->e;
	__u32 *slot = (void *)(x->im.p + g->slots), *was, n = old->last - old->first + 1;

	if (!g->native && !g->enters)
		return 0;
	if (g->last - g->first >= g->room)
		return -EAGAIN;
	was = malloc(n * sizeof(*was));
	if (!was)
		return -ENOMEM;
	memcpy(was, slot, n * sizeof(*was));
	memset(slot, 0, g->room * sizeof(*slot));
	for (__u32 i = 0; i < n; i++)
		if (!goes(e, old->first + i))
			slot[moved(e, old->first + i) - g->first] = moved_slot(e, was[i]);
	for (__u32 i = 0; g == x->g && i < e->nadd; i++)
		if (e->add[i].action == IR_A_NATIVE && e->at + i >= g->first && e->at + i <= g->last)
			slot[e->at + i - g->first] = e->add[i].arg;
	free(was);
	return 0;
}

static void move_group(struct edit *x, struct ir_group *g)
{
	move_nodes(x, g);
	for (__u32 i = 0; i < g->nfamilies; i++) {
		struct cl_family *f = &g->families[i];

		f->first = moved_value(x->e, f->first);
		for (int k = 0; !f->depth && k < f->ntables; k++)
			move_table(x, f, &f->tables[k]);
	}
	for (__u32 i = 0; i < g->nrefs; i++)
		g->refs[i].value = moved_value(x->e, g->refs[i].value);
	g->first = moved(x->e, g->first);
	g->last = moved(x->e, g->last);
}

static void *copy(struct ir_arena *a, const void *from, __u32 n, size_t size)
{
	void *p = NULL;

	/* room as ir_grow() expects it */
	for (__u32 cap = 1; n; cap *= 2)
		if (cap >= n) {
			p = ir_alloc(a, cap * size);
			memcpy(p, from, n * size);
			break;
		}
	return p;
}

static void copy_groups(struct edit *x)
{
	struct ir_table *t = x->out;

	t->groups = copy(t->arena, x->old->groups, t->ngroups, sizeof(*t->groups));
	for (__u32 i = 0; i < t->ngroups; i++) {
		struct ir_group *g = &t->groups[i];

		g->families = copy(t->arena, g->families, g->nfamilies, sizeof(*g->families));
		g->refs = copy(t->arena, g->refs, g->nrefs, sizeof(*g->refs));
		for (__u32 k = 0; k < g->nfamilies; k++)
			g->families[k].tables = copy(t->arena, g->families[k].tables,
						     g->families[k].ntables,
						     sizeof(*g->families[k].tables));
	}
}

/*
 * Programs pass over a family whose first rule is behind the best one so far.  Where there is
 * room in front of a group, a rule that comes there may be of its first family.
 */
static void make_room(const struct cl_numbers *n, struct ir_group *g)
{
	__u32 entry = n->entry[g->first], first = entry ? n->counter[entry - 1] + 1 : 0;
	bool hot = false, other = false;

	for (__u32 i = 0; i < g->nfamilies; i++) {
		struct cl_family *f = &g->families[i];
		bool *seen = f->hot ? &hot : &other;

		if (f->nwords && !*seen && f->first > first << 8)
			f->first = first << 8;
		*seen = true;
	}
}

/* All of it: an edit before this may have made it, whose memory goes. */
static void copy_rule(struct edit *x, struct ir_rule *r, const struct ir_rule *from)
{
	*r = *from;
	r->counter = moved(x->e, r->counter);
	if (r->action == IR_A_NATIVE)
		r->arg = moved_slot(x->e, r->arg);
	r->preds = copy(x->out->arena, r->preds, r->npreds, sizeof(*r->preds));
	for (int i = 0; i < r->npreds; i++) {
		struct ir_pred *p = &r->preds[i];

		if (p->kind == IR_P_BEFORE)
			p->value = r->counter;
		else if (p->kind == IR_P_NATIVE)
			p->index = moved_slot(x->e, p->index);
	}
}

static void copy_chains(struct edit *x)
{
	struct ir_table *t = x->out;

	t->chains = copy(t->arena, x->old->chains, t->nchains, sizeof(*t->chains));
	for (__u32 i = 0; i < t->nchains; i++) {
		struct ir_chain *c = &t->chains[i];
		__u32 n = 0;

		c->rules = copy(t->arena, c->rules, c->nrules, sizeof(*c->rules));
		for (__u32 k = 0; k < c->nrules; k++)
			if (!goes(x->e, c->rules[k].counter) || is_own(&c->rules[k]))
				copy_rule(x, &c->rules[n++], &c->rules[k]);
		c->nrules = n;
	}
}

/* In the map that is to be, or, where there may be none to be, in memory; with room for edit_room(). */
static int copy_image(struct edit *x)
{
	const struct cl_image *from = x->old->image;
	int ret = 0;

	x->im = (struct cl_image){
		.size = from->size, .cap = from->size + edit_more(x), .planned = from->planned,
		.apart = from->apart, .fd = -1,
	};
	if (x->e->place)
		x->im.p = malloc(x->im.cap + 1);
	else
		ret = cl_image_map(&x->im);
	if (ret || !x->im.p)
		return ret ?: -ENOMEM;
	if (from->size)
		memcpy(x->im.p, from->p, from->size);
	for (__u32 i = 0; x->e->stale && i < x->e->stale->n; i++)
		memset(x->im.p + x->e->stale->slot[i].image, 0xff, sizeof(__u32));	/* CL_NONE */
	return 0;
}

static int by_first(const void *a, const void *b)
{
	const struct cl_family *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

static bool renumbers(const struct cl_edit *e)
{
	return !e->keep && (e->ndel != e->nadd || e->was.counter || e->is.counter);
}

static int change(struct edit *x)
{
	struct ir_group old = x->g ? *x->g : (struct ir_group){ 0 };
	const struct cl_edit *e = x->e;
	struct keys k = { 0 };
	int ret = 0;

	if (x->tables)
		ret = edit_room(x);
	ret = ret ?: delete_rules(x, &k);
	for (__u32 i = 0; !ret && i < x->out->ngroups; i++) {
		struct ir_group *g = &x->out->groups[i], was = *g;

		if (renumbers(e))
			move_group(x, g);
		if (g != x->g && slots_move(e, &was))
			ret = move_slots(x, &was, g);
	}
	x->renumbered = true;
	ret = ret ?: insert_rules(x, &k);
	if (!ret && x->g)
		ret = move_slots(x, &old, x->g);
	free(k.at);
	if (x->tables)
		edit_trim(x);
	if (!ret && x->g)
		qsort(x->g->families, x->g->nfamilies, sizeof(*x->g->families), by_first);
	for (__u32 i = 0; !e->keep && e->is.counter && i < x->out->ngroups; i++)
		make_room(&e->is, &x->out->groups[i]);
	return ret;
}

static bool changes_well(const struct ir_group *g)
{
	return g->nrefs && g->nacts <= CL_INDIRECT;
}

int classify_edit(const struct ir_table *old, const struct cl_edit *e, struct ir_table *out,
		  struct xt_err *err)
{
	struct edit x = { .old = old, .e = e, .out = out };
	bool none = !e->ndel && !e->nadd;
	__u32 group = none ? CL_NONE : find_group(old, e);
	int ret;

	if (!old->ngroups)
		return -EAGAIN;
	*out = *old;
	out->ncounters = e->is.counter ? e->is.n : old->ncounters - e->ndel + e->nadd;
	out->plain = NULL;
	out->arena = ir_arena_new();
	out->image = ir_alloc(out->arena, sizeof(*out->image));
	out->image->fd = -1;
	copy_groups(&x);
	copy_chains(&x);
	if (group != CL_NONE) {
		x.g = &out->groups[group];
		x.tables = changes_well(x.g);
	}
	ret = copy_image(&x);
	if (x.tables)
		conds_of(&x);
	if (!ret)
		ret = change(&x);
	*out->image = x.im;
	cl_conds_free(&x.conds);
	if (!ret) {
		cl_count_slots(out, cl_slots_most());
		return 0;
	}
	classify_free(out);
	return ret == -EAGAIN ? ret : xt_fail(err, ret, "%s: lookups: %s", old->table->name,
					      strerror(-ret));
}

void classify_number(struct ir_table *t, const __u32 *counter, __u32 n)
{
	const struct cl_edit e = { .is = { .counter = counter, .n = n } };
	const struct ir_table old = *t;
	struct edit x = { .old = &old, .e = &e, .out = t, .im = *t->image };

	copy_chains(&x);
	for (__u32 i = 0; i < t->ngroups; i++)
		move_group(&x, &t->groups[i]);
	t->ncounters = n;
	t->plain = NULL;
}
