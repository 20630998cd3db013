// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <linux/netfilter.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend.h"
#include "early.h"
#include "grace.h"
#include "helper.h"
#include "netns.h"
#include "nfct.h"
#include "space.h"
#include "takeover.h"

/* Opens @old, as the helper that left it would. */
static int open_old(struct table *old, struct space *s, const struct xt_family *f,
		    const struct xt_table_row *row, const char *dir)
{
	const struct backend *ours = helper.backend;
	int ret;

	table_init(old, s, f, row);
	state_path(old->dir, dir, "%s-%s", f->name, row->name);
	helper.backend = &backend_link;
	ret = table_recover(old);
	helper.backend = ours;
	if (!ret && (!table_is_xtjit(old) || !old->cur))
		ret = -ENOENT;
	return !ret && !old->cur->decoded ? -EIO : ret;
}

static int install(struct table *t, const struct gen *from, struct xt_err *err)
{
	struct gen *g = NULL;
	int ret = table_make_words(t, GATE_XTJIT, WHY_NONE, "", err);

	if (ret)
		return ret;
	if (gen_decode(&g, t->family, &from->h, from->rs.blob, err) ||
	    table_compile(t, g, err))
		ret = err->err ?: -EIO;
	if (!ret)
		ret = table_install(t, g, err);
	if (!ret)
		return 0;
	gen_drop(g);
	table_close(t, true);
	return ret;
}

/* Both have it: the old one lets packets pass, and what it has counted is added, once. */
static int finish(struct table *t, struct table *old)
{
	struct xt_counters *c = calloc(old->cur->ncounters, sizeof(*c));
	__u64 id = ~old->cur->number;		/* no request has it */
	int ret = 0;

	if (!c)
		return -ENOMEM;
	__atomic_store_n(&old->w->gate, GATE_KERNEL, __ATOMIC_SEQ_CST);
	grace();
	gen_counters(old->cur, c);
	if (t->cur->ncounters == old->cur->ncounters && !gen_added(t->cur, id))
		ret = gen_add(t->cur, id, c);
	free(c);
	return ret;
}

static int take_table(struct space *s, const struct xt_family *f, const struct xt_table_row *row,
		      const char *dir)
{
	struct table *t = space_table(s, f, row->name), old;
	struct xt_err err = {};
	int ret = open_old(&old, s, f, row, dir);

	if (!ret && !t->w)
		ret = install(t, old.cur, &err);
	if (!ret)
		ret = finish(t, &old);
	if (ret && ret != -ENOENT)
		xt_log("%s: stays in force beside the module: %s", old.dir,
		       err.text[0] ? err.text : strerror(-ret));
	table_close(&old, !ret || ret == -ENOENT);
	return ret == -ENOENT ? 0 : ret;
}

static int take_space(int netns, __u64 cookie, const char *dir)
{
	struct xt_err err = {};
	struct space *s = space_get(netns, cookie, &err);
	int ret = 0, e;

	if (!s) {
		xt_log("%s: %s", dir, err.text);
		return err.err;
	}
	/* what it has on devices would be in the way of ours */
	early_unpin(dir);
	for (int f = 0; f < 2; f++)
		for (int i = 0; i < XT_TABLES; i++) {
			e = take_table(s, space_families[f], &space_families[f]->tables[i], dir);
			ret = ret ?: e;
		}
	nfct_disable(NFPROTO_IPV4);
	nfct_disable(NFPROTO_IPV6);
	return ret;
}

static void take_one(const char *root, const char *name, void *arg)
{
	char dir[PIN_DIR_MAX], *end;
	struct stat st;
	__u64 cookie;
	int fd, ret = -ENOENT;

	(void)arg;
	state_path(dir, root, "%s", name);
	cookie = strtoull(name, &end, 16);
	if (*end || stat(dir, &st) || !S_ISDIR(st.st_mode))
		return;
	fd = netns_open(cookie);
	if (fd >= 0 && !netns_enter(fd)) {
		ret = take_space(fd, cookie, dir);
		netns_leave();
	}
	if (fd >= 0)
		close(fd);
	if (!ret || fd == -ENOENT)
		state_remove(dir);
	netns_drop(cookie);
}

void takeover(const char *root)
{
	state_each(root, take_one, NULL);
	if (!state_has_spaces(root))
		state_remove(root);
}
