// SPDX-License-Identifier: GPL-2.0
#include <stddef.h>

#include <linux/netfilter.h>

#include "cg.h"

/*
 * A plain load and store: a packet that gets lost here between two CPUs, or on
 * PREEMPT_RT, makes no difference to what is decided by the sum.
 */
void cg_count_drop(struct cg *g, enum drops_stage stage)
{
	const struct table_maps m = { .counters = g->env->drops->mem.fd };
	int off = offsetof(struct drops_cpu, n[stage]);
	struct emit *e = &g->e;
	__u32 none = new_label(e);

	mov(e, R9, R3);
	alui(e, BPF_AND, R9, DROPS_DEVICES - 1);
	alui(e, BPF_LSH, R9, 3);
	cg_counters(g, &m, -8, none);
	alu(e, BPF_ADD, R0, R9);
	ld(e, U64, R1, R0, off);
	alui(e, BPF_ADD, R1, 1);
	st(e, U64, R0, off, R1);
	place(e, none);
}

void cg_count_exact_drop(struct cg *g, void (*ifindex)(struct cg *g, __u32 none))
{
	struct emit *e = &g->e;
	__u32 none = new_label(e);

	if (!g->env->drops)
		return;
	ld(e, U64, R3, R10, g->slot[SLOT_HOOK] - g->frame);
	jmpi(e, BPF_JGT, R3, NF_INET_FORWARD, none);
	ifindex(g, none);
	cg_count_drop(g, DROPS_EXACT);
	place(e, none);
}
