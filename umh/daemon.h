/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One helper for each socket, in the foreground or the background.
 */
#ifndef XTJIT_DAEMON_H
#define XTJIT_DAEMON_H

#include <stdbool.h>

#include "err.h"

/* @socket as an absolute path, malloc()ed; exits when out of memory. */
char *daemon_path(const char *socket);
/* DIR/NAME.d for the socket DIR/NAME.sock, malloc()ed. */
char *daemon_run_dir(const char *socket);

/*
 * Takes the lock of @socket.  If another helper has it, waits until that one
 * answers: @background: then exits with 0; else -EADDRINUSE.
 *
 * @background: returns in a child; the caller's process waits for
 * daemon_ready(), exits with 0 then, or with 1 if the child exits before.  The
 * child's messages go to SOCKET.log, which begins anew; so do those of a process
 * that was started without a stderr.
 */
int daemon_begin(const char *socket, bool background, struct xt_err *err);
/* We are where we stay (see home.h): the next helper will be there, too. */
int daemon_settled(struct xt_err *err);
/* Lets the parent go, and tells systemd ($NOTIFY_SOCKET). */
void daemon_ready(void);
/* Says why we end, to the log and to whoever started us. */
void daemon_failed(const char *why);

#endif
