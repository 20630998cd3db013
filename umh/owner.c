// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "early.h"
#include "grace.h"
#include "helper.h"
#include "journal.h"
#include "kernel_xt.h"
#include "owner.h"
#include "space.h"

/* A move that is going on. */
struct move {
	struct table *t;
	struct pmem mem;
	struct journal *j;	/* in mem */
	struct gated gd;	/* gd.entries: NULL if there are no gates */
	char gate[PIN_DIR_MAX];	/* path of the rule's program */
};

/* The kernel's table must come first at every hook. */
static bool kernel_is_first(const struct table *t)
{
	for (int i = 0; i < XT_HOOKS; i++)
		if (t->link[i] >= 0 && t->prio[i] < t->row->prio[i])
			return false;
	return true;
}

/* Without gates, both enforce for a moment. */
static void make_gates(struct move *m, const struct xt_replace_hdr *h, const void *entries)
{
	struct xt_err err = {};
	int prog;

	m->gd.entries = NULL;
	m->gd.ngates = 0;
	if (!kernel_is_first(m->t))
		return;
	prog = gate_rule_prog(m->t->mem.fd, m->t->seen, &err);
	if (prog < 0 || state_pin(prog, m->t->dir, "gate"))
		xt_log("%s: no gate: %s", m->t->dir, err.text);
	else
		gate_insert(&m->gd, m->t->family, h, entries, m->gate);
	if (prog >= 0)
		close(prog);
}

static void move_init(struct move *m, struct table *t)
{
	memset(m, 0, sizeof(*m));
	m->t = t;
	m->mem = (struct pmem)PMEM_NONE;
	state_path(m->gate, t->dir, "gate");
}

static void move_end(struct move *m)
{
	if (m->j)
		m->j->active = 0;
	pmem_close(&m->mem);
	free(m->gd.entries);
	m->gd.entries = NULL;
	gate_seen_clear(m->t->seen);
	state_unpin(m->t->dir, "gate");
}

static int move_begin(struct move *m, enum journal_kind kind, __u64 id, __u32 na, __u32 n,
		      struct xt_err *err)
{
	__u32 ngates = m->gd.ngates;
	int ret = journal_begin(m->t, kind, id, na, n + ngates, &m->mem, err);

	if (ret)
		return ret;
	m->j = m->mem.p;
	m->j->ngates = ngates;
	memcpy(m->j->at, m->gd.at, sizeof(m->j->at));
	m->j->active = 1;
	return 0;
}

static void set_gate(struct table *t, enum gate_state to)
{
	__atomic_store_n(&t->w->gate, to, __ATOMIC_SEQ_CST);
}

/* From now on, the other one does all packets; those under way are done when it returns. */
static void pass_gate(struct table *t, enum gate_state moving, enum gate_state final, bool gated)
{
	set_gate(t, gated ? moving : final);
	grace();
	set_gate(t, final);
}

/* Replaces the kernel's table, which has @n entries; counters to @to, or nowhere. */
static int replace_kernel(const struct table *t, const struct xt_replace_hdr *h,
			  const void *entries, __u32 n, struct xt_counters *to)
{
	struct xt_counters *scratch = to ? NULL : calloc(n, sizeof(*scratch));
	struct xt_replace_hdr hdr = *h;
	int ret = -ENOMEM;

	hdr.num_counters = n;
	if (to || scratch)
		ret = kxt_replace(t->family, &hdr, entries, to ?: scratch);
	free(scratch);
	return ret;
}

/* The kernel's table as it is when it has never been used; its old counters to the journal. */
static int empty_kernel(struct move *m)
{
	struct table *t = m->t;
	struct xt_replace_hdr h;
	struct kxt_table k;
	void *blob;
	int ret;

	ret = kxt_read(t->family, t->row->name, &k);
	if (ret)
		return ret;
	blob = xt_initial_blob(t->family, t->row, &h);
	ret = blob ? 0 : -ENOMEM;
	if (!ret)
		ret = replace_kernel(t, &h, blob, k.h.num_entries,
				     m->j && m->j->nb == k.h.num_entries ? journal_b(m->j) : NULL);
	kxt_free(&k);
	free(blob);
	return ret;
}

/* The counters of the journal to the kernel's table, once. */
static int add_to_kernel(struct move *m, bool sure)
{
	struct journal *j = m->j;
	__u32 n = j->nb - j->ngates;
	struct xt_counters *sum = journal_sum(j);
	int ret = 0;

	if (!sum)
		return -ENOMEM;
	if (sure || !owner_kernel_has(m->t, sum, n))
		ret = kxt_add_counters(m->t->family, m->t->row->name, sum, n);
	if (!ret)
		j->added = 1;
	free(sum);
	return ret;
}

/* Takes the gates out of the kernel's table again, and keeps its counters. */
static int remove_gates(struct move *m)
{
	const struct xt_family *f = m->t->family;
	struct kxt_table k;
	struct gated gd;
	__u32 n;
	int ret;

	ret = kxt_read(f, m->t->row->name, &k);
	if (ret)
		return ret;
	n = k.h.num_entries;
	ret = gate_remove(&gd, f, &k.h, k.entries, m->gate);
	if (!ret && gd.ngates && n == m->j->nb)
		ret = replace_kernel(m->t, &k.h, k.entries, n, journal_b(m->j));
	kxt_free(&k);
	if (!ret && !m->j->added)
		ret = add_to_kernel(m, gd.ngates);
	return ret;
}

static void forget_programs(struct table *t)
{
	table_unlink(t);
	table_drop_prev(t);
	if (t->cur)
		gen_strip(t->cur);
}

/* The kernel has it; what remains is to clear up. */
static void given(struct move *m, struct xt_counters *old)
{
	struct table *t = m->t;
	int ret;

	if (m->j->kind == J_RELEASE && m->j->na == t->cur->ncounters)
		memcpy(journal_a(m->j), old, m->j->na * sizeof(*old));
	ret = remove_gates(m);
	if (ret)
		xt_log("%s: the gates cannot be taken out: %s", t->dir, strerror(-ret));
	forget_programs(t);
	move_end(m);
	early_refresh(t->space);
	space_conntrack(t->space, t->family, NULL, NULL);
	helper.handed_over++;
	xt_log("%s %s: the kernel's: %s", t->family->name, t->row->name, t->w->text);
}

/* The new ruleset into the kernel's table, if possible behind gates. */
static int fill_kernel(struct move *m, const struct xt_replace_hdr *h, const void *entries,
		       __u32 n)
{
	struct journal *j = m->j;
	int ret;

	if (m->gd.entries) {
		ret = replace_kernel(m->t, &m->gd.h, m->gd.entries, n, NULL);
		if (!ret)
			return 0;
		j->nb -= j->ngates;
		j->ngates = m->gd.ngates = 0;
	}
	return replace_kernel(m->t, h, entries, n, NULL);
}

int owner_give(struct table *t, const struct xt_replace_hdr *h, const void *entries,
	       enum why why, const char *text, bool carry, __u64 id,
	       struct xt_counters **old, struct xt_err *err)
{
	struct kxt_table k;
	struct move m;
	int ret;

	*old = calloc(t->cur->ncounters, sizeof(**old));
	if (!*old)
		return -ENOMEM;
	move_init(&m, t);
	ret = kxt_read(t->family, t->row->name, &k);
	if (ret) {
		xt_fail(err, ret, "xtjit: %.300s; the kernel has no such table: %s", text,
			strerror(-ret));
		goto fail;
	}
	kxt_free(&k);
	make_gates(&m, h, entries);
	ret = move_begin(&m, carry ? J_RELEASE : J_GIVE, id, carry ? t->cur->ncounters : 0,
			 h->num_entries, err);
	if (ret)
		goto fail;
	ret = fill_kernel(&m, h, entries, k.h.num_entries);
	if (ret) {
		xt_fail(err, ret, "xtjit: %.300s; the kernel's ip_tables refuses it, too: %s",
			text, strerror(-ret));
		goto fail;
	}
	early_stop(t->space, t->family);
	t->w->why = why;
	snprintf(t->w->text, sizeof(t->w->text), "%s", text);
	t->w->move_id = id;
	pass_gate(t, GATE_TO_KERNEL, GATE_KERNEL, m.gd.ngates);
	gen_counters(t->cur, *old);
	given(&m, *old);
	return 0;
fail:
	move_end(&m);
	free(*old);
	*old = NULL;
	return ret;
}

/* Before @g is in force: as if nothing had been tried. */
static void take_failed(struct move *m, struct gen *g)
{
	struct table *t = m->t;

	table_unlink(t);
	if (t->cur == g)
		t->cur = NULL;
	gen_drop(g);
	move_end(m);
	space_conntrack(t->space, t->family, NULL, NULL);
}

/* xtjit has it; the kernel's table still has the rules, behind gates. */
static int taken(struct move *m)
{
	struct table *t = m->t;
	struct xt_counters *sum;
	int ret, lost = 0;

	t->w->why = WHY_NONE;
	t->w->move_id = 0;
	t->w->text[0] = '\0';
	ret = empty_kernel(m);
	if (ret)
		xt_log("%s: the kernel's table cannot be emptied: %s", t->dir, strerror(-ret));
	if (m->j->kind == J_ADOPT && !gen_added(t->cur, m->j->id)) {
		sum = journal_sum(m->j);
		if (sum && m->j->nb - m->j->ngates == t->cur->ncounters)
			lost = gen_add(t->cur, m->j->id, sum);
		free(sum);
		if (lost)
			xt_log("%s: what the kernel's table has counted is not added: %s", t->dir,
			       strerror(-lost));
	}
	xt_log("%s %s: xtjit's", t->family->name, t->row->name);
	return ret;
}

/* All that can fail, up to the point where only the gate has to be passed. */
static int prepare_take(struct move *m, struct gen *g, const struct kxt_table *k, __u64 id,
			bool adopt, struct xt_err *err)
{
	struct table *t = m->t;
	__u32 n = k->h.num_entries;
	int ret;

	ret = table_make_core(t, err);
	if (!ret)
		ret = space_conntrack(t->space, t->family, g, err);
	if (!ret)
		ret = table_stage(t, g, err);
	if (!ret)
		ret = table_flip(t, g, err);
	if (!ret)
		ret = table_link(t, err);
	if (ret)
		return ret;
	make_gates(m, &k->h, k->entries);
	ret = move_begin(m, adopt ? J_ADOPT : J_TAKE, id, n, n, err);
	if (ret || !m->gd.entries)
		return ret;
	if (replace_kernel(t, &m->gd.h, m->gd.entries, n, journal_a(m->j))) {
		m->j->nb -= m->j->ngates;
		m->j->ngates = m->gd.ngates = 0;
	}
	return 0;
}

int owner_take(struct table *t, struct gen *g, __u64 id, bool adopt, struct xt_counters **old,
	       __u32 *n, struct xt_err *err)
{
	struct early_progs early;
	struct kxt_table k;
	struct move m;
	int ret;

	move_init(&m, t);
	ret = kxt_read(t->family, t->row->name, &k);
	if (!ret && k.h.num_entries != g->h.num_counters)
		ret = -EAGAIN;
	else if (!ret && k.h.valid_hooks != g->h.valid_hooks)
		ret = -EINVAL;
	if (!ret)
		ret = prepare_take(&m, g, &k, id, adopt, err);
	kxt_free(&k);
	if (ret) {
		take_failed(&m, g);
		return ret;
	}
	early_build(t->space, t->family, t, g, &early);
	early_stop(t->space, t->family);
	pass_gate(t, GATE_TO_XTJIT, GATE_XTJIT, m.gd.ngates);
	taken(&m);
	*n = m.j->nb - m.j->ngates;
	*old = journal_sum(m.j);
	move_end(&m);
	early_start(t->space, t->family, &early);
	space_conntrack(t->space, t->family, NULL, NULL);
	return *old ? 0 : -ENOMEM;
}

int owner_adopt(struct table *t, struct call *c, struct xt_err *err)
{
	struct xt_counters *old = NULL;
	struct gen *g = NULL;
	struct kxt_table k;
	__u32 n;
	int ret;

	ret = kxt_read(t->family, t->row->name, &k);
	if (ret)
		return xt_fail(err, ret, "%s %s: %s", t->family->name, t->row->name,
			       strerror(-ret));
	if (gen_decode(&g, t->family, &k.h, k.entries, err) ||
	    table_compile(t, g, err)) {
		gen_close(g);
		ret = err->err ?: -EINVAL;
		goto out;
	}
	g->request = c->req.id;
	ret = owner_take(t, g, c->req.id, true, &old, &n, err);
	free(old);
out:
	kxt_free(&k);
	return ret;
}

int owner_release(struct table *t, struct call *c, struct xt_err *err)
{
	struct xt_counters *old;
	int ret;

	if (!t->cur->decoded)
		return xt_fail(err, -EIO, "%s: its rules cannot be read", t->row->name);
	ret = owner_give(t, &t->cur->h, t->cur->rs.blob, WHY_RELEASED,
			 "released by the administrator", true, c->req.id, &old, err);
	if (!ret)
		free(old);
	return ret;
}

void owner_nat_came(struct space *s, const struct xt_family *f)
{
	for (int i = 0; i < XT_TABLES; i++) {
		struct table *t = space_table(s, f, f->tables[i].name);
		struct xt_err why = {}, err = {};
		struct xt_counters *old;

		if (!table_is_xtjit(t) || !t->cur || !gen_nat_conflict(t->cur, &why))
			continue;
		if (owner_give(t, &t->cur->h, t->cur->rs.blob, WHY_UNCOMPILED, why.text, true, 0,
			       &old, &err))
			xt_log("%s %s: stays xtjit's, next to nat: %s", f->name, t->row->name,
			       err.text);
		else
			free(old);
	}
}

void owner_recover(struct table *t)
{
	struct xt_counters *old;
	struct move m;

	move_init(&m, t);
	if (t->w->gate == GATE_TO_KERNEL || t->w->gate == GATE_TO_XTJIT) {
		grace();
		set_gate(t, t->w->gate == GATE_TO_KERNEL ? GATE_KERNEL : GATE_XTJIT);
	}
	m.j = journal_open(t, &m.mem);
	if (!m.j || !m.j->active || !t->cur)
		goto out;
	if (table_is_xtjit(t)) {
		t->w->why = WHY_NONE;
		taken(&m);
		move_end(&m);
		return;
	}
	old = calloc(t->cur->ncounters, sizeof(*old));
	if (!old)
		goto out;
	gen_counters(t->cur, old);
	given(&m, old);
	free(old);
	return;
out:
	pmem_close(&m.mem);
}
