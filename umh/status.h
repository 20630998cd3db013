/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Texts for people: STATUS and DUMP.
 */
#ifndef XTJIT_STATUS_H
#define XTJIT_STATUS_H

#include <stdio.h>

#include "family.h"
#include "err.h"

/* Of one namespace; @f NULL: of both families. 0 or a negative errno. */
int status_text(__u64 cookie, const struct xt_family *f, FILE *out);

/* @arg: struct xtjit_dump of @len bytes. */
int status_dump(__u64 cookie, const struct xt_family *f, const void *arg, __u64 len, FILE *out,
		struct xt_err *err);

#endif
