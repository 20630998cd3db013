/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One table's program for the module, packets through it, and what is expected
 * of them: the verdict, the counters, and the native slots that are run.
 */
#ifndef XTJIT_HOOK_RUN_H
#define XTJIT_HOOK_RUN_H

#include "classify.h"
#include "flavor_hook.h"
#include "tap.h"

#define ANSWERS 64

/* One table, and what its native slots are to come to. */
struct run {
	struct ir_table ir, grouped;
	struct table_maps maps;
	struct hook h;
	int answers[ANSWERS];
	char seen[256];		/* the slots that were run, and r0, r1, ... of traced rules */
	__u32 sets_mark;	/* slot 1: of a target that sets it */
	struct run *within;	/* while a slot runs, a packet of this one */
	bool ok;
};

static int answer(struct hook *h, __u32 slot, struct packet *p)
{
	struct run *r = h->priv;
	char *end = r->seen + strlen(r->seen);

	snprintf(end, r->seen + sizeof(r->seen) - end, slot & XTJIT_TRACE ? " r%u" : " %u",
		 slot & ~XTJIT_TRACE);
	if (r->sets_mark && slot == 1)
		h->mark = r->sets_mark;
	if (r->within) {
		struct packet copy = *p;
		struct run *in = r->within;

		in->h.level = h->level + 1;
		in->seen[0] = 0;
		r->ok &= run_hook(&in->h, &copy) == NF_DROP;
	}
	if (slot & XTJIT_TRACE)
		return ANSWER_GO_ON;
	return slot < ANSWERS ? r->answers[slot] : -ERANGE;
}

/* The table in @text; in small groups, as for an old kernel, and with trace, if so. */
static bool load_how(struct run *r, const char *text, bool groups, bool old, bool trace)
{
	const struct compile_env env = {
		.ring = -1, .self = -1, .l3off = HOOK_L3, .trace = trace,
	};
	const struct cl_limits few = { .family = 1, .group = 2, .chains = 1 };
	struct xt_err err = { 0 };

	memset(r, 0, sizeof(*r));
	r->ok = true;
	r->h = (struct hook){ .prog = -1, .hook = 1, .answer = answer, .priv = r };
	r->maps = (struct table_maps){ .counters = -1, .state = -1 };
	if (parse_ir(text, &r->ir, &err) ||
	    (groups && classify(&r->ir, &few, &r->grouped, &err)) ||
	    table_maps_create(&r->maps, groups ? &r->grouped : &r->ir, &err)) {
		tap_diag("%s", err.text);
		return false;
	}
	r->h.v6 = r->ir.family == &xt_family_ip6;
	old_kernel(old);
	r->h.prog = compile_hook(groups ? &r->grouped : &r->ir, &r->maps, &env, &err);
	old_kernel(false);
	if (r->h.prog < 0)
		tap_diag("%s", err.text);
	return r->h.prog >= 0;
}

__attribute__((unused))
static bool load_as(struct run *r, const char *text, bool groups, bool old)
{
	return load_how(r, text, groups, old, false);
}

__attribute__((unused))
static bool load(struct run *r, const char *text)
{
	return load_as(r, text, false, false);
}

static void unload(struct run *r)
{
	if (r->h.prog >= 0)
		close(r->h.prog);
	table_maps_close(&r->maps);
	if (r->grouped.arena)
		classify_free(&r->grouped);
	if (r->ir.arena)
		ir_table_free(&r->ir);
}

/* Counters that @r has counted, "0 3*2". */
static void counted(const struct run *r, char *buf, size_t size)
{
	struct xt_counters *all = counters_all(&r->maps);

	buf[0] = 0;
	for (__u32 i = 0; i < r->maps.ncounters; i++) {
		size_t len = strlen(buf);

		if (all[i].pcnt)
			snprintf(buf + len, size - len, len ? " %u" : "%u", i);
		if (all[i].pcnt > 1)
			snprintf(buf + strlen(buf), size - strlen(buf), "*%llu", all[i].pcnt);
	}
	free(all);
}

/* All counters are 0 again, as they were first. */
static void forget(const struct run *r)
{
	struct table_maps fresh;
	struct xt_err err;
	char *value = malloc(counters_stride(&r->maps));

	if (table_maps_create(&fresh, r->grouped.groups ? &r->grouped : &r->ir, &err))
		abort();
	for (int cpu = 0; cpu < possible_cpus(); cpu++)
		if (bpf_map_lookup_elem(fresh.counters, &cpu, value) ||
		    bpf_map_update_elem(r->maps.counters, &cpu, value, 0))
			abort();
	table_maps_close(&fresh);
	free(value);
}

/* One packet: the verdict, the counters, and the slots that are run. */
static bool expect(struct run *r, const char *words, int verdict, const char *counters,
		 const char *slots)
{
	char *copy = strdup(words), got[256];
	struct packet p;
	int ret = -1;
	bool ok;

	r->seen[0] = 0;
	forget(r);
	if (packet_build(&p, r->h.v6, copy))
		ret = run_hook(&r->h, &p);
	free(copy);
	counted(r, got, sizeof(got));
	ok = ret == verdict && !strcmp(got, counters) &&
	     !strcmp(r->seen + (r->seen[0] == ' '), slots) && r->ok;
	if (!ok)
		tap_diag("%s: verdict %d, counters \"%s\", slots \"%s\"%s", words, ret, got,
			 r->seen, r->ok ? "" : ", the run within failed");
	return ok;
}

#define SLOT_M(n) "slot " #n " match m entry 0 ext 0 hooks 0\n"
#define SLOT_T(n) "slot " #n " target t entry 0 ext 0 hooks 0\n"

#endif
