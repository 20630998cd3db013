// SPDX-License-Identifier: GPL-2.0
/*
 * RFC 6724 source addresses, as ipv6_dev_get_saddr() chooses them: the
 * kernel's answer to a packet from one device that goes out by another one has
 * the address that it would have on the first.
 */
#include <errno.h>
#include <linux/if_addr.h>
#include <netinet/in.h>
#include <string.h>

#include "sidefx_priv.h"

enum rule {
	RULE_SAME, RULE_SCOPE, RULE_PREFERRED, RULE_DEVICE, RULE_LABEL, RULE_PUBLIC,
	RULE_ORCHID, RULE_PREFIX, RULE_SURE, NRULES
};

struct select6 {
	__u32 ifindex;
	struct in6_addr dst;
	bool found;
	int best[NRULES];
	struct in6_addr src;
};

struct label {
	__u8 prefix[16];
	__u8 len, label;
};

/* The kernel's default table, longest prefix first. */
static const struct label labels[] = {
	{ { [15] = 1 }, 128, 0 },
	{ { [10] = 0xff, [11] = 0xff }, 96, 4 },
	{ { 0 }, 96, 3 },
	{ { 0x20, 0x01 }, 32, 6 },
	{ { 0x20, 0x01, 0x00, 0x10 }, 28, 7 },
	{ { 0x20, 0x02 }, 16, 2 },
	{ { 0x3f, 0xfe }, 16, 12 },
	{ { 0xfe, 0xc0 }, 10, 11 },
	{ { 0xfc }, 7, 5 },
	{ { 0 }, 0, 1 },
};

/* How many bits two addresses have in common. */
static int common_bits(const void *one, const void *other)
{
	const __u8 *a = one, *b = other;
	int n = 0;

	while (n < 128 && !((a[n / 8] ^ b[n / 8]) & (0x80 >> n % 8)))
		n++;
	return n;
}

static int label_of(const struct in6_addr *a)
{
	for (size_t i = 0; i < sizeof(labels) / sizeof(*labels); i++)
		if (common_bits(a, labels[i].prefix) >= labels[i].len)
			return labels[i].label;
	return -1;
}

static int scope_of(const struct in6_addr *a)
{
	if (IN6_IS_ADDR_LINKLOCAL(a) || IN6_IS_ADDR_LOOPBACK(a))
		return 2;
	return IN6_IS_ADDR_SITELOCAL(a) ? 5 : 14;
}

static bool is_orchid(const struct in6_addr *a)
{
	return common_bits(a, labels[4].prefix) >= labels[4].len;
}

/* Better ones are greater, the first rule that differs decides. */
static void score(const struct select6 *s, const struct addr *ad,
		  const struct in6_addr *a, int *to)
{
	int scope = scope_of(a), len = common_bits(a, &s->dst);
	bool preferred = IN6_IS_ADDR_LOOPBACK(a) || label_of(a) == 3 || label_of(a) == 4 ||
			 !(ad->flags & (IFA_F_DEPRECATED | IFA_F_OPTIMISTIC));

	to[RULE_SAME] = len == 128;
	to[RULE_SCOPE] = scope >= scope_of(&s->dst) ? -scope : scope - 128;
	to[RULE_PREFERRED] = preferred;
	to[RULE_DEVICE] = ad->ifa->ifa_index == s->ifindex;
	to[RULE_LABEL] = label_of(a) == label_of(&s->dst);
	to[RULE_PUBLIC] = !(ad->flags & IFA_F_TEMPORARY);
	to[RULE_ORCHID] = is_orchid(a) == is_orchid(&s->dst);
	to[RULE_PREFIX] = len < ad->ifa->ifa_prefixlen ? len : ad->ifa->ifa_prefixlen;
	to[RULE_SURE] = !(ad->flags & IFA_F_OPTIMISTIC);
}

static void consider(const struct addr *ad, void *arg)
{
	struct select6 *s = arg;
	int mine[NRULES], i = 0;
	struct in6_addr a;

	if (!ad->local || (ad->flags & IFA_F_TENTATIVE && !(ad->flags & IFA_F_OPTIMISTIC)))
		return;
	if (scope_of(&s->dst) <= 2 && ad->ifa->ifa_index != s->ifindex)
		return;
	memcpy(&a, ad->local, sizeof(a));
	score(s, ad, &a, mine);
	while (s->found && i < NRULES - 1 && mine[i] == s->best[i])
		i++;
	if (s->found && mine[i] <= s->best[i])
		return;
	s->found = true;
	s->src = a;
	memcpy(s->best, mine, sizeof(mine));
}

int addr6_select(int fd, __u32 ifindex, const void *dst, void *src)
{
	struct select6 s = { .ifindex = ifindex };
	int err;

	memcpy(&s.dst, dst, sizeof(s.dst));
	err = addr_each(fd, AF_INET6, consider, &s);
	if (err)
		return err;
	if (!s.found)
		return -EADDRNOTAVAIL;
	memcpy(src, &s.src, sizeof(s.src));
	return 0;
}
