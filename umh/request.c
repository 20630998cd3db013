// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "helper.h"
#include "loop.h"
#include "request.h"
#include "serve.h"
#include "table.h"

#define MAX_CONNS	64
#define WIDE_MIN	(128 << 10)	/* bytes in a socket's buffer: more than by default */
#define WIDE_MAX	(4 << 20)
#define TIMEOUT_NS	(60ull * 1000000000)

struct conn {
	struct watch watch;
	struct conn *next;
	struct call call;	/* call.netns: -1 until it has come */
	__u64 since;
	size_t got;		/* bytes of the request */
	struct xtjit_rep rep;
	size_t sent;		/* bytes of the reply */
	bool replying;
};

static struct watch listener = { .fd = -1 };
static struct conn *conns;
static int nconns;

void *call_reply_dirty(struct call *c, size_t len)
{
	free(c->out);
	c->out = malloc(len ? len : 1);
	c->out_len = c->out ? len : 0;
	if (!c->out)
		xt_fail(&c->err, -ENOMEM, "out of memory");
	return c->out;
}

void *call_reply(struct call *c, size_t len)
{
	void *out = call_reply_dirty(c, len);

	return out ? memset(out, 0, len) : NULL;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* But for its namespace. */
static void call_end(struct call *call)
{
	close_fd(call->last);
	close_fd(call->out_fd);
	free(call->payload);
	free(call->out);
}

/* @last: namespace of the request before, or -1. */
static void call_begin(struct conn *c, int peer, int last, __u64 last_cookie)
{
	c->call = (struct call){
		.netns = -1, .out_fd = -1, .peer = peer,
		.last = last, .last_cookie = last_cookie,
	};
	c->since = now_ns();
	c->got = c->sent = 0;
}

static void conn_close(struct conn *c)
{
	struct conn **p = &conns;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	nconns--;
	loop_del(&c->watch);
	close(c->watch.fd);
	close_fd(c->call.netns);
	call_end(&c->call);
	free(c);
}

/* Waits for the next request; of one that was refused by its header the rest may come yet. */
static void conn_next(struct conn *c)
{
	bool whole = c->got == sizeof(c->call.req) + c->call.req.len;

	if (!c->call.payload || !whole || (c->replying && loop_mod(&c->watch, EPOLLIN))) {
		conn_close(c);
		return;
	}
	call_end(&c->call);
	call_begin(c, c->call.peer, c->call.netns, c->call.cookie);
	c->replying = false;
}

/*
 * The reply
 */

static size_t note_len(const struct conn *c)
{
	return c->rep.note_len;
}

/* An fd goes with the first byte. */
static void add_fd(const struct conn *c, struct msghdr *msg, struct cmsghdr *cm)
{
	if (c->sent || c->call.out_fd < 0)
		return;
	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cm), &c->call.out_fd, sizeof(int));
	msg->msg_control = cm;
	msg->msg_controllen = CMSG_SPACE(sizeof(int));
}

/* Status first, then what was made; 1 when all of it is sent, 0 if the peer is slow. */
static int send_some(struct conn *c)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = {};
	struct iovec part[3] = {
		{ &c->rep, sizeof(c->rep) },
		{ c->call.out, c->rep.len },
		{ c->call.err.text, note_len(c) },
	};
	struct msghdr msg = { .msg_iov = part, .msg_iovlen = 3 };
	size_t skip = c->sent;
	ssize_t n;

	for (int i = 0; i < 3; i++) {
		size_t k = skip < part[i].iov_len ? skip : part[i].iov_len;

		part[i].iov_base = (char *)part[i].iov_base + k;
		part[i].iov_len -= k;
		skip -= k;
	}
	add_fd(c, &msg, &control.align);
	n = sendmsg(c->watch.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	c->sent += n;
	return c->sent == sizeof(c->rep) + c->rep.len + note_len(c);
}

static void conn_send(struct conn *c)
{
	int ret = send_some(c);

	if (ret > 0) {
		conn_next(c);
	} else if (ret) {
		conn_close(c);
	} else if (!c->replying) {
		c->replying = true;
		if (loop_mod(&c->watch, EPOLLOUT))
			conn_close(c);
	}
}

/* Else a large reply would go by many turns of both processes. */
static void widen(int fd, size_t len)
{
	int size = len < WIDE_MAX ? len : WIDE_MAX;

	if (len > WIDE_MIN)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
}

/*
 * What a person is told: why something was refused or went wrong here; not what
 * the kernel would say no more of than its errno.
 */
size_t call_note(const struct call *call, int status)
{
	bool option = call->req.op == XTJIT_OP_SET || call->req.op == XTJIT_OP_GET;
	bool ours = !strncmp(call->err.text, "xtjit:", 6) || status == -EIO || status == -ENOMEM;

	return status && (!option || ours) ? strlen(call->err.text) : 0;
}

/* A failed request replies no data, but for texts about several things. */
static void conn_reply(struct conn *c, int status)
{
	struct call *call = &c->call;
	bool text = call->req.op >= XTJIT_OP_STATUS;

	if (status && !text)
		call->out_len = 0;
	c->rep = (struct xtjit_rep){
		.magic = XTJIT_MAGIC, .version = XTJIT_VERSION, .op = call->req.op,
		.id = call->req.id, .status = status, .len = call->out_len,
		.note_len = call_note(call, status),
	};
	c->since = now_ns();
	widen(c->watch.fd, call->out_len);
	conn_send(c);
}

/*
 * The request
 */

static bool is_netns(int fd)
{
	return fd >= 0 && ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET;
}

/* The first fd is ours; what else came is closed. */
static void take_fds(struct conn *c, struct msghdr *msg)
{
	for (struct cmsghdr *cm = CMSG_FIRSTHDR(msg); cm; cm = CMSG_NXTHDR(msg, cm)) {
		size_t n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int fd;

		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(cm) + i * sizeof(fd), sizeof(fd));
			if (c->call.netns < 0)
				c->call.netns = fd;
			else
				close(fd);
		}
	}
}

static ssize_t receive(struct conn *c, void *buf, size_t len)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct iovec iov = { buf, len };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(c->watch.fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n >= 0)
		take_fds(c, &msg);
	return n;
}

static int check_header(struct conn *c)
{
	struct call *call = &c->call;
	const struct xtjit_req *r = &call->req;

	if (r->magic != XTJIT_MAGIC)
		return xt_fail(&call->err, -EPROTO, "not a request");
	if (r->version != XTJIT_VERSION)
		return xt_fail(&call->err, -EPROTO, "version %u of the protocol, not %u",
			       r->version, XTJIT_VERSION);
	if (!r->id || r->reserved || r->early > XTJIT_EARLY_EAGER ||
	    r->fallback > XTJIT_FALLBACK_REFUSE)
		return xt_fail(&call->err, -EINVAL, "a request with fields that make no sense");
	if (r->len > XTJIT_MAX_PAYLOAD)
		return xt_fail(&call->err, -ENOMEM, "%llu bytes are too many", r->len);
	if (!is_netns(call->netns))
		return xt_fail(&call->err, -EBADF, "no network namespace came with the request");
	call->payload = malloc(r->len + 8);
	if (!call->payload)
		return xt_fail(&call->err, -ENOMEM, "out of memory");
	memset(call->payload + r->len, 0, 8);
	return 0;
}

static void conn_serve(struct conn *c)
{
	int status = serve(&c->call);

	conn_reply(c, status);
	table_later();
}

/* Some more of @len bytes, of which those from @at on are to come; false if that is all for now. */
static bool receive_more(struct conn *c, void *buf, size_t at, size_t len)
{
	ssize_t n = receive(c, (char *)buf + at, len - at);

	if (n > 0)
		c->got += n;
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		conn_close(c);
	return n > 0;
}

static void conn_receive(struct conn *c)
{
	struct call *call = &c->call;
	size_t head = sizeof(call->req);
	int ret;

	if (c->got < head) {
		if (!receive_more(c, &call->req, c->got, head) || c->got < head)
			return;
		ret = check_header(c);
		if (ret) {
			conn_reply(c, ret);
			return;
		}
	}
	if (call->req.len > c->got - head &&
	    !receive_more(c, call->payload, c->got - head, call->req.len))
		return;
	if (c->got - head == call->req.len)
		conn_serve(c);
}

static void conn_event(struct watch *w, __u32 events)
{
	struct conn *c = container_of(w, struct conn, watch);

	if (c->replying)
		conn_send(c);
	else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		conn_receive(c);
}

/*
 * Connections
 */

/* Its process id; a negative errno if it is not root's. */
static int root_peer(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return -errno;
	return cred.uid ? -EPERM : cred.pid;
}

/* The one of which nothing has been heard for longest. */
static void close_idle(void)
{
	struct conn *idle = NULL;

	for (struct conn *c = conns; c; c = c->next)
		if (!c->got && !c->replying && (!idle || c->since < idle->since))
			idle = c;
	if (idle)
		conn_close(idle);
}

static void listener_event(struct watch *w, __u32 events)
{
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int peer = fd < 0 ? fd : root_peer(fd);
	struct conn *c;

	(void)events;
	if (fd < 0)
		return;
	if (nconns == MAX_CONNS)
		close_idle();
	c = peer >= 0 && nconns < MAX_CONNS ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		close(fd);
		return;
	}
	c->watch = (struct watch){ .fd = fd, .fn = conn_event };
	call_begin(c, peer, -1, 0);
	c->next = conns;
	conns = c;
	nconns++;
	if (loop_add(&c->watch, EPOLLIN))
		conn_close(c);
}

void request_tick(void)
{
	__u64 now = now_ns();
	struct conn *next;

	for (struct conn *c = conns; c; c = next) {
		next = c->next;
		if (now - c->since > TIMEOUT_NS)
			conn_close(c);
	}
}

/*
 * A socket at @path, which is never not there: who connects while one helper follows
 * another finds the old one's (which refuses, so that it tries again) or ours.
 */
static int listen_at(int fd, const char *path, struct sockaddr_un *sa)
{
	char *last = sa->sun_path + strlen(sa->sun_path) - 1;

	*last = *last == '~' ? '-' : '~';
	unlink(sa->sun_path);
	return bind(fd, (struct sockaddr *)sa, sizeof(*sa)) < 0 || chmod(sa->sun_path, 0600) < 0 ||
	       listen(fd, MAX_CONNS) < 0 || rename(sa->sun_path, path) < 0 ? -errno : 0;
}

int request_listen(const char *path, struct xt_err *err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd, ret;

	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return xt_fail(err, -errno, "socket: %s", strerror(errno));
	ret = listen_at(fd, path, &sa);
	if (ret) {
		close(fd);
		return xt_fail(err, ret, "%s: %s", path, strerror(-ret));
	}
	listener = (struct watch){ .fd = fd, .fn = listener_event };
	ret = loop_add(&listener, EPOLLIN);
	return ret ? xt_fail(err, ret, "epoll: %s", strerror(-ret)) : 0;
}

void request_exit(void)
{
	while (conns)
		conn_close(conns);
	if (listener.fd >= 0)
		close(listener.fd);
	listener.fd = -1;
}
