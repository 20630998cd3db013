/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Takes over what an earlier helper left pinned.
 */
#ifndef XTJIT_RECOVER_H
#define XTJIT_RECOVER_H

#include "space.h"

/* Opens all that is pinned below s->dir, and ends what was half done; in its namespace. */
void recover_space(struct space *s);

#endif
