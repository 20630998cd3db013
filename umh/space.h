/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the helper has of one network namespace: families by tables, and the
 * early stage.
 */
#ifndef XTJIT_SPACE_H
#define XTJIT_SPACE_H

#include "drops.h"
#include "table.h"

struct early;

/* Pinned. */
struct space_words {
	__u32 early;		/* enum xtjit_early, of the last replace */
	__u32 foreign;		/* it belongs to another user namespace: bounded */
};

struct space {
	struct space *next;
	__u64 cookie;
	char dir[PIN_DIR_MAX];
	struct pmem mem;
	struct space_words *w;
	struct table tables[2][XT_TABLES];	/* IPv4, IPv6; as in family->tables */
	bool conntrack[2];			/* we have turned it on */
	struct early *early;			/* NULL: nothing of it */
	struct drops drops;			/* see space_drops() */
};

/* Families in the order of space->tables. */
extern const struct xt_family *const space_families[2];

struct space *space_first(void);
/* NULL if there is none. */
struct space *space_find(__u64 cookie);
/* The namespace of @netns; made, and kept, if there is none. NULL with @err. */
struct space *space_get(int netns, __u64 cookie, struct xt_err *err);

/* NULL if there is no such table. */
struct table *space_table(struct space *s, const struct xt_family *f, const char *name);

/*
 * Conntrack is on while a table of ours needs it: the tables as they are, and
 * @next (NULL: none) which is about to come.  Off again by @next == NULL.
 */
int space_conntrack(struct space *s, const struct xt_family *f, const struct gen *next,
		    struct xt_err *err);

/* Where programs for it count what they drop, made on first use; NULL: they do not. */
const struct drops *space_drops(struct space *s);

/* /proc/net/ip_tables_names as it would be if all tables were the kernel's. */
char *space_names(struct space *s, const struct xt_family *f, size_t *len);

/* Takes over what an earlier helper left. */
void space_recover_all(void);
/* Once a second: forgets namespaces that are gone. */
void space_tick(void);
/* Takes everything off and unpins it, of unreached namespaces, too. */
void space_drop_all(void);
/* What is pinned below @root, and nobody's any more: of a module that is gone. */
void space_drop_leftovers(const char *root);
/* Closes everything, and leaves it in force. */
void space_exit(void);

#endif
