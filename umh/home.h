/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where a helper lives: the mount namespace in which state is pinned, and the
 * network namespace it comes from.  Whoever starts one may be somewhere else:
 * `ip netns exec` has a mount namespace of its own, with a /sys of its own.
 */
#ifndef XTJIT_HOME_H
#define XTJIT_HOME_H

#include "err.h"

/*
 * Moves this process to where the helper lived that last wrote @file (the lock
 * file, an fd), if that still exists; else to where the outermost of its
 * ancestors lives.  Where process 1 can be looked at, netns_init() has the last
 * word.
 */
void home_join(int file);

/* Notes in @file where this process is now. 0 or a negative errno. */
int home_record(int file, struct xt_err *err);

#endif
