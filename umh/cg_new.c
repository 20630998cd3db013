// SPDX-License-Identifier: GPL-2.0
/*
 * Packets that conntrack surely takes for NEW, if it has no entry for them, on
 * every kernel: a TCP SYN, or UDP, without anything that tcp_error() and
 * udp_error() look for, of which the checksum is the dearest.  Whatever the
 * device says of that: one that is right is never refused.
 */
#include "cg.h"

#define ETH_HLEN	14
#define LONGEST		2047	/* bytes that are summed up */
#define FEW		32	/* ... without a helper */
#define HELPER_MAX	512	/* ... by one call of bpf_csum_diff() */

/* What may come with a SYN is not looked at: ECE, CWR, PSH. */
#define FLAGS_MASK	0x37
#define FLAG_SYN	0x02

/* r8: frame, r9: its end, r7: the sum. */
static void linear(struct cg *g, int ptr, int n, __u32 unsure)
{
	mov(&g->e, R3, ptr);
	alui(&g->e, BPF_ADD, R3, n);
	jmp(&g->e, BPF_JGT, R3, R9, unsure);
}

/*
 * r1, r2: the length from the transport header on, which is at @at, and the protocol.
 * UDP comes first: what the verifier has seen to be fine with less of the frame, it need
 * not follow again with more.
 */
static void headers(struct cg *g, int at, __u32 sure, __u32 unsure)
{
	struct emit *e = &g->e;
	__u32 tcp = new_label(e), fine = new_label(e);

	linear(g, R8, at + 8, unsure);
	jmpi(e, BPF_JEQ, R2, 6, tcp);
	jmpi(e, BPF_JNE, R2, 17, unsure);
	ld(e, U16, R3, R8, at + 4);
	bswap(e, R3, 16);
	jmp(e, BPF_JNE, R3, R1, unsure);
	jmpi(e, BPF_JLT, R1, 8, unsure);
	ld(e, U16, R3, R8, at + 6);
	jmpi(e, BPF_JEQ, R3, 0, sure);
	ja(e, fine);
	place(e, tcp);
	linear(g, R8, at + 20, unsure);
	ld(e, U8, R3, R8, at + 13);
	alui(e, BPF_AND, R3, FLAGS_MASK);
	jmpi(e, BPF_JNE, R3, FLAG_SYN, unsure);
	ld(e, U8, R3, R8, at + 12);
	alui(e, BPF_RSH, R3, 4);
	jmpi(e, BPF_JLT, R3, 5, unsure);
	alui(e, BPF_LSH, R3, 2);
	jmp(e, BPF_JGT, R3, R1, unsure);
	place(e, fine);
}

/* Length and protocol as in r1, r2, and the addresses. */
static void pseudo_header(struct cg *g)
{
	struct emit *e = &g->e;
	int from = ETH_HLEN + (cg_v6(g) ? 8 : 12), to = ETH_HLEN + (cg_v6(g) ? 40 : 20);

	mov(e, R7, R1);
	alu(e, BPF_ADD, R7, R2);
	bswap(e, R7, 16);
	for (int off = from; off < to; off += 4) {
		ld(e, U32, R3, R8, off);
		alu(e, BPF_ADD, R7, R3);
	}
}

/*
 * r1 = where the @n bytes begin that are behind what the length's bits above @n stand
 * for.  The length comes from memory, where the verifier forgets it: there is one
 * state only behind each bit.
 */
static void bytes(struct cg *g, int at, int n, __u32 unsure)
{
	ld_slot(g, R1, SLOT_L4LEN);
	alui(&g->e, BPF_AND, R1, LONGEST & ~(2 * n - 1));
	alu(&g->e, BPF_ADD, R1, R8);
	linear(g, R1, at + n, unsure);
}

static void add_many(struct cg *g, int at, int n, __u32 unsure)
{
	struct emit *e = &g->e;

	for (int i = 0; i < n; i += HELPER_MAX) {
		bytes(g, at, n, unsure);
		mov(e, R3, R1);
		alui(e, BPF_ADD, R3, at + i);
		movi(e, R4, n < HELPER_MAX ? n : HELPER_MAX);
		movi(e, R1, 0);
		movi(e, R2, 0);
		movi(e, R5, 0);
		call_helper(e, BPF_FUNC_csum_diff);
		alu(e, BPF_ADD, R7, R0);
	}
}

static void add_few(struct cg *g, int at, int n, __u32 unsure)
{
	static const int sizes[] = { [1] = U8, [2] = U16 };
	struct emit *e = &g->e;

	bytes(g, at, n, unsure);
	for (int i = 0; i < n; i += 4) {
		ld(e, n < 4 ? sizes[n] : U32, R2, R1, at + i);
		if (n == 1) {		/* the first of two, the other one is 0 */
			alui(e, BPF_LSH, R2, 8);
			bswap(e, R2, 16);
		}
		alu(e, BPF_ADD, R7, R2);
	}
}

/* Adds @n bytes, if the length has that bit. */
static void add_bit(struct cg *g, int at, int n, __u32 unsure)
{
	struct emit *e = &g->e;
	__u32 not = new_label(e);

	ld_slot(g, R1, SLOT_L4LEN);
	alui(e, BPF_AND, R1, n);
	jmpi(e, BPF_JEQ, R1, 0, not);
	if (n > FEW)
		add_many(g, at, n, unsure);
	else
		add_few(g, at, n, unsure);
	place(e, not);
}

void cg_lib_new(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 unsure = new_label(e), sure = new_label(e), few = new_label(e);
	int at = ETH_HLEN + (cg_v6(g) ? 40 : 20);

	lib_begin(g);
	cg_early_frame(g, R8, R9, R7);
	ld_slot(g, R1, SLOT_L4LEN);
	cg_proto(g, R2);
	headers(g, at, sure, unsure);
	jmpi(e, BPF_JGT, R1, LONGEST, unsure);
	pseudo_header(g);
	jmpi(e, BPF_JLT, R1, 2 * FEW, few);
	for (int n = (LONGEST + 1) / 2; n > FEW; n /= 2)
		add_bit(g, at, n, unsure);
	place(e, few);
	for (int n = FEW; n; n /= 2)
		add_bit(g, at, n, unsure);
	cg_early_fold(g, R7, R1);
	jmpi(e, BPF_JNE, R7, 0xffff, unsure);
	place(e, sure);
	sti(e, U32, R6, g->slot[SLOT_CTDONE] + 4, NEW_SURE);
	lib_ret(g, NEW_SURE);
	place(e, unsure);
	sti(e, U32, R6, g->slot[SLOT_CTDONE] + 4, NEW_UNSURE);
	lib_ret(g, NEW_UNSURE);
}
