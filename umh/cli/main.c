// SPDX-License-Identifier: GPL-2.0
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
} commands[] = {
	{ "run", cli_run, "run a command whose iptables rules are enforced by xtjit" },
	{ "status", cli_status, "show who enforces each table of this network namespace" },
	{ "adopt", cli_adopt, "take tables over from the kernel's own ip_tables" },
	{ "release", cli_release, "give tables back to the kernel's own ip_tables" },
	{ "check", cli_check, "tell of each rule of a file where it would be decided" },
	{ "early", cli_early, "say whether packets may be dropped on the device, with the module" },
	{ "unload", cli_unload, "take the module out of the kernel, and all its tables" },
	{ "dump", cli_dump, "print the code that a table was compiled to" },
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

void cli_error(const char *fmt, ...)
{
	va_list ap;

	fputs("xtjit: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static void usage(FILE *out)
{
	fputs("Usage: xtjit COMMAND [OPTION]... [ARG]...\n"
	      "Enforces the rules of unmodified iptables by compiled eBPF programs.\n\n"
	      "Commands:\n", out);
	for (size_t i = 0; i < N_COMMANDS; i++)
		fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].summary);
	fputs("\n`xtjit COMMAND --help` tells more of each.\n\n"
	      "Environment:\n"
	      "  XTJIT_SOCKET    the helper's socket [/run/xtjit/xtjitd.sock]\n"
	      "  XTJIT_HELPER    the helper's program, started when there is none\n"
	      "  XTJIT_EARLY     off, on, eager: as `xtjit run --early`\n"
	      "  XTJIT_FALLBACK  kernel, refuse: as `xtjit run --fallback`\n", out);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		usage(stderr);
		return CLI_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		usage(stdout);
		return CLI_OK;
	}
	for (size_t i = 0; i < N_COMMANDS; i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	cli_error("%s: no such command; see `xtjit --help`", argv[1]);
	return CLI_USAGE;
}
