// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend.h"
#include "bounds.h"
#include "early.h"
#include "grace.h"
#include "helper.h"
#include "kernel_xt.h"
#include "owner.h"
#include "table.h"
#include "trace.h"

void table_init(struct table *t, struct space *s, const struct xt_family *f,
		const struct xt_table_row *row)
{
	memset(t, 0, sizeof(*t));
	t->family = f;
	t->row = row;
	t->space = s;
	t->mem = (struct pmem)PMEM_NONE;
	t->slot = t->seen = -1;
	for (int i = 0; i < XT_HOOKS; i++)
		t->link[i] = -1;
	state_path(t->dir, s->dir, "%s-%s", f->name, row->name);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* What takes time, and nobody waits for: done when the reply is on its way. */
static struct gen *to_drop, *to_strip, *changed;

void table_later(void)
{
	if (to_strip) {
		gen_strip(to_strip);
		gen_shed(to_strip);
	}
	gen_drop(to_drop);
	gen_drop(changed);
	to_strip = to_drop = changed = NULL;
}

void table_close(struct table *t, bool drop)
{
	table_later();
	for (int i = 0; i < XT_HOOKS; i++)
		close_fd(&t->link[i]);
	gen_close(t->prev);
	gen_close(t->cur);
	t->prev = t->cur = NULL;
	close_fd(&t->slot);
	close_fd(&t->seen);
	pmem_close(&t->mem);
	t->w = NULL;
	if (drop)
		state_remove(t->dir);
}

void table_drop_prev(struct table *t)
{
	table_later();
	gen_drop(t->prev);
	t->prev = NULL;
}

/*
 * First use
 */

int table_make_words(struct table *t, enum gate_state gate, enum why why, const char *text,
		     struct xt_err *err)
{
	int ret;

	state_remove(t->dir);
	ret = state_mkdir(t->dir);
	if (ret)
		return xt_fail(err, ret, "%s: %s", t->dir, strerror(-ret));
	ret = pmem_create(&t->mem, "xtjit_words", sizeof(*t->w), err);
	if (ret)
		goto out;
	t->w = t->mem.p;
	t->w->gate = gate;
	t->w->why = why;
	t->w->met = now_ns();
	strncpy(t->w->text, text, sizeof(t->w->text) - 1);
	ret = state_pin(t->mem.fd, t->dir, "words");
	if (ret)
		xt_fail(err, ret, "pin below %s: %s", t->dir, strerror(-ret));
out:
	if (ret)
		table_close(t, true);
	return ret;
}

enum gen_result table_compile(struct table *t, struct gen *g, struct xt_err *err)
{
	g->traced = trace_wanted(t, g);
	return gen_compile(g, t->space->cookie, err);
}

static int install_initial(struct table *t, struct xt_err *err)
{
	struct xt_replace_hdr h;
	void *blob = xt_initial_blob(t->family, t->row, &h);
	struct gen *g = NULL;
	int ret = 0;

	if (!blob)
		return xt_fail(err, -ENOMEM, "out of memory");
	if (gen_decode(&g, t->family, &h, blob, err) || table_compile(t, g, err))
		ret = err->err ?: -EIO;
	if (!ret)
		ret = table_install(t, g, err);
	if (ret)
		gen_drop(g);
	free(blob);
	return ret;
}

int table_begin(struct table *t, struct xt_err *err)
{
	int ret = table_make_words(t, GATE_XTJIT, WHY_NONE, "", err);

	if (ret)
		return ret;
	ret = helper.backend->prepare(t, err);
	if (!ret)
		ret = install_initial(t, err);
	if (!ret)
		ret = helper.backend->attach(t, err);
	if (ret)
		table_close(t, true);
	return ret;
}

int table_meet(struct table *t, struct call *c)
{
	return t->w ? 0 : helper.backend->meet(t, c);
}

/*
 * The socket options
 */

/* As translate_table() leaves them, whatever was set for hooks that the table has not. */
static void show_hooks(struct ipt_getinfo *info, const struct xt_replace_hdr *h)
{
	for (int i = 0; i < NF_INET_NUMHOOKS; i++) {
		bool valid = h->valid_hooks & 1u << i;

		info->hook_entry[i] = valid ? h->hook_entry[i] : ~0u;
		info->underflow[i] = valid ? h->underflow[i] : ~0u;
	}
}

int table_get_info(struct table *t, struct call *c)
{
	struct ipt_getinfo *info;

	if (c->req.len != sizeof(*info))
		return -EINVAL;
	info = call_reply(c, sizeof(*info));
	if (!info)
		return -ENOMEM;
	strcpy(info->name, t->row->name);
	info->valid_hooks = t->cur->h.valid_hooks;
	show_hooks(info, &t->cur->h);
	info->num_entries = t->cur->ncounters;
	info->size = t->cur->h.size;
	return 0;
}

/* The caller has looked at the sizes. */
int table_get_entries(struct table *t, struct call *c)
{
	const struct ipt_get_entries *get = c->payload;
	struct gen *g = t->cur;
	struct ipt_get_entries *out;
	struct xt_counters *n;

	if (get->size != g->h.size)
		return -EAGAIN;
	if (!g->decoded)
		return xt_fail(&c->err, -EIO, "%s: its rules cannot be read", t->row->name);
	n = malloc(g->ncounters * sizeof(*n));
	out = n ? call_reply_dirty(c, sizeof(*out) + g->h.size) : NULL;
	if (!out) {
		free(n);
		return -ENOMEM;
	}
	memset(out, 0, sizeof(*out));
	memcpy(out->name, get->name, sizeof(out->name));
	out->size = get->size;
	gen_counters(g, n);
	memcpy(out->entrytable, g->rs.blob, g->h.size);
	xt_blob_put_counters(&g->rs, out->entrytable, (const __u64 (*)[2])n);
	free(n);
	return 0;
}

/* Who asks reads it where we have it, and can do no more with it. */
int table_entries(struct table *t, struct call *c)
{
	const struct ipt_get_entries *get = c->payload;
	struct gen *g = t->cur;
	int ret;

	if (get->size != g->h.size)
		return -EAGAIN;
	/* what the module takes, it writes to */
	if (!g->decoded || g->blob.fd < 0 || helper.backend->native)
		return -EOPNOTSUPP;
	ret = pmem_freeze(&g->blob);
	if (ret)
		return ret;
	c->out_fd = fcntl(g->blob.fd, F_DUPFD_CLOEXEC, 0);
	if (c->out_fd < 0)
		return -errno;
	return table_reply_counters(c, g);
}

int table_add_counters(struct table *t, struct call *c)
{
	const struct xt_counters_info *info = c->payload;

	if (gen_added(t->cur, c->req.id))
		return 0;
	if (info->num_counters != t->cur->ncounters)
		return -EINVAL;
	return gen_add(t->cur, c->req.id, info->counters);
}

/*
 * Replace
 */

int table_stage(struct table *t, struct gen *g, struct xt_err *err)
{
	int ret;

	g->number = ++t->w->last_gen;
	g->prev = t->cur && !g->in_place ? t->cur->number : 0;
	ret = gen_pin(g, g->in_place ? t->cur : NULL, t->dir, err);
	if (!ret && t->cur)
		gen_inherit_ids(g, t->cur);
	return ret;
}

int table_flip(struct table *t, struct gen *g, struct xt_err *err)
{
	int ret = helper.backend->put(t, g, err);

	if (ret)
		return ret;
	close_fd(&g->prog);
	table_later();
	to_drop = t->prev;
	to_strip = t->prev = t->cur;
	t->cur = g;
	return 0;
}

int table_install(struct table *t, struct gen *g, struct xt_err *err)
{
	bool marked = t->cur && t->cur->marks;
	struct space *s = t->space;
	struct early_progs early;
	int ret;

	ret = space_conntrack(s, t->family, g, err);
	if (ret)
		return ret;
	ret = table_stage(t, g, err);
	if (ret)
		goto out;
	early_build(s, t->family, t, g, &early);
	early_stop(s, t->family);
	ret = table_flip(t, g, err);
	if (ret)
		early_build(s, t->family, NULL, NULL, &early);
	early_start(s, t->family, &early);
	if (!ret && t->prev && !helper.backend->put_waits)
		grace();
	if (!ret && g->marks != marked)
		trace_follow(s, t->family);
out:
	space_conntrack(s, t->family, NULL, NULL);
	return ret;
}

int table_change(struct table *t, struct gen *g, struct xt_err *err)
{
	int ret = table_stage(t, g, err);

	if (ret)
		return ret;
	table_later();
	gen_change(g, t->cur);
	ret = helper.backend->change(t, g, err);
	if (ret) {
		gen_unchanged(g, t->cur);
		return ret;
	}
	gen_changed(g, t->cur);
	to_drop = t->prev;
	changed = t->cur;
	t->prev = NULL;
	t->cur = g;
	return 0;
}

/* What the kernel would refuse, in its own way: with an errno, and no text. */
static int as_the_kernel(struct call *c, int err)
{
	c->err.text[0] = '\0';
	return err ?: -EINVAL;
}

static int refuse(struct table *t, struct call *c)
{
	char why[sizeof(c->err.text)];

	memcpy(why, c->err.text, sizeof(why));
	c->err.err = 0;
	helper.refused++;
	return xt_fail(&c->err, -EOPNOTSUPP, "xtjit: %.400s; %s", why,
		       kxt_present(t->family) ? "without XTJIT_FALLBACK=refuse the table "
		       "would be left to the kernel's ip_tables" :
		       "and this kernel has no ip_tables to leave the table to");
}

/* Compiled, and the kernel does for it what it needs besides; else the kernel may do it all. */
static enum gen_result compile(struct table *t, struct gen *g, struct xt_err *err)
{
	enum gen_result res = table_compile(t, g, err);

	if (res == GEN_OK && space_conntrack(t->space, t->family, g, err))
		res = GEN_UNCOMPILED;
	return res;
}

int table_reply_counters(struct call *c, const struct gen *g)
{
	struct xt_counters *out = call_reply_dirty(c, g->ncounters * sizeof(*out));

	if (!out)
		return -ENOMEM;
	gen_counters(g, out);
	return 0;
}

int table_reply_replaced(struct table *t, struct call *c)
{
	const struct xt_counters *from;
	__u64 request;
	__u32 n;
	void *out;

	from = gen_replaced(t->cur, &n, &request);
	if (!from)
		return table_reply_counters(c, t->prev);
	out = call_reply_dirty(c, n * sizeof(*from));
	if (!out)
		return -ENOMEM;
	memcpy(out, from, n * sizeof(*from));
	return 0;
}

static int replace_xtjit(struct table *t, struct call *c, struct gen *g, __u64 begin)
{
	int ret;

	g->request = c->req.id;
	g->commit_id = c->device ? c->req.id : 0;
	ret = g->in_place ? table_change(t, g, &c->err) : table_install(t, g, &c->err);
	if (ret) {
		gen_drop(g);
		return ret;
	}
	helper.edits += g->edited;
	helper.in_place += g->in_place;
	ret = table_reply_replaced(t, c);
	t->update_ns = now_ns() - begin;
	return ret;
}

static int give(struct table *t, struct call *c, const struct xt_replace_hdr *h,
		const void *entries)
{
	char why[sizeof(c->err.text)];
	struct xt_counters *old;
	__u32 n = t->cur->ncounters;
	int ret;

	memcpy(why, c->err.text, sizeof(why));
	memset(&c->err, 0, sizeof(c->err));
	ret = owner_give(t, h, entries, WHY_UNCOMPILED, why, false, c->req.id, &old, &c->err);
	if (ret)
		return ret;
	c->out = old;
	c->out_len = n * sizeof(*old);
	return 0;
}

static int take(struct table *t, struct call *c, struct gen *g)
{
	struct xt_counters *old;
	__u32 n;
	int ret;

	g->request = c->req.id;
	ret = owner_take(t, g, c->req.id, false, &old, &n, &c->err);
	if (ret)
		return ret;
	c->out = old;
	c->out_len = n * sizeof(*old);
	return 0;
}

/* With whom the ruleset goes from here on; what compiles is xtjit's. */
static int replace_kernel(struct table *t, struct call *c, const struct xt_replace_hdr *h,
			  const void *entries)
{
	enum gen_result res = GEN_UNCOMPILED;
	struct gen *g = NULL;
	int ret;

	if (t->w->why == WHY_UNCOMPILED) {
		res = gen_decode(&g, t->family, h, entries, &c->err);
		if (res == GEN_OK)
			res = compile(t, g, &c->err);
		if (res == GEN_OK)
			return take(t, c, g);
		gen_close(g);
	}
	if (res == GEN_REFUSED)
		return as_the_kernel(c, c->err.err);
	if (t->w->why == WHY_NAT)
		xt_fail(&c->err, -EOPNOTSUPP, "%s nat: translation has no compiled form",
			t->family->name);
	if ((t->w->why == WHY_NAT || t->w->why == WHY_UNCOMPILED) && !owner_may_fall_back(t, c))
		return refuse(t, c);
	memset(&c->err, 0, sizeof(c->err));
	ret = owner_proxy_replace(t, c);
	if (!ret)
		early_changed(t->space);
	return ret;
}

int table_replace(struct table *t, struct call *c)
{
	__u64 begin = now_ns();
	struct xt_replace_hdr h;
	struct gen *g = NULL;
	enum gen_result res;
	const void *entries;
	int ret;

	ret = xt_replace_parse(t->family, c->payload, c->req.len, &h, &entries, &c->err);
	if (ret)
		return as_the_kernel(c, ret);
	ret = owner_repeated(t, c);
	if (ret)
		return ret < 0 ? ret : 0;
	helper.replaces++;
	ret = bounds_ruleset(t, &h, &c->err);
	if (ret)
		return ret;
	if (table_is_kernel(t))
		return replace_kernel(t, c, &h, entries);
	if (h.num_counters == t->cur->ncounters && !t->space->w->foreign &&
	    gen_edit(&g, t->cur, &h, entries, t->space->cookie) == GEN_OK)
		return replace_xtjit(t, c, g, begin);
	res = gen_decode(&g, t->family, &h, entries, &c->err);
	if (res == GEN_REFUSED)
		return as_the_kernel(c, c->err.err);
	if (h.valid_hooks != t->row->valid_hooks)
		ret = -EINVAL;
	else if (h.num_counters != t->cur->ncounters)
		ret = -EAGAIN;
	else if (res == GEN_OK)
		res = compile(t, g, &c->err);
	if (!ret && res == GEN_OK)
		return replace_xtjit(t, c, g, begin);
	gen_close(g);
	if (ret)
		return ret;
	if (res == GEN_REFUSED)
		return c->err.err;
	return owner_may_fall_back(t, c) ? give(t, c, &h, entries) : refuse(t, c);
}
