/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The emitter of eBPF instructions.  Nothing here returns an error: the first
 * one sticks, and emit_finish() reports it.  Jumps go to labels only.
 */
#ifndef XTJIT_EMIT_H
#define XTJIT_EMIT_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include "err.h"

enum { R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 };

/* Sizes of loads and stores. */
enum { U8 = BPF_B, U16 = BPF_H, U32 = BPF_W, U64 = BPF_DW };

struct fixup;

struct emit {
	struct bpf_insn *insns;
	__u32 n, cap;
	int err;		/* sticky: 0 or negative errno */
	bool no_gotol;		/* the kernel has no jumps of 32 bits */
	__s32 *labels;		/* instruction each label stands before; -1: not yet */
	__u32 nlabels, caplabels;
	struct fixup *fixups;
	__u32 nfixups, capfixups;
};

void emit_init(struct emit *e);
void emit_free(struct emit *e);

/*
 * Takes out what cannot be reached from the first instruction, which the
 * verifier would refuse; labels in it become unplaced.  Before emit_finish().
 */
void emit_prune(struct emit *e);

/* Resolves all labels. 0 or the sticky error; -ERANGE for a conditional jump that is too long. */
int emit_finish(struct emit *e, struct xt_err *err);

__u32 new_label(struct emit *e);
void place(struct emit *e, __u32 label);

void insn(struct emit *e, __u8 code, __u8 dst, __u8 src, __s16 off, __s32 imm);

/* dst = src, dst = imm (sign-extended), dst = 64-bit imm */
void mov(struct emit *e, int dst, int src);
void movi(struct emit *e, int dst, __s32 imm);
void ldimm64(struct emit *e, int dst, __u64 imm);
/* 32-bit move of an unsigned constant: the upper half becomes 0 */
void movi32(struct emit *e, int dst, __u32 imm);

/* ALU with op BPF_ADD, BPF_AND, ...: 64 and 32 bits wide */
void alu(struct emit *e, int op, int dst, int src);
void alui(struct emit *e, int op, int dst, __s32 imm);
void alu32(struct emit *e, int op, int dst, int src);
void alui32(struct emit *e, int op, int dst, __s32 imm);
/* network to host order of the low bits (16, 32, 64), zero-extended */
void bswap(struct emit *e, int dst, int bits);

void ld(struct emit *e, int size, int dst, int src, int off);
void st(struct emit *e, int size, int dst, int off, int src);
void sti(struct emit *e, int size, int dst, int off, __s32 imm);
/* atomic op BPF_ADD, BPF_XCHG, BPF_CMPXCHG on U32 or U64 */
void atomic(struct emit *e, int size, int op, int dst, int off, int src);

/* Conditional jumps with op BPF_JEQ, BPF_JGT, ...; to labels nearby. */
void jmp(struct emit *e, int op, int dst, int src, __u32 label);
void jmpi(struct emit *e, int op, int dst, __s32 imm, __u32 label);
void jmp32(struct emit *e, int op, int dst, int src, __u32 label);
void jmpi32(struct emit *e, int op, int dst, __s32 imm, __u32 label);
/* Unconditional, any distance, but 16 bits where there is no_gotol. */
void ja(struct emit *e, __u32 label);

void call_helper(struct emit *e, int func);
/* @btf: 0: the kernel's own; else the place of a module's in the loader's fd_array */
void call_kfunc(struct emit *e, int btf_id, int btf);
/* A function of this program that begins at @label. */
void call_label(struct emit *e, __u32 label);
void exit_(struct emit *e);

/* dst = the map of @fd; dst = address in the value of the one-entry array map @fd */
void ldmap(struct emit *e, int dst, int fd);
void ldmapvalue(struct emit *e, int dst, int fd, __u32 off);

#endif
