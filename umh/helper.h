/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of the helper share: its options, and the maps of all
 * its programs.
 */
#ifndef XTJIT_HELPER_H
#define XTJIT_HELPER_H

#include "compile.h"
#include "xtjit_msg.h"

struct backend;

struct helper {
	const struct backend *backend;
	__u8 early;		/* enum xtjit_early, never DEFAULT */
	__u8 fallback;		/* enum xtjit_fallback, never DEFAULT */
	int ring, self, lost;	/* see struct compile_env */
	__u64 requests, replaces, edits, in_place, refused, handed_over, recovered;
	__u64 started;		/* CLOCK_BOOTTIME, ns */
};

extern struct helper helper;

__u64 now_ns(void);		/* CLOCK_BOOTTIME */

#endif
