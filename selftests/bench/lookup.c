// SPDX-License-Identifier: GPL-2.0
/*
 * Nanoseconds per packet of the early program alone, by BPF_PROG_TEST_RUN, beyond
 * a program that drops everything; each packet is of a random rule's keys.
 *
 *	program that copies the headers of a random key into the frame
 *	    -> tail call: the early program, XDP, IPv4, raw PREROUTING
 *
 * usage: lookup [-p] [SHAPE [N...]]; -p: as the rules are, without groups
 */
#include <sys/mman.h>
#include <time.h>

#include "classify.h"
#include "emit.h"
#include "flavor_env.h"
#include "prng.h"
#include "tap.h"

#define KEYS (1 << 17)
#define HEADERS 28		/* what a key is: IP header, ports and more */
#define REPEAT 200000
#define RUNS 15

/* What distinguishes a rule; 0: any. */
struct tuple {
	__u32 s, d;
	int slen, dlen, proto, port, port2;
};

static __u32 addr(__u32 i, int len)
{
	return (i * 2654435761u ^ 0x0b000000u) & (len ? ~0u << (32 - len) : 0u);
}

static void make(struct tuple *t, const char *shape, __u32 i)
{
	static const int lens[] = { 24, 22, 24, 16, 20, 32, 24, 23, 19, 32, 21, 18, 17, 15, 28 };

	*t = (struct tuple){ 0 };
	if (!strcmp(shape, "source")) {
		t->slen = 32;
	} else if (!strcmp(shape, "port")) {
		t->slen = 32;
		t->proto = 17;
		t->port = 1 + i % 60000;
	} else if (!strcmp(shape, "prefix")) {
		t->slen = lens[prng(15)];
	} else {			/* mixed */
		int kind = prng(10);

		if (kind < 5)
			t->slen = lens[prng(15)];
		if (kind >= 4 && kind < 8)
			t->dlen = kind == 4 ? 32 : lens[prng(15)];
		if (kind >= 6) {
			t->proto = prng(2) ? 6 : 17;
			t->port = 1 + prng(60000);
			if (kind == 9)
				t->port2 = t->port + prng(500);
		}
		if (kind >= 8)
			t->slen = 24;
	}
	t->s = addr(i + 1, t->slen);
	t->d = addr(i * 7 + 3, t->dlen);
}

static void put_addr(FILE *f, const char *name, __u32 a, int len)
{
	if (len)
		fprintf(f, "%s == %u.%u.%u.%u/%d; ", name, a >> 24, a >> 16 & 255, a >> 8 & 255,
			a & 255, len);
}

static char *text_of(const struct tuple *t, __u32 n)
{
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	fprintf(f, "table ip raw\ncounters %u\nchain PREROUTING hook 0\n", n + 1);
	for (__u32 i = 0; i < n; i++) {
		long at;

		fprintf(f, "%u: ", i);
		put_addr(f, "saddr", t[i].s, t[i].slen);
		put_addr(f, "daddr", t[i].d, t[i].dlen);
		if (t[i].proto)
			fprintf(f, "proto == %d; l4 %s; ", t[i].proto,
				t[i].proto == 6 ? "20 tcp" : "8");
		if (t[i].port2)
			fprintf(f, "dport in %d-%d; ", t[i].port, t[i].port2);
		else if (t[i].port)
			fprintf(f, "dport == %d; ", t[i].port);
		at = ftell(f);
		fseek(f, at - 2, SEEK_SET);
		fputs(" -> drop\n", f);
	}
	fprintf(f, "%u: -> drop\n", n);
	fclose(f);
	return text;
}

static void headers(const struct tuple *t, __u8 *h)
{
	struct packet p;
	char words[200];
	__u32 s = t->s | (t->slen ? prng(~0u) & ((1ull << (32 - t->slen)) - 1) : prng(~0u));
	__u32 d = t->d | (t->dlen ? prng(~0u) & ((1ull << (32 - t->dlen)) - 1) : prng(~0u));

	snprintf(words, sizeof(words), "%s saddr %u.%u.%u.%u daddr %u.%u.%u.%u dport %u l4 20",
		 t->proto == 6 ? "tcp" : "udp", s >> 24, s >> 16 & 255, s >> 8 & 255, s & 255,
		 d >> 24, d >> 16 & 255, d >> 8 & 255, d & 255, t->port ? t->port : (int)prng(65536));
	packet_build(&p, false, words);
	memcpy(h, p.frame + 14, HEADERS);
}

/* The program that puts keys into frames, and the map of them. */
static int feeder(int keys, int next)
{
	LIBBPF_OPTS(bpf_prog_load_opts, o, .expected_attach_type = BPF_XDP);
	struct emit e;
	__u32 out;
	int fd;

	emit_init(&e);
	out = new_label(&e);
	mov(&e, R6, R1);
	call_helper(&e, BPF_FUNC_get_prandom_u32);
	alui(&e, BPF_AND, R0, KEYS - 1);
	alui(&e, BPF_LSH, R0, 5);
	ldmapvalue(&e, R7, keys, 0);
	alu(&e, BPF_ADD, R7, R0);
	ld(&e, U32, R1, R6, offsetof(struct xdp_md, data));
	ld(&e, U32, R2, R6, offsetof(struct xdp_md, data_end));
	mov(&e, R3, R1);
	alui(&e, BPF_ADD, R3, 14 + HEADERS);
	jmp(&e, BPF_JGT, R3, R2, out);
	for (int i = 0; i < HEADERS; i += 4) {
		ld(&e, U32, R3, R7, i);
		st(&e, U32, R1, 14 + i, R3);
	}
	mov(&e, R1, R6);
	ldmap(&e, R2, next);
	movi(&e, R3, 0);
	call_helper(&e, BPF_FUNC_tail_call);
	place(&e, out);
	movi(&e, R0, 0);
	exit_(&e);
	emit_finish(&e, NULL);
	fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "feeder", "GPL", e.insns, e.n, &o);
	emit_free(&e);
	return fd;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

struct bench {
	int keys, next, feeder;
	__u8 *map;
};

static double once(const struct bench *b, int prog)
{
	struct packet p;
	char words[] = "tcp";
	__u32 zero = 0;

	packet_build(&p, false, words);
	struct xdp_md md = { .data_end = p.len, .ingress_ifindex = net.ifindex[NET_IN] };
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = p.frame, .data_size_in = p.len,
		    .ctx_in = &md, .ctx_size_in = sizeof(md), .repeat = REPEAT);

	if (bpf_map_update_elem(b->next, &zero, &prog, 0) ||
	    bpf_prog_test_run_opts(b->feeder, &o))
		return 1e9;
	if (o.retval != XDP_DROP)
		printf("# not dropped: %u\n", o.retval);
	return o.duration;
}

/* ns a packet beyond the base program, in turn: the least of each. */
static double run(const struct bench *b, int prog, int base)
{
	double best[2] = { 1e9, 1e9 };

	for (int i = 0; i < RUNS; i++) {
		double x = once(b, prog), y = once(b, base);

		best[0] = x < best[0] ? x : best[0];
		best[1] = y < best[1] ? y : best[1];
	}
	return best[0] - best[1];
}

static int load(const char *text, bool plain, struct ir_table *ir, struct ir_table *grouped,
		struct table_maps *m, double *took, struct xt_err *err)
{
	const struct compile_env env = { .ring = net.ring, .self = net.self };
	struct early_facts facts = { .nlocal = 2, .local = local_ip };
	struct early_table et = { .ir = plain ? ir : grouped, .maps = m };
	double start;

	if (parse_ir(text, ir, err))
		return -1;
	start = seconds();
	if (!plain && classify(ir, cl_limits(), grouped, err))
		return -1;
	*took = seconds() - start;
	if (table_maps_create(m, et.ir, err))
		return -1;
	return compile_early(EARLY_XDP, ir->family, &et, 1, &facts, &env, err);
}

static int one(const struct bench *b, const char *shape, __u32 n, bool plain, int base)
{
	struct tuple *t = calloc(n + 1, sizeof(*t));
	struct ir_table ir, grouped = { 0 };
	struct xt_err err = { 0 };
	struct table_maps m;
	double ns, took = 0, start;
	char *text;
	int prog;

	for (__u32 i = 0; i < n; i++)
		make(&t[i], shape, i);
	for (__u32 i = 0; i < KEYS; i++)
		headers(&t[n ? prng(n) : 0], b->map + i * 32);
	text = text_of(t, n);
	start = seconds();
	prog = load(text, plain, &ir, &grouped, &m, &took, &err);
	if (prog < 0) {
		printf("%-8s %8u: %s\n", shape, n, err.text);
		return -1;
	}
	start = seconds() - start;
	if (n) {
		ns = run(b, prog, base);
		printf("%-8s %8u %6.1f ns  %8.1f ms in groups  %5.1f bytes a rule\n", shape, n,
		       ns, took * 1e3, classify_size(&grouped) / (double)n);
	}
	for (__u32 i = 0; i < grouped.ngroups && n >= 10; i++)
		classify_print(stdout, &grouped, &grouped.groups[i], "#  ",
			       getenv("FAMILIES") != NULL);
	fflush(stdout);
	if (n)
		close(prog);
	table_maps_close(&m);
	if (!plain)
		classify_free(&grouped);
	ir_table_free(&ir);
	free(text);
	free(t);
	return prog;
}

int main(int argc, char **argv)
{
	static const char *const shapes[] = { "source", "port", "prefix", "mixed" };
	LIBBPF_OPTS(bpf_map_create_opts, o, .map_flags = BPF_F_MMAPABLE);
	struct xt_err err = { 0 };
	struct bench b;
	bool plain = argc > 1 && !strcmp(argv[1], "-p");
	int base;

	argc -= plain;
	argv += plain;
	if (!net_up(&err)) {
		printf("%s\n", err.text);
		return 1;
	}
	b.keys = bpf_map_create(BPF_MAP_TYPE_ARRAY, "keys", 4, KEYS * 32, 1, &o);
	b.map = mmap(NULL, KEYS * 32, PROT_READ | PROT_WRITE, MAP_SHARED, b.keys, 0);
	b.next = bpf_map_create(BPF_MAP_TYPE_PROG_ARRAY, "next", 4, 4, 1, NULL);
	b.feeder = feeder(b.keys, b.next);
	base = one(&b, "source", 0, true, 0);
	for (int s = 0; s < 4; s++) {
		if (argc > 1 && strcmp(argv[1], shapes[s]))
			continue;
		for (int i = 2; i < argc; i++)
			one(&b, shapes[s], strtoul(argv[i], NULL, 0), plain, base);
		for (__u32 n = 1; argc <= 2 && n <= 1000000; n *= 10)
			one(&b, shapes[s], n, plain, base);
	}
	return 0;
}
