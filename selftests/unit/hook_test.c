// SPDX-License-Identifier: GPL-2.0
/*
 * What only the module's programs do: fields that come with the call or from
 * the kernel's memory, native slots and where they go on, runs within runs.
 */
#include <linux/netfilter/nf_conntrack_common.h>

#include "hook_run.h"
#include "tap.h"

static void test_order(void)
{
	struct run r;
	bool ok = load(&r, "table ip filter\ncounters 9\n" SLOT_M(0) SLOT_M(1) SLOT_T(2)
		       "chain INPUT hook 1\n"
		       " 0: ttl == 9; native 0; proto == 17; native 1; l4 8; dport == 1 -> drop\n"
		       " 1: proto == 17 -> native 2\n"
		       " 2: -> accept\n");

	r.answers[2] = ANSWER_GO_ON;
	ok = ok && expect(&r, "udp ttl 10 dport 1", NF_ACCEPT, "1 2", "2") &&
	     expect(&r, "udp ttl 9 dport 1", NF_ACCEPT, "1 2", "0 2");
	r.answers[0] = ANSWER_MATCH;
	ok = ok && expect(&r, "udp ttl 9 dport 1", NF_ACCEPT, "1 2", "0 1 2") &&
	     expect(&r, "tcp ttl 9 dport 1", NF_ACCEPT, "2", "0");
	r.answers[1] = ANSWER_MATCH;
	ok = ok && expect(&r, "udp ttl 9 dport 1", NF_DROP, "0", "0 1") &&
	     expect(&r, "udp ttl 9 dport 2", NF_ACCEPT, "1 2", "0 1 2");
	r.answers[2] = ANSWER_VERDICT + NF_DROP;
	ok = ok && expect(&r, "udp ttl 9 dport 2", NF_DROP, "1", "0 1 2");
	r.answers[2] = ANSWER_VERDICT + NF_STOLEN;
	ok = ok && expect(&r, "udp", NF_STOLEN, "1", "2");
	tap_ok(ok, "matches in order, each after those before it; then the counter; then the target");
	unload(&r);
}

static void test_verdicts(void)
{
	struct run r;
	bool ok = load(&r, "table ip filter\ncounters 9\nchain INPUT hook 1\n"
		       " 0: ttl == 1 -> queue\n 1: ttl == 2 -> drop\n 2: -> accept\n"
		       "chain OUTPUT hook 3\n 3: ttl == 1 -> drop\n 4: -> drop\n");

	ok = ok && expect(&r, "udp ttl 1", NF_QUEUE, "0", "") &&
	     expect(&r, "udp ttl 2", NF_DROP, "1", "") && expect(&r, "udp", NF_ACCEPT, "2", "");
	r.h.hook = NF_INET_LOCAL_OUT;
	ok = ok && expect(&r, "udp ttl 1", NF_DROP, "3", "");
	r.h.hook = NF_INET_FORWARD;
	ok = ok && expect(&r, "udp ttl 1", NF_ACCEPT, "", "");
	tap_ok(ok, "verdicts, by hook");
	unload(&r);
}

static void test_changed(void)
{
	struct run r;
	bool ok = load(&r, "table ip mangle\ncounters 9\n" SLOT_M(0) SLOT_T(1)
		       "chain INPUT hook 1\n"
		       " 0: mark == 0x7 -> next\n 1: -> native 1\n 2: mark == 0x7 -> drop\n"
		       " 3: -> accept\n");

	r.answers[1] = ANSWER_GO_ON;
	ok = ok && expect(&r, "udp", NF_ACCEPT, "1 3", "1");
	r.sets_mark = 7;
	ok = ok && expect(&r, "udp", NF_DROP, "1 2", "1");
	tap_ok(ok, "what a target changes is seen by the rules behind it");
	unload(&r);
}

/* Chains with several callers, whose return slots live over native slots. */
static const char nested[] =
	"table ip filter\ncounters 20\n" SLOT_M(0) SLOT_T(1) SLOT_M(2)
	"chain INPUT hook 1\n"
	" 0: ttl == 9 -> jump 1\n 1: -> jump 1\n 2: -> jump 2\n 3: -> drop\n"
	"chain a\n"
	" 4: native 0 -> jump 2\n 5: proto == 17 -> jump 2\n 6: -> native 1\n"
	"chain b\n"
	" 7: native 2 -> return\n 8: proto == 17 -> next\n";

static void test_returns(void)
{
	struct run r, in;
	bool ok = load(&r, nested) && load(&in, nested);

	r.answers[1] = in.answers[1] = ANSWER_GO_ON;
	ok = ok && expect(&r, "udp", NF_DROP, "1 2 3 5 6 8*2", "0 2 1 2");
	r.answers[0] = ANSWER_MATCH;
	ok = ok && expect(&r, "udp", NF_DROP, "1 2 3 4 5 6 8*3", "0 2 2 1 2") &&
	     expect(&r, "tcp", NF_DROP, "1 2 3 4 6", "0 2 1 2") &&
	     expect(&r, "udp ttl 9", NF_DROP, "0 1 2 3 4*2 5*2 6*2 8*5", "0 2 2 1 0 2 2 1 2");
	r.answers[2] = ANSWER_MATCH;
	ok = ok && expect(&r, "udp", NF_DROP, "1 2 3 4 5 6 7*3", "0 2 2 1 2");
	tap_ok(ok, "chains with several callers return over native slots");

	r.within = &in;
	ok = ok && expect(&r, "udp", NF_DROP, "1 2 3 4 5 6 7*3", "0 2 2 1 2");
	tap_ok(ok, "a run of another table within the run");
	r.within = &in;
	in.h.prog = r.h.prog;	/* the same program, on its next level */
	ok = ok && expect(&r, "udp", NF_DROP, "1*6 2*6 3*6 4 5*6 6*6 7*3 8*10", "0 2 2 1 2");
	tap_ok(ok, "a run of the same program within the run");
	in.h.prog = -1;
	unload(&r);
	unload(&in);
}

static void test_devices(void)
{
	struct run r;
	bool ok = load(&r, "table ip mangle\ncounters 9\nchain FORWARD hook 2\n"
		       " 0: iface in \"in0\"; iface out \"out0\" -> next\n"
		       " 1: ! iface in \"in+\"; iface out \"in+\" -> next\n 2: -> accept\n"
		       "chain POSTROUTING hook 4\n"
		       " 3: iface in \"in0\" -> next\n 4: iface in \"\"; iface out \"out0\" -> next\n"
		       " 5: -> drop\n");

	r.h.hook = NF_INET_FORWARD;
	ok = ok && expect(&r, "udp forward", NF_ACCEPT, "0 2", "") &&
	     expect(&r, "udp back", NF_ACCEPT, "1 2", "");
	r.h.hook = NF_INET_POST_ROUTING;
	ok = ok && expect(&r, "udp forward", NF_DROP, "4 5", "");
	tap_ok(ok, "names of devices");
	unload(&r);
}

static void test_mac(void)
{
	struct run r;
	bool ok = load(&r, "table ip mangle\ncounters 9\nchain INPUT hook 1\n"
		       " 0: macok == 1; smac == 02:00:00:00:00:10 -> drop\n"
		       " 1: macok == 1 -> next\n 2: mark & 0xf0 == 0x30 -> drop\n 3: -> accept\n");

	r.h.mark = 0x3f;
	ok = ok && expect(&r, "udp", NF_DROP, "0", "") &&
	     expect(&r, "udp smac 02:00:00:00:00:11", NF_DROP, "1 2", "");
	r.h.mark = 0x4f;
	ok = ok && expect(&r, "udp smac 12:00:00:00:00:10", NF_ACCEPT, "1 3", "");
	tap_ok(ok, "source MAC, mark");
	unload(&r);
}

static void test_pkttype(void)
{
	struct run r;
	bool ok = load(&r, "table ip mangle\ncounters 9\nchain INPUT hook 1\n"
		       " 0: pkttype == 0 -> drop\n 1: pkttype == 1 -> drop\n"
		       " 2: pkttype == 2 -> drop\n 3: ! pkttype == 3 -> drop\n 4: -> accept\n");

	ok = ok && expect(&r, "udp", NF_DROP, "0", "") &&
	     expect(&r, "udp dmac bcast", NF_DROP, "1", "") &&
	     expect(&r, "udp dmac multi", NF_DROP, "2", "") &&
	     expect(&r, "udp dmac other", NF_ACCEPT, "4", "");
	tap_ok(ok, "packet type");
	unload(&r);
}

static const char ct_rules[] =
	"table ip filter\ncounters 20\nchain INPUT hook 1\n"
	" 0: ctstate == 0x1 -> next\n"			/* INVALID */
	" 1: ctstate & 0x100 -> next\n"			/* UNTRACKED */
	" 2: ctstate & 0x2 -> next\n"			/* ESTABLISHED */
	" 3: ctstate & 0x8 -> next\n"			/* NEW */
	" 4: ctstate & 0xc0 == 0x80 -> next\n"		/* DNAT */
	" 5: ct == 1; ctdir == 1 -> next\n"
	" 6: ct == 1; ctstatus & 0x8 -> next\n"		/* CONFIRMED */
	" 7: ct == 1; ctorigsrc == 1.2.3.4; ctrepldst == 5.6.7.8 -> next\n"
	" 8: ct == 1; ctproto == 17; ctorigdstport == 53; ctreplsrcport == 5353 -> next\n"
	" 9: ct == 1; ctexpire in 55-65 -> next\n"
	" 10: -> accept\n";

static void poke_tuple(int dir, const char *member, const void *v, int len)
{
	__u8 *t = hook_memory->ct + kbtf_offset("nf_conn", "tuplehash") +
		  dir * kbtf_size("nf_conntrack_tuple_hash") +
		  kbtf_offset("nf_conntrack_tuple_hash", "tuple");

	memcpy(t + kbtf_offset("nf_conntrack_tuple", member), v, len);
}

/* jiffies, which no clock of user space counts. */
static __u32 jiffies(void)
{
	char frame[64] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = frame, .data_size_in = sizeof(frame));
	struct emit e;
	int prog;

	emit_init(&e);
	call_helper(&e, BPF_FUNC_jiffies64);
	exit_(&e);
	prog = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "jiffies", "GPL", e.insns, e.n, NULL);
	emit_free(&e);
	bpf_prog_test_run_opts(prog, &o);
	close(prog);
	return o.retval;
}

static void ct_fill(void)
{
	__u64 status = IPS_CONFIRMED | IPS_DST_NAT;
	__u32 a = htonl(0x01020304), b = htonl(0x05060708), end = jiffies() + 60 * kernel_hz();
	__u16 port = htons(53), other = htons(5353);
	__u8 udp = 17;

	hook_poke(hook_memory->ct, "nf_conn", "status", &status, 8);
	hook_poke(hook_memory->ct, "nf_conn", "timeout", &end, 4);
	poke_tuple(0, "src.u3", &a, 4);
	poke_tuple(1, "dst.u3", &b, 4);
	poke_tuple(0, "dst.u", &port, 2);
	poke_tuple(1, "src.u", &other, 2);
	poke_tuple(0, "dst.protonum", &udp, 1);
}

static void test_conntrack(void)
{
	struct run r;
	bool ok = load(&r, ct_rules);

	ct_fill();
	ok = ok && expect(&r, "udp", NF_ACCEPT, "0 10", "");
	r.h.ct = 7 << 4;			/* IP_CT_UNTRACKED */
	ok = ok && expect(&r, "udp", NF_ACCEPT, "1 10", "");
	r.h.ct = XTJIT_RUN_CT | IP_CT_NEW << 4;
	ok = ok && expect(&r, "udp", NF_ACCEPT, "3 4 6 7 8 9 10", "");
	r.h.ct = XTJIT_RUN_CT | IP_CT_ESTABLISHED << 4;
	ok = ok && expect(&r, "udp", NF_ACCEPT, "2 4 6 7 8 9 10", "");
	r.h.ct = XTJIT_RUN_CT | IP_CT_ESTABLISHED_REPLY << 4;
	ok = ok && expect(&r, "udp", NF_ACCEPT, "2 4 5 6 7 8 9 10", "");
	r.h.ct = XTJIT_RUN_CT | IP_CT_RELATED_REPLY << 4;
	ok = ok && expect(&r, "udp", NF_ACCEPT, "4 5 6 7 8 9 10", "");
	tap_ok(ok, "conntrack: state, direction, entry");
	unload(&r);
}

static void test_conntrack6(void)
{
	struct run r;
	__u8 src[16] = { 0xfc, [15] = 1 }, dst[16] = { 0xfc, 1, [15] = 2 };
	bool ok = load(&r, "table ip6 filter\ncounters 9\nchain INPUT hook 1\n"
		       " 0: ct == 1; ctorigsrc6 == fc00::1; ctrepldst6 in fc01::-fc01::2 -> drop\n"
		       " 1: -> accept\n");

	ct_fill();
	poke_tuple(0, "src.u3", src, 16);
	poke_tuple(1, "dst.u3", dst, 16);
	ok = ok && expect(&r, "udp", NF_ACCEPT, "1", "");
	r.h.ct = XTJIT_RUN_CT | IP_CT_NEW << 4;
	ok = ok && expect(&r, "udp", NF_DROP, "0", "");
	tap_ok(ok, "conntrack of IPv6: addresses");
	unload(&r);
}

/* What kernels do differently. */
static void test_kernels(void)
{
	static const char mss[] = "table ip mangle\ncounters 3\nchain INPUT hook 1\n"
		" 0: proto == 6; tcpmss in 1000-1000 -> drop\n"
		" 1: proto == 6; ! tcpmss in 1000-1000 -> next\n 2: -> accept\n";
	static const char exts[] = "table ip6 mangle\ncounters 2\nchain INPUT hook 1\n"
		" 0: proto6 == 6 -> next\n 1: -> accept\n";
	const struct probe was = *probe();
	struct run r;
	bool ok;

	probe()->tcpmss_whole = false;
	ok = load(&r, mss) && expect(&r, "tcp mss 1000", NF_DROP, "0", "") &&
	     expect(&r, "tcp mss 1000 frag 20", NF_DROP, "0", "") &&
	     expect(&r, "tcp mss 999 frag 20", NF_ACCEPT, "1 2", "");
	unload(&r);
	probe()->tcpmss_whole = true;
	ok = ok && load(&r, mss) && expect(&r, "tcp mss 1000", NF_DROP, "0", "") &&
	     expect(&r, "tcp mss 1000 frag 20", NF_ACCEPT, "2", "") &&
	     expect(&r, "tcp mss 999 frag 20", NF_ACCEPT, "2", "");
	unload(&r);
	tap_ok(ok, "tcpmss and fragments");

	probe()->exthdrs = 12;
	ok = load(&r, exts) && expect(&r, "tcp exts 12", NF_ACCEPT, "0 1", "") &&
	     expect(&r, "tcp exts 13", NF_DROP, "", "");
	unload(&r);
	probe()->exthdr_checked = true;
	ok = ok && load(&r, exts) && expect(&r, "tcp ext dst", NF_ACCEPT, "0 1", "") &&
	     expect(&r, "tcp ext bad", NF_DROP, "", "");
	unload(&r);
	tap_ok(ok, "extension headers: how many, and how long");
	*probe() = was;
}

/* The header of a packet made by offloads may have no length, or another. */
static void test_length(void)
{
	struct run r4, r6;
	bool ok = load(&r4, "table ip mangle\ncounters 9\nchain INPUT hook 1\n"
		       " 0: len == 128 -> next\n 1: len == 99 -> next\n 2: -> accept\n");

	ok = ok && expect(&r4, "udp payload 100", NF_ACCEPT, "0 2", "") &&
	     expect(&r4, "udp payload 100 iplen 99", NF_ACCEPT, "1 2", "") &&
	     expect(&r4, "udp payload 100 iplen 65536", NF_ACCEPT, "0 2", "");
	for (int packet = 0; packet < 2; packet++) {
		probe()->length6_packet = packet;
		ok = ok && load(&r6, "table ip6 mangle\ncounters 9\nchain INPUT hook 1\n"
				" 0: len == 148 -> next\n 1: len == 50 -> next\n"
				" 2: len == 9 -> next\n 3: -> accept\n");
		ok = ok && expect(&r6, "udp payload 100", NF_ACCEPT, "0 3", "") &&
		     expect(&r6, "udp payload 100 iplen 10", NF_ACCEPT, packet ? "0 3" : "1 3",
			    "") &&
		     expect(&r6, "udp payload 100 iplen 65505", NF_ACCEPT,
			    packet ? "0 3" : "2 3", "");
		unload(&r6);
	}
	probe()->length6_packet = true;
	tap_ok(ok, "length: the header's, the packet's");
	unload(&r4);
}

/* Native slots in several pages; each packet goes on behind all of them. */
static void test_pages(int n)
{
	char *text, want[32];
	struct run r;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	bool ok;

	fprintf(f, "table ip filter\ncounters %d\n", n + 2);
	for (int i = 0; i < 3; i++)
		fprintf(f, "slot %d match m entry 0 ext 0 hooks 0\n", i);
	fprintf(f, "chain INPUT hook 1\n");
	for (int i = 0; i < n; i++)
		fprintf(f, " %d: proto == 6; l4 20 tcp; ttl == %d; dport == 1%s%c -> next\n", i,
			i % (n / 3) ? 10 + i % 100 : 7, i % (n / 3) ? "" : "; native ",
			i % (n / 3) ? ' ' : '0' + i / (n / 3));
	fprintf(f, " %d: -> drop\n", n);
	fclose(f);
	ok = load(&r, text);
	free(text);
	snprintf(want, sizeof(want), "%d", n);
	ok = ok && expect(&r, "tcp ttl 7 dport 1", NF_DROP, want, "0 1 2");
	r.answers[0] = r.answers[2] = ANSWER_MATCH;
	snprintf(want, sizeof(want), "0 %d %d", n / 3 * 2, n);
	ok = ok && expect(&r, "tcp ttl 7 dport 1", NF_DROP, want, "0 1 2");
	tap_ok(ok, "native slots of %d rules, over pages", n);
	unload(&r);
}

/* There is no form for these here. */
static void test_refused(void)
{
	static const char *const rules[] = {
		"-> reject 0", "-> log 0", "owner match 0x4 invert 0x0 uid 0-0 gid 0-0 -> drop",
	};
	bool ok = true;

	for (int i = 0; i < 3; i++) {
		char text[300];
		struct run r;

		snprintf(text, sizeof(text), "table ip filter\ncounters 2\n"
			 "log 0 level 4 flags 0 prefix \"\"\nchain INPUT hook 1\n 0: %s\n"
			 " 1: -> accept\n", rules[i]);
		ok &= !load(&r, text) && r.h.prog == -EOPNOTSUPP;
		unload(&r);
	}
	tap_ok(ok, "LOG, REJECT and owner are the module's");
}

int main(void)
{
	if (!env_up())
		return 1;
	test_order();
	test_verdicts();
	test_changed();
	test_returns();
	test_devices();
	test_mac();
	test_pkttype();
	test_conntrack();
	test_conntrack6();
	test_kernels();
	test_length();
	test_pages(9000);
	test_refused();
	return tap_done();
}
