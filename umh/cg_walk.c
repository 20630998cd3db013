// SPDX-License-Identifier: GPL-2.0
/*
 * The rules: each chain once, each rule as its predicates, its counter, its
 * action.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <linux/netfilter.h>

#include "cg.h"
#include "event.h"
#include "kfeat.h"

int cg_func_begin(struct cg *g, __u32 label, const char *name, enum cg_proto proto)
{
	struct cg_func *f = &g->funcs[g->nfuncs];

	if (g->nfuncs >= CG_MAX_FUNCS) {
		g->e.err = g->e.err ?: -E2BIG;
		return 0;
	}
	f->label = label;
	f->start = g->e.n;
	f->proto = proto;
	snprintf(f->name, sizeof(f->name), "%s", name);
	place(&g->e, label);
	return g->nfuncs++;
}

static void leave_walk(struct cg *g, enum walk_end end)
{
	movi(&g->e, R0, end);
	exit_(&g->e);
}

void cg_zero(struct cg *g)
{
	leave_walk(g, WALK_DROP);
}

__u32 cg_pc(const struct cg *g, __u32 label)
{
	return (__u32)g->places[label].page << 24 | label;
}

void cg_goto(struct cg *g, __u32 label)
{
	if (g->places[label].page == g->page && !g->places[label].back) {
		ja(&g->e, label);
		return;
	}
	cg_again(g, label);
}

void cg_again(struct cg *g, __u32 label)
{
	sti(&g->e, U32, R6, g->slot[SLOT_PC], cg_pc(g, label));
	leave_walk(g, WALK_AGAIN);
}

void cg_counters(struct cg *g, const struct table_maps *m, int key_off, __u32 none)
{
	struct emit *e = &g->e;

	call_helper(e, BPF_FUNC_get_smp_processor_id);
	st(e, U32, R10, key_off, R0);
	mov(e, R2, R10);
	alui(e, BPF_ADD, R2, key_off);
	ldmap(e, R1, m->counters);
	call_helper(e, BPF_FUNC_map_lookup_elem);
	jmpi(e, BPF_JEQ, R0, 0, none);
}

static void count(struct cg *g, int table, __u32 counter)
{
	struct emit *e = &g->e;

	if (g->fl->early) {
		cg_early_record(g, table, counter);
		return;
	}
	mov(e, R1, R9);
	if (counter)
		alui(e, BPF_ADD, R1, counter * 16);
	movi(e, R2, 1);
	atomic(e, U64, BPF_ADD, R1, 0, R2);
	atomic(e, U64, BPF_ADD, R1, 8, R8);
}

/* The end of chain @ci, a RETURN in it, or that of a chain that it went to. */
static void leave(struct cg *g, struct cg_table *t, __u32 ci)
{
	struct cg_chain *me = &t->chains[ci];

	if (t->ir->chains[ci].hook >= 0) {
		cg_goto(g, me->policy);
	} else if (me->level < 0) {
		cg_goto(g, me->sites[0]);
	} else {
		ld(&g->e, U32, R1, R6, g->ret + me->level * 4);
		st(&g->e, U32, R6, g->slot[SLOT_PC], R1);
		leave_walk(g, WALK_AGAIN);
	}
}

static void call_chain(struct cg *g, struct cg_table *t, __u32 ci, const struct ir_rule *r)
{
	struct cg_chain *to = &t->chains[r->arg];
	__u32 n = to->nsites++;

	if (to->level >= 0)
		sti(&g->e, U32, R6, g->ret + to->level * 4, cg_pc(g, to->sites[n]));
	cg_goto(g, to->label);
	if (!to->returns)
		return;
	place(&g->e, to->sites[n]);
	if (r->action == IR_A_GOTO)
		leave(g, t, ci);
}

/* A call that is not emitted, for its rule cannot be told: what follows it is, for the chain's return. */
static void no_call(struct cg *g, struct cg_table *t, __u32 ci, const struct ir_rule *r)
{
	struct cg_chain *to = &t->chains[r->arg];
	__u32 n = to->nsites++;

	if (!to->returns)
		return;
	place(&g->e, to->sites[n]);
	if (r->action == IR_A_GOTO)
		leave(g, t, ci);
}

/* Fills the fixed part of struct event at SLOT_EVENT, and has it sent. */
static void event(struct cg *g, const void *head, size_t len)
{
	struct emit *e = &g->e;
	__u64 w[6] = { 0 };

	if (g->fl->yields)		/* the module has the kernel's own */
		e->err = e->err ?: -EOPNOTSUPP;
	__builtin_memcpy(w, head, len);
	for (int i = 0; i < 6; i++) {
		ldimm64(e, R1, w[i]);
		st(e, U64, R6, g->slot[SLOT_EVENT] + 8 * i, R1);
	}
	mov(e, R1, R7);
	mov(e, R2, R6);
	call_label(e, cg_lib(g, LIB_EVENT));
}

static void log_packet(struct cg *g, const struct cg_table *t, __u32 index)
{
	const struct ir_log *l = &t->ir->logs[index];
	struct event ev = {
		.netns = g->env->netns,
		.kind = EVENT_LOG,
		.nfproto = g->fam->nfproto,
		.level = l->level,
		.flags = l->flags,
	};

	__builtin_memcpy(ev.prefix, l->prefix, sizeof(ev.prefix));
	event(g, &ev, offsetof(struct event, mac_len));
}

static void reject_packet(struct cg *g, __u32 with)
{
	struct event ev = {
		.netns = g->env->netns,
		.kind = EVENT_REJECT,
		.nfproto = g->fam->nfproto,
		.with = with,
	};

	event(g, &ev, offsetof(struct event, mac_len));
	cg_zero(g);
}

bool cg_leaves_early(enum ir_action_kind a)
{
	return a == IR_A_LOG || a == IR_A_REJECT || a == IR_A_NATIVE || a == IR_A_QUEUE;
}

void cg_act(struct cg *g, int table, __u32 ci, const struct ir_rule *r)
{
	struct cg_table *t = &g->tabs[table];

	switch (r->action) {
	case IR_A_NEXT:
		break;
	case IR_A_ACCEPT:
		if (g->fl->early) {
			cg_goto(g, t->accept);
			break;
		}
		leave_walk(g, WALK_ACCEPT);
		break;
	case IR_A_QUEUE:
		if (!g->fl->yields)
			g->e.err = g->e.err ?: -EOPNOTSUPP;
		leave_walk(g, WALK_QUEUE);
		break;
	case IR_A_DROP:
	case IR_A_DEFER:
		cg_zero(g);
		break;
	case IR_A_RETURN:
		leave(g, t, ci);
		break;
	case IR_A_JUMP:
	case IR_A_GOTO:
		call_chain(g, t, ci, r);
		break;
	case IR_A_LOG:
		log_packet(g, t, r->arg);
		break;
	case IR_A_REJECT:
		reject_packet(g, r->arg);
		break;
	case IR_A_NATIVE:
		cg_native_target(g, t, r->arg);
		break;
	default:
		g->e.err = g->e.err ?: -EINVAL;
	}
}

static void action(struct cg *g, int table, __u32 ci, const struct ir_rule *r)
{
	if (g->fl->early && r->action == IR_A_DROP) {
		cg_early_drop(g, table, r->counter);
		return;
	}
	if (g->fl->early && cg_leaves_early(r->action)) {
		cg_zero(g);
		return;
	}
	count(g, table, r->counter);
	if (g->env->trace)
		cg_trace(g, &g->tabs[table], r);
	if (ir_calls(r) && g->tabs[table].chains[r->arg].entry >= 0)
		sti(&g->e, U32, R6, cg_entry(g, &g->tabs[table], r->arg), r->entry);
	cg_act(g, table, ci, r);
}

/*
 * Evaluating it has an effect, be it on a packet that a later predicate of the
 * rule does not match: a bucket, a count, a hotdrop; anything, by the kernel's own.
 */
static bool has_effect(const struct ir_pred *p)
{
	return p->kind == IR_P_LIMIT || p->kind == IR_P_NTH || p->kind == IR_P_TCPOPT ||
	       p->kind == IR_P_TCPMSS || p->kind == IR_P_NATIVE;
}

/*
 * The early stage: known predicates first; one that cannot be told here ends
 * the walk only for a packet that meets the rest, or the rest before it where
 * it has an effect.  So those come last that are told of some packets only.
 * True if all were told.
 */
static bool preds_early(struct cg *g, const struct cg_table *t, const struct ir_rule *r,
			__u32 miss)
{
	bool told = true;
	int n = 0;

	while (n < r->npreds && !(r->preds[n].kind == IR_P_FALSE && !r->preds[n].inv))
		if (has_effect(&r->preds[n++]))
			break;
	for (int i = 0; i < n; i++)
		if (cg_early_known(&r->preds[i]))
			cg_pred(g, t, &r->preds[i], miss);
	for (int some = 0; some <= 1; some++)
		for (int i = 0; i < n; i++)
			if (!cg_early_known(&r->preds[i]) &&
			    cg_early_tells_new(g, t, &r->preds[i]) == some &&
			    !cg_early_pred(g, t, &r->preds[i], miss))
				told = false;
	return told;
}

static void preds(struct cg *g, const struct cg_table *t, const struct ir_rule *r, __u32 miss)
{
	for (int i = 0; i < r->npreds; i++) {
		if (r->preds[i].kind == IR_P_FALSE && !r->preds[i].inv)
			return;
		cg_pred(g, t, &r->preds[i], miss);
	}
}

static void rule(struct cg *g, int table, __u32 ci, const struct ir_rule *r)
{
	__u32 miss = r->npreds ? new_label(&g->e) : 0;
	bool told = true;

	if (r->action == IR_A_LOOKUP) {
		cg_lookup(g, table, r->arg);
		return;
	}
	if (r->action == IR_A_DISPATCH) {
		cg_dispatch(g, table, ci, r->arg);
		return;
	}
	if (g->fl->early)
		told = preds_early(g, &g->tabs[table], r, miss);
	else
		preds(g, &g->tabs[table], r, miss);
	if (!told) {
		cg_zero(g);
		if (ir_calls(r) && !cg_never(r))
			no_call(g, &g->tabs[table], ci, r);
	} else if (!cg_never(r)) {
		action(g, table, ci, r);
	}
	if (r->npreds)
		place(&g->e, miss);
}

static void page_begin(struct cg *g)
{
	struct emit *e = &g->e;
	char name[16];
	__u32 ok = new_label(e), none = new_label(e);

	snprintf(name, sizeof(name), "walk%d", g->page);
	cg_func_begin(g, g->walk[g->page], name, CG_CTX_PKT);
	jmpi(e, BPF_JNE, R2, 0, ok);
	place(e, none);
	cg_zero(g);
	place(e, ok);
	mov(e, R6, R2);
	mov(e, R7, R1);
	ld_slot(g, R8, SLOT_PKTLEN);
	if (!g->fl->early) {
		cg_counters(g, g->tabs[0].maps, -8, none);
		mov(e, R9, R0);
	}
}

/* r1 is one of labels[lo..hi]; goes there. */
static void dispatch(struct cg *g, const __u32 *labels, __u32 lo, __u32 hi)
{
	struct emit *e = &g->e;
	__u32 mid = lo + (hi - lo) / 2, left, right;

	if (lo == hi) {
		ja(e, labels[lo]);
		return;
	}
	left = new_label(e);
	right = new_label(e);
	jmpi32(e, BPF_JLE, R1, cg_pc(g, labels[mid]), left);
	ja(e, right);
	place(e, left);
	dispatch(g, labels, lo, mid);
	place(e, right);
	dispatch(g, labels, mid + 1, hi);
}

/* Called again: goes to the label in pkt.pc, one of those that are reached so. */
static void page_entries(struct cg *g, __u32 start)
{
	__u32 n = 0, planned = g->e.nlabels < g->nplaces ? g->e.nlabels : g->nplaces;
	__u32 *l = calloc(planned + 1, sizeof(*l));

	for (__u32 i = 0; l && i < planned; i++)
		if (g->places[i].entry && g->places[i].page == g->page)
			l[n++] = i;
	if (!l)
		g->e.err = g->e.err ?: -ENOMEM;
	if (n) {
		ld(&g->e, U32, R1, R6, g->slot[SLOT_PC]);
		if (!g->page) {		/* the dispatch may be long */
			__u32 again = new_label(&g->e);

			jmpi(&g->e, BPF_JNE, R1, 0, again);
			ja(&g->e, start);
			place(&g->e, again);
		}
		dispatch(g, l, 0, n - 1);
	}
	free(l);
}

/* By hook to the base chain; nothing there: accepted. */
static void base_chains(struct cg *g)
{
	struct emit *e = &g->e;
	struct cg_table *t = &g->tabs[0];

	ld_slot(g, R1, SLOT_HOOK);
	for (int h = 0; h < XT_HOOKS; h++) {
		__u32 not;

		if (t->ir->base_chain[h] < 0)
			continue;
		not = new_label(e);
		jmpi(e, BPF_JNE, R1, h, not);
		cg_goto(g, t->chains[t->ir->base_chain[h]].label);
		place(e, not);
	}
	leave_walk(g, WALK_ACCEPT);
}

static void page_start(struct cg *g)
{
	__u32 start = new_label(&g->e);

	page_begin(g);
	page_entries(g, start);
	place(&g->e, start);
	if (g->page)
		return;
	if (g->fl->early)
		cg_early_path(g);
	else
		base_chains(g);
}

static bool cut_here(const struct cg *g, int table, __u32 chain, __u32 rule)
{
	const struct cg_cut *c = &g->cuts[g->page];

	return g->page + 1 < g->npages && c->table == table && c->chain == chain &&
	       c->rule == rule;
}

static void chain(struct cg *g, int table, __u32 ci)
{
	struct cg_table *t = &g->tabs[table];
	const struct ir_chain *c = &t->ir->chains[ci];
	struct cg_chain *me = &t->chains[ci];
	bool go = true;

	place(&g->e, me->label);
	for (__u32 i = 0; i < c->nrules; i++) {
		const struct ir_rule *r = &c->rules[i];
		bool policy = c->hook >= 0 && i == c->nrules - 1;

		if (policy ? !go && !me->returns : !go)
			continue;
		if (cut_here(g, table, ci, i)) {
			__u32 next = g->cuts[g->page].label;

			cg_goto(g, next);
			g->page++;
			page_start(g);
			place(&g->e, next);
		}
		if (policy)
			place(&g->e, me->policy);
		rule(g, table, ci, r);
		go = cg_passes(t, r);
	}
	if (go && c->hook < 0)
		leave(g, t, ci);
}

void cg_walk(struct cg *g)
{
	g->page = 0;
	page_start(g);
	for (int t = 0; t < g->ntabs; t++)
		for (__u32 i = 0; i < g->tabs[t].norder; i++)
			chain(g, t, g->tabs[t].order[i]);
}

static void call_page(struct cg *g, int page)
{
	struct emit *e = &g->e;

	mov(e, R1, R6);
	mov(e, R2, R10);
	alui(e, BPF_ADD, R2, -g->frame);
	call_label(e, g->walk[page]);
}

/* r1: one of the pages; calls it, and goes to @next. */
static void call_pages(struct cg *g, int first, int last, __u32 next)
{
	struct emit *e = &g->e;
	int mid = first + (last - first) / 2;
	__u32 right;

	if (first == last) {
		call_page(g, first);
		ja(e, next);
		return;
	}
	right = new_label(e);
	jmpi(e, BPF_JGT, R1, mid, right);
	call_pages(g, first, mid, next);
	place(e, right);
	call_pages(g, mid + 1, last, next);
}

/* The page that pkt.pc is in. */
static void call_current(struct cg *g, __u32 next)
{
	ld(&g->e, U32, R1, R10, g->slot[SLOT_PC] - g->frame);
	alui(&g->e, BPF_RSH, R1, 24);
	call_pages(g, 0, g->npages - 1, next);
}

/* The first call mostly has the verdict.  r8 keeps the answer over the loop. */
void cg_call_walk(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 done = new_label(e), again = new_label(e), end = new_label(e), next = new_label(e);
	__u32 first = new_label(e);
	int state = -g->frame - 8;

	if (g->resumes && g->npages > 1)
		call_current(g, first);
	else
		call_page(g, 0);
	place(e, first);
	if (!g->again)
		return;
	jmpi(e, BPF_JNE, R0, WALK_AGAIN, done);
	loop_begin(g, state, kfeat()->iters ? CG_MAX_TURNS : CG_FEW_TURNS);
	place(e, again);
	movi(e, R8, WALK_AGAIN);
	loop_next(g, state, end);
	call_current(g, next);
	place(e, next);
	jmpi(e, BPF_JEQ, R0, WALK_AGAIN, again);
	mov(e, R8, R0);
	place(e, end);
	loop_end(g, state);
	mov(e, R0, R8);
	place(e, done);
}
