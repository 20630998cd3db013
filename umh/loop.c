// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "loop.h"

static int epfd = -1;

int loop_init(void)
{
	epfd = epoll_create1(EPOLL_CLOEXEC);
	return epfd < 0 ? -errno : 0;
}

void loop_exit(void)
{
	if (epfd >= 0)
		close(epfd);
	epfd = -1;
}

static int ctl(int op, struct watch *w, __u32 events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	return epoll_ctl(epfd, op, w->fd, &ev) < 0 ? -errno : 0;
}

int loop_add(struct watch *w, __u32 events)
{
	return ctl(EPOLL_CTL_ADD, w, events);
}

int loop_mod(struct watch *w, __u32 events)
{
	return ctl(EPOLL_CTL_MOD, w, events);
}

void loop_del(struct watch *w)
{
	ctl(EPOLL_CTL_DEL, w, 0);
}

/* One event at a time: what it frees cannot be waiting further down a list. */
void loop_run(volatile const bool *stop)
{
	struct epoll_event ev;

	while (!*stop) {
		if (epoll_wait(epfd, &ev, 1, -1) == 1) {
			struct watch *w = ev.data.ptr;

			w->fn(w, ev.events);
		}
	}
}
