/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where compiled programs are run: in a network namespace of this process's
 * own, a router,
 *
 *	10.0.0.2		   10.0.0.1/24		   10.1.0.1/24		       10.1.0.2
 *	2001:db8::2 --- tap in0 -- 2001:db8::1	   2001:db8:1::1 -- tap out0 --- 2001:db8:1::2
 *
 * by BPF_PROG_TEST_RUN, or live: with the programs attached, and frames
 * written to a tap device.  Observers tell how far a live packet came.
 */
#ifndef XTJIT_FLAVOR_ENV_H
#define XTJIT_FLAVOR_ENV_H

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <linux/if_tun.h>
#include <linux/netfilter.h>
#include <linux/netfilter/x_tables.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "attach.h"
#include "classify.h"
#include "compile.h"
#include "flavor_pkt.h"
#include "kbtf.h"
#include "kfeat.h"
#include "probe.h"

enum { NET_IN, NET_OUT, NET_DEVS };
enum { SEEN_FIRST, SEEN_LAST };		/* before all tables, behind them */
enum { FAM_IP, FAM_IP6, FAMS };

static struct {
	int tap[NET_DEVS], ifindex[NET_DEVS];
	struct table_maps seen[FAMS];
	int ring, self;
	bool nf;		/* there are programs of type NETFILTER: the kernel is not too old */
} net;

/* Its own addresses, for struct early_facts. */
__attribute__((unused))
static const __u8 local_ip[2][16] = { { 10, 0, 0, 1 }, { 10, 1, 0, 1 } };
__attribute__((unused))
static const __u8 local_ip6[2][16] = {
	{ 0x20, 1, 0xd, 0xb8, [15] = 1 }, { 0x20, 1, 0xd, 0xb8, 0, 1, [15] = 1 },
};

static int tap_open(const char *name)
{
	struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	if (fd >= 0 && ioctl(fd, TUNSETIFF, &r)) {
		close(fd);
		return -1;
	}
	return fd;
}

static bool net_configure(void)
{
	return !system("set -e; s=/proc/sys/net\n"
		       "for d in all default; do echo 0 >$s/ipv4/conf/$d/rp_filter; done\n"
		       "for d in in0 out0; do echo 0 >$s/ipv6/conf/$d/accept_dad\n"
		       "echo 0 >$s/ipv4/conf/$d/rp_filter; echo 1 >$s/ipv6/conf/$d/addr_gen_mode\n"
		       "done; ip link set lo up\n"
		       "ip link set in0 address 02:00:00:00:00:01 up\n"
		       "ip link set out0 address 02:00:00:00:00:02 mtu 1300 up\n"
		       "ip addr add 10.0.0.1/24 dev in0; ip addr add 10.1.0.1/24 dev out0\n"
		       "ip addr add 2001:db8::1/64 dev in0 nodad\n"
		       "ip addr add 2001:db8:1::1/64 dev out0 nodad\n"
		       "for a in 10.0.0.2 2001:db8::2; do\n"
		       "ip neigh add $a lladdr 02:00:00:00:00:10 dev in0; done\n"
		       "for a in 10.1.0.2 2001:db8:1::2; do\n"
		       "ip neigh add $a lladdr 02:00:00:00:00:11 dev out0; done\n"
		       "echo 1 >$s/ipv4/ip_forward; echo 1 >$s/ipv6/conf/all/forwarding\n");
}

/* 0, or a negative errno where the text is wrong. */
__attribute__((unused))
static int parse_ir(const char *text, struct ir_table *t, struct xt_err *err)
{
	FILE *in = fmemopen((void *)text, strlen(text), "r");
	int ret = ir_parse(in, t, err);

	fclose(in);
	if (ret)
		return ret;
	ret = ir_check(t, err);
	if (ret)
		ir_table_free(t);
	return ret;
}

/* Compiles @text as it is. The fd, or negative. */
static int compile_text(const char *text, struct table_maps *m, struct xt_err *err)
{
	const struct compile_env env = { .ring = net.ring, .self = net.self };
	struct ir_table t;
	int fd = parse_ir(text, &t, err);

	if (fd)
		return fd;
	fd = table_maps_create(m, &t, err);
	if (!fd)
		fd = compile_exact(&t, m, &env, err);
	ir_table_free(&t);
	return fd;
}

/* Both observers of one family: they accept and count. */
static bool observe(int fam, struct xt_err *err)
{
	static const struct {
		int hook, prio;
	} at[] = {
		{ NF_INET_PRE_ROUTING, -2000 },
		{ NF_INET_LOCAL_IN, 2000 }, { NF_INET_FORWARD, 2000 },
	};
	int nfproto = fam == FAM_IP6 ? NFPROTO_IPV6 : NFPROTO_IPV4, prog, got;
	char text[300];

	snprintf(text, sizeof(text), "table %s mangle\ncounters 2\n"
		 "chain PREROUTING hook 0\n 0: -> accept\nchain INPUT hook 1\n 1: -> accept\n"
		 "chain FORWARD hook 2\n 1: -> accept\n", fam == FAM_IP6 ? "ip6" : "ip");
	prog = compile_text(text, &net.seen[fam], err);
	for (int i = 0; prog >= 0 && i < 3; i++)
		if (attach_nf(prog, nfproto, at[i].hook, at[i].prio, &got, err) < 0)
			return false;
	return prog >= 0;
}

/*
 * False, with @err, where the tests cannot run.  What kernels do differently is
 * as in Linux 6.12, whatever this one does.
 */
static bool net_up(struct xt_err *err)
{
	if (unshare(CLONE_NEWNET) || (net.tap[NET_IN] = tap_open("in0")) < 0 ||
	    (net.tap[NET_OUT] = tap_open("out0")) < 0)
		return xt_fail(err, -errno, "no namespace with tap devices: %s", strerror(errno)),
		       false;
	net.ifindex[NET_IN] = if_nametoindex("in0");
	net.ifindex[NET_OUT] = if_nametoindex("out0");
	net.ring = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "ring", 0, 0, 1 << 20, NULL);
	net.self = bpf_map_create(BPF_MAP_TYPE_HASH, "self", 8, sizeof(struct self_entry),
				  SELF_MAX, NULL);
	if (!net_configure() || net.ring < 0 || net.self < 0)
		return xt_fail(err, -EINVAL, "cannot set the namespace up"), false;
	*probe() = (struct probe){ .exthdrs = PROBE_EXTHDRS, .length6_packet = true };
	net.nf = kbtf_struct("bpf_nf_ctx") >= 0;
	return !net.nf || (observe(FAM_IP, err) && observe(FAM_IP6, err));
}

/* What is compiled while it is true is as for a kernel of version 6.1. */
__attribute__((unused))
static void old_kernel(bool old)
{
	static struct kfeat real;
	static bool known;

	if (!known)
		real = *kfeat();
	known = true;
	*kfeat() = old ? (struct kfeat){ 0 } : real;
}

/* Packets and bytes of counter @i, of all CPUs. */
static void counter_get(const struct table_maps *m, __u32 i, __u64 v[2])
{
	size_t stride = counters_stride(m);
	__u64 *one = malloc(stride);

	v[0] = v[1] = 0;
	for (int cpu = 0; cpu < possible_cpus(); cpu++)
		if (!bpf_map_lookup_elem(m->counters, &cpu, one)) {
			v[0] += one[2 * i];
			v[1] += one[2 * i + 1];
		}
	free(one);
}

/* All CPUs' counters of a table, one a rule; to be freed. */
__attribute__((unused))
static struct xt_counters *counters_all(const struct table_maps *m)
{
	size_t size = counters_stride(m) * possible_cpus();
	void *live = mmap(NULL, size, PROT_READ, MAP_SHARED, m->counters, 0);
	struct xt_counters *out = calloc(m->ncounters + 1, sizeof(*out));

	if (live == MAP_FAILED || !out)
		abort();
	counters_add(m, live, out);
	munmap(live, size);
	return out;
}

__attribute__((unused))
static __u64 seen(bool v6, int where)
{
	__u64 v[2];

	counter_get(&net.seen[v6], where, v);
	return v[0];
}

/* As if the frame had arrived on its device. */
__attribute__((unused))
static bool inject(const struct packet *p)
{
	return write(net.tap[p->back ? NET_OUT : NET_IN], p->frame, p->len) == p->len;
}

/* NF_DROP, NF_ACCEPT, or a negative errno. */
__attribute__((unused))
static int run_nf(int prog, bool v6, int hook, const struct packet *p)
{
	__u8 state[128] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = p->frame, .data_size_in = 14 + p->l3len,
		    .ctx_in = state, .ctx_size_in = kbtf_size("nf_hook_state"));

	state[kbtf_offset("nf_hook_state", "hook")] = hook;
	state[kbtf_offset("nf_hook_state", "pf")] = v6 ? NFPROTO_IPV6 : NFPROTO_IPV4;
	if (bpf_prog_test_run_opts(prog, &o))
		return -errno;
	return o.retval;
}

/* XDP_DROP, XDP_PASS, or a negative errno. */
__attribute__((unused))
static int run_xdp(int prog, const struct packet *p)
{
	struct xdp_md md = {
		.data_end = p->len,
		.ingress_ifindex = net.ifindex[p->back ? NET_OUT : NET_IN],
	};
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = p->frame, .data_size_in = p->len,
		    .ctx_in = &md, .ctx_size_in = sizeof(md));

	if (bpf_prog_test_run_opts(prog, &o))
		return -errno;
	return o.retval;
}

#endif
