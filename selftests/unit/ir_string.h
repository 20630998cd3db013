/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tables of the IR as text, in memory.
 */
#ifndef XTJIT_IR_STRING_H
#define XTJIT_IR_STRING_H

#include <stdio.h>
#include <string.h>

#include "ir.h"

/* ir_print(), malloc()ed. */
__attribute__((unused))
static char *ir_string(const struct ir_table *t)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	ir_print(f, t);
	fclose(f);
	return text;
}

/* ir_parse() */
__attribute__((unused))
static int ir_parse_string(const char *text, struct ir_table *t, struct xt_err *err)
{
	FILE *f = fmemopen((void *)text, strlen(text), "r");
	int ret = ir_parse(f, t, err);

	fclose(f);
	return ret;
}

#endif
