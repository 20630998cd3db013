/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Network namespaces: known by their cookie (SO_NETNS_COOKIE, never reused
 * while the machine is up), kept reachable by a bind mount under the run
 * directory, so that a helper that has just started finds them again.
 *
 * A BPF_PROG_TYPE_NETFILTER link holds its namespace, and so does the bind
 * mount: netns_dead() tells when nobody but us does.
 */
#ifndef XTJIT_NETNS_H
#define XTJIT_NETNS_H

#include <linux/types.h>
#include <stdbool.h>

#include "err.h"

/*
 * Moves this process to the mount and network namespaces of process 1 (what
 * systemd would start it in), makes @run_dir, and mounts bpffs on /sys/fs/bpf
 * where it is not.  0 or a negative errno.
 */
int netns_init(const char *run_dir, struct xt_err *err);

/*
 * Runs what follows in the namespace of @fd, until netns_leave(). Does not nest.
 * 0 or a negative errno: -EINVAL if @fd is no network namespace.
 */
int netns_enter(int fd);
void netns_leave(void);

/*
 * The cookie of the namespace that we are in, in *cookie. 0 or a negative errno:
 * -ENOPROTOOPT before Linux 5.14.
 */
int netns_cookie(__u64 *cookie);

/*
 * From now on namespaces are not kept: @open brings one back by its cookie, an
 * fd, or -ENOENT once it is gone.
 */
void netns_set_opener(int (*open)(__u64 cookie));

/* Mounts @fd's namespace at RUN_DIR/netns/COOKIE (decimal), if it is not there yet. */
int netns_keep(int fd, __u64 cookie);
/* An fd (O_CLOEXEC) of a kept namespace, or a negative errno. */
int netns_open(__u64 cookie);
/* Unmounts it again. */
void netns_drop(__u64 cookie);
/* Calls @fn, if not NULL, for each kept namespace; returns the number of them. */
int netns_each(void (*fn)(__u64 cookie, void *arg), void *arg);

/*
 * True if nobody but us holds the namespace of @cookie, which is kept: then
 * nothing else can ever use it.  @own is the sum of what we hold of it besides
 * the bind mount: 1 for each netfilter link, 1 for each socket of ours in it,
 * 1 for each fd of the namespace itself that is open here.  Not the current
 * namespace.
 *
 * Counted on the other side: processes in it, their sockets and links, open
 * fds and mounts of it anywhere (copies of our mount in other mount namespaces
 * are ours).  False when in doubt: a socket just closed may still count for
 * some milliseconds, and without kernel BTF or BPF_PROG_TYPE_NETFILTER (Linux
 * 6.4) there is no telling.
 */
bool netns_dead(__u64 cookie, int own);

#endif
