/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What every user of netlink here shares, on top of libmnl.
 */
#ifndef XTJIT_MNL_UTIL_H
#define XTJIT_MNL_UTIL_H

#include <libmnl/libmnl.h>
#include <linux/types.h>

#define NLU_REQ 512	/* a buffer for one small request */

/*
 * Opens a netlink socket, O_CLOEXEC and with @flags (SOCK_NONBLOCK or 0), bound
 * to @groups (a mask).  0 or a negative errno.
 */
int nlu_open(struct mnl_socket **s, int bus, int flags, unsigned int groups);

/* Begins a message of @type with @flags in @buf (NLU_REQ bytes); NLM_F_REQUEST is added. */
struct nlmsghdr *nlu_request(char *buf, int type, int flags);

/*
 * Sends @h and feeds what the kernel answers to @cb (which may be NULL) until
 * the end of the dump or the acknowledgement.  0 or a negative errno; -EINTR if
 * what was dumped changed meanwhile, and is not consistent.
 */
int nlu_dump(struct mnl_socket *s, struct nlmsghdr *h, mnl_cb_t cb, void *arg);

/* Reads answers until an error or acknowledgement comes; for batches. 0 or a negative errno. */
int nlu_wait(struct mnl_socket *s, unsigned int seq, mnl_cb_t cb, void *arg);

#endif
