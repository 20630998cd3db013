// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "daemon.h"
#include "helper.h"
#include "home.h"

#define WAIT_MS 10000		/* for another helper to answer */

static int ready_fd = -1;	/* the parent waits at its other end */
static int lock_fd = -1;		/* never closed: the lock ends with the process */
static int user_fd = -1;		/* stderr of who started us */

char *daemon_path(const char *socket)
{
	char *cwd, *path = NULL;

	if (*socket == '/') {
		path = strdup(socket);
	} else {
		cwd = getcwd(NULL, 0);
		if (cwd && asprintf(&path, "%s/%s", cwd, socket) < 0)
			path = NULL;
		free(cwd);
	}
	if (!path) {
		fprintf(stderr, "xtjitd: %s: %s\n", socket, strerror(errno));
		exit(1);
	}
	return path;
}

char *daemon_run_dir(const char *socket)
{
	size_t n = strlen(socket);
	char *dir;

	if (n > 5 && !strcmp(socket + n - 5, ".sock"))
		n -= 5;
	return asprintf(&dir, "%.*s.d", (int)n, socket) < 0 ? NULL : dir;
}

/* The directories above the socket. */
static void make_parents(const char *socket)
{
	char *path = strdup(socket);

	for (char *p = path ? path + 1 : NULL; p && (p = strchr(p, '/')); p++) {
		*p = '\0';
		mkdir(path, 0755);
		*p = '/';
	}
	free(path);
}

static bool answers(const char *socket_path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok;

	if (strlen(socket_path) >= sizeof(sa.sun_path)) {
		close(fd);
		return false;
	}
	strcpy(sa.sun_path, socket_path);
	ok = fd >= 0 && !connect(fd, (struct sockaddr *)&sa, sizeof(sa));
	if (fd >= 0)
		close(fd);
	return ok;
}

static int open_beside(const char *socket, const char *suffix, int flags)
{
	char *path;
	int fd;

	if (asprintf(&path, "%s%s", socket, suffix) < 0)
		return -ENOMEM;
	fd = open(path, flags | O_CLOEXEC | O_CREAT | O_NOFOLLOW, 0600);
	if (fd < 0)
		fd = -errno;
	free(path);
	return fd;
}

/* 1: another helper answers. */
static int take_lock(const char *socket, struct xt_err *err)
{
	struct timespec pause = { 0, 20 * 1000000 };
	int fd = open_beside(socket, ".lock", O_RDWR);

	if (fd < 0)
		return xt_fail(err, fd, "%s.lock: %s", socket, strerror(-fd));
	for (int ms = 0; ms < WAIT_MS; ms += 20) {
		if (!flock(fd, LOCK_EX | LOCK_NB)) {
			lock_fd = fd;
			return 0;
		}
		if (answers(socket))
			return 1;
		nanosleep(&pause, NULL);
	}
	return xt_fail(err, -EBUSY, "%s.lock: another helper has it, and does not answer", socket);
}

/* The parent: one byte from the child, or its end. */
static void __attribute__((noreturn)) wait_for_child(int fd)
{
	ssize_t n;
	char c;

	do {
		n = read(fd, &c, 1);
	} while (n < 0 && errno == EINTR);
	_exit(n == 1 ? 0 : 1);
}

/* Messages go to SOCKET.log, but for the one that daemon_failed() has for the user. */
static int redirect(const char *socket, struct xt_err *err)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int log = open_beside(socket, ".log", O_WRONLY | O_TRUNC | O_APPEND);

	if (log < 0)
		return xt_fail(err, log, "%s.log: %s", socket, strerror(-log));
	user_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		close(null);
	}
	dup2(log, STDOUT_FILENO);
	dup2(log, STDERR_FILENO);
	close(log);
	return 0;
}

static int go_to_background(struct xt_err *err)
{
	int p[2];
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		return xt_fail(err, -errno, "pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		return xt_fail(err, -errno, "fork: %s", strerror(errno));
	if (pid > 0) {
		close(p[1]);
		wait_for_child(p[0]);
	}
	close(p[0]);
	ready_fd = p[1];
	setsid();
	return chdir("/") < 0 ? -errno : 0;
}

/* Started by the kernel, which opens none of the three; false: stderr was not there. */
static bool fill_standard_fds(void)
{
	bool said = fcntl(STDERR_FILENO, F_GETFD) >= 0;
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
	return said;
}

int daemon_begin(const char *socket, bool background, struct xt_err *err)
{
	bool to_log = !fill_standard_fds() || background;
	struct sockaddr_un sa;
	int ret;

	/* before anything is made beside it */
	if (strlen(socket) >= sizeof(sa.sun_path))
		return xt_fail(err, -ENAMETOOLONG, "%s: a socket's name has at most %zu bytes",
			       socket, sizeof(sa.sun_path) - 1);
	if (background)
		syscall(SYS_close_range, 3, ~0u, 0);
	make_parents(socket);
	ret = take_lock(socket, err);
	if (ret == 1 && background)
		exit(0);
	if (ret == 1)
		return xt_fail(err, -EADDRINUSE, "%s: another helper listens there", socket);
	if (!ret && background)
		ret = go_to_background(err);
	if (!ret && to_log)
		ret = redirect(socket, err);
	if (!ret)
		home_join(lock_fd);
	return ret;
}

int daemon_settled(struct xt_err *err)
{
	return home_record(lock_fd, err);
}

/* As sd_notify(3): where systemd started us it waits for this. */
static void notify(const char *socket_name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	size_t len = strlen(socket_name);
	int fd;

	if (!len || len >= sizeof(a.sun_path))
		return;
	memcpy(a.sun_path, socket_name, len);
	if (*socket_name == '@')
		a.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, "READY=1", 7, 0, (struct sockaddr *)&a,
			     offsetof(struct sockaddr_un, sun_path) + len) < 0)
		xt_log("%s: %s", socket_name, strerror(errno));
	if (fd >= 0)
		close(fd);
}

void daemon_ready(void)
{
	notify(getenv("NOTIFY_SOCKET") ?: "");
	if (ready_fd < 0)
		return;
	if (write(ready_fd, "r", 1) < 0)
		xt_log("the process that started us is gone");
	close(ready_fd);
	if (user_fd >= 0)
		close(user_fd);
	ready_fd = user_fd = -1;
}

void daemon_failed(const char *why)
{
	xt_log("%s", why);
	if (user_fd >= 0)
		dprintf(user_fd, "xtjitd: %s\n", why);
}
