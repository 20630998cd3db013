// SPDX-License-Identifier: GPL-2.0
#include "cg.h"
#include "listing.h"

static const char *const alu_ops[16] = {
	"+=", "-=", "*=", "/=", "|=", "&=", "<<=", ">>=", "neg", "%=", "^=", "=", "s>>=", "bswap",
};

static const char *const jmp_ops[16] = {
	"goto", "==", ">", ">=", "&", "!=", "s>", "s>=", "call", "exit", "<", "<=", "s<", "s<=",
};

static const char *size_name(int code)
{
	switch (BPF_SIZE(code)) {
	case BPF_B:
		return "u8";
	case BPF_H:
		return "u16";
	case BPF_W:
		return "u32";
	default:
		return "u64";
	}
}

static void alu_text(FILE *out, const struct bpf_insn *i)
{
	char r = BPF_CLASS(i->code) == BPF_ALU ? 'w' : 'r';
	const char *op = alu_ops[BPF_OP(i->code) >> 4] ?: "?";

	if (BPF_OP(i->code) == BPF_END)
		fprintf(out, "r%d = be%d r%d", i->dst_reg, i->imm, i->dst_reg);
	else if (BPF_OP(i->code) == BPF_NEG)
		fprintf(out, "%c%d = -%c%d", r, i->dst_reg, r, i->dst_reg);
	else if (BPF_SRC(i->code) == BPF_X)
		fprintf(out, "%c%d %s %c%d", r, i->dst_reg, op, r, i->src_reg);
	else
		fprintf(out, "%c%d %s %d", r, i->dst_reg, op, i->imm);
}

static void call_text(FILE *out, const struct cg *g, const struct bpf_insn *i, __u32 at)
{
	if (i->src_reg == BPF_PSEUDO_KFUNC_CALL) {
		fprintf(out, "call kernel function %d", i->imm);
		return;
	}
	if (i->src_reg != BPF_PSEUDO_CALL) {
		fprintf(out, "call helper %d", i->imm);
		return;
	}
	for (int f = 0; f < g->nfuncs; f++)
		if (g->funcs[f].start == at + 1 + i->imm)
			fprintf(out, "call %s", g->funcs[f].name);
}

static void jmp_text(FILE *out, const struct cg *g, const struct bpf_insn *i, __u32 at)
{
	char r = BPF_CLASS(i->code) == BPF_JMP32 ? 'w' : 'r';
	const char *op = jmp_ops[BPF_OP(i->code) >> 4] ?: "?";

	switch (BPF_OP(i->code)) {
	case BPF_EXIT:
		fputs("exit", out);
		break;
	case BPF_CALL:
		call_text(out, g, i, at);
		break;
	case BPF_JA:
		fprintf(out, "goto %u", at + 1 + (r == 'w' ? i->imm : i->off));
		break;
	default:
		if (BPF_SRC(i->code) == BPF_X)
			fprintf(out, "if %c%d %s %c%d goto %u", r, i->dst_reg, op, r, i->src_reg,
				at + 1 + i->off);
		else
			fprintf(out, "if %c%d %s %d goto %u", r, i->dst_reg, op, i->imm,
				at + 1 + i->off);
	}
}

static void mem_text(FILE *out, const struct bpf_insn *i)
{
	const char *size = size_name(i->code);

	if (BPF_CLASS(i->code) == BPF_LDX)
		fprintf(out, "r%d = *(%s *)(r%d %+d)", i->dst_reg, size, i->src_reg, i->off);
	else if (BPF_CLASS(i->code) == BPF_ST)
		fprintf(out, "*(%s *)(r%d %+d) = %d", size, i->dst_reg, i->off, i->imm);
	else if (BPF_MODE(i->code) == BPF_ATOMIC)
		fprintf(out, "lock *(%s *)(r%d %+d) op 0x%x r%d", size, i->dst_reg, i->off, i->imm,
			i->src_reg);
	else
		fprintf(out, "*(%s *)(r%d %+d) = r%d", size, i->dst_reg, i->off, i->src_reg);
}

/* A 64-bit constant, or a map by the fd it had when the program was made. */
static void wide_text(FILE *out, const struct bpf_insn *i)
{
	if (i->src_reg == BPF_PSEUDO_MAP_FD)
		fprintf(out, "r%d = map[%d]", i->dst_reg, i->imm);
	else if (i->src_reg == BPF_PSEUDO_MAP_VALUE)
		fprintf(out, "r%d = map[%d] value %+d", i->dst_reg, i->imm, i[1].imm);
	else
		fprintf(out, "r%d = 0x%llx", i->dst_reg,
			(unsigned long long)i[1].imm << 32 | (__u32)i->imm);
}

static void one(FILE *out, const struct cg *g, __u32 at)
{
	const struct bpf_insn *i = &g->e.insns[at];

	fprintf(out, "%6u: ", at);
	switch (BPF_CLASS(i->code)) {
	case BPF_ALU:
	case BPF_ALU64:
		alu_text(out, i);
		break;
	case BPF_JMP:
	case BPF_JMP32:
		jmp_text(out, g, i, at);
		break;
	case BPF_LD:
		wide_text(out, i);
		break;
	default:
		mem_text(out, i);
	}
	fputc('\n', out);
}

void listing_print(FILE *out, const struct cg *g)
{
	fprintf(out, "%s, %u instructions\nmain:\n", g->fl->name, g->e.n);
	for (__u32 at = 0; at < g->e.n; at++) {
		for (int f = 0; f < g->nfuncs; f++)
			if (g->funcs[f].start == at)
				fprintf(out, "%s:\n", g->funcs[f].name);
		one(out, g, at);
		if (BPF_CLASS(g->e.insns[at].code) == BPF_LD)
			at++;
	}
}
