/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The slow path: LOG and REJECT, done for packets that programs have written
 * to the ring buffer (event.h), as the kernel's own would do it, in the
 * packet's network namespace.
 *
 * What differs from the kernel, for it cannot be had from here: log lines
 * carry the facility "user"; the rate limits of ICMP errors are the kernel's,
 * but counted apart from the errors that the kernel sends of its own; IPsec
 * policies see protocol ICMP in the lookup of a reset's route; a reset passes
 * conntrack, and may end an entry there; the checksum of a packet longer than
 * EVENT_DATA_MAX is taken for right; the IPv6 flow label of an error whose
 * source is translated back; rules that are not xtjit's (nftables, ip_tables)
 * see an answer come from a raw socket of root's, and not as RELATED where its
 * connection was new; and the answer to a packet without an entry may be
 * RELATED to a connection that has begun since.
 */
#ifndef XTJIT_SIDEFX_H
#define XTJIT_SIDEFX_H

#include <linux/types.h>
#include <stddef.h>

struct sidefx_stats {
	__u64 logged;
	__u64 log_other_netns;	/* not the initial namespace, and nf_log_all_netns is 0 */
	__u64 log_failed;
	__u64 rejected;		/* answers sent */
	__u64 reject_none;	/* packets that get no answer */
	__u64 reject_limited;	/* by icmp_ratelimit, icmp_msgs_per_sec */
	__u64 reject_failed;	/* no route, the namespace is gone, a full queue */
	__u64 bad;		/* records that make no sense */
	__u64 lost;		/* since there is the ring: it had no room for them */
};

/*
 * To be called once, in the namespace of process 1.  @self_map, @lost_map: self and
 * lost of struct compile_env, -1: none.  0 or a negative errno.
 */
int sidefx_init(int self_map, int lost_map);

/*
 * A callback for ring_buffer__new().  Always 0, so that the ring is drained;
 * never waits.
 */
int sidefx_event(void *ctx, void *data, size_t len);

/* To be called every second: says in the log when more were lost. */
void sidefx_tick(void);

/* To be called every few seconds: closes what has not been used for a while. */
void sidefx_idle(void);

/* Sockets that are open in the namespace: references of ours for netns_dead(). */
int sidefx_refs(__u64 netns);
/* Closes them. */
void sidefx_forget(__u64 netns);

const struct sidefx_stats *sidefx_get_stats(void);

#endif
