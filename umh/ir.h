/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The intermediate form of a table: chains of rules; a rule is predicates over
 * named packet fields, evaluated in order, and one action.
 *
 * Text form (ir_print(), ir_parse()), one item a line:
 *
 *   table ip filter
 *   chain INPUT hook 1
 *     3: proto == 6; l4 20 tcp; dport in 22-23; ctstate & 0x4 -> accept
 *     4: -> jump 2
 *   chain web
 *     7: limit 0 -> log 0
 *
 * where the number before the colon is the rule's counter; ir_text.h has it all.
 */
#ifndef XTJIT_IR_H
#define XTJIT_IR_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "err.h"
#include "family.h"
#include "xtjit_dev.h"

/* Numbers of up to 64 bits, in host order. */
enum ir_field {
	IR_SADDR,	/* IPv4 */
	IR_DADDR,
	IR_PROTO,	/* IPv4: the header's; IPv6: use IR_P_PROTO */
	IR_FRAGOFF,	/* IPv4: fragment offset in units of 8 bytes */
	IR_LEN,		/* IPv4: total length; IPv6: of the packet */
	IR_DSFIELD,	/* tos byte, traffic class */
	IR_TTL,		/* or hop limit */
	IR_SPORT,	/* first and second 16 bits of the transport header */
	IR_DPORT,
	IR_TCPFLAGS,	/* byte 13 of the TCP header */
	IR_ICMP,	/* type << 8 | code */
	IR_MARK,
	IR_PKTTYPE,	/* xt_pkttype's view: loopback is told by the address */
	IR_MACOK,	/* 1 if there is an Ethernet source address */
	IR_SMAC,	/* 48 bits, first byte most significant */
	IR_CT,		/* 1 if there is a conntrack entry (not INVALID, not UNTRACKED) */
	IR_CTSTATE,	/* one or more XT_CONNTRACK_STATE_* bits */
	/* a predicate over what follows holds, inverted or not, where IR_CT is 0 */
	IR_CTSTATUS,	/* enum ip_conntrack_status */
	IR_CTPROTO,
	IR_CTDIR,	/* enum ip_conntrack_dir */
	IR_CTORIGSRC, IR_CTORIGDST, IR_CTREPLSRC, IR_CTREPLDST,	/* IPv4 */
	IR_CTORIGSRCPORT, IR_CTORIGDSTPORT, IR_CTREPLSRCPORT, IR_CTREPLDSTPORT,
	IR_CTEXPIRE,	/* seconds that are left */
	IR_NFIELDS
};

/* How wide each field is; the mask of a whole one is ir_field_mask(). */
extern const __u8 ir_field_bits[IR_NFIELDS];

static inline __u64 ir_field_mask(enum ir_field f)
{
	return (1ULL << ir_field_bits[f]) - 1;
}

/* IPv6 addresses: 128 bits. */
enum ir_field6 {
	IR6_SADDR, IR6_DADDR,
	IR6_CTORIGSRC, IR6_CTORIGDST, IR6_CTREPLSRC, IR6_CTREPLDST,
	IR6_NFIELDS
};

enum ir_pkind {
	IR_P_RANGE,	/* (field & mask) within lo..hi */
	IR_P_ADDR6,	/* (field6 & mask6) == value6 */
	IR_P_RANGE6,	/* field6 within value6..mask6, as big-endian numbers */
	IR_P_PROTO,	/* IPv6: the last header is .value, as ip6_packet_match() */
	IR_P_IFACE,	/* the device's name under a byte mask; dir: 0 in, 1 out */
	IR_P_L4,	/* .len bytes of transport header are there; see ir_l4 */
	IR_P_PORTS,	/* one of the fields in .ports is in one of n ranges */
	IR_P_TCPOPT,	/* a TCP option of kind .value is there (xt_tcpudp) */
	IR_P_TCPMSS,	/* the MSS option within lo..hi (xt_tcpmss); its own guard */
	IR_P_LIMIT,	/* bucket .index gives a credit (xt_limit) */
	IR_P_NTH,	/* every .value-th evaluation of counter .index (xt_statistic) */
	IR_P_RANDOM,	/* (random & 0x7fffffff) < .value (xt_statistic) */
	IR_P_OWNER,	/* xt_owner, all of it */
	IR_P_ADDRTYPE,	/* IPv4: 1 << an address's type is in .value (xt_addrtype); dir: 0 src, 1 dst */
	IR_P_NATIVE,	/* the kernel's own match, slot .index: never inverted, anything may come of it */
	IR_P_FALSE,	/* never; what is before it in the rule has its effects (hotdrop, limit) */
	IR_P_BEFORE,	/* group .index has no rule before counter .value; see classify.h */
	IR_P_CHAIN,	/* merged chain .index was called as chain .value */
	IR_NPKINDS
};

/*
 * IR_P_L4: with a fragment offset: no match; with a header that is too short
 * for .len: the packet is dropped (hotdrop), and no rule counts it.
 */
enum ir_l4 {
	IR_L4_PLAIN,		/* fragments: no match */
	IR_L4_TCP,		/* fragment offset 1: dropped; else no match */
};

#define IR_MAX_PORTS 15
#define IR_IFNAMSIZ 16

struct ir_owner {
	__u32 uid_min, uid_max, gid_min, gid_max;
	__u8 match, invert;	/* XT_OWNER_* */
};

struct ir_pred {
	__u8 kind;		/* enum ir_pkind */
	__u8 field;		/* enum ir_field, ir_field6; IFACE, ADDRTYPE: dir; L4: enum ir_l4 */
	__u8 inv;		/* the outcome is inverted (never a hotdrop) */
	__u8 reserved;
	union {
		struct {
			__u64 mask, lo, hi;
		};
		struct {
			__u8 value6[16], mask6[16];	/* network order */
		};
		struct {
			char name[IR_IFNAMSIZ];
			__u8 nmask[IR_IFNAMSIZ];
		};
		struct {
			__u8 nports;
			__u8 src, dst;	/* PORTS: look at the source, destination */
			__u16 range[IR_MAX_PORTS][2];
		};
		struct {
			__u32 value, index, len;
		};
		struct ir_owner owner;
	};
};

enum ir_action_kind {
	IR_A_NEXT,		/* count and go on */
	IR_A_ACCEPT,
	IR_A_DROP,
	IR_A_RETURN,
	IR_A_JUMP,		/* .arg: chain */
	IR_A_GOTO,
	IR_A_LOG,		/* .arg: index into logs; goes on */
	IR_A_REJECT,		/* .arg: enum ipt_reject_with, ip6t_reject_with; drops */
	IR_A_NATIVE,		/* .arg: slot of the kernel's own target; it may go on */
	IR_A_DEFER,		/* early stage: the packet goes up, matches forgotten */
	IR_A_QUEUE,		/* to user space, queue 0 */
	IR_A_LOOKUP,		/* .arg: group; see classify.h */
	IR_A_DISPATCH,		/* .arg: group */
	IR_NACTIONS
};

#define IR_ENTRY 0x80000000u	/* no native slot has such a number */

struct ir_rule {
	__u32 counter;		/* index of the entry in the blob */
	__u16 npreds;
	__u8 action;		/* enum ir_action_kind */
	__u8 reserved;
	__u32 arg;
	__u32 entry;		/* of a call of a merged chain: as which; IR_ENTRY | chain */
	struct ir_pred *preds;
};

struct ir_chain {
	char name[32];
	int hook;		/* -1: a user chain */
	__u32 merged;		/* by classify(): the chain that has its rules; 0: itself */
	__u32 merges;		/* by classify(): how many chains' rules it has; 0: its own */
	__u32 nrules;
	struct ir_rule *rules;	/* a base chain's last one is its policy */
};

struct ir_log {
	__u8 level, flags;	/* XT_LOG_*, NF_LOG_* as struct xt_log_info has them */
	char prefix[30];
};

struct ir_limit {
	__u32 avg, burst;	/* as struct xt_rateinfo has them */
};

struct ir_nth {
	__u32 every, first;	/* period - 1, and where the count starts */
};

#define IR_EXT_NAME 32

/*
 * Slots of lookups' tables that have counters of their own (classify.h), by size: n[i] of
 * 24 + 8 * i bytes, packets, bytes, the key, and the value in the last 4 bytes.
 */
#define COUNTED_SIZES 7
struct counted_slots {
	__u32 n[COUNTED_SIZES];
};

static inline __u32 counted_size(int i)
{
	return 24 + 8 * i;
}

struct ir_table {
	const struct xt_family *family;
	const struct xt_table_row *table;
	__u32 ncounters;
	__u32 nchains, nlogs, nlimits, nnths, nslots;
	struct ir_chain *chains;
	struct ir_log *logs;
	struct ir_limit *limits;
	struct ir_nth *nths;
	struct xtjit_slot *slots;	/* each is in one rule, once */
	char (*slot_names)[IR_EXT_NAME];
	int base_chain[XT_HOOKS];	/* index of a chain, or -1 */
	__u32 ngroups;			/* by classify() only */
	struct ir_group *groups;
	struct counted_slots counted;	/* of the groups' tables */
	struct cl_image *image;
	const struct ir_table *plain;	/* the same without groups */
	struct ir_arena *arena;		/* all of the above, but the struct */
};

/* A jump or goto. */
static inline bool ir_calls(const struct ir_rule *r)
{
	return r->action == IR_A_JUMP || r->action == IR_A_GOTO;
}

/* Memory of one table: freed all at once.  Allocations are zeroed, and abort() when out of memory. */
struct ir_arena *ir_arena_new(void);
void *ir_alloc(struct ir_arena *a, size_t size);
/* @array, which has @n elements and only ever grew by this, with room for one more. */
void *ir_grow(struct ir_arena *a, void *array, __u32 n, size_t size);
void ir_arena_free(struct ir_arena *a);

/* Frees what @t holds, not @t. */
void ir_table_free(struct ir_table *t);

/* Adds a zeroed predicate of @kind to @r and returns it; valid until the next one. */
struct ir_pred *ir_pred_add(struct ir_arena *a, struct ir_rule *r, enum ir_pkind kind);

/*
 * Adds (field & mask) within lo..hi; nothing if that is always so, and
 * IR_P_FALSE (of a conntrack field: IR_CT is 0) if it never is.
 */
void ir_range(struct ir_arena *a, struct ir_rule *r, enum ir_field field,
	      __u64 mask, __u64 lo, __u64 hi, bool inv);

/*
 * The early stage can tell it: from the packet's bytes, the namespace's routes, a
 * conntrack lookup, or an empty bucket.
 */
bool ir_pred_early(const struct ir_pred *p);
/* What it looks at, for a person: "mark", "owner". */
const char *ir_pred_name(const struct ir_pred *p);

/* Of a table in groups: the rules as they were, with comments on the groups. */
void ir_print(FILE *out, const struct ir_table *t);
void ir_print_pred(FILE *out, const struct ir_pred *p);
void ir_print_rule(FILE *out, const struct ir_table *t, const struct ir_rule *r);

/* The reverse of ir_print(), of the text in @in. 0 or -EINVAL, @err naming the line. */
int ir_parse(FILE *in, struct ir_table *t, struct xt_err *err);

/* What every pass keeps: chains, fields and indexes in bounds, policies last. 0 or -EINVAL. */
int ir_check(const struct ir_table *t, struct xt_err *err);

#endif
