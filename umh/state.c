// SPDX-License-Identifier: GPL-2.0
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "state.h"

#define BPFFS	"/sys/fs/bpf"
#define PAGE	4096u

static char root[PIN_DIR_MAX];

const char *state_root(void)
{
	return root;
}

/* FNV-1a: two sockets of the same name in different directories differ. */
static __u64 hash(const char *s)
{
	__u64 h = 0xcbf29ce484222325ull;

	while (*s)
		h = (h ^ (__u8)*s++) * 0x100000001b3ull;
	return h;
}

const char *state_module_root(void)
{
	return BPFFS "/xtjit/module";
}

void state_socket_root(char out[PIN_DIR_MAX], const char *socket)
{
	const char *base = strrchr(socket, '/');
	char name[32];

	base = base ? base + 1 : socket;
	snprintf(name, sizeof(name), "%s", base);
	for (char *p = name; *p; p++)
		if (*p == '.' || (unsigned char)*p < '!')
			*p = '-';
	snprintf(out, PIN_DIR_MAX, BPFFS "/xtjit/%s-%016llx", name, hash(socket));
}

int state_init(const char *socket, struct xt_err *err)
{
	int ret = state_mkdir(BPFFS "/xtjit");

	if (ret)
		return xt_fail(err, ret, BPFFS "/xtjit: %s", strerror(-ret));
	if (socket)
		state_socket_root(root, socket);
	else
		snprintf(root, sizeof(root), "%s", state_module_root());
	ret = state_mkdir(root);
	if (ret)
		return xt_fail(err, ret, "%s: %s", root, strerror(-ret));
	return 0;
}

void state_path(char out[PIN_DIR_MAX], const char *dir, const char *fmt, ...)
{
	char name[PIN_DIR_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(name, sizeof(name), fmt, ap);
	va_end(ap);
	/* the root is at most 70 bytes, what is below it at most 100 */
	if (snprintf(out, PIN_DIR_MAX, "%s/%s", dir, name) >= PIN_DIR_MAX)
		abort();
}

int state_mkdir(const char *dir)
{
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

int state_mkdir_anew(const char *dir)
{
	if (!mkdir(dir, 0700))
		return 0;
	state_remove(dir);
	return mkdir(dir, 0700) ? -errno : 0;
}

bool state_exists(const char *dir, const char *name)
{
	char path[PIN_DIR_MAX];

	state_path(path, dir, "%s", name);
	return access(path, F_OK) == 0;
}

static void remove_one(const char *dir, const char *name, void *arg)
{
	char path[PIN_DIR_MAX];

	(void)arg;
	state_path(path, dir, "%s", name);
	if (unlink(path) < 0 && errno == EISDIR)
		state_remove(path);
}

void state_remove(const char *dir)
{
	state_each(dir, remove_one, NULL);
	rmdir(dir);
}

void state_rmdir(const char *dir)
{
	if (rmdir(dir) && errno == ENOTEMPTY)
		state_remove(dir);
}

void state_forget(void)
{
	state_remove(root);
	rmdir(BPFFS "/xtjit");
}

static void other_pin(const char *dir, const char *name, void *arg)
{
	(void)dir;
	*(bool *)arg |= strcmp(name, "ring") && strcmp(name, "self") && strcmp(name, "lost") &&
			strcmp(name, "grace");
}

bool state_has_spaces(const char *dir)
{
	bool others = false;

	state_each(dir, other_pin, &others);
	return others;
}

void state_each(const char *dir, void (*fn)(const char *dir, const char *name, void *arg),
		void *arg)
{
	struct dirent **list;
	int n = scandir(dir, &list, NULL, alphasort);

	for (int i = 0; i < n; i++) {
		if (list[i]->d_name[0] != '.')
			fn(dir, list[i]->d_name, arg);
		free(list[i]);
	}
	if (n >= 0)
		free(list);
}

int state_pin(int fd, const char *dir, const char *name)
{
	char path[PIN_DIR_MAX];
	int ret;

	state_path(path, dir, "%s", name);
	ret = bpf_obj_pin(fd, path);
	if (ret == -EEXIST) {
		unlink(path);
		ret = bpf_obj_pin(fd, path);
	}
	return ret;
}

int state_replace(int fd, const char *dir, const char *name)
{
	char path[PIN_DIR_MAX], next[PIN_DIR_MAX];
	int ret = state_pin(fd, dir, "next");

	if (ret)
		return ret;
	state_path(path, dir, "%s", name);
	state_path(next, dir, "next");
	if (!rename(next, path))
		return 0;
	ret = -errno;
	unlink(next);
	return ret;
}

int state_unpin(const char *dir, const char *name)
{
	char path[PIN_DIR_MAX];

	state_path(path, dir, "%s", name);
	return unlink(path) ? -errno : 0;
}

int state_get(const char *dir, const char *name)
{
	char path[PIN_DIR_MAX];

	state_path(path, dir, "%s", name);
	return bpf_obj_get(path);
}

static int map_bytes(int fd, size_t *len)
{
	struct bpf_map_info info = {};
	__u32 n = sizeof(info);
	int ret = bpf_obj_get_info_by_fd(fd, &info, &n);

	if (ret)
		return ret;
	if (info.type != BPF_MAP_TYPE_ARRAY || !(info.map_flags & BPF_F_MMAPABLE))
		return -EINVAL;
	*len = (size_t)info.max_entries * ((info.value_size + 7) & ~7u);
	return 0;
}

/* @len: of all its values. */
static int map_memory(struct pmem *m, int fd, size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	m->frozen = p == MAP_FAILED && errno == EPERM;
	if (m->frozen)
		p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	m->p = p;
	m->len = len;
	return 0;
}

int pmem_create(struct pmem *m, const char *name, size_t len, struct xt_err *err)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	size_t size = len <= PAGE ? (len + 7) & ~7ul : PAGE;
	size_t n = (len + size - 1) / size;
	int fd, ret;

	*m = (struct pmem)PMEM_NONE;
	if (n > 1u << 31)
		return xt_fail(err, -E2BIG, "map %s: %zu bytes are too many", name, len);
	fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, name, sizeof(__u32), size, n, &opts);
	if (fd < 0)
		return xt_fail(err, fd, "map %s of %zu bytes: %s", name, len, strerror(-fd));
	ret = map_memory(m, fd, n * size);
	if (ret) {
		close(fd);
		return xt_fail(err, ret, "map %s: mmap: %s", name, strerror(-ret));
	}
	m->fd = fd;
	return 0;
}

/*
 * To make a large map, and its pages known to the process, takes longer than to
 * write to one.
 */
#define SPARES		8
#define SPARE_MIN	(16u << 10)
#define SPARE_MAX	(4u << 20)	/* else they take too much */
#define SPARE_TICKS	2

static struct spare {
	struct pmem m;
	const char *name;
	int ticks;		/* that are left; 0: there is none */
} spares[SPARES];

static void spare_end(struct spare *s)
{
	if (s->ticks)
		pmem_close(&s->m);
	s->ticks = 0;
}

int pmem_create_dirty(struct pmem *m, const char *name, size_t len, struct xt_err *err)
{
	size_t all = (len + PAGE - 1) / PAGE * PAGE;

	for (struct spare *s = spares; s < spares + SPARES; s++) {
		if (!s->ticks || s->m.len != all || strcmp(s->name, name))
			continue;
		*m = s->m;
		s->ticks = 0;
		memset(m->p + len, 0, all - len);
		return 0;
	}
	return pmem_create(m, name, len, err);
}

void pmem_spare(struct pmem *m, const char *name)
{
	struct spare *to = spares;

	if (m->fd < 0 || m->frozen || m->len < SPARE_MIN || m->len > SPARE_MAX) {
		pmem_close(m);
		return;
	}
	for (struct spare *s = spares; s < spares + SPARES; s++)
		if (s->ticks < to->ticks)
			to = s;
	spare_end(to);
	*to = (struct spare){ *m, name, SPARE_TICKS };
	*m = (struct pmem)PMEM_NONE;
}

void pmem_tick(void)
{
	for (struct spare *s = spares; s < spares + SPARES; s++)
		if (s->ticks == 1)
			spare_end(s);
		else if (s->ticks)
			s->ticks--;
}

int pmem_open(struct pmem *m, const char *dir, const char *name, size_t min)
{
	int fd = state_get(dir, name);
	size_t len;
	int ret;

	*m = (struct pmem)PMEM_NONE;
	if (fd < 0)
		return fd;
	ret = map_bytes(fd, &len) ?: map_memory(m, fd, len);
	m->fd = fd;
	if (!ret && m->len < min)
		ret = -EINVAL;
	if (ret)
		pmem_close(m);
	return ret;
}

int pmem_freeze(struct pmem *m)
{
	if (m->frozen)
		return 0;
	/* a map cannot be frozen while it is mapped to be written to; what points into it stays right */
	if (mmap(m->p, m->len, PROT_READ, MAP_SHARED | MAP_FIXED, m->fd, 0) == MAP_FAILED)
		abort();
	m->frozen = !bpf_map_freeze(m->fd);
	return m->frozen ? 0 : -errno;
}

int pmem_map(struct pmem *m, int fd)
{
	size_t len;

	*m = (struct pmem)PMEM_NONE;
	return map_bytes(fd, &len) ?: map_memory(m, fd, len);
}

void pmem_close(struct pmem *m)
{
	if (m->p)
		munmap(m->p, m->len);
	if (m->fd >= 0)
		close(m->fd);
	*m = (struct pmem)PMEM_NONE;
}
