// SPDX-License-Identifier: GPL-2.0
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "err.h"
#include "sidefx_priv.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE	71
#endif
/* Seen in the initial namespace only. */
#define ALL_NETNS	"/proc/sys/net/netfilter/nf_log_all_netns"
#define KMSG_MAX	976	/* the longest line that /dev/kmsg takes in every version */

static struct sidefx_stats stats;
static __u64 init_netns;	/* 0: not known */
static int lost_map = -1;

bool kernel_since(unsigned int major, unsigned int minor)
{
	static unsigned int have_major, have_minor;
	struct utsname u;

	if (!have_major && !uname(&u))
		sscanf(u.release, "%u.%u", &have_major, &have_minor);
	return have_major > major || (have_major == major && have_minor >= minor);
}

static __u64 own_netns(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(__u64);
	__u64 cookie = 0;

	if (fd < 0)
		return 0;
	getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len);
	close(fd);
	return cookie;
}

int sidefx_init(int self, int lost)
{
	ns_init(self);
	lost_map = lost;
	if (!access(ALL_NETNS, F_OK))
		init_netns = own_netns();
	return 0;
}

const struct sidefx_stats *sidefx_get_stats(void)
{
	__u32 key = 0;

	if (lost_map >= 0)
		bpf_map_lookup_elem(lost_map, &key, &stats.lost);
	return &stats;
}

void sidefx_tick(void)
{
	static __u64 told;
	__u64 lost = sidefx_get_stats()->lost;

	if (lost > told)
		xt_log("the ring buffer was full: %llu log lines or answers are lost so far", lost);
	told = lost;
}

static bool log_all_netns(void)
{
	static __u64 read_at;
	static bool all;
	__u64 now = now_ms();
	char c = '0';
	int fd;

	if (read_at && now - read_at < 500)
		return all;
	read_at = now;
	fd = open(ALL_NETNS, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		all = read(fd, &c, 1) == 1 && c != '0';
		close(fd);
	}
	return all;
}

/* Opened for each line: the kernel limits the lines of one open file. */
static int kmsg_write(const char *text, size_t len)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NONBLOCK), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, len) < 0)
		err = -errno;
	close(fd);
	return err;
}

static void do_log(const struct event *ev)
{
	char text[LOG_MAX + 16];
	struct log_buf line;
	int len, err;

	if (ev->netns != init_netns && !log_all_netns()) {
		stats.log_other_netns++;
		return;
	}
	log_line(&line, ev);
	len = snprintf(text, sizeof(text), "<%u>%s\n", ev->level & 7, line.text);
	err = kmsg_write(text, len);
	if (err == -EINVAL && len > KMSG_MAX) {
		text[KMSG_MAX - 1] = '\n';
		err = kmsg_write(text, KMSG_MAX);
	}
	if (err)
		stats.log_failed++;
	else
		stats.logged++;
}

static void do_reject(const struct event *ev)
{
	switch (reject_packet(ev)) {
	case REJECT_SENT:
		stats.rejected++;
		break;
	case REJECT_NO_ANSWER:
		stats.reject_none++;
		break;
	case REJECT_LIMITED:
		stats.reject_limited++;
		break;
	case REJECT_FAILED:
		stats.reject_failed++;
	}
}

static bool event_valid(const struct event *ev, size_t len)
{
	if (len < offsetof(struct event, data) || ev->data_len > EVENT_DATA_MAX ||
	    ev->data_len > ev->len || len - offsetof(struct event, data) < ev->data_len)
		return false;
	if (ev->data_len < ev->len && ev->data_len < EVENT_DATA_MAX)
		return false;
	if (ev->nfproto != NFPROTO_IPV4 && ev->nfproto != NFPROTO_IPV6)
		return false;
	return ev->hook < NF_INET_NUMHOOKS && ev->has_ct <= EVENT_CT_DNAT;
}

int sidefx_event(void *ctx, void *data, size_t len)
{
	const struct event *ev = data;

	(void)ctx;
	if (!event_valid(ev, len))
		stats.bad++;
	else if (ev->kind == EVENT_LOG)
		do_log(ev);
	else if (ev->kind == EVENT_REJECT)
		do_reject(ev);
	else
		stats.bad++;
	return 0;
}
