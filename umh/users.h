/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The user namespace that the current network namespace (netns_enter())
 * belongs to: rulesets number users and groups as it does, programs as the
 * kernel does.
 */
#ifndef XTJIT_USERS_H
#define XTJIT_USERS_H

#include <linux/types.h>
#include <sys/types.h>

/*
 * 1 if process @pid is in it, 0 if not; a negative errno where that cannot be
 * told. @cookie: of the network namespace.
 */
int users_has(pid_t pid, __u64 cookie);

/*
 * 1 if process @pid, of euid 0 as we see it, may change the network namespace:
 * ns_capable(net->user_ns, CAP_NET_ADMIN), security/commoncap.c.  0 if not; a
 * negative errno where that cannot be told.
 */
int users_may(pid_t pid);

enum users_kind { USERS_UID, USERS_GID };

/*
 * The kernel's number of @id: make_kuid(), make_kgid().  0; -EINVAL if the
 * namespace has no such user; -EOPNOTSUPP where that cannot be told.
 */
int users_map(enum users_kind kind, __u32 id, __u32 *kernel);

/*
 * Runs @fn as a process of the user namespace: in a child, where it is not our
 * own.  What @fn returns (0 or a negative errno) or why it cannot be run.
 */
int users_run(int (*fn)(void *arg), void *arg);

#endif
