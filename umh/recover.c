// SPDX-License-Identifier: GPL-2.0
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "early.h"
#include "helper.h"
#include "owner.h"
#include "recover.h"

/* struct bpf_link_info of a netfilter link, newer than our headers. */
struct nf_link_info {
	__u32 type, id, prog_id, pad;
	__u32 pf, hooknum;
	__s32 priority;
	__u32 flags;
	__u32 rest[24];
};

static void open_links(struct table *t)
{
	struct nf_link_info info;
	char name[16];
	__u32 len;

	for (int i = 0; i < XT_HOOKS; i++) {
		if (!(t->row->valid_hooks & (1 << i)))
			continue;
		snprintf(name, sizeof(name), "link-%d", i);
		t->link[i] = state_get(t->dir, name);
		if (t->link[i] < 0) {
			t->link[i] = -1;
			continue;
		}
		memset(&info, 0, sizeof(info));
		len = sizeof(info);
		if (!bpf_obj_get_info_by_fd(t->link[i], &info, &len))
			t->prio[i] = info.priority;
	}
}

struct gen_scan {
	struct table *t;
	__u32 in_force;		/* program id */
	struct gen *last;	/* the newest that is not in force */
};

/* A slot says which is in force; the one before it is kept, others are half made or old. */
static void scan_gen(const char *dir, const char *name, void *arg)
{
	struct gen_scan *s = arg;
	char path[PIN_DIR_MAX];
	struct gen *g;

	if (strncmp(name, "gen-", 4))
		return;
	if (gen_open(&g, dir, name)) {
		state_path(path, dir, "%s", name);
		state_remove(path);
		return;
	}
	if (s->in_force && g->prog_id == s->in_force && !s->t->cur) {
		s->t->cur = g;
		return;
	}
	if (!s->last || g->number > s->last->number) {
		struct gen *old = s->last;

		s->last = g;
		g = old;
	}
	gen_drop(g);
}

static void open_gens(struct table *t)
{
	struct gen_scan s = { .t = t };
	__u32 zero = 0;

	if (t->slot >= 0 && bpf_map_lookup_elem(t->slot, &zero, &s.in_force))
		s.in_force = 0;
	state_each(t->dir, scan_gen, &s);
	if (t->cur && s.last && s.last->number == t->cur->prev)
		t->prev = s.last;
	else
		gen_drop(s.last);
}

static int open_core(struct table *t)
{
	t->seen = state_get(t->dir, "seen");
	t->slot = state_get(t->dir, "slot");
	if (t->seen >= 0 && t->slot >= 0)
		return 0;
	if (t->seen >= 0)
		close(t->seen);
	if (t->slot >= 0)
		close(t->slot);
	t->seen = t->slot = -1;
	return -ENOENT;
}

int table_recover(struct table *t)
{
	struct xt_err err = {};
	int ret;

	ret = pmem_open(&t->mem, t->dir, "words", sizeof(*t->w));
	if (ret)
		return ret;
	t->w = t->mem.p;
	if (!open_core(t))
		open_gens(t);
	open_links(t);
	/* a table that had no ruleset in force yet was never answered for */
	if (t->w->gate == GATE_XTJIT && !t->cur)
		return -ENOENT;
	if (t->cur && t->w->gate != GATE_KERNEL) {
		ret = gen_decode_again(t->cur, t->family, &err);
		if (ret)
			xt_log("%s: stays in force as it is, but cannot be read: %s", t->dir,
			       err.text);
	}
	if (t->cur && t->cur->number > t->w->last_gen)
		t->w->last_gen = t->cur->number;
	return 0;
}

static void relink(struct table *t)
{
	struct xt_err err = {};

	if (table_is_xtjit(t) && table_link(t, &err))
		xt_log("%s: %s", t->dir, err.text);
}

void recover_space(struct space *s)
{
	struct xt_err err = {};
	bool any = false;

	for (int f = 0; f < 2; f++) {
		for (int i = 0; i < XT_TABLES; i++) {
			struct table *t = &s->tables[f][i];

			if (!state_exists(t->dir, "."))
				continue;
			if (table_recover(t)) {
				table_close(t, true);
				continue;
			}
			any = true;
			owner_recover(t);
			relink(t);
		}
		s->conntrack[f] = any;		/* or not: the call below settles it */
		if (any && space_conntrack(s, space_families[f], NULL, &err))
			xt_log("%s: %s", s->dir, err.text);
	}
	early_recover(s);
	if (any)
		helper.recovered++;
}
