// SPDX-License-Identifier: GPL-2.0
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stdio.h>

#include "kbtf.h"
#include "kfeat.h"
#include "kfib.h"

/* All that cg_fib.c looks at. */
static const struct {
	const char *type, *member;
} members[] = {
	{ "net", "ipv4.fib_table_hash" }, { "net", "ipv4.devconf_all" },
	{ "fib_table", "tb_hlist" }, { "fib_table", "tb_id" }, { "fib_table", "tb_data" },
	{ "key_vector", "key" }, { "key_vector", "pos" }, { "key_vector", "bits" },
	{ "key_vector", "slen" }, { "key_vector", "leaf" }, { "key_vector", "tnode" },
	{ "tnode", "parent" }, { "tnode", "kv" },
	{ "fib_alias", "fa_list" }, { "fib_alias", "fa_info" }, { "fib_alias", "fa_dscp" },
	{ "fib_alias", "fa_type" }, { "fib_alias", "fa_slen" },
	{ "fib_info", "fib_dead" }, { "fib_info", "fib_flags" }, { "fib_info", "nh" },
	{ "fib_info", "fib_nhs" }, { "fib_info", "fib_nh" },
	{ "fib_nh", "nh_common" },
	{ "fib_nh_common", "nhc_flags" }, { "fib_nh_common", "nhc_dev" },
	{ "nexthop", "is_group" }, { "nexthop", "nh_info" }, { "nexthop", "nh_grp" },
	{ "nh_info", "reject_nh" }, { "nh_info", "fib_nhc" },
	{ "nh_group", "num_nh" }, { "nh_group", "nh_entries" }, { "nh_grp_entry", "nh" },
	{ "net_device", "ip_ptr" }, { "net_device", "nd_net.net" },
	{ "in_device", "dev" }, { "in_device", "cnf.data" }, { "ipv4_devconf", "data" },
};

/* A node's key and what says how to go on are in one word. */
static bool one_word(void)
{
	static const char *const bytes[] = { "pos", "bits", "slen" };
	int key = kbtf_offset("key_vector", "key");

	for (int i = 0; i < 3; i++) {
		int off = kbtf_offset("key_vector", bytes[i]) - key;

		if (off < 4 || off > 7)
			return false;
	}
	return true;
}

static const char *look(void)
{
	static char what[64];

	for (unsigned int i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		if (kbtf_offset(members[i].type, members[i].member) >= 0)
			continue;
		snprintf(what, sizeof(what), "%s in %s", members[i].member, members[i].type);
		return what;
	}
	if (kbtf_size("fib_nh") < 0 || kbtf_size("nh_grp_entry") < 0)
		return "nexthops";
	return one_word() ? NULL : "key_vector as expected";
}

const char *kfib_lacks(void)
{
	static const char *lacks;
	static bool known;

	if (!known)
		lacks = look();
	known = true;
	/* copies of all that is on the way would be slow, and loops of any length not to be had */
	if (!kfeat()->casts)
		return "bpf_rdonly_cast()";
	return kfeat()->iters ? lacks : "bpf_iter_num_new()";
}

/* include/net/ip_fib.h FIB_TABLE_HASHSZ is 2 without CONFIG_IP_MULTIPLE_TABLES. */
int kfib_local_index(void)
{
	return kbtf_offset("netns_ipv4", "fib_has_custom_rules") >= 0 ? RT_TABLE_LOCAL :
									RT_TABLE_LOCAL & 1;
}
