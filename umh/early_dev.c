// SPDX-License-Identifier: GPL-2.0
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "early_priv.h"

static struct early_dev *find(struct early *e, __u32 ifindex)
{
	for (int i = 0; i < e->ndevs; i++)
		if (e->devs[i].ifindex == ifindex)
			return &e->devs[i];
	return NULL;
}

static struct early_dev *add(struct early *e, __u32 ifindex)
{
	struct early_dev *more = realloc(e->devs, (e->ndevs + 1) * sizeof(*more));

	if (!more)
		return NULL;
	e->devs = more;
	more += e->ndevs++;
	*more = (struct early_dev){ .ifindex = ifindex, .link = -1 };
	return more;
}

static void pin_name(char name[24], __u32 ifindex)
{
	snprintf(name, 24, "xdp-%u", ifindex);
}

void early_take_off(struct early *e, struct early_dev *d)
{
	char name[24];

	if (d->mode == ATTACH_TC)
		detach_tc(d->ifindex);
	if (d->link >= 0) {
		pin_name(name, d->ifindex);
		state_unpin(e->s->dir, name);
		close(d->link);
	}
	d->link = -1;
	d->mode = ATTACH_NONE;
}

static void try_xdp(struct early *e, struct early_dev *d)
{
	struct xt_err err = {};
	char name[24];

	d->link = attach_xdp(e->entry[EARLY_XDP], d->ifindex, &err);
	if (d->link < 0) {
		d->link = -1;
		return;
	}
	pin_name(name, d->ifindex);
	if (state_pin(d->link, e->s->dir, name)) {
		close(d->link);
		d->link = -1;
		return;
	}
	d->mode = ATTACH_XDP;
}

static bool flavor_wanted(const struct early *e, enum early_flavor flavor)
{
	return e->has[0][flavor] || e->has[1][flavor];
}

/* True: TC is what is left, and there are no programs for it. */
static bool put_on(struct early *e, struct early_dev *d, const struct netdev *nd)
{
	struct xt_err err = {};

	if (nd->ether && flavor_wanted(e, EARLY_XDP))
		try_xdp(e, d);
	if (d->mode != ATTACH_NONE)
		return false;
	if (!flavor_wanted(e, EARLY_TC)) {
		if (!nd->ether || !flavor_wanted(e, EARLY_XDP) || e->tc_for_ether)
			return false;
		e->tc_for_ether = true;
		return true;
	}
	if (attach_tc(e->entry[EARLY_TC], d->ifindex, &err))
		xt_log("%s: %s", nd->name, err.text);
	else
		d->mode = ATTACH_TC;
	return false;
}

/* Device by device; false: it should have nothing. */
static bool wanted(const struct early *e, const struct netdev *nd)
{
	return early_eligible(nd) &&
	       (flavor_wanted(e, EARLY_XDP) || flavor_wanted(e, EARLY_TC));
}

static void forget_unseen(struct early *e)
{
	int n = 0;

	for (int i = 0; i < e->ndevs; i++) {
		struct early_dev *d = &e->devs[i];

		/* gone with its TC filter; or in another namespace, with the link */
		if (!d->seen) {
			if (d->mode == ATTACH_TC)
				d->mode = ATTACH_NONE;
			early_take_off(e, d);
		} else {
			e->devs[n++] = *d;
		}
	}
	e->ndevs = n;
}

bool early_devices_sync(struct early *e)
{
	bool again = false;
	int n;
	const struct netdev *list = netdevs_list(e->nd, &n);

	for (int i = 0; i < e->ndevs; i++)
		e->devs[i].seen = false;
	for (int i = 0; i < n; i++) {
		struct early_dev *d = find(e, list[i].ifindex) ?: add(e, list[i].ifindex);

		if (!d)
			continue;
		d->seen = true;
		d->veth = list[i].veth;
		memcpy(d->name, list[i].name, sizeof(d->name));
		if (!wanted(e, &list[i])) {
			early_take_off(e, d);
			d->rest = (struct early_rest){ .on = false };
		} else if (d->mode == ATTACH_NONE && !d->rest.on) {
			again |= put_on(e, d, &list[i]);
		}
	}
	forget_unseen(e);
	return again;
}

static void recover_link(const char *dir, const char *name, void *arg)
{
	struct bpf_link_info info = {};
	__u32 len = sizeof(info), ifindex;
	struct early *e = arg;
	struct early_dev *d;
	int fd;

	if (sscanf(name, "xdp-%u", &ifindex) != 1)
		return;
	fd = state_get(dir, name);
	if (fd < 0)
		return;
	/* a link whose device is gone says 0 */
	d = bpf_obj_get_info_by_fd(fd, &info, &len) || info.xdp.ifindex != ifindex ?
	    NULL : add(e, ifindex);
	if (!d) {
		close(fd);
		state_unpin(dir, name);
		return;
	}
	d->link = fd;
	d->mode = ATTACH_XDP;
	/* it may have been at rest */
	bpf_link_update(fd, e->entry[EARLY_XDP], NULL);
}

/* A filter of an earlier helper's at TC: taken for attached; put on again, it replaces itself. */
void early_devices_recover(struct early *e)
{
	int n;
	const struct netdev *list;

	state_each(e->s->dir, recover_link, e);
	list = netdevs_list(e->nd, &n);
	for (int i = 0; i < n; i++)
		if (early_eligible(&list[i]) && !find(e, list[i].ifindex))
			detach_tc(list[i].ifindex);
}

void early_devices_close(struct early *e, bool detach)
{
	for (int i = 0; i < e->ndevs; i++) {
		if (detach)
			early_take_off(e, &e->devs[i]);
		else if (e->devs[i].link >= 0)
			close(e->devs[i].link);
	}
	free(e->devs);
	e->devs = NULL;
	e->ndevs = 0;
}
