/* SPDX-License-Identifier: GPL-2.0 */
/* What differs from kernel version to kernel version: 6.1 and later. */
#ifndef XTJIT_COMPAT_H
#define XTJIT_COMPAT_H

#include <linux/version.h>

#endif
