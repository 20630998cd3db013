/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What only the module and the helper share: /dev/xtjit, and how the module
 * calls a table's program.
 *
 * The device has one opener at a time, the helper (-EBUSY), which needs
 * CAP_SYS_ADMIN in the initial user namespace.  It becomes readable when a
 * request waits, and hangs up (EPOLLHUP, read() returns 0) when the helper
 * shall forget all tables of the module's and leave.
 *
 *   read()          takes one struct xtjit_dev_req; -EAGAIN (O_NONBLOCK) or
 *                   sleeps while there is none.  netns is a new fd
 *                   (O_CLOEXEC) of the reader's.  req.id is the module's;
 *                   op is XTJIT_OP_SET or XTJIT_OP_GET.
 *   XTJIT_PAYLOAD   copies the payload of a request that was read.
 *   XTJIT_COMMIT    puts a table into force in one step; returns when no packet
 *                   is in the old ruleset any more.
 *   XTJIT_REPLY     ends a request: its status, and for a GET or SET_REPLACE
 *                   the data as in xtjit_msg.h.  The note goes to the kernel's
 *                   log.
 *   XTJIT_QUERY     what is in force in a table.
 *   XTJIT_DROP      a table and its hooks are gone; -ENOENT if there is none.
 *   XTJIT_NETNS     an fd of a namespace that is known by its cookie; -ENOENT if
 *                   it is gone.
 *
 * A request that was read and not replied when its reader closed the device is
 * given to the next reader, with the same id.  A request whose caller is gone
 * (killed, or it waited too long) is forgotten: REPLY and COMMIT with its id
 * give -ECANCELED.
 *
 * SO_GET_REVISION_* never comes here: the module answers it from x_tables.
 */
#ifndef XTJIT_DEV_H
#define XTJIT_DEV_H

#include <linux/ioctl.h>
#include <linux/types.h>

#include "xtjit_msg.h"

#define XTJIT_DEV	"/dev/xtjit"

/* The network namespace belongs to the initial user namespace. */
#define XTJIT_REQ_INITIAL	1u
/* The caller is of the user namespace that the network namespace belongs to. */
#define XTJIT_REQ_OWNER		2u

struct xtjit_dev_req {
	struct xtjit_req req;
	__s32 netns;		/* an fd */
	__u32 flags;		/* XTJIT_REQ_* */
};

/* Pointers are user addresses, as __u64. */
struct xtjit_payload {
	__u64 id;
	__u64 buf;
	__u64 len;		/* of buf; as many bytes are copied, -EINVAL if there are fewer */
};

struct xtjit_reply {
	__u64 id;
	__u64 buf;
	__u64 len;
	__u64 note;		/* text, not NUL-terminated */
	__u32 note_len;		/* at most XTJIT_MAX_NOTE */
	__s32 status;		/* 0 or a negative errno */
};

/*
 * A native slot: a match or target of the kernel's own, with a rule's data.
 * The rule's entry (struct ipt_entry, ip6t_entry, whole) is at .entry of the
 * entries that COMMIT passes, the struct xt_entry_match or _target at .ext in it.
 * Its index in the array is the number that the program yields.
 */
enum xtjit_slot_kind {
	XTJIT_SLOT_MATCH,
	XTJIT_SLOT_TARGET,
};

struct xtjit_slot {
	__u32 entry;
	__u32 ext;
	__u32 hooks;		/* bit per hook from which the rule can be reached */
	__u32 kind;		/* enum xtjit_slot_kind */
};

#define XTJIT_MAX_SLOTS		(1u << 20)

/*
 * What ip_tables logs of a rule that a traced packet (skb->nf_trace, of the target
 * TRACE) matches: entry i of the ruleset is at index i.
 */
struct xtjit_trace {
	__u32 number;		/* in its chain, from 1 */
	char chain[30];		/* a user chain's name; "": a base chain */
	__u8 end;		/* 1: of any packet, a verdict or RETURN: a policy, a chain's end */
	__u8 reserved;
};

#define XTJIT_MAX_TRACES	(1u << 20)

enum xtjit_commit_flags {
	XTJIT_COMMIT_EMPTY = 1,	/* nothing but ACCEPT policies: rmmod may drop it */
	XTJIT_COMMIT_GRACE = 2,	/* wait for an RCU grace period, too */
	XTJIT_COMMIT_KEEP = 4,	/* another program of the ruleset that is in force, see below */
};

/*
 * The entries are those of the ruleset, as iptables gave them.  On success, and
 * for each slot, the extension's data in them is as the kernel shows it to
 * GET_ENTRIES: what checkentry() left in the part that is the user's, and zero
 * behind it.  When a slot is refused the errno is the extension's, .bad its
 * index, and nothing has changed; else .bad is ~0.
 *
 * With XTJIT_COMMIT_KEEP .gen is that of the ruleset in force (else -ESTALE), whose
 * extensions go on as they are; there are no entries and no slots.
 */
struct xtjit_commit {
	__u64 id;		/* the request it is for; 0: none */
	__u64 gen;		/* the helper's number of the ruleset */
	__u64 entries;
	__u64 slots;		/* array of struct xtjit_slot */
	__u32 entries_len;
	__u32 nslots;
	__s32 netns;		/* an fd */
	__s32 prog;		/* an fd: BPF_PROG_TYPE_SCHED_CLS */
	__u32 flags;		/* enum xtjit_commit_flags */
	__u32 bad;		/* out */
	__u8 family;		/* NFPROTO_IPV4, NFPROTO_IPV6 */
	__u8 reserved[7];
	char table[32];
	__u64 traces;		/* array of struct xtjit_trace */
	__u32 ntraces;		/* 0: the program does not tell of traced packets */
	__u32 reserved2;
};

/* For QUERY (all of it) and DROP (up to .table). */
struct xtjit_table_id {
	__s32 netns;		/* an fd */
	__u8 family;
	__u8 reserved[3];
	char table[32];
	__u64 gen;		/* out: of the last COMMIT; 0: none is in force */
	__u32 ntraces;		/* out: its */
	__u32 reserved2;
};

struct xtjit_netns {
	__u64 cookie;		/* SO_NETNS_COOKIE */
	__s32 netns;		/* out: a new fd (O_CLOEXEC) */
	__u32 initial_user;	/* out: 1: as XTJIT_REQ_INITIAL */
};

#define XTJIT_PAYLOAD	_IOW('x', 1, struct xtjit_payload)
#define XTJIT_REPLY	_IOW('x', 2, struct xtjit_reply)
#define XTJIT_COMMIT	_IOWR('x', 3, struct xtjit_commit)
#define XTJIT_QUERY	_IOWR('x', 4, struct xtjit_table_id)
#define XTJIT_DROP	_IOW('x', 5, struct xtjit_table_id)
#define XTJIT_NETNS	_IOWR('x', 6, struct xtjit_netns)

/*
 * The call of a table's program, at each of its hooks.  skb->data is the
 * network header.  __sk_buff.cb holds:
 *
 *   cb[0], cb[1]	low and high half of the address of a struct xtjit_run
 *   cb[2]		where to go on; 0: at the beginning.  The program's own
 *			number: the module gives back what was left here
 *   cb[3]		going on after a native match: 1 if it matched, 0 if not;
 *			when the program yields: the slot's index, or XTJIT_TRACE
 *			and a rule's index, whose line is to be logged
 *   cb[4]		XTJIT_RUN_*
 *
 * The return value is a verdict of netfilter's (NF_DROP, NF_ACCEPT, NF_QUEUE
 * with its number), or:
 *
 *   XTJIT_YIELD	run slot cb[3], then go on at cb[2].  Not gone on is
 *			after a match that dropped the packet (hotdrop) and a
 *			target with a verdict of its own
 *   XTJIT_AGAIN	go on at cb[2] at once
 *
 * Everything else is NF_DROP.  What a program keeps from one call to the next,
 * besides cb[2], is its own business: bottom halves are off from the first call
 * to the verdict, and a packet that a native target sends (REJECT, TEE) runs on
 * the same CPU in between with a higher XTJIT_RUN_LEVEL.
 */
#define XTJIT_YIELD		0x10000100u
#define XTJIT_AGAIN		0x10000101u
#define XTJIT_TRACE		0x80000000u
#define XTJIT_MAX_TURNS		(1u << 20)	/* calls for one packet */

#define XTJIT_RUN_HOOK		0x7u		/* enum nf_inet_hooks */
#define XTJIT_RUN_CTINFO	0x70u		/* enum ip_conntrack_info << 4 */
#define XTJIT_RUN_CT		0x80u		/* there is a conntrack entry */
#define XTJIT_RUN_LEVEL		0xf00u		/* runs below this one on the CPU, << 8 */
#define XTJIT_RUN_TRACE		0x1000u		/* the packet is traced */
#define XTJIT_MAX_LEVELS	8		/* a run that would be deeper: NF_DROP */

/* In the module's memory while the packet is in the table; host byte order. */
struct xtjit_run {
	char in[16];		/* name of the device; zeros: none */
	char out[16];
	__u64 skb;		/* addresses of struct sk_buff, nf_conn (0: none), nf_hook_state */
	__u64 ct;
	__u64 state;
};

_Static_assert(sizeof(struct xtjit_dev_req) == 48, "device request");
_Static_assert(sizeof(struct xtjit_commit) == 112, "commit");
_Static_assert(sizeof(struct xtjit_trace) == 36, "trace");
_Static_assert(sizeof(struct xtjit_table_id) == 56, "table id");
_Static_assert(sizeof(struct xtjit_run) == 56, "run");

#endif
