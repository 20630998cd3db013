/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The parts of `xtjit check`: iptables-restore turns a file into tables, which
 * it sets under the shim, whose helper is the command itself.
 *
 *	check.c		what becomes of each rule
 *	check_run.c	iptables-restore, run without privileges
 *	check_serve.c	its helper
 *	check_text.c	the rules' own text, from the file
 */
#ifndef XTJIT_CHECK_H
#define XTJIT_CHECK_H

#include <stdbool.h>

#include "blob.h"

/* The tables of one family, in the order of its rows. */
struct check_tables {
	const struct xt_family *family;
	bool set[XT_TABLES];		/* by iptables-restore */
	struct xt_ruleset rs[XT_TABLES];	/* if set */
	void *entries[XT_TABLES];	/* as last set, or the initial ones; NULL: not asked for yet */
	struct xt_replace_hdr h[XT_TABLES];
};

void check_tables_free(struct check_tables *t);

/* Feeds the file @input to iptables-restore. 0, or -1 with a message on stderr. */
int check_run(int input, struct check_tables *t);

/* Answers one request on @conn. */
void check_serve(int conn, struct check_tables *t);

/* The rules of a file, to be found by their place. */
struct check_text;

/* The whole of the file @fd; NULL, with errno, if it cannot be read. */
struct check_text *check_text_read(int fd);
/* "" if the file has no one line that became that rule. */
const char *check_text_find(struct check_text *t, const char *table, const char *chain,
			    unsigned int number);
void check_text_free(struct check_text *t);

#endif
