// SPDX-License-Identifier: GPL-2.0
/*
 * Small chains by the hundred, one for each service or endpoint, would be as many
 * pieces of code.  Those at the same depth of calls become one chain, which has
 * their rules, each behind the predicate IR_P_CHAIN; what calls one of them notes
 * which in the merged chain's slot (struct ir_rule's .entry).  To the lookups the
 * number of the chain is a field of the key like any other.
 *
 * A chain is merged if all its rules become members of the merged one's group:
 * what stays out of a group is tried one by one.
 */
#include <stdlib.h>
#include <string.h>

#include "classify_run.h"

#define RULES	32	/* of a chain that is merged, at most */
#define LAYERS	6	/* merged chains of a table, each of which has slots of its own */
#define TRIALS	4	/* what is left when some chains are out may be too few for a family */
#define REST	16	/* rules of a merged chain that may stay out of its group */

struct merging {
	const struct ir_table *in;
	struct ir_arena *arena;
	const struct cl_limits *limits;
	const bool *returns;
	const __u8 *changes;		/* cl_chain_changes() */
	__u8 *tests;			/* by chain: what is tested by it, and by those that call it */
	__u32 *depth;			/* by chain: the longest way to it; CL_NONE: not reached */
	__u32 *chain, n;		/* those of the layer */
	__u32 *layer[LAYERS], size[LAYERS], nlayers;
};

static void *zeroed(size_t n, size_t size)
{
	void *p = calloc(n + 1, size);

	if (!p)
		abort();
	return p;
}

/* Calls to each chain that is reached. */
static void count_calls(const struct merging *m, __u32 *ncalls)
{
	const struct ir_table *t = m->in;
	__u32 *stack = zeroed(t->nchains, sizeof(*stack)), n = 0;

	for (int h = 0; h < XT_HOOKS; h++)
		if (t->base_chain[h] >= 0)
			stack[n++] = t->base_chain[h];
	while (n) {
		const struct ir_chain *c = &t->chains[stack[--n]];

		for (__u32 i = 0; i < c->nrules; i++)
			if (ir_calls(&c->rules[i]) && !ncalls[c->rules[i].arg]++)
				stack[n++] = c->rules[i].arg;
	}
	free(stack);
}

/* A chain's depth is known when all calls to it have been seen. */
static void find_depths(struct merging *m)
{
	const struct ir_table *t = m->in;
	__u32 *ncalls = zeroed(t->nchains, sizeof(*ncalls)), n = 0;
	__u32 *stack = zeroed(t->nchains, sizeof(*stack));

	count_calls(m, ncalls);
	memset(m->depth, 0xff, t->nchains * sizeof(*m->depth));
	for (int h = 0; h < XT_HOOKS; h++)
		if (t->base_chain[h] >= 0) {
			stack[n++] = t->base_chain[h];
			m->depth[t->base_chain[h]] = 0;
		}
	while (n) {
		__u32 at = stack[--n];
		const struct ir_chain *c = &t->chains[at];

		for (__u32 i = 0; i < c->nrules; i++) {
			__u32 to = c->rules[i].arg;

			if (!ir_calls(&c->rules[i]))
				continue;
			if (m->depth[to] == CL_NONE || m->depth[to] < m->depth[at] + 1)
				m->depth[to] = m->depth[at] + 1;
			if (!--ncalls[to])
				stack[n++] = to;
		}
	}
	free(stack);
	free(ncalls);
}

/*
 * Members of a group that have a condition share its outcome, and each rule of a
 * chain draws for itself: no two of them may have the same odds.
 */
static bool draws_alone(const struct ir_chain *c, __u32 rule)
{
	const struct ir_pred *p = cl_draw(&c->rules[rule]), *other;

	for (__u32 i = 0; p && i < rule; i++) {
		other = cl_draw(&c->rules[i]);
		if (other && other->value == p->value)
			return false;
	}
	return true;
}

/* As one of a merged chain's, it can be a member. */
static bool pure(const struct ir_rule *r)
{
	int draws = 0;

	for (int i = 0; i < r->npreds; i++) {
		const struct ir_rule one = { .npreds = 1, .preds = &r->preds[i] };

		if (r->preds[i].kind == IR_P_RANDOM)
			draws++;
		else if (!cl_pure(&one))
			return false;
	}
	return draws <= 1;
}

static bool may_merge(const struct merging *m, __u32 chain)
{
	const struct ir_chain *c = &m->in->chains[chain];

	if (c->hook >= 0 || c->nrules > RULES || m->depth[chain] == CL_NONE)
		return false;
	for (__u32 i = 0; i < c->nrules; i++) {
		const struct ir_rule *r = &c->rules[i];

		if (r->action == IR_A_DEFER || !pure(r) || !draws_alone(c, i) ||
		    (i && r->counter <= c->rules[i - 1].counter))
			return false;
	}
	return true;
}

static void find_tests(struct merging *m)
{
	const struct ir_table *t = m->in;

	for (__u32 c = 0; c < t->nchains; c++) {
		const struct ir_chain *from = &t->chains[c];
		__u8 tests = cl_tests(from);

		m->tests[c] |= tests;
		for (__u32 i = 0; i < from->nrules; i++)
			if (ir_calls(&from->rules[i]))
				m->tests[from->rules[i].arg] |= tests;
	}
}

/*
 * Without those that change what others of the layer test, or those that call them: what
 * one chain of the merged one changes, any call of it does.
 */
static void no_changes(struct merging *m)
{
	__u8 tests = 0;
	__u32 n = 0;

	for (__u32 i = 0; i < m->n; i++)
		tests |= m->tests[m->chain[i]];
	for (__u32 i = 0; i < m->n; i++)
		if (!(m->changes[m->chain[i]] & tests))
			m->chain[n++] = m->chain[i];
	m->n = n;
}

/* The rule as one of a merged chain's. */
static struct ir_rule of_chain(struct ir_arena *a, const struct ir_rule *from, __u32 chain,
			       __u32 merged)
{
	struct ir_rule r = *from;

	r.preds = ir_alloc(a, (from->npreds + 1) * sizeof(*r.preds));
	if (from->npreds)
		memcpy(r.preds + 1, from->preds, from->npreds * sizeof(*r.preds));
	r.preds[0].kind = IR_P_CHAIN;
	r.preds[0].value = IR_ENTRY | chain;
	r.preds[0].index = merged;
	r.npreds++;
	return r;
}

/* @to = the rules of the chains, for chain @merged; how many. @to NULL: only that. */
static __u32 all_rules(const struct ir_table *t, const __u32 *chain, __u32 n, struct ir_arena *a,
		       __u32 merged, struct ir_rule *to)
{
	__u32 rules = 0;

	for (__u32 i = 0; i < n; i++) {
		const struct ir_chain *c = &t->chains[chain[i]];

		for (__u32 k = 0; to && k < c->nrules; k++)
			to[rules + k] = of_chain(a, &c->rules[k], chain[i], merged);
		rules += c->nrules;
	}
	return rules;
}

/* Takes those out of which some rule would not be a member; how many. */
static __u32 one_trial(struct merging *m)
{
	struct run *r = zeroed(1, sizeof(*r));
	__u32 n = 0, was = m->n, at = 0;
	struct ir_rule *rules;

	r->arena = ir_arena_new();
	r->n = all_rules(m->in, m->chain, m->n, NULL, 0, NULL);
	r->rules = rules = ir_alloc(r->arena, (r->n + 1) * sizeof(*rules));
	all_rules(m->in, m->chain, m->n, r->arena, 0, rules);
	r->t = m->in;
	r->limits = m->limits;
	r->returns = m->returns;
	r->member = zeroed(r->n, sizeof(*r->member));
	r->form = zeroed(r->n + 1, sizeof(*r->form));
	cl_run_init(r);
	cl_run_members(r);
	for (__u32 i = 0; i < was; i++) {
		__u32 end = at + m->in->chains[m->chain[i]].nrules;
		bool all = true;

		for (; at < end; at++)
			all &= r->member[at];
		if (all)
			m->chain[n++] = m->chain[i];
	}
	m->n = n;
	cl_run_free(r);
	ir_arena_free(r->arena);
	free(r->member);
	free(r->form);
	free(r);
	return was - n;
}

static void one_layer(struct merging *m)
{
	no_changes(m);
	for (int i = 0; i < TRIALS; i++) {
		if (m->n < m->limits->chains)
			return;
		if (!one_trial(m))
			break;
	}
	if (m->n < m->limits->chains || m->nlayers == LAYERS)
		return;
	m->layer[m->nlayers] = ir_alloc(m->arena, m->n * sizeof(*m->chain));
	memcpy(m->layer[m->nlayers], m->chain, m->n * sizeof(*m->chain));
	m->size[m->nlayers++] = m->n;
}

/* Chains are in order of their rules' counters. */
static void find_layers(struct merging *m)
{
	const struct ir_table *t = m->in;
	__u32 *count = zeroed(t->nchains, sizeof(*count));

	for (__u32 c = 0; c < t->nchains; c++)
		if (may_merge(m, c))
			count[m->depth[c]]++;
	for (__u32 d = 0; d < t->nchains; d++) {
		if (count[d] < m->limits->chains)
			continue;
		m->n = 0;
		for (__u32 c = 0; c < t->nchains; c++)
			if (m->depth[c] == d && may_merge(m, c))
				m->chain[m->n++] = c;
		one_layer(m);
	}
	free(count);
}

/* Calls of merged chains in @c, whose rules are its own from then on. */
static void aim_calls(struct ir_arena *a, const struct ir_table *t, struct ir_chain *c)
{
	bool own = c->merges;

	for (__u32 i = 0; i < c->nrules; i++) {
		struct ir_rule *r = &c->rules[i];

		if (!ir_calls(r) || !t->chains[r->arg].merged)
			continue;
		if (!own) {
			r = ir_alloc(a, c->nrules * sizeof(*r));
			memcpy(r, c->rules, c->nrules * sizeof(*r));
			c->rules = r;
			r += i;
			own = true;
		}
		r->entry = IR_ENTRY | r->arg;
		r->arg = t->chains[r->arg].merged;
	}
}

static void apply(const struct merging *m, struct ir_table *out)
{
	const struct ir_table *in = m->in;

	out->nchains = in->nchains + m->nlayers;
	out->chains = ir_alloc(m->arena, out->nchains * sizeof(*out->chains));
	memcpy(out->chains, in->chains, in->nchains * sizeof(*out->chains));
	for (__u32 l = 0; l < m->nlayers; l++) {
		struct ir_chain *to = &out->chains[in->nchains + l];

		snprintf(to->name, sizeof(to->name), "(%u chains)", m->size[l]);
		to->hook = -1;
		to->merges = m->size[l];
		to->nrules = all_rules(in, m->layer[l], m->size[l], NULL, 0, NULL);
		to->rules = ir_alloc(m->arena, (to->nrules + 1) * sizeof(*to->rules));
		all_rules(in, m->layer[l], m->size[l], m->arena, in->nchains + l, to->rules);
		for (__u32 i = 0; i < m->size[l]; i++) {
			out->chains[m->layer[l][i]].merged = in->nchains + l;
			out->chains[m->layer[l][i]].nrules = 0;
		}
	}
	for (__u32 c = 0; c < out->nchains; c++)
		aim_calls(m->arena, out, &out->chains[c]);
}

bool cl_merge(const struct ir_table *in, const struct cl_limits *limits, const bool *returns,
	      const __u8 *changes, struct ir_table *out)
{
	struct merging m = {
		.in = in, .arena = out->arena, .limits = limits, .returns = returns,
		.changes = changes,
	};

	if (!limits->chains || in->nchains < limits->chains)
		return false;
	m.depth = zeroed(in->nchains, sizeof(*m.depth));
	m.chain = zeroed(in->nchains, sizeof(*m.chain));
	m.tests = zeroed(in->nchains, sizeof(*m.tests));
	find_depths(&m);
	find_tests(&m);
	find_layers(&m);
	if (m.nlayers)
		apply(&m, out);
	free(m.depth);
	free(m.chain);
	free(m.tests);
	return m.nlayers;
}

bool cl_merged_well(const struct ir_table *t)
{
	for (__u32 c = 0; c < t->nchains; c++) {
		__u32 rest = 0;

		for (__u32 i = 0; t->chains[c].merges && i < t->chains[c].nrules; i++)
			rest += t->chains[c].rules[i].action != IR_A_LOOKUP &&
				t->chains[c].rules[i].action != IR_A_DISPATCH;
		if (rest > REST)
			return false;
	}
	return true;
}

struct ir_rule cl_of_chain(struct ir_arena *a, const struct ir_table *t, const struct ir_rule *r,
			   __u32 chain)
{
	__u32 merged = t->chains[chain].merged;

	return merged ? of_chain(a, r, chain, merged) : *r;
}
