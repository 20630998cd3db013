/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The words, numbers and names of one line of the IR's text.
 */
#ifndef XTJIT_IR_SCAN_H
#define XTJIT_IR_SCAN_H

#include "ir.h"

struct scan {
	const char *p;		/* in the current line */
	int line;
	struct ir_table *t;
	struct ir_chain *chain;
	const char *why;	/* what is wrong, if something is */
};

/* Remembers the first thing that is wrong; returns false. */
bool scan_fail(struct scan *s, const char *why);

void scan_space(struct scan *s);

/* Go past @text, if it is next: punctuation, or a whole word. */
bool scan_sign(struct scan *s, const char *text);
bool scan_word(struct scan *s, const char *text);

/* What follows must be there: without it, they return scan_fail(). */
bool scan_number(struct scan *s, __u64 max, __u64 *v);
bool scan_num32(struct scan *s, __u32 *v);
bool scan_num16(struct scan *s, __u16 *v);
bool scan_num8(struct scan *s, __u8 *v);
/* "@name N" */
bool scan_named(struct scan *s, const char *name, __u32 *v);
bool scan_named8(struct scan *s, const char *name, __u8 *v);
/* Two hexadecimal digits. */
bool scan_hex_byte(struct scan *s, __u8 *v);
/* In quotes, at most @size bytes, *len of them; *wild: with a + before the end. */
bool scan_string(struct scan *s, char *buf, size_t size, size_t *len, bool *wild);
/* NUL-terminated, in quotes or as one word. */
bool scan_name(struct scan *s, char *buf, size_t size);
/* An address of AF_INET, AF_INET6. */
bool scan_addr(struct scan *s, int af, void *v);
bool scan_mac(struct scan *s, __u64 *v);

#endif
