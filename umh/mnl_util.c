// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <sys/socket.h>

#include "mnl_util.h"

#define NLU_RECV 32768

int nlu_open(struct mnl_socket **s, int bus, int flags, unsigned int groups)
{
	int ret;

	*s = mnl_socket_open2(bus, SOCK_CLOEXEC | flags);
	if (!*s)
		return -errno;
	if (!mnl_socket_bind(*s, groups, MNL_SOCKET_AUTOPID))
		return 0;
	ret = -errno;
	mnl_socket_close(*s);
	*s = NULL;
	return ret;
}

struct nlmsghdr *nlu_request(char *buf, int type, int flags)
{
	static unsigned int seq;
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);

	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	/* never 0: that is what notifications have */
	h->nlmsg_seq = ++seq ? seq : ++seq;
	return h;
}

/* libmnl's own handler of the end of a dump takes no notice of the error in it. */
static int on_done(const struct nlmsghdr *h, void *arg __attribute__((unused)))
{
	const int *err = mnl_nlmsg_get_payload(h);

	if (mnl_nlmsg_get_payload_len(h) < sizeof(*err) || *err >= 0)
		return MNL_CB_STOP;
	errno = -*err;
	return MNL_CB_ERROR;
}

static int on_error(const struct nlmsghdr *h, void *arg __attribute__((unused)))
{
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);

	if (!e->error)
		return MNL_CB_STOP;
	errno = -e->error;
	return MNL_CB_ERROR;
}

static mnl_cb_t control[] = {
	[NLMSG_ERROR] = on_error,
	[NLMSG_DONE] = on_done,
};

int nlu_wait(struct mnl_socket *s, unsigned int seq, mnl_cb_t cb, void *arg)
{
	char buf[NLU_RECV] __attribute__((aligned(8)));
	int ret = MNL_CB_OK, err;

	while (ret > MNL_CB_STOP) {
		ssize_t n = mnl_socket_recvfrom(s, buf, sizeof(buf));

		ret = n < 0 ? MNL_CB_ERROR :
		      mnl_cb_run2(buf, n, seq, mnl_socket_get_portid(s), cb, arg,
				  control, MNL_ARRAY_SIZE(control));
	}
	err = ret < 0 ? -errno : 0;
	/* what is left of an answer that failed would be taken for the next one */
	while (ret < 0 && recv(mnl_socket_get_fd(s), buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
	return err;
}

int nlu_dump(struct mnl_socket *s, struct nlmsghdr *h, mnl_cb_t cb, void *arg)
{
	if (mnl_socket_sendto(s, h, h->nlmsg_len) < 0)
		return -errno;
	return nlu_wait(s, h->nlmsg_seq, cb, arg);
}
