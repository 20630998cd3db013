// SPDX-License-Identifier: GPL-2.0
/*
 * The runs of each chain, their groups in its rules, and what stays between.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "classify_run.h"

const struct cl_limits cl_limits_default = {
	.family = 6, .group = 10, .chains = 64, .deep = 32,
};

const struct cl_limits *cl_limits(void)
{
	static struct cl_limits own;
	const char *text = getenv("XTJIT_CLASSIFY");

	if (!text || !*text)
		return &cl_limits_default;
	own = cl_limits_default;
	own.group = own.family = own.chains =
		strcmp(text, "off") ? strtoul(text, NULL, 0) : ~0u;
	return &own;
}

/*
 * Chains.
 */
struct out {
	struct ir_table *t;
	struct ir_chain *c;
	struct ir_table in;	/* what is to be grouped */
	bool *returns;		/* each chain */
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
	any = r.n >= limits->group && cl_group_of(&r, &g, o->t->image, &ret);
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

/* o->in, and what is known of its chains: @in, with merged chains, if there are any. */
static void merge(struct out *o, const struct ir_table *in, const struct cl_limits *limits)
{
	__u8 *changes = cl_chain_changes(in);
	bool *returns = find_returns(in);

	o->in = *in;
	o->in.arena = o->t->arena;
	o->changes = changes;
	o->returns = returns;
	if (!cl_merge(in, limits, returns, changes, &o->in))
		return;
	o->changes = cl_chain_changes(&o->in);
	o->returns = find_returns(&o->in);
	free(changes);
	free(returns);
}

static int classify_chains(const struct ir_table *in, const struct cl_limits *limits,
			   struct ir_table *out)
{
	struct out o = { .t = out };
	int ret = 0;

	*out = *in;
	out->arena = ir_arena_new();
	merge(&o, in, limits);
	out->image = ir_alloc(out->arena, sizeof(*out->image));
	out->image->fd = -1;
	out->nchains = o.in.nchains;
	out->chains = ir_alloc(out->arena, out->nchains * sizeof(*out->chains));
	out->plain = in;
	out->groups = NULL;
	out->ngroups = 0;
	for (__u32 c = 0; !ret && c < out->nchains; c++)
		ret = one_chain(&o, &o.in, o.returns, limits, c);
	free(o.returns);
	free(o.changes);
	out->image->planned = out->image->size;
	return ret;
}

int classify(const struct ir_table *in, const struct cl_limits *limits, struct ir_table *out,
	     struct xt_err *err)
{
	int ret = classify_chains(in, limits, out);

	if (!ret && !cl_merged_well(out)) {
		struct cl_limits apart = *limits;

		classify_free(out);
		apart.chains = ~0u;
		ret = classify_chains(in, &apart, out);
	}
	if (!ret) {
		cl_count_slots(out, cl_slots_most());
		return 0;
	}
	classify_free(out);
	return xt_fail(err, ret, "%s: lookups: %s", in->table->name, strerror(-ret));
}

void classify_free_image(struct ir_table *t)
{
	if (t->image->fd >= 0) {
		munmap(t->image->p, t->image->cap);
		close(t->image->fd);
	} else {
		free(t->image->p);
	}
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

int cl_image_map(struct cl_image *im)
{
	LIBBPF_OPTS(bpf_map_create_opts, o, .map_flags = BPF_F_MMAPABLE);
	int fd;

	im->cap = im->cap ?: 8;
	fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "xtjit_lookup", 4, im->cap, 1, &o);
	if (fd < 0)
		return -errno;
	im->p = mmap(NULL, im->cap, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (im->p == MAP_FAILED) {
		int err = -errno;

		im->p = NULL;
		close(fd);
		return err;
	}
	im->fd = fd;
	return 0;
}

int classify_map(const struct ir_table *t, struct xt_err *err)
{
	struct cl_image *im = t->image;
	void *p = im->p;
	int ret;

	if (im->fd >= 0)
		return im->fd;
	im->cap = im->size;
	ret = cl_image_map(im);
	if (ret) {
		im->p = p;
		return xt_fail(err, ret, "no map for %zu bytes of lookups: %s", im->size,
			       strerror(-ret));
	}
	if (im->size)
		memcpy(im->p, p, im->size);
	free(p);
	return im->fd;
}

int classify_fd(const struct ir_table *t)
{
	return t->ngroups ? t->image->fd : -1;
}

void *classify_data(const struct ir_table *t)
{
	return t->image->p;
}
