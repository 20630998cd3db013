// SPDX-License-Identifier: GPL-2.0
/*
 * Dispatch: r3 is the rule's counter, r4 its act.
 */
#include "cg_lookup.h"

/* @dst = the place of what counts for the rule of counter r3. */
static void counter(struct lookup *l, int dst)
{
	struct emit *e = &l->g->e;

	if (l->by_slot) {
		ld(e, U32, dst, R6, l->best + 4);
		return;
	}
	if (dst != R3)
		mov(e, dst, R3);
	alui(e, BPF_LSH, dst, 1);
}

static void count(struct lookup *l)
{
	struct cg *g = l->g;
	struct emit *e = &g->e;
	__u32 ok = new_label(e);

	counter(l, R1);
	jmpi(e, BPF_JLT, R1, counter_places(l->t->maps), ok);
	cg_zero(g);
	place(e, ok);
	alui(e, BPF_LSH, R1, 3);
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

/* @dst = what the map has at @from, by counter, for counter r3; spoils r1, r2. */
static void by_counter(struct lookup *l, int dst, __u64 from)
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
	ldmapvalue(e, R2, l->map, from);
	alu(e, BPF_ADD, R2, R1);
	ld(e, U32, dst, R2, 0);
}

/* The target of the rule whose counter is r3; behind it, the lookup is done again, if at all. */
static void native(struct lookup *l, __u32 group, const struct cl_act *a)
{
	by_counter(l, R1, l->gr->slots);
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
			counter(l, R3);
			if (l->counters)
				cg_early_drop_at(g, table);
			else
				cg_early_drop_r3(g, table);
			return;
		}
		if (cg_leaves_early(a->action)) {
			cg_zero(g);
			return;
		}
		cg_early_record_r3(g, table);
	}
	if (cl_enters(l->t->ir, a)) {
		by_counter(l, R1, l->gr->slots);
		st(&g->e, U32, R6, cg_entry(g, l->t, a->arg), R1);
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

void cg_dispatch(struct cg *g, int table, __u32 ci, __u32 group)
{
	struct cg_table *t = &g->tabs[table];
	const struct ir_group *gr = &t->ir->groups[group];
	struct emit *e = &g->e;
	__u32 none = new_label(e), some = new_label(e), fine = new_label(e);
	struct lookup l;

	cg_lookup_init(&l, g, t, gr);
	l.counters = l.by_slot && g->counters_end == e->n;
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
		count(&l);
	if (gr->nacts > CL_INDIRECT)
		by_counter(&l, R4, gr->indirect);	/* the act is not in the value */
	l.recorded = g->fl->early && all_recorded(gr);
	if (l.recorded)
		cg_early_record_r3(g, table);
	tree(&l, table, ci, group, 1, gr->nacts - 1);
	if (t->behind[group])
		place(e, t->behind[group]);
	place(e, none);
}
