// SPDX-License-Identifier: GPL-2.0
/*
 * Which rules of a run become members of its group: rules are parsed into forms,
 * their keys sorted by what families would have them, and families that are too
 * small are left out.
 */
#include <stdlib.h>
#include <string.h>

#include "classify_run.h"

void cl_run_init(struct run *r)
{
	r->conds.set.size = sizeof(struct cl_cond);
	r->conds.loose.size = sizeof(struct ir_pred);
	r->kinds.size = sizeof(struct kind);
	r->sorts.size = sizeof(struct sort);
	r->acts.size = sizeof(struct cl_act);
}

void cl_run_free(struct run *r)
{
	cl_conds_free(&r->conds);
	set_free(&r->kinds);
	set_free(&r->sorts);
	set_free(&r->acts);
	free(r->forms);
	free(r->prefixes);
	free(r->key_sort);
	free(r->lengths);
	free(r->nrules);
	r->conds.uses = NULL;
	r->conds.cap = 0;
	r->forms = NULL;
	r->prefixes = NULL;
	r->key_sort = NULL;
	r->lengths = NULL;
	r->nrules = NULL;
	r->nforms = r->forms_cap = r->nprefixes = r->prefixes_cap = 0;
	r->nkeys = r->keys_cap = r->nnrules = 0;
}

bool cl_act_on(const struct run *r, const struct ir_rule *rule)
{
	switch (rule->action) {
	case IR_A_NEXT:
	case IR_A_LOG:
		return true;
	case IR_A_JUMP:
		return r->returns[rule->arg];
	case IR_A_NATIVE:
		return !classify_final(r->t, rule->arg);
	default:
		return false;
	}
}

static bool any_key(const struct cl_parsed *p)
{
	for (int f = 0; f < CL_NFIELDS; f++)
		if (p->has[f])
			return true;
	return false;
}

static __u32 kind_of(struct run *r, bool hot)
{
	struct kind k;

	memset(&k, 0, sizeof(k));
	k.nconds = r->parsed.nconds;
	memcpy(k.conds, r->parsed.conds, k.nconds * sizeof(k.conds[0]));
	memcpy(k.has, r->parsed.has, sizeof(k.has));
	k.hot = hot;
	return set_guess(&r->kinds, &k, &r->kind_hint[hot]);
}

static void *room(void *array, __u32 n, __u32 *cap, size_t size)
{
	if (n <= *cap)
		return array;
	*cap = n + n / 2 + 256;
	array = realloc(array, *cap * size);
	if (!array)
		abort();
	return array;
}

/* Keeps the form that was parsed; false: there is nothing to look up. */
static bool keep_form(struct run *r, bool hot)
{
	const struct cl_parsed *p = &r->parsed;
	struct form *f;

	if (!hot && !any_key(p))
		return false;
	r->forms = room(r->forms, r->nforms + 1, &r->forms_cap, sizeof(*r->forms));
	f = &r->forms[r->nforms++];
	*f = (struct form){
		.kind = kind_of(r, hot), .prefixes = r->nprefixes, .nkeys = p->nkeys,
	};
	for (int i = 0; i < CL_NFIELDS; i++) {
		if (!p->has[i])
			continue;
		f->nalts[i] = p->nalts[i];
		r->prefixes = room(r->prefixes, r->nprefixes + p->nalts[i], &r->prefixes_cap,
				   sizeof(*r->prefixes));
		memcpy(r->prefixes + r->nprefixes, p->alts[i], p->nalts[i] * sizeof(*p->alts[i]));
		r->nprefixes += p->nalts[i];
	}
	return true;
}

/* The forms of a rule: its companions, then itself. */
static bool parse_forms(struct run *r, const struct ir_rule *x)
{
	struct cl_parsed *p = &r->parsed;

	for (int i = 0; i < x->npreds; i++) {
		if (!cl_is_guard(&x->preds[i]))
			continue;
		if (!cl_parse(r->t, x, i, &r->conds, p) ||
		    !cl_parse_bad(&r->conds, p, &x->preds[i]) || !keep_form(r, true))
			return false;
	}
	return cl_parse(r->t, x, x->npreds, &r->conds, p) && keep_form(r, false);
}

/* False if there is something about the rule that no lookup can do. */
static bool find_forms(struct run *r, __u32 rule)
{
	__u32 prefixes = r->nprefixes;

	if (r->member[rule] && parse_forms(r, &r->rules[rule]))
		return true;
	r->nforms = r->form[rule];
	r->nprefixes = prefixes;
	return false;
}

static void note_lengths(struct run *r)
{
	r->lengths = calloc(r->kinds.n + 1, sizeof(*r->lengths));
	if (!r->lengths)
		abort();
	for (__u32 i = 0; i < r->nforms; i++) {
		const struct form *f = &r->forms[i];
		const struct cl_prefix *p = &r->prefixes[f->prefixes];

		for (int k = 0; k <= CL_DPORT; k++)
			for (int n = 0; n < f->nalts[k]; n++)
				r->lengths[f->kind].seen[k][p++->len] = true;
	}
}

/* The field with the most lengths varies. */
static void choose_vary(struct run *r)
{
	for (__u32 k = 0; k < r->kinds.n; k++) {
		int most = 1;

		r->lengths[k].vary = -1;
		for (int f = 0; f <= CL_DPORT; f++) {
			int n = 0;

			for (int len = 0; len <= 128; len++)
				n += r->lengths[k].seen[f][len];
			if (n > most) {
				most = n;
				r->lengths[k].vary = f;
			}
		}
	}
}

void cl_key_at(const struct run *r, const struct form *f, int i,
	       const struct cl_prefix *key[CL_NFIELDS])
{
	const struct cl_prefix *p = &r->prefixes[f->prefixes];

	for (int k = 0; k < CL_NFIELDS; k++) {
		if (!f->nalts[k])
			continue;
		key[k] = &p[i % f->nalts[k]];
		i /= f->nalts[k];
		p += f->nalts[k];
	}
}

static __u32 sort_of(struct run *r, const struct form *f, const struct cl_prefix *const *key)
{
	int vary = r->lengths[f->kind].vary;
	struct sort s;

	memset(&s, 0, sizeof(s));
	s.kind = f->kind;
	for (int k = 0; k < CL_NFIELDS; k++)
		if (f->nalts[k] && k != vary)
			s.len[k] = key[k]->len;
	return set_guess(&r->sorts, &s, &r->lengths[f->kind].sort);
}

/* The sort of each key of a form; how many rules each sort has. */
static void find_sorts(struct run *r, struct form *f)
{
	const struct cl_prefix *key[CL_NFIELDS] = { NULL };
	__u32 last = SET_NONE;

	f->sorts = r->nkeys;
	r->key_sort = room(r->key_sort, r->nkeys + f->nkeys, &r->keys_cap, sizeof(*r->key_sort));
	for (int i = 0; i < f->nkeys; i++) {
		__u32 sort;

		cl_key_at(r, f, i, key);
		sort = sort_of(r, f, key);
		if (sort >= r->nnrules) {
			__u32 n = r->nnrules;

			r->nrules = room(r->nrules, sort + 1, &r->nnrules, sizeof(*r->nrules));
			memset(r->nrules + n, 0, (r->nnrules - n) * sizeof(*r->nrules));
		}
		r->nrules[sort] += last != sort;
		last = sort;
		r->key_sort[r->nkeys++] = sort;
	}
}

/* All keys of a rule are of sorts that become families. */
static bool sorts_taken(const struct run *r, __u32 rule)
{
	for (__u32 i = r->form[rule]; i < r->form[rule + 1]; i++) {
		const struct form *f = &r->forms[i];
		const struct kind *k = set_at(&r->kinds, f->kind);

		for (int n = 0; !k->hot && n < f->nkeys; n++)
			if (r->nrules[r->key_sort[f->sorts + n]] < r->family)
				return false;
	}
	return true;
}

/* A size that leaves no more families than a program can look up. */
static void choose_family(struct run *r)
{
	__u32 n;

	r->family = r->limits->family;
	do {
		n = 0;
		for (__u32 s = 0; s < r->sorts.n; s++) {
			const struct sort *x = set_at(&r->sorts, s);
			const struct kind *k = set_at(&r->kinds, x->kind);

			n += !k->hot && r->nrules[s] >= r->family;
		}
		if (n > CL_FAMILIES)
			r->family += r->family / 2 + 1;
	} while (n > CL_FAMILIES);
}

__u32 cl_run_members(struct run *r)
{
	__u32 n = 0;

	for (__u32 i = 0; i < r->n; i++) {
		r->member[i] = cl_pure(&r->rules[i]) && r->rules[i].counter < (1u << 24) - 1 &&
			       !(r->no_on && cl_act_on(r, &r->rules[i]));
		if (r->member[i])
			cl_count(r->t, &r->rules[i], &r->conds);
	}
	for (__u32 i = 0; i < r->n; i++) {
		r->form[i] = r->nforms;
		r->member[i] = find_forms(r, i);
	}
	r->form[r->n] = r->nforms;
	note_lengths(r);
	choose_vary(r);
	for (__u32 i = 0; i < r->nforms; i++)
		find_sorts(r, &r->forms[i]);
	choose_family(r);
	for (__u32 i = 0; i < r->n; i++) {
		r->member[i] = r->member[i] && sorts_taken(r, i);
		n += r->member[i];
	}
	return n;
}
