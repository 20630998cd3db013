// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client.h"

#define CONNECT_MS	10000	/* for a helper to begin to listen */
#define BROKEN_MS	15000	/* for one to answer, once a connection broke */
#define PAUSE_MAX_MS	200
#define WIDE_MIN	(128 << 10)	/* bytes in a socket's buffer: more than by default */
#define WIDE_MAX	(4 << 20)

extern char **environ;

static __u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ull + ts.tv_nsec / 1000000;
}

/* Sleeps *ms, and makes it longer for the next time. */
static void pause_ms(int *ms)
{
	struct timespec ts = { *ms / 1000, *ms % 1000 * 1000000L };

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
	*ms = *ms * 2 < PAUSE_MAX_MS ? *ms * 2 : PAUSE_MAX_MS;
}

const char *client_socket_path(void)
{
	const char *path = getenv(XTJIT_SOCKET_ENV);

	return path && *path ? path : XTJIT_SOCKET_DEFAULT;
}

static int keyword(const char *value, const char *const *words, int n)
{
	if (!value || !*value)
		return 0;
	for (int i = 1; i < n; i++)
		if (!strcmp(value, words[i]))
			return i;
	return -1;
}

int client_early(const char *value)
{
	static const char *const words[] = {
		[XTJIT_EARLY_OFF] = "off",
		[XTJIT_EARLY_ON] = "on",
		[XTJIT_EARLY_EAGER] = "eager",
	};

	return keyword(value, words, XTJIT_EARLY_EAGER + 1);
}

int client_fallback(const char *value)
{
	static const char *const words[] = {
		[XTJIT_FALLBACK_KERNEL] = "kernel",
		[XTJIT_FALLBACK_REFUSE] = "refuse",
	};

	return keyword(value, words, XTJIT_FALLBACK_REFUSE + 1);
}

/*
 * Starting a helper.  The process that we are in may wait for any child of its
 * own, or ignore SIGCHLD, and must not notice.  So ours is a clone() without an
 * exit signal: only __WCLONE sees it.  As execve() would give it one, it does
 * not exec, but waits for a child of its own that does.
 */

static void reset_signals(void)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		sigaction(i, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The helper must not hold the caller's pipes and locks, but may say why it fails. */
static void reset_fds(void)
{
	int null = open("/dev/null", O_RDWR);

	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
	}
	if (syscall(SYS_close_range, 3, ~0u, 0) < 0)
		for (int fd = 3; fd < 65536; fd++)
			close(fd);
}

static long raw_fork(int exit_signal)
{
	return syscall(SYS_clone, exit_signal, 0, 0, 0, 0);
}

/* After a raw_fork(): system calls only. */
static void __attribute__((noreturn)) middle(char *const argv[], char *const envp[])
{
	int status;
	pid_t pid;

	reset_signals();
	pid = raw_fork(SIGCHLD);
	if (pid == 0) {
		setsid();
		reset_fds();
		execve(argv[0], argv, envp);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			_exit(126);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 126);
}

static void wait_helper_exit(pid_t pid, int *status)
{
	struct pollfd p = { .events = POLLIN };
	__u64 end = now_ms() + CONNECT_MS;
	int flags = 0;

	p.fd = syscall(SYS_pidfd_open, pid, 0);
	if (p.fd >= 0) {
		flags = WNOHANG;
		while (now_ms() < end && poll(&p, 1, end - now_ms()) < 0 && errno == EINTR)
			;
		close(p.fd);
	}
	*status = 126 << 8;
	while (waitpid(pid, status, flags | __WCLONE) < 0 && errno == EINTR)
		;
}

/* The environment without what is meant for the script only. */
static char **helper_environ(void)
{
	size_t n = 0, k = 0;
	char **envp;

	while (environ && environ[n])
		n++;
	envp = malloc((n + 1) * sizeof(*envp));
	if (!envp)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (strncmp(environ[i], "LD_", 3) && strncmp(environ[i], "XTJIT_", 6))
			envp[k++] = environ[i];
	envp[k] = NULL;
	return envp;
}

int client_start_helper(const char *helper, const char *path, struct xt_err *err)
{
	char *argv[] = { (char *)helper, "--socket", (char *)path, "--daemon", NULL };
	char **envp = helper_environ();
	sigset_t all, old;
	int status = 0, saved;
	pid_t pid;

	if (!envp)
		return xt_fail(err, -ENOMEM, "out of memory");
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid = raw_fork(0);
	if (pid == 0)
		middle(argv, envp);
	saved = errno;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	free(envp);
	if (pid < 0)
		return xt_fail(err, -saved, "%s: cannot be started: %s", helper, strerror(saved));
	wait_helper_exit(pid, &status);
	if (WEXITSTATUS(status) == 127)
		return xt_fail(err, -ENOENT, "%s: cannot be executed", helper);
	if (status)
		return xt_fail(err, -ECONNREFUSED, "%s: did not start", helper);
	return 0;
}

/* One attempt: an fd, or a negative errno. */
static int dial(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd, err;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	while (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		if (errno == EINTR)
			continue;
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/*
 * @was_there: a helper that went away a moment ago, and may be about to be
 * restarted by others.  Its socket being still there says so, too.
 */
static int connect_until(const char *path, const char *helper, bool was_there, __u64 end,
			 struct xt_err *err)
{
	int pause = 1, fd;

	for (;;) {
		fd = dial(path);
		if (fd >= 0)
			return fd;
		if (fd != -ECONNREFUSED && (fd != -ENOENT || !(helper || was_there)))
			break;
		if (now_ms() > end)
			break;
		if (helper && client_start_helper(helper, path, err)) {
			fd = dial(path);	/* someone else's may have */
			if (fd >= 0)
				return fd;
			break;
		}
		pause_ms(&pause);
	}
	return xt_fail(err, fd, "%s", strerror(-fd));
}

int client_connect(const char *path, const char *helper, struct xt_err *err)
{
	__u64 wait = helper ? CONNECT_MS : CONNECT_MS / 5;

	return connect_until(path, helper, false, now_ms() + wait, err);
}

/* A connection that ends, however it does, is -EPIPE. */
static int io_error(void)
{
	return errno == ECONNRESET || errno == EPIPE ? -EPIPE : -errno;
}

/* *at bytes of @len are there already. */
static int recv_from(int fd, void *buf, size_t len, size_t *at)
{
	ssize_t n;

	while (*at < len) {
		n = recv(fd, (char *)buf + *at, len - *at, MSG_WAITALL);
		if (n == 0)
			return -EPIPE;
		if (n < 0 && errno != EINTR)
			return io_error();
		if (n > 0)
			*at += n;
	}
	return 0;
}

static int recv_all(int fd, void *buf, size_t len)
{
	size_t at = 0;

	return recv_from(fd, buf, len, &at);
}

static int recv_nothing(int fd, __u64 len)
{
	char buf[4096];
	int err = 0;

	while (len && !err) {
		size_t n = len < sizeof(buf) ? len : sizeof(buf);

		err = recv_all(fd, buf, n);
		len -= n;
	}
	return err;
}

/* Else a large request would go by many turns of both processes. */
static void widen(int fd, size_t len)
{
	int size = len < WIDE_MAX ? len : WIDE_MAX;

	if (len > WIDE_MIN)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
}

/* The namespace's fd goes with the first byte. */
static int send_req(int fd, const struct xtjit_req *h, const struct client_call *c)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = {};
	struct iovec iov[2] = {
		{ (void *)h, sizeof(*h) }, { (void *)c->req, c->req_len }
	};
	struct msghdr msg = {
		.msg_iov = iov, .msg_iovlen = 2,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);
	ssize_t n;

	widen(fd, c->req_len);
	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cm), &c->netns, sizeof(int));
	while (iov[0].iov_len + iov[1].iov_len) {
		n = sendmsg(fd, &msg, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return io_error();
		msg.msg_control = NULL;
		msg.msg_controllen = 0;
		for (int i = 0; i < 2; i++) {
			size_t k = (size_t)n < iov[i].iov_len ? (size_t)n : iov[i].iov_len;

			iov[i].iov_base = (char *)iov[i].iov_base + k;
			iov[i].iov_len -= k;
			n -= k;
		}
	}
	return 0;
}

static bool sane(const struct xtjit_rep *r, const struct xtjit_req *h)
{
	return r->magic == XTJIT_MAGIC && r->version == XTJIT_VERSION && r->op == h->op &&
	       r->id == h->id && r->len <= XTJIT_MAX_PAYLOAD &&
	       r->note_len <= XTJIT_MAX_NOTE && r->status <= 0;
}

static int recv_alloc(int fd, struct client_call *c)
{
	char *buf = malloc(c->rep_len + 1);
	int err;

	if (!buf)
		return -ENOMEM;
	err = recv_all(fd, buf, c->rep_len);
	if (err) {
		free(buf);
		return err;
	}
	buf[c->rep_len] = '\0';
	c->rep = buf;
	return 0;
}

static int recv_payload(int fd, struct client_call *c)
{
	size_t n = c->rep_len < c->rep_max ? c->rep_len : c->rep_max, at = 0;
	int err;

	if (!c->rep)
		return recv_alloc(fd, c);
	err = recv_from(fd, c->rep, n, &at);
	c->fault = err == -EFAULT;
	return err && !c->fault ? err : recv_nothing(fd, c->rep_len - at);
}

/* The first byte of a reply may bring an fd; nobody else's is kept. */
static int recv_head(int fd, struct xtjit_rep *r, int *got)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { r, sizeof(*r) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *cm;
	size_t at;
	ssize_t n;

	do {
		n = recvmsg(fd, &msg, MSG_WAITALL | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n ? io_error() : -EPIPE;
	cm = CMSG_FIRSTHDR(&msg);
	if (cm && cm->cmsg_level == SOL_SOCKET && cm->cmsg_type == SCM_RIGHTS)
		memcpy(got, CMSG_DATA(cm), sizeof(*got));
	at = n;
	return recv_from(fd, r, sizeof(*r), &at);
}

/*
 * 0: *status is the reply's; -EPIPE: there was no full reply; else what went wrong
 * here, and is *status, too.
 */
static int exchange(int fd, const struct xtjit_req *h, struct client_call *c, int *status)
{
	struct xtjit_rep r;
	int err;

	err = send_req(fd, h, c);
	/* a helper that refuses early answers without having read all of it */
	if (!err || err == -EPIPE)
		err = c->fd ? recv_head(fd, &r, c->fd) : recv_all(fd, &r, sizeof(r));
	if (!err && !sane(&r, h)) {
		snprintf(c->note, sizeof(c->note),
			 "xtjit: what listens at %s is no helper of this version",
			 client_socket_path());
		err = -EPROTO;
	}
	if (!err) {
		c->rep_len = r.len;
		err = recv_payload(fd, c);
	}
	if (!err) {
		*status = r.status;
		err = recv_all(fd, c->note, r.note_len);
		c->note[err ? 0 : r.note_len] = '\0';
	}
	if (err && err != -EPIPE)
		*status = err;
	return err;
}

/*
 * The connection is kept for the next call: what is at its number then must still
 * be it, and not a parent's.
 */
static struct {
	bool on;
	int fd;			/* 0: none */
	pid_t pid;
	struct stat st;
} kept;

void client_keep(void)
{
	kept.on = true;
}

/* An fd that is the caller's from here on, or -1. */
static int kept_get(void)
{
	int fd = kept.fd;
	struct stat st;

	kept.fd = 0;
	return fd && kept.pid == getpid() && !fstat(fd, &st) &&
	       st.st_dev == kept.st.st_dev && st.st_ino == kept.st.st_ino ? fd : -1;
}

/* @fd is at the beginning of the next exchange. */
static void kept_put(int fd)
{
	if (!kept.on || fstat(fd, &kept.st)) {
		close(fd);
		return;
	}
	kept.fd = fd;
	kept.pid = getpid();
}

static void fill_req(struct xtjit_req *h, const struct client_call *c)
{
	int early = client_early(getenv(XTJIT_EARLY_ENV));
	int fallback = client_fallback(getenv(XTJIT_FALLBACK_ENV));

	*h = (struct xtjit_req){
		.magic = XTJIT_MAGIC,
		.version = XTJIT_VERSION,
		.op = c->op,
		.optname = c->optname,
		.family = c->family,
		.early = early < 0 ? 0 : early,
		.fallback = fallback < 0 ? 0 : fallback,
		.uid = geteuid(),
		.gid = getegid(),
		.len = c->req_len,
	};
	while (!h->id)
		if (getrandom(&h->id, sizeof(h->id), 0) != sizeof(h->id))
			h->id = now_ms() << 20 ^ (__u64)getpid();
}

/* What the program that asked is told of @err, a failure to reach the helper. */
static int unreached(struct client_call *c, const char *path, int err, const struct xt_err *why)
{
	c->unreached = true;
	snprintf(c->note, sizeof(c->note), "xtjit: the helper cannot be reached at %s: %s",
		 path, why->err ? why->text : strerror(-err));
	switch (err) {
	case -EACCES:
	case -EPERM:
		return -EPERM;
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
		return err;
	}
	return -ENOPROTOOPT;
}

/* Nothing of a reply that broke off is left. */
static void forget_reply(struct client_call *c, bool alloc)
{
	if (alloc) {
		free(c->rep);
		c->rep = NULL;
	}
	c->rep_len = 0;
	c->note[0] = '\0';
	if (c->fd && *c->fd >= 0)
		close(*c->fd);
	if (c->fd)
		*c->fd = -1;
}

int client_call(struct client_call *c)
{
	const char *path = client_socket_path(), *helper = getenv(XTJIT_HELPER_ENV);
	struct xtjit_req h;
	__u64 end = 0;
	int pause = 1, fd, err, status;
	bool alloc = !c->rep;

	if (helper && !*helper)
		helper = NULL;
	fill_req(&h, c);
	if (c->fd)
		*c->fd = -1;
	for (;;) {
		struct xt_err why = {};

		forget_reply(c, alloc);
		fd = kept_get();
		if (fd < 0)
			fd = end ? connect_until(path, helper, true, end, &why) :
				   client_connect(path, helper, &why);
		if (fd < 0)
			return unreached(c, path, fd, &why);
		status = 0;
		err = exchange(fd, &h, c, &status);
		if (err)
			close(fd);
		else
			kept_put(fd);
		if (err != -EPIPE)
			return status;
		if (!end)
			end = now_ms() + BROKEN_MS;
		if (now_ms() > end) {
			xt_fail(&why, -EPIPE, "it gives up the connection each time");
			return unreached(c, path, -EPIPE, &why);
		}
		pause_ms(&pause);
	}
}
