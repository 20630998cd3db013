// SPDX-License-Identifier: GPL-2.0
/*
 * Library functions: emitted once, after walk, if something called them.
 */
#include <errno.h>

#include "cg.h"

static const struct {
	const char *name;
	enum cg_proto proto;
} libs[CG_NLIB] = {
	[LIB_LIMIT] = { "limit", CG_SCALARS },
	[LIB_NTH] = { "nth", CG_SCALARS },
	[LIB_TCPOPT] = { "tcpopt", CG_CTX_PKT_3 },
	[LIB_TCPMSS] = { "tcpmss", CG_CTX_PKT_3 },
	[LIB_EVENT] = { "event", CG_CTX_PKT },
	[LIB_EXTHDR] = { "exthdr", CG_CTX_PKT },
	[LIB_L4] = { "l4", CG_CTX_PKT },
	[LIB_OWNER] = { "owner", CG_CTX_PKT_3 },
	[LIB_COMMIT] = { "commit", CG_CTX_PKT },
	[LIB_CT] = { "ct", CG_CTX_PKT },
	[LIB_CTX] = { "ctx", CG_CTX_PKT },
	[LIB_ADDRTYPE] = { "addrtype", CG_CTX_PKT_3 },
	[LIB_NEXTHOP] = { "nexthop", CG_SCALARS },
	[LIB_NEW] = { "new", CG_CTX_PKT },
};

__u32 cg_lib(struct cg *g, enum cg_lib l)
{
	if (!g->lib[l])
		g->lib[l] = new_label(&g->e) + 1;
	return g->lib[l] - 1;
}

/* r9 = the struct rule_state at index r1, or the function returns 0; r7, r8 are its r2, r3. */
static void state_lookup(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 ok = new_label(e);

	st(e, U32, R10, -4, R1);
	mov(e, R7, R2);
	mov(e, R8, R3);
	mov(e, R2, R10);
	alui(e, BPF_ADD, R2, -4);
	ldmap(e, R1, g->tabs[0].maps->state);
	call_helper(e, BPF_FUNC_map_lookup_elem);
	jmpi(e, BPF_JNE, R0, 0, ok);
	cg_zero(g);
	place(e, ok);
	mov(e, R9, R0);
}

/*
 * limit_mt(); r1 index, r2 cost, r3 cap.  A bucket that was never looked at has
 * prev 0 and is full.
 */
static void lib_limit(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 slow = new_label(e), again = new_label(e), first = new_label(e);
	__u32 capped = new_label(e), short_ = new_label(e), out = new_label(e);

	state_lookup(g);
	call_helper(e, BPF_FUNC_jiffies64);
	ld(e, U32, R1, R9, 8);
	jmp32(e, BPF_JGE, R1, R7, slow);
	ld(e, U64, R1, R9, 0);
	jmp(e, BPF_JNE, R1, R0, slow);
	cg_zero(g);
	place(e, slow);
	movi(e, R6, 0);
	sti(e, U64, R10, -16, 0);
	place(e, again);
	call_helper(e, BPF_FUNC_jiffies64);
	mov(e, R2, R0);
	mov(e, R3, R0);
	atomic(e, U64, BPF_XCHG, R9, 0, R3);
	jmpi(e, BPF_JEQ, R3, 0, first);
	alu(e, BPF_SUB, R2, R3);
	alui(e, BPF_MUL, R2, limit_credits_per_jiffy());
	ld(e, U64, R3, R10, -16);
	alu32(e, BPF_ADD, R3, R2);
	st(e, U64, R10, -16, R3);
	place(e, first);
	ld(e, U32, R0, R9, 8);
	mov(e, R1, R0);
	mov(e, R4, R0);
	ld(e, U64, R3, R10, -16);
	alu32(e, BPF_ADD, R4, R3);
	jmp32(e, BPF_JLE, R4, R8, capped);
	mov(e, R4, R8);
	place(e, capped);
	movi(e, R5, 0);
	jmp32(e, BPF_JLT, R4, R7, short_);
	movi(e, R5, 1);
	alu32(e, BPF_SUB, R4, R7);
	place(e, short_);
	atomic(e, U32, BPF_CMPXCHG, R9, 8, R4);
	jmp32(e, BPF_JEQ, R0, R1, out);
	alui(e, BPF_ADD, R6, 1);
	jmpi(e, BPF_JLT, R6, 64, again);
	place(e, out);
	mov(e, R0, R5);
	exit_(e);
}

/* statistic_mt(), nth; r1 index, r2 every */
static void lib_nth(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 again = new_label(e), wrap = new_label(e), try = new_label(e), out = new_label(e);
	__u32 no = new_label(e);

	state_lookup(g);
	movi(e, R6, 0);
	place(e, again);
	ld(e, U64, R0, R9, 0);
	mov(e, R1, R0);
	mov(e, R2, R0);
	jmp(e, BPF_JEQ, R2, R7, wrap);
	alui(e, BPF_ADD, R2, 1);
	ja(e, try);
	place(e, wrap);
	movi(e, R2, 0);
	place(e, try);
	atomic(e, U64, BPF_CMPXCHG, R9, 0, R2);
	jmp(e, BPF_JEQ, R0, R1, out);
	alui(e, BPF_ADD, R6, 1);
	jmpi(e, BPF_JLT, R6, 64, again);
	place(e, out);
	movi(e, R0, 0);
	jmpi(e, BPF_JNE, R2, 0, no);
	movi(e, R0, 1);
	place(e, no);
	exit_(e);
}

static void one(struct cg *g, enum cg_lib l)
{
	cg_func_begin(g, g->lib[l] - 1, libs[l].name, libs[l].proto);
	switch (l) {
	case LIB_LIMIT:
		lib_limit(g);
		break;
	case LIB_NTH:
		lib_nth(g);
		break;
	case LIB_COMMIT:
	case LIB_CT:
	case LIB_CTX:
		cg_lib_early(g, l);
		break;
	case LIB_NEW:
		cg_lib_new(g);
		break;
	case LIB_ADDRTYPE:
	case LIB_NEXTHOP:
		cg_lib_fib(g, l);
		break;
	default:
		cg_lib_kernel(g, l);
	}
}

void cg_lib_emit(struct cg *g)
{
	bool more = true;

	while (more) {		/* one may call another */
		more = false;
		for (int l = 0; l < CG_NLIB; l++) {
			if (!g->lib[l] || g->lib_done[l])
				continue;
			g->lib_done[l] = true;
			one(g, l);
			more = true;
		}
	}
}
