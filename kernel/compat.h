/* SPDX-License-Identifier: GPL-2.0 */
/* What differs from kernel version to kernel version: 6.1 and later; with compat.c. */
#ifndef XTJIT_COMPAT_H
#define XTJIT_COMPAT_H

#include <linux/netfilter/x_tables.h>
#include <linux/slab.h>
#include <linux/version.h>

/* compat.c. 0 or a negative errno. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
#define COMPAT_ICMP
int compat_init(void);
void compat_exit(void);
#else
static inline int compat_init(void)
{
	return 0;
}

static inline void compat_exit(void)
{
}
#endif

/* The packet is traced: by the target TRACE, or nf_tables' nftrace. */
static inline bool compat_traced(const struct sk_buff *skb)
{
#if IS_ENABLED(CONFIG_NETFILTER_XT_TARGET_TRACE) || IS_ENABLED(CONFIG_NF_TABLES)
	return skb->nf_trace;
#else
	return false;
#endif
}

/*
 * A table of x_tables without hooks of its own; unregistering it frees it with
 * its info.  XTJIT_TABLE_EXIT: it is told by its name, in two steps; from 7.2
 * on, and where that came earlier (Kbuild).
 */
#ifdef XTJIT_TABLE_EXIT
static inline struct xt_table *compat_register_table(struct net *net, const struct xt_table *table,
						     struct xt_table_info *bootstrap,
						     struct xt_table_info *info)
{
	return xt_register_table(net, table, NULL, bootstrap, info);
}

static inline void compat_unregister_table(struct net *net, struct xt_table *table)
{
	u8 af = table->af;

	xt_unregister_table_pre_exit(net, af, table->name);
	table = xt_unregister_table_exit(net, af, table->name);
	xt_free_table_info(table->private);
	kfree(table);
}
#else
static inline struct xt_table *compat_register_table(struct net *net, const struct xt_table *table,
						     struct xt_table_info *bootstrap,
						     struct xt_table_info *info)
{
	return xt_register_table(net, table, bootstrap, info);
}

static inline void compat_unregister_table(struct net *net, struct xt_table *table)
{
	xt_free_table_info(xt_unregister_table(table));
}
#endif

#endif
