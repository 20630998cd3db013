// SPDX-License-Identifier: GPL-2.0
/*
 * Native slots: the program leaves what it was at to the module, which runs the
 * kernel's own match or target and calls it again; the prologue looks at the
 * packet afresh then, for a target may have changed it.  The lines of traced
 * packets are left to it in the same way.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "cg.h"
#include "classify.h"
#include "kfeat.h"

/* labels[i] of @n: where the module's call goes on. */
static void plan_resume(struct cg *g, __u32 **labels, __u32 n, __u32 i)
{
	__u32 label = cg_label_in(g, g->npages - 1);

	if (!*labels)
		*labels = calloc(n, sizeof(**labels));
	if (!*labels || g->e.err) {
		g->e.err = g->e.err ?: -ENOMEM;
		return;
	}
	g->places[label].entry = true;
	(*labels)[i] = label;
	g->native = true;
}

static void plan_slot(struct cg *g, struct cg_table *t, __u32 slot)
{
	plan_resume(g, &t->resume, t->ir->nslots, slot);
}

/* As the rule will be emitted: what is behind a predicate that never holds is not. */
void cg_native_plan(struct cg *g, int table, const struct ir_rule *r)
{
	struct cg_table *t = &g->tabs[table];

	if (r->action == IR_A_DISPATCH && t->ir->groups[r->arg].native)
		plan_resume(g, &t->behind, t->ir->ngroups, r->arg);
	for (int i = 0; i < r->npreds; i++) {
		if (r->preds[i].kind == IR_P_FALSE && !r->preds[i].inv)
			return;
		if (r->preds[i].kind == IR_P_NATIVE)
			plan_slot(g, t, r->preds[i].index);
	}
	if (g->env->trace)
		plan_resume(g, &t->traced, t->ir->ncounters, r->counter);
	if (r->action == IR_A_NATIVE)
		plan_slot(g, t, r->arg);
}

void cg_native_yield(struct cg *g, __u32 label, int slot)
{
	struct emit *e = &g->e;

	if (!g->fl->yields) {
		e->err = e->err ?: -EOPNOTSUPP;
		return;
	}
	sti(e, U32, R6, g->slot[SLOT_PC], cg_pc(g, label));
	st(e, U32, R6, g->slot[SLOT_NATIVE], slot);
	movi(e, R0, WALK_YIELD);
	exit_(e);
}

static void yield(struct cg *g, const struct cg_table *t, __u32 slot)
{
	if (!g->fl->yields) {
		g->e.err = g->e.err ?: -EOPNOTSUPP;
		return;
	}
	movi32(&g->e, R1, slot);
	cg_native_yield(g, t->resume[slot], R1);
	place(&g->e, t->resume[slot]);
}

void cg_native_match(struct cg *g, const struct cg_table *t, __u32 slot, __u32 miss)
{
	yield(g, t, slot);
	ld(&g->e, U32, R1, R6, g->slot[SLOT_NATIVE]);
	jmpi(&g->e, BPF_JEQ, R1, 0, miss);
}

void cg_native_target(struct cg *g, const struct cg_table *t, __u32 slot)
{
	yield(g, t, slot);
}

void cg_trace(struct cg *g, const struct cg_table *t, const struct ir_rule *r)
{
	struct emit *e = &g->e;
	__u32 on = new_label(e);

	ld(e, U32, R1, R7, offsetof(struct __sk_buff, cb[4]));
	alui(e, BPF_AND, R1, XTJIT_RUN_TRACE);
	jmpi(e, BPF_JEQ, R1, 0, on);
	movi32(e, R1, XTJIT_TRACE | r->counter);
	cg_native_yield(g, t->traced[r->counter], R1);
	place(e, t->traced[r->counter]);
	place(e, on);
}

bool cg_native(const struct cg_table *t, const struct ir_rule *r)
{
	if (r->action == IR_A_NATIVE ||
	    (r->action == IR_A_DISPATCH && t->ir->groups[r->arg].native))
		return true;
	for (int k = 0; k < r->npreds; k++)
		if (r->preds[k].kind == IR_P_NATIVE)
			return true;
	return false;
}

static bool has_native(const struct cg_table *t, const struct ir_chain *c)
{
	for (__u32 i = 0; i < c->nrules; i++)
		if (cg_native(t, &c->rules[i]))
			return true;
	return false;
}

/*
 * Slots of calls in use anywhere in a chain that has a native slot; where main may
 * be left at any turn, all of them.
 */
static int levels_in_use(const struct cg *g)
{
	const struct cg_table *t = &g->tabs[0];
	int n = 0;

	if (!kfeat()->iters)
		return g->levels;
	for (__u32 i = 0; i < t->norder; i++) {
		const struct cg_chain *c = &t->chains[t->order[i]];
		int in_use = c->depth + (c->level >= 0) + (c->best >= 0 ? 2 : 0) +
			     (c->entry >= 0);

		if ((g->env->trace || has_native(t, &t->ir->chains[t->order[i]])) && in_use > n)
			n = in_use;
	}
	return n < g->levels ? n : g->levels;
}

int cg_native_map(struct cg *g)
{
	int levels = g->resumes ? levels_in_use(g) : 0, n = 0;

	for (; 2 * n < levels; n++)
		g->saved[n] = g->ret + 8 * n;
	/* where no native slot is between a lookup and its dispatch, another page may be */
	if (g->resumes && !kfeat()->iters && g->slot[SLOT_BEST] >= 0)
		g->saved[n++] = g->slot[SLOT_BEST];
	g->nsaved = n;
	if (!n)
		return 0;
	g->saves = bpf_map_create(BPF_MAP_TYPE_ARRAY, "xtjit_saved", 4, 8 * n,
				  possible_cpus() * XTJIT_MAX_LEVELS, NULL);
	if (g->saves < 0)
		return xt_fail(g->err, -errno, "%s: no map to go on from: %s",
			       g->tabs[0].ir->table->name, strerror(errno));
	return 0;
}

/* r0 = this run's element of the map: by CPU and level. */
static void lookup(struct cg *g, __u32 none)
{
	struct emit *e = &g->e;
	int key = -g->frame - 8;

	call_helper(e, BPF_FUNC_get_smp_processor_id);
	ld(e, U32, R1, R6, offsetof(struct __sk_buff, cb[4]));
	alui(e, BPF_AND, R1, XTJIT_RUN_LEVEL);
	alui(e, BPF_RSH, R1, __builtin_ctz(XTJIT_RUN_LEVEL));
	alui(e, BPF_MUL, R0, XTJIT_MAX_LEVELS);
	alu(e, BPF_ADD, R0, R1);
	st(e, U32, R10, key, R0);
	mov(e, R2, R10);
	alui(e, BPF_ADD, R2, key);
	ldmap(e, R1, g->saves);
	call_helper(e, BPF_FUNC_map_lookup_elem);
	jmpi(e, BPF_JEQ, R0, 0, none);
}

void cg_native_restore(struct cg *g, __u32 none)
{
	if (!g->nsaved)
		return;
	lookup(g, none);
	for (int i = 0; i < g->nsaved; i++) {
		ld(&g->e, U64, R1, R0, 8 * i);
		st(&g->e, U64, R10, g->saved[i] - g->frame, R1);
	}
}

void cg_native_save(struct cg *g, __u32 none)
{
	if (!g->nsaved)
		return;
	lookup(g, none);
	for (int i = 0; i < g->nsaved; i++) {
		ld(&g->e, U64, R1, R10, g->saved[i] - g->frame);
		st(&g->e, U64, R0, 8 * i, R1);
	}
}
