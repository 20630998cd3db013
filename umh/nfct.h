/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What nf_tables does for us: its "ct" expression turns connection tracking
 * (and with it defragmentation) on in a namespace, as loading xt_conntrack
 * does for a rule of ip_tables.  And what it does to us: nat chains of its
 * own, which make addresses unknown to the early stage.
 *
 * All calls work in the current network namespace (netns_enter()).
 */
#ifndef XTJIT_NFCT_H
#define XTJIT_NFCT_H

#include <stdbool.h>

#include "err.h"

/*
 * Turns conntrack on for @nfproto, by a table named "xtjit" with one chain that
 * no hook calls, or off again (deletes the table).  Both may be repeated: with
 * the table in place nfct_enable() changes nothing, and no watch tells of it;
 * with it gone (`nft flush ruleset`) or emptied it makes it anew.
 * 0 or a negative errno (-EOPNOTSUPP: the kernel has no nf_tables or no ct).
 */
int nfct_enable(int nfproto, struct xt_err *err);
void nfct_disable(int nfproto);

/* What the namespace's nf_tables rulesets have, ours aside. */
struct nft_facts {
	bool any_chain;		/* base chains at all: someone else may use conntrack */
	bool nat_chain;		/* a base chain of type nat */
	bool ct_helper;		/* an object of type "ct helper" */
};
int nft_facts_get(struct nft_facts *f, struct xt_err *err);

/*
 * A socket (see nsid_listen()) that becomes readable when rulesets change
 * (NFNLGRP_NFTABLES), by us too; to be drained with nft_watch_drain(), which
 * calls @fn for the numbers of the namespaces, or @lost: it may have been any.
 */
int nft_watch_open(struct xt_err *err);
void nft_watch_drain(int fd, void (*fn)(int nsid), void (*lost)(void));

#endif
