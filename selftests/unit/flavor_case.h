/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Cases: tables, packets, and what must become of them.
 *
 *   case NAME
 *   fact conntrack helpers foreign nat fib source_check	of struct early_facts
 *   live						not by BPF_PROG_TEST_RUN
 *   routes					it looks at the namespace's routes: not as for
 *						Linux 6.1, and test runs of type NETFILTER
 *						have no namespace
 *   table ip filter					the IR's text (ir_text.h) of each
 *   ...						table, in the order of the path
 *   > WORDS => VERDICT [COUNTER...] [early|up]
 *   sh COMMAND					in the namespace, which it leaves as it was
 *						at the case's end
 *
 * WORDS: flavor_pkt.h; or "hook N" before them: at that hook of the exact stage
 * only.  VERDICT: accept, drop; bad: ip_rcv() or ipv6_rcv() refuses it, so no
 * stage may count it.  COUNTER: N, TABLE.N; N*K: K times, all others must not
 * change.  early: the early stage must drop it; up: it must not.
 */
#ifndef XTJIT_FLAVOR_CASE_H
#define XTJIT_FLAVOR_CASE_H

#include "flavor_env.h"

#define CASE_TABLES 8
#define CASE_STEPS 64
#define CASE_COUNTERS 64

enum verdict { V_DROP, V_ACCEPT, V_BAD };

struct step {
	const char *line;	/* for messages */
	struct packet p;
	int hook;		/* -1: the whole path */
	enum verdict verdict;
	int sleep;		/* ms; then there is no packet */
	char *sh;		/* a command instead */
	bool early, up;
	__u8 count[CASE_TABLES][CASE_COUNTERS];
};

struct test_case {
	char name[80];
	bool v6, live, routes;
	struct early_facts facts;
	int ntables, nsteps;
	char *text[CASE_TABLES];
	struct ir_table ir[CASE_TABLES], exact[CASE_TABLES];
	struct step *steps;	/* CASE_STEPS */
};

static bool fact(struct early_facts *f, char *words)
{
	char *save = NULL, *w;

	for (w = strtok_r(words, " \n", &save); w; w = strtok_r(NULL, " \n", &save))
		if (!strcmp(w, "conntrack"))
			f->conntrack = true;
		else if (!strcmp(w, "helpers"))
			f->helpers = true;
		else if (!strcmp(w, "foreign"))
			f->foreign = true;
		else if (!strcmp(w, "nat"))
			f->nat = true;
		else if (!strcmp(w, "fib"))
			f->fib = true;
		else if (!strcmp(w, "source_check"))
			f->source_check = true;
		else
			return false;
	return true;
}

/* Adds a line to the text of the last table; its first one begins another. */
static bool table_line(struct test_case *c, const char *line)
{
	char *t;

	if (!strncmp(line, "table ", 6)) {
		if (c->ntables == CASE_TABLES)
			return false;
		c->v6 = !strncmp(line, "table ip6 ", 10);
		if (asprintf(&t, "%scounters %d\n", line, CASE_COUNTERS) < 0)
			return false;
		c->text[c->ntables++] = t;
		return true;
	}
	if (!c->ntables || asprintf(&t, "%s%s", c->text[c->ntables - 1], line) < 0)
		return false;
	free(c->text[c->ntables - 1]);
	c->text[c->ntables - 1] = t;
	return true;
}

static int table_named(const struct test_case *c, const char *name, size_t len)
{
	for (int i = 0; i < c->ntables; i++)
		if (strlen(c->ir[i].table->name) == len && !memcmp(c->ir[i].table->name, name, len))
			return i;
	return -1;
}

/* "N", "TABLE.N", "N*K" */
static bool expect_counter(const struct test_case *c, struct step *s, const char *w)
{
	const char *dot = strchr(w, '.');
	int table = dot ? table_named(c, w, dot - w) : 0, n, k = 1;

	if (table < 0 || sscanf(dot ? dot + 1 : w, "%d*%d", &n, &k) < 1)
		return false;
	if (n < 0 || n >= CASE_COUNTERS)
		return false;
	s->count[table][n] = k;
	return true;
}

static bool expect(const struct test_case *c, struct step *s, char *words)
{
	char *save = NULL, *w = strtok_r(words, " \n", &save);

	if (!w || (strcmp(w, "drop") && strcmp(w, "accept") && strcmp(w, "bad")))
		return false;
	s->verdict = *w == 'd' ? V_DROP : *w == 'a' ? V_ACCEPT : V_BAD;
	while ((w = strtok_r(NULL, " \n", &save)))
		if (!strcmp(w, "early"))
			s->early = true;
		else if (!strcmp(w, "up"))
			s->up = true;
		else if (!expect_counter(c, s, w))
			return false;
	return true;
}

/* All tables are there: as they are, and as the exact stage has them. */
static bool case_tables(struct test_case *c, struct xt_err *err)
{
	for (int i = 0; i < c->ntables; i++)
		if (parse_ir(c->text[i], &c->ir[i], err) ||
		    parse_ir(c->text[i], &c->exact[i], err) ||
		    passes_exact(&c->exact[i], err))
			return false;
	c->facts.nlocal = c->facts.fib ? 0 : 2;
	c->facts.local = c->v6 ? local_ip6 : local_ip;
	return true;
}

static bool step_line(struct test_case *c, const char *line)
{
	struct step *s = &c->steps[c->nsteps];
	char *copy = strdup(line), *words = copy, *arrow = strstr(copy, "=>");
	bool ok = arrow && c->nsteps < CASE_STEPS;
	int n = 0;

	s->line = strndup(line, strcspn(line, "\n"));
	s->hook = -1;
	if (ok) {
		*arrow = 0;
		if (sscanf(words, " hook %d%n", &s->hook, &n) == 1)
			words += n;
		ok = packet_build(&s->p, c->v6, words) && expect(c, s, arrow + 2);
	}
	c->nsteps += ok;
	free(copy);
	return ok;
}

static bool sleep_line(struct test_case *c, const char *line)
{
	struct step *s = &c->steps[c->nsteps++];

	s->line = strndup(line, strcspn(line, "\n"));
	s->hook = -1;
	s->sleep = atoi(line);
	return c->nsteps < CASE_STEPS;
}

static bool sh_line(struct test_case *c, const char *line)
{
	struct step *s = &c->steps[c->nsteps++];

	s->line = strndup(line, strcspn(line, "\n"));
	s->sh = strndup(line, strcspn(line, "\n"));
	s->hook = -1;
	return c->nsteps < CASE_STEPS;
}

static bool case_line(struct test_case *c, char *line, struct xt_err *err)
{
	if (!strncmp(line, "fact ", 5))
		return fact(&c->facts, line + 5);
	if (!strcmp(line, "live\n"))
		return c->live = true;
	if (!strcmp(line, "routes\n"))
		return c->routes = true;
	if (*line != '>' && strncmp(line, "sleep ", 6) && strncmp(line, "sh ", 3))
		return table_line(c, line);
	if (!c->nsteps && !c->ir[0].table && !case_tables(c, err))
		return false;
	if (!strncmp(line, "sh ", 3))
		return sh_line(c, line + 3);
	return *line == '>' ? step_line(c, line + 1) : sleep_line(c, line + 6);
}

static void case_free(struct test_case *c)
{
	for (int i = 0; i < c->ntables; i++) {
		if (c->ir[i].table)
			ir_table_free(&c->ir[i]);
		if (c->exact[i].table)
			ir_table_free(&c->exact[i]);
		free(c->text[i]);
	}
	for (int i = 0; i < c->nsteps; i++) {
		free((char *)c->steps[i].line);
		free(c->steps[i].sh);
	}
	free(c->steps);
}

/*
 * The next case of @in, whose last line is in @line: 1; 0 at the end; negative
 * if it is wrong, with the reason in @err.
 */
static int case_read(FILE *in, struct test_case *c, char **line, size_t *size, struct xt_err *err)
{
	memset(c, 0, sizeof(*c));
	while (!*line || strncmp(*line, "case ", 5))
		if (getline(line, size, in) < 0)
			return 0;
	c->steps = calloc(CASE_STEPS + 1, sizeof(*c->steps));
	snprintf(c->name, sizeof(c->name), "%.*s", (int)strcspn(*line + 5, "\n"), *line + 5);
	while (getline(line, size, in) >= 0) {
		if (!strncmp(*line, "case ", 5))
			return 1;
		if (**line == '#' || **line == '\n')
			continue;
		if (!case_line(c, *line, err))
			return xt_fail(err, -EINVAL, "case %s: bad line %s", c->name, *line);
	}
	**line = 0;
	return 1;
}

#endif
