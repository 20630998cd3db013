// SPDX-License-Identifier: GPL-2.0
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

#define NAME 32

struct chain {
	char table[NAME], name[NAME];
	const char **rules;
	size_t n, room;
};

struct check_text {
	struct chain *chains;
	size_t n;
	size_t last;		/* the chain that was asked for last: mostly the next, too */
	char **lines;		/* what the rules point into */
	size_t nlines;
	bool unsure;		/* there are commands that are not followed here */
};

/* A word of a line; it is no text of its own. */
struct word {
	const char *s;
	size_t len;
};

/* The next word at *at, as iptables-restore splits a line. False: no more. */
static bool next_word(const char **at, struct word *w)
{
	const char *s = *at;
	char quote = 0;

	while (isspace((unsigned char)*s))
		s++;
	w->s = s;
	for (; *s && (quote || !isspace((unsigned char)*s)); s++) {
		if (*s == '\\' && s[1])
			s++;
		else if (quote ? *s == quote : *s == '"' || *s == '\'')
			quote = quote ? 0 : *s;
	}
	w->len = s - w->s;
	*at = s;
	return w->len;
}

static bool is(const struct word *w, const char *a, const char *b)
{
	return (w->len == strlen(a) && !memcmp(w->s, a, w->len)) ||
	       (w->len == strlen(b) && !memcmp(w->s, b, w->len));
}

/* iptables makes a rule of every pair in -s A,B -d C,D. */
static unsigned int rules_of(const char *rule)
{
	unsigned int n = 1;
	struct word w;

	while (next_word(&rule, &w)) {
		unsigned int k = 1;

		if (!is(&w, "-s", "--source") && !is(&w, "-d", "--destination") &&
		    !is(&w, "--src", "--dst"))
			continue;
		next_word(&rule, &w);
		if (is(&w, "!", "!"))
			next_word(&rule, &w);
		for (size_t i = 0; i < w.len; i++)
			k += w.s[i] == ',';
		n *= k;
	}
	return n;
}

static bool is_chain(const struct chain *c, const char *table, const char *name)
{
	return !strcmp(c->name, name) && !strcmp(c->table, table);
}

/* NULL if there is none. */
static struct chain *find_chain(struct check_text *t, const char *table, const char *name)
{
	if (t->last < t->n && is_chain(&t->chains[t->last], table, name))
		return &t->chains[t->last];
	for (size_t i = 0; i < t->n; i++) {
		if (!is_chain(&t->chains[i], table, name))
			continue;
		t->last = i;
		return &t->chains[i];
	}
	return NULL;
}

static struct chain *get_chain(struct check_text *t, const char *table, const struct word *w)
{
	struct chain *c, *more;
	char name[NAME] = "";

	snprintf(name, NAME, "%.*s", (int)w->len, w->s);
	c = find_chain(t, table, name);
	if (c)
		return c;
	more = realloc(t->chains, (t->n + 1) * sizeof(*more));
	if (!more)
		return NULL;
	t->chains = more;
	c = &more[t->n++];
	*c = (struct chain){};
	memcpy(c->name, name, NAME);
	snprintf(c->table, NAME, "%s", table);
	return c;
}

/* Puts @rule @k times before the rule at index @at. */
static bool insert(struct chain *c, const char *rule, unsigned int k, size_t at)
{
	if (c->n + k > c->room) {
		size_t room = (c->n + k) * 2;
		const char **rules = realloc(c->rules, room * sizeof(*rules));

		if (!rules)
			return false;
		c->rules = rules;
		c->room = room;
	}
	if (at > c->n)
		at = c->n;
	memmove(c->rules + at + k, c->rules + at, (c->n - at) * sizeof(*c->rules));
	for (unsigned int i = 0; i < k; i++)
		c->rules[at + i] = rule;
	c->n += k;
	return true;
}

/* -F: of one chain, or without a name of all in the table. */
static void flush(struct check_text *t, const char *table, const struct word *name)
{
	for (size_t i = 0; i < t->n; i++) {
		struct chain *c = &t->chains[i];

		if (!strcmp(c->table, table) && (!name->len || is(name, c->name, "")))
			c->n = 0;
	}
}

/* One command of a table; @line has a rule's counters before it, or not. */
static bool command(struct check_text *t, const char *table, const char *line)
{
	const char *rule = *line == '[' ? line + strcspn(line, "]") + 1 : line, *at = rule;
	struct word cmd, name, number;
	struct chain *c;
	size_t pos = 0;

	next_word(&at, &cmd);
	next_word(&at, &name);
	rule += strspn(rule, " ");
	if (is(&cmd, "-N", "--new-chain") || is(&cmd, "-P", "--policy") ||
	    is(&cmd, "-Z", "--zero") || is(&cmd, "-X", "--delete-chain"))
		return true;
	if (is(&cmd, "-F", "--flush")) {
		flush(t, table, &name);
		return true;
	}
	if (!is(&cmd, "-A", "--append") && !is(&cmd, "-I", "--insert")) {
		t->unsure = true;
		return true;
	}
	c = get_chain(t, table, &name);
	if (c && is(&cmd, "-A", "--append"))
		pos = c->n;
	else if (next_word(&at, &number) && isdigit((unsigned char)*number.s))
		pos = strtoul(number.s, NULL, 10) - 1;
	return c && insert(c, rule, rules_of(rule), pos);
}

static bool keep(struct check_text *t, char *line)
{
	char **lines = realloc(t->lines, (t->nlines + 1) * sizeof(*lines));

	if (!lines)
		return false;
	t->lines = lines;
	t->lines[t->nlines++] = line;
	return true;
}

static bool read_lines(struct check_text *t, FILE *in)
{
	static const struct word all;
	char table[NAME] = "", *line = NULL, *s;
	size_t room = 0;
	ssize_t len;
	bool ok = true;

	while (ok && (len = getline(&line, &room, in)) >= 0) {
		while (len && isspace((unsigned char)line[len - 1]))
			line[--len] = '\0';
		s = line + strspn(line, " \t");
		if (*s == '*') {
			snprintf(table, NAME, "%.31s", s + 1 + strspn(s + 1, " \t"));
			flush(t, table, &all);	/* a table that comes again begins anew */
		} else if (*s == '-' || *s == '[') {
			ok = keep(t, line) && command(t, table, s);
			line = NULL;
			room = 0;
		}
	}
	free(line);
	return ok;
}

struct check_text *check_text_read(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	FILE *in = copy < 0 ? NULL : fdopen(copy, "r");
	struct check_text *t = calloc(1, sizeof(*t));

	if (!in || !t || fseek(in, 0, SEEK_SET) || !read_lines(t, in)) {
		check_text_free(t);
		t = NULL;
	}
	if (in)
		fclose(in);
	else if (copy >= 0)
		close(copy);
	return t;
}

const char *check_text_find(struct check_text *t, const char *table, const char *chain,
			    unsigned int number)
{
	const struct chain *c = t->unsure ? NULL : find_chain(t, table, chain);

	return c && number <= c->n ? c->rules[number - 1] : "";
}

void check_text_free(struct check_text *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n; i++)
		free(t->chains[i].rules);
	for (size_t i = 0; i < t->nlines; i++)
		free(t->lines[i]);
	free(t->chains);
	free(t->lines);
	free(t);
}
