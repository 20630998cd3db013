/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The event loop: file descriptors and what to call when they are ready.
 */
#ifndef XTJIT_LOOP_H
#define XTJIT_LOOP_H

#include <linux/types.h>
#include <stdbool.h>

/* Embedded in what it is about; container_of() leads back. */
struct watch {
	int fd;
	void (*fn)(struct watch *w, __u32 events);
};

#define container_of(p, type, member) \
	((type *)((char *)(p) - __builtin_offsetof(type, member)))

int loop_init(void);
void loop_exit(void);

/* @events: EPOLLIN, EPOLLOUT. 0 or a negative errno; the fd stays the caller's. */
int loop_add(struct watch *w, __u32 events);
int loop_mod(struct watch *w, __u32 events);
/* May be called from any callback, also the watch's own. */
void loop_del(struct watch *w);

/* Calls whatever is ready, until *stop. */
void loop_run(volatile const bool *stop);

#endif
