// SPDX-License-Identifier: GPL-2.0
/*
 * /proc/net/ip_tables_{names,matches,targets} and their ip6 twins.  Any path
 * that leads to one counts (/proc/self/net, /proc/1/net, a relative one), and
 * is about the network namespace of the process whose directory it is.
 */
#include "shim.h"

#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/netfilter.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const struct {
	const char *name;
	__u8 family;
	const char *what;
} proc_files[] = {
	{ "ip_tables_names", NFPROTO_IPV4, "names" },
	{ "ip_tables_matches", NFPROTO_IPV4, "matches" },
	{ "ip_tables_targets", NFPROTO_IPV4, "targets" },
	{ "ip6_tables_names", NFPROTO_IPV6, "names" },
	{ "ip6_tables_matches", NFPROTO_IPV6, "matches" },
	{ "ip6_tables_targets", NFPROTO_IPV6, "targets" },
};

#define N_PROC_FILES (sizeof(proc_files) / sizeof(proc_files[0]))

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

bool proc_file_name(const char *path)
{
	const char *base;

	/* the headers promise that there is a path, callers need not keep it */
	__asm__("" : "+r"(path));
	if (!path)
		return false;
	base = last_part(path);
	if (base[0] != 'i' || base[1] != 'p')
		return false;
	for (size_t i = 0; i < N_PROC_FILES; i++)
		if (!strcmp(base, proc_files[i].name))
			return !shim_idle();
	return false;
}

/* Is @dir the "net" of a process, on procfs? */
static bool is_proc_net(int dir)
{
	char link[64], target[PATH_MAX];
	struct statfs fs;
	ssize_t n;

	if (fstatfs(dir, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC)
		return false;
	snprintf(link, sizeof(link), "/proc/thread-self/fd/%d", dir);
	n = readlink(link, target, sizeof(target));
	return n >= 4 && !memcmp(target + n - 4, "/net", 4);
}

static bool find_file(int dirfd, const char *path, struct proc_file *f)
{
	const char *base = last_part(path);
	char dir[PATH_MAX] = ".";
	size_t n = base - path;

	if (n >= sizeof(dir))
		return false;
	if (n) {
		memcpy(dir, path, n);
		dir[n] = '\0';
	}
	f->dir = shim_next()->openat(dirfd, dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (f->dir < 0)
		return false;
	f->netns = -1;
	if (is_proc_net(f->dir))
		f->netns = shim_next()->openat(f->dir, "../ns/net", O_RDONLY | O_CLOEXEC);
	if (f->netns < 0) {
		close(f->dir);
		return false;
	}
	for (size_t i = 0; i < N_PROC_FILES; i++) {
		if (strcmp(base, proc_files[i].name))
			continue;
		f->family = proc_files[i].family;
		f->what = proc_files[i].what;
	}
	return true;
}

bool proc_file_get(int dirfd, const char *path, struct proc_file *f)
{
	bool found;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &f->cancel);
	found = find_file(dirfd, path, f);
	if (!found)
		pthread_setcancelstate(f->cancel, NULL);
	return found;
}

void proc_file_put(struct proc_file *f)
{
	close(f->dir);
	close(f->netns);
	pthread_setcancelstate(f->cancel, NULL);
}

/* Makes @fd a file of @text, only to be read, from its beginning. */
static int give_text(int fd, const char *text, size_t len, int cloexec)
{
	int mem = memfd_create("ip_tables", MFD_CLOEXEC), ro = -1;
	char link[64];
	ssize_t n;

	if (mem < 0)
		return -1;
	for (size_t at = 0; at < len; at += n) {
		n = pwrite(mem, text + at, len - at, at);
		if (n <= 0)
			goto out;
	}
	snprintf(link, sizeof(link), "/proc/thread-self/fd/%d", mem);
	ro = shim_next()->open(link, O_RDONLY | O_CLOEXEC);
	if (ro >= 0 && dup3(ro, fd, cloexec) < 0) {
		close(ro);
		ro = -1;
	}
out:
	close(mem);
	if (ro >= 0)
		close(ro);
	return ro < 0 ? -1 : fd;
}

/* Asks for the file's text.  The fd that the caller gets is @fd, taken before all others. */
static int ask(const struct proc_file *f, int fd, int flags)
{
	struct client_call c = {
		.op = XTJIT_OP_PROC, .family = f->family, .netns = f->netns,
		.req = f->what, .req_len = strlen(f->what),
	};
	int ret = shim_call(&c);

	if (!ret)
		ret = give_text(fd, c.rep, c.rep_len, flags & O_CLOEXEC);
	else if (c.unreached)
		errno = EIO;	/* not ENOENT or the like: to iptables-save, that is "no tables" */
	free(c.rep);
	return ret;
}

/*
 * The file's own permissions decide who may open it; where the kernel has none
 * (ENOENT), everyone may try.
 */
static int proc_open(int dirfd, const char *path, int flags)
{
	int fd = shim_next()->openat(dirfd, path, flags), saved = errno;
	struct proc_file f;
	int ret;

	if (fd < 0 && errno != ENOENT)
		return fd;
	if (!proc_file_get(dirfd, path, &f)) {
		if (fd >= 0)
			return fd;
		errno = saved;
		return -1;
	}
	if (fd < 0)
		fd = shim_next()->open("/dev/null", O_RDONLY | O_CLOEXEC);
	ret = fd < 0 ? -1 : ask(&f, fd, flags);
	saved = errno;
	proc_file_put(&f);
	if (ret < 0 && fd >= 0)
		close(fd);
	errno = saved;
	return ret;
}

static FILE *proc_fopen(const char *path, const char *mode)
{
	int fd = proc_open(AT_FDCWD, path, strchr(mode, 'e') ? O_CLOEXEC : 0), saved;
	FILE *file;

	if (fd < 0)
		return NULL;
	file = fdopen(fd, mode);
	if (!file) {
		saved = errno;
		close(fd);
		errno = saved;
	}
	return file;
}

/* The argument behind @flags, which is there only for what may make a file. */
#define OPEN_MODE(flags) ({						\
	va_list ap;							\
	mode_t mode = 0;						\
									\
	va_start(ap, flags);						\
	if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE)	\
		mode = va_arg(ap, mode_t);				\
	va_end(ap);							\
	mode;								\
})

/* May this be an open of one of the files, to read it? */
static bool ours(const char *path, int flags)
{
	return proc_file_name(path) && (flags & O_ACCMODE) == O_RDONLY &&
	       !(flags & (O_CREAT | O_TRUNC | O_PATH | O_DIRECTORY));
}

#define OPEN(fn)							\
SHIM_EXPORT int fn(const char *path, int flags, ...)			\
{									\
	mode_t mode = OPEN_MODE(flags);					\
									\
	return ours(path, flags) ? proc_open(AT_FDCWD, path, flags) :	\
				   shim_next()->fn(path, flags, mode);	\
}

#define OPENAT(fn)							\
SHIM_EXPORT int fn(int dir, const char *path, int flags, ...)		\
{									\
	mode_t mode = OPEN_MODE(flags);					\
									\
	return ours(path, flags) ? proc_open(dir, path, flags) :	\
				   shim_next()->fn(dir, path, flags, mode); \
}

OPEN(open)
OPEN(open64)
OPEN(__open)
OPEN(__open64)
OPENAT(openat)
OPENAT(openat64)

/* What the fortified headers call. */
SHIM_EXPORT int __open_2(const char *path, int flags)
{
	return ours(path, flags) ? proc_open(AT_FDCWD, path, flags) :
				   shim_next()->__open_2(path, flags);
}

SHIM_EXPORT int __open64_2(const char *path, int flags)
{
	return ours(path, flags) ? proc_open(AT_FDCWD, path, flags) :
				   shim_next()->__open64_2(path, flags);
}

SHIM_EXPORT int __openat_2(int dir, const char *path, int flags)
{
	return ours(path, flags) ? proc_open(dir, path, flags) :
				   shim_next()->__openat_2(dir, path, flags);
}

SHIM_EXPORT int __openat64_2(int dir, const char *path, int flags)
{
	return ours(path, flags) ? proc_open(dir, path, flags) :
				   shim_next()->__openat64_2(dir, path, flags);
}

static bool reads(const char *mode)
{
	return mode[0] == 'r' && !strchr(mode, '+');
}

SHIM_EXPORT FILE *fopen(const char *restrict path, const char *restrict mode)
{
	return proc_file_name(path) && reads(mode) ? proc_fopen(path, mode) :
						     shim_next()->fopen(path, mode);
}

SHIM_EXPORT FILE *fopen64(const char *restrict path, const char *restrict mode)
{
	return proc_file_name(path) && reads(mode) ? proc_fopen(path, mode) :
						     shim_next()->fopen64(path, mode);
}
