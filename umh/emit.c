// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "emit.h"

/*
 * Longer ones are made gotol: the kernel puts more instructions in place of
 * some, and refuses the program where a jump then exceeds 16 bits.
 */
#define JA_MAX 0x3fff

enum fix_kind { FIX_COND, FIX_JA, FIX_CALL };

struct fixup {
	__u32 at, label;
	enum fix_kind kind;
};

void emit_init(struct emit *e)
{
	memset(e, 0, sizeof(*e));
}

void emit_free(struct emit *e)
{
	free(e->insns);
	free(e->labels);
	free(e->fixups);
	memset(e, 0, sizeof(*e));
}

/* Room for one more item in a growing array; false (and the sticky error) if there is none. */
static bool grow(struct emit *e, void **p, __u32 n, __u32 *cap, size_t size)
{
	__u32 want = *cap ? *cap * 2 : 1024;
	void *q;

	if (n < *cap)
		return true;
	q = realloc(*p, want * size);
	if (!q) {
		e->err = e->err ?: -ENOMEM;
		return false;
	}
	*p = q;
	*cap = want;
	return true;
}

__u32 new_label(struct emit *e)
{
	if (!grow(e, (void **)&e->labels, e->nlabels, &e->caplabels, sizeof(*e->labels)))
		return 0;
	e->labels[e->nlabels] = -1;
	return e->nlabels++;
}

void place(struct emit *e, __u32 label)
{
	if (label >= e->nlabels || e->labels[label] >= 0)
		e->err = e->err ?: -EINVAL;
	else
		e->labels[label] = e->n;
}

void insn(struct emit *e, __u8 code, __u8 dst, __u8 src, __s16 off, __s32 imm)
{
	if (!grow(e, (void **)&e->insns, e->n, &e->cap, sizeof(*e->insns)))
		return;
	e->insns[e->n++] = (struct bpf_insn){
		.code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm,
	};
}

static void fix(struct emit *e, __u32 label, enum fix_kind kind)
{
	if (!grow(e, (void **)&e->fixups, e->nfixups, &e->capfixups, sizeof(*e->fixups)))
		return;
	e->fixups[e->nfixups++] = (struct fixup){ .at = e->n, .label = label, .kind = kind };
}

static void resolve(struct emit *e, const struct fixup *f)
{
	struct bpf_insn *i = &e->insns[f->at];
	__s64 d;

	if (f->label >= e->nlabels || e->labels[f->label] < 0) {
		e->err = e->err ?: -EINVAL;
		return;
	}
	d = (__s64)e->labels[f->label] - f->at - 1;
	if (f->kind == FIX_CALL) {
		i->imm = d;
	} else if (f->kind == FIX_JA && (d < -JA_MAX || d > JA_MAX) && !e->no_gotol) {
		i->code = BPF_JMP32 | BPF_JA;	/* gotol, Linux 6.6 */
		i->imm = d;
	} else if (d == (__s16)d) {
		i->off = d;
	} else {
		e->err = e->err ?: -ERANGE;
	}
}

struct prune {
	__u32 *target;		/* label each instruction may go to, ~0: none */
	__u32 *stack, n;
	bool *live;
};

static void reach(struct prune *p, const struct emit *e, __u32 at)
{
	if (at < e->n && !p->live[at]) {
		p->live[at] = true;
		p->stack[p->n++] = at;
	}
}

static void follow(struct prune *p, const struct emit *e, __u32 at)
{
	const struct bpf_insn *i = &e->insns[at];
	bool jump = BPF_CLASS(i->code) == BPF_JMP || BPF_CLASS(i->code) == BPF_JMP32;

	if (p->target[at] != ~0u)
		reach(p, e, e->labels[p->target[at]]);
	if (jump && (BPF_OP(i->code) == BPF_EXIT || BPF_OP(i->code) == BPF_JA))
		return;
	reach(p, e, at + 1);
}

/* Moves what is live together; labels stand before the same instruction as before. */
static void compact(struct prune *p, struct emit *e)
{
	__u32 *to = p->target, n = 0, fixups = 0;

	for (__u32 i = 0; i < e->n; i++) {
		to[i] = n;
		if (p->live[i])
			e->insns[n++] = e->insns[i];
	}
	for (__u32 l = 0; l < e->nlabels; l++)
		if (e->labels[l] >= 0)
			e->labels[l] = (__u32)e->labels[l] < e->n && p->live[e->labels[l]] ?
				       (__s32)to[e->labels[l]] : -1;
	for (__u32 f = 0; f < e->nfixups; f++)
		if (p->live[e->fixups[f].at]) {
			e->fixups[fixups] = e->fixups[f];
			e->fixups[fixups++].at = to[e->fixups[f].at];
		}
	e->nfixups = fixups;
	e->n = n;
}

void emit_prune(struct emit *e)
{
	struct prune p = {
		.target = malloc((e->n + 1) * sizeof(*p.target)),
		.stack = malloc((e->n + 1) * sizeof(*p.stack)),
		.live = calloc(e->n + 1, sizeof(*p.live)),
	};

	if (!p.target || !p.stack || !p.live)
		e->err = e->err ?: -ENOMEM;
	for (__u32 f = 0; f < e->nfixups; f++)
		if (e->fixups[f].label >= e->nlabels || e->labels[e->fixups[f].label] < 0)
			e->err = e->err ?: -EINVAL;
	if (!e->err) {
		memset(p.target, 0xff, (e->n + 1) * sizeof(*p.target));
		for (__u32 f = 0; f < e->nfixups; f++)
			p.target[e->fixups[f].at] = e->fixups[f].label;
		reach(&p, e, 0);
		while (p.n)
			follow(&p, e, p.stack[--p.n]);
		compact(&p, e);
	}
	free(p.target);
	free(p.stack);
	free(p.live);
}

int emit_finish(struct emit *e, struct xt_err *err)
{
	for (__u32 i = 0; !e->err && i < e->nfixups; i++)
		resolve(e, &e->fixups[i]);
	if (e->err)
		return xt_fail(err, e->err, "code generation: %s", strerror(-e->err));
	return 0;
}

void mov(struct emit *e, int dst, int src)
{
	insn(e, BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0);
}

void movi(struct emit *e, int dst, __s32 imm)
{
	insn(e, BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm);
}

void movi32(struct emit *e, int dst, __u32 imm)
{
	insn(e, BPF_ALU | BPF_MOV | BPF_K, dst, 0, 0, imm);
}

void ldimm64(struct emit *e, int dst, __u64 imm)
{
	if (imm <= 0xffffffffu) {
		movi32(e, dst, imm);
		return;
	}
	insn(e, BPF_LD | BPF_IMM | BPF_DW, dst, 0, 0, (__u32)imm);
	insn(e, 0, 0, 0, 0, imm >> 32);
}

void alu(struct emit *e, int op, int dst, int src)
{
	insn(e, BPF_ALU64 | op | BPF_X, dst, src, 0, 0);
}

void alui(struct emit *e, int op, int dst, __s32 imm)
{
	insn(e, BPF_ALU64 | op | BPF_K, dst, 0, 0, imm);
}

void alu32(struct emit *e, int op, int dst, int src)
{
	insn(e, BPF_ALU | op | BPF_X, dst, src, 0, 0);
}

void alui32(struct emit *e, int op, int dst, __s32 imm)
{
	insn(e, BPF_ALU | op | BPF_K, dst, 0, 0, imm);
}

void bswap(struct emit *e, int dst, int bits)
{
	insn(e, BPF_ALU | BPF_END | BPF_TO_BE, dst, 0, 0, bits);
}

void ld(struct emit *e, int size, int dst, int src, int off)
{
	insn(e, BPF_LDX | BPF_MEM | size, dst, src, off, 0);
}

void st(struct emit *e, int size, int dst, int off, int src)
{
	insn(e, BPF_STX | BPF_MEM | size, dst, src, off, 0);
}

void sti(struct emit *e, int size, int dst, int off, __s32 imm)
{
	insn(e, BPF_ST | BPF_MEM | size, dst, 0, off, imm);
}

void atomic(struct emit *e, int size, int op, int dst, int off, int src)
{
	insn(e, BPF_STX | BPF_ATOMIC | size, dst, src, off, op);
}

void jmp(struct emit *e, int op, int dst, int src, __u32 label)
{
	fix(e, label, FIX_COND);
	insn(e, BPF_JMP | op | BPF_X, dst, src, 0, 0);
}

void jmpi(struct emit *e, int op, int dst, __s32 imm, __u32 label)
{
	fix(e, label, FIX_COND);
	insn(e, BPF_JMP | op | BPF_K, dst, 0, 0, imm);
}

void jmp32(struct emit *e, int op, int dst, int src, __u32 label)
{
	fix(e, label, FIX_COND);
	insn(e, BPF_JMP32 | op | BPF_X, dst, src, 0, 0);
}

void jmpi32(struct emit *e, int op, int dst, __s32 imm, __u32 label)
{
	fix(e, label, FIX_COND);
	insn(e, BPF_JMP32 | op | BPF_K, dst, 0, 0, imm);
}

void ja(struct emit *e, __u32 label)
{
	fix(e, label, FIX_JA);
	insn(e, BPF_JMP | BPF_JA, 0, 0, 0, 0);
}

void call_helper(struct emit *e, int func)
{
	insn(e, BPF_JMP | BPF_CALL, 0, 0, 0, func);
}

void call_kfunc(struct emit *e, int btf_id, int btf)
{
	insn(e, BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_KFUNC_CALL, btf, btf_id);
}

void call_label(struct emit *e, __u32 label)
{
	fix(e, label, FIX_CALL);
	insn(e, BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 0);
}

void exit_(struct emit *e)
{
	insn(e, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

void ldmap(struct emit *e, int dst, int fd)
{
	insn(e, BPF_LD | BPF_IMM | BPF_DW, dst, BPF_PSEUDO_MAP_FD, 0, fd);
	insn(e, 0, 0, 0, 0, 0);
}

void ldmapvalue(struct emit *e, int dst, int fd, __u32 off)
{
	insn(e, BPF_LD | BPF_IMM | BPF_DW, dst, BPF_PSEUDO_MAP_VALUE, 0, fd);
	insn(e, 0, 0, 0, 0, off);
}
