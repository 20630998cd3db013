// SPDX-License-Identifier: GPL-2.0
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "attach.h"
#include "mnl_util.h"

#define ATTACH_TYPE_NETFILTER	45	/* Linux 6.4; older headers lack it */
#define PRIO_REACH		8

/*
 * Behind every other filter: those may redirect or change a packet, which
 * iptables then never sees as it came.
 */
#define TC_PRIORITY	0xffff
#define TC_HANDLE	0x786a

/* bpf(BPF_LINK_CREATE) as Linux 6.4 has it for netfilter. */
struct nf_link_attr {
	__u32 prog_fd, target_fd, attach_type, flags;
	__u32 pf, hooknum;
	__s32 priority;
	__u32 nf_flags;
	__u8 rest[32];
};

static int nf_link(int prog, int nfproto, int hook, int prio)
{
	struct nf_link_attr a = {
		.prog_fd = prog,
		.attach_type = ATTACH_TYPE_NETFILTER,
		.pf = nfproto,
		.hooknum = hook,
		.priority = prio,
	};
	int fd = syscall(__NR_bpf, BPF_LINK_CREATE, &a, sizeof(a));

	return fd < 0 ? -errno : fd;
}

/* prio, prio+1 .. prio+8, prio-1 .. prio-8 */
int attach_nf(int prog, int nfproto, int hook, int prio, int *got, struct xt_err *err)
{
	int fd = -EBUSY;

	for (int i = 0; i <= 2 * PRIO_REACH && fd == -EBUSY; i++) {
		*got = i <= PRIO_REACH ? prio + i : prio + PRIO_REACH - i;
		fd = nf_link(prog, nfproto, hook, *got);
	}
	if (fd >= 0)
		return fd;
	if (fd == -EBUSY)
		return xt_fail(err, fd, "%s: no free priority within %d of %d",
			       xt_hook_name[hook], PRIO_REACH, prio);
	if (fd == -EINVAL || fd == -EOPNOTSUPP)
		return xt_fail(err, fd, "the kernel has no netfilter BPF links (Linux 6.4, "
			       "CONFIG_NETFILTER_BPF_LINK) for %s: %s",
			       xt_hook_name[hook], strerror(-fd));
	return xt_fail(err, fd, "cannot attach at %s: %s", xt_hook_name[hook], strerror(-fd));
}

/* A device's name for messages. */
static const char *dev_name(int ifindex, char name[IF_NAMESIZE])
{
	return if_indextoname(ifindex, name) ? name : "a device that is gone";
}

int attach_xdp(int prog, int ifindex, struct xt_err *err)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = XDP_FLAGS_DRV_MODE);
	int fd = bpf_link_create(prog, ifindex, BPF_XDP, &opts);
	char name[IF_NAMESIZE];

	/* what the kernel says of a device that is not there, among others */
	if (fd == -EINVAL && !if_indextoname(ifindex, name))
		fd = -ENODEV;
	switch (fd) {
	case -EBUSY:
	case -EEXIST:		/* one in generic mode */
		return xt_fail(err, -EBUSY, "%s has an XDP program already",
			       dev_name(ifindex, name));
	case -ENODEV:
	case -ENOMEM:
	case -EPERM:
		return xt_fail(err, fd, "cannot attach XDP to %s: %s",
			       dev_name(ifindex, name), strerror(-fd));
	}
	if (fd >= 0)
		return fd;
	/* drivers have many ways to say no: MTU, queues, features */
	return xt_fail(err, -EOPNOTSUPP, "the driver of %s takes no native XDP program: %s",
		       dev_name(ifindex, name), strerror(-fd));
}

/* The clsact or ingress qdisc of a device, and how much is in it. */
struct clsact {
	int ifindex;
	bool found, shared;
	int filters;
};

static int see_qdisc(const struct nlmsghdr *h, void *arg)
{
	const struct tcmsg *t = mnl_nlmsg_get_payload(h);
	struct clsact *c = arg;
	struct nlattr *a;

	if (t->tcm_ifindex != c->ifindex || t->tcm_parent != TC_H_CLSACT)
		return MNL_CB_OK;
	c->found = true;
	mnl_attr_for_each(a, h, sizeof(*t)) {
		__u16 type = mnl_attr_get_type(a);

		if (type == TCA_INGRESS_BLOCK || type == TCA_EGRESS_BLOCK)
			c->shared = true;
		if (type == TCA_KIND && strcmp(mnl_attr_get_str(a), "clsact"))
			c->shared = true;	/* "ingress": not a thing of ours */
	}
	return MNL_CB_OK;
}

static int see_filter(const struct nlmsghdr *h __attribute__((unused)), void *arg)
{
	((struct clsact *)arg)->filters++;
	return MNL_CB_OK;
}

static int tc_dump(struct mnl_socket *s, int type, int ifindex, __u32 parent,
		   mnl_cb_t cb, struct clsact *c)
{
	char buf[NLU_REQ];
	struct nlmsghdr *h = nlu_request(buf, type, NLM_F_DUMP);
	struct tcmsg *t = mnl_nlmsg_put_extra_header(h, sizeof(*t));

	t->tcm_ifindex = ifindex;
	t->tcm_parent = parent;
	return nlu_dump(s, h, cb, c);
}

static int clsact_get(struct clsact *c, int ifindex)
{
	static const __u32 parents[] = {
		TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS),
		TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS),
	};
	struct mnl_socket *s;
	int ret;

	memset(c, 0, sizeof(*c));
	c->ifindex = ifindex;
	ret = nlu_open(&s, NETLINK_ROUTE, 0, 0);
	if (ret)
		return ret;
	ret = tc_dump(s, RTM_GETQDISC, ifindex, 0, see_qdisc, c);
	for (int i = 0; i < 2 && !ret && c->found; i++)
		ret = tc_dump(s, RTM_GETTFILTER, ifindex, parents[i], see_filter, c);
	mnl_socket_close(s);
	return ret;
}

static int tc_make_qdisc(int ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex,
		    .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	struct clsact c;
	int ret = clsact_get(&c, ifindex);

	if (!ret && !c.found)
		ret = bpf_tc_hook_create(&hook);
	return ret == -EEXIST ? 0 : ret;
}

int attach_tc(int prog, int ifindex, struct xt_err *err)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = prog, .flags = BPF_TC_F_REPLACE,
		    .priority = TC_PRIORITY, .handle = TC_HANDLE);
	char name[IF_NAMESIZE];
	int ret = tc_make_qdisc(ifindex);

	if (ret)
		return xt_fail(err, ret, "cannot make a clsact qdisc on %s: %s",
			       dev_name(ifindex, name), strerror(-ret));
	ret = bpf_tc_attach(&hook, &opts);
	if (ret)
		return xt_fail(err, ret, "cannot attach to %s's TC ingress: %s",
			       dev_name(ifindex, name), strerror(-ret));
	return 0;
}

/* Ours may be gone, or the device: libbpf need not tell the user. */
static int quiet_detach(int ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .priority = TC_PRIORITY, .handle = TC_HANDLE);
	libbpf_print_fn_t print = libbpf_set_print(NULL);
	int ret = bpf_tc_detach(&hook, &opts);

	libbpf_set_print(print);
	return ret;
}

void detach_tc(int ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex,
		    .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	struct clsact c;

	/* an empty clsact does nothing; and if ours was not in it, it is not ours */
	if (quiet_detach(ifindex) || clsact_get(&c, ifindex))
		return;
	if (c.found && !c.shared && !c.filters)
		bpf_tc_hook_destroy(&hook);
}
