/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between ip_tables and ip6_tables, as two rows of one table.
 */
#ifndef XTJIT_FAMILY_H
#define XTJIT_FAMILY_H

#include <linux/types.h>
#include <stddef.h>

#define XT_TABLES 5
#define XT_HOOKS 5		/* NF_INET_NUMHOOKS without ingress */

struct xt_table_row {
	const char *name;
	__u32 valid_hooks;	/* bit per enum nf_inet_hooks */
	int prio[XT_HOOKS];	/* per hook, enum nf_ip_hook_priorities */
};

struct xt_family {
	const char *name;	/* "ip", "ip6" */
	__u8 nfproto;		/* NFPROTO_IPV4, NFPROTO_IPV6 */
	int af;			/* AF_INET, AF_INET6 */
	int sol;		/* level of the socket options */
	int set_replace, set_add_counters;
	int get_info, get_entries, get_rev_match, get_rev_target;
	const char *proc_names, *proc_matches, *proc_targets;
	size_t entry_size;	/* sizeof struct ipt_entry, ip6t_entry */
	size_t addr_size;	/* bytes of an address */
	const struct xt_table_row *tables;	/* XT_TABLES of them */
};

extern const struct xt_family xt_family_ip;
extern const struct xt_family xt_family_ip6;

/* NULL if @nfproto is neither NFPROTO_IPV4 nor NFPROTO_IPV6. */
const struct xt_family *xt_family_by_proto(int nfproto);

/* NULL if there is no table of that name. */
const struct xt_table_row *xt_table_row(const struct xt_family *f, const char *name);

/* "PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING". */
extern const char *const xt_hook_name[XT_HOOKS];

#endif
