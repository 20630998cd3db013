/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What outlives the helper: maps and links pinned in bpffs, below a root that
 * is named after the helper's socket; or "module", of whoever has the module.
 *
 *   ROOT/ring, ROOT/self            what all programs share
 *   ROOT/grace                      see grace.h
 *   ROOT/COOKIE/                    a network namespace
 *     space                         its settings
 *     early-xdp, early-tc           slots of the early programs
 *     drops                         what programs drop, see drops.h
 *     xdp-IFINDEX                   links
 *     ip-filter/                    a table
 *       words                       who owns it (struct table_words)
 *       slot, seen, gate            of its programs at the hooks
 *       link-HOOK
 *       journal                     a move to or from the kernel
 *       gen-N/                      a generation: blob, base, counters, state, image
 */
#ifndef XTJIT_STATE_H
#define XTJIT_STATE_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include "err.h"

#define PIN_DIR_MAX 200		/* of any directory of ours, the NUL included */

/* Makes the root of the helper that listens on @socket (an absolute path; NULL: the module's). */
int state_init(const char *socket, struct xt_err *err);
const char *state_root(void);
/* The module's, whoever we are; and that of a helper without it. */
const char *state_module_root(void);
void state_socket_root(char out[PIN_DIR_MAX], const char *socket);

/* DIR/NAME into @out; names never have a dot (bpffs refuses those). */
void state_path(char out[PIN_DIR_MAX], const char *dir, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

int state_mkdir(const char *dir);
/* The same, with nothing in it. */
int state_mkdir_anew(const char *dir);
bool state_exists(const char *dir, const char *name);
/* Is there anything but what all namespaces share? */
bool state_has_spaces(const char *dir);
/* With all that is in it; faster, of a directory that should be empty. */
void state_remove(const char *dir);
void state_rmdir(const char *dir);
/* The root, and what is above it if nobody else's is there. */
void state_forget(void);
/* Calls @fn for each name in @dir; it may remove what it is called for. */
void state_each(const char *dir, void (*fn)(const char *dir, const char *name, void *arg),
		void *arg);

/* 0 or a negative errno; what had the name before is replaced. */
int state_pin(int fd, const char *dir, const char *name);
/* The same; at no time there is none. */
int state_replace(int fd, const char *dir, const char *name);
/* 0 or a negative errno. */
int state_unpin(const char *dir, const char *name);
/* An fd, or a negative errno. */
int state_get(const char *dir, const char *name);

/*
 * Memory that can be pinned: an array map, mmap()ed.  Up to 4096 bytes it has
 * one entry, which programs can address directly.
 */
struct pmem {
	int fd;
	void *p;
	size_t len;
	bool frozen;		/* for reading only */
};

#define PMEM_NONE { .fd = -1 }

/* Zeroed memory of @len bytes. */
int pmem_create(struct pmem *m, const char *name, size_t len, struct xt_err *err);
/*
 * The same, but what is in it is whatever was; all but the last page is to be
 * written to.  Taken from what pmem_spare() was given, where there is such a one.
 */
int pmem_create_dirty(struct pmem *m, const char *name, size_t len, struct xt_err *err);
/*
 * Closes @m, which nobody but us has any more, or keeps it for a second or two;
 * @name, a literal, is that with which it was created.
 */
void pmem_spare(struct pmem *m, const char *name);
/* Once a second. */
void pmem_tick(void);
/* Maps what DIR/NAME pins, of at least @min bytes; for reading only if it is frozen. */
int pmem_open(struct pmem *m, const char *dir, const char *name, size_t min);
/* From now on nobody can write to the map, who has an fd of it or will. 0 or a negative errno. */
int pmem_freeze(struct pmem *m);
/* Maps a map whose fd stays the caller's (m->fd is -1). */
int pmem_map(struct pmem *m, int fd);
void pmem_close(struct pmem *m);

#endif
