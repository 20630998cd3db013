// SPDX-License-Identifier: GPL-2.0
/*
 * What the early stage is told: changes of devices, addresses and nf_tables'
 * rulesets, of all namespaces.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "early_priv.h"
#include "loop.h"
#include "netns.h"
#include "nsid.h"

static void in_namespace(struct early *e, void (*fn)(struct early *e))
{
	int fd = netns_open(e->s->cookie);

	if (fd >= 0 && !netns_enter(fd)) {
		fn(e);
		netns_leave();
	}
	if (fd >= 0)
		close(fd);
}

static struct watch nd_watch = { .fd = -1 };
static struct watch nft_watch = { .fd = -1 };

static void nd_update(struct early *e)
{
	if (netdevs_update(e->nd))
		early_check(e);
}

static void nd_event(struct watch *w, __u32 events)
{
	(void)w;
	(void)events;
	netdevs_receive();
	for (struct space *s = space_first(); s; s = s->next)
		if (s->early && netdevs_pending(s->early->nd))
			in_namespace(s->early, nd_update);
}

static void nft_of_one(struct early *e)
{
	e->nft_changed = true;
	e->nft_known = false;
}

static void nft_of(int nsid)
{
	for (struct space *s = space_first(); s; s = s->next)
		if (s->early && netdevs_nsid(s->early->nd) == nsid)
			nft_of_one(s->early);
}

static void nft_of_all(void)
{
	for (struct space *s = space_first(); s; s = s->next)
		if (s->early)
			nft_of_one(s->early);
}

static void nft_event(struct watch *w, __u32 events)
{
	(void)events;
	nft_watch_drain(w->fd, nft_of, nft_of_all);
	for (struct space *s = space_first(); s; s = s->next) {
		if (!s->early || !s->early->nft_changed)
			continue;
		s->early->nft_changed = false;
		in_namespace(s->early, early_check);
	}
}

static struct watch settle_watch = { .fd = -1 };

void early_settle_in(__u64 ns)
{
	struct itimerspec t = { .it_value = { ns / 1000000000, ns % 1000000000 } };

	timerfd_settime(settle_watch.fd, 0, &t, NULL);
}

static void settle(struct early *e)
{
	early_settle(e->s);
}

void early_settle_all(void)
{
	for (struct space *s = space_first(); s; s = s->next)
		if (s->early && (s->early->due[0] || s->early->due[1]))
			in_namespace(s->early, settle);
}

static void settle_event(struct watch *w, __u32 events)
{
	__u64 n;

	(void)events;
	if (read(w->fd, &n, sizeof(n)) == sizeof(n))
		early_settle_all();
}

bool early_nft_is_quiet(void)
{
	struct pollfd p = { .fd = nft_watch.fd, .events = POLLIN };

	return p.fd >= 0 && !poll(&p, 1, 0);
}

int early_init(struct xt_err *err)
{
	int ret = nsid_init(err);

	if (ret)
		return ret;
	nd_watch = (struct watch){ .fd = netdevs_init(err), .fn = nd_event };
	ret = nd_watch.fd < 0 ? nd_watch.fd : loop_add(&nd_watch, EPOLLIN);
	if (ret)
		return ret;
	settle_watch = (struct watch){
		.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
		.fn = settle_event,
	};
	ret = settle_watch.fd < 0 ? -errno : loop_add(&settle_watch, EPOLLIN);
	if (ret)
		return xt_fail(err, ret, "timer: %s", strerror(-ret));
	nft_watch = (struct watch){ .fd = nft_watch_open(NULL), .fn = nft_event };
	if (nft_watch.fd < 0)	/* a kernel without nf_tables */
		return 0;
	return loop_add(&nft_watch, EPOLLIN);
}

void early_exit(void)
{
	netdevs_exit();
	if (nft_watch.fd >= 0)
		close(nft_watch.fd);
	if (settle_watch.fd >= 0)
		close(settle_watch.fd);
	nft_watch.fd = settle_watch.fd = -1;
	nsid_exit();
}
