/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Netlink notifications of many network namespaces on one socket, which holds
 * none of them: the kernel sends those of every namespace that has a number
 * (nsid) in the socket's own.
 */
#ifndef XTJIT_NSID_H
#define XTJIT_NSID_H

#include <sys/types.h>

#include "err.h"

#define NSID_HOME (-1)		/* the namespace that nsid_init() was called in */

/* To be called once, in the namespace of all sockets to come. 0 or a negative errno. */
int nsid_init(struct xt_err *err);
void nsid_exit(void);

/* The number of the current namespace, made if there is none. 0 or a negative errno. */
int nsid_here(int *nsid);

/*
 * A socket (O_CLOEXEC, non-blocking) of @bus for the notifications of @groups (a
 * mask), to be made at home.  An fd, or a negative errno.
 */
int nsid_listen(int bus, unsigned int groups);
/* As recv(), without waiting; *nsid: of the namespace that it is about. */
ssize_t nsid_recv(int fd, void *buf, size_t len, int *nsid);

#endif
