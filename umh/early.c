// SPDX-License-Identifier: GPL-2.0
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "early_priv.h"
#include "ext.h"
#include "helper.h"
#include "kernel_xt.h"

static const char *const array_names[EARLY_FLAVORS] = {
	[EARLY_XDP] = "early-xdp",
	[EARLY_TC] = "early-tc",
};

#define BURST_NS	(100 * 1000000ull)	/* from change to change, at most */
#define QUIET_NS	(20 * 1000000ull)
#define LATEST_NS	(200 * 1000000ull)	/* of what is left for later, if it is never quiet */

static int family_index(const struct xt_family *f)
{
	return f == space_families[1];
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/*
 * Programs
 */

/* A table on the path, and what it took to get it there. */
struct path {
	struct early_table t[XT_TABLES];
	struct ir_table own[XT_TABLES];	/* lowered, or trimmed, for this path only */
	bool lowered[XT_TABLES];
	int n;
};

static void path_free(struct path *p)
{
	for (int i = 0; i < p->n; i++)
		if (p->lowered[i])
			ir_table_free(&p->own[i]);
}

/* What comes after nat's PREROUTING is behind a table that cannot be walked: mangle ends there. */
static void path_end_at_routing(struct path *p)
{
	for (int i = 0; i < p->n; i++) {
		p->own[i] = *p->t[i].ir;
		p->own[i].base_chain[NF_INET_LOCAL_IN] = -1;
		p->own[i].base_chain[NF_INET_FORWARD] = -1;
		p->t[i].ir = &p->own[i];
	}
}

/* One of the kernel's, for mode eager; false if its rules cannot be told. */
static bool path_add_kernel(struct path *p, const struct xt_family *f, const char *name)
{
	struct ir_table *ir = &p->own[p->n];
	struct xt_ruleset rs;
	struct kxt_table k;
	bool ok = false;

	if (kxt_read(f, name, &k))
		return false;
	if (!xt_ruleset_decode(&rs, f, &k.h, k.entries, NULL)) {
		ok = !ext_lower(&rs, NULL, ir, NULL);
		xt_ruleset_free(&rs);
	}
	kxt_free(&k);
	if (!ok)
		return false;
	p->lowered[p->n] = true;
	p->t[p->n++] = (struct early_table){ .ir = ir };
	return true;
}

/* False: the path ends before this table. */
static bool path_add(struct path *p, struct early *e, const struct xt_family *f, int i,
		     const struct table *changed, const struct gen *next,
		     const struct early_basis *b)
{
	const struct table *t = space_table(e->s, f, early_order[i]);
	const struct gen *g = t == changed ? next : t->cur;
	bool nat = !strcmp(early_order[i], "nat");

	if (b->apart & (1 << i)) {
		if (e->s->w->early != XTJIT_EARLY_EAGER) {
			if (nat)
				path_end_at_routing(p);
			return false;
		}
		/* what it translates is facts.nat; it does nothing else */
		return nat || path_add_kernel(p, f, early_order[i]);
	}
	if (t != changed && !table_is_xtjit(t))
		return true;
	if (!g || !g->decoded)
		return false;
	p->t[p->n++] = (struct early_table){ .ir = &g->grouped, .maps = &g->maps };
	return true;
}

static int compile(struct early *e, enum early_flavor flavor, const struct xt_family *f,
		   const struct path *p, const struct early_basis *b, FILE *listing,
		   struct xt_err *err)
{
	struct compile_env env = {
		.netns = e->s->cookie, .ring = helper.ring, .self = helper.self,
		.drops = space_drops(e->s), .listing = listing,
	};
	struct early_facts facts = b->facts;

	facts.local = b->local;
	return p->n ? compile_early(flavor, f, p->t, p->n, &facts, &env, err) : -ENOENT;
}

static void build(struct early *e, const struct xt_family *f, const struct table *t,
		  const struct gen *g, struct early_progs *progs)
{
	int fi = family_index(f);
	struct early_basis *b = &e->basis[fi];
	struct path p = {};

	early_basis_get(e, fi, g ? t : NULL, g, b);
	for (int i = 0; i < XT_TABLES; i++)
		if (!path_add(&p, e, f, i, g ? t : NULL, g, b))
			break;
	e->note[fi][0] = '\0';
	for (int i = 0; i < EARLY_FLAVORS; i++) {
		struct xt_err err = {};
		int fd;

		if (!b->need[i])
			continue;
		fd = compile(e, i, f, &p, b, NULL, &err);
		if (fd < 0 && fd != -ENOENT)
			xt_log("early stage of %s: %s", f->name, err.text);
		if (fd < 0)
			snprintf(e->note[fi], sizeof(e->note[fi]), "%s", fd == -ENOENT ?
				 "nothing that it could drop" : err.text);
		progs->prog[i] = fd < 0 ? -1 : fd;
	}
	path_free(&p);
}

static void set_slot(struct early *e, int flavor, __u32 slot, int prog)
{
	int ret = -ENOENT;

	if (prog >= 0)
		ret = bpf_map_update_elem(e->array[flavor], &slot, &prog, BPF_ANY);
	if (ret)
		bpf_map_delete_elem(e->array[flavor], &slot);
}

/*
 * Slots are never emptied in passing: removing a program from under a direct
 * tail call takes a grace period.
 */
void early_stop(struct space *s, const struct xt_family *f)
{
	struct early *e = s->early;
	int fi = family_index(f);

	for (int i = 0; e && !e->stopped[fi] && i < EARLY_FLAVORS; i++)
		if (e->has[fi][i])
			set_slot(e, i, fi, e->pass[i]);
	if (e)
		e->stopped[fi] = true;
}

static void start(struct early *e, int fi, struct early_progs *p)
{
	for (int i = 0; i < EARLY_FLAVORS; i++) {
		bool has = p->prog[i] >= 0;

		if (has || e->has[fi][i])
			set_slot(e, i, fi, has ? p->prog[i] : e->pass[i]);
		e->has[fi][i] = has;
		close_fd(&p->prog[i]);
	}
	e->stopped[fi] = e->due[fi] = false;
}

/*
 * Life
 */

static struct early_progs no_progs(void)
{
	return (struct early_progs){ .prog = { -1, -1 } };
}

static bool wanted(const struct space *s)
{
	if (s->w->early == XTJIT_EARLY_OFF || s->w->foreign)
		return false;
	for (int f = 0; f < 2; f++)
		for (int i = 0; i < XT_TABLES; i++)
			if (table_is_xtjit(&s->tables[f][i]))
				return true;
	return false;
}

/* A program that lets every packet pass: an entry program whose slots are empty. */
static int pass_prog(enum early_flavor flavor, struct xt_err *err)
{
	int empty = bpf_map_create(BPF_MAP_TYPE_PROG_ARRAY, "xtjit_none", 4, 4, 2, NULL);
	int prog;

	if (empty < 0)
		return xt_fail(err, empty, "program array: %s", strerror(-empty));
	prog = compile_entry_early(flavor, empty, err);
	close(empty);
	return prog;
}

static int open_array(struct early *e, int flavor, struct xt_err *err)
{
	int fd = state_get(e->s->dir, array_names[flavor]);
	int ret;

	if (fd < 0) {
		fd = bpf_map_create(BPF_MAP_TYPE_PROG_ARRAY, "xtjit_early", 4, 4, 2, NULL);
		if (fd < 0)
			return xt_fail(err, fd, "program array: %s", strerror(-fd));
		ret = state_pin(fd, e->s->dir, array_names[flavor]);
		if (ret) {
			close(fd);
			return xt_fail(err, ret, "pin below %s: %s", e->s->dir, strerror(-ret));
		}
	}
	e->array[flavor] = fd;
	e->entry[flavor] = compile_entry_early(flavor, fd, err);
	if (e->entry[flavor] < 0)
		return e->entry[flavor];
	e->pass[flavor] = pass_prog(flavor, err);
	return e->pass[flavor] < 0 ? e->pass[flavor] : 0;
}

void early_check(struct early *e)
{
	struct early_basis b;

	for (int f = 0; f < 2; f++) {
		early_basis_get(e, f, NULL, NULL, &b);
		if (memcmp(&b, &e->basis[f], sizeof(b))) {
			early_refresh(e->s);
			return;
		}
	}
	if (early_devices_sync(e))
		early_refresh(e->s);
}

static struct early *early_open(struct space *s)
{
	struct early *e = calloc(1, sizeof(*e));
	struct xt_err err = {};
	int ret = 0;

	if (!e)
		return NULL;
	e->s = s;
	for (int i = 0; i < EARLY_FLAVORS; i++)
		e->array[i] = e->entry[i] = e->pass[i] = -1;
	s->early = e;
	for (int i = 0; i < EARLY_FLAVORS && !ret; i++)
		ret = open_array(e, i, &err);
	if (!ret)
		e->nd = netdevs_open(&err);
	if (e->nd)
		return e;
	xt_log("namespace %llx: no early stage: %s", s->cookie, err.text);
	early_close(s, false);
	return NULL;
}

static void remove_pin(const char *dir, const char *name, void *arg)
{
	(void)arg;
	if (!strncmp(name, "early-", 6) || !strncmp(name, "xdp-", 4))
		state_unpin(dir, name);
}

void early_close(struct space *s, bool drop)
{
	struct early *e = s->early;

	s->early = NULL;
	if (e) {
		early_devices_close(e, false);
		for (int i = 0; i < EARLY_FLAVORS; i++) {
			close_fd(&e->array[i]);
			close_fd(&e->entry[i]);
			close_fd(&e->pass[i]);
		}
		if (e->nd)
			netdevs_close(e->nd);
		free(e);
	}
	if (drop)
		state_each(s->dir, remove_pin, NULL);
}

void early_unpin(const char *dir)
{
	for (int i = 0; i < EARLY_FLAVORS; i++) {
		int fd = state_get(dir, array_names[i]);

		for (__u32 slot = 0; fd >= 0 && slot < 2; slot++)
			bpf_map_delete_elem(fd, &slot);
		if (fd >= 0)
			close(fd);
	}
	state_each(dir, remove_pin, NULL);
}

void early_remove(struct space *s)
{
	if (s->early)
		early_devices_close(s->early, true);
	early_close(s, true);
}

bool early_runs(const struct space *s, const struct xt_family *f)
{
	const struct early *e = s->early;

	for (int i = 0; e && i < EARLY_FLAVORS; i++)
		if (e->has[family_index(f)][i])
			return true;
	return false;
}

void early_build(struct space *s, const struct xt_family *f, const struct table *t,
		 const struct gen *g, struct early_progs *p)
{
	*p = no_progs();
	if (s->w->early == XTJIT_EARLY_OFF || s->w->foreign || (!s->early && !early_open(s)))
		return;
	p->later = now_ns() - s->early->changed < BURST_NS;
	if (p->later)
		return;
	netdevs_update(s->early->nd);
	build(s->early, f, t, g, p);
}

/* In a script's course each of its rulesets is there for some milliseconds only. */
static void leave_due(struct early *e, int fi)
{
	__u64 now = now_ns(), latest;

	if (!e->due[0] && !e->due[1])
		e->due_since = now;
	e->due[fi] = true;
	latest = e->due_since + LATEST_NS;
	early_settle_in(latest <= now ? 1 : latest - now < QUIET_NS ? latest - now : QUIET_NS);
}

void early_start(struct space *s, const struct xt_family *f, struct early_progs *p)
{
	if (!s->early)
		return;
	if (p->later || p->prog[EARLY_XDP] >= 0 || p->prog[EARLY_TC] >= 0)
		s->early->changed = now_ns();
	if (p->later) {
		leave_due(s->early, family_index(f));
		return;
	}
	start(s->early, family_index(f), p);
	if (early_devices_sync(s->early))
		early_refresh(s);
}

void early_settle(struct space *s)
{
	struct early *e = s->early;
	struct early_progs p;

	if (!e || (!e->due[0] && !e->due[1]))
		return;
	netdevs_update(e->nd);
	for (int i = 0; i < 2; i++) {
		if (!e->due[i])
			continue;
		p = no_progs();
		build(e, space_families[i], NULL, NULL, &p);
		start(e, i, &p);
	}
	if (early_devices_sync(e))
		early_refresh(s);
}

void early_refresh(struct space *s)
{
	struct early_progs p;

	if (!wanted(s)) {
		if (s->early)
			early_remove(s);
		return;
	}
	if (!s->early && !early_open(s))
		return;
	do {
		netdevs_update(s->early->nd);
		for (int i = 0; i < 2; i++) {
			p = no_progs();
			build(s->early, space_families[i], NULL, NULL, &p);
			start(s->early, i, &p);
		}
	} while (early_devices_sync(s->early));
}

void early_changed(struct space *s)
{
	if (s->early)
		early_check(s->early);
}

void early_tick(struct space *s)
{
	for (int f = 0; !kxt_is_absent() && s->early && f < 2; f++)
		if (early_apart(s->early, f, NULL) != s->early->basis[f].apart)
			early_refresh(s);
	if (s->early)
		early_rest_tick(s->early);
}

void early_recover(struct space *s)
{
	if (!wanted(s) && !state_exists(s->dir, array_names[0]))
		return;
	if (!early_open(s))
		return;
	early_devices_recover(s->early);
	memset(s->early->has, true, sizeof(s->early->has));	/* whatever is in the slots */
	early_refresh(s);
}

/*
 * Texts
 */

void early_status(struct space *s, FILE *out)
{
	static const char *const modes[] = {
		[ATTACH_NONE] = "none",
		[ATTACH_XDP] = "XDP",
		[ATTACH_TC] = "TC",
	};
	struct early *e = s->early;

	for (int f = 0; e && f < 2; f++)
		fprintf(out, "early %s: %s\n", space_families[f]->name,
			e->has[f][EARLY_XDP] || e->has[f][EARLY_TC] ? "drops" :
			e->note[f][0] ? e->note[f] : "no device to run on");
	for (int i = 0; e && i < e->ndevs; i++)
		if (e->devs[i].rest.on)
			early_rest_status(&e->devs[i], out);
		else if (e->devs[i].mode != ATTACH_NONE)
			fprintf(out, "early %s: %s\n", e->devs[i].name, modes[e->devs[i].mode]);
}

int early_listing(struct space *s, const struct xt_family *f, FILE *out, struct xt_err *err)
{
	struct early *e = s->early;
	struct early_basis b;
	struct path p = {};
	int ret = 0;

	if (!e)
		return xt_fail(err, -ENOENT, "the early stage is off");
	early_basis_get(e, family_index(f), NULL, NULL, &b);
	for (int i = 0; i < XT_TABLES; i++)
		if (!path_add(&p, e, f, i, NULL, NULL, &b))
			break;
	for (int i = 0; i < EARLY_FLAVORS && !ret; i++) {
		int fd;

		if (!b.need[i])
			continue;
		fd = compile(e, i, f, &p, &b, out, err);
		if (fd >= 0)
			close(fd);
		else if (fd != -ENOENT)
			ret = fd;
	}
	path_free(&p);
	return ret;
}
