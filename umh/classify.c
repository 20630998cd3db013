// SPDX-License-Identifier: GPL-2.0
/*
 * Runs of rules, their families, and what stays between.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "classify_priv.h"

const struct cl_limits cl_limits_default = { .family = 6, .group = 10 };

const struct cl_limits *cl_limits(void)
{
	static struct cl_limits own;
	const char *text = getenv("XTJIT_CLASSIFY");

	if (!text || !*text)
		return &cl_limits_default;
	own.group = own.family = strcmp(text, "off") ? strtoul(text, NULL, 0) : ~0u;
	return &own;
}

/* Rules with the same conditions and key fields. */
struct kind {
	__u16 nconds;
	__u16 conds[CL_CONDS];
	bool hot;
	bool has[CL_NFIELDS];
};

/* The lengths that the rules of a kind have, by field that has prefixes. */
struct lengths {
	bool seen[CL_DPORT + 1][129];
	int vary;
	__u32 sort;		/* the last that was seen */
};

/* What was parsed of a rule, or of what is before a guard of it. */
struct form {
	__u32 kind;
	__u32 prefixes;		/* into the run's: those of its fields, one after the other */
	__u32 sorts;		/* into the run's: of its keys */
	__u8 nalts[CL_NFIELDS];
	__u8 nkeys;
};

_Static_assert(CL_ALTS < 256 && CL_PRODUCT < 256, "struct form");

/* A family, before it is one. */
struct sort {
	__u32 kind;
	__u8 len[CL_NFIELDS];
};

struct run {
	const struct ir_table *t;
	struct ir_arena *arena;
	const struct cl_limits *limits;
	const bool *returns;	/* by chain */
	bool no_on;		/* what goes on stays out */
	__u32 family;		/* rules that a family must have */
	const struct ir_rule *rules;
	__u32 n;
	struct cl_conds conds;
	struct set kinds, sorts, acts;
	__u32 kind_hint[2];
	struct form *forms;
	__u32 nforms, forms_cap;
	struct cl_prefix *prefixes;
	__u32 nprefixes, prefixes_cap;
	__u32 *key_sort;	/* of each key of the forms */
	__u32 nkeys, keys_cap;
	struct lengths *lengths;	/* by kind */
	__u32 *nrules;		/* by sort */
	__u32 nnrules;
	bool *member;		/* by rule */
	__u32 *form;		/* by rule: its first; one more */
	struct cl_parsed parsed;
};

static bool act_on(const struct run *r, const struct ir_rule *rule)
{
	switch (rule->action) {
	case IR_A_NEXT:
	case IR_A_LOG:
		return true;
	case IR_A_JUMP:
		return r->returns[rule->arg];
	case IR_A_NATIVE:
		return !cl_final(r->t, rule->arg);
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

/* Prefix by prefix, combination @i of a form's. */
static void key_at(const struct run *r, const struct form *f, int i,
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

		key_at(r, f, i, key);
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

/* The members of the run; how many. */
static __u32 find_members(struct run *r)
{
	__u32 n = 0;

	for (__u32 i = 0; i < r->n; i++) {
		r->member[i] = cl_pure(&r->rules[i]) && r->rules[i].counter < (1u << 24) - 1 &&
			       !(r->no_on && act_on(r, &r->rules[i]));
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

/*
 * The group of a run whose members are known.
 */
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
	a.on = act_on(r, rule);
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
	for (__u32 i = 0; i < r->acts.n; i++)
		m->g->native |= m->g->acts[i].action == IR_A_NATIVE;
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

/* Groups whose rules do things of their own are not changed in place. */
static bool keeps_refs(const struct ir_group *g)
{
	return !g->native && g->nacts <= CL_INDIRECT;
}

static void add_ref(struct run *r, struct making *m, const struct cl_family *f,
		    const struct cl_item *i)
{
	struct ir_group *g = m->g;

	if (!keeps_refs(g))
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
			key_at(r, f, n, key);
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

/* Each rule's native slot is its own. */
static void native_slots(struct run *r, struct ir_group *g, struct cl_image *im)
{
	__u32 *at;

	if (!g->native)
		return;
	g->slots = cl_image_add(im, (g->last - g->first + 1) * sizeof(*at));
	at = (void *)(im->p + g->slots);
	for (__u32 i = 0; i < r->n; i++)
		if (r->member[i] && r->rules[i].action == IR_A_NATIVE)
			at[r->rules[i].counter - g->first] = r->rules[i].arg;
}

static int build_families(struct run *r, struct making *m, struct cl_image *im)
{
	struct cl_lists l = { .goes_on = m->g->resumes ? goes_on : NULL, .arg = m };
	struct ir_group *g = m->g;
	int ret = 0;

	for (__u32 s = 0; !ret && s < r->sorts.n; s++)
		if (m->family[s] && g->families[m->family[s] - 1].nwords)
			ret = cl_family_build(r->t, r->arena, &g->families[m->family[s] - 1],
					      &m->items[s], &l, im);
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
		native_slots(r, g, im);
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

static void run_init(struct run *r)
{
	r->conds.set.size = sizeof(struct cl_cond);
	r->conds.loose.size = sizeof(struct ir_pred);
	r->kinds.size = sizeof(struct kind);
	r->sorts.size = sizeof(struct sort);
	r->acts.size = sizeof(struct cl_act);
}

static void run_free(struct run *r)
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

/* A group of the rules of @r, if there are enough; marks its members. */
static bool group_of(struct run *r, struct ir_group *g, struct cl_image *im, int *ret)
{
	for (int i = 0; i < 2 && !*ret; i++) {
		r->no_on = i;
		memset(g, 0, sizeof(*g));
		run_init(r);
		if (find_members(r) >= r->limits->group)
			*ret = make_group(r, g, im);
		run_free(r);
		if (*ret == -E2BIG)
			*ret = 0;
		else
			return g->nmembers && !*ret;
	}
	return false;
}

/*
 * Chains.
 */
struct out {
	struct ir_table *t;
	struct ir_chain *c;
	__u8 *changes, tests;	/* by native slots in each chain; what this chain tests */
};

static struct ir_rule *emit(struct out *o)
{
	struct ir_chain *c = o->c;

	c->rules = ir_grow(o->t->arena, c->rules, c->nrules, sizeof(*c->rules));
	memset(&c->rules[c->nrules], 0, sizeof(*c->rules));
	return &c->rules[c->nrules++];
}

static void emit_own(struct out *o, enum ir_action_kind action, __u32 group)
{
	struct ir_rule *r = emit(o);

	r->action = action;
	r->arg = group;
	r->counter = o->t->groups[group].first;
}

/* A rule that stayed between members. */
static void emit_rest(struct out *o, const struct ir_rule *x, __u32 group)
{
	struct ir_rule *r = emit(o);

	*r = *x;
	r->preds = ir_alloc(o->t->arena, (x->npreds + 1) * sizeof(*r->preds));
	if (x->npreds)
		memcpy(r->preds + 1, x->preds, x->npreds * sizeof(*r->preds));
	r->preds[0].kind = IR_P_BEFORE;
	r->preds[0].index = group;
	r->preds[0].value = x->counter;
	r->npreds++;
}

static void emit_run(struct out *o, const struct run *r, const struct ir_group *g, __u32 chain)
{
	__u32 n = o->t->ngroups, left = g ? g->nmembers : 0;
	struct ir_group *to;

	if (g) {
		o->t->groups = ir_grow(o->t->arena, o->t->groups, n, sizeof(*g));
		to = &o->t->groups[o->t->ngroups++];
		*to = *g;
		to->chain = chain;
	}
	for (__u32 i = 0; i < r->n; i++) {
		if (!g || (!r->member[i] && (left == g->nmembers || !left))) {
			*emit(o) = r->rules[i];
			continue;
		}
		if (!r->member[i]) {
			emit_rest(o, &r->rules[i], n);
			o->t->groups[n].nrest++;
			continue;
		}
		if (left == g->nmembers)
			emit_own(o, IR_A_LOOKUP, n);
		if (!--left)
			emit_own(o, IR_A_DISPATCH, n);
	}
}

static int one_run(struct out *o, const struct ir_table *in, const bool *returns,
		   const struct cl_limits *limits, __u32 chain, __u32 from, __u32 to)
{
	static __thread struct run r;
	struct ir_group g;
	int ret = 0;
	bool any;

	memset(&r, 0, offsetof(struct run, parsed));
	r.t = in;
	r.arena = o->t->arena;
	r.limits = limits;
	r.returns = returns;
	r.rules = in->chains[chain].rules + from;
	r.n = to - from;
	if (r.n >= limits->group) {
		r.member = calloc(r.n, sizeof(*r.member));
		r.form = malloc((r.n + 1) * sizeof(*r.form));
		if (!r.member || !r.form) {
			free(r.member);
			free(r.form);
			return -ENOMEM;
		}
	}
	any = r.n >= limits->group && group_of(&r, &g, o->t->image, &ret);
	emit_run(o, &r, any ? &g : NULL, chain);
	free(r.member);
	free(r.form);
	return ret;
}

/* What is behind the rule may be reached through it. */
static bool passes(const struct ir_rule *r, const bool *returns)
{
	if (r->npreds)
		return true;
	switch (r->action) {
	case IR_A_ACCEPT:
	case IR_A_DROP:
	case IR_A_RETURN:
	case IR_A_GOTO:
	case IR_A_REJECT:
	case IR_A_QUEUE:
		return false;
	case IR_A_JUMP:
		return returns[r->arg];
	default:
		return true;
	}
}

/* Whether its end can be reached; what the others do is as far as it is known. */
static bool chain_returns(const bool *returns, const struct ir_chain *c)
{
	for (__u32 i = 0; i < c->nrules; i++) {
		const struct ir_rule *r = &c->rules[i];

		if (r->action == IR_A_RETURN || (r->action == IR_A_GOTO && returns[r->arg]))
			return true;
		if (!passes(r, returns))
			return false;
	}
	return true;
}

/*
 * Nothing of its kind may be taken out of its place, or passed by; or it changes
 * what the chain's lookups have looked at.
 */
static bool barrier(const struct out *o, const struct ir_table *in, const struct ir_rule *r)
{
	return r->action == IR_A_DEFER ||
	       (r->action != IR_A_GOTO && (cl_changes(in, o->changes, r) & o->tests));
}

static int one_chain(struct out *o, const struct ir_table *in, const bool *returns,
		     const struct cl_limits *limits, __u32 chain)
{
	const struct ir_chain *c = &in->chains[chain];
	__u32 n = c->nrules - (c->hook >= 0 && c->nrules), i = 0;
	int ret = 0;

	o->tests = cl_tests(c);
	o->c = &o->t->chains[chain];
	*o->c = *c;
	o->c->rules = NULL;
	o->c->nrules = 0;
	while (!ret && i < n) {
		__u32 end = i;

		while (end < n && !barrier(o, in, &c->rules[end]) &&
		       passes(&c->rules[end], returns) &&
		       (end == i || c->rules[end].counter > c->rules[end - 1].counter))
			end++;
		ret = one_run(o, in, returns, limits, chain, i, end);
		i = end;
		while (i < n && (barrier(o, in, &c->rules[i]) || !passes(&c->rules[i], returns)))
			*emit(o) = c->rules[i++];
	}
	if (n < c->nrules)
		*emit(o) = c->rules[n];
	return ret;
}

static bool *find_returns(const struct ir_table *t)
{
	bool *returns = malloc(t->nchains + 1);

	if (!returns)
		abort();
	memset(returns, true, t->nchains + 1);
	for (int turn = 0; turn < 3; turn++)
		for (__u32 c = t->nchains; c--;)
			returns[c] = chain_returns(returns, &t->chains[c]);
	return returns;
}

int classify(const struct ir_table *in, const struct cl_limits *limits, struct ir_table *out,
	     struct xt_err *err)
{
	struct out o = { .t = out, .changes = cl_chain_changes(in) };
	bool *returns = find_returns(in);
	int ret = 0;

	*out = *in;
	out->arena = ir_arena_new();
	out->image = ir_alloc(out->arena, sizeof(*out->image));
	out->image->fd = -1;
	out->chains = ir_alloc(out->arena, in->nchains * sizeof(*out->chains));
	out->plain = in;
	out->groups = NULL;
	out->ngroups = 0;
	for (__u32 c = 0; !ret && c < in->nchains; c++)
		ret = one_chain(&o, in, returns, limits, c);
	free(returns);
	free(o.changes);
	out->image->planned = out->image->size;
	if (!ret)
		return 0;
	classify_free(out);
	return xt_fail(err, ret, "%s: lookups: %s", in->table->name, strerror(-ret));
}

void classify_free_image(struct ir_table *t)
{
	if (t->image->fd >= 0)
		close(t->image->fd);
	free(t->image->p);
	t->image->fd = -1;
	t->image->p = NULL;
}

void classify_free(struct ir_table *t)
{
	if (!t->image)
		return;
	classify_free_image(t);
	t->image = NULL;
	ir_table_free(t);
}

size_t classify_size(const struct ir_table *t)
{
	return t->image ? t->image->size : 0;
}

int classify_map(const struct ir_table *t, struct xt_err *err)
{
	LIBBPF_OPTS(bpf_map_create_opts, o, .map_flags = BPF_F_MMAPABLE);
	struct cl_image *im = t->image;
	void *p;
	int fd, ret;

	if (im->fd >= 0)
		return im->fd;
	fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "xtjit_lookup", 4, im->size ?: 8, 1, &o);
	if (fd < 0)
		return xt_fail(err, -errno, "no map for %zu bytes of lookups: %s", im->size,
			       strerror(errno));
	p = mmap(NULL, im->size ?: 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		ret = -errno;
		close(fd);
		return xt_fail(err, ret, "map of lookups: mmap: %s", strerror(-ret));
	}
	memcpy(p, im->p, im->size);
	munmap(p, im->size ?: 8);
	free(im->p);
	im->p = NULL;
	im->fd = fd;
	return fd;
}
