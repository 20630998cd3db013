// SPDX-License-Identifier: GPL-2.0
/*
 * What compiled programs do to packets: each case of flavor_cases
 * (flavor_case.h) by the exact stage alone, and with the early stage before
 * it, which must not be noticed but by speed; live, on tap devices, or by
 * BPF_PROG_TEST_RUN; the module's programs too; all as for a kernel that has
 * nothing that came after Linux 6.1; and with every rule that can be in a group.
 *
 * usage: flavor_test [-v] [CASES [NAME]]
 */
#include "classify.h"
#include "drops.h"
#include "flavor_case.h"
#include "flavor_hook.h"
#include "nfct.h"
#include "tap.h"

#define NO_EARLY (-1)

/* The module's come last: they change the case's tables. */
static const struct mode {
	const char *name;
	int early;
	bool live, module, old, grouped;
} modes[] = {
	{ "exact, run", NO_EARLY, false, false, false, false },
	{ "XDP, run", EARLY_XDP, false, false, false, false },
	{ "exact, run, in groups", NO_EARLY, false, false, false, true },
	{ "XDP, run, in groups", EARLY_XDP, false, false, false, true },
	{ "exact, live", NO_EARLY, true, false, false, false },
	{ "XDP, live", EARLY_XDP, true, false, false, false },
	{ "TC, live", EARLY_TC, true, false, false, false },
	{ "TC, live, in groups", EARLY_TC, true, false, false, true },
	{ "XDP, live, old kernel", EARLY_XDP, true, false, true, false },
	{ "TC, live, old kernel", EARLY_TC, true, false, true, false },
	{ "XDP, live, old kernel, in groups", EARLY_XDP, true, false, true, true },
	{ "module, run", NO_EARLY, false, true, false, false },
	{ "module, run, in groups", NO_EARLY, false, true, false, true },
	{ "module, run, old kernel, in groups", NO_EARLY, false, true, true, true },
	{ "module, run, old kernel", NO_EARLY, false, true, true, false },
	{ "module, XDP, run, old kernel", EARLY_XDP, false, true, true, false },
};

/* The programs of a case in one mode. */
struct loaded {
	const struct test_case *c;
	const struct mode *mode;
	struct table_maps maps[CASE_TABLES];
	struct ir_table grouped[2 * CASE_TABLES];	/* the exact stage's, the early stage's */
	int exact[CASE_TABLES], nexact;
	int early, array;	/* its entry program; -1: it would drop nothing */
	int links[CASE_TABLES * 3 + NET_DEVS], nlinks;
};

#define N_MODES (sizeof(modes) / sizeof(modes[0]))

static bool verbose;
static struct drops drops;

/* The table as it is, or its groups, which are then the @n-th of @l. */
static const struct ir_table *form(struct loaded *l, const struct ir_table *t, int n)
{
	static const struct cl_limits all = { .family = 1, .group = 1 };
	struct xt_err err;

	if (!l->mode->grouped || classify(t, &all, &l->grouped[n], &err))
		return t;
	return &l->grouped[n];
}

/* As the helper attaches it: the device's entry program, which goes on to @prog; or negative. */
static int entry(struct loaded *l, int prog, int flavor, struct xt_err *err)
{
	int slot = l->c->v6, ret;

	l->array = bpf_map_create(BPF_MAP_TYPE_PROG_ARRAY, "array", 4, 4, 2, NULL);
	ret = compile_entry_early(flavor, l->array, err);
	if (ret >= 0 && bpf_map_update_elem(l->array, &slot, &prog, 0))
		return xt_fail(err, -errno, "entry: %s", strerror(errno));
	return ret;
}

static bool load_early(struct loaded *l, struct xt_err *err)
{
	const struct compile_env env = { .ring = net.ring, .self = net.self, .drops = &drops };
	const struct test_case *c = l->c;
	struct early_table t[CASE_TABLES];
	int flavor = l->mode->early, prog;

	if (flavor == NO_EARLY)
		return true;
	for (int i = 0; i < c->ntables; i++)
		t[i] = (struct early_table){
			.ir = form(l, &c->ir[i], CASE_TABLES + i), .maps = &l->maps[i],
		};
	old_kernel(l->mode->old);
	prog = compile_early(flavor, c->ir[0].family, t, c->ntables, &c->facts, &env, err);
	old_kernel(false);
	if (prog == -ENOENT)
		return true;
	l->early = prog < 0 ? prog : entry(l, prog, flavor, err);
	close(prog);
	return l->early >= 0;
}

static bool attach_all(struct loaded *l, struct xt_err *err)
{
	for (int t = 0; t < l->nexact; t++) {
		const struct ir_table *ir = &l->c->exact[t];
		int got;

		for (int h = NF_INET_PRE_ROUTING; h <= NF_INET_FORWARD; h++) {
			if (ir->base_chain[h] < 0)
				continue;
			l->links[l->nlinks] = attach_nf(l->exact[t], ir->family->nfproto, h,
							ir->table->prio[h], &got, err);
			if (l->links[l->nlinks++] < 0)
				return false;
		}
	}
	for (int d = 0; l->early >= 0 && d < NET_DEVS; d++) {
		if (l->mode->early == EARLY_TC && attach_tc(l->early, net.ifindex[d], err))
			return false;
		if (l->mode->early == EARLY_XDP) {
			l->links[l->nlinks] = attach_xdp(l->early, net.ifindex[d], err);
			if (l->links[l->nlinks++] < 0)
				return false;
		}
	}
	return true;
}

/* LOG, REJECT and owner are native slots, as ext_lower() has them with the module. */
static void make_native(struct ir_table *t, struct ir_rule *r)
{
	for (int i = 0; i < r->npreds; i++)
		if (r->preds[i].kind == IR_P_OWNER) {
			t->slots[t->nslots].kind = XTJIT_SLOT_MATCH;
			t->slots[t->nslots].ext = r->preds[i].inv ^
				(r->preds[i].owner.match == r->preds[i].owner.invert);
			r->preds[i] = (struct ir_pred){
				.kind = IR_P_NATIVE, .index = t->nslots++,
			};
		}
	if (r->action == IR_A_LOG || r->action == IR_A_REJECT) {
		t->slots[t->nslots].kind = XTJIT_SLOT_TARGET;
		t->slots[t->nslots].ext = r->action == IR_A_REJECT;
		r->action = IR_A_NATIVE;
		r->arg = t->nslots++;
	}
}

static int load_hook(struct loaded *l, struct ir_table *t, int n, struct xt_err *err)
{
	const struct compile_env env = {
		.ring = -1, .self = -1, .drops = &drops, .l3off = HOOK_L3,
	};
	int fd;

	if (!t->slots) {
		t->slots = ir_alloc(t->arena, 2 * CASE_COUNTERS * sizeof(*t->slots));
		t->slot_names = ir_alloc(t->arena, 2 * CASE_COUNTERS * sizeof(*t->slot_names));
	}
	for (__u32 c = 0; c < t->nchains; c++)
		for (__u32 i = 0; i < t->chains[c].nrules; i++)
			make_native(t, &t->chains[c].rules[i]);
	old_kernel(l->mode->old);
	fd = compile_hook(form(l, t, n), &l->maps[n], &env, err);
	old_kernel(false);
	return fd;
}

/* A packet without a socket is nobody's; REJECT drops. */
static int answer(struct hook *h, __u32 slot, struct packet *p)
{
	const struct ir_table *t = h->priv;

	(void)p;
	if (t->slots[slot].kind == XTJIT_SLOT_MATCH)
		return t->slots[slot].ext ? ANSWER_MATCH : ANSWER_MISS;
	return t->slots[slot].ext ? ANSWER_VERDICT + NF_DROP : ANSWER_GO_ON;
}

static int hook_step(const struct loaded *l, int table, int hook, const struct packet *p)
{
	struct hook h = {
		.prog = l->exact[table], .hook = hook, .v6 = l->c->v6, .answer = answer,
		.priv = (void *)&l->c->exact[table],
	};
	struct packet copy = *p;

	return run_hook(&h, &copy);
}

static bool load_case(struct loaded *l, struct test_case *c, const struct mode *mode,
		      struct xt_err *err)
{
	const struct compile_env env = { .ring = net.ring, .self = net.self, .drops = &drops };

	*l = (struct loaded){ .c = c, .mode = mode, .early = -1, .array = -1 };
	for (int i = 0; i < c->ntables; i++) {
		l->maps[i].counters = l->maps[i].state = -1;
		if (table_maps_create(&l->maps[i], &c->ir[i], err))
			return false;
		if (mode->module)
			l->exact[i] = load_hook(l, &c->exact[i], i, err);
		else
			l->exact[i] = compile_exact(form(l, &c->exact[i], i), &l->maps[i], &env,
						    err);
		if (l->exact[i] < 0)
			return false;
		l->nexact++;
	}
	if (!load_early(l, err))
		return false;
	return !mode->live || attach_all(l, err);
}

static void unload(struct loaded *l)
{
	for (int i = 0; i < l->nlinks; i++)
		close(l->links[i]);
	if (l->mode->live && l->mode->early == EARLY_TC && l->early >= 0)
		for (int d = 0; d < NET_DEVS; d++)
			detach_tc(net.ifindex[d]);
	for (int i = 0; i < l->nexact; i++) {
		close(l->exact[i]);
		table_maps_close(&l->maps[i]);
	}
	for (int i = 0; i < 2 * CASE_TABLES; i++)
		classify_free(&l->grouped[i]);
	if (l->early >= 0)
		close(l->early);
	if (l->array >= 0)
		close(l->array);
}

/* All tables that have a chain at @hook, in the order of the path. */
static int exact_hook(const struct loaded *l, int hook, const struct packet *p)
{
	int ret = NF_ACCEPT;

	for (int t = 0; t < l->nexact && ret == NF_ACCEPT; t++)
		if (l->c->exact[t].base_chain[hook] < 0)
			continue;
		else if (l->mode->module)
			ret = hook_step(l, t, hook, p);
		else
			ret = run_nf(l->exact[t], l->c->v6, hook, p);
	return ret;
}

static enum verdict run_step(const struct loaded *l, const struct step *s, bool *early)
{
	int ret;

	if (l->early >= 0) {
		ret = run_xdp(l->early, &s->p);
		*early = ret == XDP_DROP;
		if (ret != XDP_PASS)
			return ret == XDP_DROP ? V_DROP : V_BAD;
	}
	if (s->verdict == V_BAD)
		return V_BAD;
	if (s->hook >= 0) {
		ret = exact_hook(l, s->hook, &s->p);
	} else {
		ret = exact_hook(l, NF_INET_PRE_ROUTING, &s->p);
		if (ret == NF_ACCEPT)
			ret = exact_hook(l, s->p.forward || s->p.back ? NF_INET_FORWARD :
									NF_INET_LOCAL_IN, &s->p);
	}
	return ret == NF_ACCEPT ? V_ACCEPT : ret == NF_DROP ? V_DROP : V_BAD;
}

static enum verdict live_step(const struct loaded *l, const struct step *s, bool *early)
{
	__u64 first = seen(l->c->v6, SEEN_FIRST), last = seen(l->c->v6, SEEN_LAST);

	if (!inject(&s->p))
		tap_diag("cannot send: %s", strerror(errno));
	if (seen(l->c->v6, SEEN_LAST) != last)
		return V_ACCEPT;
	if (s->verdict == V_BAD)
		return V_BAD;
	*early = seen(l->c->v6, SEEN_FIRST) == first;
	return V_DROP;
}

/* Reads all counters of the case's tables. */
static void counters(const struct loaded *l, __u64 v[CASE_TABLES][CASE_COUNTERS][2])
{
	for (int t = 0; t < l->nexact; t++)
		for (int i = 0; i < CASE_COUNTERS; i++)
			counter_get(&l->maps[t], i, v[t][i]);
}

static bool counted(const struct loaded *l, const struct step *s,
		    __u64 was[CASE_TABLES][CASE_COUNTERS][2],
		    __u64 is[CASE_TABLES][CASE_COUNTERS][2])
{
	bool ok = true;

	for (int t = 0; t < l->nexact; t++)
		for (int i = 0; i < CASE_COUNTERS; i++) {
			__u64 n = is[t][i][0] - was[t][i][0], b = is[t][i][1] - was[t][i][1];

			if (n == s->count[t][i] && b == n * s->p.l3len)
				continue;
			tap_diag("%s.%d: %llu packets, %llu bytes; not %d of %d",
				 l->c->ir[t].table->name, i, n, b, s->count[t][i], s->p.l3len);
			ok = false;
		}
	return ok;
}

/* Drops by the @stage so far. */
static __u64 dropped(enum drops_stage stage)
{
	__u64 sum = 0;

	for (__u32 i = 0; i < DROPS_DEVICES; i++)
		sum += drops_get(&drops, stage, i);
	return sum;
}

/* What the exact stage says of a packet that was dropped; -1: native slots may have done it. */
static int exact_drops(const struct loaded *l, const struct step *s)
{
	if (!l->mode->module)
		return l->mode->live;	/* a test run has no device that the packet came from */
	for (int t = 0; t < l->nexact; t++)
		if (l->c->exact[t].nslots)
			return -1;
	return s->hook <= NF_INET_FORWARD;
}

/* Each drop is counted by the stage that does it. */
static bool drops_told(const struct loaded *l, const struct step *s, bool drop, bool early,
		       const __u64 was[DROPS_STAGES])
{
	__u64 n[DROPS_STAGES];
	int exact = drop && !early ? exact_drops(l, s) : 0;

	for (int i = 0; i < DROPS_STAGES; i++)
		n[i] = dropped(i) - was[i];
	if (n[DROPS_EARLY] == early && (exact < 0 || n[DROPS_EXACT] == (__u64)exact))
		return true;
	tap_diag("drops: early %llu, exact %llu, not %d", n[DROPS_EARLY], n[DROPS_EXACT], exact);
	return false;
}

static bool step(const struct loaded *l, const struct step *s)
{
	static const char *const names[] = { "drop", "accept", "bad" };
	__u64 was[CASE_TABLES][CASE_COUNTERS][2], is[CASE_TABLES][CASE_COUNTERS][2];
	const __u64 drops_were[DROPS_STAGES] = { dropped(DROPS_EARLY), dropped(DROPS_EXACT) };
	bool early = false, ok, must;
	enum verdict v;

	if (s->sleep) {
		usleep(s->sleep * 1000);
		return true;
	}
	if (s->sh) {
		ok = !system(s->sh);
		if (!ok)
			tap_diag("fails: %s", s->sh);
		return ok;
	}
	if (s->hook >= 0 && (l->mode->live || l->mode->early != NO_EARLY))
		return true;
	counters(l, was);
	v = l->mode->live ? live_step(l, s, &early) : run_step(l, s, &early);
	counters(l, is);
	must = s->early && l->mode->early != NO_EARLY;
	ok = v == s->verdict && (early || !must) && !(early && s->up);
	if (!ok || verbose)
		tap_diag("%s%s", names[v], early ? ", early" : "");
	ok &= counted(l, s, was, is);
	if (v != V_BAD)
		ok &= drops_told(l, s, v == V_DROP, early, drops_were);
	if (!ok || verbose)
		tap_diag("... %s", s->line);
	return ok;
}

static void conntrack(const struct test_case *c, bool on)
{
	int nfproto = c->v6 ? NFPROTO_IPV6 : NFPROTO_IPV4;

	if (!c->facts.conntrack)
		return;
	if (on)
		nfct_enable(nfproto, NULL);
	else
		nfct_disable(nfproto);
	if (system("conntrack -F >/dev/null 2>&1"))
		tap_diag("cannot flush conntrack");
}

static void test(struct test_case *c, const struct mode *mode)
{
	struct xt_err err = { 0 };
	struct loaded l;
	bool ok;

	if (mode->live)
		conntrack(c, true);
	ok = load_case(&l, c, mode, &err);
	if (!ok)
		tap_diag("%s", err.text);
	for (int i = 0; ok && i < c->nsteps; i++)
		ok &= step(&l, &c->steps[i]);
	unload(&l);
	if (mode->live)
		conntrack(c, false);
	tap_ok(ok, "%s: %s", c->name, mode->name);
}

static bool fits(const struct mode *m, const struct test_case *c)
{
	if (c->routes && (m->old || !(m->live || m->module)))
		return false;
	return (m->live || !c->live) && (m->module || net.nf);
}

/* The early stage asks conntrack itself, be it a module of its own. */
static void test_conntrack_lookup(bool old)
{
	static const char text[] = "table ip filter\ncounters 2\nchain INPUT hook 1\n"
		" 0: proto == 17; l4 8; dport == 53 -> drop\n 1: -> accept\n";
	const struct early_facts facts = { .conntrack = true, .nlocal = 2, .local = local_ip };
	const struct compile_env env = { .ring = -1, .self = -1 };
	int prog[2] = { -1, -1 }, flavors[2] = { EARLY_XDP, EARLY_TC };
	char words[2][40] = { "udp sport 999", "udp sport 1000" };
	struct table_maps maps = { .counters = -1, .state = -1 };
	struct early_table et = { .maps = &maps };
	struct xt_err err = { 0 };
	struct packet p[2];
	struct ir_table ir;
	bool ok;

	if (parse_ir(text, &ir, &err) || table_maps_create(&maps, &ir, &err))
		return;
	et.ir = &ir;
	old_kernel(old);
	for (int i = 0; i < 2; i++)
		prog[i] = compile_early(flavors[i], ir.family, &et, 1, &facts, &env, &err);
	old_kernel(false);
	ok = prog[0] >= 0 && prog[1] >= 0 && packet_build(&p[0], false, words[0]) &&
	     packet_build(&p[1], false, words[1]) &&
	     !system("conntrack -I -p udp -s 10.0.0.2 -d 10.0.0.1 --sport 1000 --dport 53 -t 60 "
		     ">/dev/null 2>&1");
	ok = ok && run_xdp(prog[0], &p[0]) == XDP_DROP && run_xdp(prog[0], &p[1]) == XDP_PASS;
	if (!tap_ok(ok, "conntrack is asked before a drop%s", old ? ", old kernel" : ""))
		tap_diag("%s", err.text);
	if (system("conntrack -F >/dev/null 2>&1"))
		tap_diag("cannot flush conntrack");
	for (int i = 0; i < 2; i++)
		if (prog[i] >= 0)
			close(prog[i]);
	table_maps_close(&maps);
	ir_table_free(&ir);
}

int main(int argc, char **argv)
{
	const char *path = "selftests/unit/flavor_cases", *only;
	struct xt_err err = { 0 };
	struct test_case c;
	char *line = NULL;
	size_t size = 0;
	FILE *in;
	int ret;

	verbose = argc > 1 && !strcmp(argv[1], "-v");
	argc -= verbose;
	argv += verbose;
	if (argc > 1)
		path = argv[1];
	only = argc > 2 ? argv[2] : "";
	in = fopen(path, "re");
	if (!in)
		printf("Bail out! %s\n", path);
	if (!in || !env_up() || drops_create(&drops))
		return 1;
	if (!net.nf)
		tap_skip("all but the module's", "the kernel has no programs of type netfilter");
	while ((ret = case_read(in, &c, &line, &size, &err)) > 0) {
		for (const struct mode *m = modes; m < modes + N_MODES && strstr(c.name, only); m++)
			if (fits(m, &c))
				test(&c, m);
		case_free(&c);
	}
	if (ret < 0) {
		tap_ok(false, "the cases are well-formed");
		tap_diag("%s", err.text);
		case_free(&c);
	}
	free(line);
	fclose(in);
	nfct_enable(NFPROTO_IPV4, NULL);	/* loads the module, where it is one */
	test_conntrack_lookup(false);
	test_conntrack_lookup(true);
	return tap_done();
}
