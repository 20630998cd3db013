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
	const struct ir_rule *rules;
	bool there;
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

static bool same_rules(const struct ir_rule *a, const struct ir_rule *b, __u32 n)
{
	for (__u32 i = 0; i < n; i++)
		if (a[i].npreds != b[i].npreds || a[i].action != b[i].action ||
		    a[i].arg != b[i].arg ||
		    memcmp(a[i].preds, b[i].preds, a[i].npreds * sizeof(*a[i].preds)))
			return false;
	return true;
}

/* The same rules at each hook; each still there, and looking at the packet. */
static bool take_rules(struct alone *a, __u32 n, __u32 hooks)
{
	for (int i = 0; i < XT_HOOKS; i++) {
		const struct ir_chain *c;

		if (!(hooks & (1 << i)))
			continue;
		c = &a->ir.chains[a->ir.base_chain[i]];
		if (c->nrules != n + 1 || (a->rules && !same_rules(a->rules, c->rules, n)))
			return false;
		a->rules = c->rules;
	}
	for (__u32 i = 0; i < n; i++)
		if (!a->rules[i].npreds)
			return false;
	return !a->ir.nslots && !a->ir.nlimits && !a->ir.nnths && !a->ir.nlogs;
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

struct from {
	struct gen *old;
	struct alone rule;	/* the last that was asked for */
};

static const struct ir_rule *old_rule(void *arg, __u32 counter)
{
	struct from *f = arg;
	const struct gen *g = f->old;
	__u32 at;

	alone_free(&f->rule);
	if (counter >= g->rs.nrules)
		return NULL;
	at = g->offsets[counter];
	if (!alone_decode(&f->rule, g, g->rs.blob + at, g->offsets[counter + 1] - at, 1,
			  xt_blob_comefrom(g->rs.family, g->rs.blob, at)))
		return NULL;
	return f->rule.rules;
}

/* g->grouped, from @old's. 0 or a negative errno. */
static int edit_groups(struct gen *g, struct gen *old, const struct xt_diff *d, const void *entries,
		       struct xt_err *err)
{
	int chain = chain_of(&old->rs, d), ret = -EAGAIN;
	struct from from = { .old = old };
	struct alone del = { 0 }, add = { 0 };
	struct cl_edit e = { .at = d->at, .rule = old_rule, .arg = &from };
	struct ir_needs needs;
	__u32 hooks;

	if (!d->ndel && !d->nadd)
		return classify_edit(&old->grouped, &e, &g->grouped, err);
	if (chain < 0 || d->ndel + d->nadd > EDIT_MAX)
		return -EAGAIN;
	hooks = xt_blob_comefrom(g->rs.family, old->rs.blob, d->offset);
	if (alone_decode(&del, old, old->rs.blob + d->offset, d->old_len, d->ndel, hooks) &&
	    alone_decode(&add, old, entries + d->offset, d->new_len, d->nadd, hooks)) {
		e.chain = chain;
		e.ndel = d->ndel;
		e.nadd = d->nadd;
		e.del = del.rules;
		e.add = add.rules;
		ir_needs(&del.ir, &needs);
		/* perhaps the last that needs it */
		if (!del.there || !needs.conntrack)
			ret = classify_edit(&old->grouped, &e, &g->grouped, err);
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
	g->needs = old->needs;
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

/* Native slots know the offsets of their entries; the module is told all of them. */
static bool editable(const struct gen *old, const struct xt_replace_hdr *h)
{
	return old->decoded && !helper.backend->native && !old->ir.nslots &&
	       old->grouped.image && h->num_entries <= XT_MAX_RULES &&
	       !strncmp(h->name, old->h.name, sizeof(h->name));
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
	if (edit(g, old, entries, &why) || gen_compile(g, netns, &why)) {
		free(g->decoded ? NULL : g->offsets);
		gen_close(g);
		return GEN_UNCOMPILED;
	}
	*out = g;
	return GEN_OK;
}
