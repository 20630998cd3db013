// SPDX-License-Identifier: GPL-2.0
/*
 * The subcommands that are one request to the helper, about the current
 * network namespace, and print the text of its reply.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/netfilter.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "client.h"
#include "family.h"

static const char exit_codes[] =
	"\nExit status: 0, or 1 if the helper refused (why is on stderr), 2 for wrong\n"
	"options, 3 if there is no helper and none could be started.\n";

static void put_note(const char *note)
{
	if (*note)
		fprintf(stderr, "%s%s", note, note[strlen(note) - 1] == '\n' ? "" : "\n");
}

int cli_ask(__u16 op, __u8 family, const void *req, size_t len)
{
	struct client_call c = { .op = op, .family = family, .req = req, .req_len = len };
	int err, ret = CLI_OK;

	cli_helper_env();
	c.netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (c.netns < 0) {
		cli_error("/proc/self/ns/net: %s", strerror(errno));
		return CLI_UNREACHED;
	}
	err = client_call(&c);
	close(c.netns);
	put_note(c.note);
	if (err) {
		ret = c.unreached ? CLI_UNREACHED : CLI_REFUSED;
		if (!c.note[0])
			cli_error("%s", strerror(-err));
	}
	if (c.rep && (fwrite(c.rep, 1, c.rep_len, stdout) != c.rep_len || fflush(stdout))) {
		cli_error("standard output: %s", strerror(errno));
		ret = CLI_REFUSED;
	}
	free(c.rep);
	return ret;
}

struct ask_options {
	const char *usage;
	const char *extra;	/* option letters besides -4, -6, -h */
	unsigned int given;	/* those of them that were: bit per position */
	__u8 family;
	const char *table;	/* "": all */
	bool takes_table;
};

/* 0: go on; else the exit code, + 1 */
static int parse(int argc, char **argv, struct ask_options *o, const struct option *options)
{
	int c;

	while ((c = getopt_long(argc, argv, "46h", options, NULL)) >= 0) {
		switch (c) {
		case '4':
		case '6':
			o->family = c == '4' ? NFPROTO_IPV4 : NFPROTO_IPV6;
			break;
		case 'h':
			printf("%s%s", o->usage, exit_codes);
			return CLI_OK + 1;
		default:
			if (!o->extra || !strchr(o->extra, c))
				return CLI_USAGE + 1;
			o->given |= 1u << (strchr(o->extra, c) - o->extra);
		}
	}
	o->table = "";
	if (o->takes_table && optind < argc)
		o->table = argv[optind++];
	if (optind < argc) {
		cli_error("%s: one argument too many; see `xtjit %s --help`", argv[optind],
			  argv[0]);
		return CLI_USAGE + 1;
	}
	if (*o->table && !xt_table_row(&xt_family_ip, o->table)) {
		cli_error("%s: no such table; there are filter, nat, mangle, raw, security",
			  o->table);
		return CLI_USAGE + 1;
	}
	return 0;
}

static const struct option plain[] = {
	{ "ipv4", no_argument, NULL, '4' },
	{ "ipv6", no_argument, NULL, '6' },
	{ "help", no_argument, NULL, 'h' },
	{}
};

int cli_status(int argc, char **argv)
{
	struct ask_options o = {
		.usage = "Usage: xtjit status [-4|-6]\n"
			 "Shows, of the current network namespace, who enforces each table, and where.\n\n"
			 "  -4, --ipv4  iptables' tables only\n"
			 "  -6, --ipv6  ip6tables' tables only\n"
			 "  -h, --help  this text\n",
	};
	int end = parse(argc, argv, &o, plain);

	return end ? end - 1 : cli_ask(XTJIT_OP_STATUS, o.family, NULL, 0);
}

static int move_table(int argc, char **argv, __u16 op, const char *usage)
{
	struct ask_options o = { .usage = usage, .takes_table = true };
	int end = parse(argc, argv, &o, plain);

	return end ? end - 1 : cli_ask(op, o.family, o.table, strlen(o.table));
}

int cli_adopt(int argc, char **argv)
{
	return move_table(argc, argv, XTJIT_OP_ADOPT,
		"Usage: xtjit adopt [-4|-6] [TABLE]\n"
		"Takes TABLE (all tables) of the current network namespace over from the\n"
		"kernel's own ip_tables: rules, policies and counters, without a gap.\n\n"
		"  -4, --ipv4  iptables' tables only\n"
		"  -6, --ipv6  ip6tables' tables only\n"
		"  -h, --help  this text\n");
}

int cli_release(int argc, char **argv)
{
	return move_table(argc, argv, XTJIT_OP_RELEASE,
		"Usage: xtjit release [-4|-6] [TABLE]\n"
		"Gives TABLE (all tables) of the current network namespace back to the\n"
		"kernel's own ip_tables: rules, policies and counters, without a gap.\n\n"
		"  -4, --ipv4  iptables' tables only\n"
		"  -6, --ipv6  ip6tables' tables only\n"
		"  -h, --help  this text\n");
}

int cli_early(int argc, char **argv)
{
	static const char usage[] =
		"Usage: xtjit early off|on|eager\n"
		"Says, where the module is, whether the rules of the current network namespace\n"
		"may drop packets early, on the device, when they can be decided there; it stays\n"
		"so until it is said again. (Without the module: `xtjit run --early=...`.)\n"
		"on: it rests on devices where it drops next to nothing (xtjit(8)).\n"
		"eager: never, and also where counters of nat's chains suffer from it.\n\n"
		"  -h, --help  this text\n";

	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		printf("%s%s", usage, exit_codes);
		return CLI_OK;
	}
	if (argc != 2 || client_early(argv[1]) <= 0) {
		fputs(usage, stderr);
		return CLI_USAGE;
	}
	setenv(XTJIT_EARLY_ENV, argv[1], 1);
	return cli_ask(XTJIT_OP_EARLY, 0, NULL, 0);
}

int cli_dump(int argc, char **argv)
{
	static const struct option options[] = {
		{ "ipv4", no_argument, NULL, '4' },
		{ "ipv6", no_argument, NULL, '6' },
		{ "help", no_argument, NULL, 'h' },
		{ "ir", no_argument, NULL, 'i' },
		{ "bpf", no_argument, NULL, 'b' },
		{ "early", no_argument, NULL, 'e' },
		{}
	};
	struct ask_options o = {
		.usage = "Usage: xtjit dump --ir|--bpf [--early] [-4|-6] [TABLE]\n"
			 "Prints what TABLE (each table) of the current network namespace is compiled to.\n\n"
			 "  --ir        the rules' intermediate form\n"
			 "  --bpf       the instructions\n"
			 "  --early     of the early stage [the exact one]\n"
			 "  -4, --ipv4  iptables' tables only\n"
			 "  -6, --ipv6  ip6tables' tables only\n"
			 "  -h, --help  this text\n",
		.extra = "ibe",
		.takes_table = true,
	};
	struct xtjit_dump d = {};
	int end = parse(argc, argv, &o, options);
	bool ir, bpf;

	if (end)
		return end - 1;
	ir = o.given & 1;
	bpf = o.given & 2;
	if (ir == bpf) {
		cli_error("dump: one of --ir and --bpf is needed; see `xtjit dump --help`");
		return CLI_USAGE;
	}
	d.what = ir ? XTJIT_DUMP_IR : XTJIT_DUMP_BPF;
	d.early = !!(o.given & 4);
	strncpy(d.table, o.table, sizeof(d.table) - 1);
	return cli_ask(XTJIT_OP_DUMP, o.family, &d, sizeof(d));
}
