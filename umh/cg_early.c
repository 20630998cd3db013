// SPDX-License-Identifier: GPL-2.0
/*
 * The early stage: what can be told of a packet before it is one, the path
 * through several tables, and what a drop takes.
 */
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/xt_conntrack.h>
#include <stddef.h>
#include <string.h>

#include "cg.h"

bool cg_early_known(const struct ir_pred *p)
{
	return ir_pred_early(p) && p->kind != IR_P_LIMIT &&
	       !(p->kind == IR_P_RANGE && p->field == IR_CTSTATE);
}

/* Asks conntrack, once for a packet; goes on only if there is no entry. */
static void no_entry(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 none = new_label(e);

	ld(e, U32, R1, R6, g->slot[SLOT_CTDONE]);
	jmpi(e, BPF_JNE, R1, 0, none);
	mov(e, R1, R7);
	mov(e, R2, R6);
	call_label(e, cg_lib(g, LIB_CT));
	jmpi(e, BPF_JNE, R0, 0, none);
	cg_zero(g);
	place(e, none);
}

void cg_early_new(struct cg *g, __u32 unsure)
{
	struct emit *e = &g->e;
	__u32 asked = new_label(e);

	ld(e, U32, R0, R6, g->slot[SLOT_CTDONE] + 4);
	jmpi(e, BPF_JNE, R0, NEW_NOT_ASKED, asked);
	mov(e, R1, R7);
	mov(e, R2, R6);
	call_label(e, cg_lib(g, LIB_NEW));
	place(e, asked);
	jmpi(e, BPF_JNE, R0, NEW_SURE, unsure);
	no_entry(g);
}

#define NEW XT_CONNTRACK_STATE_BIT(2)

static bool holds(const struct ir_pred *p, __u32 state)
{
	__u64 v = state & p->mask;

	return (v >= p->lo && v <= p->hi) != !!p->inv;
}

bool cg_early_holds_new(const struct ir_pred *p)
{
	return holds(p, NEW);
}

/*
 * A packet without an entry is NEW, or INVALID if conntrack does not like it,
 * or RELATED where something is expected: told if the rule sees no difference.
 * 1: it holds, 0: it does not, -1: not told.
 */
static int new_state(const struct cg *g, const struct ir_pred *p)
{
	static const __u32 states[] = {
		XT_CONNTRACK_STATE_INVALID, NEW, XT_CONNTRACK_STATE_BIT(1),	/* RELATED */
	};
	int n = !g->facts->conntrack ? 1 : g->facts->helpers ? 3 : 2, yes = 0;

	for (int i = 0; i < n; i++)
		yes += holds(p, states[i]);
	return yes && yes != n ? -1 : !!yes;
}

/* In raw, where conntrack has not seen it yet, every packet is INVALID. */
static bool behind_conntrack(const struct cg *g, const struct cg_table *t)
{
	return g->facts->conntrack && strcmp(t->ir->table->name, "raw");
}

static bool ct_state(struct cg *g, const struct cg_table *t, const struct ir_pred *p, __u32 miss)
{
	struct emit *e = &g->e;
	int yes = new_state(g, p);

	if (cg_early_tells_new(g, t, p)) {
		__u32 sure = new_label(e), unsure = new_label(e);

		cg_early_new(g, unsure);
		ja(e, sure);
		place(e, unsure);
		cg_zero(g);
		place(e, sure);
		yes = cg_early_holds_new(p);
	} else if (yes < 0) {
		return false;
	} else if (g->facts->conntrack) {
		no_entry(g);
	}
	if (!yes)
		ja(e, miss);
	return true;
}

bool cg_early_tells(const struct cg *g, const struct ir_pred *p)
{
	return p->kind == IR_P_RANGE && p->field == IR_CTSTATE && new_state(g, p) >= 0;
}

bool cg_early_tells_new(const struct cg *g, const struct cg_table *t, const struct ir_pred *p)
{
	return p->kind == IR_P_RANGE && p->field == IR_CTSTATE && new_state(g, p) < 0 &&
	       behind_conntrack(g, t) && !g->facts->helpers && !g->facts->foreign;
}

/* A bucket that surely gives nothing now is no match; else it cannot be told. */
static bool limit_empty(struct cg *g, const struct cg_table *t, const struct ir_pred *p,
			__u32 miss)
{
	struct emit *e = &g->e;
	struct limit_cost c = limit_cost(&t->ir->limits[p->index]);
	__u32 maybe = new_label(e);

	if (p->inv || !t->maps)
		return false;
	sti(e, U32, R10, -4, p->index);
	mov(e, R2, R10);
	alui(e, BPF_ADD, R2, -4);
	ldmap(e, R1, t->maps->state);
	call_helper(e, BPF_FUNC_map_lookup_elem);
	jmpi(e, BPF_JEQ, R0, 0, maybe);
	mov(e, R9, R0);
	call_helper(e, BPF_FUNC_jiffies64);
	ld(e, U64, R1, R9, offsetof(struct rule_state, prev));
	jmpi(e, BPF_JEQ, R1, 0, maybe);
	alu(e, BPF_SUB, R0, R1);
	ldimm64(e, R2, 0xffffffffu / limit_credits_per_jiffy());
	jmp(e, BPF_JGT, R0, R2, maybe);
	alui(e, BPF_MUL, R0, limit_credits_per_jiffy());
	ld(e, U32, R1, R9, offsetof(struct rule_state, credit));
	alu(e, BPF_ADD, R0, R1);
	ldimm64(e, R2, c.cost);
	jmp(e, BPF_JLT, R0, R2, miss);
	place(e, maybe);
	return false;
}

bool cg_early_pred(struct cg *g, const struct cg_table *t, const struct ir_pred *p, __u32 miss)
{
	if (p->kind == IR_P_RANGE && p->field == IR_CTSTATE)
		return ct_state(g, t, p, miss);
	if (p->kind == IR_P_LIMIT)
		return limit_empty(g, t, p, miss);
	return false;
}

/* r2: where the next match is remembered; the packet goes up when there are too many. */
static void record_begin(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 room = new_label(e);

	ld(e, U32, R1, R6, g->slot[SLOT_NMATCH]);
	jmpi(e, BPF_JLT, R1, CG_MATCHES, room);
	cg_zero(g);
	place(e, room);
	mov(e, R2, R1);
	alui(e, BPF_LSH, R2, 2);
	alu(e, BPF_ADD, R2, R6);
	alui(e, BPF_ADD, R1, 1);
	st(e, U32, R6, g->slot[SLOT_NMATCH], R1);
}

void cg_early_record(struct cg *g, int table, __u32 counter)
{
	if (!g->tabs[table].maps)
		return;
	record_begin(g);
	sti(&g->e, U32, R2, g->slot[SLOT_MATCHES], (__u32)table << 24 | counter);
}

void cg_early_record_r3(struct cg *g, int table)
{
	if (!g->tabs[table].maps)
		return;
	record_begin(g);
	mov(&g->e, R1, R3);
	if (table)
		alui32(&g->e, BPF_OR, R1, (__u32)table << 24);
	st(&g->e, U32, R2, g->slot[SLOT_MATCHES], R1);
}

void cg_early_drop_r3(struct cg *g, int table)
{
	st(&g->e, U64, R6, g->slot[SLOT_COUNTER], R3);
	cg_goto(g, g->tabs[table].tail);
}

/*
 * The rest is the same for all rules of a table: drop_tail().  The counter goes
 * there through memory, where the verifier forgets it.
 */
static void drop_by(struct cg *g, int table, __s32 place)
{
	sti(&g->e, U64, R6, g->slot[SLOT_COUNTER], place);
	cg_goto(g, g->tabs[table].tail);
}

void cg_early_drop(struct cg *g, int table, __u32 counter)
{
	drop_by(g, table, counter_place(counter));
}

/*
 * What counts here runs in softirq: nothing else on this CPU that counts comes
 * between a load and its store, but on PREEMPT_RT.
 */
static void add(struct cg *g, int off, int value)
{
	struct emit *e = &g->e;

	if (kernel_preempt_rt()) {
		atomic(e, U64, BPF_ADD, R0, off, value);
		return;
	}
	ld(e, U64, R2, R0, off);
	alu(e, BPF_ADD, R2, value);
	st(e, U64, R0, off, R2);
}

/* The counter at place @reg, which is one, of this CPU's at r0; spoils r0 to r2. */
static void add_counter_at(struct cg *g, int reg)
{
	struct emit *e = &g->e;

	alui(e, BPF_LSH, reg, 3);
	alu(e, BPF_ADD, R0, reg);
	movi(e, R1, 1);
	add(g, 0, R1);
	add(g, 8, R8);
}

/* The counter at place r3 of the table, if it is one, in this CPU's; spoils r0 to r5, r9. */
static void add_counter(struct cg *g, const struct table_maps *m)
{
	struct emit *e = &g->e;
	__u32 out = new_label(e);

	jmpi(e, BPF_JGE, R3, counter_places(m), out);
	mov(e, R9, R3);
	cg_counters(g, m, -8, out);
	add_counter_at(g, R9);
	place(e, out);
}

void cg_early_drop_at(struct cg *g, int table)
{
	struct emit *e = &g->e;
	struct cg_table *t = &g->tabs[table];
	__u32 out = new_label(e);

	if (behind_conntrack(g, t)) {
		st(e, U64, R6, g->slot[SLOT_COUNTER], R3);
		no_entry(g);
		ld_slot(g, R3, SLOT_COUNTER);
	}
	jmpi(e, BPF_JGE, R3, counter_places(t->maps), out);
	mov(e, R0, R9);
	add_counter_at(g, R3);
	place(e, out);
	drop_by(g, table, -1);
}

/*
 * A drop: behind conntrack's hook only if no connection is known, for which
 * the packet would count; then its counters, the last one first.
 */
static void drop_tail(struct cg *g, int table)
{
	struct emit *e = &g->e;
	struct cg_table *t = &g->tabs[table];
	__u32 only = new_label(e);

	if (behind_conntrack(g, t))
		no_entry(g);
	if (t->maps) {
		ld_slot(g, R3, SLOT_COUNTER);
		add_counter(g, t->maps);
	}
	if (g->env->drops) {
		cg_early_ifindex(g, R3, R7);
		cg_count_drop(g, DROPS_EARLY);
	}
	ld(e, U32, R1, R6, g->slot[SLOT_NMATCH]);
	jmpi(e, BPF_JEQ, R1, 0, only);
	mov(e, R1, R7);
	mov(e, R2, R6);
	call_label(e, cg_lib(g, LIB_COMMIT));
	place(e, only);
	movi(e, R0, 1);
	exit_(e);
}

static int base(const struct cg_table *t, int hook)
{
	return t->ir->base_chain[hook];
}

/* Goes to the chain of the first table from @from on that has one at @hook, or @none. */
static void next_table(struct cg *g, int hook, int from, __u32 none)
{
	for (int t = from; t < g->ntabs; t++)
		if (base(&g->tabs[t], hook) >= 0) {
			cg_goto(g, g->tabs[t].chains[base(&g->tabs[t], hook)].label);
			return;
		}
	ja(&g->e, none);
}

/*
 * After ACCEPT in table @t, by hook: the next table's chain there, or what comes
 * after the hook.  Routing leads to tables that were passed before; the verifier
 * would see a loop, so walk is called again for it.
 */
static void accepted(struct cg *g, int t, __u32 up)
{
	struct emit *e = &g->e;
	__u32 not_pre = new_label(e), not_in = new_label(e), route = new_label(e);

	place(e, g->tabs[t].accept);
	ld_slot(g, R1, SLOT_HOOK);
	jmpi(e, BPF_JNE, R1, NF_INET_PRE_ROUTING, not_pre);
	next_table(g, NF_INET_PRE_ROUTING, t + 1, route);
	place(e, route);
	if (g->places[g->route].entry)
		cg_again(g, g->route);
	place(e, not_pre);
	jmpi(e, BPF_JNE, R1, NF_INET_LOCAL_IN, not_in);
	next_table(g, NF_INET_LOCAL_IN, t + 1, up);
	place(e, not_in);
	next_table(g, NF_INET_FORWARD, t + 1, up);
}

void cg_early_path(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 up = new_label(e), input = new_label(e), forward = new_label(e);

	next_table(g, NF_INET_PRE_ROUTING, 0, g->route);
	for (int t = 0; t < g->ntabs; t++)
		accepted(g, t, up);
	place(e, g->route);
	if (!g->facts->nat) {
		cg_route(g, input, forward, up);
		place(e, input);
		sti(e, U64, R6, g->slot[SLOT_HOOK], NF_INET_LOCAL_IN);
		next_table(g, NF_INET_LOCAL_IN, 0, up);
		place(e, forward);
		sti(e, U64, R6, g->slot[SLOT_HOOK], NF_INET_FORWARD);
		if (g->field[IR_TTL] >= 0) {	/* one hop less before the hook already */
			ld_field(g, R1, IR_TTL);
			alui(e, BPF_SUB, R1, 1);
			st(e, U64, R6, g->field[IR_TTL], R1);
		}
		next_table(g, NF_INET_FORWARD, 0, up);
	}
	place(e, up);
	cg_zero(g);
	for (int t = 0; t < g->ntabs; t++) {
		place(e, g->tabs[t].tail);
		drop_tail(g, t);
	}
}

/* Adds the matches that are of table @t to its counters, in r9. */
static void commit_table(struct cg *g, int t)
{
	const struct table_maps *m = g->tabs[t].maps;
	struct emit *e = &g->e;
	__u32 top = new_label(e), end = new_label(e);

	loop_begin(g, -16, CG_MATCHES);
	place(e, top);
	loop_next(g, -16, end);
	ld(e, U32, R2, R6, g->slot[SLOT_NMATCH]);
	jmp(e, BPF_JGE, R1, R2, end);
	jmpi(e, BPF_JGE, R1, CG_MATCHES, end);
	alui(e, BPF_LSH, R1, 2);
	alu(e, BPF_ADD, R1, R6);
	ld(e, U32, R3, R1, g->slot[SLOT_MATCHES]);
	if (t)
		alui(e, BPF_XOR, R3, t << 24);
	jmpi(e, BPF_JGE, R3, m->ncounters, top);
	alui(e, BPF_LSH, R3, 1);
	mov(e, R0, R9);
	add_counter_at(g, R3);
	ja(e, top);
	place(e, end);
	loop_end(g, -16);
}

/* What the rules before the last one have counted. */
static void lib_commit(struct cg *g)
{
	struct emit *e = &g->e;

	lib_begin(g);
	ld_slot(g, R8, SLOT_PKTLEN);
	for (int t = 0; t < g->ntabs; t++) {
		__u32 none = new_label(e);

		if (!g->tabs[t].maps)
			continue;
		cg_counters(g, g->tabs[t].maps, -8, none);
		mov(e, R9, R0);
		commit_table(g, t);
		place(e, none);
	}
	lib_ret(g, 0);
}

/* dst in network order from slots in host order; @base of the stack + 0 */
static void put_addr(struct cg *g, bool source, int base)
{
	struct emit *e = &g->e;

	if (!cg_v6(g)) {
		ld_field(g, R1, source ? IR_SADDR : IR_DADDR);
		bswap(e, R1, 32);
		st(e, U32, R10, base, R1);
		return;
	}
	for (int i = 0; i < 16; i += 8) {
		ld(e, U64, R1, R6, g->field6[source ? IR6_SADDR : IR6_DADDR] + i);
		bswap(e, R1, 64);
		st(e, U32, R10, base + i, R1);
		alui(e, BPF_RSH, R1, 32);
		st(e, U32, R10, base + i + 4, R1);
	}
}

static void put_port(struct cg *g, enum ir_field f, int at)
{
	ld_field(g, R1, f);
	bswap(&g->e, R1, 16);
	st(&g->e, U16, R10, at, R1);
}

void cg_proto(struct cg *g, int dst)
{
	if (cg_v6(g))
		ld_slot(g, dst, SLOT_PROTO6);
	else
		ld_field(g, dst, IR_PROTO);
}

/*
 * 1 if conntrack has no entry for the packet, 0 if it has, or cannot be asked:
 * its lookup knows TCP and UDP.
 */
static void lib_ct(struct cg *g)
{
	struct emit *e = &g->e;
	bool xdp = g->fl == &flavor_xdp;
	int addr = cg_v6(g) ? 16 : 4, tuple = -56, opts = -16;
	__u32 unknown = new_label(e), known = new_label(e), none = new_label(e);

	lib_begin(g);
	ld_slot(g, R1, SLOT_ICMPERR);
	jmpi(e, BPF_JNE, R1, 0, unknown);
	sti(e, U32, R10, opts, -1);		/* BPF_F_CURRENT_NETNS */
	sti(e, U32, R10, opts + 4, 0);
	sti(e, U32, R10, opts + 8, 0);
	cg_proto(g, R1);
	st(e, U8, R10, opts + 8, R1);
	jmpi(e, BPF_JEQ, R1, 6, known);
	jmpi(e, BPF_JNE, R1, 17, unknown);
	place(e, known);
	ld_slot(g, R1, SLOT_L4LEN);
	jmpi(e, BPF_JLT, R1, 8, unknown);
	put_addr(g, true, tuple);
	put_addr(g, false, tuple + addr);
	put_port(g, IR_SPORT, tuple + 2 * addr);
	put_port(g, IR_DPORT, tuple + 2 * addr + 2);
	mov(e, R1, R7);
	mov(e, R2, R10);
	alui(e, BPF_ADD, R2, tuple);
	movi(e, R3, 2 * addr + 4);
	mov(e, R4, R10);
	alui(e, BPF_ADD, R4, opts);
	movi(e, R5, 12);
	cg_kfunc(g, xdp ? "bpf_xdp_ct_lookup" : "bpf_skb_ct_lookup");
	jmpi(e, BPF_JEQ, R0, 0, none);
	mov(e, R1, R0);
	cg_kfunc(g, "bpf_ct_release");
	place(e, unknown);
	lib_ret(g, 0);
	place(e, none);
	ld(e, U32, R1, R10, opts + 4);
	jmpi32(e, BPF_JNE, R1, -ENOENT, unknown);
	sti(e, U32, R6, g->slot[SLOT_CTDONE], 1);
	lib_ret(g, 1);
}

/*
 * The context's address, for kernels on which it cannot be cast: memory that the
 * verifier does not track makes it a number.
 */
static void lib_ctx(struct cg *g)
{
	lib_begin(g);
	st(&g->e, U64, R6, g->slot[SLOT_CTX], R7);
	lib_ret(g, 0);
}

void cg_lib_early(struct cg *g, enum cg_lib l)
{
	switch (l) {
	case LIB_CTX:
		lib_ctx(g);
		break;
	case LIB_COMMIT:
		lib_commit(g);
		break;
	case LIB_CT:
		lib_ct(g);
		break;
	default:
		g->e.err = g->e.err ?: -EINVAL;
	}
}
