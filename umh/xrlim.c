// SPDX-License-Identifier: GPL-2.0
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "sidefx_priv.h"

#define BURST	6	/* XRLIM_BURST_FACTOR */
#define SETS	1024
#define WAYS	8

struct peer {
	struct xrlim_key key;
	__u64 last;		/* 0: not in use */
	__u64 tokens;
};

static struct peer peers[SETS][WAYS];

static __u32 random32(void)
{
	__u32 r = 0;

	if (getrandom(&r, sizeof(r), GRND_NONBLOCK) != sizeof(r))
		r = rand();
	return r;
}

static struct peer *peer_set(const struct xrlim_key *k)
{
	static __u64 seed;
	const __u8 *p = (const void *)k;
	__u64 h;

	if (!seed)
		seed = ((__u64)random32() << 32 | random32()) | 1;
	h = seed;
	for (size_t i = 0; i < sizeof(*k); i++)
		h = (h ^ p[i]) * 0x100000001b3ULL;
	return peers[(h >> 32) % SETS];
}

/* The one of @k; else the oldest of its set, as the kernel makes a new one: full. */
static struct peer *peer_find(const struct xrlim_key *k, __u32 timeout, __u64 now)
{
	struct peer *set = peer_set(k), *oldest = set;

	for (int i = 0; i < WAYS; i++) {
		if (set[i].last && !memcmp(&set[i].key, k, sizeof(*k)))
			return &set[i];
		if (set[i].last < oldest->last)
			oldest = &set[i];
	}
	oldest->key = *k;
	oldest->last = now;
	oldest->tokens = (__u64)BURST * timeout;
	return oldest;
}

bool xrlim_peer(const struct xrlim_key *k, __u32 timeout, __u64 now)
{
	struct peer *p = peer_find(k, timeout, now);
	__u64 most = (__u64)BURST * timeout;

	p->tokens += now - p->last;
	p->last = now;
	if (p->tokens > most)
		p->tokens = most;
	if (p->tokens < timeout)
		return false;
	p->tokens -= timeout;
	return true;
}

bool xrlim_global_allow(struct xrlim_global *g, __u32 per_sec, __u32 burst, __u64 now)
{
	__u64 delta, more;

	if (g->credit > 0)
		return true;
	delta = now - g->stamp;
	if (delta > 1000)
		delta = 1000;
	more = per_sec * delta / 1000;
	if (delta < 20 || !more)
		return false;
	g->stamp = now;
	g->credit = g->credit + (__s64)more < burst ? g->credit + (__s32)more : (__s32)burst;
	return true;
}

void xrlim_global_consume(struct xrlim_global *g)
{
	/* one on average: an exact count would tell others how many were sent */
	g->credit -= random32() % 3;
}
