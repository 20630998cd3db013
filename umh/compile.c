// SPDX-License-Identifier: GPL-2.0
/*
 * The compiler's passes, in order, and its front door for the exact stage.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "cg.h"
#include "kfeat.h"

/* Those that something still calls, where they are now. */
static void live_functions(struct cg *g)
{
	int n = 0;

	for (int i = 0; i < g->nfuncs; i++) {
		__s32 at = g->e.err ? -1 : g->e.labels[g->funcs[i].label];

		if (at < 0)
			continue;
		g->funcs[n] = g->funcs[i];
		g->funcs[n++].start = at;
	}
	g->nfuncs = n;
}

int cg_compile(struct cg *g)
{
	int err = cg_analyse(g);

	g->saves = g->devices = g->module_btf = -1;
	g->e.no_gotol = !kfeat()->gotol;
	if (!err)
		err = cg_plan(g);
	if (!err)
		err = cg_layout(g);
	if (!err)
		err = cg_native_map(g) ?: cg_device_map(g);
	if (!err) {
		g->fl->prologue(g);
		cg_call_walk(g);
		g->fl->epilogue(g);
		cg_walk(g);
		cg_lib_emit(g);
		emit_prune(&g->e);
		live_functions(g);
		err = emit_finish(&g->e, g->err);
	}
	if (!err)
		err = cg_load(g);
	if (g->saves >= 0)
		close(g->saves);
	if (g->devices >= 0)
		close(g->devices);
	if (g->module_btf >= 0)
		close(g->module_btf);
	cg_analyse_free(g);
	free(g->places);
	emit_free(&g->e);
	return err;
}

static int one_form(const struct flavor_ops *fl, const struct ir_table *t,
		    const struct table_maps *m, const struct compile_env *env,
		    struct xt_err *err)
{
	struct cg *g = calloc(1, sizeof(*g));
	int fd;

	if (!g)
		return xt_fail(err, -ENOMEM, "out of memory");
	emit_init(&g->e);
	g->fl = fl;
	g->fam = t->family;
	g->env = env;
	g->err = err;
	g->ntabs = 1;
	g->tabs[0].ir = t;
	g->tabs[0].maps = m;
	fd = cg_compile(g);
	free(g);
	return fd;
}

/* What no program can hold in groups, one may hold without.  There is no trace of groups. */
static int compile_table(const struct flavor_ops *fl, const struct ir_table *t,
			 const struct table_maps *m, const struct compile_env *env,
			 struct xt_err *err)
{
	int fd;

	if (env->trace && t->ngroups)
		return one_form(fl, t->plain, m, env, err);
	fd = one_form(fl, t, m, env, err);
	return fd == -EOPNOTSUPP && t->ngroups && t->plain ? one_form(fl, t->plain, m, env, err) : fd;
}

int compile_exact(const struct ir_table *t, const struct table_maps *m,
		  const struct compile_env *env, struct xt_err *err)
{
	return compile_table(&flavor_netfilter, t, m, env, err);
}

int compile_hook(const struct ir_table *t, const struct table_maps *m,
		 const struct compile_env *env, struct xt_err *err)
{
	return compile_table(&flavor_hook, t, m, env, err);
}
