/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Between netdev.c (devices, notifications) and netdev_local.c (local addresses).
 */
#ifndef XTJIT_NETDEV_PRIV_H
#define XTJIT_NETDEV_PRIV_H

#include <libmnl/libmnl.h>
#include <linux/types.h>
#include <stdbool.h>

/* Sorted, each address once. */
struct addr_list {
	__u8 (*v)[16];
	int n, cap;
};

/* What one family's input delivers locally. */
struct local_addrs {
	struct addr_list local, broadcast;
	bool plain;	/* the lists say it all */
};

/* What is repeated when a change interrupts a dump. */
#define DUMP_RETRIES 16

/*
 * Reads @nfproto's addresses into *l, which it initialises, over the socket @s.
 * 0 or a negative errno; then *l is empty and not plain.
 */
int local_get(struct local_addrs *l, struct mnl_socket *s, int nfproto);
void local_free(struct local_addrs *l);
bool local_equal(const struct local_addrs *a, const struct local_addrs *b);

/*
 * Lets only those notifications of routes through to the socket @fd that may
 * change local addresses: a router's table has a million others.
 */
int local_filter(int fd);

#endif
