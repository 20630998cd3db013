// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ir_scan.h"

bool scan_fail(struct scan *s, const char *why)
{
	if (!s->why)
		s->why = why;
	return false;
}

void scan_space(struct scan *s)
{
	while (*s->p == ' ' || *s->p == '\t')
		s->p++;
}

/* Punctuation: @text, whatever follows it. */
bool scan_sign(struct scan *s, const char *text)
{
	size_t len = strlen(text);

	scan_space(s);
	if (strncmp(s->p, text, len))
		return false;
	s->p += len;
	return true;
}

/* A word: @text, not followed by more of a word. */
bool scan_word(struct scan *s, const char *text)
{
	const char *start = s->p;

	if (scan_sign(s, text) && !isalnum((unsigned char)*s->p) && *s->p != '_')
		return true;
	s->p = start;
	return false;
}

bool scan_number(struct scan *s, __u64 max, __u64 *v)
{
	char *end;

	scan_space(s);
	if (!isdigit((unsigned char)*s->p))
		return scan_fail(s, "a number is expected");
	errno = 0;
	*v = strtoull(s->p, &end, 0);
	if (errno || *v > max)
		return scan_fail(s, "number too large");
	s->p = end;
	return true;
}

bool scan_num32(struct scan *s, __u32 *v)
{
	__u64 n;

	if (!scan_number(s, UINT32_MAX, &n))
		return false;
	*v = n;
	return true;
}

bool scan_num16(struct scan *s, __u16 *v)
{
	__u64 n;

	if (!scan_number(s, UINT16_MAX, &n))
		return false;
	*v = n;
	return true;
}

bool scan_num8(struct scan *s, __u8 *v)
{
	__u64 n;

	if (!scan_number(s, UINT8_MAX, &n))
		return false;
	*v = n;
	return true;
}

/* "@name N" */
bool scan_named(struct scan *s, const char *name, __u32 *v)
{
	return scan_word(s, name) ? scan_num32(s, v) : scan_fail(s, "a word is missing");
}

bool scan_named8(struct scan *s, const char *name, __u8 *v)
{
	return scan_word(s, name) ? scan_num8(s, v) : scan_fail(s, "a word is missing");
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

bool scan_hex_byte(struct scan *s, __u8 *v)
{
	int hi = hex_digit(s->p[0]), lo = hi < 0 ? -1 : hex_digit(s->p[1]);

	if (lo < 0)
		return scan_fail(s, "two digits 0-9a-f are expected");
	*v = hi << 4 | lo;
	s->p += 2;
	return true;
}

/* What print_string() writes: at most @size bytes; *wild: a + was before the end. */
bool scan_string(struct scan *s, char *buf, size_t size, size_t *len, bool *wild)
{
	*len = 0;
	*wild = false;
	if (!scan_sign(s, "\""))
		return scan_fail(s, "a string is expected");
	while (*s->p != '"') {
		if (!*s->p)
			return scan_fail(s, "string without end");
		if (s->p[0] == '+' && s->p[1] == '"') {
			*wild = true;
			s->p++;
			continue;
		}
		if (*len == size)
			return scan_fail(s, "string too long");
		if (s->p[0] == '\\' && s->p[1] == 'x') {
			s->p += 2;
			if (!scan_hex_byte(s, (__u8 *)&buf[*len]))
				return false;
		} else {
			buf[*len] = *s->p++;
		}
		++*len;
	}
	s->p++;
	return true;
}

/* A NUL-terminated name, in quotes or as one word. */
bool scan_name(struct scan *s, char *buf, size_t size)
{
	size_t len = 0;
	bool wild = false;

	memset(buf, 0, size);
	scan_space(s);
	if (*s->p == '"')
		return scan_string(s, buf, size - 1, &len, &wild) &&
		       (!wild || scan_fail(s, "+ at the end of a name"));
	while (*s->p && !isspace((unsigned char)*s->p)) {
		if (len == size - 1)
			return scan_fail(s, "name too long");
		buf[len++] = *s->p++;
	}
	return len || scan_fail(s, "a name is expected");
}

/* The characters that an address is made of, as a string. */
bool scan_addr(struct scan *s, int af, void *v)
{
	char buf[INET6_ADDRSTRLEN];
	size_t len;

	scan_space(s);
	len = strspn(s->p, "0123456789abcdef.:");
	if (len >= sizeof(buf))
		return scan_fail(s, "not an address");
	memcpy(buf, s->p, len);
	buf[len] = 0;
	if (inet_pton(af, buf, v) != 1)
		return scan_fail(s, "not an address");
	s->p += len;
	return true;
}

bool scan_mac(struct scan *s, __u64 *v)
{
	scan_space(s);
	*v = 0;
	for (int i = 0; i < 6; i++) {
		__u8 b;

		if (i && *s->p++ != ':')
			return scan_fail(s, "not a MAC address");
		if (!scan_hex_byte(s, &b))
			return false;
		*v = *v << 8 | b;
	}
	return true;
}
