/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Programs to hooks and devices.  All calls work in the current network
 * namespace (netns_enter()).
 */
#ifndef XTJIT_ATTACH_H
#define XTJIT_ATTACH_H

#include <linux/types.h>
#include <stdbool.h>

#include "err.h"
#include "family.h"

/*
 * Links the program @prog (BPF_PROG_TYPE_NETFILTER) at @hook with @prio, or,
 * where another hook of the namespace has that very priority (the kernel
 * allows a program none that is taken), the nearest free one within 8 of it,
 * after it first.  The link's fd, or a negative errno; *got is the priority.
 */
int attach_nf(int prog, int nfproto, int hook, int prio, int *got, struct xt_err *err);

enum attach_mode { ATTACH_NONE, ATTACH_XDP, ATTACH_TC };

/*
 * XDP: native mode only.  The link's fd, or a negative errno: -EBUSY if the
 * device has a program that is not ours, -EOPNOTSUPP if its driver cannot.
 */
int attach_xdp(int prog, int ifindex, struct xt_err *err);

/*
 * TC ingress (clsact), direct action, at a priority and handle of our own,
 * behind all other filters; the qdisc is made if there is none.  Survives us;
 * replaces our own earlier one.  0 or a negative errno.
 */
int attach_tc(int prog, int ifindex, struct xt_err *err);
/*
 * Takes our filter away, and with it a clsact qdisc that then holds no other
 * filter and shares no block: an empty one does nothing, whoever made it.
 */
void detach_tc(int ifindex);

#endif
