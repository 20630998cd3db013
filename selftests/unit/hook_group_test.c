// SPDX-License-Identifier: GPL-2.0
/*
 * Groups of rules (classify.h) in the module's programs: what a lookup has found
 * is kept while the module runs something, and made anew where that matters.
 */
#include "hook_run.h"

/*
 * A group whose lookup and dispatch are in different pages, behind so many calls
 * that the turns of main may be used up between the two.
 */
static bool group_over_turns(int calls)
{
	struct run r;
	size_t len;
	char *text;
	FILE *f = open_memstream(&text, &len);
	bool ok;

	fprintf(f, "table ip filter\ncounters 9000\nchain INPUT hook 1\n");
	for (int i = 0; i < calls; i++)
		fprintf(f, " %d: -> jump 1\n", i);
	fprintf(f, " 100: saddr == 1.1.1.1 -> accept\n 101: saddr == 1.1.1.2 -> accept\n");
	for (int i = 0; i < 6500; i++)
		fprintf(f, " %d: random 0x1 -> next\n", 102 + i);
	fprintf(f, " 7000: saddr == 10.0.0.2 -> drop\n 7001: saddr == 1.1.1.4 -> accept\n");
	fprintf(f, " 7002: -> accept\nchain c\n 7003: proto == 6 -> next\n");
	fclose(f);
	ok = load_as(&r, text, true, true);
	free(text);
	ok = ok && r.grouped.ngroups == 1;
	if (ok) {
		struct xt_counters *all;
		struct packet p;
		char words[] = "udp";

		ok = packet_build(&p, false, words) && run_hook(&r.h, &p) == NF_DROP;
		all = counters_all(&r.maps);
		ok &= all[7000].pcnt == 1;
		free(all);
	}
	unload(&r);
	return ok;
}

static void test_over_turns(void)
{
	bool ok = true;

	for (int calls = 60; ok && calls < 66; calls++) {
		ok = group_over_turns(calls);
		if (!ok)
			tap_diag("%d calls", calls);
	}
	tap_ok(ok, "a group's choice is kept where main's turns are used up");
}

/*
 * A group, and what a chain that is called between its lookup and its dispatch
 * changes; by a rule that is no member of it, and by one that is.
 */
static void test_changed(void)
{
	static const char between[] = "table ip mangle\ncounters 9\n"
		"slot 0 match m entry 0 ext 0 hooks 0\nslot 1 target MARK entry 0 ext 0 hooks 0\n"
		"chain INPUT hook 1\n"
		" 0: saddr == 1.1.1.1; mark == 0x0 -> drop\n 1: saddr == 1.1.1.2; mark == 0x0 -> drop\n"
		" 2: ! false -> jump 1\n"
		" 3: saddr == 10.0.0.2; mark == 0x7 -> drop\n 4: saddr == 1.1.1.3; mark == 0x7 -> drop\n"
		" 5: -> accept\nchain c\n 6: -> native 1\n";
	static const char member[] = "table ip mangle\ncounters 9\n"
		"slot 0 match m entry 0 ext 0 hooks 0\nslot 1 target MARK entry 0 ext 0 hooks 0\n"
		"chain INPUT hook 1\n"
		" 0: saddr == 10.0.0.2; mark == 0x7 -> accept\n 1: saddr == 1.1.1.1; mark == 0x7 -> accept\n"
		" 2: saddr == 10.0.0.2; mark == 0x0 -> jump 1\n 3: saddr == 1.1.1.1; mark == 0x0 -> jump 1\n"
		" 4: saddr == 10.0.0.2; mark == 0x7 -> drop\n 5: saddr == 1.1.1.1; mark == 0x7 -> drop\n"
		" 6: -> accept\nchain c\n 7: -> native 1\n";
	bool ok = true;

	for (int i = 0; i < 4; i++) {
		struct run r;

		ok = ok && load_as(&r, i & 1 ? member : between, true, i & 2);
		r.answers[1] = ANSWER_GO_ON;
		r.sets_mark = 7;
		ok = ok && expect(&r, "udp", NF_DROP, i & 1 ? "2 4 7" : "2 3 6", "1");
		unload(&r);
	}
	tap_ok(ok, "groups see what a target has changed");
}

/* What a lookup has found is kept while the module runs something, in one chain alone. */
static void test_kept(void)
{
	static const char target[] = "table ip filter\ncounters 9\n"
		"slot 0 target LOG entry 0 ext 0 hooks 0\nslot 1 target LOG entry 0 ext 0 hooks 0\n"
		"chain INPUT hook 1\n"
		" 0: saddr == 10.0.0.2 -> native 0\n 1: saddr == 10.0.0.3 -> native 1\n"
		" 2: saddr == 10.0.0.2 -> drop\n 3: -> accept\n";
	static const char between[] = "table ip filter\ncounters 9\n"
		"slot 0 match recent entry 0 ext 0 hooks 0\nchain INPUT hook 1\n"
		" 0: saddr == 10.0.0.3 -> drop\n 1: native 0 -> next\n 2: saddr == 10.0.0.2 -> drop\n"
		" 3: -> accept\n";
	bool ok = true;

	for (int i = 0; i < 4; i++) {
		struct run r;

		ok = ok && load_as(&r, i & 1 ? between : target, true, i & 2) && r.grouped.ngroups;
		r.answers[0] = i & 1 ? ANSWER_MATCH : ANSWER_GO_ON;
		r.answers[1] = ANSWER_GO_ON;
		ok = ok && expect(&r, "udp", NF_DROP, i & 1 ? "1 2" : "0 2", "0");
		unload(&r);
	}
	tap_ok(ok, "what a group has found is kept over native slots");
}

/* Members of a group whose targets are native; those that go on, and those that do not. */
static void test_targets(void)
{
	static const char text[] = "table ip filter\ncounters 30\n"
		"slot 0 target LOG entry 0 ext 0 hooks 0\nslot 1 target REJECT entry 0 ext 0 hooks 0\n"
		"slot 2 target LOG entry 0 ext 0 hooks 0\nslot 3 target REJECT entry 0 ext 0 hooks 0\n"
		"slot 4 match recent entry 0 ext 0 hooks 0\nchain INPUT hook 1\n"
		" 0: saddr == 10.0.0.2 -> native 0\n 1: saddr == 10.0.0.3 -> native 1\n"
		" 2: native 4; ttl == 9 -> drop\n"
		" 3: saddr == 10.0.0.0/24 -> native 2\n 4: saddr == 10.0.0.2 -> native 3\n"
		" 5: saddr == 10.0.0.4 -> queue\n 6: saddr == 10.0.0.5 -> jump 1\n 7: -> accept\n"
		"chain c\n 8: saddr == 10.0.0.5 -> native 5\n 9: saddr == 10.0.0.6 -> native 6\n"
		"chain d\n";
	bool ok = true;

	for (int i = 0; i < 4; i++) {
		char *with = NULL;
		struct run r;

		ok = ok && asprintf(&with, "%.*sslot 5 target LOG entry 0 ext 0 hooks 0\n"
				    "slot 6 target LOG entry 0 ext 0 hooks 0\n%s",
				    (int)(strstr(text, "chain INPUT") - text), text,
				    strstr(text, "chain INPUT")) > 0;
		ok = ok && load_as(&r, with, i & 1, i & 2) && (!(i & 1) || r.grouped.ngroups);
		for (int s = 0; s < 7; s++)
			r.answers[s] = s == 4 ? ANSWER_MATCH : s == 1 || s == 3 ?
				       ANSWER_VERDICT + NF_DROP : ANSWER_GO_ON;
		ok = ok && expect(&r, "udp", NF_DROP, "0 3 4", "0 4 2 3") &&
		     expect(&r, "udp ttl 9", NF_DROP, "0 2", "0 4") &&
		     expect(&r, "udp saddr 10.0.0.3", NF_DROP, "1", "1") &&
		     expect(&r, "udp saddr 10.0.0.4", NF_QUEUE, "3 5", "4 2") &&
		     expect(&r, "udp saddr 10.0.0.5", NF_ACCEPT, "3 6 7 8", "4 2 5") &&
		     expect(&r, "udp saddr 10.0.0.6", NF_ACCEPT, "3 7", "4 2") &&
		     expect(&r, "udp saddr 10.0.1.6", NF_ACCEPT, "7", "4");
		if (!ok)
			tap_diag("groups %d, old kernel %d", i & 1, i & 2);
		free(with);
		unload(&r);
	}
	tap_ok(ok, "members of a group with native targets");
}

int main(void)
{
	if (!env_up())
		return 1;
	test_over_turns();
	test_changed();
	test_kept();
	test_targets();
	return tap_done();
}
