// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend.h"
#include "early.h"
#include "helper.h"
#include "kernel_xt.h"
#include "netns.h"
#include "recover.h"
#include "sidefx.h"
#include "space.h"

const struct xt_family *const space_families[2] = { &xt_family_ip, &xt_family_ip6 };

static struct space *spaces;

struct space *space_first(void)
{
	return spaces;
}

struct space *space_find(__u64 cookie)
{
	struct space *s = spaces;

	while (s && s->cookie != cookie)
		s = s->next;
	return s;
}

static int family_index(const struct xt_family *f)
{
	return f == space_families[1];
}

struct table *space_table(struct space *s, const struct xt_family *f, const char *name)
{
	struct table *tables = s->tables[family_index(f)];

	for (int i = 0; i < XT_TABLES; i++)
		if (!strcmp(f->tables[i].name, name))
			return &tables[i];
	return NULL;
}

/* Closes all that the helper has of it; @drop: and ends it. */
static void space_close(struct space *s, bool drop)
{
	struct space **p = &spaces;

	early_close(s, drop);
	for (int f = 0; f < 2; f++)
		for (int i = 0; i < XT_TABLES; i++)
			table_close(&s->tables[f][i], drop);
	drops_close(&s->drops);
	pmem_close(&s->mem);
	if (drop) {
		state_remove(s->dir);
		sidefx_forget(s->cookie);
		netns_drop(s->cookie);
	}
	while (*p && *p != s)
		p = &(*p)->next;
	if (*p)
		*p = s->next;
	free(s);
}

static int open_words(struct space *s, struct xt_err *err)
{
	int ret;

	if (!pmem_open(&s->mem, s->dir, "space", sizeof(*s->w))) {
		s->w = s->mem.p;
		return 0;
	}
	ret = pmem_create(&s->mem, "xtjit_space", sizeof(*s->w), err);
	if (ret)
		return ret;
	s->w = s->mem.p;
	s->w->early = helper.early;
	ret = state_pin(s->mem.fd, s->dir, "space");
	return ret ? xt_fail(err, ret, "pin below %s: %s", s->dir, strerror(-ret)) : 0;
}

static struct space *space_new(int netns, __u64 cookie, struct xt_err *err)
{
	struct space *s = calloc(1, sizeof(*s));
	int ret;

	if (!s) {
		xt_fail(err, -ENOMEM, "out of memory");
		return NULL;
	}
	s->cookie = cookie;
	s->mem = s->drops.mem = (struct pmem)PMEM_NONE;
	state_path(s->dir, state_root(), "%llx", cookie);
	for (int f = 0; f < 2; f++)
		for (int i = 0; i < XT_TABLES; i++)
			table_init(&s->tables[f][i], s, space_families[f],
				   &space_families[f]->tables[i]);
	s->next = spaces;
	spaces = s;
	ret = state_mkdir(s->dir);
	if (ret)
		xt_fail(err, ret, "%s: %s", s->dir, strerror(-ret));
	else
		ret = netns_keep(netns, cookie);
	if (ret)
		xt_fail(err, ret, "network namespace: cannot be kept: %s", strerror(-ret));
	else
		ret = open_words(s, err);
	if (ret) {
		space_close(s, false);
		return NULL;
	}
	return s;
}

struct space *space_get(int netns, __u64 cookie, struct xt_err *err)
{
	struct space *s = space_find(cookie);

	if (s)
		return s;
	s = space_new(netns, cookie, err);
	if (s)
		recover_space(s);
	return s;
}

int space_conntrack(struct space *s, const struct xt_family *f, const struct gen *next,
		    struct xt_err *err)
{
	bool needed = next && next->conntrack;
	int fi = family_index(f), ret;

	for (int i = 0; i < XT_TABLES; i++) {
		const struct table *t = &s->tables[fi][i];

		if (table_is_xtjit(t) && t->cur && t->cur->decoded)
			needed |= t->cur->conntrack;
	}
	if (needed && !s->conntrack[fi]) {
		ret = helper.backend->conntrack(f, true, err);
		if (ret)
			return ret;
	} else if (!needed && s->conntrack[fi] && !next) {
		helper.backend->conntrack(f, false, err);
	} else {
		return 0;
	}
	s->conntrack[fi] = needed;
	return 0;
}

/* Of another user namespace: what it may consume is bounded, and it has no early stage. */
const struct drops *space_drops(struct space *s)
{
	if (s->w->foreign)
		return NULL;
	return s->drops.mem.p || !drops_open(&s->drops, s->dir) ? &s->drops : NULL;
}

/* Is @name one of the lines of @text? */
static bool has_line(const char *text, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = text; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (!strncmp(p, name, n) && p[n] == '\n')
			return true;
	}
	return false;
}

static int newest_first(const void *a, const void *b)
{
	const struct table *x = *(const struct table *const *)a;
	const struct table *y = *(const struct table *const *)b;

	return x->w->met < y->w->met ? 1 : -(x->w->met > y->w->met);
}

/* Those that came by another way than through us come last. */
char *space_names(struct space *s, const struct xt_family *f, size_t *len)
{
	struct table *met[XT_TABLES];
	char *kernel, *text, *save, *p;
	size_t klen = 0;
	int n = 0;

	kernel = kxt_proc(f->proc_names, &klen);
	text = calloc(1, klen + XT_TABLES * 33);
	if (!text)
		goto out;
	for (int i = 0; s && i < XT_TABLES; i++) {
		struct table *t = &s->tables[family_index(f)][i];

		if (table_is_xtjit(t) ||
		    (table_is_kernel(t) && kernel && has_line(kernel, t->row->name)))
			met[n++] = t;
	}
	qsort(met, n, sizeof(met[0]), newest_first);
	p = text;
	for (int i = 0; i < n; i++)
		p += sprintf(p, "%s\n", met[i]->row->name);
	for (char *l = kernel ? strtok_r(kernel, "\n", &save) : NULL; l;
	     l = strtok_r(NULL, "\n", &save))
		if (!has_line(text, l))
			p += sprintf(p, "%s\n", l);
	*len = p - text;
out:
	free(kernel);
	return text;
}

/*
 * Life
 */

/* What we have open in it, besides its bind mount. */
static int own_references(const struct space *s)
{
	int n = sidefx_refs(s->cookie);

	for (int f = 0; f < 2; f++)
		for (int i = 0; i < XT_TABLES; i++)
			n += table_links(&s->tables[f][i]);
	return n;
}

void space_tick(void)
{
	struct space *next;
	int fd;

	for (struct space *s = spaces; s; s = next) {
		next = s->next;
		if (netns_dead(s->cookie, own_references(s))) {
			xt_log("namespace %llx is gone", s->cookie);
			space_close(s, true);
			continue;
		}
		/* what the kernel's own ip_tables has nobody tells us of */
		if (!s->early || (kxt_is_absent() && !early_has_devices(s)))
			continue;
		fd = netns_open(s->cookie);
		if (fd >= 0 && !netns_enter(fd)) {
			early_tick(s);
			netns_leave();
		}
		if (fd >= 0)
			close(fd);
	}
}

void space_exit(void)
{
	while (spaces)
		space_close(spaces, false);
}

static void recover_one(int fd, __u64 cookie)
{
	struct xt_err err = {};

	if (netns_enter(fd))
		return;
	if (!space_get(fd, cookie, &err))
		xt_log("namespace %llx: %s", cookie, err.text);
	netns_leave();
}

static void recover_pinned(const char *dir, const char *name, void *arg)
{
	char path[PIN_DIR_MAX], *end;
	struct stat st;
	__u64 cookie;
	int fd;

	(void)arg;
	state_path(path, dir, "%s", name);
	cookie = strtoull(name, &end, 16);
	if (*end || stat(path, &st) || !S_ISDIR(st.st_mode))
		return;
	fd = netns_open(cookie);
	if (fd >= 0) {
		recover_one(fd, cookie);
		close(fd);
	} else if (netns_dead(cookie, 0)) {
		state_remove(path);
	} else {
		xt_log("namespace %s cannot be reached: its tables stay as they are until it asks",
		       name);
	}
}

static void drop_unused(__u64 cookie, void *arg)
{
	char name[20];

	(void)arg;
	snprintf(name, sizeof(name), "%llx", cookie);
	if (!state_exists(state_root(), name))
		netns_drop(cookie);
}

void space_recover_all(void)
{
	state_each(state_root(), recover_pinned, NULL);
	netns_each(drop_unused, NULL);
}

void space_drop_all(void)
{
	while (spaces) {
		struct space *s = spaces;
		int fd = netns_open(s->cookie);

		if (fd >= 0 && !netns_enter(fd)) {
			early_remove(s);
			netns_leave();
		}
		if (fd >= 0)
			close(fd);
		space_close(s, true);
	}
	space_drop_leftovers(state_root());
	state_forget();
}

static void drop_leftover(const char *dir, const char *name, void *arg)
{
	char path[PIN_DIR_MAX];

	(void)arg;
	state_path(path, dir, "%s", name);
	early_unpin(path);
}

void space_drop_leftovers(const char *root)
{
	state_each(root, drop_leftover, NULL);
	state_remove(root);
}
