// SPDX-License-Identifier: GPL-2.0
/*
 * Groups change nothing: random tables compiled as they are and in groups, the
 * same random packets through both, exact alone and behind the early stage.
 * Verdicts and counters must be the same, packet by packet.  Every other table
 * is one for the module, with native targets (LOG, REJECT).  Then rules are taken out
 * or put in, one by one: the groups that are changed for it (classify_edit()) are
 * compared with the plain table again.
 *
 * usage: classify_test [-v] [ROUNDS [SEED]]
 */
#include <sys/mman.h>

#include "classify.h"
#include "classify_random.h"
#include "flavor_hook.h"
#include "tap.h"

#define PACKETS 60
#define EDITS 6		/* of a table */
#define TRIES 60	/* as many are not for its groups */

static bool verbose;
static bool module;	/* this round's tables are for it */

/* A table in one form, its programs and counters. */
struct form {
	struct ir_table ir, grouped;
	struct table_maps maps;
	int exact, early;
	struct xt_counters *counters;	/* by counters_read() */
	bool edited;
};

static void make_native(struct ir_table *t)
{
	t->slots = ir_alloc(t->arena, t->ncounters * sizeof(*t->slots));
	t->slot_names = ir_alloc(t->arena, t->ncounters * sizeof(*t->slot_names));
	for (__u32 c = 0; c < t->nchains; c++)
		for (__u32 i = 0; i < t->chains[c].nrules; i++) {
			struct ir_rule *r = &t->chains[c].rules[i];
			bool reject = r->action == IR_A_DROP && r->counter % 4 == 0;

			if (r->action != IR_A_LOG && !reject)
				continue;
			strcpy(t->slot_names[t->nslots], reject ? "REJECT" : "LOG");
			t->slots[t->nslots].kind = XTJIT_SLOT_TARGET;
			r->action = IR_A_NATIVE;
			r->arg = t->nslots++;
		}
}

/* Its programs, of @t, which is f->ir or f->grouped. */
static bool form_compile(struct form *f, const struct ir_table *t, struct xt_err *err)
{
	const struct compile_env env = { .ring = net.ring, .self = net.self, .l3off = HOOK_L3 };
	struct early_facts facts = { .nlocal = 2 };
	struct early_table et = { .maps = &f->maps };

	facts.local = t->family->addr_size == 16 ? local_ip6 : local_ip;
	et.ir = t;
	old_kernel(module && prng(2));
	f->exact = (module ? compile_hook : compile_exact)(t, &f->maps, &env, err);
	f->early = compile_early(EARLY_XDP, t->family, &et, 1, &facts, &env, err);
	old_kernel(false);
	return f->exact >= 0 && (f->early >= 0 || f->early == -ENOENT);
}

static void form_init(struct form *f)
{
	memset(f, 0, sizeof(*f));
	f->exact = f->early = f->maps.counters = f->maps.state = -1;
}

static bool form_load(struct form *f, const char *text, bool group, const struct cl_limits *limits,
		      struct xt_err *err)
{
	const struct ir_table *t = group ? &f->grouped : &f->ir;

	form_init(f);
	if (parse_ir(text, &f->ir, err) || passes_exact(&f->ir, err))
		return false;
	if (module)
		make_native(&f->ir);
	if (group && classify(&f->ir, limits, &f->grouped, err))
		return false;
	f->grouped.plain = NULL;	/* or that would be compiled if it cannot be */
	return !table_maps_create(&f->maps, t, err) && form_compile(f, t, err);
}

static void form_free(struct form *f)
{
	if (f->exact >= 0)
		close(f->exact);
	if (f->early >= 0)
		close(f->early);
	free(f->counters);
	table_maps_close(&f->maps);
	if (f->grouped.image)
		classify_free(&f->grouped);
	if (f->ir.arena)
		ir_table_free(&f->ir);
}

static void counters_read(struct form *f)
{
	free(f->counters);
	f->counters = counters_all(&f->maps);
}

static int answer(struct hook *h, __u32 slot, struct packet *p)
{
	const struct ir_table *t = h->priv;

	(void)p;
	return slot >= t->nslots ? -EINVAL :
	       classify_final(t, slot) ? ANSWER_VERDICT + NF_DROP : ANSWER_GO_ON;
}

static int send_to(const struct form *f, bool v6, bool early, struct packet *p, int *dropped)
{
	struct hook h = {
		.prog = f->exact, .hook = NF_INET_PRE_ROUTING, .answer = answer,
		.priv = (void *)(f->grouped.image ? &f->grouped : &f->ir),
	};

	if (early && f->early >= 0 && run_xdp(f->early, p) == XDP_DROP) {
		++*dropped;
		return NF_DROP;
	}
	return module ? run_hook(&h, p) : run_nf(f->exact, v6, h.hook, p);
}

static bool same_counters(struct form *a, struct form *b)
{
	bool same = true;

	counters_read(a);
	counters_read(b);
	for (__u32 i = 0; i < a->maps.ncounters; i++) {
		const struct xt_counters *x = &a->counters[i], *y = &b->counters[i];

		if (x->pcnt == y->pcnt && x->bcnt == y->bcnt)
			continue;
		tap_diag("counter %u: %llu, %llu, in groups %llu, %llu", i, x->pcnt, x->bcnt, y->pcnt,
			 y->bcnt);
		same = false;
	}
	return same;
}

static void show(const struct form *f)
{
	for (__u32 i = 0; i < f->grouped.ngroups; i++)
		classify_print(stdout, &f->grouped, &f->grouped.groups[i], "#   ", true);
}

static bool compare(const struct shape *s, struct form *plain, struct form *grouped, int drops[2])
{
	for (int i = 0; i < PACKETS; i++) {
		char words[300], copy[300];
		struct packet p;
		bool early;	/* the exact stage's test packets have no device */
		int a, b;

		random_words(s, words, sizeof(words));
		memcpy(copy, words, sizeof(copy));
		if (!packet_build(&p, s->v6, copy)) {
			tap_diag("no such packet: %s", words);
			return false;
		}
		early = i & 1 && !s->macs && !s->ifaces;
		a = send_to(plain, s->v6, early, &p, &drops[0]);
		b = send_to(grouped, s->v6, early, &p, &drops[1]);
		if (a == b && same_counters(plain, grouped))
			continue;
		tap_diag("%s: verdict %d, in groups %d%s", words, a, b, early ? ", early" : "");
		return false;
	}
	return true;
}

/*
 * Edits
 */

static const struct ir_rule *rule_of(void *arg, __u32 counter, __u32 *chain)
{
	const struct ir_table *t = arg;

	for (__u32 c = 0; c < t->nchains; c++)
		for (__u32 i = 0; i < t->chains[c].nrules; i++)
			if (t->chains[c].rules[i].counter == counter) {
				*chain = c;
				return &t->chains[c].rules[i];
			}
	return NULL;
}

static const struct ir_rule *any_rule(const struct ir_table *t, __u32 *chain, __u32 *at)
{
	const struct ir_chain *c;

	do {
		*chain = prng(t->nchains);
		c = &t->chains[*chain];
	} while (!c->nrules);
	*at = prng(c->nrules);
	return &c->rules[*at];
}

/* The rule, with the address it tests first, if any, somewhere else. */
static const struct ir_rule *elsewhere(const struct ir_table *t, const struct shape *s,
				       const struct ir_rule *r)
{
	struct ir_rule *moved = ir_alloc(t->arena, sizeof(*moved));

	*moved = *r;
	if (!r->npreds)
		return moved;
	moved->preds = ir_alloc(t->arena, r->npreds * sizeof(*r->preds));
	memcpy(moved->preds, r->preds, r->npreds * sizeof(*r->preds));
	for (int i = 0; i < r->npreds; i++) {
		struct ir_pred *p = &moved->preds[i];

		if (p->kind != IR_P_RANGE || p->lo != p->hi ||
		    (p->field != IR_SADDR && p->field != IR_DADDR))
			continue;
		p->lo = p->hi = (p->lo & 0xffffff) | (first_byte(s) << 24 & p->mask);
		break;
	}
	return moved;
}

/* A change of one rule: one like some other comes, or one goes that is no policy. */
static void random_edit(const struct ir_table *t, const struct shape *s, struct cl_edit *e,
			__u32 *at)
{
	const struct ir_rule *old = any_rule(t, &e->chain, at), *other;
	__u32 chain, i;

	e->at = old->counter;
	e->rule = rule_of;
	e->arg = (void *)t;
	other = any_rule(t, &chain, &i);
	if (prng(2) || *at + 1 == t->chains[e->chain].nrules) {
		e->nadd = 1;
		e->add = prng(2) ? other : elsewhere(t, s, other);
	}
	if (!e->nadd || (prng(4) == 0 && *at + 1 < t->chains[e->chain].nrules)) {
		e->ndel = 1;
		e->del = old;
	}
}

/*
 * What the edit does to native slots; @add: the new rule, as it is numbered.  False:
 * packets go on behind one that comes or goes, which is not for an edit.
 */
static bool edit_slots(const struct ir_table *t, struct cl_edit *e, struct ir_rule *add)
{
	for (__u32 c = 0; c < t->nchains; c++)
		for (__u32 i = 0; i < t->chains[c].nrules; i++)
			e->slot += t->chains[c].rules[i].counter < e->at &&
				   t->chains[c].rules[i].action == IR_A_NATIVE;
	e->slots_del = e->ndel && e->del->action == IR_A_NATIVE;
	e->slots_add = e->nadd && e->add->action == IR_A_NATIVE;
	if ((e->slots_del && !classify_final(t, e->del->arg)) ||
	    (e->slots_add && !classify_final(t, e->add->arg)))
		return false;
	if (e->slots_add) {
		*add = *e->add;
		add->arg = e->slot;
		e->add = add;
	}
	return true;
}

/* Numbers the slots, which are as @from has them numbered. */
static void number_slots(struct ir_table *t, const struct ir_table *from)
{
	t->nslots = 0;
	t->slots = ir_alloc(t->arena, (from->nslots + 1) * sizeof(*t->slots));
	t->slot_names = ir_alloc(t->arena, (from->nslots + 1) * sizeof(*t->slot_names));
	for (__u32 c = 0; c < t->nchains; c++)
		for (__u32 i = 0; i < t->chains[c].nrules; i++) {
			struct ir_rule *r = &t->chains[c].rules[i];

			if (r->action != IR_A_NATIVE)
				continue;
			t->slots[t->nslots] = from->slots[r->arg];
			strcpy(t->slot_names[t->nslots], from->slot_names[r->arg]);
			r->arg = t->nslots++;
		}
}

/* The table as it is after the edit; its predicates stay the old one's. */
static void edit_table(const struct ir_table *t, const struct cl_edit *e, __u32 at,
		       struct ir_table *out)
{
	*out = *t;
	out->arena = ir_arena_new();
	out->ncounters += e->nadd - e->ndel;
	out->chains = ir_alloc(out->arena, t->nchains * sizeof(*out->chains));
	for (__u32 c = 0; c < t->nchains; c++) {
		const struct ir_chain *from = &t->chains[c];
		struct ir_chain *to = &out->chains[c];

		*to = *from;
		to->nrules = 0;
		to->rules = ir_alloc(out->arena, (from->nrules + 1) * sizeof(*to->rules));
		for (__u32 i = 0; i < from->nrules; i++) {
			bool here = c == e->chain && i == at;

			if (here && e->nadd) {
				to->rules[to->nrules] = *e->add;
				to->rules[to->nrules++].counter = e->at;
			}
			if (here && e->ndel)
				continue;
			to->rules[to->nrules] = from->rules[i];
			if (from->rules[i].counter >= e->at + e->ndel)
				to->rules[to->nrules].counter += e->nadd - e->ndel;
			to->nrules++;
		}
	}
	number_slots(out, t);
}

/* @a, @b: the same table, plain and in groups; changed, if the groups can be. */
static bool one_edit(const struct shape *s, struct form *a, struct form *b, __u32 *edits,
		     struct form olds[2], int drops[2])
{
	struct xt_err err = { 0 };
	struct cl_edit e = { 0 }, numbered;
	struct ir_rule add;
	struct form x, y;
	__u32 at;
	bool ok;
	int ret;

	random_edit(&a->ir, s, &e, &at);
	numbered = e;
	form_init(&x);
	form_init(&y);
	ret = edit_slots(&a->ir, &numbered, &add) ?
	      classify_edit(&b->grouped, &numbered, &y.grouped, &err) : -EAGAIN;
	if (ret == -EAGAIN)
		return true;
	edit_table(&a->ir, &e, at, &x.ir);
	y.grouped.nslots = x.ir.nslots;
	y.grouped.slots = x.ir.slots;
	y.grouped.slot_names = x.ir.slot_names;
	ok = !ret && !table_maps_create(&x.maps, &x.ir, &err) &&
	     !table_maps_create(&y.maps, &y.grouped, &err) && form_compile(&x, &x.ir, &err) &&
	     form_compile(&y, &y.grouped, &err);
	if (!ok)
		tap_diag("edit: %s", err.text);
	ok = ok && compare(s, &x, &y, drops);
	if (!ok)
		tap_diag("after an edit of chain %u at %u: %u gone, %u new", e.chain, e.at,
			 e.ndel, e.nadd);
	edits[0]++;
	edits[1] += numbered.slots_add + numbered.slots_del > 0;
	y.edited = true;
	if (b->edited)		/* what comes after does not need it */
		classify_free(&b->grouped);
	olds[0] = *a;
	olds[1] = *b;
	*a = x;
	*b = y;
	return ok;
}

/* All forms stay until the end: later ones use their memory. */
static bool random_edits(const struct shape *s, struct form *a, struct form *b, __u32 *edits,
			 int drops[2])
{
	struct form olds[EDITS][2];
	bool ok = true;
	int n = 0;

	for (int i = 0; i < TRIES && n < EDITS && ok; i++) {
		__u32 before = *edits;

		ok = one_edit(s, a, b, edits, olds[n], drops);
		n += *edits > before;
	}
	while (n--) {
		form_free(&olds[n][0]);
		form_free(&olds[n][1]);
	}
	return ok;
}

static bool one_round(__u64 round, int drops[2], __u32 grouped[8])
{
	struct cl_limits limits = { .family = 1 + prng(4), .group = 1 + prng(3), .chains = prng(3),
				     .deep = prng(2) };
	struct xt_err err = { 0 };
	struct form a, b;
	struct shape s;
	int counters;
	char *text;
	bool ok;

	module = !net.nf || round & 1;
	random_shape(&s);
	text = random_table(&s, &counters);
	ok = form_load(&a, text, false, NULL, &err);
	if (!ok)
		tap_diag("plain: %s", err.text);
	if (ok && !form_load(&b, text, true, &limits, &err)) {
		ok = false;
		tap_diag("in groups: %s", err.text);
	}
	if (ok)
		ok = compare(&s, &a, &b, drops);
	for (__u32 i = 0; i < b.grouped.ngroups; i++) {
		grouped[0] += b.grouped.groups[i].nmembers;
		grouped[1] += b.grouped.groups[i].nrest;
		for (__u32 k = 0; k < b.grouped.groups[i].nfamilies; k++) {
			const struct cl_family *f = &b.grouped.groups[i].families[k];

			grouped[5] += f->deep;
			grouped[6] += f->sieve && !f->spread;
			grouped[7] += f->spread;
		}
	}
	for (__u32 c = 0; c < b.grouped.nchains; c++)
		grouped[4] += b.grouped.chains[c].merges;
	if (!ok || verbose) {
		tap_diag("round %llu: ip%s, %d rules", round, s.v6 ? "6" : "", s.rules);
		show(&b);
	}
	if (!ok && verbose)
		fputs(text, stdout);
	if (ok && b.grouped.ngroups)
		ok = random_edits(&s, &a, &b, &grouped[2], drops);
	free(text);
	form_free(&a);
	form_free(&b);
	return ok;
}

/* A third, half of the rest, and the rest of the packets go to a chain each, by lots. */
static bool shares(void)
{
	static const char text[] =
		"table ip raw\ncounters 8\nchain PREROUTING hook 0\n0: -> jump 1\n1: -> accept\n"
		"chain service\n2: random 0x2aaaaaab -> jump 2\n3: random 0x40000000 -> jump 3\n"
		"4: -> jump 4\nchain a\n5: -> drop\nchain b\n6: -> drop\nchain c\n7: -> drop\n";
	const struct cl_limits limits = { .family = 1, .group = 1, .chains = 1 };
	char words[] = "tcp";
	struct xt_err err = { 0 };
	struct packet p;
	struct form f;
	int none = 0;
	bool ok;

	module = !net.nf;
	ok = form_load(&f, text, true, &limits, &err) && packet_build(&p, false, words);
	if (!ok)
		tap_diag("shares: %s", err.text);
	ok = ok && f.grouped.nchains == f.ir.nchains + 2;	/* merged at two depths */
	for (int i = 0; ok && i < 6000; i++)
		send_to(&f, false, false, &p, &none);
	if (ok)
		counters_read(&f);
	for (int i = 5; ok && i < 8; i++) {
		ok = f.counters[i].pcnt > 1800 && f.counters[i].pcnt < 2200;	/* 5.5 sigma */
		if (!ok)
			tap_diag("shares: counter %d is %llu", i, f.counters[i].pcnt);
	}
	form_free(&f);
	return ok;
}

int main(int argc, char **argv)
{
	int rounds, drops[2] = { 0 }, bad = 0;
	__u32 grouped[8] = { 0 };
	__u64 seed;

	verbose = argc > 1 && !strcmp(argv[1], "-v");
	argc -= verbose;
	argv += verbose;
	rounds = argc > 1 ? atoi(argv[1]) : 250;
	seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	if (!env_up())
		return 1;
	for (int i = 0; i < rounds && bad < 5; i++) {
		prng_state = 88172645463325252ull ^ (seed + i) * 0x9e3779b97f4a7c15;
		prng(2);
		if (!one_round(seed + i, drops, grouped)) {
			tap_diag("again by: classify_test -v 1 %llu", seed + i);
			bad++;
		}
	}
	tap_ok(!bad, "%d random tables are the same in groups", rounds);
	tap_ok(drops[1] * 10 > drops[0] * 9, "%d packets dropped early, in groups %d", drops[0],
	       drops[1]);
	tap_ok(grouped[0] > (__u32)rounds * 20, "%u rules were in groups, %u between", grouped[0],
	       grouped[1]);
	tap_ok(grouped[2] > (__u32)rounds && grouped[3] * 20 > (__u32)rounds,
	       "%u changes of rules in groups, %u of native slots", grouped[2], grouped[3]);
	tap_ok(shares(), "lots are drawn for each rule of a merged chain");
	tap_ok(grouped[4] > (__u32)rounds, "%u chains were merged", grouped[4]);
	tap_ok(grouped[5] || rounds < 250, "%u families had long lists", grouped[5]);
	tap_ok(grouped[6] > (__u32)rounds / 4 && grouped[7] > (__u32)rounds / 4,
	       "%u families are passed over by a sieve, of %u their tables, too", grouped[6], grouped[7]);
	return tap_done();
}
