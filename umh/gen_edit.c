// SPDX-License-Identifier: GPL-2.0
/*
 * A generation made from the one before it, of a ruleset that is nearly the same.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "classify.h"
#include "ext.h"
#include "gen.h"
#include "helper.h"

#define EDIT_MAX 128	/* entries that come and go; with more of them, a whole is faster */

/* Some entries as rules of a table that has no others. */
struct alone {
	struct ir_table ir;
	struct ir_rule *rules;
	bool there;
	bool tracks;		/* gen_tracks() */
};

static void alone_free(struct alone *a)
{
	if (a->there)
		ir_table_free(&a->ir);
	a->there = false;
}

/* The table, with the entries in each base chain of @hooks. NULL when out of memory. */
static void *alone_blob(const struct gen *g, const void *entries, __u32 len, __u32 n, __u32 hooks,
			struct xt_replace_hdr *h)
{
	char *empty = xt_initial_blob(g->rs.family, g->rs.table, h), *blob;
	__u32 from = 0, to = 0, end;

	blob = empty ? malloc(h->size + (size_t)__builtin_popcount(hooks) * len + 1) : NULL;
	for (int i = 0; blob && i < XT_HOOKS; i++) {
		if (!(h->valid_hooks & (1 << i)))
			continue;
		end = h->hook_entry[i];		/* where its policy is */
		memcpy(blob + to, empty + from, end - from);
		to += end - from;
		from = end;
		h->hook_entry[i] = to;
		if (hooks & (1 << i)) {
			memcpy(blob + to, entries, len);
			to += len;
			h->num_entries += n;
		}
		h->underflow[i] = to;
	}
	if (blob)
		memcpy(blob + to, empty + from, h->size - from);
	h->size = to + h->size - from;
	h->num_counters = h->num_entries;
	free(empty);
	return blob;
}

/* Slots differ from hook to hook. */
static bool same_rules(const struct ir_rule *a, const struct ir_rule *b, __u32 n)
{
	for (__u32 i = 0; i < n; i++)
		if (a[i].npreds != b[i].npreds || a[i].action != b[i].action ||
		    (a[i].action != IR_A_NATIVE && a[i].arg != b[i].arg) ||
		    memcmp(a[i].preds, b[i].preds, a[i].npreds * sizeof(*a[i].preds)))
			return false;
	return true;
}

/* The same rules at each hook; each still there, and looking at the packet. */
static bool take_rules(struct alone *a, __u32 n, __u32 hooks)
{
	for (int i = 0; i < XT_HOOKS; i++) {
		struct ir_chain *c;

		if (!(hooks & (1 << i)))
			continue;
		c = &a->ir.chains[a->ir.base_chain[i]];
		if (c->nrules != n + 1 || (a->rules && !same_rules(a->rules, c->rules, n)))
			return false;
		a->rules = a->rules ?: c->rules;
	}
	for (__u32 i = 0; i < n; i++)
		if (!a->rules[i].npreds)
			return false;
	return true;
}

/* How many native slots the rules have. */
static __u32 slots_of(const struct alone *a, __u32 n)
{
	__u32 slots = 0;

	for (__u32 i = 0; i < n; i++)
		slots += a->rules[i].action == IR_A_NATIVE;
	return slots;
}

/* What a rule of a group may be that comes or goes. */
static bool can_change(const struct alone *a, __u32 n)
{
	const struct ir_table *t = &a->ir;

	if (!n)
		return true;
	if (t->nlimits || t->nnths || t->nlogs)
		return false;
	for (__u32 i = 0; i < t->nslots; i++)
		if (t->slots[i].kind != XTJIT_SLOT_TARGET || !classify_final(t, i))
			return false;
	for (__u32 i = 0; i < n; i++)
		if (gen_resets(t, &a->rules[i]))	/* it may have to be the kernel's */
			return false;
	return true;
}

/* Decodes @n entries by themselves, with all checks, as reached from @hooks; false if that says no. */
static bool alone_decode(struct alone *a, const struct gen *g, const void *entries, __u32 len,
			 __u32 n, __u32 hooks)
{
	struct ext_env env = { .native = helper.backend->native };
	struct xt_replace_hdr h;
	struct xt_ruleset rs;
	void *blob;
	int ret;

	*a = (struct alone){ 0 };
	if (!n)
		return true;
	if (!hooks || (hooks & ~g->h.valid_hooks))
		return false;
	blob = alone_blob(g, entries, len, n, hooks, &h);
	ret = blob ? xt_ruleset_decode(&rs, g->rs.family, &h, blob, NULL) : -ENOMEM;
	free(blob);
	if (ret)
		return false;
	ret = ext_lower(&rs, &env, &a->ir, NULL);
	a->tracks = gen_tracks(&rs, NULL);
	xt_ruleset_free(&rs);
	a->there = !ret;
	return !ret && !ir_check(&a->ir, NULL) && !passes_exact(&a->ir, NULL) &&
	       take_rules(a, n, hooks);
}

/* The chain that all of the change is in, and that goes on behind it; -1: there is none. */
static int chain_of(const struct xt_ruleset *rs, const struct xt_diff *d)
{
	for (__u32 i = 0; i < rs->nchains; i++) {
		const struct xt_chain *c = &rs->chains[i];

		if (d->at >= c->first && d->at + d->ndel < c->first + c->count)
			return i;
	}
	return -1;
}

/* The chain of an entry; they are in order. */
static __u32 chain_at(const struct xt_ruleset *rs, __u32 counter)
{
	__u32 lo = 0, hi = rs->nchains;

	while (hi - lo > 1) {
		__u32 mid = lo + (hi - lo) / 2;

		if (rs->chains[mid].first <= counter)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

struct from {
	struct gen *old;
	struct alone rule;	/* the last that was asked for */
};

static const struct ir_rule *old_rule(void *arg, __u32 entry, __u32 *chain)
{
	struct from *f = arg;
	const struct gen *g = f->old;
	__u32 at;

	alone_free(&f->rule);
	if (entry >= g->rs.nrules)
		return NULL;
	at = g->offsets[entry];
	if (!alone_decode(&f->rule, g, g->rs.blob + at, g->offsets[entry + 1] - at, 1,
			  xt_blob_comefrom(g->rs.family, g->rs.blob, at)))
		return NULL;
	*chain = chain_at(&g->rs, entry);
	return f->rule.rules;
}

static void move_slot(const struct xt_diff *d, struct xtjit_slot *s)
{
	if (s->entry >= d->offset + d->old_len)
		s->entry += d->new_len - d->old_len;
}

/* The slots of the rules that come, whose numbers they get. */
static void add_slots(struct gen *g, const struct xt_diff *d, __u32 slot, const struct alone *add,
		      __u32 hooks)
{
	for (__u32 i = 0; i < d->nadd; i++) {
		struct ir_rule *r = &add->rules[i];

		if (r->action != IR_A_NATIVE)
			continue;
		g->ir.slots[slot] = add->ir.slots[r->arg];
		g->ir.slots[slot].entry = g->offsets[d->at + i];
		g->ir.slots[slot].hooks = hooks;
		memcpy(g->ir.slot_names[slot], add->ir.slot_names[r->arg],
		       sizeof(g->ir.slot_names[slot]));
		r->arg = slot++;
	}
}

/*
 * @g's native slots, from @old's: what goes gives way to those of @add.  The
 * rules get the numbers that they would have if all were decoded.
 */
static int edit_slots(struct gen *g, const struct gen *old, const struct xt_diff *d,
		      struct cl_edit *e, struct alone *add, __u32 hooks)
{
	const struct ir_table *from = &old->ir;
	struct ir_table *to = &g->ir;
	__u32 n = 0;

	while (e->slot < from->nslots && from->slots[e->slot].entry < d->offset)
		e->slot++;
	while (e->slot + e->slots_del < from->nslots &&
	       from->slots[e->slot + e->slots_del].entry < d->offset + d->old_len)
		e->slots_del++;
	e->slots_add = slots_of(add, d->nadd);
	to->nslots = from->nslots - e->slots_del + e->slots_add;
	to->slots = calloc(to->nslots + 1, sizeof(*to->slots));
	to->slot_names = calloc(to->nslots + 1, sizeof(*to->slot_names));
	if (!to->slots || !to->slot_names)
		return -ENOMEM;
	for (__u32 i = 0; i < from->nslots; i++) {
		if (i == e->slot)
			n += e->slots_add;
		if (i >= e->slot && i - e->slot < e->slots_del)
			continue;
		to->slots[n] = from->slots[i];
		move_slot(d, &to->slots[n]);
		memcpy(to->slot_names[n++], from->slot_names[i], sizeof(*to->slot_names));
	}
	g->tracks = old->tracks;
	move_slot(d, &g->tracks);
	add_slots(g, d, e->slot, add, hooks);
	return 0;
}

/*
 * Of a table made as a whole, there may be programs that have no groups (struct ir_table's
 * .plain), and counters have no gaps.  A ruleset begins with full buckets of limit, and nth anew.
 */
static bool may_be_in_place(const struct gen *old, const struct cl_edit *e)
{
	return old->edited && !old->fixed && old->maps.state < 0 && e->keep &&
	       e->ndel <= 1 && e->nadd <= 1;
}

static void try_in_place(struct gen *g, const struct gen *old)
{
	static const struct cl_stale none;

	g->change = malloc(sizeof(*g->change));
	g->in_place = g->change && classify_fits(&old->grouped, &g->grouped, old->stale ?: &none,
						 g->change);
	if (!g->in_place)
		return;
	g->prog_id = old->prog_id;
	g->drops = old->drops;
	g->maps.ncounters = old->maps.ncounters;
	g->maps.counted = old->maps.counted;
}

/* g->grouped, and the counters of its rules. */
static int edit_lookups(struct gen *g, const struct gen *old, const struct xt_diff *d, struct cl_edit *e,
		   struct xt_err *err)
{
	int ret = gen_numbers(g, old, d, e) ? 0 : -ENOMEM;

	e->stale = old->stale;
	e->place = may_be_in_place(old, e);
	if (!ret)
		ret = classify_edit(&old->grouped, e, &g->grouped, err);
	if (!ret && e->place)
		try_in_place(g, old);
	free((void *)e->was.entry);
	free((void *)e->is.entry);
	return ret;
}

/* g->grouped, from @old's. 0 or a negative errno. */
static int edit_groups(struct gen *g, struct gen *old, const struct xt_diff *d, const void *entries,
		       struct xt_err *err)
{
	int chain = chain_of(&old->rs, d), ret = -EAGAIN;
	struct from from = { .old = old };
	struct alone del = { 0 }, add = { 0 };
	struct cl_edit e = { .at = d->at, .rule = old_rule, .arg = &from };
	__u32 hooks;

	if (!d->ndel && !d->nadd)
		return edit_slots(g, old, d, &e, &add, 0) ?: edit_lookups(g, old, d, &e, err);
	if (chain < 0 || d->ndel + d->nadd > EDIT_MAX)
		return -EAGAIN;
	hooks = xt_blob_comefrom(g->rs.family, old->rs.blob, d->offset);
	if (alone_decode(&del, old, old->rs.blob + d->offset, d->old_len, d->ndel, hooks) &&
	    alone_decode(&add, old, entries + d->offset, d->new_len, d->nadd, hooks) &&
	    can_change(&del, d->ndel) && can_change(&add, d->nadd)) {
		e.chain = chain;
		e.ndel = d->ndel;
		e.nadd = d->nadd;
		e.del = del.rules;
		e.add = add.rules;
		/* perhaps the last that tracks, or the first */
		if (!del.tracks && (old->conntrack || !add.tracks))
			ret = edit_slots(g, old, d, &e, &add, hooks) ?: edit_lookups(g, old, d, &e, err);
	}
	alone_free(&del);
	alone_free(&add);
	alone_free(&from.rule);
	return ret;
}

/* g->rs, but for the rules. */
static int edit_ruleset(struct gen *g, const struct gen *old, const struct xt_diff *d,
			const void *entries, struct xt_err *err)
{
	const struct xt_ruleset *from = &old->rs;
	struct xt_ruleset *rs = &g->rs;
	void *blob = gen_make_blob(g, g->h.size, err);

	*rs = *from;
	rs->rules = NULL;
	rs->mem = rs->chains = malloc((from->nchains + 1) * sizeof(*rs->chains));
	rs->blob = blob;
	rs->size = g->h.size;
	rs->nrules = g->h.num_entries;
	memcpy(rs->hook_entry, g->h.hook_entry, sizeof(rs->hook_entry));
	memcpy(rs->underflow, g->h.underflow, sizeof(rs->underflow));
	for (int i = 0; i < XT_HOOKS; i++)
		if (!(g->h.valid_hooks & (1 << i)))
			rs->hook_entry[i] = rs->underflow[i] = ~0u;
	if (!rs->chains || !blob)
		return -ENOMEM;
	xt_diff_apply(from->family, d, from->blob, g->offsets, g->h.num_entries, entries, blob);
	for (__u32 i = 0; i < from->nchains; i++) {
		struct xt_chain *c = &rs->chains[i];

		*c = from->chains[i];
		c->name = old->ir.chains[i].name;
		if (d->at >= c->first && d->at < c->first + c->count)
			c->count += d->nadd - d->ndel;
		else if (c->first > d->at)
			c->first += d->nadd - d->ndel;
	}
	return 0;
}

/* From now on, @old's rules are @g's, too. */
static int share(struct gen *g, struct gen *old)
{
	struct gen_origin *o = old->origin;
	const struct ir_table own = g->ir;

	if (!o) {
		o = calloc(1, sizeof(*o));
		if (!o)
			return -ENOMEM;
		o->refs = 1;
		o->ir = old->ir;
		o->grouped = old->grouped;
		old->origin = o;
	}
	o->refs++;
	g->origin = o;
	g->edited = true;
	g->ir = old->ir;
	g->ir.ncounters = g->ncounters;
	g->ir.nslots = g->grouped.nslots = own.nslots;
	g->ir.slots = g->grouped.slots = own.slots;
	g->ir.slot_names = g->grouped.slot_names = own.slot_names;
	g->conntrack = old->conntrack;
	return 0;
}

static bool offsets_of(struct gen *old)
{
	if (!old->offsets)
		old->offsets = xt_offsets(old->rs.family, old->rs.blob, old->rs.nrules, old->rs.size);
	return old->offsets;
}

static int edit(struct gen *g, struct gen *old, const void *entries, struct xt_err *err)
{
	struct xt_diff d;
	int ret;

	g->offsets = xt_offsets(old->rs.family, entries, g->h.num_entries, g->h.size);
	if (!g->offsets || !xt_diff(old->rs.family, &old->h, old->rs.blob, old->offsets, &g->h,
				    entries, g->offsets, &d))
		return -EAGAIN;
	g->rs.family = old->rs.family;
	ret = edit_groups(g, old, &d, entries, err);
	if (ret)
		return ret;
	ret = share(g, old);
	if (ret) {
		classify_free(&g->grouped);
		return ret;
	}
	g->decoded = true;
	g->ndel = d.ndel;
	g->nadd = d.nadd;
	return edit_ruleset(g, old, &d, entries, err);
}

/* Trace lines are told the names of all chains. */
static bool editable(const struct gen *old, const struct xt_replace_hdr *h)
{
	return old->decoded && !old->traced && !old->marks && old->grouped.image &&
	       h->num_entries <= XT_MAX_RULES && !strncmp(h->name, old->h.name, sizeof(h->name));
}

enum gen_result gen_edit(struct gen **out, struct gen *old, const struct xt_replace_hdr *h,
			 const void *entries, __u64 netns)
{
	struct gen *g = editable(old, h) && offsets_of(old) ? gen_new() : NULL;
	struct xt_err why = {};

	if (!g)
		return GEN_UNCOMPILED;
	g->h = *h;
	g->ncounters = h->num_entries;
	if (edit(g, old, entries, &why) || (!g->in_place && gen_compile(g, netns, &why))) {
		if (!g->decoded) {
			free(g->offsets);
			free(g->ir.slots);
			free(g->ir.slot_names);
		}
		gen_close(g);
		return GEN_UNCOMPILED;
	}
	*out = g;
	return GEN_OK;
}
