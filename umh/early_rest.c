// SPDX-License-Identifier: GPL-2.0
/*
 * Rest: the early stage costs every packet that it lets pass, on veth much (an
 * XDP program has it copy all that comes from sockets), so it leaves a device
 * where it has next to nothing to drop, until the exact stage has much to.
 * Once a second each device is looked at: what it received, what was dropped.
 *
 * Drops that only the exact stage can do call the early one back in vain; each
 * time in a row that happens, it is longer until it listens to them again.  And
 * where it was of use it stays a while longer: leaving may lose what a veth
 * device has queued.
 */
#include <bpf/bpf.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "early_priv.h"
#include "helper.h"
#include "mnl_util.h"

#define PASSED_MANY	16000	/* a second: less is no cost that matters */
#define DROPPED_MANY	2000
#define DROPPED_SHARE	16	/* "few": fewer than one in so many */
#define SECONDS_IDLE	2	/* in a row, before it leaves */
#define SECONDS_USED	16	/* the same where it was of use since it came */
#define SECONDS_VAIN	10	/* it leaves again so soon: it came in vain */
#define WAIT_MAX	256	/* seconds */

/* What a second was like. */
struct second {
	__u64 rx, drops[DROPS_STAGES];
};

/*
 * Packets a second
 */

static int see_stats(const struct nlmsghdr *h, void *arg)
{
	struct rtnl_link_stats64 s;
	struct nlattr *a;

	mnl_attr_for_each(a, h, sizeof(struct if_stats_msg)) {
		if (mnl_attr_get_type(a) != IFLA_STATS_LINK_64 ||
		    mnl_attr_get_payload_len(a) < offsetof(struct rtnl_link_stats64, tx_packets))
			continue;
		memcpy(&s.rx_packets, mnl_attr_get_payload(a), sizeof(s.rx_packets));
		*(__u64 *)arg = s.rx_packets;
	}
	return MNL_CB_OK;
}

static int read_rx(struct mnl_socket *s, __u32 ifindex, __u64 *rx)
{
	char buf[NLU_REQ];
	struct nlmsghdr *h = nlu_request(buf, RTM_GETSTATS, NLM_F_ACK);
	struct if_stats_msg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

	m->ifindex = ifindex;
	m->filter_mask = IFLA_STATS_FILTER_BIT(IFLA_STATS_LINK_64);
	return nlu_dump(s, h, see_stats, rx);
}

static __u64 rate(__u64 now, __u64 before, __u64 ns)
{
	return now > before ? (now - before) * 1000000000.0 / ns : 0;
}

/* False: there is nothing to compare with yet. */
static bool look(struct early *e, struct early_dev *d, struct mnl_socket *s, struct second *sec)
{
	struct early_sample now = { .ns = now_ns() }, was = d->rest.sample;

	if (read_rx(s, d->ifindex, &now.rx))
		return false;
	for (int i = 0; i < DROPS_STAGES; i++)
		now.drops[i] = drops_get(&e->s->drops, i, d->ifindex);
	d->rest.sample = now;
	if (!was.ns || now.ns <= was.ns)
		return false;
	sec->rx = rate(now.rx, was.rx, now.ns - was.ns);
	for (int i = 0; i < DROPS_STAGES; i++)
		sec->drops[i] = rate(now.drops[i], was.drops[i], now.ns - was.ns);
	return true;
}

/*
 * Leaving, coming back
 */

/*
 * veth copies for any program.  Other drivers do not mind one that does nothing,
 * but many reset their link when the last one goes or the first one comes.
 */
static void leave(struct early *e, struct early_dev *d)
{
	if (d->mode != ATTACH_XDP || d->veth)
		early_take_off(e, d);
	else if (bpf_link_update(d->link, e->pass[EARLY_XDP], NULL))
		return;
	d->rest.on = true;
}

static bool come_back(struct early *e, struct early_dev *d)
{
	d->rest.on = false;
	d->rest.calm = d->rest.age = 0;
	d->rest.used = false;
	if (d->mode != ATTACH_XDP)
		return true;		/* early_devices_sync() does it */
	if (bpf_link_update(d->link, e->entry[EARLY_XDP], NULL))
		d->rest.on = true;
	return false;
}

/* Whether the driver counts as received what XDP drops makes no difference where that is few. */
static void at_work(struct early *e, struct early_dev *d, const struct second *s)
{
	__u64 dropped = s->drops[DROPS_EARLY];
	__u64 passed = s->rx > dropped ? s->rx - dropped : 0;
	bool few = dropped * DROPPED_SHARE < passed;
	struct early_rest *r = &d->rest;

	r->age++;
	r->used |= !few && dropped >= DROPPED_MANY;
	r->calm = few && passed >= PASSED_MANY ? r->calm + 1 : 0;
	if (r->calm < (r->used ? SECONDS_USED : SECONDS_IDLE))
		return;
	if (!r->wait || r->used || r->age > SECONDS_VAIN)
		r->wait = 1;
	else if (r->wait < WAIT_MAX)
		r->wait *= 2;
	r->left = r->wait;
	r->passed = passed;
	r->dropped = dropped;
	leave(e, d);
}

/* True: it is to be put on again. */
static bool at_rest(struct early *e, struct early_dev *d, const struct second *s)
{
	__u64 dropped = s->drops[DROPS_EXACT];

	if (d->rest.left && --d->rest.left)
		return false;
	if (dropped < DROPPED_MANY || dropped * DROPPED_SHARE < s->rx)
		return false;
	return come_back(e, d);
}

/* Programs of a helper from before there was this would not say what they drop. */
static bool may_rest(const struct space *s)
{
	if (s->w->early != XTJIT_EARLY_ON || !s->drops.mem.p)
		return false;
	for (int f = 0; f < 2; f++)
		for (int i = 0; i < XT_TABLES; i++) {
			const struct table *t = &s->tables[f][i];

			if (table_is_xtjit(t) && t->cur && !t->cur->drops)
				return false;
		}
	return true;
}

static bool look_at_all(struct early *e, struct mnl_socket *s)
{
	bool put_on = false;

	for (int i = 0; i < e->ndevs; i++) {
		struct early_dev *d = &e->devs[i];
		struct second sec;

		if ((d->mode == ATTACH_NONE && !d->rest.on) || !look(e, d, s, &sec))
			continue;
		if (d->rest.on)
			put_on |= at_rest(e, d, &sec);
		else
			at_work(e, d, &sec);
	}
	return put_on;
}

static bool wake_all(struct early *e)
{
	bool put_on = false;

	for (int i = 0; i < e->ndevs; i++)
		if (e->devs[i].rest.on)
			put_on |= come_back(e, &e->devs[i]);
	return put_on;
}

bool early_has_devices(const struct space *s)
{
	const struct early *e = s->early;

	for (int i = 0; e && i < e->ndevs; i++)
		if (e->devs[i].mode != ATTACH_NONE || e->devs[i].rest.on)
			return true;
	return false;
}

void early_rest_tick(struct early *e)
{
	struct mnl_socket *s;
	bool put_on;

	if (!early_has_devices(e->s))
		return;
	if (!may_rest(e->s)) {
		put_on = wake_all(e);
	} else {
		if (nlu_open(&s, NETLINK_ROUTE, 0, 0))
			return;
		put_on = look_at_all(e, s);
		mnl_socket_close(s);
	}
	if (put_on && early_devices_sync(e))
		early_refresh(e->s);
}

void early_rest_status(const struct early_dev *d, FILE *out)
{
	const struct early_rest *r = &d->rest;

	fprintf(out, "early %s: rests: it dropped %llu packets a second, and let %llu pass", d->name,
		r->dropped, r->passed);
	if (r->wait > 1)
		fprintf(out, "; came in vain, listens again in %u of %u s", r->left, r->wait);
	fputc('\n', out);
}
