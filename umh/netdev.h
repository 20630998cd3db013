/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The devices and local addresses of network namespaces, by rtnetlink: a first
 * dump of each, then its notifications, for all of them on one socket, which
 * holds none of them.
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
	bool veth;
	bool raw_ip;		/* ARPHRD_NONE, PPP, tunnels: no MAC header */
	bool rp_filter;		/* IPv4, its own or "all": not 0 */
};

struct netdevs;			/* one namespace's */

/* Opens the socket; after nsid_init(), at home.  Its fd to wait on, or a negative errno. */
int netdevs_init(struct xt_err *err);
void netdevs_exit(void);

/* Opens a watch of the current namespace (netns_enter()); NULL with @err on failure. */
struct netdevs *netdevs_open(struct xt_err *err);
void netdevs_close(struct netdevs *n);

/* The namespace's number, see nsid.h. */
int netdevs_nsid(const struct netdevs *n);

/* Takes in what has arrived, for all watches.  Never blocks. */
void netdevs_receive(void);
/* Whether any of it was about @n. */
bool netdevs_pending(const struct netdevs *n);

/*
 * Takes in what has arrived, in the namespace of @n: true if a device or local
 * address was added, removed, renamed, changed its master or rp_filter.  A lost
 * notification (ENOBUFS) leads to a new dump.
 */
bool netdevs_update(struct netdevs *n);

/* The devices now, *count of them; valid until the next call. */
const struct netdev *netdevs_list(const struct netdevs *n, int *count);

/*
 * The addresses of family @nfproto that are local in this namespace (host
 * routes of the table "local": RTN_LOCAL, and for IPv6 RTN_ANYCAST), in network
 * order and sorted; valid until the next netdevs_update().  Their number, or -1
 * if they are not a plain list of addresses (local routes to prefixes or in
 * other tables, policy rules, VRFs), or more than @max: use FIB lookups then.
 *
 * Not in it, though they never lead to FORWARD: 127.0.0.0/8 as a whole,
 * 255.255.255.255, multicast, and the broadcast addresses below.  In it, though
 * each is local on its own device only: IPv6 link-local addresses.
 */
int netdevs_local(const struct netdevs *n, int nfproto, int max, const __u8 (**list)[16]);

/*
 * The same of IPv4's directed broadcast addresses (RTN_BROADCAST): delivered
 * locally, to INPUT, unless the device has bc_forwarding.
 */
int netdevs_broadcast(const struct netdevs *n, int max, const __u8 (**list)[16]);

#endif

