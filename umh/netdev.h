/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The devices and local addresses of one network namespace, by rtnetlink:
 * a first dump, then its notifications.
 */
#ifndef XTJIT_NETDEV_H
#define XTJIT_NETDEV_H

#include <linux/types.h>
#include <stdbool.h>

#include "err.h"

struct netdev {
	__u32 ifindex;
	char name[16];
	bool loopback;
	bool enslaved;		/* has a master (bridge, bond, team, VRF, OVS) */
	bool ether;		/* ARPHRD_ETHER */
	bool raw_ip;		/* ARPHRD_NONE, PPP, tunnels: no MAC header */
	bool rp_filter;		/* IPv4, its own or "all": not 0 */
};

struct netdevs;			/* one namespace's */

/* Opens a watch in the current namespace (netns_enter()); NULL with @err on failure. */
struct netdevs *netdevs_open(struct xt_err *err);
void netdevs_close(struct netdevs *n);

/* To wait on with epoll. */
int netdevs_fd(const struct netdevs *n);

/*
 * Takes in what has arrived: true if a device or local address was added,
 * removed, renamed, changed its master or rp_filter.  Never blocks.  A lost
 * notification (ENOBUFS) leads to a new dump.
 */
bool netdevs_update(struct netdevs *n);

/* The devices now, *count of them; valid until the next call. */
const struct netdev *netdevs_list(const struct netdevs *n, int *count);

/*
 * The addresses of family @nfproto that are local in this namespace (routing
 * table "local": what RTN_LOCAL says), in network order; valid until the next
 * netdevs_update().  -1 if they are not a plain list of addresses (custom
 * local routes, policy rules, VRFs), or more than @max: use FIB lookups then.
 */
int netdevs_local(const struct netdevs *n, int nfproto, int max, const __u8 (**list)[16]);

#endif
