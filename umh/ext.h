/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Extensions that have a compiled form: one row a name and revision.
 *
 * A row's lower() checks its data as the kernel's checkentry() does (same
 * errno) and adds predicates to the rule, or sets its action.  What it cannot
 * express is -EOPNOTSUPP with a reason: it becomes a native slot where the
 * module is, and else the table goes to ip_tables.
 */
#ifndef XTJIT_EXT_H
#define XTJIT_EXT_H

#include "blob.h"
#include "ir.h"

/* For what is lowered; where there is none (NULL): not for the module. */
struct ext_env {
	bool native;	/* the module runs what has no compiled form */
};

struct ext_ctx {
	const struct xt_ruleset *rs;
	const struct ext_env *env;
	const struct xt_rule *rule;	/* the rule that is being lowered */
	struct ir_table *ir;
	struct ir_rule *out;
	__u32 hooks;			/* bit per hook from which the rule can be reached */
	const char *kind;		/* "match", "target": the extension that is being lowered */
	const struct xt_part *part;
	struct xt_err *err;
};

#define EXT_IP	1
#define EXT_IP6	2

struct ext_row {
	const char *name;
	__u8 rev;
	__u8 families;		/* EXT_IP, EXT_IP6 */
	__u16 size;		/* of the data, before XT_ALIGN() */
	__u16 proto;		/* if not 0: only in rules with that -p, not inverted */
	__u32 hooks;		/* if not 0: only reachable from these (bits) */
	const char *table;	/* if not NULL: only in that table */
	bool rather_native;	/* where the module is, the kernel's own is the better one */
	int (*lower)(struct ext_ctx *c, const void *data);
};

/* Lists of rows: each list ends with a row whose name is NULL, and these with NULL. */
extern const struct ext_row *const ext_matches[], *const ext_targets[];

/* NULL if there is no such row. */
const struct ext_row *ext_find(const struct ext_row *const *list, const char *name,
			       __u8 rev, const struct xt_family *f);

/*
 * Lowers a decoded table.  0, or a negative errno with the rule and extension
 * in @err: -EOPNOTSUPP for what has no compiled form, else the kernel's errno
 * for data that it refuses.  The module's own check of a native slot is its
 * kernel's: it comes when the table is put in force.
 */
int ext_lower(const struct xt_ruleset *rs, const struct ext_env *env, struct ir_table *ir,
	      struct xt_err *err);

/*
 * Why rule @rule of @rs has no compiled form: 0 if it has one, else the errno
 * of ext_lower() and its reason.  For `xtjit check`.
 */
int ext_lower_rule(const struct xt_ruleset *rs, const struct ext_env *env, __u32 rule,
		   struct xt_err *err);

/* True if the early stage can decide rule @rule; else its reason in @why. */
bool ext_rule_early(const struct xt_ruleset *rs, const struct ext_env *env, __u32 rule,
		    struct xt_err *why);

/* True if rule @rule has native slots; their extensions in @why. */
bool ext_rule_native(const struct xt_ruleset *rs, const struct ext_env *env, __u32 rule,
		     struct xt_err *why);

/* A bit per hook from which rule @r can be reached. */
__u32 ext_rule_hooks(const struct xt_ruleset *rs, const struct xt_rule *r);

/* True if a rule names users or groups: SO_SET_REPLACE takes those from their own namespace only. */
bool ext_names_users(const struct xt_ruleset *rs);

/* Adds the predicates of the rule's own selectors: ip_packet_match(), ip6_packet_match(). */
void lower_base(struct ext_ctx *c);

/*
 * Adds (field6 & mask) == (addr & mask), both in network order; as ir_range()
 * where that tests nothing.
 */
void ext_add_addr6(struct ext_ctx *c, enum ir_field6 f, const void *addr,
		   const void *mask, bool inv);

/* ir_range() of the whole field. */
void ext_add_range(struct ext_ctx *c, enum ir_field f, __u64 lo, __u64 hi, bool inv);

/*
 * 0, or -EOPNOTSUPP if @v is neither 0 nor 1: the kernel's arithmetic with other
 * values of such a flag is an accident that nothing here repeats.
 */
int ext_flag(struct ext_ctx *c, const char *name, __u32 v);

/*
 * Adds the guard of @len bytes of transport header, unless the rule has it.
 * 0, or -EOPNOTSUPP in an IPv6 rule that does not look for the header (-p).
 */
int ext_add_l4(struct ext_ctx *c, enum ir_l4 how, __u32 len);

/* xt_fail(), with the chain, the rule's number and the extension before the text. Returns @err. */
int ext_fail(struct ext_ctx *c, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Adds to the current table; returns the index. */
__u32 ext_add_log(struct ext_ctx *c, const struct ir_log *l);
__u32 ext_add_limit(struct ext_ctx *c, const struct ir_limit *l);
__u32 ext_add_nth(struct ext_ctx *c, const struct ir_nth *n);

#endif
