// SPDX-License-Identifier: GPL-2.0
/*
 * Requests about tables that the kernel has, passed on to it, and done once
 * however often they are asked for.
 */
#include <errno.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <stdlib.h>
#include <string.h>

#include "helper.h"
#include "journal.h"
#include "kernel_xt.h"
#include "owner.h"

bool owner_may_fall_back(const struct table *t, const struct call *c)
{
	__u8 fallback = c->req.fallback ?: helper.fallback;

	return fallback == XTJIT_FALLBACK_KERNEL && kxt_present(t->family);
}

int owner_proxy_get(const struct xt_family *f, struct call *c)
{
	const struct ipt_get_entries *get = c->payload;
	size_t size = c->req.len;
	socklen_t len;
	void *out;
	int ret;

	if (c->req.optname == (__u32)f->get_entries)
		size = sizeof(*get) + (size_t)get->size;
	out = size <= XTJIT_MAX_PAYLOAD ? call_reply(c, size) : NULL;
	if (!out)
		return -ENOMEM;
	len = size;
	memcpy(out, c->payload, c->req.len);
	ret = kxt_get(f, c->req.optname, out, &len);
	if (ret < 0)
		return ret;
	if (len < c->out_len)
		c->out_len = len;
	return 0;	/* for a revision, the kernel returns the best one */
}

/*
 * Whether the kernel's table has at least these counters: then they were added
 * already, by a helper that did not live to note it.
 */
bool owner_kernel_has(const struct table *t, const struct xt_counters *add, __u32 n)
{
	struct xt_counters *now;
	struct kxt_table k;
	bool has;

	if (kxt_read(t->family, t->row->name, &k))
		return false;
	now = calloc(k.h.num_entries, sizeof(*now));
	has = now && k.h.num_entries == n;
	if (has)
		kxt_counters(t->family, &k, now);
	for (__u32 i = 0; has && i < n; i++)
		has = now[i].pcnt >= add[i].pcnt && now[i].bcnt >= add[i].bcnt;
	free(now);
	kxt_free(&k);
	return has;
}

int owner_proxy_add(struct table *t, struct call *c)
{
	const struct xt_counters_info *info = c->payload;
	__u64 id = c->req.id;
	int ret;

	if (t->w->added_id == id)
		return 0;
	if (t->w->adding_id == id && owner_kernel_has(t, info->counters, info->num_counters))
		return 0;
	t->w->adding_id = id;
	ret = kxt_set(t->family, c->req.optname, c->payload, c->req.len);
	if (!ret)
		t->w->added_id = id;
	return ret;
}

static int reply_copy(struct call *c, const struct xt_counters *counters, __u32 n)
{
	struct xt_counters *out = call_reply(c, n * sizeof(*out));

	if (!out)
		return -ENOMEM;
	memcpy(out, counters, n * sizeof(*out));
	return 0;
}

/* The number is compared here, for the kernel would write that many. */
static int check_number(struct table *t, __u32 num_counters)
{
	struct ipt_getinfo info = {};
	socklen_t len = sizeof(info);
	int ret;

	strcpy(info.name, t->row->name);
	ret = kxt_get(t->family, t->family->get_info, &info, &len);
	if (ret < 0)
		return ret;
	return info.num_entries == num_counters ? 0 : -EAGAIN;
}

int owner_proxy_replace(struct table *t, struct call *c)
{
	struct ipt_replace *arg = c->payload;	/* struct ip6t_replace is alike */
	struct pmem m;
	struct journal *j;
	int ret;

	ret = check_number(t, arg->num_counters);
	if (ret)
		return ret;
	ret = journal_begin(t, J_REPLACE, c->req.id, 0, arg->num_counters, &m, &c->err);
	if (ret)
		return ret;
	j = m.p;
	arg->counters = journal_b(j);
	ret = kxt_set(t->family, c->req.optname, arg, c->req.len);
	if (!ret) {
		table_drop_prev(t);
		gen_drop(t->cur);
		t->cur = NULL;
		ret = reply_copy(c, journal_b(j), j->nb);
	}
	pmem_close(&m);
	return ret;
}

/* 1: *ret is what is to be returned. */
static bool from_journal(struct table *t, struct call *c, int *ret)
{
	bool xtjit = table_is_xtjit(t), found = false;
	struct xt_counters *sum;
	struct journal *j;
	struct pmem m;

	j = journal_open(t, &m);
	if (!j)
		return false;
	if (j->id != c->req.id)
		goto out;
	if (j->kind == J_REPLACE && !xtjit && journal_written(journal_b(j), j->nb)) {
		*ret = reply_copy(c, journal_b(j), j->nb);
		found = true;
	} else if (j->kind == J_TAKE && xtjit && t->cur && t->cur->request == j->id) {
		sum = journal_sum(j);
		*ret = sum ? reply_copy(c, sum, j->nb - j->ngates) : -ENOMEM;
		free(sum);
		found = true;
	}
out:
	pmem_close(&m);
	return found;
}

/* The request that set what was in force before; 0: none that is known. */
static __u64 request_before(const struct table *t)
{
	__u64 request;
	__u32 n;

	if (t->cur->in_place)
		return gen_replaced(t->cur, &n, &request) ? request : 0;
	return t->prev ? t->prev->request : 0;
}

int owner_repeated(struct table *t, struct call *c)
{
	__u64 id = c->req.id;
	int ret = 0;

	if (from_journal(t, c, &ret))
		return ret ?: 1;
	if (table_is_kernel(t) && t->w->move_id == id && t->cur)
		ret = table_reply_counters(c, t->cur);
	else if (table_is_xtjit(t) && t->cur->request == id && (t->prev || t->cur->in_place))
		ret = table_reply_replaced(t, c);
	else if (table_is_xtjit(t) && request_before(t) == id)
		ret = -EAGAIN;	/* done, and undone: its counters went to someone else */
	else
		return 0;
	return ret ?: 1;
}
