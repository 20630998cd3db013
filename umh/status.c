// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend.h"
#include "classify.h"
#include "early.h"
#include "helper.h"
#include "kernel_xt.h"
#include "module.h"
#include "sidefx.h"
#include "status.h"

static const char *const early_names[] = {
	[XTJIT_EARLY_DEFAULT] = "default",
	[XTJIT_EARLY_OFF] = "off",
	[XTJIT_EARLY_ON] = "on",
	[XTJIT_EARLY_EAGER] = "eager",
};

/* What -L would list: no policies, chain heads, chain ends. */
static __u32 count_rules(const struct gen *g)
{
	__u32 n = g->rs.nrules - 1;

	for (__u32 i = 0; i < g->rs.nchains; i++)
		n -= g->rs.chains[i].hook >= 0 ? 1 : 2;
	return n;
}

static void print_groups(const struct ir_table *t, FILE *out)
{
	for (__u32 i = 0; i < t->ngroups; i++)
		classify_print(out, t, &t->groups[i], "  ", false);
	if (t->ngroups)
		fprintf(out, "  %zu bytes of lookups\n", classify_size(t));
}

static void print_xtjit(const struct table *t, FILE *out)
{
	const struct gen *g = t->cur;
	int prio;

	fprintf(out, "%s %s: xtjit, ", t->family->name, t->row->name);
	if (g->decoded)
		fprintf(out, "%u rules, ", count_rules(g));
	if (g->decoded && g->ir.nslots)
		fprintf(out, "%u native parts, ", g->ir.nslots);
	if (g->traced)
		fprintf(out, "traced, ");
	fprintf(out, "generation %llu, program %u\n", g->number, g->prog_id);
	for (int i = 0; i < XT_HOOKS; i++)
		if (helper.backend->hooked(t, i, &prio))
			fprintf(out, "  %-11s exact, priority %d\n", xt_hook_name[i], prio);
	if (g->decoded)
		print_groups(&g->grouped, out);
}

static void print_kernel(const struct table *t, FILE *out)
{
	struct kxt_table k;

	fprintf(out, "%s %s: kernel", t->family->name, t->row->name);
	if (!kxt_read(t->family, t->row->name, &k)) {
		fprintf(out, ", %u entries", k.h.num_entries);
		kxt_free(&k);
	}
	fprintf(out, ": %s\n", t->w->text);
}

static void print_family(struct space *s, const struct xt_family *f, FILE *out)
{
	for (int i = 0; i < XT_TABLES; i++) {
		struct table *t = s ? space_table(s, f, f->tables[i].name) : NULL;

		if (t && table_is_xtjit(t))
			print_xtjit(t, out);
		else if (t && t->w)
			print_kernel(t, out);
		else if (kxt_listed(f, f->tables[i].name))
			fprintf(out, "%s %s: kernel: nobody has asked xtjit for it\n", f->name,
				f->tables[i].name);
	}
}

static void print_helper(FILE *out)
{
	const struct sidefx_stats *fx = sidefx_get_stats();

	fprintf(out, "helper: pid %d, up %llu s, programs run by %s, early %s", getpid(),
		(now_ns() - helper.started) / 1000000000, helper.backend->name,
		early_names[helper.early]);
	if (!module_is_open())
		fprintf(out, ", fallback %s", helper.fallback == XTJIT_FALLBACK_REFUSE ?
			"refuse" : "kernel");
	fputc('\n', out);
	fprintf(out, "  requests %llu, rulesets %llu (%llu changed in part, %llu of them in place), refused %llu, handed to the kernel %llu, "
		"namespaces taken over %llu\n", helper.requests, helper.replaces, helper.edits, helper.in_place,
		helper.refused, helper.handed_over, helper.recovered);
	if (module_is_open())
		return;
	fprintf(out, "  logged %llu (failed %llu), rejected %llu (limited %llu, failed %llu), lost %llu\n",
		fx->logged, fx->log_failed, fx->rejected, fx->reject_limited, fx->reject_failed,
		fx->lost);
}

/* How the tables got the rulesets that are in force. */
static void print_updates(const struct space *s, FILE *out)
{
	for (int i = 0; i < 2 * XT_TABLES; i++) {
		const struct table *t = &s->tables[i / XT_TABLES][i % XT_TABLES];

		if (!table_is_xtjit(t) || !t->cur || !t->update_ns)
			continue;
		fprintf(out, "  last update of %s %s: ", t->family->name, t->row->name);
		if (t->cur->edited)
			fprintf(out, "%s, %u entries gone, %u new", t->cur->in_place ? "in place" :
				"in part", t->cur->ndel, t->cur->nadd);
		else
			fputs("as a whole", out);
		fprintf(out, ", %llu us\n", t->update_ns / 1000);
	}
}

int status_text(__u64 cookie, const struct xt_family *f, FILE *out)
{
	struct space *s = space_find(cookie);

	fprintf(out, "namespace %llx: early %s\n", cookie, s && s->w->foreign ?
		"off: it belongs to another user namespace" :
		early_names[s ? s->w->early : helper.early]);
	for (int i = 0; i < 2; i++)
		if (!f || f == space_families[i])
			print_family(s, space_families[i], out);
	if (s)
		early_status(s, out);
	print_helper(out);
	if (s)
		print_updates(s, out);
	return 0;
}

static int dump_table(const struct space *s, const struct table *t, const struct xtjit_dump *d,
		      FILE *out, struct xt_err *err)
{
	const struct gen *g = t->cur;
	struct gen *now;

	if (!g->decoded)
		return xt_fail(err, -ENODATA, "%s: its rules cannot be read", t->row->name);
	if (d->what == XTJIT_DUMP_BPF)
		return gen_listing(g, s->cookie, out, err);
	if (!g->edited && !g->counters) {
		ir_print(out, &g->grouped);
		return 0;
	}
	now = gen_reread(g, err);
	if (!now)
		return err->err ?: -EIO;
	ir_print(out, &now->grouped);
	gen_close(now);
	return 0;
}

static int dump_family(struct space *s, const struct xt_family *f, const struct xtjit_dump *d,
		       FILE *out, bool *any, struct xt_err *err)
{
	int ret = 0;

	if (d->what == XTJIT_DUMP_BPF && d->early) {
		*any = true;
		return early_listing(s, f, out, err);
	}
	for (int i = 0; i < XT_TABLES && !ret; i++) {
		struct table *t = space_table(s, f, f->tables[i].name);

		if (!table_is_xtjit(t) || (d->table[0] && strcmp(d->table, t->row->name)))
			continue;
		*any = true;
		ret = dump_table(s, t, d, out, err);
	}
	return ret;
}

int status_dump(__u64 cookie, const struct xt_family *f, const void *arg, __u64 len, FILE *out,
		struct xt_err *err)
{
	struct space *s = space_find(cookie);
	struct xtjit_dump d;
	bool any = false;
	int ret = 0;

	if (len != sizeof(d))
		return -EINVAL;
	memcpy(&d, arg, sizeof(d));
	d.table[sizeof(d.table) - 1] = '\0';
	if (d.what > XTJIT_DUMP_BPF || d.early > 1)
		return -EINVAL;
	for (int i = 0; s && i < 2 && !ret; i++)
		if (!f || f == space_families[i])
			ret = dump_family(s, space_families[i], &d, out, &any, err);
	if (!ret && !any)
		return xt_fail(err, -ENOENT, "xtjit has no %s%stable here", d.table,
			       d.table[0] ? " " : "");
	return ret;
}
