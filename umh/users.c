// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "users.h"

#define MAX_EXTENTS 340		/* UID_GID_MAP_MAX_EXTENTS */

struct extent {
	__u32 first, kernel, count;
};

struct map {
	int n;
	struct extent e[MAX_EXTENTS];
};

/* The last namespace that was asked for; open, so that its inode number stays its own. */
static struct {
	int fd;
	struct map map[2];	/* by enum users_kind */
} last = { .fd = -1 };

/* An fd of the user namespace, or a negative errno. */
static int open_owner(void)
{
	int netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), fd;

	if (netns < 0)
		return -errno;
	fd = ioctl(netns, NS_GET_USERNS);
	if (fd < 0)
		fd = -errno;
	close(netns);
	return fd;
}

static bool same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Of the process that /proc/@pid shows. 0 or -1, with errno. */
static int stat_of(const char *pid, struct stat *st)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%s/ns/user", pid);
	return stat(path, st);
}

/* Is it the one of that process? */
static int is_of(int userns, const char *pid)
{
	struct stat a, b;

	return fstat(userns, &a) || stat_of(pid, &b) ? -errno : same(&a, &b);
}

/* Is the user namespace of that process our own? */
static bool is_ours(const char *pid)
{
	static struct stat own;		/* which we never leave */
	struct stat its;

	return (own.st_ino || !stat_of("self", &own)) && !stat_of(pid, &its) && same(&own, &its);
}

int users_has(pid_t pid, __u64 cookie)
{
	static __u64 ours;	/* the last that is of our own: no cookie comes twice */
	int userns, ret;
	char name[16];

	snprintf(name, sizeof(name), "%d", pid);
	if (cookie == ours && is_ours(name))
		return 1;
	userns = open_owner();
	if (userns < 0)
		return userns;
	if (is_of(userns, "self") == 1)
		ours = cookie;
	ret = is_of(userns, name);
	close(userns);
	return ret;
}

/* In its own user namespace. 1, 0 or a negative errno. */
static int has_net_admin(pid_t pid)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, pid };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &head, data))
		return -errno;
	return data[0].effective >> CAP_NET_ADMIN & 1;
}

static bool owned_by_root(int userns)
{
	uid_t owner;

	return !ioctl(userns, NS_GET_OWNER_UID, &owner) && !owner;
}

/* From user namespace @userns upwards, which is closed: process @pid's, or one below it. */
static int may_above(int userns, const char *pid, bool cap)
{
	int ret = is_of(userns, pid), parent;

	while (!ret) {
		parent = ioctl(userns, NS_GET_PARENT);
		if (parent < 0)
			break;		/* that was the first one, or our own */
		ret = is_of(parent, pid);
		cap |= ret == 1 && owned_by_root(userns);
		close(userns);
		userns = parent;
	}
	close(userns);
	return ret == 1 ? cap : ret;
}

int users_may(pid_t pid)
{
	int cap = pid > 0 ? has_net_admin(pid) : -ESRCH, userns;
	char name[16];

	snprintf(name, sizeof(name), "%d", pid);
	/* ours has all that we can be asked for below it */
	if (cap < 0 || (cap && is_ours(name)))
		return cap;
	userns = open_owner();
	return userns < 0 ? userns : may_above(userns, name, cap);
}

/*
 * A child that joins the user namespace and calls @fn; ended, but not reaped, so
 * that /proc still shows it.  What @fn returned is in *ret.
 */
static pid_t run_child(int userns, int (*fn)(void *arg), void *arg, int *ret)
{
	siginfo_t info = { 0 };
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (!pid)
		_exit(setns(userns, CLONE_NEWUSER) ? errno : -fn(arg));
	while (waitid(P_PID, pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
		;
	*ret = info.si_code == CLD_EXITED ? -info.si_status : -EIO;
	return pid;
}

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

int users_run(int (*fn)(void *arg), void *arg)
{
	int userns = open_owner(), ret = 0;
	pid_t pid;

	/* who may not ask whose it is, may not join it either */
	if (userns < 0 || is_of(userns, "self") == 1) {
		ret = fn(arg);
	} else {
		pid = run_child(userns, fn, arg, &ret);
		if (pid > 0)
			reap(pid);
		else
			ret = pid;
	}
	if (userns >= 0)
		close(userns);
	return ret;
}

/* A file of three numbers a line: the first id, the kernel's (as we are told), how many. */
static int read_map(struct map *m, const char *pid, const char *file)
{
	struct extent *e = m->e;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/%s", pid, file);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (e < m->e + MAX_EXTENTS &&
	       fscanf(f, "%u %u %u", &e->first, &e->kernel, &e->count) == 3)
		e++;
	m->n = e - m->e;
	fclose(f);
	return 0;
}

static int read_maps(const char *pid)
{
	return read_map(&last.map[USERS_UID], pid, "uid_map") ?:
	       read_map(&last.map[USERS_GID], pid, "gid_map");
}

static int nothing(void *arg)
{
	(void)arg;
	return 0;
}

static int read_maps_of(int userns)
{
	char name[16];
	int ret = 0;
	pid_t pid;

	if (is_of(userns, "self") == 1)
		return read_maps("self");
	pid = run_child(userns, nothing, NULL, &ret);
	if (pid < 0)
		return pid;
	snprintf(name, sizeof(name), "%d", pid);
	ret = ret ?: read_maps(name);
	reap(pid);
	return ret;
}

/* Maps are written once; before that, they are empty. */
static bool is_last(int userns)
{
	struct stat a, b;

	return last.fd >= 0 && last.map[USERS_UID].n && last.map[USERS_GID].n &&
	       !fstat(userns, &a) && !fstat(last.fd, &b) && same(&a, &b);
}

static int load_maps(void)
{
	int userns = open_owner(), ret;

	if (userns < 0)
		return userns;
	if (is_last(userns)) {
		close(userns);
		return 0;
	}
	if (last.fd >= 0)
		close(last.fd);
	last.fd = userns;
	ret = read_maps_of(userns);
	if (ret) {
		close(last.fd);
		last.fd = -1;
	}
	return ret;
}

int users_map(enum users_kind kind, __u32 id, __u32 *kernel)
{
	const struct map *m = &last.map[kind];

	if (load_maps())
		return -EOPNOTSUPP;
	for (const struct extent *e = m->e; e < m->e + m->n; e++) {
		if (id < e->first || id - e->first >= e->count || e->kernel == (__u32)-1)
			continue;
		*kernel = e->kernel + (id - e->first);
		return 0;
	}
	return -EINVAL;
}
