// SPDX-License-Identifier: GPL-2.0
/*
 * Scripts look (`test -e`, libxtables does too) whether the /proc files are
 * there.  Under the shim they always are: where the kernel has none, they look
 * like the "dev" file beside them, but for the mode.
 */
#include "shim.h"

#include <errno.h>

#define STAND_IN "dev"

/* After a call on @path failed: is it one of the files?  Then @f's directory has the stand-in. */
static bool missing(int dirfd, const char *path, struct proc_file *f)
{
	if (errno != ENOENT || !proc_file_name(path))
		return false;
	if (proc_file_get(dirfd, path, f))
		return true;
	errno = ENOENT;
	return false;
}

static int done(struct proc_file *f, int ret)
{
	int saved = errno;

	proc_file_put(f);
	errno = saved;
	return ret;
}

/* Only root may read them. */
static void hide(mode_t *mode)
{
	*mode &= ~(mode_t)07;
}

static int stand_in_stat(struct proc_file *f, struct stat *st)
{
	int ret = done(f, shim_next()->fstatat(f->dir, STAND_IN, st, 0));

	if (!ret)
		hide(&st->st_mode);
	return ret;
}

static int stand_in_stat64(struct proc_file *f, struct stat64 *st)
{
	int ret = done(f, shim_next()->fstatat64(f->dir, STAND_IN, st, 0));

	if (!ret)
		hide(&st->st_mode);
	return ret;
}

static int stand_in_access(struct proc_file *f, int mode, int flags)
{
	return done(f, shim_next()->faccessat(f->dir, STAND_IN, mode, flags));
}

SHIM_EXPORT int access(const char *path, int mode)
{
	int ret = shim_next()->access(path, mode);
	struct proc_file f;

	return ret < 0 && missing(AT_FDCWD, path, &f) ? stand_in_access(&f, mode, 0) : ret;
}

SHIM_EXPORT int euidaccess(const char *path, int mode)
{
	int ret = shim_next()->euidaccess(path, mode);
	struct proc_file f;

	return ret < 0 && missing(AT_FDCWD, path, &f) ?
		       stand_in_access(&f, mode, AT_EACCESS) : ret;
}

SHIM_EXPORT int eaccess(const char *path, int mode) __attribute__((alias("euidaccess")));

SHIM_EXPORT int faccessat(int dir, const char *path, int mode, int flags)
{
	int ret = shim_next()->faccessat(dir, path, mode, flags);
	struct proc_file f;

	return ret < 0 && missing(dir, path, &f) ?
		       stand_in_access(&f, mode, flags & AT_EACCESS) : ret;
}

SHIM_EXPORT int stat(const char *restrict path, struct stat *restrict st)
{
	int ret = shim_next()->stat(path, st);
	struct proc_file f;

	return ret < 0 && missing(AT_FDCWD, path, &f) ? stand_in_stat(&f, st) : ret;
}

SHIM_EXPORT int lstat(const char *restrict path, struct stat *restrict st)
{
	int ret = shim_next()->lstat(path, st);
	struct proc_file f;

	return ret < 0 && missing(AT_FDCWD, path, &f) ? stand_in_stat(&f, st) : ret;
}

SHIM_EXPORT int fstatat(int dir, const char *restrict path, struct stat *restrict st, int flags)
{
	int ret = shim_next()->fstatat(dir, path, st, flags);
	struct proc_file f;

	return ret < 0 && missing(dir, path, &f) ? stand_in_stat(&f, st) : ret;
}

SHIM_EXPORT int stat64(const char *restrict path, struct stat64 *restrict st)
{
	int ret = shim_next()->stat64(path, st);
	struct proc_file f;

	return ret < 0 && missing(AT_FDCWD, path, &f) ? stand_in_stat64(&f, st) : ret;
}

SHIM_EXPORT int lstat64(const char *restrict path, struct stat64 *restrict st)
{
	int ret = shim_next()->lstat64(path, st);
	struct proc_file f;

	return ret < 0 && missing(AT_FDCWD, path, &f) ? stand_in_stat64(&f, st) : ret;
}

SHIM_EXPORT int fstatat64(int dir, const char *restrict path, struct stat64 *restrict st,
			  int flags)
{
	int ret = shim_next()->fstatat64(dir, path, st, flags);
	struct proc_file f;

	return ret < 0 && missing(dir, path, &f) ? stand_in_stat64(&f, st) : ret;
}

SHIM_EXPORT int statx(int dir, const char *restrict path, int flags, unsigned int mask,
		      struct statx *restrict st)
{
	int ret = shim_next()->statx(dir, path, flags, mask, st);
	struct proc_file f;

	if (!(ret < 0 && missing(dir, path, &f)))
		return ret;
	ret = done(&f, shim_next()->statx(f.dir, STAND_IN, 0, mask, st));
	if (!ret)
		st->stx_mode &= ~07;
	return ret;
}

SHIM_EXPORT int statfs(const char *path, struct statfs *st)
{
	int ret = shim_next()->statfs(path, st);
	struct proc_file f;

	return ret < 0 && missing(AT_FDCWD, path, &f) ? done(&f, fstatfs(f.dir, st)) : ret;
}

SHIM_EXPORT int statfs64(const char *path, struct statfs64 *st)
{
	int ret = shim_next()->statfs64(path, st);
	struct proc_file f;

	return ret < 0 && missing(AT_FDCWD, path, &f) ? done(&f, fstatfs64(f.dir, st)) : ret;
}
