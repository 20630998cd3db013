// SPDX-License-Identifier: GPL-2.0
/*
 * What is kept open in the namespaces that packets were logged or rejected in.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "compile.h"
#include "netns.h"
#include "sidefx_priv.h"

#define NS_MAX		64
#define SYSCTL_MS	1000
#define IDLE_MS		30000
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND	78
#endif

static struct ns_ctx table[NS_MAX];	/* used is 0: free */
static int self_map = -1;
static bool wide_prefixes;

__u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

static __u64 sock_cookie(int fd)
{
	__u64 cookie = 0;
	socklen_t len = sizeof(cookie);

	getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len);
	return cookie;
}

static void sock_close(int *fd)
{
	__u64 cookie;

	if (*fd < 0)
		return;
	if (self_map >= 0) {
		cookie = sock_cookie(*fd);
		bpf_map_delete_elem(self_map, &cookie);
	}
	close(*fd);
	*fd = -1;
}

static void ns_close(struct ns_ctx *ns)
{
	for (int i = 0; i < NS_SOCKS; i++)
		for (int r = 0; r < 2; r++)
			sock_close(&ns->sock[i][r]);
	if (ns->rtnl >= 0)
		close(ns->rtnl);
	ns->rtnl = -1;
	ns->used = 0;
}

static struct ns_ctx *ns_find(__u64 cookie)
{
	for (int i = 0; i < NS_MAX; i++)
		if (table[i].used && table[i].cookie == cookie)
			return &table[i];
	return NULL;
}

/* The least recently used one, emptied. */
static struct ns_ctx *ns_new(__u64 cookie)
{
	struct ns_ctx *ns = &table[0];

	for (int i = 1; i < NS_MAX; i++)
		if (table[i].used < ns->used)
			ns = &table[i];
	if (ns->used)
		ns_close(ns);
	memset(ns, 0, sizeof(*ns));
	memset(ns->sock, -1, sizeof(ns->sock));
	ns->rtnl = -1;
	ns->cookie = cookie;
	return ns;
}

/* Goes into the namespace, until netns_leave(). 0 or a negative errno. */
static int ns_enter(const struct ns_ctx *ns)
{
	int fd = netns_open(ns->cookie), err;

	if (fd < 0)
		return fd;
	err = netns_enter(fd);
	close(fd);
	return err;
}

static bool read_text(const char *name, char *buf, size_t size)
{
	char path[96];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/net/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, buf, size - 1);
	close(fd);
	buf[n > 0 ? n : 0] = 0;
	return n > 0;
}

static __u32 read_number(const char *name, __u32 otherwise)
{
	char buf[64];

	return read_text(name, buf, sizeof(buf)) ? strtoul(buf, NULL, 0) : otherwise;
}

/* True: @bit is in a list like "0-1,3-127". */
static bool in_list(const char *list, unsigned int bit)
{
	unsigned int from, to;
	int n;

	for (; *list; list += strspn(list, ",\n")) {
		if (sscanf(list, "%u%n", &from, &n) != 1)
			break;
		list += n;
		to = from;
		if (sscanf(list, "-%u%n", &to, &n) == 1)
			list += n;
		if (bit >= from && bit <= to)
			return true;
	}
	return false;
}

static void read_sysctls(struct ns_sysctl *s)
{
	char list[512];

	s->default_ttl = read_number("ipv4/ip_default_ttl", 64);
	s->fwmark_reflect4 = read_number("ipv4/fwmark_reflect", 0);
	s->fwmark_reflect6 = read_number("ipv6/fwmark_reflect", 0);
	s->ratelimit4 = read_number("ipv4/icmp_ratelimit", 1000);
	s->ratemask4 = read_number("ipv4/icmp_ratemask", 0x1818);
	s->msgs_per_sec = read_number("ipv4/icmp_msgs_per_sec", 1000);
	s->msgs_burst = read_number("ipv4/icmp_msgs_burst", 50);
	s->inbound_ifaddr = read_number("ipv4/icmp_errors_use_inbound_ifaddr", 0);
	s->ratelimit6 = read_number("ipv6/icmp/ratelimit", 1000);
	s->limit6 = !read_text("ipv6/icmp/ratemask", list, sizeof(list)) || in_list(list, 1);
}

/*
 * Kernels that allow more ICMPv6 errors to wider prefixes have a default of one
 * a second in a namespace that is just made; those that do not, of ten.
 */
static bool probe_wide_prefixes(void)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	bool wide = !kernel_since(7, 0);

	if (home < 0)
		return wide;
	if (!unshare(CLONE_NEWNET)) {
		wide = read_number("ipv6/icmp/ratelimit", wide ? 1000 : 100) >= 1000;
		if (setns(home, CLONE_NEWNET))
			abort();	/* nothing else may run in that one */
	}
	close(home);
	return wide;
}

void ns_init(int map)
{
	self_map = map;
	wide_prefixes = probe_wide_prefixes();
}

bool ns_wide_prefixes(void)
{
	return wide_prefixes;
}

struct ns_ctx *ns_get(__u64 cookie)
{
	struct ns_ctx *ns = ns_find(cookie);
	__u64 now = now_ms();

	if (!ns)
		ns = ns_new(cookie);
	if (!ns->sysctl_read || now - ns->sysctl_read >= SYSCTL_MS) {
		if (ns_enter(ns))
			return NULL;
		read_sysctls(&ns->sysctl);
		if (ns->rtnl < 0)
			ns->rtnl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
		netns_leave();
		ns->sysctl_read = now;
	}
	ns->used = now;
	return ns->rtnl < 0 ? NULL : ns;
}

/*
 * What a raw socket would receive is not for us.  The sockets are of protocol
 * ICMP, whatever is sent: the kernel handles that one with a socket, too, while
 * a packet of a protocol unknown to it, or 255, is not answered where one takes it.
 */
static int sock_setup(int fd, enum ns_sock kind)
{
	struct sock_filter none = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog prog = { .len = 1, .filter = &none };
	int one = 1, err;

	err = setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
	if (kind == NS_RAW4)
		err = err || setsockopt(fd, IPPROTO_IP, IP_HDRINCL, &one, sizeof(one)) ||
		      setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof(one));
	else
		err = err || setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &one, sizeof(one));
	if (kind == NS_RAW6)
		err = err || setsockopt(fd, IPPROTO_IPV6, IPV6_HDRINCL, &one, sizeof(one));
	return err ? -errno : 0;
}

static int sock_register(int fd, bool related)
{
	struct self_entry self = { .kind = related ? SELF_RELATED : SELF_PLAIN };
	__u64 cookie = sock_cookie(fd);

	if (self_map < 0)
		return 0;
	return bpf_map_update_elem(self_map, &cookie, &self, BPF_ANY) ? -errno : 0;
}

int ns_announce(int fd, const struct event *ev, bool loops)
{
	static __u32 serial;
	struct self_entry self = { .kind = SELF_PLAIN };
	__u32 priority = 0;
	__u64 key;

	if (self_map < 0)
		return 0;
	if (ev && ev->has_ct != EVENT_CT_NONE) {
		self.kind = SELF_RELATED;
		self.dir = !ev->ct_reply;
		memcpy(self.ct, ev->ct, sizeof(self.ct));
		key = sock_cookie(fd);
		if (bpf_map_update_elem(self_map, &key, &self, BPF_ANY))
			return -errno;
	}
	if (!loops)
		return 0;
	if (ev) {
		priority = self_priority(serial++);
		key = self_looped(priority);
		if (bpf_map_update_elem(self_map, &key, &self, BPF_ANY))
			return -errno;
	}
	return setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority, sizeof(priority)) ? -errno : 0;
}

int ns_socket(struct ns_ctx *ns, enum ns_sock kind, bool related)
{
	int *slot = &ns->sock[kind][related], fd, err;

	if (*slot >= 0)
		return *slot;
	err = ns_enter(ns);
	if (err)
		return err;
	fd = socket(kind == NS_RAW4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC,
		    kind == NS_RAW4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	if (fd < 0)
		err = -errno;
	netns_leave();
	if (fd < 0)
		return err;
	err = sock_setup(fd, kind);
	if (!err)
		err = sock_register(fd, related);
	if (err) {
		close(fd);
		return err;
	}
	*slot = fd;
	return fd;
}

const struct link_info *ns_link(struct ns_ctx *ns, __u32 ifindex)
{
	__u64 now = now_ms();
	int i = ifindex % 8;

	if (ns->links[i].ifindex != ifindex || now - ns->links[i].read >= SYSCTL_MS) {
		link_get(ns->rtnl, ifindex, &ns->links[i].info);
		ns->links[i].ifindex = ifindex;
		ns->links[i].read = now;
	}
	return &ns->links[i].info;
}

void sidefx_idle(void)
{
	__u64 now = now_ms();

	for (int i = 0; i < NS_MAX; i++)
		if (table[i].used && now - table[i].used > IDLE_MS)
			ns_close(&table[i]);
}

int sidefx_refs(__u64 netns)
{
	const struct ns_ctx *ns = ns_find(netns);
	int refs = 0;

	if (!ns)
		return 0;
	for (int i = 0; i < NS_SOCKS; i++)
		refs += (ns->sock[i][0] >= 0) + (ns->sock[i][1] >= 0);
	return refs + (ns->rtnl >= 0);
}

void sidefx_forget(__u64 netns)
{
	struct ns_ctx *ns = ns_find(netns);

	if (ns)
		ns_close(ns);
}
