// SPDX-License-Identifier: GPL-2.0
/* The target TRACE: net/ipv4/netfilter/ip_tables.c trace_packet(). */
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <net/netfilter/nf_log.h>

#include "xtjit.h"

static const char *const hook_names[NF_INET_NUMHOOKS] = {
	[NF_INET_PRE_ROUTING]	= "PREROUTING",
	[NF_INET_LOCAL_IN]	= "INPUT",
	[NF_INET_FORWARD]	= "FORWARD",
	[NF_INET_LOCAL_OUT]	= "OUTPUT",
	[NF_INET_POST_ROUTING]	= "POSTROUTING",
};

int xtjit_trace_get(struct xtjit_rules *rs, const struct xtjit_commit *c)
{
	const void __user *from = u64_to_user_ptr(c->traces);
	struct xtjit_trace *t;
	u32 i;

	if (!c->ntraces)
		return 0;
	if (c->ntraces > XTJIT_MAX_TRACES)
		return -EINVAL;
	t = kvmalloc_array(c->ntraces, sizeof(*t), GFP_KERNEL_ACCOUNT);
	if (!t)
		return -ENOMEM;
	rs->traces = t;
	if (copy_from_user(t, from, array_size(c->ntraces, sizeof(*t))))
		return -EFAULT;
	for (i = 0; i < c->ntraces; i++)
		t[i].chain[sizeof(t[i].chain) - 1] = '\0';
	rs->ntraces = c->ntraces;
	return 0;
}

bool xtjit_trace(const struct xtjit_rules *rs, const char *table, const struct sk_buff *skb,
		 const struct nf_hook_state *state, u32 rule)
{
	static const struct nf_loginfo info = {
		.type = NF_LOG_TYPE_LOG,
		.u.log = { .level = LOGLEVEL_WARNING, .logflags = NF_LOG_DEFAULT_MASK },
	};
	const struct xtjit_trace *t;
	const char *what = "rule";

	if (rule >= rs->ntraces)
		return false;
	t = &rs->traces[rule];
	if (t->end)
		what = t->chain[0] ? "return" : "policy";
	nf_log_trace(state->net, state->pf, state->hook, skb, state->in, state->out, &info,
		     "TRACE: %s:%s:%s:%u ", table, t->chain[0] ? t->chain : hook_names[state->hook],
		     what, t->number);
	return true;
}
