// SPDX-License-Identifier: GPL-2.0
/*
 * BPF links at the hooks: an entry program, and behind it a program array whose
 * one slot is the ruleset in force.  The kernel's ip_tables may be there, too.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "attach.h"
#include "backend.h"
#include "helper.h"
#include "kernel_xt.h"
#include "nfct.h"
#include "owner.h"

/* struct bpf_link_info of a netfilter link, newer than our headers. */
struct nf_link_info {
	__u32 type, id, prog_id, pad;
	__u32 pf, hooknum;
	__s32 priority;
	__u32 flags;
	__u32 rest[24];
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

int table_links(const struct table *t)
{
	int n = 0;

	for (int i = 0; i < XT_HOOKS; i++)
		n += t->link[i] >= 0;
	return n;
}

static int link_hook(struct table *t, int prog, int hook, struct xt_err *err)
{
	char name[16];
	int ret;

	t->link[hook] = attach_nf(prog, t->family->nfproto, hook, t->row->prio[hook],
				  &t->prio[hook], err);
	if (t->link[hook] < 0)
		return t->link[hook];
	snprintf(name, sizeof(name), "link-%d", hook);
	ret = state_pin(t->link[hook], t->dir, name);
	if (ret)
		xt_fail(err, ret, "pin of the link at %s: %s", xt_hook_name[hook], strerror(-ret));
	return ret;
}

int table_link(struct table *t, struct xt_err *err)
{
	int prog = -1, ret = 0;

	for (int i = 0; i < XT_HOOKS && !ret; i++) {
		if (!(t->row->valid_hooks & (1 << i)) || t->link[i] >= 0)
			continue;
		if (prog < 0)
			prog = gate_entry_prog(t->mem.fd, t->seen, t->slot, err);
		ret = prog < 0 ? prog : link_hook(t, prog, i, err);
	}
	close_fd(&prog);
	return ret;
}

void table_unlink(struct table *t)
{
	char name[16];

	for (int i = 0; i < XT_HOOKS; i++) {
		if (t->link[i] < 0)
			continue;
		snprintf(name, sizeof(name), "link-%d", i);
		state_unpin(t->dir, name);
		close_fd(&t->link[i]);
	}
}

int table_make_core(struct table *t, struct xt_err *err)
{
	int ret;

	if (t->slot >= 0)
		return 0;
	t->seen = gate_seen_create(err);
	if (t->seen < 0)
		return t->seen;
	t->slot = bpf_map_create(BPF_MAP_TYPE_PROG_ARRAY, "xtjit_slot", 4, 4, 1, NULL);
	if (t->slot < 0) {
		ret = xt_fail(err, t->slot, "program array: %s", strerror(-t->slot));
		goto out;
	}
	ret = state_pin(t->seen, t->dir, "seen");
	if (!ret)
		ret = state_pin(t->slot, t->dir, "slot");
	if (ret)
		xt_fail(err, ret, "pin below %s: %s", t->dir, strerror(-ret));
out:
	if (ret) {
		close_fd(&t->slot);
		close_fd(&t->seen);
	}
	return ret;
}

/*
 * First use
 */

static int meet_nat(struct table *t, struct xt_err *err)
{
	struct kxt_table k;
	int ret;

	ret = kxt_read(t->family, t->row->name, &k);
	if (ret)
		return xt_fail(err, ret == -ENOPROTOOPT ? -ENOENT : ret,
			       "%s nat: is the kernel's own, and this kernel has none",
			       t->family->name);
	kxt_free(&k);
	ret = table_make_words(t, GATE_KERNEL, WHY_NAT,
			       "address translation is done by the kernel's own table", err);
	if (!ret)
		owner_nat_came(t->space, t->family);
	return ret;
}

static bool kernel_has_rules(const struct table *t)
{
	struct kxt_table k;
	bool ret;

	if (!kxt_listed(t->family, t->row->name) || kxt_read(t->family, t->row->name, &k))
		return false;
	ret = !kxt_untouched(t->family, &k);
	kxt_free(&k);
	return ret;
}

static int link_meet(struct table *t, struct call *c)
{
	char text[640];
	int ret;

	if (!strcmp(t->row->name, "nat"))
		return meet_nat(t, &c->err);
	if (kernel_has_rules(t))
		return table_make_words(t, GATE_KERNEL, WHY_RULES,
					"had rules in the kernel's ip_tables before", &c->err);
	ret = table_begin(t, &c->err);
	if (!ret || !kxt_present(t->family) || !owner_may_fall_back(t, c))
		return ret;
	snprintf(text, sizeof(text), "%s", c->err.text);
	xt_log("%s %s: left to the kernel's ip_tables: %s", t->family->name, t->row->name, text);
	memset(&c->err, 0, sizeof(c->err));
	return table_make_words(t, GATE_KERNEL, WHY_UNCOMPILED, text, &c->err);
}

static int link_put(struct table *t, struct gen *g, struct xt_err *err)
{
	__u32 zero = 0;
	int ret = bpf_map_update_elem(t->slot, &zero, &g->prog, BPF_ANY);

	return ret ? xt_fail(err, ret, "program array: %s", strerror(-ret)) : 0;
}

static int link_change(struct table *t, struct gen *g, struct xt_err *err)
{
	(void)err;
	__atomic_store_n(&t->w->changed, g->number, __ATOMIC_SEQ_CST);
	return 0;
}

/*
 * Recovery
 */

static void reopen_links(struct table *t)
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

static void link_reopen(struct table *t)
{
	t->seen = state_get(t->dir, "seen");
	t->slot = state_get(t->dir, "slot");
	if (t->seen < 0 || t->slot < 0) {
		close_fd(&t->seen);
		close_fd(&t->slot);
	}
	reopen_links(t);
}

static int link_in_force(const struct table *t, struct gen *g)
{
	__u32 zero = 0, id;

	if (t->slot < 0 || bpf_map_lookup_elem(t->slot, &zero, &id) || id != g->prog_id)
		return 0;
	/* several may have the same program */
	return g->in_place ? g->number == t->w->changed : g->number > t->w->changed;
}

static int link_conntrack(const struct xt_family *f, bool on, struct xt_err *err)
{
	if (on)
		return nfct_enable(f->nfproto, err);
	nfct_disable(f->nfproto);
	return 0;
}

static bool link_hooked(const struct table *t, int hook, int *prio)
{
	*prio = t->prio[hook];
	return t->link[hook] >= 0;
}

const struct backend backend_link = {
	.name = "BPF links at the hooks",
	.compile = compile_exact,
	.meet = link_meet,
	.prepare = table_make_core,
	.attach = table_link,
	.put = link_put,
	.change = link_change,
	.reopen = link_reopen,
	.in_force = link_in_force,
	.conntrack = link_conntrack,
	.hooked = link_hooked,
};
