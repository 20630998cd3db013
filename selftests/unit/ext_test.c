// SPDX-License-Identifier: GPL-2.0
/*
 * The extensions' lowering: each line of ext_cases is a rule that iptables
 * sets in a network namespace of this test's own, and what it is lowered to.
 * The blob is the kernel's; one that a directive has spoiled is given to the
 * kernel, too, which must refuse it with the same errno.  Then each is spoiled
 * at random, again and again: the kernel and the lowering must agree.
 *
 * usage: ext_test [CASES [SPOILS [SEED]]]
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <linux/netfilter/x_tables.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "blob.h"
#include "ext.h"
#include "ir_string.h"
#include "kfeat.h"
#include "prng.h"
#include "tap.h"

#define MAX_FIELDS 8
#define PART_HDR sizeof(struct xt_entry_match)

_Static_assert(sizeof(struct ipt_getinfo) == sizeof(struct ip6t_getinfo), "one shape");

struct test {
	const char *text;		/* the line */
	const struct xt_family *f;
	char table[32], chain[32];	/* of the rule that is looked at */
	struct xt_replace_hdr h;
	__u8 *entries;
	struct ext_env env;
	bool spoiled;
};

static int sock[2];			/* raw: IPv4, IPv6 */
static int spoils = 20;			/* of each case */
static long spoiled_ok, spoiled_refused, spoiled_differ;

static int sock_of(const struct xt_family *f)
{
	return sock[f == &xt_family_ip6];
}

static int get_info(const struct xt_family *f, const char *table, struct ipt_getinfo *info)
{
	socklen_t len = sizeof(*info);

	memset(info, 0, sizeof(*info));
	snprintf(info->name, sizeof(info->name), "%s", table);
	return getsockopt(sock_of(f), f->sol, f->get_info, info, &len) ? -errno : 0;
}

/* Reads the table that the kernel has into t->h and t->entries. */
static bool get_table(struct test *t)
{
	struct ipt_getinfo info;
	struct ipt_get_entries *get;
	socklen_t len;
	bool ok;

	if (get_info(t->f, t->table, &info))
		return false;
	len = sizeof(*get) + info.size;
	get = calloc(1, len);
	memcpy(get->name, info.name, sizeof(get->name));
	get->size = info.size;
	ok = !getsockopt(sock_of(t->f), t->f->sol, t->f->get_entries, get, &len);
	if (ok) {
		memcpy(t->h.name, info.name, sizeof(t->h.name));
		t->h.valid_hooks = info.valid_hooks;
		t->h.num_entries = t->h.num_counters = info.num_entries;
		t->h.size = info.size;
		memcpy(t->h.hook_entry, info.hook_entry, sizeof(t->h.hook_entry));
		memcpy(t->h.underflow, info.underflow, sizeof(t->h.underflow));
		t->entries = malloc(info.size);
		memcpy(t->entries, get->entrytable, info.size);
	}
	free(get);
	return ok;
}

/* What the kernel says to the table as it now is. */
static int kernel_verdict(struct test *t)
{
	struct xt_replace_hdr h = t->h;
	struct ipt_getinfo info;
	void *arg, *counters;
	size_t len;
	int ret;

	ret = get_info(t->f, h.name, &info);
	if (ret)
		return ret;
	h.num_counters = info.num_entries;
	counters = calloc(h.num_counters, 16);
	arg = xt_replace_build(t->f, &h, t->entries, counters, &len);
	ret = setsockopt(sock_of(t->f), t->f->sol, t->f->set_replace, arg, len) ? -errno : 0;
	free(arg);
	free(counters);
	return ret;
}

/* Runs iptables-legacy-restore with the rules, which " ; " parts. */
static bool restore(const struct test *t, const char *rules)
{
	const char *cmd = t->f == &xt_family_ip6 ? "ip6tables-legacy-restore" :
						   "iptables-legacy-restore";
	const char *at;
	int in[2], status;
	pid_t pid;
	FILE *out;

	if (pipe2(in, O_CLOEXEC))
		return false;
	pid = fork();
	if (!pid) {
		dup2(in[0], 0);
		execlp(cmd, cmd, NULL);
		_exit(127);
	}
	close(in[0]);
	out = fdopen(in[1], "w");
	fprintf(out, "*%s\n", t->table);
	for (; (at = strstr(rules, " ; ")); rules = at + 3)
		fprintf(out, "%.*s\n", (int)(at - rules), rules);
	fprintf(out, "%s\nCOMMIT\n", rules);
	fclose(out);
	return waitpid(pid, &status, 0) == pid && !status;
}

static int chain_by_name(const struct xt_ruleset *rs, const char *name)
{
	for (__u32 i = 0; i < rs->nchains; i++)
		if (!strcmp(rs->chains[i].name, name))
			return i;
	return -1;
}

/* The last rule of the test's chain, before its policy or end. */
static __u32 rule_of(const struct test *t, const struct xt_ruleset *rs)
{
	const struct xt_chain *c = &rs->chains[chain_by_name(rs, t->chain)];

	return c->first + c->count - 2;
}

/* "0102", or "00*8" for eight times 00. */
static bool set_bytes(__u8 *at, const char *hex)
{
	unsigned int b, times;
	int n;

	for (; *hex; hex += n) {
		times = 1;
		n = 0;
		if (sscanf(hex, "%2x%n*%u%n", &b, &n, &times, &n) < 1 || n < 2)
			return false;
		while (times--)
			*at++ = b;
	}
	return true;
}

/* "m0+4=0102": bytes of the data of a match (t: of the target; e: the entry), from an offset on. */
static bool patch(struct test *t, const struct xt_ruleset *rs, const char *what)
{
	const struct xt_rule *r = &rs->rules[rule_of(t, rs)];
	const struct ipt_entry *e4 = (const void *)(t->entries + r->offset);
	const struct ip6t_entry *e6 = (const void *)e4;
	__u32 target = t->f == &xt_family_ip6 ? e6->target_offset : e4->target_offset;
	unsigned int match;
	int offset, n = 0;

	if (sscanf(what, "m%u%i=%n", &match, &offset, &n) == 2 && n && match < r->nmatches)
		return set_bytes(t->entries + ((__u8 *)r->matches[match].data -
					       (__u8 *)rs->blob) + offset, what + n);
	if (sscanf(what, "t%i=%n", &offset, &n) == 1 && n)
		return set_bytes(t->entries + r->offset + target + PART_HDR + offset, what + n);
	if (sscanf(what, "e%i=%n", &offset, &n) == 1 && n)
		return set_bytes(t->entries + r->offset + offset, what + n);
	return false;
}

/* "FROM TO": the first rule of FROM, which has no target, jumps to chain TO. */
static bool attach(struct test *t, const struct xt_ruleset *rs, const char *what)
{
	const struct xt_rule *from, *to;
	char a[32], b[32];
	int verdict, i, j;
	__u32 hdr = t->f->entry_size + PART_HDR;

	if (sscanf(what, "%31s %31s", a, b) != 2)
		return false;
	i = chain_by_name(rs, a);
	j = chain_by_name(rs, b);
	if (i < 0 || j < 0)
		return false;
	from = &rs->rules[rs->chains[i].first];
	to = &rs->rules[rs->chains[j].first];
	if (from->verdict != XT_V_NEXT || from->nmatches)
		return false;
	verdict = to->offset;
	memcpy(t->entries + from->offset + hdr, &verdict, sizeof(verdict));
	return true;
}

/* True if @field is a directive; *ok: it was carried out. */
static bool directive(struct test *t, const char *field, bool *ok)
{
	struct xt_ruleset rs;

	if (!strcmp(field, "module")) {
		*ok = t->env.native = true;
		return true;
	}
	if (!strcmp(field, "old")) {
		*kfeat() = (struct kfeat){ 0 };
		return *ok = true;
	}
	if (!strncmp(field, "as ", 3)) {
		memset(t->h.name, 0, sizeof(t->h.name));
		snprintf(t->h.name, sizeof(t->h.name), "%s", field + 3);
		*ok = t->spoiled = true;
		return true;
	}
	if (strncmp(field, "patch ", 6) && strncmp(field, "attach ", 7))
		return false;
	*ok = !xt_ruleset_decode(&rs, t->f, &t->h, t->entries, NULL);
	if (!*ok)
		return true;
	*ok = field[0] == 'p' ? patch(t, &rs, field + 6) : attach(t, &rs, field + 7);
	t->spoiled = true;
	xt_ruleset_free(&rs);
	return true;
}

/* The rule's text, and the rows of the table that it has, parted by " | ". */
static char *rule_text(const struct ir_table *ir, const struct ir_rule *r)
{
	char *text = NULL, *rows, *p;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	ir_print_rule(out, ir, r);
	rows = ir_string(ir);
	for (p = strtok(rows, "\n"); p; p = strtok(NULL, "\n"))
		if (!strncmp(p, "log ", 4) || !strncmp(p, "limit ", 6) || !strncmp(p, "nth ", 4) ||
		    !strncmp(p, "slot ", 5))
			fprintf(out, " | %s", p);
	fclose(out);
	free(rows);
	p = strchr(text, ':') + 1;
	memmove(text, p + (*p == ' '), strlen(p));
	return text;
}

/* Prints and reads back the table; true if it is the same, and in order. */
static bool survives(const struct ir_table *ir, struct xt_err *err)
{
	char *text = ir_string(ir), *again;
	struct ir_table back;
	bool same = false;

	if (!ir_check(ir, err) && !ir_parse_string(text, &back, err)) {
		again = ir_string(&back);
		same = !strcmp(text, again);
		free(again);
		ir_table_free(&back);
	}
	free(text);
	return same;
}

static const struct {
	const char *name;
	int err;
} errnos[] = {
	{ "EINVAL", EINVAL }, { "EOPNOTSUPP", EOPNOTSUPP }, { "ERANGE", ERANGE }, { "EDOM", EDOM },
	{ "ENOENT", ENOENT }, { "EPROTOTYPE", EPROTOTYPE },
};

/* Reads the name of an errno at *@text, and goes past it; 0 if it is none. */
static int read_errno(const char **text)
{
	for (size_t i = 0; i < sizeof(errnos) / sizeof(errnos[0]); i++) {
		size_t len = strlen(errnos[i].name);

		if (!strncmp(*text, errnos[i].name, len)) {
			*text += len + ((*text)[len] == ' ');
			return -errnos[i].err;
		}
	}
	return 0;
}

/*
 * "ERRNO [kernel ERRNO] TEXT": TEXT is part of the error's.  Without another of
 * its own ("any": kernels differ), the kernel's errno is the same, and none
 * where it is EOPNOTSUPP.
 */
static void expect_failure(struct test *t, const struct xt_ruleset *rs, const char *want)
{
	struct xt_err err = { 0 }, one = { 0 };
	int no = read_errno(&want), said = kernel_verdict(t), ret, ret1;
	int kernel = no == -EOPNOTSUPP ? 0 : no;
	struct ir_table ir;

	if (!strncmp(want, "kernel any ", 11)) {
		want += 11;
		kernel = said;
	} else if (!strncmp(want, "kernel ", 7)) {
		want += 7;
		kernel = read_errno(&want);
	}

	ret = ext_lower(rs, &t->env, &ir, &err);
	if (!ret)
		ir_table_free(&ir);
	ret1 = ext_lower_rule(rs, &t->env, rule_of(t, rs), &one);
	if (!tap_ok(no && ret == no && ret1 == no && err.err == no && !strcmp(err.text, one.text) &&
		    strstr(err.text, want) && said == kernel, "%s", t->text))
		tap_diag("table %d, rule %d, kernel %d; %s", ret, ret1, said, err.text);
}

/* A byte of the rule: of its selectors, of a match's data or revision, of the end of the target. */
static __u32 any_offset(const struct xt_ruleset *rs, const struct xt_rule *r)
{
	if (r->nmatches && prng(3)) {
		const struct xt_part *m = &r->matches[prng(r->nmatches)];
		__u32 data = (__u8 *)m->data - (__u8 *)rs->blob;

		if (!prng(20))
			return data - 1;
		return data + prng(prng(2) || m->size < 16 ? m->size : 16);
	}
	if (prng(2))
		return r->offset + prng(rs->family == &xt_family_ip6 ? sizeof(struct ip6t_ip6) :
								       sizeof(struct ipt_ip));
	return r[1].offset - 1 - prng(32);
}

/*
 * What the lowering leaves to the kernel, a whole table or the data of a native
 * slot, is not asked: it may be anything.
 */
static void compare_spoiled(struct test *t)
{
	struct xt_err err = { 0 };
	struct xt_ruleset rs;
	struct ir_table ir;
	int ret, said;
	bool same;

	if (xt_ruleset_decode(&rs, t->f, &t->h, t->entries, NULL))
		return;
	ret = ext_lower(&rs, &t->env, &ir, &err);
	if (ret != -EOPNOTSUPP) {
		said = !ret && ir.nslots ? 0 : kernel_verdict(t);
		same = ret == said && (ret || survives(&ir, &err));
		if (!same)
			tap_diag("%s: spoiled %d, kernel %d; %s", t->text, ret, said, err.text);
		spoiled_differ += !same;
		spoiled_ok += same && !ret;
		spoiled_refused += same && ret;
	}
	if (!ret)
		ir_table_free(&ir);
	xt_ruleset_free(&rs);
}

static void spoil(struct test *t, const struct xt_ruleset *rs)
{
	const struct xt_rule *r = &rs->rules[rule_of(t, rs)];
	__u8 *original = malloc(t->h.size);

	memcpy(original, t->entries, t->h.size);
	for (int i = 0; i < spoils; i++) {
		for (__u32 n = 1 + prng(3); n > 0; n--) {
			__u8 *at = t->entries + any_offset(rs, r);

			*at = prng(3) ? *at ^ 1u << prng(8) : prng(2) ? prng(256) : prng(4);
		}
		compare_spoiled(t);
		memcpy(t->entries, original, t->h.size);
	}
	free(original);
}

static void expect_text(struct test *t, const struct xt_ruleset *rs, const char *want)
{
	struct xt_err err = { 0 };
	struct ir_table ir;
	const struct xt_rule *r = &rs->rules[rule_of(t, rs)];
	char *text;
	bool ok;

	if (ext_lower(rs, &t->env, &ir, &err)) {
		tap_ok(false, "%s", t->text);
		tap_diag("%s", err.text);
		return;
	}
	text = rule_text(&ir, &ir.chains[r->chain].rules[rule_of(t, rs) -
							 rs->chains[r->chain].first]);
	ok = !strcmp(text, want) && survives(&ir, &err) &&
	     !ext_lower_rule(rs, &t->env, rule_of(t, rs), &err) &&
	     (!t->spoiled || !kernel_verdict(t));
	if (!tap_ok(ok, "%s", t->text))
		tap_diag("%s  %s", text, err.text);
	free(text);
	ir_table_free(&ir);
}

static bool read_rule(struct test *t, const char *family, const char *rules)
{
	const char *last = NULL, *at = rules;
	char name[8];

	if (sscanf(family, "%7s %31s", name, t->table) != 2)
		return false;
	t->f = !strcmp(name, "ip6") ? &xt_family_ip6 : &xt_family_ip;
	for (; (at = strstr(at, "-A ")); at += 3)
		last = at;
	return last && sscanf(last, "-A %31s", t->chain) == 1 && restore(t, rules) &&
	       get_table(t);
}

/* FAMILY TABLE | RULES | [DIRECTIVE |]... EXPECTED */
static void run_case(char *line)
{
	struct test t = { .text = strdup(line) };
	const struct kfeat real = *kfeat();
	struct xt_err err = { 0 };
	struct xt_ruleset rs;
	char *rules, *rest, *next;
	bool ok;

	rules = strstr(line, " | ");
	rest = rules ? strstr(rules + 3, " | ") : NULL;
	ok = rest != NULL;
	if (ok) {
		*rules = *rest = 0;
		ok = read_rule(&t, line, rules + 3);
		rest += 3;
	}
	while (ok && (next = strstr(rest, " | "))) {
		*next = 0;
		if (!directive(&t, rest, &ok)) {
			*next = ' ';
			break;
		}
		rest = next + 3;
	}
	if (!ok || xt_ruleset_decode(&rs, t.f, &t.h, t.entries, &err)) {
		tap_ok(false, "%s", t.text);
		tap_diag("the case cannot be set up: %s", err.text);
	} else {
		if (!strncmp(rest, "FAIL ", 5))
			expect_failure(&t, &rs, rest + 5);
		else
			expect_text(&t, &rs, rest);
		if (!t.spoiled)
			spoil(&t, &rs);
		xt_ruleset_free(&rs);
	}
	*kfeat() = real;
	free(t.entries);
	free((char *)t.text);
}

static bool kernel_has(const struct xt_family *f, const struct ext_row *row, bool target)
{
	struct xt_get_revision rev = { .revision = row->rev };
	socklen_t len = sizeof(rev);

	snprintf(rev.name, sizeof(rev.name), "%s", row->name);
	return !getsockopt(sock_of(f), f->sol, target ? f->get_rev_target : f->get_rev_match,
			   &rev, &len);
}

/* What has a row must be in the kernel, and what ext_find() finds is that row. */
static void test_rows(const struct ext_row *const *list, bool target)
{
	static const struct xt_family *const families[] = { &xt_family_ip, &xt_family_ip6 };

	for (int i = 0; i < 2; i++)
		for (const struct ext_row *const *rows = list; *rows; rows++)
			for (const struct ext_row *row = *rows; row->name; row++) {
				if (!(row->families & (i ? EXT_IP6 : EXT_IP)))
					continue;
				tap_ok(kernel_has(families[i], row, target) &&
				       ext_find(list, row->name, row->rev, families[i]) == row,
				       "%s has %s \"%s\" of revision %u", families[i]->name,
				       target ? "target" : "match", row->name, row->rev);
			}
}

static int run_cases(const char *path)
{
	FILE *in = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;
	ssize_t len;

	if (!in) {
		perror(path);
		return 1;
	}
	while ((len = getline(&line, &size, in)) > 0) {
		if (line[len - 1] == '\n')
			line[len - 1] = 0;
		if (*line && *line != '#')
			run_case(line);
	}
	free(line);
	fclose(in);
	tap_ok(!spoiled_differ, "spoiled at random: kernel and lowering agree");
	tap_diag("%ld accepted, %ld refused, %ld differ", spoiled_ok, spoiled_refused,
		 spoiled_differ);
	return tap_done();
}

int main(int argc, char **argv)
{
	struct ipt_getinfo info;

	if (unshare(CLONE_NEWNET)) {
		tap_skip("extensions", "no network namespace of our own: not root?");
		return tap_done();
	}
	sock[0] = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	sock[1] = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	if (get_info(&xt_family_ip, "filter", &info) || get_info(&xt_family_ip6, "filter", &info)) {
		tap_skip("extensions", "the kernel has no ip_tables");
		return tap_done();
	}
	signal(SIGPIPE, SIG_IGN);
	if (argc > 2)
		spoils = atoi(argv[2]);
	if (argc > 3)
		prng_state ^= strtoull(argv[3], NULL, 0) * 2685821657736338717ull;
	test_rows(ext_matches, false);
	test_rows(ext_targets, true);
	return run_cases(argc > 1 ? argv[1] : "selftests/unit/ext_cases");
}
