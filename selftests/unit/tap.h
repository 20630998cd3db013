/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A TAP harness for one test program: tap_ok() for each test, and
 * "return tap_done();" at the end of main().
 */
#ifndef XTJIT_TAP_H
#define XTJIT_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static int tap_tests, tap_failures;

/* One test, named by @fmt. Returns @ok. */
__attribute__((format(printf, 2, 3), unused))
static bool tap_ok(bool ok, const char *fmt, ...)
{
	va_list ap;

	tap_failures += !ok;
	printf("%sok %d - ", ok ? "" : "not ", ++tap_tests);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	return ok;
}

/* A test that cannot be run here, and why. */
__attribute__((unused))
static void tap_skip(const char *name, const char *reason)
{
	printf("ok %d - %s # SKIP %s\n", ++tap_tests, name, reason);
	fflush(stdout);
}

/* A line that explains the test before it. */
__attribute__((format(printf, 1, 2), unused))
static void tap_diag(const char *fmt, ...)
{
	va_list ap;

	printf("# ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

/* Prints the plan; returns the exit status. */
__attribute__((unused))
static int tap_done(void)
{
	printf("1..%d\n", tap_tests);
	return tap_failures ? 1 : 0;
}

#endif
