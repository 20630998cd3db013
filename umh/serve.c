// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "early.h"
#include "ext.h"
#include "helper.h"
#include "kernel_xt.h"
#include "module.h"
#include "netns.h"
#include "owner.h"
#include "serve.h"
#include "status.h"
#include "users.h"

/* The table that the payload begins with the name of, met.  Or a negative errno. */
static int find_table(struct call *c, const struct xt_family *f, struct table **t)
{
	char name[XT_TABLE_MAXNAMELEN];
	struct space *s;

	memcpy(name, c->payload, sizeof(name));
	name[sizeof(name) - 1] = '\0';
	if (!xt_table_row(f, name))
		return -ENOENT;
	s = space_get(c->netns, c->cookie, &c->err);
	if (!s)
		return c->err.err;
	if (c->device)
		s->w->foreign = c->foreign;
	*t = space_table(s, f, name);
	return table_meet(*t, c);
}

/*
 * SET
 */

static void set_early(struct space *s, __u32 mode)
{
	if (s->w->early == mode)
		return;
	s->w->early = mode;
	early_refresh(s);
}

/* Of the module's requests none says it: OP_EARLY does. */
static __u32 early_mode(const struct space *s, const struct call *c)
{
	return c->req.early ?: module_is_open() ? s->w->early : helper.early;
}

/*
 * net/netfilter/xt_owner.c owner_check(): users and groups may be named only by who
 * is of the user namespace that the network namespace belongs to.  The kernel's
 * own ip_tables would look at us instead.
 */
static int check_users(struct call *c, const struct xt_family *f, const struct xt_replace_hdr *h,
		       const void *entries)
{
	struct xt_ruleset rs;
	int of = c->device ? c->owner : users_has(c->peer, c->cookie), ret;
	bool named;

	if (of == 1)
		return 0;
	ret = xt_ruleset_decode(&rs, f, h, entries, NULL);
	if (ret)
		return ret;
	named = ext_names_users(&rs);
	xt_ruleset_free(&rs);
	if (named && of < 0)
		return xt_fail(&c->err, -EPERM,
			       "xtjit: a rule names users, and your user namespace cannot be seen from the helper: %s",
			       strerror(-of));
	return named ? -EINVAL : 0;
}

/* Of an unknown table, which do_replace() looks for when it has looked at the rules. */
static int check_rules(struct call *c, const struct xt_family *f, const struct xt_replace_hdr *h,
		       const void *entries)
{
	struct xt_ruleset rs;
	int ret = xt_ruleset_decode(&rs, f, h, entries, &c->err);

	if (!ret)
		xt_ruleset_free(&rs);
	return !ret || ret == -EOPNOTSUPP ? -ENOENT : ret;
}

static int set_replace(struct call *c, const struct xt_family *f)
{
	struct xt_replace_hdr h;
	const void *entries;
	struct table *t;
	int ret;

	ret = xt_replace_parse(f, c->payload, c->req.len, &h, &entries, NULL);
	if (!ret)
		ret = check_users(c, f, &h, entries);
	if (!ret)
		ret = find_table(c, f, &t);
	if (ret == -ENOENT)
		ret = check_rules(c, f, &h, entries);
	if (!ret)
		ret = table_replace(t, c);
	if (!ret)
		set_early(t->space, early_mode(t->space, c));
	return ret;
}

/* As xt_copy_counters(). */
static int set_add_counters(struct call *c, const struct xt_family *f)
{
	const struct xt_counters_info *info = c->payload;
	struct table *t;
	int ret;

	if (c->req.len <= sizeof(*info) ||
	    c->req.len - sizeof(*info) != sizeof(struct xt_counters) * (__u64)info->num_counters)
		return -EINVAL;
	ret = find_table(c, f, &t);
	if (ret)
		return ret;
	return table_is_xtjit(t) ? table_add_counters(t, c) : owner_proxy_add(t, c);
}

static int op_set(struct call *c, const struct xt_family *f)
{
	if (c->req.optname == (__u32)f->set_replace)
		return set_replace(c, f);
	if (c->req.optname == (__u32)f->set_add_counters)
		return set_add_counters(c, f);
	return -EINVAL;
}

/*
 * GET
 */

/* As xt_find_revision(). */
static int revision_of(const struct ext_row *const *list, const struct xt_family *f,
		       const struct xt_get_revision *rev)
{
	__u8 family = f->nfproto == NFPROTO_IPV6 ? EXT_IP6 : EXT_IP;
	bool any = false;

	for (; *list; list++) {
		for (const struct ext_row *r = *list; r->name; r++) {
			if (!(r->families & family) ||
			    strncmp(r->name, rev->name, sizeof(rev->name)))
				continue;
			if (r->rev == rev->revision)
				return 0;
			any = true;
		}
	}
	return any ? -EPROTONOSUPPORT : -ENOENT;
}

static int get_revision(struct call *c, const struct xt_family *f)
{
	struct xt_get_revision *rev = c->payload;
	void *out;

	if (c->req.len != sizeof(*rev))
		return -EINVAL;
	if (kxt_present(f))
		return owner_proxy_get(f, c);
	rev->name[sizeof(rev->name) - 1] = '\0';
	out = call_reply(c, sizeof(*rev));
	if (!out)
		return -ENOMEM;
	memcpy(out, rev, sizeof(*rev));
	return revision_of(c->req.optname == (__u32)f->get_rev_match ? ext_matches : ext_targets,
			   f, rev);
}

static int op_get(struct call *c, const struct xt_family *f)
{
	const struct ipt_get_entries *get = c->payload;
	__u32 opt = c->req.optname;
	struct table *t;
	int ret;

	if (opt == (__u32)f->get_rev_match || opt == (__u32)f->get_rev_target)
		return get_revision(c, f);
	if (opt == (__u32)f->get_info) {
		if (c->req.len != sizeof(struct ipt_getinfo))
			return -EINVAL;
	} else if (opt == (__u32)f->get_entries) {
		if (c->req.len < sizeof(*get) ||
		    (c->req.len > sizeof(*get) &&
		     c->req.len != sizeof(*get) + (__u64)get->size))
			return -EINVAL;
	} else {
		return -EINVAL;
	}
	ret = find_table(c, f, &t);
	if (ret)
		return ret;
	if (!table_is_xtjit(t))
		return owner_proxy_get(f, c);
	return opt == (__u32)f->get_info ? table_get_info(t, c) : table_get_entries(t, c);
}

static int op_entries(struct call *c, const struct xt_family *f)
{
	struct table *t;
	int ret;

	if (c->req.len != sizeof(struct ipt_get_entries) || c->device || module_is_open())
		return -EOPNOTSUPP;
	ret = find_table(c, f, &t);
	if (ret)
		return ret;
	return table_is_xtjit(t) ? table_entries(t, c) : -EOPNOTSUPP;
}

/*
 * PROC
 */

static char *row_names(const struct ext_row *const *list, const struct xt_family *f, size_t *len)
{
	__u8 family = f->nfproto == NFPROTO_IPV6 ? EXT_IP6 : EXT_IP;
	char *text = NULL;
	FILE *out = open_memstream(&text, len);

	if (!out)
		return NULL;
	for (; *list; list++)
		for (const struct ext_row *r = *list; r->name; r++)
			if (r->families & family)
				fprintf(out, "%s\n", r->name);
	fclose(out);
	return text;
}

static int op_proc(struct call *c, const struct xt_family *f)
{
	const char *what = c->payload;

	if (!strcmp(what, "names"))
		c->out = space_names(space_find(c->cookie), f, &c->out_len);
	else if (!strcmp(what, "matches"))
		c->out = kxt_proc(f->proc_matches, &c->out_len) ?:
			 row_names(ext_matches, f, &c->out_len);
	else if (!strcmp(what, "targets"))
		c->out = kxt_proc(f->proc_targets, &c->out_len) ?:
			 row_names(ext_targets, f, &c->out_len);
	else
		return -ENOENT;
	return c->out ? 0 : -ENOMEM;
}

/*
 * ADOPT, RELEASE
 */

/* Has the administrator anything to move here? */
static bool concerned(const struct table *t, bool adopt)
{
	if (!strcmp(t->row->name, "nat"))
		return false;
	if (!adopt)
		return table_is_xtjit(t);
	return table_is_kernel(t) || (!t->w && kxt_listed(t->family, t->row->name));
}

static int move_table(struct call *c, struct table *t, bool adopt, FILE *out)
{
	const char *f = t->family->name, *name = t->row->name;
	int ret = table_meet(t, c);

	if (!ret && adopt && table_is_kernel(t))
		ret = owner_adopt(t, c, &c->err);
	else if (!ret && !adopt && table_is_xtjit(t))
		ret = owner_release(t, c, &c->err);
	if (ret)
		fprintf(out, "%s %s: stays as it is: %s\n", f, name,
			c->err.text[0] ? c->err.text : strerror(-ret));
	else
		fprintf(out, "%s %s: %s\n", f, name, table_is_xtjit(t) ? "xtjit" : "kernel");
	return ret;
}

static int check_move(struct call *c, const char *name, bool adopt)
{
	if (module_is_open())
		return xt_fail(&c->err, -EOPNOTSUPP,
			       "the module has the place of the kernel's ip_tables: every table is xtjit's");
	if (*name && !xt_table_row(&xt_family_ip, name))
		return xt_fail(&c->err, -ENOENT, "there is no table \"%.32s\"", name);
	if (adopt && !strcmp(name, "nat"))
		return xt_fail(&c->err, -EOPNOTSUPP,
			       "nat: address translation is done by the kernel's own table");
	return 0;
}

/* All of them are tried; the first error is the reply's. */
static int op_move(struct call *c, const struct xt_family *only, bool adopt)
{
	const char *name = c->payload;
	char *text = NULL;
	struct space *s;
	size_t len = 0;
	FILE *out;
	int ret = check_move(c, name, adopt), err;
	struct xt_err first = {};

	if (ret)
		return ret;
	s = space_get(c->netns, c->cookie, &c->err);
	out = s ? open_memstream(&text, &len) : NULL;
	if (!out)
		return c->err.err ?: -ENOMEM;
	for (int f = 0; f < 2; f++) {
		for (int i = 0; i < XT_TABLES; i++) {
			struct table *t = &s->tables[f][i];

			if ((only && only != t->family) || !concerned(t, adopt) ||
			    (*name && strcmp(t->row->name, name)))
				continue;
			memset(&c->err, 0, sizeof(c->err));
			err = move_table(c, t, adopt, out);
			if (err && !ret) {
				ret = err;
				first = c->err;
			}
		}
	}
	fclose(out);
	c->err = first;
	c->out = text;
	c->out_len = len;
	return ret;
}

/*
 * EARLY
 */

static int op_early(struct call *c)
{
	struct space *s;

	if (!module_is_open())
		return xt_fail(&c->err, -EOPNOTSUPP,
			       "without the module, each command says it: xtjit run --early=... -- COMMAND");
	s = space_get(c->netns, c->cookie, &c->err);
	if (!s)
		return c->err.err;
	set_early(s, c->req.early ?: helper.early);
	return 0;
}

/*
 * Dispatch
 */

static int op_text(struct call *c, const struct xt_family *f)
{
	struct space *s = space_find(c->cookie);
	size_t len = 0;
	char *text = NULL;
	FILE *out = open_memstream(&text, &len);
	int ret;

	if (!out)
		return -ENOMEM;
	if (s)
		early_settle(s);
	if (c->req.op == XTJIT_OP_STATUS)
		ret = status_text(c->cookie, f, out);
	else
		ret = status_dump(c->cookie, f, c->payload, c->req.len, out, &c->err);
	fclose(out);
	c->out = text;
	c->out_len = len;
	return ret;
}

static int dispatch(struct call *c, const struct xt_family *f)
{
	switch (c->req.op) {
	case XTJIT_OP_SET:
		return f ? op_set(c, f) : -EINVAL;
	case XTJIT_OP_GET:
		return f ? op_get(c, f) : -EINVAL;
	case XTJIT_OP_PROC:
		return f ? op_proc(c, f) : -EINVAL;
	case XTJIT_OP_STATUS:
	case XTJIT_OP_DUMP:
		return op_text(c, f);
	case XTJIT_OP_ADOPT:
		return op_move(c, f, true);
	case XTJIT_OP_RELEASE:
		return op_move(c, f, false);
	case XTJIT_OP_EARLY:
		return op_early(c);
	case XTJIT_OP_ENTRIES:
		return f ? op_entries(c, f) : -EINVAL;
	}
	return xt_fail(&c->err, -EOPNOTSUPP, "unknown operation %u", c->req.op);
}

/* As do_ipt_set_ctl() and do_ipt_get_ctl() ask; the module has asked already. */
static int check_peer(struct call *c)
{
	int ret;

	switch (c->req.op) {
	case XTJIT_OP_PROC:
	case XTJIT_OP_STATUS:
	case XTJIT_OP_DUMP:
		return 0;
	}
	ret = c->device ? 1 : users_may(c->peer);
	if (ret < 0)
		return xt_fail(&c->err, -EPERM, "what you may do cannot be seen from the helper: %s",
			       strerror(-ret));
	return ret ? 0 : -EPERM;
}

/* What is open keeps its inode. */
static bool same_file(int a, int b)
{
	struct stat x, y;

	return a >= 0 && !fstat(a, &x) && !fstat(b, &y) && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* c->cookie, and into the namespace. */
static int enter(struct call *c)
{
	int ret = netns_enter(c->netns);

	if (ret)
		return ret;
	if (c->last_cookie && same_file(c->last, c->netns)) {
		c->cookie = c->last_cookie;
		return 0;
	}
	ret = netns_cookie(&c->cookie);
	if (ret)
		netns_leave();
	return ret;
}

int serve(struct call *c)
{
	const struct xt_family *f = xt_family_by_proto(c->req.family);
	int ret;

	helper.requests++;
	if (c->req.family && !f)
		return -EINVAL;
	ret = enter(c);
	if (ret)
		return xt_fail(&c->err, ret, "network namespace: %s", strerror(-ret));
	ret = check_peer(c) ?: dispatch(c, f);
	netns_leave();
	return ret > 0 ? -EIO : ret;
}
