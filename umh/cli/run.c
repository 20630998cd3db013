// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "client.h"

static void usage(FILE *out)
{
	fputs("Usage: xtjit run [OPTION]... [--] COMMAND [ARG]...\n"
	      "Runs COMMAND; what it and all that it starts do with iptables-legacy and\n"
	      "ip6tables-legacy goes to xtjit's helper, which is started if there is none.\n"
	      "(Statically linked and setuid programs are out of reach.) Where the module is,\n"
	      "iptables speaks to it anyway, and --early is as `xtjit early`.\n\n"
	      "  --early=off|on|eager    drop packets early, on the device, when a rule can be\n"
	      "                          decided there (it rests on devices where that is next\n"
	      "                          to never); eager: never rests, and also where counters\n"
	      "                          of tables left to ip_tables suffer from it\n"
	      "  --fallback=kernel|refuse\n"
	      "                          what to do with a table that has a rule with no\n"
	      "                          compiled form: leave it to the kernel's own\n"
	      "                          ip_tables, or make iptables fail\n"
	      "  -h, --help              this text\n\n"
	      "Exit status: COMMAND's; or 125 if xtjit itself fails (2 for wrong options), 126\n"
	      "if COMMAND cannot be executed, 127 if it is not found.\n", out);
}

/* The value of an option, or what the environment has, must be one. */
static bool valid(const char *option, const char *env, int (*parse)(const char *),
		  const char *allowed)
{
	const char *value = getenv(env);

	if (parse(value) >= 0)
		return true;
	cli_error("run: %s (or %s): %s: not one of %s", option, env, value, allowed);
	return false;
}

static int parse_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "early", required_argument, NULL, 'e' },
		{ "fallback", required_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	int c;

	while ((c = getopt_long(argc, argv, "+h", options, NULL)) >= 0) {
		switch (c) {
		case 'e':
			setenv(XTJIT_EARLY_ENV, optarg, 1);
			break;
		case 'f':
			if (cli_module())
				cli_error("run: --fallback has no meaning with the module: there is no other ip_tables");
			setenv(XTJIT_FALLBACK_ENV, optarg, 1);
			break;
		case 'h':
			usage(stdout);
			return -1;
		default:
			return CLI_USAGE;
		}
	}
	if (optind == argc) {
		usage(stderr);
		return CLI_USAGE;
	}
	if (!valid("--early", XTJIT_EARLY_ENV, client_early, "off, on, eager") ||
	    !valid("--fallback", XTJIT_FALLBACK_ENV, client_fallback, "kernel, refuse"))
		return CLI_USAGE;
	return 0;
}

/* The command may change its directory. */
static bool absolute_env(const char *name)
{
	const char *value = getenv(name);
	char *cwd, *path;

	if (!value || !*value || *value == '/')
		return true;
	cwd = getcwd(NULL, 0);
	if (!cwd || asprintf(&path, "%s/%s", cwd, value) < 0 || setenv(name, path, 1)) {
		cli_error("run: %s=%s: %s", name, value, strerror(errno));
		return false;
	}
	free(path);
	free(cwd);
	return true;
}

static bool helper_listens(void)
{
	const char *helper = cli_helper_env(), *path = client_socket_path();
	struct xt_err err = {};
	int fd = client_connect(path, helper, &err);

	if (fd < 0) {
		cli_error("run: the helper cannot be reached at %s: %s%s", path, err.text,
			  helper ? "" : " (and there is no xtjitd beside xtjit, or in ../sbin)");
		return false;
	}
	close(fd);
	return true;
}

/*
 * With the module iptables speaks to it, whoever calls it: what there is to say
 * is said before.  The shim is there for the name "iptables" only.
 */
static bool with_module(void)
{
	const char *early = getenv(XTJIT_EARLY_ENV);

	if (early && *early && cli_ask(XTJIT_OP_EARLY, 0, NULL, 0) != CLI_OK)
		return false;
	return !cli_shim_path() || cli_preload();
}

int cli_run(int argc, char **argv)
{
	int err = parse_options(argc, argv);
	bool ok;

	if (err)
		return err < 0 ? CLI_OK : err;
	ok = absolute_env(XTJIT_SOCKET_ENV) && absolute_env(XTJIT_HELPER_ENV);
	if (!ok || !(cli_module() ? with_module() : helper_listens() && cli_preload()))
		return CLI_RUN_FAILED;
	execvp(argv[optind], argv + optind);
	err = errno;
	cli_error("run: %s: %s", argv[optind], strerror(err));
	return err == ENOENT ? CLI_RUN_NOTFOUND : CLI_RUN_NOEXEC;
}
