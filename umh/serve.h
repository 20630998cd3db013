/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What each operation of the protocol does.
 */
#ifndef XTJIT_SERVE_H
#define XTJIT_SERVE_H

#include "request.h"

/* Serves @c, within its network namespace.  The reply's status: 0 or a negative errno. */
int serve(struct call *c);

#endif
