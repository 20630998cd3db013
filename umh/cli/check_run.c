// SPDX-License-Identifier: GPL-2.0
/*
 * iptables-restore is run under the shim, whose check mode keeps its sockets
 * from being real ones.  Should the shim not be loaded, for whatever reason,
 * it must not reach the kernel either: so it has no right to.
 */
#include <errno.h>
#include <linux/capability.h>
#include <linux/netfilter.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "cli.h"
#include "xtjit_msg.h"

struct sandbox {
	char dir[64];
	char socket[80], lock[80];
	int listener;
};

static void sandbox_remove(struct sandbox *s)
{
	if (s->listener >= 0)
		close(s->listener);
	unlink(s->socket);
	unlink(s->lock);
	rmdir(s->dir);
}

static int sandbox_make(struct sandbox *s)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	strcpy(s->dir, "/tmp/xtjit-check.XXXXXX");
	if (!mkdtemp(s->dir)) {
		cli_error("check: %s: %s", s->dir, strerror(errno));
		return -1;
	}
	snprintf(s->socket, sizeof(s->socket), "%s/socket", s->dir);
	snprintf(s->lock, sizeof(s->lock), "%s/lock", s->dir);
	strcpy(sa.sun_path, s->socket);
	s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->listener < 0 || bind(s->listener, (struct sockaddr *)&sa, sizeof(sa)) ||
	    listen(s->listener, 8)) {
		cli_error("check: %s: %s", s->socket, strerror(errno));
		sandbox_remove(s);
		return -1;
	}
	return 0;
}

/* By the name that only the one of the socket options has: the other would do it for real. */
static void exec_restore(const struct xt_family *f)
{
	const char *name = f->nfproto == NFPROTO_IPV6 ? "ip6tables-legacy-restore" :
							"iptables-legacy-restore";
	const char *path = getenv("PATH");
	char *longer;

	if (asprintf(&longer, "%s:/usr/sbin:/sbin:/usr/local/sbin", path ? path : "/usr/bin") > 0)
		setenv("PATH", longer, 1);
	execlp(name, name, NULL);
	cli_error("check: %s: %s", name, strerror(errno));
}

static void __attribute__((noreturn)) child(const struct sandbox *s, const struct xt_family *f,
					    int input)
{
	signal(SIGINT, SIG_DFL);
	if (prctl(PR_CAPBSET_DROP, CAP_NET_ADMIN, 0, 0, 0) < 0 && geteuid() == 0) {
		cli_error("check: cannot give up CAP_NET_ADMIN: %s", strerror(errno));
		_exit(2);
	}
	setenv(XTJIT_SOCKET_ENV, s->socket, 1);
	setenv("XTABLES_LOCKFILE", s->lock, 1);
	setenv("XTJIT_CHECK", "1", 1);
	unsetenv(XTJIT_HELPER_ENV);
	lseek(input, 0, SEEK_SET);
	dup2(input, STDIN_FILENO);
	dup2(STDERR_FILENO, STDOUT_FILENO);
	if (cli_preload())
		exec_restore(f);
	_exit(2);
}

/* Answers what @pid asks, until it ends. */
static void serve_until_exit(const struct sandbox *s, pid_t pid, struct check_tables *t)
{
	struct pollfd p[2] = {
		{ .fd = s->listener, .events = POLLIN },
		{ .fd = syscall(SYS_pidfd_open, pid, 0), .events = POLLIN },
	};

	while (p[1].fd >= 0 && !p[1].revents) {
		int conn;

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		conn = p[0].revents ? accept4(s->listener, NULL, NULL, SOCK_CLOEXEC) : -1;
		if (conn < 0)
			continue;
		check_serve(conn, t);
		close(conn);
	}
	if (p[1].fd >= 0)
		close(p[1].fd);
}

int check_run(int input, struct check_tables *t)
{
	struct sandbox s;
	int status = -1;
	pid_t pid;

	if (sandbox_make(&s))
		return -1;
	signal(SIGINT, SIG_IGN);	/* the child gets it too, and ends */
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		child(&s, t->family, input);
	if (pid > 0) {
		serve_until_exit(&s, pid, t);
		waitpid(pid, &status, 0);
	}
	signal(SIGINT, SIG_DFL);
	sandbox_remove(&s);
	return status ? -1 : 0;
}
