// SPDX-License-Identifier: GPL-2.0
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <stdlib.h>
#include <string.h>

#include "early_priv.h"
#include "kernel_xt.h"

enum { EARLY_RAW, EARLY_MANGLE, EARLY_NAT };	/* indexes of early_order */

const char *const early_order[XT_TABLES] = { "raw", "mangle", "nat", "filter", "security" };

/* The tables of a family as they will be. */
struct coming {
	const struct early *e;
	const struct xt_family *f;
	const struct table *changed;
	const struct gen *next;		/* in @changed */
};

static const struct gen *gen_of(const struct coming *c, const char *name)
{
	const struct table *t = space_table(c->e->s, c->f, name);

	if (t == c->changed)
		return c->next;
	return table_is_xtjit(t) ? t->cur : NULL;
}

static bool pre_has_rules(const struct xt_replace_hdr *h)
{
	return h->hook_entry[NF_INET_PRE_ROUTING] != h->underflow[NF_INET_PRE_ROUTING];
}

/* Rules, not only a policy, in PREROUTING; true when in doubt. */
static bool nat_has_rules(const struct coming *c)
{
	const struct gen *g = gen_of(c, "nat");
	struct kxt_table k;
	bool ret;

	if (g)
		return pre_has_rules(&g->h);
	if (kxt_read(c->f, "nat", &k))
		return true;
	ret = pre_has_rules(&k.h);
	kxt_free(&k);
	return ret;
}

/* Native parts may track connections, who knows. */
static bool has_native(const struct coming *c)
{
	for (int i = 0; i < XT_TABLES; i++) {
		const struct gen *g = gen_of(c, early_order[i]);

		if (g && (!g->decoded || g->ir.nslots))
			return true;
	}
	return false;
}

/* raw's CT target may name a helper. */
static bool has_native_target(const struct coming *c)
{
	const struct gen *g = gen_of(c, "raw");

	for (__u32 i = 0; g && i < g->ir.nslots; i++)
		if (g->ir.slots[i].kind == XTJIT_SLOT_TARGET)
			return true;
	return g && !g->decoded;
}

/* A leftover of the kernel's that xtjit took over has nothing in it. */
__u32 early_apart(const struct early *e, int family, const struct table *taken)
{
	const struct xt_family *f = space_families[family];
	__u32 mask = table_is_xtjit(space_table(e->s, f, "nat")) ? 1 << EARLY_NAT : 0;
	char *save, *text;
	size_t len;

	text = kxt_proc(f->proc_names, &len);
	for (char *l = text ? strtok_r(text, "\n", &save) : NULL; l;
	     l = strtok_r(NULL, "\n", &save)) {
		for (int i = 0; i < XT_TABLES; i++) {
			const struct table *t;

			if (strcmp(l, early_order[i]))
				continue;
			t = space_table(e->s, f, l);
			if (t != taken && !table_is_xtjit(t))
				mask |= 1 << i;
		}
	}
	free(text);
	return mask;
}

/* Both lead to INPUT. */
static void local_addresses(struct early *e, const struct xt_family *f, struct early_basis *b)
{
	const __u8 (*list)[16];
	int n, more = 0;

	n = netdevs_local(e->nd, f->nfproto, EARLY_LOCAL_MAX, &list);
	if (n > 0)
		memcpy(b->local, list, n * sizeof(b->local[0]));
	if (n >= 0 && f->nfproto == NFPROTO_IPV4) {
		more = netdevs_broadcast(e->nd, EARLY_LOCAL_MAX - n, &list);
		if (more > 0)
			memcpy(b->local + n, list, more * sizeof(b->local[0]));
	}
	if (n < 0 || more < 0) {
		memset(b->local, 0, sizeof(b->local));
		b->facts.fib = true;
		return;
	}
	b->facts.nlocal = n + more;
}

static void devices(struct early *e, const struct xt_family *f, struct early_basis *b)
{
	int n;
	const struct netdev *d = netdevs_list(e->nd, &n);

	for (int i = 0; i < n; i++) {
		if (f->nfproto == NFPROTO_IPV4 && d[i].rp_filter)
			b->facts.source_check = true;
		if (!early_eligible(&d[i]))
			continue;
		b->need[EARLY_XDP] |= d[i].ether;
		b->need[EARLY_TC] |= !d[i].ether || e->tc_for_ether;
	}
}

/* Read once, until they may have changed. */
static struct nft_facts nft_facts(struct early *e)
{
	bool quiet = early_nft_is_quiet();

	if (quiet && e->nft_known)
		return e->nft;
	e->nft_known = quiet;
	if (nft_facts_get(&e->nft, NULL)) {
		e->nft_known = false;
		/* when in doubt */
		e->nft = (struct nft_facts){ true, true, true };
	}
	return e->nft;
}

void early_basis_get(struct early *e, int family, const struct table *changed,
		     const struct gen *next, struct early_basis *b)
{
	const struct xt_family *f = space_families[family];
	const struct coming c = { e, f, changed, next };
	struct nft_facts nft = nft_facts(e);

	memset(b, 0, sizeof(*b));
	b->apart = early_apart(e, family, changed);
	b->nat_rules = b->apart & (1 << EARLY_NAT) && nat_has_rules(&c);
	local_addresses(e, f, b);
	devices(e, f, b);
	b->facts.conntrack = e->s->conntrack[family] || b->apart || nft.any_chain ||
			     has_native(&c);
	/* the kernel's raw table may have such a target, too */
	b->facts.helpers = nft.ct_helper || (b->apart & (1 << EARLY_RAW)) ||
			   has_native_target(&c);
	b->facts.foreign = nft.any_chain;
	b->facts.nat = nft.nat_chain || b->nat_rules;
}
