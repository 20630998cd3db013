// SPDX-License-Identifier: GPL-2.0
/*
 * The entries of a large table: read where the helper has them, copied once.
 */
#include "shim.h"

#include <errno.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What is smaller comes with the reply: the helper's memory for it can be used again. */
#define LARGE	(4u << 20)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23	/* Linux 5.14 */
#endif

_Static_assert(sizeof(struct ipt_get_entries) == sizeof(struct ip6t_get_entries),
	       "one for both families");

/* All of it can be written to, and is there; where it cannot be told, it is said not to be. */
static bool writable(void *p, size_t len)
{
	size_t page = sysconf(_SC_PAGESIZE), at = (size_t)p & ~(page - 1);

	return !madvise((void *)at, (size_t)p + len - at, MADV_POPULATE_WRITE);
}

static void put_counters(__u8 family, char *entries, size_t size, const struct xt_counters *c,
			 size_t n)
{
	bool v6 = family == NFPROTO_IPV6;
	size_t min = v6 ? sizeof(struct ip6t_entry) : sizeof(struct ipt_entry), at = 0;

	for (size_t i = 0; i < n && size - at >= min; i++) {
		struct ip6t_entry *e6 = (void *)(entries + at);
		struct ipt_entry *e = (void *)(entries + at);
		size_t next = v6 ? e6->next_offset : e->next_offset;

		memcpy(v6 ? &e6->counters : &e->counters, &c[i], sizeof(*c));
		if (next < min || next > size - at)
			return;
		at += next;
	}
}

static bool copy_entries(const struct client_call *c, int fd, const struct ipt_get_entries *get,
			 char *to)
{
	size_t len = XTJIT_ENTRIES_AT + (size_t)get->size;
	char *p;

	if (!writable(to, get->size))
		return false;
	p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return false;
	memcpy(to, p + XTJIT_ENTRIES_AT, get->size);
	munmap(p, len);
	put_counters(c->family, to, get->size, c->rep, c->rep_len / sizeof(struct xt_counters));
	return true;
}

bool shim_entries(int netns, __u8 family, const struct ipt_get_entries *get, void *val)
{
	int fd = -1, saved = errno;
	struct client_call c = {
		.op = XTJIT_OP_ENTRIES, .family = family, .netns = netns,
		.req = get, .req_len = sizeof(*get), .fd = &fd,
	};
	bool done;

	if (get->size < LARGE)
		return false;
	done = !client_call(&c) && fd >= 0 &&
	       copy_entries(&c, fd, get, (char *)val + sizeof(*get));
	if (fd >= 0)
		close(fd);
	free(c.rep);
	errno = saved;
	return done;
}
