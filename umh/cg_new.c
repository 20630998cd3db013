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
#define CHUNK		64
#define BUFFER		(-CHUNK)	/* of the stack, in which later is the loop's state */
#define LOOP		(-8)

/* What may come with a SYN is not looked at: ECE, CWR, PSH. */
#define FLAGS_MASK	0x37
#define FLAG_SYN	0x02

/* r8: frame, r9: its end. */
static void linear(struct cg *g, int n, __u32 unsure)
{
	mov(&g->e, R3, R8);
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

	linear(g, at + 8, unsure);
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
	linear(g, at + 20, unsure);
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

/* r8 = the sum of length and protocol, as in r1, r2, and addresses. */
static void pseudo_header(struct cg *g)
{
	struct emit *e = &g->e;
	int from = ETH_HLEN + (cg_v6(g) ? 8 : 12), to = ETH_HLEN + (cg_v6(g) ? 40 : 20);

	mov(e, R4, R1);
	alu(e, BPF_ADD, R4, R2);
	bswap(e, R4, 16);
	for (int off = from; off < to; off += 4) {
		ld(e, U32, R3, R8, off);
		alu(e, BPF_ADD, R4, R3);
	}
	mov(e, R8, R4);
}

/* What is behind the last whole chunk, be it linear or not: all there is of a SYN. */
static void add_rest(struct cg *g, int at, __u32 unsure)
{
	struct emit *e = &g->e;
	__u32 none = new_label(e);

	ld_slot(g, R2, SLOT_L4LEN);
	mov(e, R4, R2);
	alui(e, BPF_AND, R4, CHUNK - 1);
	jmpi(e, BPF_JLT, R4, 1, none);	/* older kernels make nothing of "not 0" */
	alui(e, BPF_AND, R2, LONGEST & ~(CHUNK - 1));
	alui(e, BPF_ADD, R2, at);
	for (int i = 0; i < CHUNK; i += 8)
		sti(e, U64, R10, BUFFER + i, 0);
	mov(e, R1, R7);
	mov(e, R3, R10);
	alui(e, BPF_ADD, R3, BUFFER);
	call_helper(e, g->fl == &flavor_xdp ? BPF_FUNC_xdp_load_bytes : BPF_FUNC_skb_load_bytes);
	jmpi(e, BPF_JNE, R0, 0, unsure);
	for (int i = 0; i < CHUNK; i += 4) {
		ld(e, U32, R1, R10, BUFFER + i);
		alu(e, BPF_ADD, R8, R1);
	}
	place(e, none);
}

static void add_chunks(struct cg *g, int at, __u32 unsure)
{
	struct emit *e = &g->e;
	__u32 top = new_label(e), end = new_label(e), bad = new_label(e), done = new_label(e);

	ld_slot(g, R1, SLOT_L4LEN);
	jmpi(e, BPF_JLT, R1, CHUNK, done);
	loop_begin(g, LOOP, LONGEST / CHUNK);
	place(e, top);
	loop_next(g, LOOP, end);
	jmpi(e, BPF_JGE, R1, LONGEST / CHUNK, end);
	alui(e, BPF_MUL, R1, CHUNK);
	mov(e, R2, R1);
	alui(e, BPF_ADD, R2, CHUNK);
	ld_slot(g, R3, SLOT_L4LEN);
	jmp(e, BPF_JGT, R2, R3, end);
	cg_early_frame(g, R3, R4, R7);
	alu(e, BPF_ADD, R3, R1);
	mov(e, R1, R3);
	alui(e, BPF_ADD, R1, at + CHUNK);
	jmp(e, BPF_JGT, R1, R4, bad);
	alui(e, BPF_ADD, R3, at);
	movi(e, R4, CHUNK);
	movi(e, R1, 0);
	movi(e, R2, 0);
	movi(e, R5, 0);
	call_helper(e, BPF_FUNC_csum_diff);
	alu(e, BPF_ADD, R8, R0);
	ja(e, top);
	place(e, bad);
	loop_end(g, LOOP);
	ja(e, unsure);
	place(e, end);
	loop_end(g, LOOP);
	place(e, done);
}

void cg_lib_new(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 unsure = new_label(e), sure = new_label(e);
	int at = ETH_HLEN + (cg_v6(g) ? 40 : 20);

	lib_begin(g);
	cg_early_frame(g, R8, R9, R7);
	ld_slot(g, R1, SLOT_L4LEN);
	cg_proto(g, R2);
	headers(g, at, sure, unsure);
	jmpi(e, BPF_JGT, R1, LONGEST, unsure);
	pseudo_header(g);
	add_rest(g, at, unsure);
	add_chunks(g, at, unsure);
	cg_early_fold(g, R8, R1);
	jmpi(e, BPF_JNE, R8, 0xffff, unsure);
	place(e, sure);
	sti(e, U32, R6, g->slot[SLOT_CTDONE] + 4, NEW_SURE);
	lib_ret(g, NEW_SURE);
	place(e, unsure);
	sti(e, U32, R6, g->slot[SLOT_CTDONE] + 4, NEW_UNSURE);
	lib_ret(g, NEW_UNSURE);
}
