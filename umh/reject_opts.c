// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <string.h>
#include <time.h>

#include "sidefx_priv.h"

#define OPT_CIPSO 134

/* What the packet has: pointers to its options, after the kernel's changes to them. */
struct opts_in {
	const __u8 *rr, *ts, *srr, *cipso;
};

static void opts_scan(struct opts_in *in, const __u8 *p, int left)
{
	while (left > 0 && *p != IPOPT_END) {
		if (*p == IPOPT_NOP) {
			p++;
			left--;
			continue;
		}
		if (left < 2 || p[1] < 2 || p[1] > left)
			break;
		if (*p == IPOPT_RR && p[1] >= 3 && p[2] >= 4)
			in->rr = p;
		else if (*p == IPOPT_TS && p[1] >= 4 && p[2] >= 5)
			in->ts = p;
		else if ((*p == IPOPT_LSRR || *p == IPOPT_SSRR) && p[1] >= 3 && p[2] >= 4)
			in->srr = p;
		else if (*p == OPT_CIPSO)
			in->cipso = p;
		left -= p[1];
		p += p[1];
	}
}

/* Copies an option behind the others; NULL if there is no room. */
static __u8 *opts_copy(struct reply_opts *o, const __u8 *p, int len)
{
	__u8 *to = o->data + o->len;

	if (o->len + len > (int)sizeof(o->data))
		return NULL;
	memcpy(to, p, len);
	o->len += len;
	return to;
}

/*
 * A pointer that is not past the end means here that the router before us, or
 * our own kernel, has filled in its part: there is a next one.
 */
static int echo_rr(struct reply_opts *o, const __u8 *p)
{
	__u8 at = o->len, *to = opts_copy(o, p, p[1]);

	if (!to)
		return -EINVAL;
	o->rr = at + 1;
	if (p[2] > p[1])
		return 0;
	if (p[2] + 3 > p[1])
		return -EINVAL;
	to[2] = p[2] + 4;
	o->rr_needaddr = true;
	return 0;
}

/* With prespecified addresses: did the kernel fill in the one before the pointer? */
static bool ts_prespec_ours(const __u8 *p, unicast_fn unicast, void *ctx)
{
	__be32 addr;

	if (p[2] < 13)
		return false;
	memcpy(&addr, p + p[2] - 9, 4);
	return !unicast(ctx, addr);
}

static int echo_ts(struct reply_opts *o, const __u8 *p, unicast_fn unicast, void *ctx)
{
	__u8 at = o->len, *to = opts_copy(o, p, p[1]), kind = p[3] & 15;
	int next = p[2];
	__be32 addr;

	if (!to)
		return -EINVAL;
	o->ts = at + 1;
	if (next > p[1])
		return 0;
	if (kind == IPOPT_TS_TSANDADDR) {
		if (next + 3 > p[1])
			return -EINVAL;
		o->ts_needaddr = true;
		next += 4;
	}
	if (kind == IPOPT_TS_TSONLY || kind == IPOPT_TS_TSANDADDR) {
		if (next + 3 > p[1])
			return -EINVAL;
		o->ts_needtime = true;
		next += 4;
	} else if (kind == IPOPT_TS_PRESPEC && ts_prespec_ours(p, unicast, ctx)) {
		if (next + 3 > p[1])
			return -EINVAL;
		if (next + 7 <= p[1]) {
			memcpy(&addr, p + next - 1, 4);
			o->ts_needtime = !unicast(ctx, addr);
			next += o->ts_needtime ? 8 : 0;
		}
	}
	to[2] = next;
	return 0;
}

/* The way back: the addresses of the way here, the last one first. */
static int echo_srr(struct reply_opts *o, const __u8 *p, __be32 saddr)
{
	int from = p[2] > p[1] ? p[1] + 1 : p[2], len = 0;
	__u8 way[44];

	from -= 4;
	if (from <= 3)
		return 0;
	memcpy(&o->faddr, p + from - 1, 4);
	for (from -= 4, len = 4; from > 3; from -= 4, len += 4)
		memcpy(way + len - 1, p + from - 1, 4);
	if (!memcmp(&saddr, p + from + 3, 4))
		len -= 4;	/* a source route that ends at its own source */
	if (len <= 3) {
		o->faddr = 0;
		return 0;
	}
	way[0] = p[0];
	way[1] = len + 3;
	way[2] = 4;
	o->srr = o->len + 1;
	memset(way + len - 1, 0, 4);	/* where the final destination goes */
	return opts_copy(o, way, len + 3) ? 0 : -EINVAL;
}

int reply_opts_echo(struct reply_opts *o, const struct event *ev, unicast_fn unicast, void *ctx)
{
	const struct iphdr *ih = event_bytes(ev, 0, sizeof(*ih));
	struct opts_in in = { 0 };
	const __u8 *p;
	int err = 0;

	memset(o, 0, sizeof(*o));
	if (!ih || ih->ihl <= 5)
		return 0;
	p = event_bytes(ev, sizeof(*ih), ih->ihl * 4 - sizeof(*ih));
	if (!p)
		return -EINVAL;
	opts_scan(&in, p, ih->ihl * 4 - sizeof(*ih));
	if (in.rr)
		err = echo_rr(o, in.rr);
	if (!err && in.ts)
		err = echo_ts(o, in.ts, unicast, ctx);
	if (!err && in.srr)
		err = echo_srr(o, in.srr, ih->saddr);
	if (!err && in.cipso)
		err = opts_copy(o, in.cipso, in.cipso[1]) ? 0 : -EINVAL;
	while (o->len & 3)
		o->data[o->len++] = IPOPT_END;
	return err;
}

/* Milliseconds since midnight UT, as inet_current_timestamp(). */
static __be32 timestamp(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return htonl(ts.tv_sec % 86400 * 1000 + ts.tv_nsec / 1000000);
}

void reply_opts_finish(struct reply_opts *o, __be32 saddr, __be32 daddr)
{
	__u8 *srr = o->data + o->srr - 1, *rr = o->data + o->rr - 1, *ts = o->data + o->ts - 1;
	__be32 now = timestamp();

	if (o->srr)
		memcpy(srr + srr[1] - 4, &daddr, 4);
	if (o->rr_needaddr)
		memcpy(rr + rr[2] - 5, &saddr, 4);
	if (o->ts_needaddr)
		memcpy(ts + ts[2] - 9, &saddr, 4);
	if (o->ts_needtime)
		memcpy(ts + ts[2] - 5, &now, 4);
}
