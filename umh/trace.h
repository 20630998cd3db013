/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The target TRACE of table raw marks packets, and ip_tables logs each rule that
 * a marked packet matches, in all tables of the family.  While raw has such a
 * rule, programs of these tables tell the module of them, which logs; at other
 * times they cost nothing.  There are no groups in such a program: which rule
 * matched is what it is about.  The early stage is as ever: what it drops has not
 * met TRACE, for such a rule is not decided there.
 */
#ifndef XTJIT_TRACE_H
#define XTJIT_TRACE_H

#include "space.h"

/* Whether @g, to be in force in @t, is to be compiled with it. */
bool trace_wanted(const struct table *t, const struct gen *g);
/*
 * In the namespace, after a change of raw: tables whose programs are of the other
 * kind get another one, with all that the ruleset in force has.
 */
void trace_follow(struct space *s, const struct xt_family *f);

#endif
