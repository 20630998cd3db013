/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The running kernel's IPv4 routes, as programs read them (cg_fib.c): tries of
 * net/ipv4/fib_trie.c, and nexthops.
 */
#ifndef XTJIT_KFIB_H
#define XTJIT_KFIB_H

/* NULL if programs can walk them; else what this kernel lacks for it. */
const char *kfib_lacks(void);

/* The place of the table "local" in net->ipv4.fib_table_hash. */
int kfib_local_index(void);

#endif
