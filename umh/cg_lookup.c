// SPDX-License-Identifier: GPL-2.0
/*
 * Lookups and dispatches: what classify.h tells, as code.
 *
 * In a lookup r1, r2 are words of the key, r3 the hash and then the value that
 * was found, r0 points into the map, r4 and r5 are for what comes between.  The
 * best value is in its slot: what is in a register, the verifier would follow
 * through all that comes, for each way it may have come there.
 */
#include <errno.h>
#include <netinet/in.h>
#include <linux/netfilter.h>
#include <stdlib.h>

#include "cg.h"
#include "classify.h"

struct lookup {
	struct cg *g;
	struct cg_table *t;
	const struct ir_group *gr;
	int map;
	short best, from;	/* slots */
	bool recorded;		/* dispatch, early: all rules alike, before they part */
};

short cg_best(const struct cg *g, const struct cg_table *t, const struct ir_group *gr)
{
	int level = t->chains[gr->chain].best;

	return level < 0 ? g->slot[SLOT_BEST] : g->ret + level * 4;
}

static void lookup_init(struct lookup *l, struct cg *g, const struct cg_table *t,
			const struct ir_group *gr)
{
	*l = (struct lookup){ .g = g, .t = (struct cg_table *)t, .gr = gr };
	l->map = classify_map(t->ir, g->err);
	if (l->map < 0)
		g->e.err = g->e.err ?: l->map;
	l->best = cg_best(g, t, gr);
	l->from = l->best + 4;
}

__u32 cg_lookup_cost(const struct ir_group *g)
{
	__u32 n = 20;

	for (__u32 i = 0; i < g->nfamilies; i++)
		n += g->families[i].nconds * 4 + 4 +
		     g->families[i].ntables * (4 + g->families[i].nwords + 3 * CL_DEPTH);
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
		     f->ntables * (50 + f->nparts * 8 + f->nwords * 10 + f->depth * 10);
	}
	return n;
}

/* Where a part is in struct pkt. */
static short part_slot(const struct cg *g, const struct cl_part *p)
{
	static const __u8 fields[CL_NFIELDS] = {
		[CL_SADDR] = IR_SADDR, [CL_DADDR] = IR_DADDR, [CL_SPORT] = IR_SPORT,
		[CL_DPORT] = IR_DPORT, [CL_SMAC] = IR_SMAC,
	};

	switch (p->field) {
	case CL_IFACE:
		return g->slot[SLOT_IFACE] + 8 * p->half;
	case CL_OFACE:
		return g->slot[SLOT_OFACE] + 8 * p->half;
	case CL_SADDR:
	case CL_DADDR:
		if (cg_v6(g))
			return g->field6[p->field == CL_SADDR ? IR6_SADDR : IR6_DADDR] + 8 * p->half;
		break;
	}
	return g->field[fields[p->field]];
}

/* @dst = part under its mask, in place; spoils r5 if the mask is a wide one. */
static void part(struct lookup *l, const struct cl_part *p, int dst, int len)
{
	struct emit *e = &l->g->e;
	__u64 whole = cl_part_mask(l->t->ir, p, cl_width(l->t->ir, p->field));
	__u64 mask = cl_part_mask(l->t->ir, p, len);

	if (p->bits > 32) {
		ld(e, U64, dst, R6, part_slot(l->g, p));
		if (mask != whole) {
			ldimm64(e, R5, mask);
			alu(e, BPF_AND, dst, R5);
		}
	} else {
		ld(e, U32, dst, R6, part_slot(l->g, p));
		if (mask != whole)
			alui32(e, BPF_AND, dst, mask);
	}
	if (p->shift)
		alui(e, BPF_LSH, dst, p->shift);
}

/* @dst = word @w of the key; spoils r5. */
static void word(struct lookup *l, const struct cl_family *f, const struct cl_table *tab, int w,
		 int dst)
{
	bool first = true;

	for (int i = 0; i < f->nparts; i++) {
		const struct cl_part *p = &f->parts[i];
		int len = p->field == f->vary ? tab->len : f->len[p->field];

		if (p->word != w)
			continue;
		part(l, p, first ? dst : R5, len);
		if (!first)
			alu(&l->g->e, BPF_OR, dst, R5);
		first = false;
	}
}

/* phash_hash(): words 0 and 1 stay in r1, r2; the hash is r3. */
static void hash(struct lookup *l, const struct cl_family *f, const struct cl_table *tab)
{
	struct emit *e = &l->g->e;

	for (int w = 0; w < f->nwords; w++) {
		int reg = w == 0 ? R1 : R2;

		word(l, f, tab, w, reg);
		if (w)
			alu(e, BPF_ADD, R3, reg);
		else
			mov(e, R3, reg);
		ldimm64(e, R5, tab->ph.mul[w]);
		alu(e, BPF_MUL, R3, R5);
		mov(e, R5, R3);
		alui(e, BPF_RSH, R5, 32);
		alu(e, BPF_XOR, R3, R5);
	}
}

static void scale(struct emit *e, int reg, __u32 n)
{
	alui(e, BPF_MUL, reg, n);
	alui(e, BPF_RSH, reg, 32);
}

/* r0 = the key's slot */
static void find_slot(struct lookup *l, const struct cl_family *f, const struct cl_table *tab)
{
	struct emit *e = &l->g->e;

	hash(l, f, tab);
	insn(e, BPF_ALU | BPF_MOV | BPF_X, R5, R3, 0, 0);
	scale(e, R5, tab->ph.nbuckets);
	alui(e, BPF_LSH, R5, 1);
	ldmapvalue(e, R0, l->map, tab->disp);
	alu(e, BPF_ADD, R0, R5);
	ld(e, U16, R5, R0, 0);
	alui(e, BPF_LSH, R5, 1);
	alui(e, BPF_ADD, R5, 1);
	alu(e, BPF_MUL, R3, R5);
	alui(e, BPF_RSH, R3, 32);
	scale(e, R3, tab->ph.nslots);
	alui(e, BPF_MUL, R3, f->slot_size);
	ldmapvalue(e, R0, l->map, tab->slots);
	alu(e, BPF_ADD, R0, R3);
}

/* Falls through with r3 = what the table has for the key, or goes to @miss. */
static void probe(struct lookup *l, const struct cl_family *f, const struct cl_table *tab,
		  __u32 miss)
{
	struct emit *e = &l->g->e;

	find_slot(l, f, tab);
	for (int w = 0; w < f->nwords; w++) {
		int reg = w == 0 ? R1 : R2;

		if (w && f->nwords > 2)
			word(l, f, tab, w, reg);
		ld(e, f->word_size[w] == 8 ? U64 : U32, R5, R0, f->word_at[w]);
		jmp(e, BPF_JNE, R5, reg, miss);
	}
	ld(e, U32, R3, R0, f->slot_size - 4);
}

/* r3: a list -> its first value from r1 on, or to @none. */
static void from_list(struct lookup *l, const struct cl_family *f, __u32 none)
{
	struct emit *e = &l->g->e;
	__u32 got = new_label(e);

	for (int i = 0; i < f->depth; i++) {
		bool last = i == f->depth - 1;

		jmpi32(e, BPF_JGE, R3, l->gr->nnodes, none);
		alui(e, BPF_LSH, R3, 3);
		ldmapvalue(e, R0, l->map, l->gr->nodes);
		alu(e, BPF_ADD, R0, R3);
		ld(e, U32, R3, R0, 0);
		if (last) {
			jmp32(e, BPF_JLT, R3, R1, none);
		} else {
			jmp32(e, BPF_JGE, R3, R1, got);
			ld(e, U32, R3, R0, 4);
		}
	}
	place(e, got);
}

/* What the early stage makes of a condition. */
enum told { TOLD, TOLD_BY_CONNTRACK, NOT_FORWARDED, NOT_TOLD };

static enum told told(const struct cg *g, const struct cl_cond *c)
{
	if (!g->fl->early || c->how != CL_PLAIN)
		return TOLD;
	if (c->p.kind == IR_P_IFACE && c->p.field)
		return NOT_FORWARDED;
	if (cg_early_known(&c->p))
		return TOLD;
	return cg_early_tells(g, &c->p) ? TOLD_BY_CONNTRACK : NOT_TOLD;
}

static enum told family_told(const struct lookup *l, const struct cl_family *f)
{
	enum told worst = TOLD;

	for (int i = 0; i < f->nconds; i++) {
		enum told one = told(l->g, &l->gr->conds[f->conds[i]]);

		if (one > worst)
			worst = one;
	}
	return worst;
}

/* r3: a value, which may be the best one. */
static void better(struct lookup *l, const struct cl_family *f, __u32 none)
{
	struct emit *e = &l->g->e;
	enum told how = family_told(l, f);
	__u32 here = new_label(e);

	ld(e, U32, R4, R6, l->best);
	jmp32(e, BPF_JGE, R3, R4, none);
	if (how == NOT_FORWARDED) {
		ld_slot(l->g, R5, SLOT_HOOK);
		jmpi(e, BPF_JNE, R5, NF_INET_FORWARD, here);
	}
	if (how >= NOT_FORWARDED)
		alui32(e, BPF_AND, R3, ~0xff);		/* CL_HOTDROP: up */
	place(e, here);
	st(e, U32, R6, l->best, R3);
}

static void probe_best(struct lookup *l, const struct cl_family *f, const struct cl_table *tab,
		       __u32 miss)
{
	struct emit *e = &l->g->e;
	__u32 none = new_label(e);

	probe(l, f, tab, miss);
	if (l->gr->resumes)
		ld(e, U32, R1, R6, l->from);
	if (f->depth)
		from_list(l, f, none);
	else if (l->gr->resumes)
		jmp32(e, BPF_JLT, R3, R1, none);
	better(l, f, none);
	place(e, none);
}

/* Bisection of the lengths: falls through, or goes to @end. */
static void bisect(struct lookup *l, const struct cl_family *f, int lo, int hi, __u32 end)
{
	struct emit *e = &l->g->e;
	int mid = cl_middle(f, lo, hi);
	__u32 miss;

	if (lo > hi)
		return;
	miss = lo == hi ? end : new_label(e);
	probe_best(l, f, &f->tables[mid], miss);
	bisect(l, f, mid + 1, hi, end);
	if (miss == end)
		return;
	if (mid > lo)
		ja(e, end);
	place(e, miss);
	bisect(l, f, lo, mid - 1, end);
}

/* What is behind the best one already need not be looked at. */
static void if_earlier(struct lookup *l, __u32 first, __u32 not)
{
	if (!(first >> 8))
		return;
	ld(&l->g->e, U32, R4, R6, l->best);
	jmpi32(&l->g->e, BPF_JLT, R4, first & ~0xffu, not);
}

/* Where a packet that is to be forwarded will leave, the early stage does not know. */
static void known_keys(struct lookup *l, const struct cl_family *f)
{
	struct emit *e = &l->g->e;
	__u32 known;

	if (!l->g->fl->early || !f->has[CL_OFACE])
		return;
	known = new_label(e);
	ld_slot(l->g, R1, SLOT_HOOK);
	jmpi(e, BPF_JNE, R1, NF_INET_FORWARD, known);
	cg_zero(l->g);
	place(e, known);
}

static void family(struct lookup *l, const struct cl_family *f)
{
	struct emit *e = &l->g->e;
	__u32 end = new_label(e);

	known_keys(l, f);
	if (f->nwords) {
		bisect(l, f, 0, f->ntables - 1, end);
	} else {
		movi32(e, R3, f->first);
		if (l->gr->resumes) {
			ld(e, U32, R1, R6, l->from);
			jmp32(e, BPF_JLT, R3, R1, end);
		}
		better(l, f, end);
	}
	place(e, end);
}

/*
 * Conditions
 */

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
		enum told how = told(g, c);

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

static void lone(struct lookup *l, const struct todo *x)
{
	__u32 not = new_label(&l->g->e);

	if_earlier(l, x->f->first, not);
	for (int i = 0; i < x->f->nconds; i++)
		if (!(x->done >> i & 1))
			cond(l, &l->gr->conds[x->f->conds[i]], not);
	family(l, x->f);
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

/* @x is by the families' first rules. */
static void families(struct lookup *l, struct todo *x, int n)
{
	while (n) {
		int c = most_shared(l, x, n), with;
		__u32 not;

		if (c < 0) {
			lone(l, x++);
			n--;
			continue;
		}
		with = split(x, n, c);
		not = new_label(&l->g->e);
		if_earlier(l, x->f->first, not);
		cond(l, &l->gr->conds[c], not);
		families(l, x, with);
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

void cg_lookup(struct cg *g, int table, __u32 group)
{
	struct cg_table *t = &g->tabs[table];
	const struct ir_group *gr = &t->ir->groups[group];
	struct todo *x = calloc(gr->nfamilies + 1, sizeof(*x));
	struct emit *e = &g->e;
	struct lookup l;
	int hot = 0, n = 0;

	lookup_init(&l, g, t, gr);
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
	if (hot) {
		__u32 fine = new_label(e);

		if_bad(&l, x, hot, fine);
		families(&l, x, hot);
		place(e, fine);
	}
	families(&l, x + hot, n);
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

/*
 * Dispatch: r3 is the rule's counter, r4 its act.
 */

/* Exact: counter r3. */
static void count(struct cg *g, const struct cg_table *t)
{
	struct emit *e = &g->e;
	__u32 ok = new_label(e);

	mov(e, R1, R3);
	jmpi(e, BPF_JLT, R1, t->maps->ncounters, ok);
	cg_zero(g);
	place(e, ok);
	alui(e, BPF_LSH, R1, 4);
	alu(e, BPF_ADD, R1, R9);
	movi(e, R2, 1);
	atomic(e, U64, BPF_ADD, R1, 0, R2);
	atomic(e, U64, BPF_ADD, R1, 8, R8);
}

static void jump(struct lookup *l, const struct cl_act *a, __u32 group)
{
	struct cg *g = l->g;
	struct cg_chain *to = &l->t->chains[a->arg];

	if (to->level >= 0)
		sti(&g->e, U32, R6, g->ret + to->level * 4, cg_pc(g, l->t->relook[group]));
	to->nsites++;
	cg_goto(g, to->label);
}

/* The target of the rule whose counter is r3; behind it, the lookup is done again, if at all. */
static void native(struct lookup *l, __u32 group, const struct cl_act *a)
{
	const struct ir_group *gr = l->gr;
	struct emit *e = &l->g->e;
	__u32 ok = new_label(e);

	mov(e, R1, R3);
	alui(e, BPF_SUB, R1, gr->first);
	jmpi(e, BPF_JLE, R1, gr->last - gr->first, ok);
	cg_zero(l->g);
	place(e, ok);
	alui(e, BPF_LSH, R1, 2);
	ldmapvalue(e, R2, l->map, gr->slots);
	alu(e, BPF_ADD, R2, R1);
	ld(e, U32, R1, R2, 0);
	cg_native_yield(l->g, a->on ? l->t->relook[group] : l->t->behind[group], R1);
}

/* In the early stage: the rule is remembered, whatever comes of it. */
static bool recorded(const struct cl_act *a)
{
	return a->action != IR_A_DROP && !cg_leaves_early(a->action);
}

static bool all_recorded(const struct ir_group *gr)
{
	for (__u32 i = CL_HOTDROP + 1; i < gr->nacts; i++)
		if (!recorded(&gr->acts[i]))
			return false;
	return true;
}

static void leaf(struct lookup *l, int table, __u32 ci, __u32 group, const struct cl_act *a)
{
	struct cg *g = l->g;

	if (g->fl->early && !l->recorded) {
		if (a->action == IR_A_DROP) {
			cg_early_drop_r3(g, table);
			return;
		}
		if (cg_leaves_early(a->action)) {
			cg_zero(g);
			return;
		}
		cg_early_record_r3(g, table);
	}
	if (a->action == IR_A_NATIVE) {
		native(l, group, a);
		return;
	}
	if (a->action == IR_A_JUMP) {
		jump(l, a, group);
		return;
	}
	cg_act(g, table, ci, &(struct ir_rule){ .action = a->action, .arg = a->arg });
	if (a->on)
		cg_again(g, l->t->relook[group]);
}

/* r4 is one of the acts lo..hi. */
static void tree(struct lookup *l, int table, __u32 ci, __u32 group, __u32 lo, __u32 hi)
{
	struct emit *e = &l->g->e;
	__u32 mid = lo + (hi - lo) / 2, left, right;

	if (lo == hi) {
		leaf(l, table, ci, group, &l->gr->acts[lo]);
		return;
	}
	left = new_label(e);
	right = new_label(e);
	jmpi32(e, BPF_JLE, R4, mid, left);
	ja(e, right);
	place(e, left);
	tree(l, table, ci, group, lo, mid);
	place(e, right);
	tree(l, table, ci, group, mid + 1, hi);
}

/* r4 = the act of counter r3, where it is not in the value. */
static void indirect(struct lookup *l)
{
	const struct ir_group *gr = l->gr;
	struct emit *e = &l->g->e;
	__u32 ok = new_label(e);

	mov(e, R1, R3);
	alui(e, BPF_SUB, R1, gr->first);
	jmpi(e, BPF_JLE, R1, gr->last - gr->first, ok);
	cg_zero(l->g);
	place(e, ok);
	alui(e, BPF_LSH, R1, 2);
	ldmapvalue(e, R2, l->map, gr->indirect);
	alu(e, BPF_ADD, R2, R1);
	ld(e, U32, R4, R2, 0);
}

void cg_dispatch(struct cg *g, int table, __u32 ci, __u32 group)
{
	struct cg_table *t = &g->tabs[table];
	const struct ir_group *gr = &t->ir->groups[group];
	struct emit *e = &g->e;
	__u32 none = new_label(e), some = new_label(e), fine = new_label(e);
	struct lookup l;

	lookup_init(&l, g, t, gr);
	ld(e, U32, R3, R6, l.best);
	jmpi32(e, BPF_JNE, R3, -1, some);
	ja(e, none);			/* the tree may be longer than a conditional jump */
	place(e, some);
	mov(e, R4, R3);
	alui(e, BPF_AND, R4, 0xff);
	jmpi(e, BPF_JNE, R4, CL_HOTDROP, fine);
	cg_zero(g);
	place(e, fine);
	alui(e, BPF_RSH, R3, 8);
	if (gr->resumes) {
		mov(e, R1, R3);
		alui(e, BPF_ADD, R1, 1);
		alui(e, BPF_LSH, R1, 8);
		st(e, U32, R6, l.from, R1);
	}
	if (!g->fl->early)
		count(g, t);
	if (gr->nacts > CL_INDIRECT)
		indirect(&l);
	l.recorded = g->fl->early && all_recorded(gr);
	if (l.recorded)
		cg_early_record_r3(g, table);
	tree(&l, table, ci, group, 1, gr->nacts - 1);
	if (t->behind[group])
		place(e, t->behind[group]);
	place(e, none);
}
