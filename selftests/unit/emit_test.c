// SPDX-License-Identifier: GPL-2.0
/*
 * The emitter: labels, long jumps, dead code; the programs are run by an
 * interpreter of the few instructions that are used here, and by the kernel.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "emit.h"
#include "prng.h"
#include "tap.h"

#define BLOCKS 40
#define ROUNDS 400
#define LONG 40000		/* more instructions than 16 bits can jump over */

static __s64 interpret(const struct bpf_insn *insns, __u32 n, int depth)
{
	__u64 r[11] = { 0 };

	for (__u32 pc = 0; pc < n && depth < 8; pc++) {
		const struct bpf_insn *i = &insns[pc];

		switch (i->code) {
		case BPF_ALU64 | BPF_MOV | BPF_K:
			r[i->dst_reg] = i->imm;
			break;
		case BPF_ALU | BPF_MOV | BPF_K:
			r[i->dst_reg] = (__u32)i->imm;
			break;
		case BPF_ALU64 | BPF_ADD | BPF_K:
			r[i->dst_reg] += i->imm;
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			r[i->dst_reg] = (__u32)r[i->dst_reg] & (__u32)i->imm;
			break;
		case BPF_LD | BPF_IMM | BPF_DW:
			r[i->dst_reg] = (__u32)i->imm | (__u64)i[1].imm << 32;
			pc++;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			pc += r[i->dst_reg] & i->imm ? i->off : 0;
			break;
		case BPF_JMP | BPF_JA:
			pc += i->off;
			break;
		case BPF_JMP32 | BPF_JA:
			pc += i->imm;
			break;
		case BPF_JMP | BPF_CALL:
			r[0] = interpret(i + 1 + i->imm, n - pc - 1 - i->imm, depth + 1);
			break;
		case BPF_JMP | BPF_EXIT:
			return r[0];
		default:
			return -1;
		}
	}
	return -1;
}

/* The fd of the loaded program, or a negative errno. */
static int load(const struct emit *e)
{
	int fd = bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, "emit", "GPL", e->insns, e->n, NULL);

	return fd < 0 ? -errno : fd;
}

/* What the kernel's run returns, or -1 with the reason in a diagnostic line. */
static __s64 run(const struct emit *e)
{
	char frame[64] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = frame, .data_size_in = sizeof(frame));
	int fd = load(e), ret;

	if (fd < 0) {
		tap_diag("does not load: %s", strerror(-fd));
		return -1;
	}
	ret = bpf_prog_test_run_opts(fd, &o);
	close(fd);
	return ret ? -1 : (__s64)o.retval;
}

static void test_labels(void)
{
	struct xt_err err = { 0 };
	struct emit e;
	__u32 back, forward, func;

	emit_init(&e);
	back = new_label(&e);
	forward = new_label(&e);
	func = new_label(&e);
	movi(&e, R0, 1);
	ja(&e, forward);
	place(&e, back);
	alui(&e, BPF_ADD, R0, 100);
	exit_(&e);
	place(&e, forward);
	call_label(&e, func);
	alui(&e, BPF_ADD, R0, 10);
	ja(&e, back);
	place(&e, func);
	ldimm64(&e, R0, 0x100000005);
	alui32(&e, BPF_AND, R0, 0xffff);
	exit_(&e);
	tap_ok(!emit_finish(&e, &err) && interpret(e.insns, e.n, 0) == 115 && e.insns[1].off == 2 &&
	       run(&e) == 115, "jumps and calls go to labels");
	emit_free(&e);
}

static void filler(struct emit *e, int n)
{
	while (n--)
		alui(e, BPF_ADD, R0, 1);
}

/* Jumps over @n instructions, forwards and back; what is between can be reached. */
static void long_jumps(struct emit *e, int n)
{
	__u32 top, body, end, go;

	emit_init(e);
	top = new_label(e);
	body = new_label(e);
	end = new_label(e);
	go = new_label(e);
	movi(e, R0, 3);
	ja(e, end);
	place(e, top);
	alui(e, BPF_ADD, R0, 4);
	exit_(e);
	place(e, body);
	filler(e, n);
	exit_(e);
	place(e, end);
	jmpi(e, BPF_JSET, R0, 3, go);
	ja(e, body);
	place(e, go);
	ja(e, top);
}

static bool has_gotol(const struct emit *e)
{
	for (__u32 i = 0; i < e->n; i++)
		if (e->insns[i].code == (BPF_JMP32 | BPF_JA))
			return true;
	return false;
}

static void test_long(void)
{
	struct xt_err err = { 0 };
	struct emit e;

	long_jumps(&e, 100);
	tap_ok(!emit_finish(&e, &err) && !has_gotol(&e) && run(&e) == 7, "short jumps");
	emit_free(&e);
	long_jumps(&e, LONG);
	tap_ok(!emit_finish(&e, &err) && has_gotol(&e) && run(&e) == 7, "long jumps are gotol");
	emit_free(&e);
	/* just as far as 16 bits allow: the kernel must have room to put more between */
	long_jumps(&e, 32700);
	tap_ok(!emit_finish(&e, &err) && has_gotol(&e) && run(&e) == 7,
	       "jumps that are nearly long");
	emit_free(&e);
}

/* A conditional jump over @n instructions; emit_finish()'s answer. */
static int conditional(int n, struct xt_err *err)
{
	struct emit e;
	__u32 end;
	int ret;

	emit_init(&e);
	end = new_label(&e);
	movi(&e, R0, 1);
	jmpi(&e, BPF_JSET, R0, 1, end);
	filler(&e, n);
	place(&e, end);
	exit_(&e);
	ret = emit_finish(&e, err);
	if (!ret && interpret(e.insns, e.n, 0) != 1)
		ret = -1;
	emit_free(&e);
	return ret;
}

static void test_range(void)
{
	struct xt_err err = { 0 };

	tap_ok(!conditional(32767, &err) && !err.err, "the longest conditional jump");
	tap_ok(conditional(32768, &err) == -ERANGE && err.err == -ERANGE && err.text[0],
	       "a conditional jump out of range");
}

static void test_errors(void)
{
	struct xt_err err = { 0 };
	struct emit e;
	__u32 l;

	emit_init(&e);
	ja(&e, new_label(&e));
	exit_(&e);
	tap_ok(emit_finish(&e, &err) == -EINVAL && err.err == -EINVAL, "a label that is nowhere");
	emit_free(&e);

	emit_init(&e);
	l = new_label(&e);
	place(&e, l);
	place(&e, l);
	exit_(&e);
	tap_ok(emit_finish(&e, NULL) == -EINVAL, "a label at two places");
	emit_free(&e);

	emit_init(&e);
	place(&e, 5);
	exit_(&e);
	tap_ok(emit_finish(&e, NULL) == -EINVAL, "no such label");
	emit_free(&e);

	emit_init(&e);
	ja(&e, new_label(&e));
	emit_prune(&e);
	tap_ok(emit_finish(&e, NULL) == -EINVAL, "a label that is nowhere, pruned");
	emit_free(&e);

	emit_init(&e);
	l = new_label(&e);
	e.err = -ENOMEM;
	place(&e, l);
	place(&e, l);
	tap_ok(emit_finish(&e, NULL) == -ENOMEM, "the first error sticks");
	emit_free(&e);
}

/* Blocks that jump forward only, most of them unreachable; two functions behind. */
static void any_program(struct emit *e, __s32 start)
{
	__u32 labels[BLOCKS], func[2];

	emit_init(e);
	for (int i = 0; i < BLOCKS; i++)
		labels[i] = new_label(e);
	func[0] = new_label(e);
	func[1] = new_label(e);
	movi(e, R0, start);
	for (__u32 i = 0; i < BLOCKS; i++) {
		__u32 to = i + 1 < BLOCKS ? i + 1 + prng(BLOCKS - i - 1) : i;

		place(e, labels[i]);
		for (int n = prng(4); n > 0; n--)
			alui(e, BPF_ADD, R0, prng(1000));
		if (!prng(5))
			ldimm64(e, R0, prng(2) ? prng(1 << 20) : (__u64)prng(1 << 20) << 24);
		if (!prng(8))
			call_label(e, func[prng(2)]);
		if (i + 1 == BLOCKS || !prng(10))
			exit_(e);
		else if (prng(3))
			jmpi(e, BPF_JSET, R0, 1 << prng(8), labels[to]);
		else
			ja(e, labels[to]);
	}
	for (int i = 0; i < 2; i++) {
		place(e, func[i]);
		movi(e, R0, 17 * i + 3);
		exit_(e);
	}
}

static void test_prune(void)
{
	long before = 0, after = 0;
	bool same = true, loads = true;

	for (int round = 0; round < ROUNDS; round++) {
		__u64 seed = 88172645463325252ull + round;

		for (int start = 0; start < 4; start++) {
			struct emit plain, pruned;
			__s64 want, got;

			prng_state = seed;
			any_program(&plain, start * 77);
			prng_state = seed;
			any_program(&pruned, start * 77);
			emit_prune(&pruned);
			same &= !emit_finish(&plain, NULL) && !emit_finish(&pruned, NULL);
			want = interpret(plain.insns, plain.n, 0);
			got = interpret(pruned.insns, pruned.n, 0);
			same &= want == got && want >= 0;
			/* the kernel refuses what cannot be reached */
			if (!start)
				loads &= run(&pruned) == (__u32)got;
			before += plain.n;
			after += pruned.n;
			emit_free(&plain);
			emit_free(&pruned);
		}
	}
	tap_ok(same && after < before, "pruned programs do the same: %ld of %ld instructions",
	       after, before);
	tap_ok(loads, "pruned programs have no dead code, says the kernel");
}

int main(void)
{
	test_labels();
	test_long();
	test_range();
	test_errors();
	test_prune();
	return tap_done();
}
