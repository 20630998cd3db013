// SPDX-License-Identifier: GPL-2.0
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <linux/netfilter.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "emit.h"
#include "kbtf.h"
#include "netns.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#define PROG_TYPE_NETFILTER	32	/* Linux 6.4; older headers lack them */
#define ATTACH_TYPE_NETFILTER	45

#define BPFFS "/sys/fs/bpf"

#define KEEP_MAX (PATH_MAX - 64)
static char keep_dir[KEEP_MAX];	/* RUN_DIR/netns, as the kernel names it */
static int home = -1;		/* where netns_leave() leads */
static int (*opener)(__u64 cookie);	/* NULL: namespaces are kept */

static void keep_path(char *path, size_t size, __u64 cookie)
{
	snprintf(path, size, "%s/%" PRIu64, keep_dir, (uint64_t)cookie);
}

/* Joins process 1's namespace @name; where that is not allowed we stay. */
static void join_init(const char *name, int type)
{
	char theirs[64], ours[64];
	struct stat a, b;
	int fd;

	snprintf(theirs, sizeof(theirs), "/proc/1/ns/%s", name);
	snprintf(ours, sizeof(ours), "/proc/self/ns/%s", name);
	if (stat(theirs, &a) || stat(ours, &b) ||
	    (a.st_dev == b.st_dev && a.st_ino == b.st_ino))
		return;
	fd = open(theirs, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	setns(fd, type);
	close(fd);
}

static int mkdir_p(const char *dir)
{
	char path[PATH_MAX];
	size_t len = strlen(dir);

	if (!len || len >= sizeof(path))
		return -EINVAL;
	for (size_t i = 1; i <= len; i++) {
		if (dir[i] && dir[i] != '/')
			continue;
		memcpy(path, dir, i);
		path[i] = '\0';
		if (mkdir(path, 0755) && errno != EEXIST)
			return -errno;
	}
	return 0;
}

static bool is_fs(const char *path, unsigned long magic)
{
	struct statfs s;

	return !statfs(path, &s) && (unsigned long)s.f_type == magic;
}

static int mount_bpffs(struct xt_err *err)
{
	if (is_fs(BPFFS, BPF_FS_MAGIC) || !mount("bpf", BPFFS, "bpf", 0, NULL))
		return 0;
	return xt_fail(err, -errno, "cannot mount bpffs on " BPFFS ": %s", strerror(errno));
}

/*
 * The directory is a mount of its own, shared: a mount namespace made later
 * copies what is in it, and netns_drop() must reach those copies.  Private
 * first, so that it is not its parent's peer: each mount in it would appear
 * twice.
 */
static int make_keep_dir(const char *run_dir, struct xt_err *err)
{
	int ret = mkdir_p(run_dir);
	char dir[PATH_MAX];

	if (ret)
		return xt_fail(err, ret, "cannot make %s: %s", run_dir, strerror(-ret));
	if (!realpath(run_dir, dir) ||
	    snprintf(keep_dir, sizeof(keep_dir), "%s/netns", dir) >= (int)sizeof(keep_dir))
		return xt_fail(err, -ENAMETOOLONG, "%s: no usable path", run_dir);
	if (mkdir(keep_dir, 0755) && errno != EEXIST)
		goto fail;
	if (!mount("", keep_dir, "none", MS_SHARED, NULL))
		return 0;
	if (mount(keep_dir, keep_dir, "none", MS_BIND, NULL) ||
	    mount("", keep_dir, "none", MS_PRIVATE, NULL) ||
	    mount("", keep_dir, "none", MS_SHARED, NULL))
		goto fail;
	return 0;
fail:
	ret = -errno;
	return xt_fail(err, ret, "cannot set up %s: %s", keep_dir, strerror(-ret));
}

int netns_init(const char *run_dir, struct xt_err *err)
{
	int ret;

	join_init("mnt", CLONE_NEWNS);
	join_init("net", CLONE_NEWNET);
	if (home >= 0)
		close(home);
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (home < 0)
		return xt_fail(err, -errno, "cannot open /proc/self/ns/net: %s", strerror(errno));
	ret = make_keep_dir(run_dir, err);
	return ret ? ret : mount_bpffs(err);
}

/* Going on in the wrong namespace would be worse than a helper that starts anew. */
void netns_leave(void)
{
	if (!setns(home, CLONE_NEWNET))
		return;
	xt_log("cannot return to my network namespace: %s", strerror(errno));
	_exit(1);
}

int netns_enter(int fd)
{
	return setns(fd, CLONE_NEWNET) ? -errno : 0;
}

int netns_cookie(__u64 *cookie)
{
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), ret = 0;
	socklen_t len = sizeof(*cookie);

	if (s < 0)
		return -errno;
	if (getsockopt(s, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &len))
		ret = -errno;
	close(s);
	return ret;
}

/* 1 if @path is a mount of @fd's namespace, 0 if it is not, or a negative errno. */
static int is_kept(int fd, const char *path)
{
	struct stat a, b;

	if (fstat(fd, &a))
		return -errno;
	if (stat(path, &b))
		return errno == ENOENT ? 0 : -errno;
	return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

void netns_set_opener(int (*open)(__u64 cookie))
{
	opener = open;
}

int netns_keep(int fd, __u64 cookie)
{
	char path[PATH_MAX], from[32];
	int ret, f;

	if (opener)
		return 0;
	keep_path(path, sizeof(path), cookie);
	ret = is_kept(fd, path);
	if (ret)
		return ret < 0 ? ret : 0;
	f = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0444);
	if (f < 0)
		return -errno;
	close(f);
	snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	if (!mount(from, path, "none", MS_BIND, NULL))
		return 0;
	ret = -errno;
	unlink(path);
	return ret;
}

int netns_open(__u64 cookie)
{
	char path[PATH_MAX];
	struct statfs s;
	int fd;

	if (opener)
		return opener(cookie);
	keep_path(path, sizeof(path), cookie);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* a file without its mount is what a crash between the two leaves */
	if (!fstatfs(fd, &s) && s.f_type == NSFS_MAGIC)
		return fd;
	close(fd);
	return -ENOENT;
}

void netns_drop(__u64 cookie)
{
	char path[PATH_MAX];

	keep_path(path, sizeof(path), cookie);
	while (is_fs(path, NSFS_MAGIC))
		if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW))
			break;
	unlink(path);
}

int netns_each(void (*fn)(__u64 cookie, void *arg), void *arg)
{
	DIR *d = opendir(keep_dir);
	struct dirent *e;
	int n = 0;

	while (d && (e = readdir(d))) {
		char path[PATH_MAX + 256], *end;
		__u64 cookie;

		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		errno = 0;
		cookie = strtoull(e->d_name, &end, 10);
		snprintf(path, sizeof(path), "%s/%s", keep_dir, e->d_name);
		if (*end || errno || !is_fs(path, NSFS_MAGIC))
			continue;
		n++;
		if (fn)
			fn(cookie, arg);
	}
	if (d)
		closedir(d);
	return n;
}

/*
 * Who refers to a namespace.  net->ns has a count: 1 for each user socket, each
 * netfilter link, each set of processes' namespaces (struct nsproxy, so ours
 * too while we are in it), and 1 for the inode that all open files and mounts
 * of the namespace share.  Of those the inode's dentry has the count.
 */
struct ref_counts {
	__u32 ns, files;
	__u64 failed;		/* of the read of files: 0 or not */
};

static int ns_count_offset(void)
{
	int off = kbtf_offset("net", "ns.__ns_ref");	/* since Linux 6.18 */

	return off >= 0 ? off : kbtf_offset("net", "ns.count");
}

/* A program that writes the counts of skb->dev's namespace to the value of @map. */
static int load_counter(int map)
{
	int skb = kbtf_offset("bpf_nf_ctx", "skb"), dev = kbtf_offset("sk_buff", "dev");
	int net = kbtf_offset("net_device", "nd_net.net"), count = ns_count_offset();
	int stashed = kbtf_offset("net", "ns.stashed");
	int files = kbtf_offset("dentry", "d_lockref.count");
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = ATTACH_TYPE_NETFILTER);
	struct emit e;
	int fd;

	if (skb < 0 || dev < 0 || net < 0 || count < 0 || stashed < 0 || files < 0)
		return -EOPNOTSUPP;
	emit_init(&e);
	ld(&e, U64, R1, R1, skb);
	ld(&e, U64, R1, R1, dev);
	ld(&e, U64, R1, R1, net);
	ldmapvalue(&e, R6, map, 0);
	ld(&e, U32, R2, R1, count);
	st(&e, U32, R6, offsetof(struct ref_counts, ns), R2);
	/* a pointer, or (up to Linux 6.8) a number: no typed load fits both */
	ld(&e, U64, R3, R1, stashed);
	alui(&e, BPF_ADD, R3, files);
	mov(&e, R1, R6);
	alui(&e, BPF_ADD, R1, offsetof(struct ref_counts, files));
	movi(&e, R2, sizeof(__u32));
	call_helper(&e, BPF_FUNC_probe_read_kernel);
	st(&e, U64, R6, offsetof(struct ref_counts, failed), R0);
	movi(&e, R0, 1);
	exit_(&e);
	fd = emit_finish(&e, NULL);
	if (!fd)
		fd = bpf_prog_load(PROG_TYPE_NETFILTER, "xtjit_refs", "GPL", e.insns, e.n, &opts);
	emit_free(&e);
	return fd;
}

/* The counts of the current namespace. */
static int count_refs(struct ref_counts *c)
{
	static int map = -1, prog = -1;
	static bool tried;
	__u8 frame[64] = { [12] = ETHERTYPE_IP >> 8, [14] = 0x45 };
	/* struct nf_hook_state: at PRE_ROUTING skb->dev is the namespace's lo */
	__u8 state[128] = { NF_INET_PRE_ROUTING, NFPROTO_IPV4 };
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_size_in = sizeof(frame),
		    .ctx_in = state, .ctx_size_in = sizeof(state));
	__u32 key = 0;

	if (!tried) {
		map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "xtjit_refs", sizeof(__u32),
				     sizeof(*c), 1, NULL);
		prog = map < 0 ? map : load_counter(map);
		tried = true;
	}
	if (prog < 0)
		return prog;
	memset(c, 0xff, sizeof(*c));
	if (bpf_map_update_elem(map, &key, c, BPF_ANY) || bpf_prog_test_run_opts(prog, &run) ||
	    bpf_map_lookup_elem(map, &key, c) || c->failed)
		return -EIO;
	return 0;
}

/*
 * Mounts of the namespace with inode number @ino in the mount namespace that
 * @file (a mountinfo) shows: the number of those at @path, the rest in *others.
 */
static int count_mounts(const char *file, unsigned long ino, const char *path, int *others)
{
	char line[2 * PATH_MAX], root[64], at[PATH_MAX], want[64];
	FILE *f = fopen(file, "re");
	int n = 0;

	snprintf(want, sizeof(want), "net:[%lu]", ino);
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*d %*d %*s %63s %4095s", root, at) != 2 || strcmp(root, want))
			continue;
		if (strcmp(at, path))
			++*others;
		else
			n++;
	}
	if (f)
		fclose(f);
	return n;
}

/* True the first time that it is told of the mount namespace of process @pid. */
static bool new_mount_ns(const char *pid, ino_t **seen, int *nseen)
{
	char path[PATH_MAX];
	struct stat s;
	ino_t *more;

	snprintf(path, sizeof(path), "/proc/%s/ns/mnt", pid);
	if (stat(path, &s))
		return false;
	for (int i = 0; i < *nseen; i++)
		if ((*seen)[i] == s.st_ino)
			return false;
	more = realloc(*seen, (*nseen + 1) * sizeof(ino_t));
	if (!more)
		return false;
	more[(*nseen)++] = s.st_ino;
	*seen = more;
	return true;
}

/* Our mount at @path and its copies in other mount namespaces; all others in *others. */
static int count_all_mounts(unsigned long ino, const char *path, int *others)
{
	DIR *d = opendir("/proc");
	ino_t *seen = NULL;
	int nseen = 0, n;
	struct dirent *e;

	new_mount_ns("self", &seen, &nseen);
	n = count_mounts("/proc/self/mountinfo", ino, path, others);
	/* the usual one: `ip netns add` has it mounted; spares the rest */
	while (d && !*others && (e = readdir(d))) {
		char file[PATH_MAX];

		if (e->d_name[0] < '1' || e->d_name[0] > '9' ||
		    !new_mount_ns(e->d_name, &seen, &nseen))
			continue;
		snprintf(file, sizeof(file), "/proc/%s/mountinfo", e->d_name);
		n += count_mounts(file, ino, path, others);
	}
	if (d)
		closedir(d);
	free(seen);
	return n;
}

bool netns_dead(__u64 cookie, int own)
{
	int fd = netns_open(cookie), others = 0;
	struct ref_counts c;
	char path[PATH_MAX];
	struct stat s;
	int ret, left;

	if (fd < 0)
		return opener && fd == -ENOENT;
	if (opener) {
		close(fd);
		return false;
	}
	ret = netns_enter(fd);
	if (!ret) {
		ret = count_refs(&c);
		netns_leave();
	}
	keep_path(path, sizeof(path), cookie);
	/* besides the inode, the mount, and ourselves by nsproxy and by fd */
	left = ret ? INT_MAX : (int)c.ns - 2 - own;
	if (left > 0 || fstat(fd, &s)) {
		close(fd);
		return false;
	}
	left += (int)c.files - 2;
	if (left > 0)
		left -= count_all_mounts(s.st_ino, path, &others) - 1;
	close(fd);
	return left <= 0;
}
