/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What kernels of one version do differently, found out by trying.
 */
#ifndef XTJIT_PROBE_H
#define XTJIT_PROBE_H

#include <stdbool.h>

/*
 * ipv6_find_hdr() refuses extension headers that are longer than the packet
 * (later kernels, and stable ones of some age); others go on behind its end.
 * Tried once, by ip6_tables itself in a scratch namespace; where it is not there: true.
 */
bool probe_exthdr_checked(void);

#endif
