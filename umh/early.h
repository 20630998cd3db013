/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The early stage of one network namespace: keeps its programs attached to the
 * devices that own their layer 3, and in step with the tables.
 *
 * Around a change of a table's generation: early_build() first, which may fail
 * without harm; then early_stop(), the change, early_start().  A helper that
 * dies in between leaves the early stage off, never on with old rules.  Of changes
 * that follow each other fast, all but the first leave it off until it is quiet.
 */
#ifndef XTJIT_EARLY_H
#define XTJIT_EARLY_H

#include "space.h"

enum { EARLY_FLAVORS = 2 };	/* enum early_flavor */

/* Programs of one family, for each flavor; -1: it would drop nothing. */
struct early_progs {
	int prog[EARLY_FLAVORS];
	bool later;		/* they are not built yet */
};

/* To be called once, at home; after loop_init(). 0 or a negative errno. */
int early_init(struct xt_err *err);
void early_exit(void);

/* Whether there are programs of the family, which count in its tables: until early_start(). */
bool early_runs(const struct space *s, const struct xt_family *f);

/* Builds them over the tables as they are, but @g in place of @t's generation. */
void early_build(struct space *s, const struct xt_family *f, const struct table *t,
		 const struct gen *g, struct early_progs *p);
void early_stop(struct space *s, const struct xt_family *f);
/* Takes @p over. */
void early_start(struct space *s, const struct xt_family *f, struct early_progs *p);

/* What was left for later: of @s, in the namespace; and of all, at home. */
void early_settle(struct space *s);
void early_settle_all(void);

/* Builds and starts both families anew, whatever has changed. */
void early_refresh(struct space *s);
/* The same, if anything has changed that matters to it: after a change of the kernel's tables. */
void early_changed(struct space *s);
/* Once a second: for such changes by others, which nobody tells us of; and for what devices receive. */
void early_tick(struct space *s);
/* Whether it is on any device, be it at rest. */
bool early_has_devices(const struct space *s);

/* Takes over what is pinned below s->dir. */
void early_recover(struct space *s);
/* Empties the programs that are pinned below @dir, wherever they are attached; unpins them. */
void early_unpin(const char *dir);
/* In the namespace: takes everything off its devices, and unpins it. */
void early_remove(struct space *s);
/* @drop: also unpins everything, which takes XDP programs off. */
void early_close(struct space *s, bool drop);

/* Text for STATUS; and a listing of one family's program. */
void early_status(struct space *s, FILE *out);
int early_listing(struct space *s, const struct xt_family *f, FILE *out, struct xt_err *err);

#endif
