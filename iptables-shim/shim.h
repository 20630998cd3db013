/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The shim: loaded (LD_PRELOAD) into every process of a script, it answers the
 * socket options and /proc files of ip_tables and ip6_tables by asking the
 * helper.  All other calls go on to the C library as they are, and these too
 * where the module is.
 *
 *	shim.c	the socket options, and what all share
 *	proc.c	opens of the /proc files
 *	stat.c	their looks, where the kernel has none
 *	legacy.c the name "iptables", where it is the nf_tables variant
 *	entries.c the entries of large tables
 *	check.c	what `xtjit check` needs: sockets without privileges
 */
#ifndef XTJIT_SHIM_H
#define XTJIT_SHIM_H

/* The fortified headers define inline functions of the names that are ours here. */
#undef _FORTIFY_SOURCE

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "client.h"
#include "xtjit_dev.h"

#define SHIM_EXPORT __attribute__((visibility("default")))

int __open(const char *path, int flags, ...);
int __open64(const char *path, int flags, ...);
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);

#define SHIM_FUNCTIONS(X)						\
	X(getsockopt) X(setsockopt) X(socket)				\
	X(open) X(open64) X(__open) X(__open64)				\
	X(__open_2) X(__open64_2) X(openat) X(openat64)			\
	X(__openat_2) X(__openat64_2) X(fopen) X(fopen64)		\
	X(access) X(euidaccess) X(faccessat)				\
	X(stat) X(stat64) X(lstat) X(lstat64) X(fstatat) X(fstatat64)	\
	X(statx) X(statfs) X(statfs64)

/* The functions that ours stand before. */
struct shim_next {
#define X(name) __typeof__(&name) name;
	SHIM_FUNCTIONS(X)
#undef X
};

const struct shim_next *shim_next(void);

/* A call to the helper, its note printed; as system calls return: 0, or -1 and errno. */
int shim_call(struct client_call *c);

/* The module is there, and answers itself: nothing is caught. */
bool shim_idle(void);

/* Under `xtjit check` (XTJIT_CHECK in the environment). */
bool shim_checking(void);
int shim_check_socket(int type);
/* getsockopt(SO_IP_SET), by which iptables asks for an ipset's number. */
int shim_check_ipset(void *val, const socklen_t *len);

/* One of the /proc files. */
struct proc_file {
	__u8 family;
	const char *what;	/* "names", "matches", "targets" */
	int dir;		/* the directory it is in */
	int netns;		/* that directory's network namespace */
	int cancel;		/* the thread's cancel state, put aside until proc_file_put() */
};

/* True if the path's last part is the name of one.  Cheap. */
bool proc_file_name(const char *path);
/* True if @path is one; then proc_file_put() closes its two fds. */
bool proc_file_get(int dirfd, const char *path, struct proc_file *f);
void proc_file_put(struct proc_file *f);

/*
 * GET_ENTRIES of a large table of which the helper has the entries in memory that
 * can be read from here: @val (len bytes, of which the header was read into @get)
 * is filled.  False: they are to be had by GET, or not at all.
 */
struct ipt_get_entries;
bool shim_entries(int netns, __u8 family, const struct ipt_get_entries *get, void *val);

#endif
