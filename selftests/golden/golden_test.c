// SPDX-License-Identifier: GPL-2.0
/*
 * The passes: each NAME.ir, after passes_exact(), must be NAME.expect; running
 * them once more changes nothing.  Of groups*.ir all that can be is put in groups.
 *
 * usage: golden_test [--update] [FILE.ir...]; --update writes the .expect files
 */
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

#include "classify.h"
#include "compile.h"
#include "ir_string.h"
#include "tap.h"

static bool update;

/* All of a file, or NULL. */
static char *slurp(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t size = 0;

	if (!f)
		return NULL;
	if (getdelim(&text, &size, 0, f) < 0) {
		free(text);
		text = NULL;
	}
	fclose(f);
	return text;
}

static void show_difference(const char *want, const char *got)
{
	int line = 1;

	for (; *want && *want == *got; want++, got++)
		line += *want == '\n';
	while (line > 1 && want[-1] != '\n') {
		want--;
		got--;
	}
	tap_diag("line %d: %.*s", line, (int)strcspn(got, "\n"), got);
	tap_diag("not     %.*s", (int)strcspn(want, "\n"), want);
}

static void compare(const char *path, const char *got)
{
	char expect[300], *want;
	FILE *f;

	snprintf(expect, sizeof(expect), "%.*s.expect", (int)strlen(path) - 3, path);
	if (update) {
		f = fopen(expect, "we");
		tap_ok(f && fputs(got, f) >= 0 && !fclose(f), "%s: written", expect);
		return;
	}
	want = slurp(expect);
	if (!tap_ok(want && !strcmp(want, got), "%s", path))
		show_difference(want ? want : "", got);
	free(want);
}

static void test_groups(const char *path, const struct ir_table *t)
{
	static const struct cl_limits all = { .family = 1, .group = 1 };
	struct xt_err err = { 0 };
	struct ir_table grouped;
	char *text;

	if (classify(t, &all, &grouped, &err)) {
		tap_ok(false, "%s: %s", path, err.text);
		return;
	}
	text = ir_string(&grouped);
	compare(path, text);
	free(text);
	classify_free(&grouped);
}

static void test(const char *path)
{
	struct xt_err err = { 0 };
	struct ir_table t;
	char *once, *twice;
	FILE *f = fopen(path, "re");
	int ret;

	if (!f || ir_parse(f, &t, &err)) {
		tap_ok(false, "%s: %s", path, f ? err.text : strerror(errno));
		if (f)
			fclose(f);
		return;
	}
	fclose(f);
	ret = ir_check(&t, &err) ?: passes_exact(&t, &err) ?: ir_check(&t, &err);
	if (ret) {
		tap_ok(false, "%s: %s", path, err.text);
		ir_table_free(&t);
		return;
	}
	if (strstr(path, "/groups")) {
		test_groups(path, &t);
		ir_table_free(&t);
		return;
	}
	once = ir_string(&t);
	compare(path, once);
	ret = passes_exact(&t, &err);
	twice = ir_string(&t);
	tap_ok(!ret && !strcmp(once, twice), "%s: nothing is left to do", path);
	free(once);
	free(twice);
	ir_table_free(&t);
}

int main(int argc, char **argv)
{
	glob_t g;

	update = argc > 1 && !strcmp(argv[1], "--update");
	if (argc > 1 + update) {
		for (int i = 1 + update; i < argc; i++)
			test(argv[i]);
		return tap_done();
	}
	if (glob("selftests/golden/*.ir", 0, NULL, &g)) {
		tap_ok(false, "selftests/golden/*.ir: none");
		return tap_done();
	}
	for (size_t i = 0; i < g.gl_pathc; i++)
		test(g.gl_pathv[i]);
	globfree(&g);
	return tap_done();
}
