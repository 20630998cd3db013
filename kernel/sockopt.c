// SPDX-License-Identifier: GPL-2.0
/*
 * The socket options of ip_tables and ip6_tables: net/ipv4/netfilter/ip_tables.c
 * do_ipt_set_ctl(), do_ipt_get_ctl(), and the same of IPv6.
 */
#include <linux/compat.h>
#include <linux/kmod.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <linux/uaccess.h>
#include <net/sock.h>

#include "xtjit.h"

/* Both families number their options alike, but for the revisions'. */
static_assert(IPT_SO_SET_REPLACE == IP6T_SO_SET_REPLACE);
static_assert(IPT_SO_SET_ADD_COUNTERS == IP6T_SO_SET_ADD_COUNTERS);
static_assert(IPT_SO_GET_INFO == IP6T_SO_GET_INFO);
static_assert(IPT_SO_GET_ENTRIES == IP6T_SO_GET_ENTRIES);
static_assert(sizeof(struct ipt_getinfo) == sizeof(struct ip6t_getinfo));
static_assert(sizeof(struct ipt_get_entries) == sizeof(struct ip6t_get_entries));
static_assert(offsetof(struct ipt_replace, entries) == offsetof(struct ip6t_replace, entries));
static_assert(offsetof(struct ipt_replace, counters) == offsetof(struct ip6t_replace, counters));
static_assert(offsetof(struct ipt_replace, num_counters) ==
	      offsetof(struct ip6t_replace, num_counters));

/* One ruleset in a namespace of an unprivileged user. */
static unsigned int user_max_kib = 16384;
module_param(user_max_kib, uint, 0644);
MODULE_PARM_DESC(user_max_kib, "KiB of one ruleset in a namespace of an unprivileged user");

static bool ready;		/* all of the module is there */

static int may(const struct sock *sk)
{
	/* Pairs with xtjit_sockopt_open(). */
	if (!smp_load_acquire(&ready))
		return -ENOPROTOOPT;
	if (!ns_capable(sock_net(sk)->user_ns, CAP_NET_ADMIN))
		return -EPERM;
	if (in_compat_syscall()) {
		pr_notice_ratelimited("%s: 32-bit iptables has no place here, use the 64-bit one\n",
				      current->comm);
		return -EOPNOTSUPP;
	}
	return 0;
}

static int check_size(const struct net *net, size_t len)
{
	if (len > XTJIT_MAX_PAYLOAD)
		return -ENOMEM;
	if (net->user_ns == &init_user_ns || len <= (u64)READ_ONCE(user_max_kib) << 10)
		return 0;
	pr_notice_ratelimited("%s: a ruleset of %zu bytes is too large for an unprivileged user's namespace\n",
			      current->comm, len);
	return -ENOMEM;
}

/* As do_replace(): that they cannot be written is no error any more. */
static void write_counters(const struct xtjit_request *r, const struct ipt_replace *repl)
{
	size_t len;
	const void *counters = xtjit_request_reply(r, &len);

	if (len != (size_t)repl->num_counters * sizeof(struct xt_counters) ||
	    copy_to_user(repl->counters, counters, len))
		pr_warn_ratelimited("%s: old counters are lost\n", current->comm);
}

static int set(struct sock *sk, u8 family, int cmd, sockptr_t arg, unsigned int len)
{
	struct net *net = sock_net(sk);
	struct xtjit_request *r;
	struct ipt_replace repl;
	int ret = may(sk);

	if (ret)
		return ret;
	if (cmd != IPT_SO_SET_REPLACE && cmd != IPT_SO_SET_ADD_COUNTERS)
		return -EINVAL;
	if (cmd == IPT_SO_SET_REPLACE && len < sizeof(repl))
		return -EINVAL;
	ret = check_size(net, len);
	if (ret)
		return ret;
	r = xtjit_request_new(net, XTJIT_OP_SET, cmd, family, len);
	if (!r)
		return -ENOMEM;
	ret = -EFAULT;
	if (copy_from_sockptr(xtjit_request_payload(r), arg, len))
		goto out;
	if (cmd == IPT_SO_SET_REPLACE)
		memcpy(&repl, xtjit_request_payload(r), sizeof(repl));
	ret = xtjit_request_wait(r);
	if (!ret && cmd == IPT_SO_SET_REPLACE)
		write_counters(r, &repl);
out:
	xtjit_request_put(r);
	return ret;
}

/* The header goes up, the whole comes down. */
static int get_table(struct sock *sk, u8 family, int cmd, void __user *user, int *len)
{
	size_t head = cmd == IPT_SO_GET_INFO ? sizeof(struct ipt_getinfo) :
					       sizeof(struct ipt_get_entries);
	struct ipt_get_entries *get;
	struct xtjit_request *r;
	size_t n;
	int ret;

	if (*len < 0 || (cmd == IPT_SO_GET_INFO ? *len != head : *len < head))
		return -EINVAL;
	r = xtjit_request_new(sock_net(sk), XTJIT_OP_GET, cmd, family, head);
	if (!r)
		return -ENOMEM;
	get = xtjit_request_payload(r);
	ret = copy_from_user(get, user, head) ? -EFAULT : 0;
	if (!ret && cmd == IPT_SO_GET_ENTRIES && *len != head + get->size)
		ret = -EINVAL;
	if (!ret)
		ret = xtjit_request_wait(r);
	if (!ret) {
		const void *data = xtjit_request_reply(r, &n);

		if (n != *len)
			ret = -EIO;
		else if (copy_to_user(user, data, n))
			ret = -EFAULT;
	}
	xtjit_request_put(r);
	return ret;
}

static int get_revision(u8 family, bool target, void __user *user, int *len)
{
	struct xt_get_revision rev;
	int ret;

	if (*len != sizeof(rev))
		return -EINVAL;
	if (copy_from_user(&rev, user, sizeof(rev)))
		return -EFAULT;
	rev.name[sizeof(rev.name) - 1] = 0;
	try_then_request_module(xt_find_revision(family, rev.name, rev.revision, target, &ret),
				family == NFPROTO_IPV6 ? "ip6t_%s" : "ipt_%s", rev.name);
	return ret;
}

static int set_ip(struct sock *sk, int cmd, sockptr_t arg, unsigned int len)
{
	return set(sk, NFPROTO_IPV4, cmd, arg, len);
}

static int set_ip6(struct sock *sk, int cmd, sockptr_t arg, unsigned int len)
{
	return set(sk, NFPROTO_IPV6, cmd, arg, len);
}

static int get_ip(struct sock *sk, int cmd, void __user *user, int *len)
{
	int ret = may(sk);

	if (ret)
		return ret;
	switch (cmd) {
	case IPT_SO_GET_INFO:
	case IPT_SO_GET_ENTRIES:
		return get_table(sk, NFPROTO_IPV4, cmd, user, len);
	case IPT_SO_GET_REVISION_MATCH:
	case IPT_SO_GET_REVISION_TARGET:
		return get_revision(NFPROTO_IPV4, cmd == IPT_SO_GET_REVISION_TARGET, user, len);
	default:
		return -EINVAL;
	}
}

static int get_ip6(struct sock *sk, int cmd, void __user *user, int *len)
{
	int ret = may(sk);

	if (ret)
		return ret;
	switch (cmd) {
	case IP6T_SO_GET_INFO:
	case IP6T_SO_GET_ENTRIES:
		return get_table(sk, NFPROTO_IPV6, cmd, user, len);
	case IP6T_SO_GET_REVISION_MATCH:
	case IP6T_SO_GET_REVISION_TARGET:
		return get_revision(NFPROTO_IPV6, cmd == IP6T_SO_GET_REVISION_TARGET, user, len);
	default:
		return -EINVAL;
	}
}

static struct nf_sockopt_ops ops[2] = {
	{
		.pf = PF_INET,
		.set_optmin = IPT_BASE_CTL, .set_optmax = IPT_SO_SET_MAX + 1, .set = set_ip,
		.get_optmin = IPT_BASE_CTL, .get_optmax = IPT_SO_GET_MAX + 1, .get = get_ip,
		.owner = THIS_MODULE,
	}, {
		.pf = PF_INET6,
		.set_optmin = IP6T_BASE_CTL, .set_optmax = IP6T_SO_SET_MAX + 1, .set = set_ip6,
		.get_optmin = IP6T_BASE_CTL, .get_optmax = IP6T_SO_GET_MAX + 1, .get = get_ip6,
		.owner = THIS_MODULE,
	},
};

static int register_one(struct nf_sockopt_ops *o, const char *other)
{
	int ret = nf_register_sockopt(o);

	if (ret)
		pr_err("%s is loaded: unload it and its tables first, see xtjit(8)\n", other);
	return ret;
}

int xtjit_sockopt_init(void)
{
	int ret = register_one(&ops[0], "ip_tables");

	if (ret)
		return ret;
	ret = register_one(&ops[1], "ip6_tables");
	if (ret)
		nf_unregister_sockopt(&ops[0]);
	return ret;
}

void xtjit_sockopt_open(void)
{
	/* All that the module sets up is seen before: pairs with may(). */
	smp_store_release(&ready, true);
}

void xtjit_sockopt_exit(void)
{
	nf_unregister_sockopt(&ops[1]);
	nf_unregister_sockopt(&ops[0]);
}
