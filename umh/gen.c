// SPDX-License-Identifier: GPL-2.0
#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <linux/netfilter_ipv4/ipt_REJECT.h>
#include <linux/netfilter_ipv6/ip6t_REJECT.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend.h"
#include "classify.h"
#include "ext.h"
#include "gen.h"
#include "kernel_xt.h"
#include "helper.h"
#include "space.h"

#define BLOB_NAME	"xtjit_blob"
#define BLOB_MAGIC	0x746a7867	/* "xtjg" */
#define BLOB_VERSION	3
#define SHED_MIN	(512u << 10)	/* bytes that are worth a map in their place */

/* The pinned blob begins with it. */
struct gen_blob {
	__u32 magic, version;
	__u64 number, prev, request;
	__u32 prog_id, ncounters, nnumbers, reserved;
	struct xt_replace_hdr h;
	__u32 drops;
	struct counted_slots counted;
};

_Static_assert(sizeof(struct gen_blob) <= GEN_ENTRIES, "header of the blob");

struct gen *gen_new(void)
{
	struct gen *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->prog = -1;
	g->maps.counters = g->maps.state = -1;
	g->live = g->base = g->blob = (struct pmem)PMEM_NONE;
	return g;
}

static void fill_head(const struct gen *g, struct gen_blob *b)
{
	*b = (struct gen_blob){
		.magic = BLOB_MAGIC, .version = BLOB_VERSION, .number = g->number,
		.prev = g->prev, .request = g->request, .prog_id = g->prog_id,
		.ncounters = g->ncounters, .nnumbers = g->nnumbers, .h = g->h, .drops = g->drops,
		.counted = g->maps.counted,
	};
}

void gen_origin_put(struct gen_origin *o)
{
	if (--o->refs)
		return;
	classify_free(&o->grouped);
	ir_table_free(&o->ir);
	free(o);
}

void gen_strip(struct gen *g)
{
	if (!g->decoded)
		return;
	if (g->edited || !g->origin)
		classify_free(&g->grouped);
	else
		classify_free_image(&g->grouped);
	if (g->edited) {
		free(g->ir.slots);
		free(g->ir.slot_names);
	}
	if (g->origin)
		gen_origin_put(g->origin);
	else
		ir_table_free(&g->ir);
	g->origin = NULL;
	if (g->edited)
		g->rs.blob = NULL;
	xt_ruleset_free(&g->rs);
	free(g->offsets);
	g->offsets = NULL;
	g->decoded = false;
}

/* It was unpinned; the module has what it was given of it, but nobody else. */
static void spare_blob(struct gen *g)
{
	if (helper.backend->native)
		pmem_close(&g->blob);
	else
		pmem_spare(&g->blob, BLOB_NAME);
}

void gen_shed(struct gen *g)
{
	struct xt_err err = {};
	struct gen_blob *b;
	struct pmem m;

	if (g->image && !state_unpin(g->dir, "image"))
		g->image = false;
	if (g->h.size < SHED_MIN || pmem_create(&m, BLOB_NAME, GEN_ENTRIES, &err))
		return;
	b = m.p;
	fill_head(g, b);
	b->h.size = 0;
	if (!state_unpin(g->dir, "blob"))
		spare_blob(g);
	state_pin(m.fd, g->dir, "blob");
	pmem_close(&m);
}

void gen_close(struct gen *g)
{
	if (!g)
		return;
	gen_strip(g);
	pmem_close(&g->blob);
	pmem_close(&g->live);
	pmem_close(&g->base);
	free(g->counters);
	free(g->stale);
	free(g->change);
	if (g->maps.counters >= 0)
		table_maps_close(&g->maps);
	if (g->prog >= 0)
		close(g->prog);
	free(g);
}

void gen_drop(struct gen *g)
{
	if (!g)
		return;
	gen_strip(g);
	if (g->dir[0]) {
		if (!state_unpin(g->dir, "base"))
			gen_base_spare(g);
		if (!state_unpin(g->dir, "blob"))
			spare_blob(g);
		state_unpin(g->dir, "counters");
		if (g->maps.state >= 0)
			state_unpin(g->dir, "state");
		if (g->image)
			state_unpin(g->dir, "image");
		state_rmdir(g->dir);
	}
	gen_close(g);
}

static enum gen_result result(int err)
{
	if (!err)
		return GEN_OK;
	return err == -EOPNOTSUPP ? GEN_UNCOMPILED : GEN_REFUSED;
}

static int lower(const struct gen *g, struct ir_table *ir, struct xt_err *err)
{
	struct ext_env env = { .native = helper.backend->native };

	return ext_lower(&g->rs, &env, ir, err);
}

/* A rule has the target TRACE, and can be reached. */
static bool marks(const struct xt_ruleset *rs)
{
	if (strcmp(rs->table->name, "raw"))
		return false;
	for (__u32 i = 0; i < rs->nrules; i++)
		if (rs->rules[i].verdict == XT_V_TARGET && ext_rule_hooks(rs, &rs->rules[i]) &&
		    !strcmp(rs->rules[i].target.name, "TRACE"))
			return true;
	return false;
}

static int decode(struct gen *g, const struct xt_family *f, const struct xt_replace_hdr *h,
		  const void *entries, struct xt_err *err)
{
	int ret = xt_ruleset_decode(&g->rs, f, h, entries, err);

	if (ret)
		return ret;
	ret = lower(g, &g->ir, err);
	if (ret) {
		xt_ruleset_free(&g->rs);
		return ret;
	}
	g->decoded = true;
	g->marks = marks(&g->rs);
	if (ir_check(&g->ir, err) || passes_exact(&g->ir, err))
		return -EOPNOTSUPP;
	gen_find_tracks(g);
	return classify(&g->ir, cl_limits(), &g->grouped, err);
}

enum gen_result gen_decode(struct gen **out, const struct xt_family *f,
			   const struct xt_replace_hdr *h, const void *entries,
			   struct xt_err *err)
{
	struct gen *g = gen_new();
	int ret;

	if (!g)
		return result(xt_fail(err, -ENOMEM, "out of memory"));
	g->h = *h;
	ret = decode(g, f, h, entries, err);
	if (ret) {
		gen_close(g);
		return result(ret);
	}
	g->ncounters = g->nnumbers = g->ir.ncounters;
	*out = g;
	return GEN_OK;
}

static struct compile_env compile_env(__u64 netns, FILE *listing)
{
	struct space *s = space_find(netns);

	return (struct compile_env){
		.netns = netns, .ring = helper.ring, .self = helper.self,
		.lost = helper.lost, .listing = listing,
		.drops = s ? space_drops(s) : NULL,
	};
}

static int prog_id(int fd, __u32 *id)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);
	int ret = bpf_obj_get_info_by_fd(fd, &info, &len);

	*id = info.id;
	return ret;
}

/* Of a table that is known only in groups, which are not traced. */
static int compile_traced(const struct gen *g, const struct compile_env *env, struct xt_err *err)
{
	struct gen *now = gen_reread(g, err);
	struct ir_table *t;
	int fd;

	if (!now)
		return err->err ?: -EIO;
	t = &now->ir;
	for (__u32 c = 0; c < t->nchains; c++)
		for (__u32 i = 0; i < t->chains[c].nrules; i++) {
			__u32 *counter = &t->chains[c].rules[i].counter;

			*counter = gen_counter_of(g, *counter);
		}
	t->ncounters = g->nnumbers;
	fd = helper.backend->compile(t, &g->maps, env, err);
	gen_close(now);
	return fd;
}

static int compile(const struct gen *g, const struct compile_env *env, struct xt_err *err)
{
	if (env->trace && g->grouped.ngroups && !g->grouped.plain)
		return compile_traced(g, env, err);
	return helper.backend->compile(&g->grouped, &g->maps, env, err);
}

/* With trace lines a program holds fewer rules. */
int gen_compile_again(const struct gen *g, __u64 netns, bool *trace, struct xt_err *err)
{
	struct compile_env env = compile_env(netns, NULL);
	int fd;

	env.trace = *trace;
	fd = compile(g, &env, err);
	if (fd >= 0 || !*trace || fd == -ENOMEM || fd == -EPERM)
		return fd;
	xt_log("%s %s: cannot be traced, no lines of it are logged: %s", g->ir.family->name,
	       g->h.name, err->text);
	memset(err, 0, sizeof(*err));
	*trace = env.trace = false;
	return compile(g, &env, err);
}

static int load(struct gen *g, __u64 netns, struct xt_err *err)
{
	int ret;

	ret = table_maps_create(&g->maps, &g->grouped, err);
	if (ret) {
		g->maps.counters = -1;
		return ret;
	}
	ret = pmem_map(&g->live, g->maps.counters);
	if (ret)
		return xt_fail(err, ret, "counters: mmap: %s", strerror(-ret));
	g->drops = compile_env(netns, NULL).drops;
	g->prog = gen_compile_again(g, netns, &g->traced, err);
	if (g->prog < 0)
		return g->prog;
	ret = prog_id(g->prog, &g->prog_id);
	return ret ? xt_fail(err, ret, "program: %s", strerror(-ret)) : 0;
}

bool gen_resets(const struct ir_table *t, const struct ir_rule *r)
{
	int reset = t->family == &xt_family_ip6 ? IP6T_TCP_RESET : IPT_TCP_RESET;

	return r->action == IR_A_REJECT && (int)r->arg == reset;
}

/*
 * The kernel's own TCP resets belong to the connection that they reset, and so
 * pass through its nat table; those of the helper cannot.
 */
static int resets_and_nat(const struct gen *g, struct xt_err *err)
{
	const struct xt_family *f = g->ir.family;

	if (!kxt_listed(f, "nat"))
		return 0;
	for (__u32 c = 0; c < g->ir.nchains; c++)
		for (__u32 i = 0; i < g->ir.chains[c].nrules; i++) {
			const struct ir_rule *r = &g->ir.chains[c].rules[i];

			if (gen_resets(&g->ir, r))
				return xt_fail(err, -EOPNOTSUPP,
					       "%s %s rule %u: target \"REJECT\" with tcp-reset, and nat in use: the resets have to pass through it",
					       g->ir.table->name, g->ir.chains[c].name,
					       xt_rule_number(&g->rs, r->counter));
		}
	return 0;
}

/* Whatever the verifier or a map says: the ruleset was right, so the kernel can have it. */
enum gen_result gen_compile(struct gen *g, __u64 netns, struct xt_err *err)
{
	/* what an edit adds sends no reset */
	int ret = g->edited ? 0 : resets_and_nat(g, err);

	if (!ret)
		ret = load(g, netns, err);
	if (!ret)
		return GEN_OK;
	return ret == -ENOMEM || ret == -EPERM ? GEN_REFUSED : GEN_UNCOMPILED;
}

void *gen_make_blob(struct gen *g, __u32 size, struct xt_err *err)
{
	if (pmem_create_dirty(&g->blob, BLOB_NAME, GEN_ENTRIES + (size_t)size, err))
		return NULL;
	return g->blob.p + GEN_ENTRIES;
}

static int pin_blob(struct gen *g, struct xt_err *err)
{
	void *entries;
	int ret;

	if (!g->edited) {
		entries = gen_make_blob(g, g->rs.size, err);
		if (!entries)
			return err->err;
		memcpy(entries, g->rs.blob, g->rs.size);
	}
	fill_head(g, g->blob.p);
	ret = state_pin(g->blob.fd, g->dir, "blob");
	if (ret)
		xt_fail(err, ret, "pin of the blob: %s", strerror(-ret));
	return ret;
}

/* What a change in place of it has to write to. */
static int pin_image(struct gen *g, const struct gen *old)
{
	int fd = classify_fd(old ? &old->grouped : &g->grouped);

	if (fd < 0)
		return 0;
	g->image = true;
	return state_pin(fd, g->dir, "image");
}

int gen_pin(struct gen *g, const struct gen *old, const char *dir, struct xt_err *err)
{
	const struct table_maps *m = old ? &old->maps : &g->maps;
	int ret;

	state_path(g->dir, dir, "gen-%llu", g->number);
	ret = state_mkdir_anew(g->dir);
	if (ret)
		return xt_fail(err, ret, "%s: %s", g->dir, strerror(-ret));
	ret = gen_base_make(g, old, err);
	if (ret)
		return ret;
	ret = state_pin(g->base.fd, g->dir, "base");
	if (!ret)
		ret = state_pin(m->counters, g->dir, "counters");
	if (!ret && m->state >= 0)
		ret = state_pin(m->state, g->dir, "state");
	if (!ret)
		ret = pin_image(g, old);
	if (ret)
		return xt_fail(err, ret, "pins below %s: %s", g->dir, strerror(-ret));
	return pin_blob(g, err);
}

static int open_blob(struct gen *g, struct pmem *m)
{
	struct gen_blob *b;
	int ret = pmem_open(m, g->dir, "blob", GEN_ENTRIES);

	if (ret)
		return ret;
	b = m->p;
	if (b->magic == BLOB_MAGIC && b->version != BLOB_VERSION) {
		pmem_close(m);
		return -EPROTONOSUPPORT;
	}
	if (b->magic != BLOB_MAGIC || b->ncounters > XT_MAX_RULES || b->nnumbers < b->ncounters ||
	    b->nnumbers > XT_MAX_RULES * 2 || b->h.size > m->len - GEN_ENTRIES) {
		pmem_close(m);
		return -EINVAL;
	}
	g->number = b->number;
	g->prev = b->prev;
	g->request = b->request;
	g->prog_id = b->prog_id;
	g->ncounters = b->ncounters;
	g->nnumbers = b->nnumbers;
	g->h = b->h;
	g->drops = b->drops;
	g->maps.counted = b->counted;
	return 0;
}

static int open_maps(struct gen *g)
{
	size_t need;
	int ret;

	g->maps.ncounters = g->nnumbers;
	g->image = state_exists(g->dir, "image");
	g->maps.counters = state_get(g->dir, "counters");
	if (g->maps.counters < 0)
		return g->maps.counters;
	if (state_exists(g->dir, "state")) {
		g->maps.state = state_get(g->dir, "state");
		if (g->maps.state < 0)
			return g->maps.state;
	}
	ret = pmem_map(&g->live, g->maps.counters);
	need = counters_stride(&g->maps) * possible_cpus();
	if (!ret && g->live.len < need)
		ret = -EINVAL;
	return ret ?: gen_base_open(g);
}

int gen_open(struct gen **out, const char *dir, const char *name)
{
	struct gen *g = gen_new();
	struct pmem blob;
	int ret;

	if (!g)
		return -ENOMEM;
	state_path(g->dir, dir, "%s", name);
	ret = open_blob(g, &blob);
	if (ret)
		goto out;
	pmem_close(&blob);
	ret = open_maps(g);
out:
	if (ret)
		gen_close(g);
	else
		*out = g;
	return ret;
}

int gen_decode_again(struct gen *g, const struct xt_family *f, struct xt_err *err)
{
	struct pmem blob;
	int ret = open_blob(g, &blob);

	if (ret)
		return xt_fail(err, ret, "%s/blob: %s", g->dir, strerror(-ret));
	ret = decode(g, f, &g->h, blob.p + GEN_ENTRIES, err);
	if (!ret && g->counters)
		classify_number(&g->grouped, g->counters, g->nnumbers);
	if (!ret)
		classify_uncount(&g->grouped);	/* slots may be others */
	if (!ret && g->ir.ncounters != g->ncounters)
		ret = xt_fail(err, -EINVAL, "%s: its number of rules changed", g->dir);
	g->blob = blob;
	return ret;
}

void *gen_entries(const struct gen *g, struct pmem *m)
{
	if (pmem_open(m, g->dir, "blob", GEN_ENTRIES + (size_t)g->h.size))
		return NULL;
	return m->p + GEN_ENTRIES;
}

/* Names and sizes in it are the same: what points into it stays right. */
void gen_shown(struct gen *g, const void *entries)
{
	if (!g->edited)		/* then it is the same memory */
		memcpy((void *)g->rs.blob, entries, g->rs.size);
}

bool gen_is_empty(const struct gen *g)
{
	const struct xt_ruleset *rs = &g->rs;

	if (g->edited)		/* it has groups */
		return false;
	for (__u32 i = 0; i < rs->nchains; i++)
		if (rs->chains[i].hook < 0 || rs->chains[i].count != 1 ||
		    rs->rules[rs->chains[i].first].verdict != XT_V_ACCEPT)
			return false;
	return true;
}

bool gen_nat_conflict(const struct gen *g, struct xt_err *err)
{
	struct gen *now;
	bool ret;

	if (!g->decoded || !g->edited)
		return g->decoded && resets_and_nat(g, err);
	now = gen_reread(g, err);
	ret = !now || resets_and_nat(now, err);
	gen_close(now);
	return ret;
}

struct gen *gen_reread(const struct gen *g, struct xt_err *err)
{
	struct gen *now = NULL;

	if (!g->decoded)
		xt_fail(err, -ENODATA, "%s: its rules are not known", g->h.name);
	else if (gen_decode(&now, g->rs.family, &g->h, g->rs.blob, err))
		return NULL;
	classify_uncount(&now->grouped);	/* @g's slots may be others */
	return now;
}

/* The pinned number is for a person. */
void gen_reprogrammed(struct gen *g, int prog, bool traced)
{
	struct pmem m;

	g->traced = traced;
	if (prog_id(prog, &g->prog_id) || pmem_open(&m, g->dir, "blob", GEN_ENTRIES))
		return;
	((struct gen_blob *)m.p)->prog_id = g->prog_id;
	pmem_close(&m);
}

int gen_listing(const struct gen *g, __u64 netns, FILE *out, struct xt_err *err)
{
	struct compile_env env = compile_env(netns, out);
	int fd;

	if (!g->decoded)
		return xt_fail(err, -ENODATA, "%s: its rules are not known", g->h.name);
	env.trace = g->traced;
	fd = compile(g, &env, err);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}
