/* SPDX-License-Identifier: GPL-2.0 */
/* Random numbers that are the same in every run: xorshift64 (Marsaglia 2003). */
#ifndef XTJIT_PRNG_H
#define XTJIT_PRNG_H

#include <linux/types.h>

static __u64 prng_state = 88172645463325252ull;	/* a test may set it, never to 0 */

/* A number below @below. */
static inline __u32 prng(__u32 below)
{
	prng_state ^= prng_state << 13;
	prng_state ^= prng_state >> 7;
	prng_state ^= prng_state << 17;
	return (prng_state >> 11) % below;
}

#endif
