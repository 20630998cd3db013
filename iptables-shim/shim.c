// SPDX-License-Identifier: GPL-2.0
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>

#define GET_MAX 4096	/* no option but GET_ENTRIES takes or gives more */

static struct shim_next next;
static bool next_known;

const struct shim_next *shim_next(void)
{
	if (!__atomic_load_n(&next_known, __ATOMIC_ACQUIRE)) {
#define X(name) next.name = (__typeof__(&name))dlsym(RTLD_NEXT, #name);
		SHIM_FUNCTIONS(X)
#undef X
		__atomic_store_n(&next_known, true, __ATOMIC_RELEASE);
	}
	return &next;
}

static void __attribute__((constructor)) init(void)
{
	shim_next();
}

/* Like fputs(text, stderr), but a reader that has gone away does not kill us. */
static void print_note(const char *text)
{
	static const struct timespec now;
	sigset_t pipe, old, pending;
	size_t len = strlen(text);
	struct iovec iov[2] = {
		{ (void *)text, len }, { "\n", text[len - 1] != '\n' }
	};

	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	sigpending(&pending);
	pthread_sigmask(SIG_BLOCK, &pipe, &old);
	if (writev(STDERR_FILENO, iov, 2) < 0 && errno == EPIPE &&
	    !sigismember(&pending, SIGPIPE))
		sigtimedwait(&pipe, NULL, &now);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

int shim_call(struct client_call *c)
{
	static bool told;	/* iptables asks several times before it gives up */
	int err, saved = errno;
	bool again;

	err = client_call(c);
	again = __atomic_exchange_n(&told, c->unreached, __ATOMIC_RELAXED) && c->unreached;
	if (c->note[0] && !again)
		print_note(c->note);
	errno = err ? -err : saved;
	return err ? -1 : 0;
}

bool shim_idle(void)
{
	static int idle = -1;
	int saved = errno;

	if (idle < 0) {
		const char *dev = getenv(XTJIT_DEV_ENV);

		idle = !shim_checking() && !shim_next()->access(dev ?: XTJIT_DEV, F_OK);
		errno = saved;
	}
	return idle;
}

/* Is this one of ip_tables' socket options, on a socket of its family? */
static __u8 family_of(int fd, int level, int optname, bool get)
{
	int domain, want;
	socklen_t len = sizeof(domain);

	if (level == IPPROTO_IP && optname >= IPT_SO_SET_REPLACE &&
	    optname <= (get ? IPT_SO_GET_REVISION_TARGET : IPT_SO_SET_ADD_COUNTERS))
		want = AF_INET;
	else if (level == IPPROTO_IPV6 &&
		 (optname == IP6T_SO_SET_REPLACE || optname == IP6T_SO_SET_ADD_COUNTERS ||
		  (get && (optname == IP6T_SO_GET_REVISION_MATCH ||
			   optname == IP6T_SO_GET_REVISION_TARGET))))
		want = AF_INET6;
	else
		return 0;
	if (shim_idle())
		return 0;
	if (shim_next()->getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0)
		return 0;
	if (domain != want && !(domain == AF_UNIX && shim_checking()))
		return 0;
	return want == AF_INET ? NFPROTO_IPV4 : NFPROTO_IPV6;
}

/*
 * The network namespace of socket @fd.  To know it takes the very capability
 * that the options take.
 */
static int netns_of(int fd)
{
	int ns = ioctl(fd, SIOCGSKNS);

	if (ns >= 0 || (errno == EPERM && !shim_checking()))
		return ns;
	return shim_next()->open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
}

/* The caller's memory, which may be none: false then, and errno EFAULT. */
static bool copy_in(void *to, const void *from, size_t n)
{
	struct iovec local = { to, n }, remote = { (void *)from, n };

	if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)n)
		return true;
	if (errno == EFAULT || errno == ENOMEM) {
		errno = EFAULT;
		return false;
	}
	memcpy(to, from, n);	/* the call itself is not allowed */
	return true;
}

/* The old counters go where the request says; the kernel, too, ignores a bad pointer there. */
static int do_set(int netns, __u8 family, int optname, const void *val, socklen_t len)
{
	struct ipt_replace r;	/* as struct ip6t_replace, up to here */
	struct client_call c = {
		.op = XTJIT_OP_SET, .family = family, .optname = optname, .netns = netns,
		.req = val, .req_len = len,
		.rep = &r,
	};

	_Static_assert(offsetof(struct ipt_replace, counters) ==
		       offsetof(struct ip6t_replace, counters), "one for both families");
	if ((int)len < 0) {
		errno = EINVAL;
		return -1;
	}
	if (optname == IPT_SO_SET_REPLACE && len >= sizeof(r)) {
		if (!copy_in(&r, val, sizeof(r)))
			return -1;
		if (r.counters) {
			c.rep = r.counters;
			c.rep_max = r.num_counters * sizeof(*r.counters);
		}
	}
	return shim_call(&c);
}

/* What get_entries() checks before it looks the table up. */
static bool entries_len_ok(const void *val, socklen_t len)
{
	struct ipt_get_entries get;	/* as struct ip6t_get_entries */

	errno = EINVAL;
	if (len < sizeof(get))
		return false;
	if (!copy_in(&get, val, sizeof(get)))
		return false;
	errno = EINVAL;
	return len == sizeof(get) + get.size;
}

static int do_get(int netns, __u8 family, int optname, void *val, socklen_t *lenp)
{
	char req[GET_MAX] __attribute__((aligned(8)));
	struct client_call c = {
		.op = XTJIT_OP_GET, .family = family, .optname = optname, .netns = netns,
		.req = req, .rep = val,
	};
	socklen_t len;

	_Static_assert(sizeof(struct ipt_get_entries) == sizeof(struct ip6t_get_entries),
		       "one for both families");
	if (!copy_in(&len, lenp, sizeof(len)))
		return -1;
	if ((int)len < 0) {
		errno = EINVAL;
		return -1;
	}
	c.req_len = len < GET_MAX ? len : GET_MAX;
	if (optname == IPT_SO_GET_ENTRIES) {
		if (!entries_len_ok(val, len))
			return -1;
		c.req_len = sizeof(struct ipt_get_entries);
	}
	if (!copy_in(req, val, c.req_len))
		return -1;
	if (optname == IPT_SO_GET_ENTRIES && shim_entries(netns, family, (void *)req, val))
		return 0;
	c.rep_max = len;
	if (!val)
		c.rep = req;
	if (shim_call(&c) < 0)
		return -1;
	if (c.fault) {
		errno = EFAULT;
		return -1;
	}
	if (c.rep_len)
		*lenp = c.rep_len < len ? c.rep_len : len;
	return 0;
}

SHIM_EXPORT int setsockopt(int fd, int level, int optname, const void *val, socklen_t len)
{
	__u8 family = family_of(fd, level, optname, false);
	int netns, state, ret = -1;

	if (!family)
		return shim_next()->setsockopt(fd, level, optname, val, len);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	netns = netns_of(fd);
	if (netns >= 0) {
		ret = do_set(netns, family, optname, val, len);
		close(netns);
	}
	pthread_setcancelstate(state, NULL);
	return ret;
}

SHIM_EXPORT int getsockopt(int fd, int level, int optname, void *restrict val,
			   socklen_t *restrict len)
{
	__u8 family = family_of(fd, level, optname, true);
	int netns, state, ret = -1;

	if (!family) {
		if (level == IPPROTO_IP && optname == SO_IP_SET && shim_checking())
			return shim_check_ipset(val, len);
		return shim_next()->getsockopt(fd, level, optname, val, len);
	}
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	netns = netns_of(fd);
	if (netns >= 0) {
		ret = do_get(netns, family, optname, val, len);
		close(netns);
	}
	pthread_setcancelstate(state, NULL);
	return ret;
}

SHIM_EXPORT int socket(int domain, int type, int protocol)
{
	if ((domain == AF_INET || domain == AF_INET6) &&
	    (type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) == SOCK_RAW && shim_checking())
		return shim_check_socket(type);
	return shim_next()->socket(domain, type, protocol);
}
