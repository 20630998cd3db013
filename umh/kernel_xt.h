/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's own ip_tables and ip6_tables, by the same socket options as
 * iptables uses.  All calls work in the current network namespace
 * (netns_enter()); those that name a table make the kernel register it there.
 */
#ifndef XTJIT_KERNEL_XT_H
#define XTJIT_KERNEL_XT_H

#include <linux/netfilter/x_tables.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "blob.h"

/*
 * There is none: the module has its place, and would bring whatever is asked
 * back to us.  From now on every option is -ENOPROTOOPT, every file missing.
 */
void kxt_set_absent(void);
bool kxt_is_absent(void);

/* Whether the kernel has it at all; registers nothing. */
bool kxt_present(const struct xt_family *f);

/* One option: 0 (or what getsockopt() returned) or a negative errno. */
int kxt_get(const struct xt_family *f, int optname, void *buf, socklen_t *len);
/*
 * The same.  As rules may name users (users.h), SO_SET_REPLACE is done as a
 * process of the user namespace that the network namespace belongs to, which
 * may be a child: the old counters must go to memory that is mapped as shared.
 */
int kxt_set(const struct xt_family *f, int optname, const void *buf, size_t len);

/* Text of a /proc/net file, malloc()ed, *len bytes and a NUL; NULL if there is none. */
char *kxt_proc(const char *path, size_t *len);
/* Whether @table is registered in the namespace; and, which says the same, listed in proc_names. */
bool kxt_listed(const struct xt_family *f, const char *table);

/* A table as the kernel has it. */
struct kxt_table {
	struct xt_replace_hdr h;	/* num_counters is num_entries */
	void *entries;			/* counters are in the entries */
};

int kxt_read(const struct xt_family *f, const char *table, struct kxt_table *t);
void kxt_free(struct kxt_table *t);

/* The counters of its t->h.num_entries entries. */
void kxt_counters(const struct xt_family *f, const struct kxt_table *t, struct xt_counters *out);

/* Whether it has no rule, and policies ACCEPT: as a table is registered. */
bool kxt_untouched(const struct xt_family *f, const struct kxt_table *t);

/*
 * Replaces the table @h->name; h->num_counters must be its number of entries
 * (-EAGAIN), and so many old counters are written to @counters, shared memory.
 */
int kxt_replace(const struct xt_family *f, const struct xt_replace_hdr *h,
		const void *entries, struct xt_counters *counters);
int kxt_add_counters(const struct xt_family *f, const char *table,
		     const struct xt_counters *counters, __u32 n);

#endif
