// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "loop.h"
#include "module.h"
#include "request.h"
#include "serve.h"
#include "table.h"
#include "users.h"

static struct watch device = { .fd = -1 };
static void (*when_gone)(void);

static int control(unsigned long op, void *arg)
{
	return ioctl(device.fd, op, arg) < 0 ? -errno : 0;
}

/*
 * Requests
 */

static int check(struct call *c)
{
	const struct xtjit_req *r = &c->req;

	if (r->magic != XTJIT_MAGIC || r->version != XTJIT_VERSION)
		return xt_fail(&c->err, -EPROTO, "xtjit: the module speaks version %u of the protocol, not %u",
			       r->version, XTJIT_VERSION);
	if (r->len > XTJIT_MAX_PAYLOAD)
		return xt_fail(&c->err, -ENOMEM, "xtjit: %llu bytes are too many", r->len);
	return 0;
}

static int fetch(struct call *c)
{
	struct xtjit_payload p = { .id = c->req.id, .len = c->req.len };
	int ret;

	c->payload = calloc(1, c->req.len + 8);
	if (!c->payload)
		return xt_fail(&c->err, -ENOMEM, "out of memory");
	if (!c->req.len)
		return 0;
	p.buf = (unsigned long)c->payload;
	ret = control(XTJIT_PAYLOAD, &p);
	return ret ? xt_fail(&c->err, ret, "payload: %s", strerror(-ret)) : 0;
}

/* A caller that is gone needs no reply.  The kernel's log has our name already. */
static void reply(struct call *c, int status)
{
	static const char name[] = "xtjit: ";
	size_t len = call_note(c, status);
	size_t skip = strncmp(c->err.text, name, strlen(name)) ? 0 : strlen(name);
	struct xtjit_reply r = {
		.id = c->req.id,
		.buf = (unsigned long)c->out,
		.len = status ? 0 : c->out_len,
		.note = (unsigned long)(c->err.text + skip),
		.note_len = len ? len - skip : 0,
		.status = status,
	};
	int ret = control(XTJIT_REPLY, &r);

	if (ret && ret != -ECANCELED)
		xt_log("reply to the module: %s", strerror(-ret));
	if (len)
		xt_log("%s", c->err.text + skip);
}

static void do_request(const struct xtjit_dev_req *r)
{
	struct call c = {
		.req = r->req, .netns = r->netns, .device = true, .out_fd = -1,
		.last = -1,
		.foreign = !(r->flags & XTJIT_REQ_INITIAL), .owner = r->flags & XTJIT_REQ_OWNER,
	};
	int ret = check(&c);

	if (!ret)
		ret = fetch(&c);
	if (!ret)
		ret = serve(&c);
	if (ret != -ECANCELED)
		reply(&c, ret);
	table_later();
	close(c.netns);
	free(c.payload);
	free(c.out);
}

static void device_gone(void)
{
	loop_del(&device);
	when_gone();
}

static void device_event(struct watch *w, __u32 events)
{
	struct timespec pause = { 0, 100 * 1000000 };
	struct xtjit_dev_req r;
	ssize_t n = read(w->fd, &r, sizeof(r));

	if (n == sizeof(r))
		do_request(&r);
	else if (n == 0 || events & EPOLLHUP)
		device_gone();
	else if (n > 0 || (errno != EAGAIN && errno != EINTR)) {
		xt_log("%s: %s", XTJIT_DEV, n > 0 ? "a request of another size" : strerror(errno));
		nanosleep(&pause, NULL);
	}
}

/*
 * Opening
 */

static const char *device_path(void)
{
	const char *path = getenv(XTJIT_DEV_ENV);

	return path && *path ? path : XTJIT_DEV;
}

bool module_is_there(void)
{
	return !access(device_path(), F_OK);
}

int module_open(struct xt_err *err)
{
	const char *path = device_path();
	int ret;

	device = (struct watch){
		.fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC), .fn = device_event,
	};
	if (device.fd >= 0)
		return 0;
	ret = -errno;
	return xt_fail(err, ret, "%s: %s", path, ret == -EBUSY ? "another helper has it" :
		       ret == -ENOENT ? "the module xtjit is not loaded" : strerror(-ret));
}

bool module_is_open(void)
{
	return device.fd >= 0;
}

int module_watch(void (*gone)(void), struct xt_err *err)
{
	int ret;

	when_gone = gone;
	ret = loop_add(&device, EPOLLIN);
	return ret ? xt_fail(err, ret, "%s: epoll: %s", XTJIT_DEV, strerror(-ret)) : 0;
}

void module_close(void)
{
	if (device.fd >= 0)
		close(device.fd);
	device.fd = -1;
}

/*
 * What it does
 */

int module_netns(__u64 cookie)
{
	struct xtjit_netns n = { .cookie = cookie };
	int ret = control(XTJIT_NETNS, &n);

	return ret ?: n.netns;
}

static int current_netns(void)
{
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int commit(void *arg)
{
	return control(XTJIT_COMMIT, arg);
}

/* The kernel's answer comes back through memory that is shared with the process. */
static int commit_as_owner(struct xtjit_commit *c)
{
	struct xtjit_commit *shared = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE,
					   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int ret;

	if (shared == MAP_FAILED)
		return -errno;
	*shared = *c;
	ret = users_run(commit, shared);
	*c = *shared;
	munmap(shared, sizeof(*shared));
	return ret;
}

int module_commit(struct xtjit_commit *c, bool as_owner)
{
	int ret;

	c->netns = current_netns();
	if (c->netns < 0)
		return c->netns;
	ret = as_owner ? commit_as_owner(c) : commit(c);
	close(c->netns);
	return ret;
}

int module_query(const struct xt_family *f, const char *table, struct xtjit_table_id *id)
{
	int ret;

	*id = (struct xtjit_table_id){ .family = f->nfproto, .netns = current_netns() };
	strncpy(id->table, table, sizeof(id->table) - 1);
	if (id->netns < 0)
		return id->netns;
	ret = control(XTJIT_QUERY, id);
	close(id->netns);
	return ret;
}
