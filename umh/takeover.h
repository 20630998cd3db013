/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From links to the module: what a helper without it left in force.
 */
#ifndef XTJIT_TAKEOVER_H
#define XTJIT_TAKEOVER_H

/*
 * Puts the tables that are pinned below @root, a helper's without the module,
 * into the module, with their counters, and takes the links away.  What fails
 * stays as it is, with a message.
 */
void takeover(const char *root);

#endif
