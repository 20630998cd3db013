// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mnl_util.h"
#include "nsid.h"

#ifndef NETLINK_LISTEN_ALL_NSID
#define NETLINK_LISTEN_ALL_NSID 8
#endif
#define QUEUE_BYTES	(4 << 20)

static const char here[] = "/proc/self/ns/net";

static struct mnl_socket *ask;		/* at home */
static struct stat home;

int nsid_init(struct xt_err *err)
{
	int ret = stat(here, &home) ? -errno : nlu_open(&ask, NETLINK_ROUTE, 0, 0);

	return ret ? xt_fail(err, ret, "numbers of namespaces: %s", strerror(-ret)) : 0;
}

void nsid_exit(void)
{
	if (ask)
		mnl_socket_close(ask);
	ask = NULL;
}

static struct nlmsghdr *request(char *buf, int type, int flags, int fd)
{
	struct nlmsghdr *h = nlu_request(buf, type, flags);

	mnl_nlmsg_put_extra_header(h, sizeof(struct rtgenmsg));
	mnl_attr_put_u32(h, NETNSA_FD, fd);
	return h;
}

static int make(int fd)
{
	char buf[NLU_REQ];
	struct nlmsghdr *h = request(buf, RTM_NEWNSID, NLM_F_ACK, fd);
	int ret;

	mnl_attr_put_u32(h, NETNSA_NSID, -1);	/* any */
	ret = nlu_dump(ask, h, NULL, NULL);
	return ret == -EEXIST ? 0 : ret;
}

static int see_nsid(const struct nlmsghdr *h, void *arg)
{
	struct nlattr *a;

	mnl_attr_for_each(a, h, sizeof(struct rtgenmsg))
		if (mnl_attr_get_type(a) == NETNSA_NSID)
			*(int *)arg = mnl_attr_get_u32(a);
	return MNL_CB_OK;
}

static int find(int fd, int *nsid)
{
	char buf[NLU_REQ];
	struct nlmsghdr *h = request(buf, RTM_GETNSID, NLM_F_ACK, fd);
	int ret;

	*nsid = -1;
	ret = nlu_dump(ask, h, see_nsid, nsid);
	return ret ?: *nsid < 0 ? -ENOENT : 0;
}

int nsid_here(int *nsid)
{
	int fd = open(here, O_RDONLY | O_CLOEXEC), ret;
	struct stat s;

	if (fd < 0)
		return -errno;
	ret = fstat(fd, &s) ? -errno : 0;
	if (!ret && s.st_ino == home.st_ino && s.st_dev == home.st_dev) {
		*nsid = NSID_HOME;
	} else if (!ret) {
		ret = make(fd);
		if (!ret)
			ret = find(fd, nsid);
	}
	close(fd);
	return ret;
}

int nsid_listen(int bus, unsigned int groups)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = groups };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, bus);
	int on = 1, size = QUEUE_BYTES, ret;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	if (!setsockopt(fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &on, sizeof(on)) &&
	    !bind(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

ssize_t nsid_recv(int fd, void *buf, size_t len, int *nsid)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { buf, len };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT);

	*nsid = NSID_HOME;
	if (n < 0)
		return n;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
		if (c->cmsg_level == SOL_NETLINK && c->cmsg_type == NETLINK_LISTEN_ALL_NSID)
			memcpy(nsid, CMSG_DATA(c), sizeof(*nsid));
	return n;
}
