// SPDX-License-Identifier: GPL-2.0
/*
 * Native slots among rules that are grouped.  A lookup is made before the rules
 * between it and its dispatch, and knows nothing of what these, or chains that
 * are called, change of the packet: what changes something that the chain's own
 * rules test parts its runs.  That is told by the extension's name; one that is
 * not known changes anything.
 */
#include <stdlib.h>
#include <string.h>

#include "classify_priv.h"

enum change {
	CH_MARK = 1, CH_DSFIELD = 2, CH_TTL = 4, CH_CT = 8,
	CH_REST = 16,		/* addresses, ports, lengths, options, ... */
	CH_ALL = 31,
};

struct native {
	__u8 changes;		/* if the packet goes on behind the rule */
	bool final;		/* it never does */
	const char *names;	/* each between two spaces */
};

static const struct native targets[] = {
	{ 0, false, " AUDIT CHECKSUM CLASSIFY CONNSECMARK IDLETIMER LED LOG NFLOG RATEEST SECMARK"
		    " TEE " },
	{ 0, true, " DNAT MASQUERADE NETMAP NFQUEUE REDIRECT REJECT SNAT TPROXY " },
	{ CH_MARK, false, " CONNMARK HMARK MARK SET " },
	{ CH_CT, false, " CT NOTRACK " },
	{ CH_DSFIELD, false, " DSCP TOS " },
	{ CH_TTL, false, " HL TTL " },
	{ CH_REST, false, " TCPMSS TCPOPTSTRIP " },
	{ CH_DSFIELD | CH_REST, false, " ECN " },
	{ CH_ALL, false, NULL },
};

static const struct native matches[] = {
	{ 0, false,
	  " addrtype ah bpf cgroup cluster comment connbytes connlabel connlimit"
	  " connmark conntrack cpu dccp devgroup dscp dst ecn esp eui64 frag"
	  " hashlimit hbh helper hl icmp icmp6 ipcomp iprange ipv6header ipvs l2tp"
	  " length limit mac mark mh multiport nfacct osf owner physdev pkttype"
	  " policy quota rateest realm recent rpfilter rt sctp set srh state"
	  " statistic string tcp tcpmss time tos ttl u32 udp udplite " },
	{ CH_MARK, false, " socket " },
	{ CH_ALL, false, NULL },
};

/* The row that has the slot's extension, or the last one. */
static const struct native *native(const struct ir_table *t, __u32 slot)
{
	const struct native *n = t->slots[slot].kind == XTJIT_SLOT_MATCH ? matches : targets;
	char name[IR_EXT_NAME + 2];

	snprintf(name, sizeof(name), " %s ", t->slot_names[slot]);
	while (n->names && !strstr(n->names, name))
		n++;
	return n;
}

bool classify_final(const struct ir_table *t, __u32 slot)
{
	return native(t, slot)->final;
}

__u8 cl_changes(const struct ir_table *t, const __u8 *chains, const struct ir_rule *r)
{
	__u8 n = 0;

	for (int i = 0; i < r->npreds; i++)
		if (r->preds[i].kind == IR_P_NATIVE)
			n |= native(t, r->preds[i].index)->changes;
	if (r->action == IR_A_NATIVE)
		n |= native(t, r->arg)->changes;
	if (ir_calls(r))
		n |= chains[r->arg];
	return n;
}

/* Callees mostly come behind their callers, so that few turns are needed. */
__u8 *cl_chain_changes(const struct ir_table *t)
{
	__u8 *chains = calloc(t->nchains + 1, 1);
	bool more = t->nslots > 0;

	if (!chains)
		abort();
	while (more) {
		more = false;
		for (__u32 c = t->nchains; c--;) {
			__u8 was = chains[c];

			for (__u32 i = 0; i < t->chains[c].nrules && chains[c] != CH_ALL; i++)
				chains[c] |= cl_changes(t, chains, &t->chains[c].rules[i]);
			more |= chains[c] != was;
		}
	}
	return chains;
}

static __u8 pred_tests(const struct ir_pred *p)
{
	switch (p->kind) {
	case IR_P_RANGE:
		return p->field == IR_MARK ? CH_MARK : p->field == IR_DSFIELD ? CH_DSFIELD :
		       p->field == IR_TTL ? CH_TTL : p->field >= IR_CT ? CH_CT : CH_REST;
	case IR_P_ADDR6:
	case IR_P_RANGE6:
		return p->field >= IR6_CTORIGSRC ? CH_CT : CH_REST;
	case IR_P_IFACE:
	case IR_P_LIMIT:
	case IR_P_NTH:
	case IR_P_RANDOM:
	case IR_P_NATIVE:
	case IR_P_FALSE:
	case IR_P_CHAIN:
		return 0;
	default:
		return CH_REST;
	}
}

__u8 cl_tests(const struct ir_chain *c)
{
	__u8 n = 0;

	for (__u32 i = 0; i < c->nrules && n != CH_ALL; i++)
		for (int k = 0; k < c->rules[i].npreds; k++)
			n |= pred_tests(&c->rules[i].preds[k]);
	return n;
}
