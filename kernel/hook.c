// SPDX-License-Identifier: GPL-2.0
/*
 * A packet in a table: net/ipv4/netfilter/ip_tables.c ipt_do_table(), with a
 * program in place of the walk over the rules.
 */
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6.h>
#include <linux/percpu.h>
#include <linux/rtnetlink.h>
#include <net/ip.h>
#include <net/ipv6.h>
#include <net/netfilter/nf_conntrack.h>

#include "xtjit.h"

/*
 * seq is odd while a packet is in a ruleset on this CPU, as x_tables' xt_recseq;
 * level counts the runs that a packet sent by a target has interrupted.
 */
struct cpu_state {
	u32 seq;
	u32 level;
};

static DEFINE_PER_CPU(struct cpu_state, cpu_state);

/* Where a run is, between calls of the program. */
struct cursor {
	u32 pc;
	u32 arg;
};

/* Bottom halves are off.  Returns how many runs there are below this one. */
static u32 enter(void)
{
	u32 level = __this_cpu_read(cpu_state.level);

	__this_cpu_inc(cpu_state.level);
	if (!level) {
		__this_cpu_inc(cpu_state.seq);
		/* The ruleset is read after: pairs with xtjit_hook_wait(). */
		smp_mb();
	}
	return level;
}

static void leave(void)
{
	if (!__this_cpu_dec_return(cpu_state.level)) {
		/* All of the ruleset was read before. */
		smp_wmb();
		__this_cpu_inc(cpu_state.seq);
	}
}

void xtjit_hook_wait(void)
{
	int cpu;

	/* All see the new ruleset from here on: pairs with enter(). */
	smp_mb();
	for_each_possible_cpu(cpu) {
		const u32 *p = &per_cpu(cpu_state, cpu).seq;
		u32 seq = READ_ONCE(*p);

		while ((seq & 1) && READ_ONCE(*p) == seq) {
			cond_resched();
			cpu_relax();
		}
	}
	/* What packets did to the old ruleset is seen after. */
	smp_mb();
}

static u32 run_flags(const struct sk_buff *skb, const struct nf_hook_state *state, u32 level,
		     struct xtjit_run *run)
{
	enum ip_conntrack_info ctinfo;
	const struct nf_conn *ct = nf_ct_get(skb, &ctinfo);

	run->ct = (unsigned long)ct;
	return state->hook | ctinfo << 4 | (ct ? XTJIT_RUN_CT : 0) | level << 8 |
	       (compat_traced(skb) ? XTJIT_RUN_TRACE : 0);
}

/*
 * skb->cb belongs to the network layer here, and natives look at it: the
 * program has it only while it runs.
 */
static u32 call_program(const struct bpf_prog *prog, struct sk_buff *skb, unsigned long run,
			u32 flags, struct cursor *c)
{
	u64 saved[sizeof(skb->cb) / sizeof(u64)];
	u32 *cb = (u32 *)bpf_skb_cb(skb);
	u32 ret;

	BUILD_BUG_ON(sizeof(saved) != sizeof(skb->cb));
	memcpy(saved, skb->cb, sizeof(saved));
	cb[0] = lower_32_bits(run);
	cb[1] = upper_32_bits(run);
	cb[2] = c->pc;
	cb[3] = c->arg;
	cb[4] = flags;
	bpf_compute_data_pointers(skb);
	ret = bpf_prog_run(prog, skb);
	c->pc = cb[2];
	c->arg = cb[3];
	memcpy(skb->cb, saved, sizeof(saved));
	return ret;
}

/* The transport header, as ip6_packet_match() finds it. */
static void find_l4(struct sk_buff *skb, struct xt_action_param *par)
{
	unsigned short frag_off = 0;
	unsigned int off = 0;

	if (par->state->pf != NFPROTO_IPV6) {
		par->fragoff = ntohs(ip_hdr(skb)->frag_off) & IP_OFFSET;
		par->thoff = ip_hdrlen(skb);
		return;
	}
	if (ipv6_find_hdr(skb, &off, -1, &frag_off, NULL) < 0)
		off = 0;
	par->fragoff = frag_off;
	par->thoff = off;
}

/*
 * Runs slot c->arg, or logs a rule.  True if the program goes on, with the slot's
 * answer in c->arg; else *verdict has the packet's.
 */
static bool run_native(const struct xtjit_table *t, const struct xtjit_rules *rs,
		       struct sk_buff *skb, const struct nf_hook_state *state, struct cursor *c,
		       u32 *verdict)
{
	struct xt_action_param par = { .state = state };
	const struct xtjit_native *n;

	*verdict = NF_DROP;
	if (c->arg & XTJIT_TRACE)
		return xtjit_trace(rs, t->type->name, skb, state, c->arg & ~XTJIT_TRACE);
	if (c->arg >= rs->nslots)
		return false;
	n = &rs->slots[c->arg];
	find_l4(skb, &par);
	if (n->kind == XTJIT_SLOT_MATCH) {
		par.match = n->match;
		par.matchinfo = n->data;
		c->arg = n->match->match(skb, &par);
		return !par.hotdrop;
	}
	par.target = n->target;
	par.targinfo = n->data;
	*verdict = n->target->target(skb, &par);
	if (par.hotdrop)
		*verdict = NF_DROP;
	return *verdict == XT_CONTINUE && !par.hotdrop;
}

static u32 run_rules(const struct xtjit_table *t, const struct xtjit_rules *rs,
		     struct sk_buff *skb, const struct nf_hook_state *state, u32 level)
{
	struct xtjit_run run = {
		.skb = (unsigned long)skb, .state = (unsigned long)state,
	};
	struct cursor c = {};
	u32 turn, verdict;

	if (state->in)
		memcpy(run.in, state->in->name, sizeof(run.in));
	if (state->out)
		memcpy(run.out, state->out->name, sizeof(run.out));
	for (turn = 0; turn < XTJIT_MAX_TURNS; turn++) {
		verdict = call_program(rs->prog, skb, (unsigned long)&run,
				       run_flags(skb, state, level, &run), &c);
		if (verdict == XTJIT_AGAIN)
			continue;
		if (verdict != XTJIT_YIELD)
			return verdict;
		if (!run_native(t, rs, skb, state, &c, &verdict))
			return verdict;
	}
	return NF_DROP;
}

/* What a program may say; natives say what they like, as in ip_tables. */
unsigned int xtjit_hook(void *priv, struct sk_buff *skb, const struct nf_hook_state *state)
{
	const struct xtjit_table *t = priv;
	const struct xtjit_rules *rs;
	u32 verdict = NF_DROP, level;

	local_bh_disable();
	level = enter();
	rs = rcu_dereference(t->rules);
	if (likely(level < XTJIT_MAX_LEVELS))
		verdict = run_rules(t, rs, skb, state, level);
	leave();
	local_bh_enable();
	return verdict;
}

/* net/ipv4/netfilter/iptable_mangle.c: any change of what routing looks at */
static unsigned int mangle_out(void *priv, struct sk_buff *skb,
			       const struct nf_hook_state *state)
{
	const struct iphdr *ip = ip_hdr(skb);
	__be32 saddr = ip->saddr, daddr = ip->daddr;
	u32 mark = skb->mark, ret;
	u8 tos = ip->tos;
	int err;

	ret = xtjit_hook(priv, skb, state);
	if (ret == NF_DROP || ret == NF_STOLEN)
		return ret;
	ip = ip_hdr(skb);
	if (ip->saddr == saddr && ip->daddr == daddr && skb->mark == mark && ip->tos == tos)
		return ret;
	err = ip_route_me_harder(state->net, state->sk, skb, RTN_UNSPEC);
	return err < 0 ? NF_DROP_ERR(err) : ret;
}

/* net/ipv6/netfilter/ip6table_mangle.c */
static unsigned int mangle6_out(void *priv, struct sk_buff *skb,
				const struct nf_hook_state *state)
{
	struct in6_addr saddr = ipv6_hdr(skb)->saddr, daddr = ipv6_hdr(skb)->daddr;
	u32 flow = *(u32 *)ipv6_hdr(skb), mark = skb->mark, ret;
	u8 hop_limit = ipv6_hdr(skb)->hop_limit;
	const struct ipv6hdr *ip;
	int err;

	ret = xtjit_hook(priv, skb, state);
	if (ret == NF_DROP || ret == NF_STOLEN)
		return ret;
	ip = ipv6_hdr(skb);
	if (ipv6_addr_equal(&ip->saddr, &saddr) && ipv6_addr_equal(&ip->daddr, &daddr) &&
	    skb->mark == mark && ip->hop_limit == hop_limit && *(u32 *)ip == flow)
		return ret;
	err = ip6_route_me_harder(state->net, state->sk, skb);
	return err < 0 ? NF_DROP_ERR(err) : ret;
}

unsigned int xtjit_hook_mangle(void *priv, struct sk_buff *skb,
			       const struct nf_hook_state *state)
{
	return state->hook == NF_INET_LOCAL_OUT ? mangle_out(priv, skb, state) :
						  xtjit_hook(priv, skb, state);
}

unsigned int xtjit_hook_mangle6(void *priv, struct sk_buff *skb,
				const struct nf_hook_state *state)
{
	return state->hook == NF_INET_LOCAL_OUT ? mangle6_out(priv, skb, state) :
						  xtjit_hook(priv, skb, state);
}
