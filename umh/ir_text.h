/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The words of the IR's text form, shared by its printer and its parser.
 *
 *   line:       table FAMILY NAME | counters N
 *               log N level N flags N prefix STRING
 *               limit N avg N burst N | nth N every N first N
 *               slot N match|target NAME entry N ext N hooks N
 *               chain NAME [hook N]
 *               COUNTER: [PREDICATE; ...] -> ACTION
 *   predicate:  [!] TEST, "!" for inverted
 *   test:       FIELD [& MASK] == VALUE[/PREFIX], or in VALUE-VALUE
 *               FIELD & MASK			some bit of MASK is set
 *               proto6 == N
 *               iface in|out "NAME", "NAME+" or NAMEHEX/MASKHEX
 *               l4 BYTES [tcp]
 *               ports src|dst|any in RANGE,...
 *               tcpopt N | tcpmss in N-N
 *               limit N | nth N period N | random N
 *               owner match N invert N uid N-N gid N-N | native N | false
 *   action:     next accept drop return defer queue, jump|goto CHAIN,
 *               log|reject|native N
 *
 * "#" begins a comment.
 */
#ifndef XTJIT_IR_TEXT_H
#define XTJIT_IR_TEXT_H

#include "ir.h"

extern const char *const ir_field_name[IR_NFIELDS];
extern const char *const ir_field6_name[IR6_NFIELDS];
extern const char *const ir_action_name[IR_NACTIONS];

/* It has a number: ir_rule.arg. */
bool ir_action_has_arg(enum ir_action_kind a);

/* True of IPv4 addresses, which are written as such. */
bool ir_field_is_addr(enum ir_field f);

#endif
