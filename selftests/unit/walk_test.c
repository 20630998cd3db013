// SPDX-License-Identifier: GPL-2.0
/*
 * Random tables and packets: the compiled programs, with and without the early
 * stage before them, must give the verdicts and counts of a plain reading of
 * the rules.  Those for the module have some of their predicates and actions
 * done by it, that is, by the plain reading; some are for an old kernel.
 *
 * usage: walk_test [ROUNDS [SEED]]
 */
#include "classify.h"
#include "flavor_hook.h"
#include "prng.h"
#include "tap.h"

#define TABLES 3
#define PACKETS 12
#define MAX_STEPS 20000		/* a walk that is longer is not compared */
#define MAX_COUNTERS 30000
#define NTHS 2
#define LIMITS 2

/* What the rules see of a packet. */
struct facts {
	int proto, ttl, saddr, dport, l4;
	bool bad_doff, option;
	char words[128];
};

/* The tables' state, as the reading keeps it. */
struct reading {
	const struct ir_table *t;
	const struct facts *p;
	__u32 nth[NTHS], limit[LIMITS];
	__u64 *count;		/* by counter */
	long steps;
};

enum end { END_RETURN, END_ACCEPT, END_DROP };
enum hit { MISS, HIT, HOTDROP };

static enum hit option(const struct facts *p, bool inv)
{
	if (p->l4 < (p->option ? 32 : 20) || p->bad_doff)
		return HOTDROP;
	return p->option != inv ? HIT : MISS;
}

static enum hit range(const struct ir_pred *p, const struct facts *f)
{
	__u64 v = 0;

	switch (p->field) {
	case IR_PROTO:
		v = f->proto;
		break;
	case IR_TTL:
		v = f->ttl;
		break;
	case IR_SADDR:
		v = 0x0a000000 + f->saddr;
		break;
	case IR_DPORT:
		v = f->dport;
		break;
	case IR_MARK:
		v = 0;
		break;
	}
	v &= p->mask;
	return (v >= p->lo && v <= p->hi) != p->inv ? HIT : MISS;
}

static enum hit predicate(struct reading *r, const struct ir_pred *p)
{
	const struct ir_nth *n;
	bool yes;

	switch (p->kind) {
	case IR_P_RANGE:
		return range(p, r->p);
	case IR_P_L4:
		return (__u32)r->p->l4 < p->len ? HOTDROP : HIT;
	case IR_P_TCPOPT:
		return option(r->p, p->inv);
	case IR_P_NTH:
		n = &r->t->nths[p->index];
		yes = r->nth[p->index] == n->every;
		r->nth[p->index] = yes ? 0 : r->nth[p->index] + 1;
		return yes != p->inv ? HIT : MISS;
	case IR_P_LIMIT:	/* nothing comes back in the time of this test */
		yes = r->limit[p->index] > 0;
		r->limit[p->index] -= yes;
		return yes != p->inv ? HIT : MISS;
	default:		/* false */
		return p->inv ? HIT : MISS;
	}
}

static enum hit match(struct reading *r, const struct ir_rule *rule)
{
	for (int i = 0; i < rule->npreds; i++) {
		enum hit h = predicate(r, &rule->preds[i]);

		if (h != HIT)
			return h;
	}
	return HIT;
}

static enum end walk(struct reading *r, __u32 chain)
{
	const struct ir_chain *c = &r->t->chains[chain];
	enum end e = END_RETURN;

	for (__u32 i = 0; i < c->nrules && r->steps < MAX_STEPS; i++) {
		const struct ir_rule *rule = &c->rules[i];
		enum hit h = match(r, rule);

		r->steps++;
		if (h == HOTDROP)
			return END_DROP;
		if (h == MISS)
			continue;
		r->count[rule->counter]++;
		switch (rule->action) {
		case IR_A_ACCEPT:
			return END_ACCEPT;
		case IR_A_DROP:
			return END_DROP;
		case IR_A_RETURN:
			return END_RETURN;
		case IR_A_GOTO:
			return walk(r, rule->arg);
		case IR_A_JUMP:
			e = walk(r, rule->arg);
			if (e != END_RETURN)
				return e;
		}
	}
	return END_RETURN;
}

static enum end walk_base(struct reading *r, int hook)
{
	const struct ir_chain *c = &r->t->chains[r->t->base_chain[hook]];
	const struct ir_rule *policy = &c->rules[c->nrules - 1];
	enum end e = walk(r, r->t->base_chain[hook]);

	if (e != END_RETURN)
		return e;
	r->count[policy->counter]++;
	return policy->action == IR_A_DROP ? END_DROP : END_ACCEPT;
}

static void any_pred(FILE *f)
{
	switch (prng(14)) {
	case 0:
	case 1:
		fprintf(f, "%sttl in %d-%d", prng(2) ? "! " : "", prng(4), 4 + prng(4));
		break;
	case 2:
	case 3:
		fprintf(f, "%ssaddr == 10.0.0.%d/3%d", prng(2) ? "! " : "", 2 + prng(4), prng(3));
		break;
	case 4:
	case 5:
	case 6:
		fprintf(f, "proto == 17");
		break;
	case 7:
	case 8:
		fprintf(f, "l4 8; dport %s", prng(2) ? "in 1-2" : "== 3");
		break;
	case 9:
		fprintf(f, "proto == 6; l4 20 tcp; %stcpopt 8", prng(2) ? "! " : "");
		break;
	case 10:
		fprintf(f, "%snth %d period %d", prng(2) ? "! " : "", 0, 3);
		break;
	case 11:
		fprintf(f, "%slimit %d", prng(4) ? "" : "! ", prng(LIMITS));
		break;
	case 12:
		fprintf(f, "mark == %d", prng(2));
		break;
	default:
		fprintf(f, prng(2) ? "false" : "! false");
	}
}

static void any_action(FILE *f, int chain, int nchains, int quiet)
{
	int left = nchains - chain - 1, what = prng(quiet);

	if (what < 3 && left > 0)
		fprintf(f, "%s %d", what ? "jump" : "goto", chain + 1 + prng(left));
	else if (what == 3)
		fprintf(f, "return");
	else if (what == 4)
		fprintf(f, "drop");
	else if (what == 5)
		fprintf(f, "accept");
	else
		fprintf(f, "next");
}

/* Returns the next free counter. */
static int any_chain(FILE *f, int chain, int nchains, int rules, int counter, bool base)
{
	for (int i = prng(rules); i > 0; i--) {
		fprintf(f, " %d: ", counter++);
		for (int n = prng(4); n > 0; n--) {
			any_pred(f);
			fprintf(f, n > 1 ? "; " : " ");
		}
		fprintf(f, "-> ");
		any_action(f, chain, nchains, rules > 20 ? 40 : 10);
		fprintf(f, "\n");
	}
	if (base)
		fprintf(f, " %d: -> %s\n", counter++, prng(2) ? "drop" : "accept");
	return counter;
}

/* Base chains come first, so that all may jump to the chains that follow. */
static char *any_table(int which, int rules)
{
	static const char *const names[TABLES] = { "raw", "mangle", "filter" };
	int nbase = which == 1 ? 2 : 1, nchains = nbase + prng(7), counter = 0;
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	fprintf(f, "table ip %s\ncounters %d\nnth 0 every 2 first 1\nnth 1 every 0 first 0\n"
		"limit 0 avg 600000 burst 3\nlimit 1 avg 600000 burst 5\n", names[which],
		MAX_COUNTERS);
	for (int c = 0; c < nchains; c++) {
		bool base = c < nbase;

		if (base)
			fprintf(f, "chain b%d hook %d\n", c, which == 2 || c ? 1 : 0);
		else
			fprintf(f, "chain c%d\n", c);
		counter = any_chain(f, base ? nbase - 1 : c, nchains, rules, counter, base);
	}
	fclose(f);
	return text;
}

static void any_packet(struct facts *p, struct packet *out)
{
	static const int protos[] = { 6, 17, 17, 17, 50 };
	char words[128], extra[40] = "";

	*p = (struct facts){
		.proto = protos[prng(5)], .ttl = 1 + prng(8), .saddr = 2 + prng(5),
		.dport = 1 + prng(4), .l4 = 8,
	};
	if (p->proto == 6) {
		p->bad_doff = !prng(6);
		p->option = !p->bad_doff && prng(2);
		p->l4 = p->option ? 32 : 20;
		snprintf(extra, sizeof(extra), "%s", p->bad_doff ? "doff 4" :
			 p->option ? "opt 8 10" : "");
	}
	if (p->proto == 50)	/* what is in its place */
		p->dport = 0x0203;
	if (!prng(8)) {
		p->l4 = prng(p->l4);
		snprintf(extra + strlen(extra), sizeof(extra) - strlen(extra), " l4 %d", p->l4);
	}
	snprintf(p->words, sizeof(p->words), "%s ttl %d saddr 10.0.0.%d %s%d %s",
		 p->proto == 6 ? "tcp" : p->proto == 17 ? "udp" : "proto 50 payload 8", p->ttl,
		 p->saddr, "dport ", p->dport, extra);
	strcpy(words, p->words);
	if (!packet_build(out, false, words))
		tap_diag("no such packet: %s", p->words);
}

enum mode { EXACT, WITH_XDP, MODULE, MODES };

static const char *const mode_name[MODES] = { "exact", "with XDP", "module" };

/* A native slot, by what it stands for. */
struct native {
	struct ir_pred pred;
	int action;
};

/* Everything that one round has; early -1: none. */
struct round {
	struct ir_table ir[TABLES], exact[TABLES], module[TABLES], grouped[TABLES];
	struct native *native[TABLES];
	struct table_maps maps[MODES][TABLES];
	int prog[MODES][TABLES], early;
	struct reading read[TABLES];
	const struct facts *p;
};

/* One that is not the chain's policy: some of it is left to the module. */
static void make_native(struct round *r, int table, struct ir_rule *rule)
{
	struct ir_table *t = &r->module[table];

	for (int i = 0; i < rule->npreds; i++) {
		if (rule->preds[i].kind != IR_P_RANGE || prng(3))
			continue;
		r->native[table][t->nslots].pred = rule->preds[i];
		t->slots[t->nslots].kind = XTJIT_SLOT_MATCH;
		strcpy(t->slot_names[t->nslots], prng(9) ? "recent" : "unknown");
		rule->preds[i] = (struct ir_pred){ .kind = IR_P_NATIVE, .index = t->nslots++ };
	}
	if ((rule->action != IR_A_NEXT && rule->action != IR_A_DROP &&
	     rule->action != IR_A_ACCEPT) || prng(3))
		return;
	r->native[table][t->nslots].action = rule->action;
	t->slots[t->nslots].kind = XTJIT_SLOT_TARGET;
	strcpy(t->slot_names[t->nslots], !prng(9) ? "UNKNOWN" :
	       rule->action == IR_A_NEXT ? "LOG" : "REJECT");
	rule->action = IR_A_NATIVE;
	rule->arg = t->nslots++;
}

static void make_natives(struct round *r, int table)
{
	struct ir_table *t = &r->module[table];

	t->slots = ir_alloc(t->arena, 4 * MAX_COUNTERS * sizeof(*t->slots));
	t->slot_names = ir_alloc(t->arena, 4 * MAX_COUNTERS * sizeof(*t->slot_names));
	r->native[table] = calloc(4 * MAX_COUNTERS, sizeof(*r->native[table]));
	for (__u32 c = 0; c < t->nchains; c++)
		for (__u32 i = 0; i + (t->chains[c].hook >= 0) < t->chains[c].nrules; i++)
			make_native(r, table, &t->chains[c].rules[i]);
}

/* The module's, sometimes in groups. */
static int load_module(struct round *r, int t, struct xt_err *err)
{
	const struct compile_env env = { .ring = -1, .self = -1, .l3off = HOOK_L3 };
	const struct cl_limits few = { .family = 1, .group = 2, .chains = 1 };
	const struct ir_table *table = &r->module[t];
	int fd;

	make_natives(r, t);
	if (prng(2)) {
		if (classify(table, &few, &r->grouped[t], err))
			return -1;
		table = &r->grouped[t];
	}
	old_kernel(prng(2));
	fd = compile_hook(table, &r->maps[MODULE][t], &env, err);
	old_kernel(false);
	return fd;
}

static bool load_table(struct round *r, int t, int rules, struct xt_err *err)
{
	const struct compile_env env = { .ring = net.ring, .self = net.self };
	const struct compile_env module = { .ring = -1, .self = -1, .l3off = HOOK_L3 };
	char *text = any_table(t, rules);
	bool ok = !parse_ir(text, &r->ir[t], err) && !parse_ir(text, &r->exact[t], err) &&
		  !parse_ir(text, &r->module[t], err) && !passes_exact(&r->exact[t], err) &&
		  !passes_exact(&r->module[t], err);

	free(text);
	for (int m = 0; ok && m < MODES; m++) {
		ok = !table_maps_create(&r->maps[m][t], &r->ir[t], err);
		if (!ok)
			break;
		if (m == MODULE)
			r->prog[m][t] = load_module(r, t, err);
		else
			r->prog[m][t] = (net.nf ? compile_exact : compile_hook)
				(&r->exact[t], &r->maps[m][t], net.nf ? &env : &module, err);
		ok = r->prog[m][t] >= 0;
	}
	return ok;
}

static bool load(struct round *r, int rules, struct xt_err *err)
{
	const struct compile_env env = { .ring = net.ring, .self = net.self };
	struct early_facts facts = { .nlocal = 2, .local = local_ip };
	struct early_table et[TABLES];

	for (int t = 0; t < TABLES; t++) {
		if (!load_table(r, t, rules, err))
			return false;
		et[t] = (struct early_table){ .ir = &r->ir[t], .maps = &r->maps[WITH_XDP][t] };
	}
	old_kernel(prng(2));
	r->early = compile_early(EARLY_XDP, &xt_family_ip, et, TABLES, &facts, &env, err);
	old_kernel(false);
	return r->early >= 0 || r->early == -ENOENT;
}

static void begin(struct round *r)
{
	memset(r, 0, sizeof(*r));
	r->early = -1;
	for (int t = 0; t < TABLES; t++) {
		for (int m = 0; m < MODES; m++) {
			r->prog[m][t] = -1;
			r->maps[m][t] = (struct table_maps){ .counters = -1, .state = -1 };
		}
		r->read[t] = (struct reading){
			.t = &r->ir[t], .nth = { 1, 0 }, .limit = { 3, 5 },
			.count = calloc(MAX_COUNTERS, sizeof(__u64)),
		};
	}
}

static void end(struct round *r)
{
	for (int t = 0; t < TABLES; t++) {
		for (int m = 0; m < MODES; m++) {
			if (r->prog[m][t] >= 0)
				close(r->prog[m][t]);
			table_maps_close(&r->maps[m][t]);
		}
		if (r->ir[t].arena)
			ir_table_free(&r->ir[t]);
		if (r->exact[t].arena)
			ir_table_free(&r->exact[t]);
		if (r->grouped[t].arena)
			classify_free(&r->grouped[t]);
		if (r->module[t].arena)
			ir_table_free(&r->module[t]);
		free(r->native[t]);
		free(r->read[t].count);
	}
	if (r->early >= 0)
		close(r->early);
}

/* In the order of the path: table and hook. */
static const int path[][2] = { { 0, 0 }, { 1, 0 }, { 1, 1 }, { 2, 1 } };

/* END_ACCEPT or END_DROP; false: too long to be compared. */
static bool read_packet(struct round *r, const struct facts *p, enum end *e)
{
	*e = END_ACCEPT;
	for (int i = 0; i < 4 && *e == END_ACCEPT; i++) {
		struct reading *rd = &r->read[path[i][0]];

		rd->p = p;
		rd->steps = 0;
		*e = walk_base(rd, path[i][1]);
		if (rd->steps >= MAX_STEPS)
			return false;
	}
	return true;
}

/* As the module would: by the plain reading of what the slot stands for. */
static int answer(struct hook *h, __u32 slot, struct packet *p)
{
	const struct round *r = h->priv;
	const struct native *n = &r->native[h->table][slot];

	(void)p;
	if (r->module[h->table].slots[slot].kind == XTJIT_SLOT_MATCH)
		return range(&n->pred, r->p) == HIT ? ANSWER_MATCH : ANSWER_MISS;
	if (n->action == IR_A_NEXT)
		return ANSWER_GO_ON;
	return ANSWER_VERDICT + (n->action == IR_A_DROP ? NF_DROP : NF_ACCEPT);
}

static int run_table(struct round *r, int m, int table, int hook, struct packet *p)
{
	struct hook h = {
		.prog = r->prog[m][table], .hook = hook, .answer = answer, .priv = r,
		.table = table,
	};

	if (m == MODULE || !net.nf)
		return run_hook(&h, p);
	return run_nf(h.prog, false, hook, p);
}

static int run_packet(struct round *r, int m, struct packet *p, bool *dropped)
{
	int ret = NF_ACCEPT;

	*dropped = m == WITH_XDP && r->early >= 0 && run_xdp(r->early, p) == XDP_DROP;
	for (int i = 0; i < 4 && ret == NF_ACCEPT && !*dropped; i++)
		ret = run_table(r, m, path[i][0], path[i][1], p);
	return *dropped ? NF_DROP : ret;
}

/* All counters of all CPUs against what was read. */
static bool same_counts(const struct round *r, int m)
{
	__u64 *one = malloc(counters_stride(&r->maps[m][0])), *sum = malloc(MAX_COUNTERS * 8);
	bool same = true;

	for (int t = 0; same && t < TABLES; t++) {
		memset(sum, 0, MAX_COUNTERS * 8);
		for (int cpu = 0; cpu < possible_cpus(); cpu++)
			if (!bpf_map_lookup_elem(r->maps[m][t].counters, &cpu, one))
				for (int i = 0; i < MAX_COUNTERS; i++)
					sum[i] += one[2 * i];
		for (int i = 0; same && i < MAX_COUNTERS; i++) {
			same = sum[i] == r->read[t].count[i];
			if (!same)
				tap_diag("%s: %s, counter %d: %llu, not %llu", mode_name[m],
					 r->ir[t].table->name, i, sum[i], r->read[t].count[i]);
		}
	}
	free(one);
	free(sum);
	return same;
}

static long compared, early_drops;

static bool test_packet(struct round *r)
{
	struct packet p;
	struct facts f;
	enum end want;
	bool dropped, ok = true;

	any_packet(&f, &p);
	if (!read_packet(r, &f, &want))
		return false;
	r->p = &f;
	for (int m = 0; ok && m < MODES; m++) {
		int got = run_packet(r, m, &p, &dropped);

		early_drops += dropped;
		ok = got == (want == END_ACCEPT ? NF_ACCEPT : NF_DROP);
		if (!ok)
			tap_diag("%s: verdict %d", mode_name[m], got);
		ok &= same_counts(r, m);
	}
	compared++;
	if (!ok)
		tap_diag("packet: %s", f.words);
	return ok;
}

static bool test_round(int rules)
{
	struct xt_err err = { 0 };
	struct round r;
	bool ok = true;

	begin(&r);
	if (!load(&r, rules, &err)) {
		tap_diag("%s", err.text);
		ok = false;
	}
	for (int i = 0; ok && i < PACKETS; i++) {
		ok = test_packet(&r);
		/* a walk that was cut short has spoiled what was read */
		for (int t = 0; t < TABLES; t++)
			if (r.read[t].steps >= MAX_STEPS) {
				end(&r);
				return true;
			}
	}
	for (int t = 0; !ok && getenv("WALK_PRINT") && t < TABLES && r.ir[t].arena; t++)
		ir_print(stdout, &r.ir[t]);
	end(&r);
	return ok;
}

static void test(int rounds, int rules, __u64 seed)
{
	bool ok = true;

	compared = early_drops = 0;
	for (int i = 0; ok && i < rounds; i++) {
		prng_state = 88172645463325252ull + seed + i;
		for (int n = 0; n < 9; n++)
			prng(2);
		ok = test_round(rules);
		if (!ok)
			tap_diag("round %d of up to %d rules a chain", i, rules);
	}
	/* long chains match more than the early stage remembers */
	tap_ok(ok && (rules > 20 || early_drops * 10 > compared),
	       "up to %d rules a chain: %ld packets, %ld dropped early", rules, compared,
	       early_drops);
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 200;
	__u64 seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 0;

	if (!env_up())
		return 1;
	test(rounds, 6, seed);
	test(rounds, 15, seed);
	test(1 + rounds / 40, 4000, seed);
	return tap_done();
}
