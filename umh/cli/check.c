// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "classify.h"
#include "compile.h"
#include "check.h"
#include "cli.h"
#include "ext.h"

enum { CHECK_ALL, CHECK_SOME, CHECK_ERROR };	/* exit codes, worst last */

static void usage(FILE *out)
{
	fputs("Usage: xtjit check [-4|-6] [-m|-n] FILE...\n"
	      "Tells of each rule of iptables-save files (\"-\": of standard input) where it\n"
	      "would be decided. Needs no privileges, and changes nothing. A line a rule:\n\n"
	      "  TABLE CHAIN NUMBER: WHERE (REASON)  RULE\n\n"
	      "where WHERE is\n"
	      "  early      on the device already, where all rules before it are, too\n"
	      "  exact      at the netfilter hook\n"
	      "  native     there, with the module, by extensions of the kernel's own\n"
	      "  ip_tables  nowhere by xtjit: it has no compiled form. Its whole table goes to\n"
	      "             the kernel's own ip_tables (or, by XTJIT_FALLBACK, is refused)\n"
	      "  refused    the same, with the module: there is no other ip_tables\n"
	      "  invalid    nowhere: the kernel does not take the rule either\n\n"
	      "  -4, --ipv4  files of iptables [unless their name ends in .v6]\n"
	      "  -6, --ipv6  files of ip6tables\n"
	      "  -m, --module, -n, --no-module\n"
	      "              with, without the module [as it is on this machine]\n"
	      "  -h, --help  this text\n\n"
	      "Exit status: 0 if xtjit decides all rules, 1 if not, 2 for errors.\n", out);
}

enum where { EARLY, EXACT, NATIVE, IP_TABLES, INVALID, N_WHERE };

static const char *const where_name[N_WHERE] = {
	"early", "exact", "native", "ip_tables", "invalid",
};

static struct ext_env env;

static const char *name_of(enum where w)
{
	return w == IP_TABLES && env.native ? "refused" : where_name[w];
}

static enum where place(const struct xt_ruleset *rs, __u32 rule, struct xt_err *why)
{
	int err = ext_lower_rule(rs, &env, rule, why);

	if (err)
		return err == -EOPNOTSUPP ? IP_TABLES : INVALID;
	if (!env.native && !strcmp(rs->table->name, "nat")) {
		xt_fail(why, -EOPNOTSUPP, "address translation is the kernel's");
		return IP_TABLES;
	}
	if (ext_rule_native(rs, &env, rule, why))
		return NATIVE;
	return ext_rule_early(rs, &env, rule, why) ? EARLY : EXACT;
}

/* The reason without the rule's place, which is said already. */
static const char *reason(const struct xt_err *why)
{
	const char *place = strstr(why->text, "rule "), *colon = place ? strstr(place, ": ") : NULL;

	return colon ? colon + 2 : why->text;
}

static void check_rule(const struct xt_ruleset *rs, __u32 rule, struct check_text *text,
		       __u32 count[N_WHERE])
{
	const char *table = rs->table->name, *chain = rs->chains[rs->rules[rule].chain].name;
	__u32 number = xt_rule_number(rs, rule);
	struct xt_err why = {};
	enum where w = place(rs, rule, &why);

	count[w]++;
	printf("%s %s %u: %s", table, chain, number, name_of(w));
	if (why.err)
		printf(" (%s)", reason(&why));
	printf("  %s\n", check_text_find(text, table, chain, number));
}

/* What becomes lookups, chain by chain. */
static void print_groups(const struct xt_ruleset *rs)
{
	struct ir_table ir, grouped;
	struct xt_err err;

	if (ext_lower(rs, &env, &ir, &err))
		return;
	if (!passes_exact(&ir, &err) && !classify(&ir, cl_limits(), &grouped, &err)) {
		for (__u32 i = 0; i < grouped.ngroups; i++)
			classify_print(stdout, &grouped, &grouped.groups[i], "  ", true);
		classify_free(&grouped);
	}
	ir_table_free(&ir);
}

static int check_table(const struct xt_ruleset *rs, struct check_text *text)
{
	__u32 count[N_WHERE] = {};

	for (__u32 i = 0; i < rs->nchains; i++) {
		const struct xt_chain *ch = &rs->chains[i];

		/* the last one is the policy, or the chain's end */
		for (__u32 k = 0; k + 1 < ch->count; k++)
			check_rule(rs, ch->first + k, text, count);
	}
	printf("%s: %u early, %u exact, ", rs->table->name, count[EARLY], count[EXACT]);
	if (env.native)
		printf("%u native, ", count[NATIVE]);
	printf("%u %s", count[IP_TABLES], name_of(IP_TABLES));
	if (count[INVALID])
		printf(", %u invalid", count[INVALID]);
	printf("%s\n", !count[IP_TABLES] ? "" : env.native ? ": the table is refused" :
						   ": the table is left to ip_tables");
	if (!count[INVALID] && !count[IP_TABLES])
		print_groups(rs);
	return count[INVALID] ? CHECK_ERROR : count[IP_TABLES] ? CHECK_SOME : CHECK_ALL;
}

static bool ends_in(const char *s, const char *end)
{
	size_t n = strlen(s), k = strlen(end);

	return n >= k && !strcmp(s + n - k, end);
}

/* A file that can be read twice, which @file ("-": standard input) may be not. */
static int slurp(const char *file)
{
	int in = strcmp(file, "-") ? open(file, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO);
	int out = memfd_create("xtjit-check", MFD_CLOEXEC), saved;
	char buf[65536];
	ssize_t n = -1;

	while (in >= 0 && out >= 0 && (n = read(in, buf, sizeof(buf))) > 0)
		if (write(out, buf, n) != n)
			break;
	saved = errno;
	if (in >= 0)
		close(in);
	if (!n)
		return out;
	if (out >= 0)
		close(out);
	errno = saved;
	return -1;
}

static int check_tables(const struct check_tables *t, struct check_text *text)
{
	int worst = CHECK_ALL;

	for (int i = 0; i < XT_TABLES; i++) {
		int ret = t->set[i] ? check_table(&t->rs[i], text) : CHECK_ALL;

		if (ret > worst)
			worst = ret;
	}
	return worst;
}

static int check_file(const char *file, const struct xt_family *f)
{
	struct check_tables t = { .family = f };
	struct check_text *text = NULL;
	int fd = slurp(file), ret = CHECK_ERROR;

	if (fd >= 0)
		text = check_text_read(fd);
	if (!text)
		cli_error("check: %s: %s", file, strerror(errno));
	else if (check_run(fd, &t))
		cli_error("check: %s: iptables-restore does not take it", file);
	else
		ret = check_tables(&t, text);
	check_tables_free(&t);
	check_text_free(text);
	if (fd >= 0)
		close(fd);
	return ret;
}

int cli_check(int argc, char **argv)
{
	static const struct option options[] = {
		{ "ipv4", no_argument, NULL, '4' },
		{ "ipv6", no_argument, NULL, '6' },
		{ "module", no_argument, NULL, 'm' },
		{ "no-module", no_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	const struct xt_family *family = NULL;
	int c, ret, worst = CHECK_ALL;
	bool several;

	env.native = cli_module();
	while ((c = getopt_long(argc, argv, "46mnh", options, NULL)) >= 0) {
		switch (c) {
		case '4':
		case '6':
			family = c == '4' ? &xt_family_ip : &xt_family_ip6;
			break;
		case 'm':
		case 'n':
			env.native = c == 'm';
			break;
		case 'h':
			usage(stdout);
			return CHECK_ALL;
		default:
			return CHECK_ERROR;
		}
	}
	if (optind == argc) {
		usage(stderr);
		return CHECK_ERROR;
	}
	several = argc - optind > 1;
	for (; optind < argc; optind++) {
		const char *file = argv[optind];
		bool v6 = ends_in(file, ".v6");

		if (several)
			printf("%s:\n", file);
		ret = check_file(file, family ?: v6 ? &xt_family_ip6 : &xt_family_ip);
		if (ret > worst)
			worst = ret;
	}
	if (fflush(stdout)) {
		cli_error("standard output: %s", strerror(errno));
		return CHECK_ERROR;
	}
	return worst;
}
