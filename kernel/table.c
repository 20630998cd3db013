// SPDX-License-Identifier: GPL-2.0
/*
 * Tables of network namespaces: net/ipv4/netfilter/iptable_*.c and
 * net/ipv6/netfilter/ip6table_*.c.  A table comes with its first ruleset and
 * goes with its namespace.
 */
#include <linux/file.h>
#include <linux/mutex.h>
#include <linux/netfilter_ipv4.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <net/netfilter/nf_nat.h>
#include <net/netns/generic.h>

#include "xtjit.h"

#define HOOK(h) (1u << NF_INET_##h)

static const struct xtjit_table_type types[XTJIT_TABLES] = {
	{
		.name = "filter",
		.hooks = HOOK(LOCAL_IN) | HOOK(FORWARD) | HOOK(LOCAL_OUT),
		.prio = NF_IP_PRI_FILTER,
		.fn = { xtjit_hook, xtjit_hook },
	}, {
		.name = "nat",
		.hooks = HOOK(PRE_ROUTING) | HOOK(LOCAL_IN) | HOOK(LOCAL_OUT) | HOOK(POST_ROUTING),
		.fn = { xtjit_hook, xtjit_hook },
		.nat = true,
	}, {
		.name = "mangle",
		.hooks = HOOK(PRE_ROUTING) | HOOK(LOCAL_IN) | HOOK(FORWARD) | HOOK(LOCAL_OUT) |
			 HOOK(POST_ROUTING),
		.prio = NF_IP_PRI_MANGLE,
		.fn = { xtjit_hook_mangle, xtjit_hook_mangle6 },
	}, {
		.name = "raw",
		.hooks = HOOK(PRE_ROUTING) | HOOK(LOCAL_OUT),
		.prio = NF_IP_PRI_RAW,
		.fn = { xtjit_hook, xtjit_hook },
	}, {
		.name = "security",
		.hooks = HOOK(LOCAL_IN) | HOOK(FORWARD) | HOOK(LOCAL_OUT),
		.prio = NF_IP_PRI_SECURITY,
		.fn = { xtjit_hook, xtjit_hook },
	},
};

struct pernet {
	struct xtjit_table *tables[2][XTJIT_TABLES];
};

static unsigned int pernet_id __read_mostly;
static DEFINE_MUTEX(xtjit_tables_lock);
static LIST_HEAD(tables);

/* Of rulesets in namespaces of unprivileged users. */
static unsigned int user_max_mib = 64;
module_param(user_max_mib, uint, 0644);
MODULE_PARM_DESC(user_max_mib, "MiB of rulesets that all namespaces of unprivileged users may have together");
static u64 user_bytes;

static const u8 families[2] = { NFPROTO_IPV4, NFPROTO_IPV6 };

/* Where the namespace keeps the table; NULL if there is no such table. */
static struct xtjit_table **table_slot(struct net *net, u8 family, const char *name)
{
	struct pernet *pn = net_generic(net, pernet_id);
	int i;

	if (family != NFPROTO_IPV4 && family != NFPROTO_IPV6)
		return NULL;
	for (i = 0; i < XTJIT_TABLES; i++)
		if (!strcmp(types[i].name, name))
			return &pn->tables[family == NFPROTO_IPV6][i];
	return NULL;
}

static const struct xtjit_table_type *table_type(const char *name)
{
	int i;

	for (i = 0; i < XTJIT_TABLES; i++)
		if (!strcmp(types[i].name, name))
			return &types[i];
	return NULL;
}

/*
 * Rulesets
 */

static struct xtjit_place table_place(const struct xtjit_table *t)
{
	return (struct xtjit_place){ t->net, t->type->name, t->family };
}

static void rules_free(struct xtjit_rules *rs, const struct xtjit_place *at)
{
	u32 i;

	for (i = 0; i < rs->nslots; i++)
		xtjit_native_close(&rs->slots[i], at);
	if (rs->prog)
		bpf_prog_put(rs->prog);
	user_bytes -= rs->charged;
	kvfree(rs->traces);
	kvfree(rs);
}

/* Instantiates the slots in order, as ip_tables checks rules. */
static int rules_slots(struct xtjit_rules *rs, struct xtjit_commit *c,
		       const struct xtjit_place *at)
{
	struct xtjit_entries e = { u64_to_user_ptr(c->entries), c->entries_len };
	struct xtjit_slot __user *from = u64_to_user_ptr(c->slots);
	struct xtjit_slot slot;
	int ret;
	u32 i;

	for (i = 0; i < c->nslots; i++) {
		if (copy_from_user(&slot, &from[i], sizeof(slot)))
			return -EFAULT;
		ret = xtjit_native_open(&rs->slots[i], at, &e, &slot);
		if (ret) {
			c->bad = i;
			return ret;
		}
		rs->nslots = i + 1;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	for (i = 0; i < c->nslots; i++) {
		if (copy_from_user(&slot, &from[i], sizeof(slot)))
			return -EFAULT;
		ret = xtjit_native_show(&rs->slots[i], &e, &slot);
		if (ret)
			return ret;
	}
	return 0;
}

static int rules_charge(struct xtjit_rules *rs, const struct xtjit_commit *c, struct net *net)
{
	if (net->user_ns == &init_user_ns)
		return 0;
	if (user_bytes + c->entries_len > (u64)READ_ONCE(user_max_mib) << 20)
		return -ENOMEM;
	rs->charged = c->entries_len;
	user_bytes += rs->charged;
	return 0;
}

/* @old: in force, and its extensions are to be kept; or NULL. */
static int rules_new(struct xtjit_rules **out, struct xtjit_commit *c,
		     const struct xtjit_place *at, const struct xtjit_rules *old)
{
	struct xtjit_rules *rs;
	int ret;

	if (c->nslots > XTJIT_MAX_SLOTS)
		return -EINVAL;
	rs = kvzalloc(struct_size(rs, slots, old ? old->nslots : c->nslots), GFP_KERNEL_ACCOUNT);
	if (!rs)
		return -ENOMEM;
	rs->gen = c->gen;
	rs->empty = c->flags & XTJIT_COMMIT_EMPTY;
	rs->prog = bpf_prog_get_type_dev(c->prog, BPF_PROG_TYPE_SCHED_CLS, false);
	if (IS_ERR(rs->prog)) {
		ret = PTR_ERR(rs->prog);
		rs->prog = NULL;
		goto err;
	}
	ret = xtjit_trace_get(rs, c);
	if (!ret && !old)
		ret = rules_charge(rs, c, at->net) ?: rules_slots(rs, c, at);
	if (!ret) {
		*out = rs;
		return 0;
	}
err:
	rules_free(rs, at);
	return ret;
}

/* @rs has all that @old has, too; until one of them lets go. */
static void rules_share(struct xtjit_rules *rs, const struct xtjit_rules *old)
{
	memcpy(rs->slots, old->slots, flex_array_size(rs, slots, old->nslots));
	rs->nslots = old->nslots;
	rs->charged = old->charged;
}

static void rules_let_go(struct xtjit_rules *rs)
{
	rs->nslots = 0;
	rs->charged = 0;
}

/*
 * Tables
 */

static struct xtjit_rules *table_rules(const struct xtjit_table *t)
{
	return rcu_dereference_protected(t->rules, lockdep_is_held(&xtjit_tables_lock));
}

static int nat_register(struct xtjit_table *t, struct nf_hook_ops *ops)
{
	return t->family == NFPROTO_IPV6 ? nf_nat_ipv6_register_fn(t->net, ops) :
					   nf_nat_ipv4_register_fn(t->net, ops);
}

static void nat_unregister(struct xtjit_table *t, struct nf_hook_ops *ops)
{
	if (t->family == NFPROTO_IPV6)
		nf_nat_ipv6_unregister_fn(t->net, ops);
	else
		nf_nat_ipv4_unregister_fn(t->net, ops);
}

/* nat's run only for the first packet of a connection, from nf_nat's own hooks. */
static int hooks_register(struct xtjit_table *t)
{
	u32 i;
	int ret;

	if (!t->type->nat)
		return nf_register_net_hooks(t->net, t->ops, t->nops);
	for (i = 0; i < t->nops; i++) {
		ret = nat_register(t, &t->ops[i]);
		if (ret) {
			while (i--)
				nat_unregister(t, &t->ops[i]);
			return ret;
		}
	}
	return 0;
}

/* A dying namespace's table may be dropped, too: only the first call does it. */
static void hooks_unregister(struct xtjit_table *t)
{
	u32 i;

	if (!t->type->nat)
		nf_unregister_net_hooks(t->net, t->ops, t->nops);
	else
		for (i = 0; i < t->nops; i++)
			nat_unregister(t, &t->ops[i]);
	t->nops = 0;
}

static int nat_prio(int hook)
{
	return hook == NF_INET_PRE_ROUTING || hook == NF_INET_LOCAL_OUT ? NF_IP_PRI_NAT_DST :
									  NF_IP_PRI_NAT_SRC;
}

static void hooks_fill(struct xtjit_table *t)
{
	int h;

	for (h = 0; h < NF_INET_NUMHOOKS; h++)
		if (t->type->hooks & 1u << h)
			t->ops[t->nops++] = (struct nf_hook_ops){
				.hook = t->type->fn[t->family == NFPROTO_IPV6],
				.priv = t, .pf = t->family, .hooknum = h,
				.priority = t->type->nat ? nat_prio(h) : t->type->prio,
			};
}

/* Its line in /proc/net/ip_tables_names: a table of x_tables without rules. */
static int name_register(struct xtjit_table *t)
{
	static struct xt_table_info bootstrap;
	struct xt_table template = {
		.valid_hooks = t->type->hooks, .me = THIS_MODULE, .af = t->family,
	};
	struct xt_table_info *info = xt_alloc_table_info(0);

	if (!info)
		return -ENOMEM;
	strscpy((char *)template.name, t->type->name, sizeof(template.name));
	t->xt = compat_register_table(t->net, &template, &bootstrap, info);
	if (!IS_ERR(t->xt))
		return 0;
	xt_free_table_info(info);
	return PTR_ERR(t->xt);
}

static void name_unregister(struct xtjit_table *t)
{
	compat_unregister_table(t->net, t->xt);
}

/* rmmod has to wait while there are rules. */
static void table_pin(struct xtjit_table *t, bool pin)
{
	if (pin && !t->pins)
		__module_get(THIS_MODULE);
	if (!pin && t->pins)
		module_put(THIS_MODULE);
	t->pins = pin;
}

static struct xtjit_table *table_new(const struct xtjit_place *at, struct xtjit_rules *rs)
{
	struct xtjit_table *t = kzalloc(sizeof(*t), GFP_KERNEL_ACCOUNT);
	int ret;

	if (!t)
		return ERR_PTR(-ENOMEM);
	t->type = table_type(at->table);
	t->net = at->net;
	t->family = at->family;
	RCU_INIT_POINTER(t->rules, rs);
	hooks_fill(t);
	ret = name_register(t);
	if (ret)
		goto err_free;
	ret = hooks_register(t);
	if (ret)
		goto err_name;
	list_add(&t->list, &tables);
	return t;

err_name:
	name_unregister(t);
err_free:
	kfree(t);
	return ERR_PTR(ret);
}

/* Its hooks are gone, and no packet is in it. */
static void table_free(struct xtjit_table *t)
{
	struct xtjit_place at = table_place(t);

	list_del(&t->list);
	name_unregister(t);
	rules_free(table_rules(t), &at);
	table_pin(t, false);
	kfree(t);
}

static void table_drop(struct xtjit_table **where)
{
	struct xtjit_table *t = *where;

	hooks_unregister(t);
	synchronize_net();
	*where = NULL;
	table_free(t);
}

static void table_switch(struct xtjit_table *t, struct xtjit_rules *rs, u32 flags)
{
	struct xtjit_place at = table_place(t);
	struct xtjit_rules *old = table_rules(t);

	if (flags & XTJIT_COMMIT_KEEP)
		rules_share(rs, old);
	rcu_assign_pointer(t->rules, rs);
	xtjit_hook_wait();
	if (flags & XTJIT_COMMIT_GRACE)
		synchronize_rcu_expedited();
	if (flags & XTJIT_COMMIT_KEEP)
		rules_let_go(old);
	rules_free(old, &at);
}

/*
 * What the device asks for
 */

static int commit(struct xtjit_commit *c, struct net *net)
{
	struct xtjit_place at = { net, c->table, c->family };
	struct xtjit_table **where = table_slot(net, c->family, c->table), *t;
	struct xtjit_rules *rs, *old = NULL;
	int ret;

	if (!where)
		return -ENOENT;
	if (c->flags & XTJIT_COMMIT_KEEP) {
		old = *where ? table_rules(*where) : NULL;
		if (!old || old->gen != c->gen)
			return -ESTALE;
	}
	ret = rules_new(&rs, c, &at, old);
	if (ret)
		return ret;
	ret = xtjit_request_seal(c->id);
	if (ret)
		goto err;
	if (*where) {
		table_switch(*where, rs, c->flags);
	} else {
		t = table_new(&at, rs);
		if (IS_ERR(t)) {
			ret = PTR_ERR(t);
			goto err;
		}
		*where = t;
	}
	table_pin(*where, !rs->empty);
	return 0;
err:
	rules_free(rs, &at);
	return ret;
}

int xtjit_table_commit(struct xtjit_commit *c)
{
	struct net *net;
	int ret;

	c->bad = ~0u;
	if (strnlen(c->table, sizeof(c->table)) == sizeof(c->table))
		return -EINVAL;
	net = get_net_ns_by_fd(c->netns);
	if (IS_ERR(net))
		return PTR_ERR(net);
	mutex_lock(&xtjit_tables_lock);
	ret = commit(c, net);
	mutex_unlock(&xtjit_tables_lock);
	put_net(net);
	return ret;
}

/* Calls @fn with the place of the table that @id names. */
static int with_table(struct xtjit_table_id *id,
		      int (*fn)(struct xtjit_table **where, struct xtjit_table_id *id))
{
	struct xtjit_table **where;
	struct net *net;
	int ret = -ENOENT;

	if (strnlen(id->table, sizeof(id->table)) == sizeof(id->table))
		return -EINVAL;
	net = get_net_ns_by_fd(id->netns);
	if (IS_ERR(net))
		return PTR_ERR(net);
	mutex_lock(&xtjit_tables_lock);
	where = table_slot(net, id->family, id->table);
	if (where)
		ret = fn(where, id);
	mutex_unlock(&xtjit_tables_lock);
	put_net(net);
	return ret;
}

static int query(struct xtjit_table **where, struct xtjit_table_id *id)
{
	const struct xtjit_rules *rs = *where ? table_rules(*where) : NULL;

	id->gen = rs ? rs->gen : 0;
	id->ntraces = rs ? rs->ntraces : 0;
	return 0;
}

int xtjit_table_query(struct xtjit_table_id *id)
{
	return with_table(id, query);
}

static int drop(struct xtjit_table **where, struct xtjit_table_id *id)
{
	if (!*where)
		return -ENOENT;
	table_drop(where);
	return 0;
}

int xtjit_table_drop(struct xtjit_table_id *id)
{
	return with_table(id, drop);
}

void xtjit_table_drop_all(void)
{
	struct xtjit_table *t, *next;

	mutex_lock(&xtjit_tables_lock);
	list_for_each_entry_safe(t, next, &tables, list)
		table_drop(table_slot(t->net, t->family, t->type->name));
	mutex_unlock(&xtjit_tables_lock);
}

/*
 * Namespaces
 */

static int __net_init net_begin(struct net *net)
{
	int ret = xt_proto_init(net, NFPROTO_IPV4);

	if (ret)
		return ret;
	ret = xt_proto_init(net, NFPROTO_IPV6);
	if (ret)
		xt_proto_fini(net, NFPROTO_IPV4);
	return ret;
}

/* Packets may be on their way until this has returned, and an RCU grace period passed. */
static void __net_exit net_pre_exit(struct net *net)
{
	struct pernet *pn = net_generic(net, pernet_id);
	int f, i;

	mutex_lock(&xtjit_tables_lock);
	for (f = 0; f < 2; f++)
		for (i = 0; i < XTJIT_TABLES; i++)
			if (pn->tables[f][i])
				hooks_unregister(pn->tables[f][i]);
	mutex_unlock(&xtjit_tables_lock);
}

static void __net_exit net_end(struct net *net)
{
	struct pernet *pn = net_generic(net, pernet_id);
	int f, i;

	mutex_lock(&xtjit_tables_lock);
	for (f = 0; f < 2; f++) {
		for (i = 0; i < XTJIT_TABLES; i++)
			if (pn->tables[f][i])
				table_free(pn->tables[f][i]);
		xt_proto_fini(net, families[f]);
	}
	mutex_unlock(&xtjit_tables_lock);
}

static struct pernet_operations pernet_ops = {
	.init = net_begin,
	.pre_exit = net_pre_exit,
	.exit = net_end,
	.id = &pernet_id,
	.size = sizeof(struct pernet),
};

int xtjit_table_init(void)
{
	return register_pernet_subsys(&pernet_ops);
}

void xtjit_table_exit(void)
{
	unregister_pernet_subsys(&pernet_ops);
}
