/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What kernels of one version do differently, found out by trying: stable ones
 * take changes over, so that a version tells little.
 */
#ifndef XTJIT_PROBE_H
#define XTJIT_PROBE_H

#include <stdbool.h>

struct probe {
	/*
	 * ipv6_find_hdr() refuses extension headers that are longer than the packet;
	 * else it goes on behind its end.
	 */
	bool exthdr_checked;
	/* How many extension headers it walks over; what has more is malformed. */
	int exthdrs;
	/* xt_tcpmss does not match fragments; else it takes what is in them for a header. */
	bool tcpmss_whole;
	/* xt_length takes an IPv6 packet's own length, not that in its header. */
	bool length6_packet;
};

#define PROBE_EXTHDRS 128	/* not more than so many are walked over here */

/*
 * Tried once, by rules of nf_tables in a scratch namespace.  What it cannot tell
 * is as in the newest kernels that were looked at, but for the number of
 * extension headers.  Tests set them.
 */
struct probe *probe(void);

#endif
