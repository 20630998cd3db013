/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The command xtjit: one function a subcommand, which returns the exit code.
 */
#ifndef XTJIT_CLI_H
#define XTJIT_CLI_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

enum cli_exit {
	CLI_OK,
	CLI_REFUSED,		/* the helper said no */
	CLI_USAGE,
	CLI_UNREACHED,		/* no helper */
	/* as env(1) and the like have them */
	CLI_RUN_FAILED = 125,
	CLI_RUN_NOEXEC,
	CLI_RUN_NOTFOUND,
};

int cli_run(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_adopt(int argc, char **argv);
int cli_release(int argc, char **argv);
int cli_dump(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_early(int argc, char **argv);
int cli_unload(int argc, char **argv);

/*
 * One request to the helper, about the current network namespace; prints its
 * text and notes.  The exit code.
 */
int cli_ask(__u16 op, __u8 family, const void *req, size_t len);

/* "xtjit: " and the message, on stderr. */
void cli_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/*
 * Where our other parts are: beside us (a build tree) or, installed, under the
 * same prefix.  Allocated once; NULL if they are not to be found.
 */
const char *cli_shim_path(void);
const char *cli_helper_path(void);

/* Whether the module is there. */
bool cli_module(void);

/* Sets XTJIT_HELPER, unless it is set or there is none, and returns it. */
const char *cli_helper_env(void);

/*
 * Puts the shim in LD_PRELOAD, before what is there.  False, with a message, if
 * it is not to be found.
 */
bool cli_preload(void);

#endif
