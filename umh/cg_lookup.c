// SPDX-License-Identifier: GPL-2.0
/*
 * Lookups: the families of a group one by one, behind the conditions they share.
 */
#include <errno.h>
#include <linux/netfilter.h>
#include <stdlib.h>
#include <string.h>

#include "cg_lookup.h"

short cg_best(const struct cg *g, const struct cg_table *t, const struct ir_group *gr)
{
	int level = t->chains[gr->chain].best;

	return level < 0 ? g->slot[SLOT_BEST] : g->ret + level * 4;
}

short cg_entry(const struct cg *g, const struct cg_table *t, __u32 chain)
{
	return g->ret + t->chains[chain].entry * 4;
}

static bool has_counted(const struct ir_group *gr)
{
	for (__u32 i = 0; i < gr->nfamilies; i++)
		if (cl_counted(&gr->families[i]))
			return true;
	return false;
}

void cg_lookup_init(struct lookup *l, struct cg *g, const struct cg_table *t,
		    const struct ir_group *gr)
{
	*l = (struct lookup){ .g = g, .t = (struct cg_table *)t, .gr = gr };
	l->map = classify_map(t->ir, g->err);
	if (l->map < 0)
		g->e.err = g->e.err ?: l->map;
	l->best = cg_best(g, t, gr);
	l->from = l->best + 4;
	/* where the chain has slots of its own, calls may come in between, which use .best of theirs */
	l->by_slot = has_counted(gr) && t->maps && t->chains[gr->chain].best < 0 &&
		     !memcmp(&t->maps->counted, &t->ir->counted, sizeof(t->ir->counted));
}

static __u32 list_cost(const struct cl_family *f)
{
	return f->deep ? 4 + 3 * cl_halves(f->depth) : 3 * f->depth;
}

/* It may have to be told whether the packet is NEW: see if_new(). */
static bool asks_state(const struct ir_group *g, const struct cl_family *f)
{
	for (int i = 0; i < f->nconds; i++) {
		const struct ir_pred *p = &g->conds[f->conds[i]].p;

		if (p->kind == IR_P_RANGE && p->field == IR_CTSTATE)
			return true;
	}
	return false;
}

__u32 cg_lookup_cost(const struct ir_group *g)
{
	__u32 n = 20;

	for (__u32 i = 0; i < g->nfamilies; i++) {
		const struct cl_family *f = &g->families[i];

		n += f->nconds * 4 + 4 +
		     f->ntables * (7 + 2 * asks_state(g, f) + f->nwords + list_cost(f));
	}
	return n;
}

__u32 cg_group_size(const struct ir_group *g, bool lookup)
{
	__u32 n = 60;

	if (!lookup)
		return n + g->nacts * 80;
	for (__u32 i = 0; i < g->nfamilies; i++) {
		const struct cl_family *f = &g->families[i];

		n += 20 + f->nconds * 50 +
		     f->ntables * (56 + 24 * asks_state(g, f) + f->nparts * 8 + f->nwords * 10 +
				   (f->deep ? 25 + 17 * cl_halves(f->depth) : f->depth * 10));
	}
	return n;
}

enum told cg_told(const struct lookup *l, const struct cl_cond *c)
{
	const struct cg *g = l->g;

	if (!g->fl->early || c->how != CL_PLAIN)
		return TOLD;
	if (c->p.kind == IR_P_IFACE && c->p.field)
		return NOT_FORWARDED;
	if (cg_early_known(&c->p))
		return TOLD;
	if (cg_early_tells_new(g, l->t, &c->p))
		return TOLD_IF_NEW;
	return cg_early_tells(g, &c->p) ? TOLD_BY_CONNTRACK : NOT_TOLD;
}

/* ip6_packet_match(): a header that is not found drops the packet, elsewhere. */
static void guard_proto(struct cg *g, const struct ir_pred *p, __u32 miss)
{
	struct emit *e = &g->e;

	ld(e, U32, R1, R6, g->slot[SLOT_PROTO6]);
	if (p->inv)
		jmpi32(e, BPF_JEQ, R1, -1, miss);
	jmpi32(e, p->inv ? BPF_JEQ : BPF_JNE, R1, p->value, miss);
}

static void guard_l4(struct cg *g, const struct ir_pred *p, __u32 miss)
{
	struct emit *e = &g->e;

	ld_slot(g, R1, SLOT_FRAGOFF);
	jmpi(e, BPF_JNE, R1, 0, miss);
	ld_slot(g, R1, SLOT_L4LEN);
	jmpi(e, BPF_JLT, R1, p->len, miss);
}

static void bad_l4(struct cg *g, const struct ir_pred *p, __u32 miss)
{
	struct emit *e = &g->e;
	__u32 whole = new_label(e), bad = new_label(e);

	ld_slot(g, R1, SLOT_FRAGOFF);
	jmpi(e, BPF_JEQ, R1, 0, whole);
	if (p->field == IR_L4_TCP)
		jmpi(e, BPF_JEQ, R1, 1, bad);
	ja(e, miss);
	place(e, whole);
	ld_slot(g, R1, SLOT_L4LEN);
	jmpi(e, BPF_JGE, R1, p->len, miss);
	place(e, bad);
}

static void cond(struct lookup *l, const struct cl_cond *c, __u32 miss)
{
	struct cg *g = l->g;
	struct emit *e = &g->e;
	__u32 here = new_label(e);

	if (c->how == CL_PLAIN) {
		enum told how = cg_told(l, c);

		if (how == TOLD_BY_CONNTRACK)
			cg_early_pred(g, l->t, &c->p, miss);
		if (how == NOT_FORWARDED) {
			ld_slot(g, R1, SLOT_HOOK);
			jmpi(e, BPF_JEQ, R1, NF_INET_FORWARD, here);
		}
		if (how == TOLD || how == NOT_FORWARDED)
			cg_pred(g, l->t, &c->p, miss);
		place(e, here);
	} else if (c->p.kind == IR_P_PROTO && c->how == CL_GUARD) {
		guard_proto(g, &c->p, miss);
	} else if (c->p.kind == IR_P_PROTO) {
		ld(e, U32, R1, R6, g->slot[SLOT_PROTO6]);
		jmpi32(e, BPF_JNE, R1, -1, miss);
	} else if (c->how == CL_GUARD) {
		guard_l4(g, &c->p, miss);
	} else {
		bad_l4(g, &c->p, miss);
	}
}

/*
 * Families that are left, each with the conditions not yet tested.
 */
struct todo {
	const struct cl_family *f;
	__u16 done;		/* bit per condition */
};

static bool needs(const struct todo *x, __u32 cond)
{
	for (int i = 0; i < x->f->nconds; i++)
		if (x->f->conds[i] == cond && !(x->done >> i & 1))
			return true;
	return false;
}

static void set_done(struct todo *x, __u32 cond)
{
	for (int i = 0; i < x->f->nconds; i++)
		if (x->f->conds[i] == cond)
			x->done |= 1 << i;
}

/* The condition that most of them have, or -1 if none is shared. */
static int most_shared(const struct lookup *l, const struct todo *x, int n)
{
	__u32 *count = calloc(l->gr->nconds + 1, sizeof(*count));
	int best = -1;

	for (int i = 0; count && i < n; i++)
		for (int k = 0; k < x[i].f->nconds; k++) {
			int c = x[i].f->conds[k];

			if (x[i].done >> k & 1)
				continue;
			if (++count[c] > 1 && (best < 0 || count[c] > count[best]))
				best = c;
		}
	free(count);
	return best;
}

/* What is behind the best one already need not be looked at. */
static void if_earlier(struct lookup *l, __u32 first, __u32 not)
{
	if (!(first >> 8))
		return;
	ld(&l->g->e, U32, R4, R6, l->best);
	jmpi32(&l->g->e, BPF_JLT, R4, first & ~0xffu, not);
}

/* Bits of the sieve of which one must be set for any of them; 0: some may be there anyway. */
static __u32 sieve_of(const struct todo *x, int n)
{
	__u32 bits = 0;

	for (int i = 0; i < n; i++) {
		if (!x[i].f->sieve || x[i].f->sieve_by != x->f->sieve_by)
			return 0;
		bits |= x[i].f->sieve;
	}
	return bits;
}

/* For families of which @f is one; @tested: it is known that one of these is. */
static void if_sieved(struct lookup *l, const struct cl_family *f, __u32 bits, __u32 tested,
		      __u32 not)
{
	if (bits && bits != tested)
		cg_if_sieved(l, f, bits, not);
}

static void lone(struct lookup *l, const struct todo *x, __u32 tested)
{
	__u32 not = new_label(&l->g->e);

	if_sieved(l, x->f, x->f->sieve, tested, not);
	if_earlier(l, x->f->first, not);
	for (int i = 0; i < x->f->nconds; i++)
		if (!(x->done >> i & 1))
			cond(l, &l->gr->conds[x->f->conds[i]], not);
	cg_family(l, x->f);
	place(&l->g->e, not);
}

/* Those that have the condition first, in their order; how many. */
static int split(struct todo *x, int n, __u32 cond)
{
	struct todo *rest = malloc(n * sizeof(*rest));
	int with = 0, without = 0;

	if (!rest)
		return n;
	for (int i = 0; i < n; i++) {
		if (needs(&x[i], cond)) {
			x[with] = x[i];
			set_done(&x[with++], cond);
		} else {
			rest[without++] = x[i];
		}
	}
	for (int i = 0; i < without; i++)
		x[with + i] = rest[i];
	free(rest);
	return with;
}

/* @x is by the families' first rules; @tested: see if_sieved(). */
static void families(struct lookup *l, struct todo *x, int n, __u32 tested)
{
	while (n) {
		int c = most_shared(l, x, n), with;
		__u32 bits, not;

		if (c < 0) {
			lone(l, x++, tested);
			n--;
			continue;
		}
		with = split(x, n, c);
		bits = sieve_of(x, with);
		not = new_label(&l->g->e);
		if_sieved(l, x->f, bits, tested, not);
		if_earlier(l, x->f->first, not);
		cond(l, &l->gr->conds[c], not);
		families(l, x, with, bits);
		place(&l->g->e, not);
		x += with;
		n -= with;
	}
}

/* Goes to @fine unless some guard of the group finds the packet bad. */
static void if_bad(struct lookup *l, const struct todo *x, int n, __u32 fine)
{
	struct emit *e = &l->g->e;
	__u32 bad = new_label(e), len = 0;
	bool proto = false;

	for (int i = 0; i < n; i++)
		for (int k = 0; k < x[i].f->nconds; k++) {
			const struct cl_cond *c = &l->gr->conds[x[i].f->conds[k]];

			if (c->how != CL_BAD)
				continue;
			proto |= c->p.kind == IR_P_PROTO;
			if (c->p.kind == IR_P_L4 && c->p.len > len)
				len = c->p.len;
		}
	if (proto) {
		ld(e, U32, R1, R6, l->g->slot[SLOT_PROTO6]);
		jmpi32(e, BPF_JEQ, R1, -1, bad);
	}
	if (len) {
		ld_slot(l->g, R1, SLOT_FRAGOFF);
		jmpi(e, BPF_JNE, R1, 0, bad);
		ld_slot(l->g, R1, SLOT_L4LEN);
		jmpi(e, BPF_JLT, R1, len, bad);
	}
	ja(e, fine);
	place(e, bad);
}

/* Elsewhere r9 has them all along. */
static void early_counters(struct lookup *l)
{
	__u32 none = new_label(&l->g->e), ok = new_label(&l->g->e);

	cg_counters(l->g, l->t->maps, -8, none);
	mov(&l->g->e, R9, R0);
	ja(&l->g->e, ok);
	place(&l->g->e, none);
	cg_zero(l->g);
	place(&l->g->e, ok);
}

void cg_lookup(struct cg *g, int table, __u32 group)
{
	struct cg_table *t = &g->tabs[table];
	const struct ir_group *gr = &t->ir->groups[group];
	struct todo *x = calloc(gr->nfamilies + 1, sizeof(*x));
	struct emit *e = &g->e;
	struct lookup l;
	int hot = 0, n = 0;
	__u32 none, bits;

	cg_lookup_init(&l, g, t, gr);
	if (!x || g->e.err) {
		g->e.err = g->e.err ?: -ENOMEM;
		free(x);
		return;
	}
	for (__u32 i = 0; i < gr->nfamilies; i++)
		if (gr->families[i].hot)
			x[hot++].f = &gr->families[i];
	for (__u32 i = 0; i < gr->nfamilies; i++)
		if (!gr->families[i].hot)
			x[hot + n++].f = &gr->families[i];
	if (gr->resumes) {
		sti(e, U32, R6, l.from, 0);
		place(e, t->relook[group]);
	}
	sti(e, U32, R6, l.best, -1);
	if (l.by_slot && g->fl->early)
		early_counters(&l);
	if (hot) {
		__u32 fine = new_label(e);

		if_bad(&l, x, hot, fine);
		families(&l, x, hot, 0);
		place(e, fine);
	}
	bits = sieve_of(x + hot, n);
	none = new_label(e);
	cg_sieves(&l);
	if (bits)
		cg_if_sieved(&l, x[hot].f, bits, none);
	families(&l, x + hot, n, bits);
	place(e, none);
	if (l.by_slot)
		g->counters_end = e->n;
	free(x);
}

void cg_before(struct cg *g, const struct cg_table *t, const struct ir_pred *p, __u32 miss)
{
	const struct ir_group *gr = &t->ir->groups[p->index];
	short best = cg_best(g, t, gr);
	struct emit *e = &g->e;

	ld(e, U32, R1, R6, best);
	jmpi32(e, BPF_JLE, R1, p->value << 8 | 0xff, miss);
	if (gr->resumes) {
		ld(e, U32, R1, R6, best + 4);
		jmpi32(e, BPF_JGT, R1, p->value << 8, miss);
	}
}
