// SPDX-License-Identifier: GPL-2.0
/*
 * Feeds events to the helper's slow path: each is read from stdin after its
 * length (u32), and for each one a line of counters is written to stdout.  A
 * record of length 0 asks for the sockets that are open, and how many of them
 * the map knows; then they are closed, and it is asked again.
 *
 * sidefx_feed NETNS: the file of the namespace that all events are of.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compile.h"
#include "event.h"
#include "netns.h"
#include "sidefx.h"

static const char *path;
static int home = -1;

/* In place of netns.c: there is one namespace. */
int netns_open(__u64 cookie)
{
	int fd;

	(void)cookie;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int netns_enter(int fd)
{
	return setns(fd, CLONE_NEWNET) ? -errno : 0;
}

void netns_leave(void)
{
	if (setns(home, CLONE_NEWNET))
		abort();
}

static int read_all(void *buf, size_t len)
{
	size_t done = 0;
	ssize_t n;

	while (done < len) {
		n = read(0, (char *)buf + done, len - done);
		if (n <= 0)
			return -1;
		done += n;
	}
	return 0;
}

/* Sockets. */
static int map_entries(int map)
{
	__u64 key, *at = NULL;
	int n = 0;

	while (!bpf_map_get_next_key(map, at, &key)) {
		at = &key;
		n += !(key >> 32);	/* not self_looped() */
	}
	return n;
}

static void print_stats(void)
{
	const struct sidefx_stats *s = sidefx_get_stats();

	printf("logged %llu other %llu failed %llu rejected %llu none %llu limited %llu "
	       "rfailed %llu bad %llu\n",
	       s->logged, s->log_other_netns, s->log_failed, s->rejected, s->reject_none,
	       s->reject_limited, s->reject_failed, s->bad);
	fflush(stdout);
}

static void print_refs(int map, __u64 netns)
{
	printf("refs %d map %d\n", sidefx_refs(netns), map_entries(map));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static char buf[sizeof(struct event)] __attribute__((aligned(8)));
	__u64 netns = 0;
	__u32 len;
	int map;

	if (argc != 2)
		return 2;
	path = argv[1];
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	map = bpf_map_create(BPF_MAP_TYPE_HASH, "self", 8, sizeof(struct self_entry), SELF_MAX,
			     NULL);
	if (map < 0 || home < 0 || sidefx_init(map, -1))
		return 1;
	while (!read_all(&len, sizeof(len)) && len <= sizeof(buf)) {
		if (len) {
			if (read_all(buf, len))
				return 1;
			memcpy(&netns, buf, sizeof(netns));
			sidefx_event(NULL, buf, len);
			print_stats();
			continue;
		}
		print_refs(map, netns);
		sidefx_forget(netns);
		print_refs(map, netns);
	}
	return 0;
}
