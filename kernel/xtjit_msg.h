/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The protocol of the helper xtjitd with those who ask it: the shim and the
 * module, which catch iptables' socket options, and the command xtjit.
 *
 * A connection carries exchanges, one after the other: a request and its reply.
 * Either end may close it in between.  On the unix socket (SOCK_STREAM) the
 * request's first byte carries, as SCM_RIGHTS, one fd of the network namespace
 * that the request is about; the peer's credentials are the kernel's
 * (SO_PEERCRED), not the sender's word.
 *
 *   request:  struct xtjit_req, then len bytes of payload
 *   reply:    struct xtjit_rep, then len bytes of payload, then note_len bytes
 *             of text (UTF-8, no NUL) for a person: why a request was refused
 *
 * All fields are in host byte order; both ends run on one machine.  A field
 * named reserved is zero.  The payload of a request and of its reply:
 *
 *   op             request                        reply
 *   SET optname    what setsockopt() was given    SET_REPLACE: num_counters of
 *                                                 struct xt_counters, the old
 *                                                 table's; else nothing
 *   GET optname    what getsockopt() was given    what it returns
 *   PROC           "names", "matches", "targets"  that file's text
 *   STATUS         nothing                        text
 *   ADOPT RELEASE  a table's name, "" for all     text
 *   DUMP           struct xtjit_dump              text
 *   EARLY          nothing: .early is to be the   nothing
 *                  namespace's mode (module only)
 *   ENTRIES        GET_ENTRIES' argument          the table's struct xt_counters; with
 *                                                 the reply, as SCM_RIGHTS, comes an fd of
 *                                                 memory: from XTJIT_ENTRIES_AT on there
 *                                                 are the entries, their counters 0
 *
 * Names and texts have no NUL.  Of GET_ENTRIES' argument only the header comes,
 * as the rest is for the answer; who catches the call checks that its length
 * fits the header's size.  A GET without an answer leaves the caller's buffer
 * and length as they are.  ENTRIES is for large tables, on the unix socket: what it
 * fails for may be had by GET.
 *
 * id names the request.  A caller whose connection broke before the reply came
 * asks again with the same id, and a helper that had already done the request
 * (or one that took over from it) answers as the first time: nothing is done
 * twice.  It is random, and never 0.
 */
#ifndef XTJIT_MSG_H
#define XTJIT_MSG_H

#include <linux/types.h>

#define XTJIT_MAGIC		0x746a7478	/* "xtjt" */
#define XTJIT_VERSION		1
#define XTJIT_MAX_PAYLOAD	(512u << 20)	/* 1M rules of 500 bytes */
#define XTJIT_MAX_NOTE		4096
#define XTJIT_ENTRIES_AT	512

enum xtjit_op {
	XTJIT_OP_SET = 1,
	XTJIT_OP_GET,
	XTJIT_OP_PROC,
	XTJIT_OP_STATUS,
	XTJIT_OP_ADOPT,
	XTJIT_OP_RELEASE,
	XTJIT_OP_DUMP,
	XTJIT_OP_EARLY,
	XTJIT_OP_ENTRIES,
};

/* What the caller's environment asks for rulesets set by this request. */
enum xtjit_early {
	XTJIT_EARLY_DEFAULT,		/* the helper's own option */
	XTJIT_EARLY_OFF,
	XTJIT_EARLY_ON,
	XTJIT_EARLY_EAGER,
};

enum xtjit_fallback {
	XTJIT_FALLBACK_DEFAULT,		/* the helper's own option */
	XTJIT_FALLBACK_KERNEL,		/* to the kernel's own ip_tables */
	XTJIT_FALLBACK_REFUSE,
};

struct xtjit_req {
	__u32 magic;
	__u16 version;
	__u16 op;		/* enum xtjit_op */
	__u64 id;
	__u32 optname;		/* OP_SET, OP_GET: the socket option */
	__u8 family;		/* NFPROTO_IPV4, NFPROTO_IPV6; 0: both */
	__u8 early;		/* enum xtjit_early */
	__u8 fallback;		/* enum xtjit_fallback */
	__u8 reserved;
	__u32 uid;		/* the caller's effective ids, as it says: not relied on */
	__u32 gid;
	__u64 len;
};

struct xtjit_rep {
	__u32 magic;
	__u16 version;
	__u16 op;
	__u64 id;
	__s32 status;		/* 0 or a negative errno */
	__u32 note_len;
	__u64 len;
};

enum xtjit_dump_what {
	XTJIT_DUMP_IR,
	XTJIT_DUMP_BPF,
};

struct xtjit_dump {
	__u32 what;		/* enum xtjit_dump_what */
	__u32 early;		/* 0: the exact stage, 1: the early one */
	char table[32];		/* NUL-terminated; "" for all */
};

_Static_assert(sizeof(struct xtjit_req) == 40, "request header");
_Static_assert(sizeof(struct xtjit_rep) == 32, "reply header");
_Static_assert(sizeof(struct xtjit_dump) == 40, "dump request");

#define XTJIT_SOCKET_ENV	"XTJIT_SOCKET"
#define XTJIT_SOCKET_DEFAULT	"/run/xtjit/xtjitd.sock"
#define XTJIT_EARLY_ENV		"XTJIT_EARLY"		/* off, on, eager */
#define XTJIT_FALLBACK_ENV	"XTJIT_FALLBACK"	/* kernel, refuse */
#define XTJIT_HELPER_ENV	"XTJIT_HELPER"		/* path of xtjitd */
#define XTJIT_DEV_ENV		"XTJIT_DEV"		/* path of the module's device */

#endif
