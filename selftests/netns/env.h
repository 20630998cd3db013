/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of this directory share: TAP, commands, and two namespaces
 *
 *   A                              B (all calls are tried here)
 *   a0 10.77.0.1/24, fd77::1/64 -- b0 10.77.0.2/24, fd77::2/64
 *
 * One C file per test includes it.
 */
#ifndef XTJIT_SELFTESTS_ENV_H
#define XTJIT_SELFTESTS_ENV_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netns.h"

static char A[32], B[32], run_dir[64];
static int fd_a, fd_b;			/* the two namespaces */
static int ntests, nfailed;

static void ok(bool good, const char *fmt, ...)
{
	va_list ap;

	printf("%s %d - ", good ? "ok" : "not ok", ++ntests);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	nfailed += !good;
}

/* Runs a command, silently; its exit status. */
__attribute__((format(printf, 1, 2))) static int sh(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;
	int n, st;

	va_start(ap, fmt);
	n = vsnprintf(cmd, sizeof(cmd) - 32, fmt, ap);
	va_end(ap);
	snprintf(cmd + n, 32, " >/dev/null 2>&1");
	st = system(cmd);
	return WIFEXITED(st) ? WEXITSTATUS(st) : -1;
}

static void must(int ret, const char *what)
{
	if (!ret)
		return;
	printf("Bail out! %s: %d\n", what, ret);
	exit(1);
}

static int open_ns(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/run/netns/%s", name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static bool __attribute__((unused)) readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void set_up(void)
{
	snprintf(A, sizeof(A), "xenv%d-a", getpid());
	snprintf(B, sizeof(B), "xenv%d-b", getpid());
	must(sh("ip netns add %s && ip netns add %s", A, B), "ip netns add");
	must(sh("ip -n %s link add a0 type veth peer name b0 netns %s", A, B), "veth");
	sh("for n in %s %s; do ip netns exec $n sysctl -w net.ipv6.conf.default.accept_dad=0; "
	   "ip netns exec $n sysctl -w net.ipv6.conf.default.autoconf=0; done", A, B);
	must(sh("ip -n %s addr add 10.77.0.1/24 dev a0 && "
		"ip -n %s addr add 10.77.0.2/24 brd + dev b0", A, B), "addresses");
	must(sh("ip -n %s addr add fd77::1/64 dev a0 nodad && "
		"ip -n %s addr add fd77::2/64 dev b0 nodad", A, B), "IPv6");
	must(sh("for d in '%s lo' '%s a0' '%s lo' '%s b0'; do ip -n ${d%% *} link set ${d#* } up; "
		"done", A, A, B, B), "up");
	fd_a = open_ns(A);
	fd_b = open_ns(B);
	must(fd_a < 0 || fd_b < 0, "open namespaces");
	usleep(200000);
}

static void tear_down(void)
{
	char path[128];

	close(fd_a);
	close(fd_b);
	sh("ip netns del %s-c", B);
	sh("ip netns del %s; ip netns del %s", A, B);
	snprintf(path, sizeof(path), "%s/netns", run_dir);
	umount2(path, MNT_DETACH);
	rmdir(path);
	rmdir(run_dir);
}

/* Everything up and ready, or the end of the test; and all gone at its exit. */
static void start(void)
{
	struct xt_err err = { .err = 0 };

	if (geteuid()) {
		printf("1..0 # SKIP needs root\n");
		exit(4);
	}
	snprintf(run_dir, sizeof(run_dir), "/tmp/xtjit-env-%d", getpid());
	must(netns_init(run_dir, &err), err.text);
	atexit(tear_down);
	set_up();
}

static int finish(void)
{
	printf("1..%d\n", ntests);
	return nfailed != 0;
}

#endif
