// SPDX-License-Identifier: GPL-2.0
/*
 * Programs that tell the module of each rule that a traced packet matches: which,
 * when, and that all else is as without.
 */
#include "hook_run.h"

static const char nested[] =
	"table ip filter\ncounters 20\n" SLOT_M(0) SLOT_T(1)
	"chain INPUT hook 1\n"
	" 0: ttl == 9; native 0 -> jump 1\n 1: saddr == 10.0.0.2 -> jump 1\n"
	" 2: saddr == 10.0.0.3 -> jump 1\n 3: proto == 6 -> goto 1\n 4: -> drop\n"
	"chain a\n"
	" 5: ttl == 9 -> jump 2\n 6: proto == 17 -> jump 2\n 7: -> native 1\n 8: -> return\n"
	"chain b\n"
	" 9: proto == 17; l4 8; dport == 1 -> return\n 10: false -> drop\n"
	" 11: saddr == 10.0.0.8 -> drop\n 12: saddr == 10.0.0.9 -> drop\n 13: -> next\n"
	" 14: -> return\n";

static void test_order(int how)
{
	bool groups = how & 1, old = how & 2;
	struct run r;
	bool ok = load_how(&r, nested, groups, old, true) && (!groups || r.grouped.ngroups);

	r.answers[1] = ANSWER_GO_ON;
	r.h.traced = true;
	ok = ok && expect(&r, "udp", NF_DROP, "1 4 6 7 8 13 14", "r1 r6 r13 r14 r7 1 r8 r4") &&
	     expect(&r, "udp dport 1", NF_DROP, "1 4 6 7 8 9", "r1 r6 r9 r7 1 r8 r4") &&
	     expect(&r, "tcp", NF_DROP, "1 3 4 7*2 8*2", "r1 r7 1 r8 r3 r7 1 r8 r4") &&
	     expect(&r, "udp ttl 9 dport 1", NF_DROP, "1 4 5 6 7 8 9*2",
		    "0 r1 r5 r9 r6 r9 r7 1 r8 r4");
	r.answers[0] = ANSWER_MATCH;
	ok = ok && expect(&r, "udp ttl 9 dport 1", NF_DROP, "0 1 4 5*2 6*2 7*2 8*2 9*4",
			  "0 r0 r5 r9 r6 r9 r7 1 r8 r1 r5 r9 r6 r9 r7 1 r8 r4");
	r.answers[1] = ANSWER_VERDICT + NF_STOLEN;
	ok = ok && expect(&r, "udp dport 1", NF_STOLEN, "1 6 7 9", "r1 r6 r9 r7 1");
	r.h.traced = false;
	ok = ok && expect(&r, "udp dport 1", NF_STOLEN, "1 6 7 9", "1");
	tap_ok(ok, "behind the matches, before the target; untraced packets as ever%s%s",
	       groups ? "; of rules in groups" : "", old ? "; old kernels" : "");
	unload(&r);
}

/* What a rule's target does to a packet: it is traced from there on. */
static int mark(struct hook *h, __u32 slot, struct packet *p)
{
	int a = answer(h, slot, p);

	h->traced |= !slot;
	return a;
}

static void test_target(void)
{
	struct run r;
	bool ok = load_how(&r, "table ip6 raw\ncounters 9\n" SLOT_T(0) "chain PREROUTING hook 0\n"
			   " 0: ttl == 9 -> next\n 1: ttl == 9 -> native 0\n 2: ttl == 9 -> next\n"
			   " 3: -> accept\n", false, false, true);

	r.h.hook = 0;
	r.h.answer = mark;
	r.answers[0] = ANSWER_GO_ON;
	ok = ok && expect(&r, "udp ttl 8", NF_ACCEPT, "3", "") &&
	     expect(&r, "udp ttl 9", NF_ACCEPT, "0 1 2 3", "0 r2 r3");
	tap_ok(ok, "from the rule behind TRACE on");
	unload(&r);
}

static void test_hotdrop(void)
{
	struct run r;
	bool ok = load_how(&r, "table ip filter\ncounters 9\nchain INPUT hook 1\n"
			   " 0: proto == 6; l4 20 tcp -> next\n 1: -> accept\n", false, false, true);

	r.h.traced = true;
	ok = ok && expect(&r, "tcp l4 10", NF_DROP, "", "") &&
	     expect(&r, "tcp", NF_ACCEPT, "0 1", "r0 r1");
	tap_ok(ok, "a match that drops the packet is no rule met");
	unload(&r);
}

/* A run of the same program while its line is logged (to a netconsole). */
static void test_within(int old)
{
	struct run r, in;
	bool ok = load_how(&r, nested, false, old, true) &&
		  load_how(&in, nested, false, old, true);
	int own = in.h.prog;

	r.answers[1] = in.answers[1] = ANSWER_GO_ON;
	r.h.traced = in.h.traced = true;
	r.within = &in;
	in.h.prog = r.h.prog;
	ok = ok && expect(&r, "udp", NF_DROP, "1*9 4*9 6*9 7*9 8*9 13*9 14*9",
			  "r1 r6 r13 r14 r7 1 r8 r4");
	tap_ok(ok, "runs of the same program within the run%s", old ? "; old kernels" : "");
	in.h.prog = own;
	unload(&r);
	unload(&in);
}

/* @n rules in chains of 100, over pages; a traced packet matches one of each chain's. */
static void test_pages(int n, bool old)
{
	int chains = n / 100, lines = 0, k = 0;
	struct run r;
	char *text, words[] = "udp ttl 7";
	struct packet p;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	bool ok;

	fprintf(f, "table ip filter\ncounters %d\nchain INPUT hook 1\n", n + chains + 1);
	for (int i = 0; i < chains; i++)
		fprintf(f, " %d: -> jump %d\n", k++, i + 1);
	fprintf(f, " %d: -> drop\n", k++);
	for (int i = 0; i < chains; i++) {
		fprintf(f, "chain c%d\n", i);
		for (int m = 0; m < 100; m++)
			fprintf(f, " %d: ttl == %d; ! len == %d -> next\n", k++, m, m);
	}
	fclose(f);
	ok = load_how(&r, text, false, old, true);
	free(text);
	ok = ok && packet_build(&p, false, words) && run_hook(&r.h, &p) == NF_DROP &&
	     !r.h.yields;
	r.h.traced = true;
	ok = ok && run_hook(&r.h, &p) == NF_DROP;
	lines = r.h.yields;
	tap_ok(ok && lines == 2 * chains + 1, "%d lines of %d rules, over pages%s", lines, n,
	       old ? "; old kernels" : "");
	unload(&r);
}

int main(void)
{
	if (!env_up())
		return 1;
	for (int how = 0; how < 4; how++)
		test_order(how);
	test_target();
	test_hotdrop();
	test_within(false);
	test_within(true);
	test_pages(10000, false);
	test_pages(10000, true);
	return tap_done();
}
