/* SPDX-License-Identifier: GPL-2.0 */
#ifndef XTJIT_LISTING_H
#define XTJIT_LISTING_H

#include <stdio.h>

struct cg;

/* Writes the program's instructions as text, a line each, functions by name. */
void listing_print(FILE *out, const struct cg *g);

#endif
