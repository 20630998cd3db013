// SPDX-License-Identifier: GPL-2.0
/*
 * Large and deep tables: that they load, in time, and that what they decide
 * and count is right at all their edges; as programs of type NETFILTER, for the
 * module, and as for an old kernel.
 */
#include <time.h>

#include "classify.h"
#include "flavor_hook.h"
#include "tap.h"

#define LOAD_SECONDS 5		/* of a sanitized build, too */
#define VM_SECONDS 60		/* without hardware that runs virtual machines */

/* Of the exact stage. */
static enum way { NETFILTER, MODULE, MODULE_OLD, WAYS } way;

static bool trace;		/* with lines of traced packets, which the module logs */

static const char *const way_name[WAYS] = { "netfilter", "module", "module, old kernel" };

/* One table, in all its forms; early is run by XDP. */
struct large {
	struct ir_table ir, groups;
	struct table_maps maps;
	int exact, early;
	double seconds;		/* the slower one of both */
	struct xt_err err;
};

/* Of our own, the verifier's work for us included: others may keep the machine busy. */
static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Compiles the table in @text, which is freed, in groups or as it is.  What did not load is negative. */
static void load_as(struct large *l, char *text, bool grouped)
{
	struct compile_env env = {
		.ring = net.ring, .self = net.self, .l3off = HOOK_L3, .trace = trace,
	};
	struct early_facts facts = { .nlocal = 2, .local = local_ip };
	const struct ir_table *ir = grouped ? &l->groups : &l->ir;
	struct early_table t = { .ir = ir, .maps = &l->maps };
	double start;

	*l = (struct large){ .exact = -1, .early = -1, .maps = { .counters = -1, .state = -1 } };
	if (parse_ir(text, &l->ir, &l->err) ||
	    (grouped && classify(&l->ir, &cl_limits_default, &l->groups, &l->err)) ||
	    table_maps_create(&l->maps, ir, &l->err)) {
		tap_diag("%s", l->err.text);
		free(text);
		return;
	}
	free(text);
	old_kernel(way == MODULE_OLD);
	start = now();
	l->exact = (way == NETFILTER ? compile_exact : compile_hook)(ir, &l->maps, &env, &l->err);
	l->seconds = now() - start;
	start = now();
	env.trace = false;
	l->early = compile_early(EARLY_XDP, l->ir.family, &t, 1, &facts, &env, &l->err);
	if (now() - start > l->seconds)
		l->seconds = now() - start;
	old_kernel(false);
}

static void large_load(struct large *l, char *text)
{
	load_as(l, text, false);
}

static void large_free(struct large *l)
{
	if (l->exact >= 0)
		close(l->exact);
	if (l->early >= 0)
		close(l->early);
	table_maps_close(&l->maps);
	if (l->groups.arena)
		classify_free(&l->groups);
	if (l->ir.arena)
		ir_table_free(&l->ir);
}

static __u64 packets(const struct large *l, __u32 counter)
{
	struct xt_counters *all = counters_all(&l->maps);
	__u64 n = all[counter].pcnt;

	free(all);
	return n;
}

/* Of all counters. */
static __u64 total(const struct large *l)
{
	struct xt_counters *all = counters_all(&l->maps);
	__u64 n = 0;

	for (__u32 i = 0; i < l->maps.ncounters; i++)
		n += all[i].pcnt;
	free(all);
	return n;
}

static int run_exact(const struct large *l, struct packet *p)
{
	struct hook h = { .prog = l->exact, .hook = NF_INET_LOCAL_IN };

	return way == NETFILTER ? run_nf(l->exact, false, h.hook, p) : run_hook(&h, p);
}

struct sent {
	int verdict;		/* NF_DROP, NF_ACCEPT */
	bool early;
	__u64 counted;		/* by all rules together */
};

/* One packet through the early stage, if @early, then through INPUT. */
static struct sent send_one(const struct large *l, bool early, const char *words)
{
	struct sent s = { .verdict = -1 };
	__u64 was = total(l);
	struct packet p;
	char *copy = strdup(words);

	if (!packet_build(&p, false, copy))
		tap_diag("no such packet: %s", words);
	free(copy);
	if (early && l->early >= 0)
		s.early = run_xdp(l->early, &p) == XDP_DROP;
	s.verdict = s.early ? NF_DROP : run_exact(l, &p);
	s.counted = total(l) - was;
	return s;
}

/*
 * Sends the packet twice, with and without the early stage: both must give
 * @verdict, count @counted in all, and count at @where.
 */
static bool check(const struct large *l, const char *words, int verdict, __u64 counted, __u32 where)
{
	for (int early = 0; early < 2; early++) {
		__u64 was = packets(l, where);
		struct sent s = send_one(l, early, words);

		if (s.verdict == verdict && s.counted == counted && packets(l, where) == was + 1)
			continue;
		tap_diag("%s: verdict %d, %llu counted, %llu at %u", words, s.verdict, s.counted,
			 packets(l, where) - was, where);
		return false;
	}
	return true;
}

static bool loaded(const struct large *l, const char *name)
{
	bool ok = l->exact >= 0 && (l->early >= 0 || l->early == -ENOENT) &&
		  l->seconds < (getenv("XTJIT_VM") ? VM_SECONDS : LOAD_SECONDS);

	tap_ok(ok, "%s: %s: loads, %.2f s", way_name[way], name, l->seconds);
	if (!ok)
		tap_diag("%s", l->err.text);
	return ok;
}

static FILE *begin(char **text, int counters)
{
	static size_t len;
	FILE *f = open_memstream(text, &len);

	fprintf(f, "table ip filter\ncounters %d\n", counters);
	return f;
}

/* Rules that count and go on: those of one source all match. */
static void test_count_and_go_on(int n)
{
	struct large l;
	char *text, name[64];
	FILE *f = begin(&text, n + 1);

	fprintf(f, "chain INPUT hook 1\n");
	for (int i = 0; i < n; i++)
		fprintf(f, " %d: saddr == 10.0.%d.%d -> next\n", i, i % 10 / 5, i % 5);
	fprintf(f, " %d: -> drop\n", n);
	fclose(f);
	large_load(&l, text);
	snprintf(name, sizeof(name), "%d rules that count and go on", n);
	if (loaded(&l, name)) {
		tap_ok(check(&l, "udp saddr 10.0.0.2", NF_DROP, n / 10 + 1, n - 8) &&
		       check(&l, "udp saddr 10.0.1.4", NF_DROP, n / 10 + 1, n - 1) &&
		       check(&l, "udp saddr 10.0.2.1", NF_DROP, 1, n), "%s: count", name);
	}
	large_free(&l);
}

/* Jumps from everywhere to one chain, which mostly returns. */
static void test_one_callee(int n)
{
	struct large l;
	char *text, name[64], words[64];
	FILE *f = begin(&text, n + 3);
	bool ok = true;

	fprintf(f, "chain INPUT hook 1\n");
	for (int i = 0; i < n; i++)
		fprintf(f, " %d: proto == 17; l4 8; dport in %d-%d -> jump 1\n", i, i, i + 2);
	fprintf(f, " %d: -> accept\nchain one\n", n);
	fprintf(f, " %d: ttl == 9 -> drop\n %d: -> return\n", n + 1, n + 2);
	fclose(f);
	large_load(&l, text);
	snprintf(name, sizeof(name), "%d rules that jump to one chain", n);
	if (loaded(&l, name)) {
		for (int i = 2; ok && i < n; i += n / 20) {
			snprintf(words, sizeof(words), "udp dport %d", i);
			ok &= check(&l, words, NF_ACCEPT, 7, i);
			snprintf(words, sizeof(words), "udp ttl 9 dport %d", i);
			ok &= check(&l, words, NF_DROP, 2, i - 2);
		}
		tap_ok(ok && check(&l, "tcp dport 7", NF_ACCEPT, 1, n), "%s: count", name);
	}
	large_free(&l);
}

static void load_drops(struct large *l, int n)
{
	char *text;
	FILE *f = begin(&text, n + 1);

	fprintf(f, "chain INPUT hook 1\n");
	for (int i = 0; i < n; i++)
		fprintf(f, " %d: saddr == 20.%d.%d.7 -> drop\n", i, i / 256, i % 256);
	fprintf(f, " %d: -> accept\n", n);
	fclose(f);
	large_load(l, text);
}

/* The plainest large ruleset; every one of its drops is early. */
static void test_drops(int n)
{
	struct large l;
	char name[64], words[64];
	bool ok = true;

	load_drops(&l, n);
	snprintf(name, sizeof(name), "%d rules", n);
	if (loaded(&l, name)) {
		for (int i = 0; ok && i < n; i += n / 20) {
			snprintf(words, sizeof(words), "udp saddr 20.%d.%d.7", i / 256, i % 256);
			ok &= check(&l, words, NF_DROP, 1, i) && send_one(&l, true, words).early;
		}
		tap_ok(ok && check(&l, "udp", NF_ACCEPT, 1, n), "%s: count", name);
	}
	large_free(&l);
}

/* A program with trace lines has room for fewer rules: what is too large says so. */
static void test_trace(int too_many)
{
	int fits = way == MODULE_OLD ? 30000 : 45000;
	struct large l;

	if (way == NETFILTER)
		return;
	trace = true;
	load_drops(&l, fits);
	tap_ok(l.exact >= 0, "%s: %d traced rules", way_name[way], fits);
	large_free(&l);
	load_drops(&l, too_many);
	tap_ok(l.exact == -EOPNOTSUPP && strstr(l.err.text, "instructions"),
	       "%s: %d are too many: %s", way_name[way], too_many, l.err.text);
	large_free(&l);
	trace = false;
}

/* Rules that jump by address, each to a chain of its own: a dispatch; all drops are early. */
static void test_dispatch(int n)
{
	struct large l;
	char *text, name[64], words[64];
	FILE *f = begin(&text, 2 * n + 1);
	bool ok = true;

	fprintf(f, "chain INPUT hook 1\n");
	for (int i = 0; i < n; i++)
		fprintf(f, " %d: saddr == 20.%d.%d.7 -> jump %d\n", i, i / 256, i % 256, i + 1);
	fprintf(f, " %d: -> accept\n", n);
	for (int i = 0; i < n; i++)
		fprintf(f, "chain c%d\n %d: ttl == 9 -> drop\n", i, n + 1 + i);
	fclose(f);
	load_as(&l, text, true);
	snprintf(name, sizeof(name), "dispatch to %d chains", n);
	if (loaded(&l, name)) {
		for (int i = 0; ok && i < n; i += n / 20) {
			snprintf(words, sizeof(words), "udp saddr 20.%d.%d.7", i / 256, i % 256);
			ok &= check(&l, words, NF_ACCEPT, 2, i);
			strcat(words, " ttl 9");
			ok &= check(&l, words, NF_DROP, 2, i) && send_one(&l, true, words).early;
		}
		tap_ok(ok && check(&l, "udp", NF_ACCEPT, 1, n), "%s: count", name);
	}
	large_free(&l);
}

/* Pages end in all places: in user chains, in chains with several callers, at policies. */
static void test_pages(int n)
{
	struct large l;
	char *text;
	FILE *f = begin(&text, 3 * n + 20);
	int at = 3 * n;

	fprintf(f, "chain INPUT hook 1\n %d: -> jump 1\n %d: -> jump 2\n %d: -> jump 1\n",
		at, at + 1, at + 2);
	fprintf(f, " %d: proto == 6 -> goto 3\n %d: -> return\n", at + 3, at + 4);
	fprintf(f, " %d: -> accept\n %d: -> drop\n", at + 5, at + 6);
	for (int c = 0; c < 3; c++) {
		fprintf(f, "chain c%d\n", c);
		for (int i = 0; i < n; i++)
			fprintf(f, " %d: proto == 17; l4 8; ports any in %d,9 -> next\n", c * n + i,
				i + 10);
		if (c == 1)
			fprintf(f, " %d: -> jump 3\n", at + 7);
	}
	fclose(f);
	large_load(&l, text);
	if (loaded(&l, "pages that end anywhere")) {
		tap_ok(check(&l, "udp", NF_DROP, 6 + 8, at + 6) &&
		       check(&l, "udp dport 10", NF_DROP, 6 + 8, n) &&
		       check(&l, "icmp 8 0", NF_DROP, 6, at + 4) &&
		       check(&l, "tcp", NF_DROP, 6, at + 3) &&
		       check(&l, "udp dport 9", NF_DROP, 6 + 4 * n, 3 * n - 1),
		       "pages that end anywhere: count");
	}
	large_free(&l);
}

/* Chains that nest @deep, each called @callers times from the one before; the last one drops. */
static void nest(struct large *l, int deep, int callers)
{
	char *text;
	FILE *f = begin(&text, 1000);
	int n = 0;

	fprintf(f, "chain INPUT hook 1\n");
	for (int d = 0; d < deep; d++) {
		for (int c = 0; c < callers; c++)
			fprintf(f, " %d: %sttl == %d -> jump %d\n", n++, c ? "" : "! ", 10 + d,
				d + 1);
		if (!d)
			fprintf(f, " %d: -> accept\n", n++);
		fprintf(f, "chain c%d\n", d);
	}
	fprintf(f, " %d: proto == 6 -> drop\n %d: -> next\n", n, n + 1);
	fclose(f);
	large_load(l, text);
}

static void test_deep(void)
{
	struct large l;

	nest(&l, 60, 1);
	if (loaded(&l, "chains nested 60 deep"))
		tap_ok(check(&l, "tcp ttl 200", NF_DROP, 61, 61) &&
		       check(&l, "udp ttl 200", NF_ACCEPT, 62, 62) &&
		       check(&l, "udp ttl 40", NF_ACCEPT, 31, 1),
		       "chains nested 60 deep: return");
	large_free(&l);
	nest(&l, 20, 2);
	if (loaded(&l, "chains with two callers nested 20 deep"))
		tap_ok(check(&l, "tcp ttl 200", NF_DROP, 21, 41) &&
		       check(&l, "udp ttl 200", NF_ACCEPT, 22, 42) &&
		       check(&l, "udp ttl 20", NF_ACCEPT, 22, 2),
		       "chains with two callers nested 20 deep: return");
	large_free(&l);
}

/* What nests deeper than struct pkt has room for is refused, and says so; all else loads. */
static void test_too_deep(void)
{
	int deep = 20, loads = 0;
	bool ok = true, said = false;
	struct large l;

	for (; ok && deep < 130 && !said; deep += 1) {
		nest(&l, deep, 2);
		if (l.exact >= 0) {
			loads = deep;
			ok &= check(&l, "tcp ttl 200", NF_DROP, deep + 1, 2 * deep + 1);
		} else {
			said = strstr(l.err.text, "nest") && strstr(l.err.text, "filter");
			ok &= l.exact == -EOPNOTSUPP && said;
		}
		large_free(&l);
	}
	tap_ok(ok && said && loads > 60, "chains with several callers nest at most %d deep", loads);
}

/* The early stage remembers so many counted rules. */
static void test_matches(void)
{
	for (int n = 23; n <= 25; n++) {
		struct large l;
		struct sent s;
		char *text;
		FILE *f = begin(&text, 100);

		fprintf(f, "chain INPUT hook 1\n");
		for (int i = 0; i < n; i++)
			fprintf(f, " %d: proto == 17 -> jump 1\n", i);
		fprintf(f, " %d: -> drop\nchain c\n %d: proto == 6 -> next\n", n, n + 1);
		fclose(f);
		large_load(&l, text);
		s = send_one(&l, true, "udp");
		tap_ok(s.verdict == NF_DROP && s.early == (n <= 24) && s.counted == n + 1u &&
		       check(&l, "udp", NF_DROP, n + 1, n - 1) &&
		       check(&l, "tcp", NF_DROP, 1, n), "%d rules counted before a drop", n);
		large_free(&l);
	}
}

int main(void)
{
	if (!env_up())
		return 1;
	for (way = net.nf ? NETFILTER : MODULE; way < WAYS; way++) {
		test_matches();
		test_deep();
		test_too_deep();
		test_pages(3000);
		test_count_and_go_on(10000);
		test_one_callee(10000);
		test_drops(20000);
		test_trace(55000);
		test_dispatch(5000);
	}
	return tap_done();
}
