// SPDX-License-Identifier: GPL-2.0
/*
 * The watch over devices and local addresses, against the real kernel.  Needs root.
 */
#include "env.h"

#include <linux/netfilter.h>
#include <linux/sock_diag.h>
#include <time.h>

#include "netdev.h"
#include "nsid.h"

static struct netdevs *devs;		/* of B */
static int watch;			/* of all namespaces, at home */

static bool update(void)
{
	bool changed;

	must(netns_enter(fd_b), "enter");
	changed = netdevs_update(devs);
	netns_leave();
	return changed;
}

/* Waits for nothing: the kernel tells before the command returns. */
static bool after(const char *cmd)
{
	must(sh(cmd, B), cmd);
	return update();
}

static const struct netdev *dev(const char *name)
{
	int n;
	const struct netdev *d = netdevs_list(devs, &n);

	for (; n--; d++)
		if (!strcmp(d->name, name))
			return d;
	return NULL;
}

/* Is @addr in the list of @proto (0: broadcast)? */
static bool listed(int proto, const char *addr)
{
	const __u8 (*l)[16];
	__u8 want[16] = { 0 };
	int n = proto ? netdevs_local(devs, proto, 1000, &l) : netdevs_broadcast(devs, 1000, &l);

	inet_pton(strchr(addr, ':') ? AF_INET6 : AF_INET, addr, want);
	while (n-- > 0)
		if (!memcmp(l[n], want, 16))
			return true;
	return false;
}

static bool plain(int proto)
{
	const __u8 (*l)[16];

	return netdevs_local(devs, proto, 1000, &l) >= 0;
}

static void test_devs(void)
{
	struct netdev b0 = { 0 };
	int n;

	netdevs_list(devs, &n);
	if (dev("b0"))
		b0 = *dev("b0");
	ok(n == 2 && dev("lo") && dev("lo")->loopback && !dev("lo")->ether && b0.ether &&
	   !b0.loopback && !b0.enslaved && !b0.raw_ip, "devs: lo and b0");
	ok(!update(), "devs: no change");
	ok(after("ip -n %s link add d0 type veth peer name d1") && dev("d0") && dev("d1"),
	   "devs: added");
	ok(!after("ip -n %s link set d0 alias other"), "devs: a change that does not matter");
	ok(after("ip -n %s link set d0 name d2") && !dev("d0") && dev("d2"), "devs: renamed");
	ok(after("ip -n %s link add br0 type bridge") && after("ip -n %s link set d2 master br0") &&
	   dev("d2")->enslaved && !dev("br0")->enslaved, "devs: enslaved");
	ok(after("ip -n %s link set d2 nomaster") && !dev("d2")->enslaved, "devs: released");
	must(sh("ip -n %s link set d1 netns %s", B, A), "move");
	ok(update() && !dev("d1") && dev("d2"), "devs: moved out");
	must(sh("ip -n %s link set d1 netns %s", A, B), "move");
	ok(update() && dev("d1"), "devs: moved in");
	ok(after("ip -n %s tuntap add t0 mode tun") && dev("t0")->raw_ip && !dev("t0")->ether,
	   "devs: a tunnel has no MAC header");
	ok(after("ip netns exec %s sysctl -w net.ipv4.conf.d2.rp_filter=2") &&
	   dev("d2")->rp_filter && !dev("b0")->rp_filter, "devs: rp_filter of one");
	ok(after("ip netns exec %s sysctl -w net.ipv4.conf.all.rp_filter=1") &&
	   dev("b0")->rp_filter, "devs: rp_filter of all");
	ok(after("ip netns exec %s sysctl -w net.ipv4.conf.all.rp_filter=0") &&
	   dev("d2")->rp_filter && !dev("b0")->rp_filter, "devs: the greater of the two");
	ok(after("ip netns exec %s sysctl -w net.ipv4.conf.default.rp_filter=1") &&
	   dev("d1")->rp_filter, "devs: rp_filter by default");
	ok(after("ip -n %s link add e0 type veth peer name e1") && dev("e0")->rp_filter,
	   "devs: a new one takes the default");
	must(sh("ip netns exec %s sysctl -w net.ipv4.conf.default.rp_filter=0", B), "sysctl");
	must(sh("for i in br0 d2 t0 e0; do ip -n %s link del $i; done", B), "del");
	update();
	netdevs_list(devs, &n);
	ok(n == 2 && !dev("b0")->rp_filter, "devs: deleted");
}

static void test_local(void)
{
	const __u8 (*l)[16];
	int n = netdevs_local(devs, NFPROTO_IPV4, 1000, &l);

	ok(n == 2 && listed(NFPROTO_IPV4, "127.0.0.1") && listed(NFPROTO_IPV4, "10.77.0.2"),
	   "local: IPv4");
	ok(listed(0, "10.77.0.255") && !listed(NFPROTO_IPV4, "10.77.0.255"), "local: broadcast");
	ok(listed(NFPROTO_IPV6, "::1") && listed(NFPROTO_IPV6, "fd77::2") && plain(NFPROTO_IPV6),
	   "local: IPv6");
	ok(netdevs_local(devs, NFPROTO_IPV4, 1, &l) == -1, "local: more than asked for");
	ok(after("ip -n %s addr add 10.78.0.1/24 dev b0") && listed(NFPROTO_IPV4, "10.78.0.1"),
	   "local: added");
	ok(!after("ip -n %s addr add 10.78.0.1/32 dev lo"), "local: twice is once");
	ok(after("ip -n %s addr del 10.78.0.1/24 dev b0") && listed(NFPROTO_IPV4, "10.78.0.1") &&
	   !listed(0, "10.78.0.255"), "local: gone once, and there still; its broadcast is not");
	ok(after("ip -n %s addr del 10.78.0.1/32 dev lo") && !listed(NFPROTO_IPV4, "10.78.0.1"),
	   "local: removed");
	ok(!listed(NFPROTO_IPV6, "fd77::") &&
	   after("ip netns exec %s sysctl -w net.ipv6.conf.all.forwarding=1") &&
	   listed(NFPROTO_IPV6, "fd77::"), "local: a router's anycast address");
	ok(after("ip netns exec %s sysctl -w net.ipv6.conf.all.forwarding=0") &&
	   !listed(NFPROTO_IPV6, "fd77::"), "local: no router's");
	ok(!after("ip -n %s route add 192.0.2.0/24 via 10.77.0.1"),
	   "local: other routes are no matter");
	ok(after("ip -n %s -6 addr add fd78::1/64 dev b0 nodad") && listed(NFPROTO_IPV6, "fd78::1"),
	   "local: IPv6 added");
	ok(after("ip -n %s link set b0 down") && !listed(NFPROTO_IPV6, "fd77::2"),
	   "local: device down");
	ok(after("ip -n %s link set b0 up"), "local: device up");
}

struct custom {
	int proto;
	const char *what;	/* ip's words after "add" and "del" */
};

/* What makes the list no plain list, until it goes. */
static const struct custom customs[] = {
	{ NFPROTO_IPV4, "route %s local 198.51.100.0/24 dev lo" },
	{ NFPROTO_IPV4, "route %s local 198.51.100.1 dev lo table main" },
	{ NFPROTO_IPV4, "route %s broadcast 198.51.100.1 dev b0 table main" },
	{ NFPROTO_IPV4, "route %s unreachable 10.77.0.9 table local" },
	{ NFPROTO_IPV4, "route %s local 198.51.100.1 tos 0x10 dev lo" },
	{ NFPROTO_IPV4, "route %s local 10.77.0.255 dev lo metric 5" },
	{ NFPROTO_IPV4, "rule %s from 10.0.0.1 lookup 100" },
	{ NFPROTO_IPV4, "rule %s pref 32766 lookup main suppress_prefixlength 0" },
	{ NFPROTO_IPV6, "-6 route %s local fd99::/64 dev lo" },
	{ NFPROTO_IPV6, "-6 route %s local fd99::1 dev lo table main" },
	{ NFPROTO_IPV6, "-6 route %s anycast fd99::1 dev b0 table main" },
	{ NFPROTO_IPV6, "-6 route %s unreachable fd77::9 table local" },
	{ NFPROTO_IPV6, "-6 rule %s fwmark 1 lookup 100" },
};

static void test_customs(void)
{
	for (size_t i = 0; i < sizeof(customs) / sizeof(*customs); i++) {
		const struct custom *c = &customs[i];
		char add[128], del[128];
		bool there;

		snprintf(add, sizeof(add), c->what, "add");
		snprintf(del, sizeof(del), c->what, "del");
		there = plain(c->proto) && !sh("ip -n %s %s", B, add) && update() &&
			!plain(c->proto);
		ok(there && !sh("ip -n %s %s", B, del) && update() && plain(c->proto),
		   "local: no plain list: %s", add);
	}
	ok(after("ip -n %s rule del pref 32767") && !plain(NFPROTO_IPV4) &&
	   after("ip -n %s rule add pref 32767 lookup default") && plain(NFPROTO_IPV4),
	   "local: a rule that is missing");
}

/* The same again with a new watch: what it reads is what notifications told. */
static bool same_as_new(void)
{
	struct xt_err err = { .err = 0 };
	const struct netdev *a, *b;
	struct netdevs *new;
	const __u8 (*l)[16], (*m)[16];
	bool same = true;
	int n, k;

	must(netns_enter(fd_b), "enter");
	new = netdevs_open(&err);
	netns_leave();
	must(!new, "netdevs_open");
	a = netdevs_list(devs, &n);
	b = netdevs_list(new, &k);
	same &= n == k && !memcmp(a, b, n * sizeof(*a));
	for (int i = 0; i < 2; i++) {
		int proto = i ? NFPROTO_IPV6 : NFPROTO_IPV4;

		n = netdevs_local(devs, proto, 5000, &l);
		k = netdevs_local(new, proto, 5000, &m);
		same &= n == k && n >= 0 && !memcmp(l, m, n * sizeof(*l));
	}
	netdevs_close(new);
	return same;
}

static __u32 drops(int fd)
{
	__u32 mem[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof(mem);

	getsockopt(fd, SOL_SOCKET, SO_MEMINFO, mem, &len);
	return mem[SK_MEMINFO_DROPS];
}

static void test_flood(void)
{
	int small = 1, fd = watch;

	must(sh("ip netns exec %s bash -c 'for i in {0..255}; do for j in {0..15}; do "
		"echo route add 100.64.$i.$((16*j))/28 via 10.77.0.1; done; done | ip -b -'", B),
	     "routes");
	netdevs_receive();
	ok(!netdevs_pending(devs), "flood: 4096 routes tell nothing");
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	must(sh("ip netns exec %s bash -c 'for i in {1..200}; do "
		"echo address add 10.79.0.$i/32 dev b0; done | ip -b -'", B), "addresses");
	must(sh("ip -n %s link add f0 type veth peer name f1", B), "link");
	ok(drops(fd) > 0, "flood: notifications are lost");
	sh("ip -n %s link set f0 name f2", B);
	ok(update() && dev("f2") && dev("f1") && listed(NFPROTO_IPV4, "10.79.0.200") &&
	   same_as_new(), "flood: and nothing is missed");
	must(sh("ip -n %s link del f2; ip -n %s addr flush to 10.79.0.0/24", B, B), "flush");
	ok(update() && same_as_new(), "flood: and back");
}

/* Of our own, the kernel's work for us included: others may keep the machine busy. */
static double ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

/* 50 watches at once. */
static void test_many(void)
{
	struct xt_err err = { .err = 0 };
	struct netdevs *all[50];
	double t0 = ms(), t1, t2;

	must(netns_enter(fd_b), "enter");
	for (int i = 0; i < 50; i++)
		must(!(all[i] = netdevs_open(&err)), err.text);
	t1 = ms();
	for (int i = 0; i < 50; i++)
		netdevs_update(all[i]);
	t2 = ms();
	netns_leave();
	for (int i = 0; i < 50; i++)
		netdevs_close(all[i]);
	printf("# 50 watches: open %.1f ms, idle update %.2f ms\n", t1 - t0, t2 - t1);
	ok(t1 - t0 < 2000 && t2 - t1 < 20, "50 watches are cheap");
}

static void test_netdev(void)
{
	struct xt_err err = { .err = 0 };

	must(nsid_init(&err), err.text);
	watch = netdevs_init(&err);
	must(netns_enter(fd_b), "enter");
	devs = netdevs_open(&err);
	netns_leave();
	ok(devs && fcntl(watch, F_GETFD) == FD_CLOEXEC, "devs: open %s", err.text);
	test_devs();
	test_local();
	test_customs();
	ok(same_as_new(), "devs: a new watch sees the same");
	test_flood();
	test_many();
	netdevs_close(devs);
	netdevs_exit();
	nsid_exit();
}

int main(void)
{
	start();
	test_netdev();
	return finish();
}
