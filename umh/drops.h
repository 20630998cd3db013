/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the programs of a namespace drop of what comes in, by stage and device:
 * how the early stage knows where it is of use (early_rest.c).  Counted where a
 * packet is dropped, so that those which pass pay nothing.
 */
#ifndef XTJIT_DROPS_H
#define XTJIT_DROPS_H

#include "state.h"

enum drops_stage { DROPS_EARLY, DROPS_EXACT, DROPS_STAGES };

/* By the last bits of the device's index: two that share them are taken for one. */
#define DROPS_DEVICES 64

/* One CPU's: the value of an array map with an entry for each, pinned as "drops". */
struct drops_cpu {
	__u64 n[DROPS_STAGES][DROPS_DEVICES];
};

struct drops {
	struct pmem mem;
};

/* 0 or a negative errno. */
int drops_create(struct drops *d);
/* Opens what is pinned below @dir, or makes it. 0 or a negative errno. */
int drops_open(struct drops *d, const char *dir);
void drops_close(struct drops *d);

/* The packets from that device that @stage has dropped so far. */
__u64 drops_get(const struct drops *d, enum drops_stage stage, __u32 ifindex);

#endif
