/* SPDX-License-Identifier: GPL-2.0 */
/*
 * xtjit.ko: what its parts know of each other.
 *
 *	sockopt.c	iptables' socket options become requests
 *	dev.c		/dev/xtjit: requests up, replies and rulesets down
 *	umh.c		starts the helper
 *	table.c		a namespace's tables; one switch from ruleset to ruleset
 *	hook.c		the packet's way: hooks, the program, native slots
 *	native.c	matches and targets of x_tables with a rule's own data
 *	trace.c		what the target TRACE has logged
 *	compat.c	what ip_tables of older kernels has besides
 *
 * Locks: xtjit_tables_lock (table.c) is taken before the device's (dev.c);
 * neither is taken on a packet's way.
 */
#ifndef XTJIT_H
#define XTJIT_H

#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/module.h>
#include <linux/netfilter.h>
#include <linux/netfilter/x_tables.h>
#include <net/net_namespace.h>

#include "compat.h"
#include "xtjit_dev.h"

#undef pr_fmt
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#define XTJIT_TABLES 5

/* native.c */

struct xtjit_native {
	union {
		const struct xt_match *match;
		const struct xt_target *target;
	};
	void *data;
	u32 kind;			/* enum xtjit_slot_kind */
};

/* The entries of a commit, in the helper's memory. */
struct xtjit_entries {
	u8 __user *p;
	u32 len;
};

struct xtjit_place {
	struct net *net;
	const char *table;
	u8 family;
};

/*
 * Instantiates @slot's extension for a table, as ip_tables does for a rule's.
 * 0, or the errno of x_tables, of the extension's checkentry(), or -EINVAL for a
 * slot that is none.  On success @n holds references; xtjit_native_close()
 * gives them back.
 */
int xtjit_native_open(struct xtjit_native *n, const struct xtjit_place *at,
		      const struct xtjit_entries *e, const struct xtjit_slot *slot);
void xtjit_native_close(struct xtjit_native *n, const struct xtjit_place *at);
/* Writes the extension's data back, as GET_ENTRIES shows it. 0 or -EFAULT. */
int xtjit_native_show(const struct xtjit_native *n, const struct xtjit_entries *e,
		      const struct xtjit_slot *slot);

/* table.c */

/* What is in force in a table; immutable. */
struct xtjit_rules {
	struct bpf_prog *prog;
	u64 gen;
	u32 charged;			/* bytes, of a namespace of an unprivileged user */
	bool empty;
	struct xtjit_trace *traces;	/* by rule */
	u32 ntraces;
	u32 nslots;
	struct xtjit_native slots[];
};

struct xtjit_table_type {
	const char *name;
	u32 hooks;			/* bit per enum nf_inet_hooks */
	int prio;			/* nat: of source translation's hooks, see table.c */
	nf_hookfn *fn[2];		/* IPv4, IPv6 */
	bool nat;
};

struct xtjit_table {
	struct list_head list;		/* of all */
	const struct xtjit_table_type *type;
	struct net *net;
	u8 family;
	bool pins;			/* holds a reference of the module */
	struct xtjit_rules __rcu *rules;
	struct nf_hook_ops ops[NF_INET_NUMHOOKS];
	u32 nops;
	struct xt_table *xt;		/* its line in /proc/net/ip_tables_names */
};

/* The device's ioctls; called by the helper. */
int xtjit_table_commit(struct xtjit_commit *c);
int xtjit_table_query(struct xtjit_table_id *id);
int xtjit_table_drop(struct xtjit_table_id *id);
/* All tables are gone, and with them the references of the module that they held. */
void xtjit_table_drop_all(void);

int xtjit_table_init(void);
void xtjit_table_exit(void);

/* hook.c */

nf_hookfn xtjit_hook, xtjit_hook_mangle, xtjit_hook_mangle6;
/* When it returns no packet is in a ruleset that was in force before the call. */
void xtjit_hook_wait(void);

/* trace.c */

/* Copies @c's traces to @rs, to be kvfree()d. 0, -EINVAL, -ENOMEM or -EFAULT. */
int xtjit_trace_get(struct xtjit_rules *rs, const struct xtjit_commit *c);
/* Logs that the packet matched a rule; false if there is no such rule. */
bool xtjit_trace(const struct xtjit_rules *rs, const char *table, const struct sk_buff *skb,
		 const struct nf_hook_state *state, u32 rule);

/* sockopt.c */

int xtjit_sockopt_init(void);
/* Before it, every option is -ENOPROTOOPT. */
void xtjit_sockopt_open(void);
void xtjit_sockopt_exit(void);

/* dev.c */

struct xtjit_request;

/*
 * A request of the current process to the helper, with @len bytes of payload to
 * be filled in; freed by xtjit_request_put().  NULL if there is no memory.
 */
struct xtjit_request *xtjit_request_new(struct net *net, u16 op, u32 optname, u8 family,
					size_t len);
void xtjit_request_put(struct xtjit_request *r);
void *xtjit_request_payload(struct xtjit_request *r);
/*
 * Sleeps until the helper has replied: its status, or -EINTR (killed),
 * -ETIMEDOUT, -EIO (no helper, or one that died of it repeatedly).
 */
int xtjit_request_wait(struct xtjit_request *r);
/* The reply's data, which the request keeps. */
const void *xtjit_request_reply(const struct xtjit_request *r, size_t *len);

/*
 * For a commit: @id is a request that was read and whose caller waits (0: none
 * is needed).  From here on the caller waits for the reply however long it
 * takes.  0 or -ECANCELED.
 */
int xtjit_request_seal(u64 id);

bool xtjit_dev_is_open(void);
/*
 * Requests that wait are over (-EIO); the helper is asked to leave, and waited for (some
 * seconds at most).  Where there is none, because it died, one comes first, to clear up.
 */
void xtjit_dev_hangup(void);
int xtjit_dev_init(void);
void xtjit_dev_exit(void);

/* umh.c: 0, also when it was started a moment ago; or why it cannot be. */
int xtjit_umh_start(void);

#endif
