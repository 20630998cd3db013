// SPDX-License-Identifier: GPL-2.0
#include <string.h>
#include <unistd.h>

#include "backend.h"
#include "helper.h"
#include "trace.h"

bool trace_wanted(const struct table *t, const struct gen *g)
{
	const struct table *raw = space_table(t->space, t->family, "raw");

	if (!helper.backend->swap)
		return false;
	if (t == raw)
		return g->marks;
	return table_is_xtjit(raw) && raw->cur && raw->cur->marks;
}

static int reprogram(struct table *t, bool trace, struct xt_err *err)
{
	struct gen *g = t->cur;
	int prog = gen_compile_again(g, t->space->cookie, &trace, err), ret = 0;

	if (prog < 0)
		return prog;
	if (trace != g->traced) {
		ret = helper.backend->swap(t, g, prog, trace, err);
		if (!ret)
			gen_reprogrammed(g, prog, trace);
	}
	close(prog);
	return ret;
}

void trace_follow(struct space *s, const struct xt_family *f)
{
	for (int i = 0; i < XT_TABLES; i++) {
		struct table *t = space_table(s, f, f->tables[i].name);
		struct xt_err err = {};
		bool trace;

		if (!table_is_xtjit(t) || !t->cur || !t->cur->decoded)
			continue;
		trace = trace_wanted(t, t->cur);
		if (t->cur->traced != trace && reprogram(t, trace, &err))
			xt_log("%s %s: what is traced is %slogged: %s", f->name, t->row->name,
			       trace ? "not " : "still ", err.text);
	}
}
