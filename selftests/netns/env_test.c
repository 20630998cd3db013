// SPDX-License-Identifier: GPL-2.0
/*
 * Namespaces, attaching, and conntrack by nf_tables, against the real kernel.
 * Needs root.
 */
#include "env.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <linux/magic.h>
#include <linux/netfilter.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "attach.h"
#include "emit.h"
#include "nfct.h"
#include "nsid.h"

/* A socket made in the namespace @ns. */
static int socket_in(int ns, int family, int type)
{
	int s;

	must(netns_enter(ns), "netns_enter");
	s = socket(family, type | SOCK_CLOEXEC, 0);
	netns_leave();
	return s;
}

static __u64 cookie_of(int fd)
{
	__u64 c = 0;

	must(netns_enter(fd), "netns_enter");
	must(netns_cookie(&c), "netns_cookie");
	netns_leave();
	return c;
}

/* Does one datagram of @size bytes come through from A to B? */
static bool passes(int size)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(7777) };
	int tx = socket_in(fd_a, AF_INET, SOCK_DGRAM), rx = socket_in(fd_b, AF_INET, SOCK_DGRAM);
	struct pollfd p = { .fd = rx, .events = POLLIN };
	static char data[8000];
	bool got;

	inet_pton(AF_INET, "10.77.0.2", &to.sin_addr);
	must(bind(rx, (struct sockaddr *)&to, sizeof(to)), "bind");
	sendto(tx, data, size, 0, (struct sockaddr *)&to, sizeof(to));
	got = poll(&p, 1, 300) == 1;
	close(tx);
	close(rx);
	return got;
}

/* A program that returns @ret whatever comes. */
static int program(int type, int attach_type, int ret)
{
	LIBBPF_OPTS(bpf_prog_load_opts, o, .expected_attach_type = attach_type);
	struct emit e;
	int fd;

	emit_init(&e);
	movi(&e, R0, ret);
	exit_(&e);
	must(emit_finish(&e, NULL), "emit");
	fd = bpf_prog_load(type, "env_test", "GPL", e.insns, e.n, &o);
	emit_free(&e);
	must(fd < 0 ? fd : 0, "bpf_prog_load");
	return fd;
}

/* As netns_dead(), with time for a socket just closed to go. */
static bool dead_within(__u64 cookie, int own, int ms)
{
	for (int i = 0; i < ms; i += 10) {
		if (netns_dead(cookie, own))
			return true;
		usleep(10000);
	}
	return false;
}

/* What the kernel does about it later takes longer where the machine is busy. */
static bool dead_soon(__u64 cookie, int own)
{
	return dead_within(cookie, own, 10000);
}

static bool lives_on(__u64 cookie, int own)
{
	return !dead_within(cookie, own, 500);
}

static bool is_bpffs(void)
{
	struct statfs s;

	return !statfs("/sys/fs/bpf", &s) && s.f_type == BPF_FS_MAGIC;
}

/* In a child with its own /proc, so that its process 1 is itself. */
static int init_without_bpffs(void)
{
	struct xt_err err = { .err = 0 };

	if (mount("", "/", "none", MS_REC | MS_PRIVATE, NULL) ||
	    mount("proc", "/proc", "proc", 0, NULL))
		return 2;
	while (is_bpffs())
		if (umount2("/sys/fs/bpf", MNT_DETACH))
			return 3;
	if (netns_init(run_dir, &err))
		return 4;
	return is_bpffs() ? 0 : 5;
}

static int in_child(int (*fn)(void))
{
	pid_t pid = fork();
	int st = -1;

	if (!pid) {
		if (unshare(CLONE_NEWPID | CLONE_NEWNS))
			_exit(1);
		pid = fork();
		if (!pid)
			_exit(fn());
		waitpid(pid, &st, 0);
		_exit(WIFEXITED(st) ? WEXITSTATUS(st) : 99);
	}
	waitpid(pid, &st, 0);
	return WIFEXITED(st) ? WEXITSTATUS(st) : -1;
}

static void note(__u64 cookie, void *arg)
{
	__u64 *want = arg;

	if (cookie == *want)
		*want = 0;
}

static void test_netns(void)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), fd;
	struct stat home, there, back, kept;
	__u64 a = cookie_of(fd_a), b = cookie_of(fd_b), c = b;
	char path[128];

	ok(is_bpffs(), "init: bpffs is mounted");
	ok(in_child(init_without_bpffs) == 0, "init: bpffs is mounted where it was not");
	ok(a && b && a != b && a == cookie_of(fd_a), "cookie: one each, always the same");
	ok(netns_enter(null) == -EINVAL, "enter: no namespace: EINVAL");
	close(null);

	stat("/proc/self/ns/net", &home);
	must(netns_enter(fd_b), "enter");
	stat("/proc/self/ns/net", &there);
	netns_leave();
	stat("/proc/self/ns/net", &back);
	fstat(fd_b, &kept);
	ok(there.st_ino == kept.st_ino && back.st_ino == home.st_ino, "enter, leave");

	snprintf(path, sizeof(path), "%s/netns/%llu", run_dir, b);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0444);
	close(fd);
	ok(netns_open(b) == -ENOENT && netns_each(NULL, NULL) == 0,
	   "a file without its mount is no kept namespace");
	ok(!netns_keep(fd_b, b) && !netns_keep(fd_b, b) &&
	   sh("test $(grep -c ' %s ' /proc/self/mountinfo) = 1", path) == 0,
	   "keep: twice is once");
	fd = netns_open(b);
	ok(fd >= 0 && !fstat(fd, &there) && there.st_ino == kept.st_ino, "open what is kept");
	ok(fcntl(fd, F_GETFD) == FD_CLOEXEC, "open: close-on-exec");
	close(fd);
	ok(netns_each(note, &c) == 1 && !c, "each: lists it");
	netns_drop(b);
	ok(netns_open(b) == -ENOENT && access(path, F_OK) && netns_each(NULL, NULL) == 0,
	   "drop");
	netns_drop(b);
}

enum { COPY = -1, PRIVATE = -2 };

static char elsewhere[128];		/* a file; what to mount there: */
static char elsewhere_from[128];

static int mount_elsewhere(void)
{
	if (mount("", "/", "none", MS_REC | MS_PRIVATE, NULL))
		return -1;
	return mount(elsewhere_from, elsewhere, "none", MS_BIND, NULL);
}

/* A child that sits in the namespace @ns, or in a new mount namespace. */
static pid_t sitter(int ns)
{
	int ready[2];
	pid_t pid;
	char c;

	must(pipe2(ready, O_CLOEXEC), "pipe");
	pid = fork();
	if (!pid) {
		close(fd_a);
		close(fd_b);
		if (ns >= 0 ? netns_enter(ns) || close(ns) : unshare(CLONE_NEWNS))
			_exit(1);
		if (ns == PRIVATE && mount_elsewhere())
			_exit(1);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	must(read(ready[0], &c, 1) != 1, "child");
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* A namespace of its own, kept, with the end c0 of a veth pair to B's c1. */
static __u64 new_kept(const char *name, int *fd)
{
	__u64 cookie;

	must(sh("ip netns add %s && ip -n %s link add c1 type veth peer name c0 netns %s",
		name, B, name), "ip netns add");
	*fd = open_ns(name);
	cookie = cookie_of(*fd);
	must(netns_keep(*fd, cookie), "netns_keep");
	return cookie;
}

static void test_dead(void)
{
	char name[40];
	int fd, s, link, prog = program(32, 45, 1), got;
	struct xt_err err = { .err = 0 };
	pid_t pid;
	__u64 c;

	snprintf(name, sizeof(name), "%s-c", B);
	c = new_kept(name, &fd);
	close(fd);
	ok(lives_on(c, 0), "dead: not while `ip netns add` has it mounted");
	fd = netns_open(c);
	sh("ip netns del %s", name);
	ok(!netns_dead(c, 0) && dead_soon(c, 1), "dead: an open fd counts, as ours or not");
	pid = sitter(fd);
	close(fd);
	ok(lives_on(c, 0), "dead: not while a process is in it");
	end(pid);
	ok(dead_soon(c, 0), "dead: when the process is gone");

	fd = netns_open(c);
	s = socket_in(fd, AF_INET, SOCK_DGRAM);
	must(netns_enter(fd), "enter");
	link = attach_nf(prog, NFPROTO_IPV4, NF_INET_LOCAL_IN, 0, &got, &err);
	netns_leave();
	ok(link >= 0 && !netns_dead(c, 2) && dead_soon(c, 3),
	   "dead: a link, a socket and an fd are 3");
	close(link);
	ok(!netns_dead(c, 1) && dead_soon(c, 2), "dead: without the link 2");
	close(fd);
	ok(!netns_dead(c, 0) && dead_soon(c, 1), "dead: without the fd 1");
	close(s);
	ok(dead_soon(c, 0), "dead: without the socket 0");

	pid = sitter(COPY);
	ok(dead_soon(c, 0), "dead: a copy of our mount elsewhere is ours");
	ok(sh("grep -q '%s/netns/%llu ' /proc/%d/mountinfo", run_dir, c, pid) == 0 &&
	   sh("ip -n %s link show c1", B) == 0, "the copy is there, and the namespace");
	netns_drop(c);
	ok(sh("grep -q '%s/netns/%llu ' /proc/%d/mountinfo", run_dir, c, pid) == 1,
	   "drop: its copies too");
	for (int i = 0; i < 100 && !sh("ip -n %s link show c1", B); i++)
		usleep(20000);
	ok(sh("ip -n %s link show c1", B) == 1, "drop: the last reference, and the namespace ends");
	end(pid);
	ok(!netns_dead(c, 99), "dead: not what is not kept");

	c = new_kept(name, &fd);
	close(fd);
	snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere", run_dir);
	snprintf(elsewhere_from, sizeof(elsewhere_from), "/run/netns/%s", name);
	must(sh("touch %s", elsewhere), "touch");
	pid = sitter(PRIVATE);
	sh("ip netns del %s", name);
	ok(lives_on(c, 0), "dead: not while another mount namespace has a mount of its own");
	end(pid);
	ok(dead_soon(c, 0), "dead: when that is gone");
	netns_drop(c);
	unlink(elsewhere);
	close(prog);
}

static int nf_at(int prog, int hook, int prio, int *got)
{
	struct xt_err err = { .err = 0 };
	int fd;

	must(netns_enter(fd_b), "enter");
	fd = attach_nf(prog, NFPROTO_IPV4, hook, prio, got, &err);
	netns_leave();
	return fd;
}

static void test_nf(void)
{
	int drop = program(32, 45, 0), accept = program(32, 45, 1);
	struct xt_err err = { .err = 0 };
	int fds[17], got[18], i, fd;
	bool order = true;

	ok(passes(100), "nf: nothing there: passes");
	fds[0] = nf_at(drop, NF_INET_LOCAL_IN, 0, got);
	ok(fds[0] >= 0 && got[0] == 0 && !passes(100), "nf: a program at its priority drops");
	ok(fcntl(fds[0], F_GETFD) == FD_CLOEXEC, "nf: close-on-exec");
	close(fds[0]);
	ok(passes(100), "nf: it goes with its link");
	for (i = 0; i < 17; i++) {
		fds[i] = nf_at(accept, NF_INET_LOCAL_IN, -150, &got[i]);
		order &= fds[i] >= 0 && got[i] == (i <= 8 ? -150 + i : -150 + 8 - i);
	}
	ok(order, "nf: taken priorities: 8 after, then 8 before");
	ok(nf_at(accept, NF_INET_LOCAL_IN, -150, &got[17]) == -EBUSY, "nf: then EBUSY");
	for (i = 0; i < 17; i++)
		close(fds[i]);
	fd = attach_nf(accept, NFPROTO_BRIDGE, NF_INET_LOCAL_IN, 0, got, &err);
	ok(fd < 0 && strstr(err.text, "INPUT"), "nf: a family without links: %s", err.text);
	close(drop);
	close(accept);
}

/* In B. */
static int xdp_at(int prog, const char *dev)
{
	struct xt_err err = { .err = 0 };
	int fd;

	must(netns_enter(fd_b), "enter");
	fd = attach_xdp(prog, dev ? (int)if_nametoindex(dev) : 9999, &err);
	netns_leave();
	return fd;
}

static void test_xdp(void)
{
	int drop = program(BPF_PROG_TYPE_XDP, BPF_XDP, 1);
	int fd = xdp_at(drop, "b0"), mode;

	ok(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC && !passes(100), "xdp: drops on a veth");
	mode = sh("ip -n %s link show b0 | grep -qw xdp", B);
	ok(mode == 0, "xdp: native");
	ok(xdp_at(drop, "b0") == -EBUSY, "xdp: EBUSY where one is");
	close(fd);
	ok(passes(100), "xdp: it goes with its link");
	ok(xdp_at(drop, "lo") == -EOPNOTSUPP, "xdp: EOPNOTSUPP where the driver has none");
	ok(xdp_at(drop, NULL) == -ENODEV, "xdp: ENODEV");
	must(netns_enter(fd_b), "enter");
	bpf_xdp_attach(if_nametoindex("b0"), drop, XDP_FLAGS_SKB_MODE, NULL);
	netns_leave();
	ok(xdp_at(drop, "b0") == -EBUSY, "xdp: EBUSY where one is in generic mode");
	sh("ip -n %s link set b0 xdpgeneric off", B);
	close(drop);
}

/* In B: attaches @prog, or detaches if it is negative. */
static int tc_at(int prog)
{
	struct xt_err err = { .err = 0 };
	int ret = 0;

	must(netns_enter(fd_b), "enter");
	if (prog >= 0)
		ret = attach_tc(prog, if_nametoindex("b0"), &err);
	else
		detach_tc(if_nametoindex("b0"));
	netns_leave();
	return ret;
}

static int tc_filters(const char *dir)
{
	return sh("exit $(tc -n %s filter show dev b0 %s | grep -cE 'handle 0x|fh 800::800')", B,
		  dir);
}

static bool has_clsact(void)
{
	return !sh("tc -n %s qdisc show dev b0 | grep -q clsact", B);
}

static void test_tc(void)
{
	int drop = program(BPF_PROG_TYPE_SCHED_CLS, 0, 2);
	int accept = program(BPF_PROG_TYPE_SCHED_CLS, 0, 0);

	ok(!tc_at(drop) && has_clsact() && !passes(100), "tc: makes its qdisc, drops");
	ok(!tc_at(accept) && tc_filters("ingress") == 1 && passes(100), "tc: replaces its own");
	tc_at(-1);
	ok(!has_clsact(), "tc: leaves nothing behind");
	sh("tc -n %s qdisc add dev b0 clsact", B);
	tc_at(-1);
	ok(has_clsact(), "tc: another's empty qdisc stays, where there is none of ours");
	sh("tc -n %s filter add dev b0 egress protocol ip u32 match u32 0 0 classid 1:1", B);
	ok(!tc_at(drop) && !passes(100), "tc: beside another's filter");
	tc_at(-1);
	ok(has_clsact() && tc_filters("egress") > 0 && passes(100), "tc: which stays");
	sh("tc -n %s filter del dev b0 egress", B);
	sh("tc -n %s filter add dev b0 ingress prio 9 protocol ip u32 match u32 0 0 classid 1:1",
	   B);
	ok(!tc_at(drop) && passes(100), "tc: ours comes after another's");
	sh("tc -n %s qdisc del dev b0 clsact", B);
	sh("tc -n %s qdisc add dev b0 ingress", B);
	ok(!tc_at(drop) && !passes(100), "tc: in an ingress qdisc");
	tc_at(-1);
	ok(sh("tc -n %s qdisc show dev b0 | grep -q ingress", B) == 0 && passes(100),
	   "tc: which stays");
	sh("tc -n %s qdisc del dev b0 ingress", B);
	tc_at(-1);
	close(drop);
	close(accept);
}

static int ct_set(bool on)
{
	struct xt_err err = { .err = 0 };
	int ret = 0, ret6 = 0;

	must(netns_enter(fd_b), "enter");
	if (on) {
		ret = nfct_enable(NFPROTO_IPV4, &err);
		ret6 = nfct_enable(NFPROTO_IPV6, &err);
	} else {
		nfct_disable(NFPROTO_IPV4);
		nfct_disable(NFPROTO_IPV6);
	}
	netns_leave();
	return ret ? ret : ret6;
}

/* Entries of the conntrack table in B that traffic from A makes. */
static int ct_entries(const char *family, const char *to)
{
	sh("ip netns exec %s conntrack -F", B);
	sh("ip netns exec %s bash -c 'echo x > /dev/udp/%s/7778'", A, to);
	usleep(50000);
	return sh("exit $(ip netns exec %s conntrack -L -f %s 2>/dev/null | grep -c 7778)", B,
		  family);
}

/* Fragments that the raw table of B sees of one large datagram. */
static int fragments(void)
{
	int n;

	sh("ip netns exec %s iptables-legacy -t raw -A PREROUTING -f", B);
	passes(4000);
	n = sh("exit $(ip netns exec %s iptables-legacy -t raw -nvxL PREROUTING | "
	       "awk 'NR == 3 { print $1 }')", B);
	sh("ip netns exec %s iptables-legacy -t raw -F", B);
	return n;
}

static struct nft_facts facts(void)
{
	struct xt_err err = { .err = 0 };
	struct nft_facts f;

	must(netns_enter(fd_b), "enter");
	must(nft_facts_get(&f, &err), "nft_facts_get");
	netns_leave();
	return f;
}

static int nft_watch, nsid_b;
static bool nft_seen;

static void see_nsid(int nsid)
{
	nft_seen |= nsid == nsid_b;
}

static void see_lost(void)
{
	nft_seen = true;
}

/* Has B's ruleset changed?  Others may have theirs, too. */
static bool nft_told(void)
{
	nft_seen = false;
	nft_watch_drain(nft_watch, see_nsid, see_lost);
	return nft_seen;
}

static void test_nfct(void)
{
	struct xt_err err = { .err = 0 };
	struct nft_facts f;
	int again = -2;

	must(nsid_init(&err), err.text);
	nft_watch = nft_watch_open(&err);
	must(netns_enter(fd_b), "enter");
	ok(!nsid_here(&nsid_b) && nsid_b >= 0 && !nsid_here(&again) && again == nsid_b,
	   "nsid: a namespace has one, and keeps it");
	netns_leave();
	ok(!nsid_here(&again) && again == NSID_HOME, "nsid: home has none");
	ok(nft_watch >= 0 && !nft_told(), "nft watch: silent at first");
	ok(!ct_entries("ipv4", "10.77.0.2") && !ct_entries("ipv6", "fd77::2") && fragments() > 0,
	   "ct off: no entries, fragments as they come");
	ok(!ct_set(true), "ct: enable");
	ok(ct_entries("ipv4", "10.77.0.2") && ct_entries("ipv6", "fd77::2"), "ct on: entries");
	ok(fragments() == 0, "ct on: no fragments after defragmentation");
	ok(readable(nft_watch) && nft_told(), "nft watch: tells");
	ok(!nft_told(), "nft watch: drained");
	ok(!ct_set(true) && !nft_told(), "ct: enabled twice changes nothing");
	ok(sh("ip netns exec %s nft list ruleset | grep -q xtjit", B) == 0 &&
	   sh("ip netns exec %s bash -c 'nft list ruleset | nft -c -f -'", B) == 0,
	   "nft can list it, and read that");
	f = facts();
	ok(!f.any_chain && !f.nat_chain && !f.ct_helper, "nft facts: not ours");
	sh("ip netns exec %s nft flush chain ip xtjit conntrack", B);
	ok(!ct_entries("ipv4", "10.77.0.2"), "ct: someone takes our rule away");
	ok(!ct_set(true) && ct_entries("ipv4", "10.77.0.2"), "ct: enable mends that");
	ct_set(false);
	ct_set(false);
	ok(!ct_entries("ipv4", "10.77.0.2") && !ct_entries("ipv6", "fd77::2"),
	   "ct: disabled, twice");
	sh("ip netns exec %s nft 'add table inet t; add chain inet t reg'", B);
	f = facts();
	ok(!f.any_chain, "nft facts: no base chain");
	sh("ip netns exec %s nft 'add chain inet t f { type filter hook input priority 0; }'", B);
	f = facts();
	ok(f.any_chain && !f.nat_chain && !f.ct_helper, "nft facts: a base chain");
	sh("ip netns exec %s nft 'add chain inet t n { type nat hook prerouting priority 0; }'", B);
	sh("ip netns exec %s nft 'add ct helper inet t h { type \"ftp\" protocol tcp; }'", B);
	f = facts();
	ok(f.nat_chain && f.ct_helper, "nft facts: nat, a helper");
	sh("ip netns exec %s nft flush ruleset", B);
	close(nft_watch);
	nsid_exit();
}


int main(void)
{
	start();
	test_netns();
	test_dead();
	test_nf();
	test_xdp();
	test_tc();
	test_nfct();
	return finish();
}
