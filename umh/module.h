/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The helper's end of /dev/xtjit (kernel/xtjit_dev.h): requests come in, and are
 * served like those of the unix socket.
 */
#ifndef XTJIT_MODULE_H
#define XTJIT_MODULE_H

#include <stdbool.h>

#include "family.h"
#include "err.h"
#include "xtjit_dev.h"

/*
 * Opens the device.  0 or a negative errno: -ENOENT if there is none, -EBUSY if
 * another helper has it.
 */
int module_open(struct xt_err *err);
bool module_is_open(void);
/* Whether there is a device. */
bool module_is_there(void);
/* Begins to take requests; @gone is called when the module wants to be left alone. */
int module_watch(void (*gone)(void), struct xt_err *err);
void module_close(void);

/* A new fd of the namespace of @cookie; -ENOENT if it is gone. */
int module_netns(__u64 cookie);

/* What follows is about the current network namespace.  0 or a negative errno. */

/*
 * Fills in .netns, and what the kernel returns.  @as_owner: as a process of the
 * user namespace that the network namespace belongs to.
 */
int module_commit(struct xtjit_commit *c, bool as_owner);
/* Fills *id: what is in force. */
int module_query(const struct xt_family *f, const char *table, struct xtjit_table_id *id);

#endif
