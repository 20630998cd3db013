/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A precise error: an errno for the program that asked, a text for its user.
 */
#ifndef XTJIT_ERR_H
#define XTJIT_ERR_H

struct xt_err {
	int err;		/* negative errno; 0: none */
	char text[512];
};

/* Sets @e (which may be NULL) unless it holds an earlier error; returns @err. */
int xt_fail(struct xt_err *e, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Messages of the running helper: to stderr, one line each. */
void xt_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
