// SPDX-License-Identifier: GPL-2.0
/*
 * Programs of type NETFILTER: the packet is a struct sk_buff that they can
 * read but not as packet memory; linear data is read through bpf_rdonly_cast(),
 * which costs nothing.
 */
#include <errno.h>
#include <linux/in.h>
#include <linux/netfilter/xt_owner.h>
#include <string.h>
#include <unistd.h>

#include "cg.h"
#include "kbtf.h"
#include "kfeat.h"

#define OPTIONS_LOOP (-40)	/* of the stack */

static int need(struct cg *g, int value, const char *what)
{
	if (value >= 0)
		return value;
	xt_fail(g->err, -EOPNOTSUPP, "this kernel has no %s", what);
	g->e.err = g->e.err ?: -EOPNOTSUPP;
	return 0;
}

static int member(struct cg *g, const char *type, const char *name)
{
	return need(g, kbtf_offset(type, name), name);
}

void kcopy(struct cg *g, int to, int n, int ptr, int off)
{
	struct emit *e = &g->e;

	mov(e, R3, ptr);
	if (off)
		alui(e, BPF_ADD, R3, off);
	mov(e, R1, R10);
	alui(e, BPF_ADD, R1, to);
	movi(e, R2, n);
	call_helper(e, BPF_FUNC_probe_read_kernel);
}

/* A copy of it, below struct pkt and the state of a loop: not for library functions. */
static void kload_copy(struct cg *g, int size, int dst, int ptr, int off)
{
	int n = size == U8 ? 1 : size == U16 ? 2 : size == U32 ? 4 : 8;

	kcopy(g, -g->frame - 16, n, ptr, off);
	ld(&g->e, size, dst, R10, -g->frame - 16);
}

void kcast(struct cg *g, int ptr, int off, const char *type)
{
	struct emit *e = &g->e;

	mov(e, R1, ptr);
	if (off)
		alui(e, BPF_ADD, R1, off);
	movi32(e, R2, need(g, kbtf_struct(type), type));
	cg_kfunc(g, "bpf_rdonly_cast");
}

/* Any 16 bytes can be read from what is said to be an IPv6 address. */
void kload(struct cg *g, int size, int dst, int ptr, int off)
{
	if (!kfeat()->casts) {
		kload_copy(g, size, dst, ptr, off);
		return;
	}
	kcast(g, ptr, off, "in6_addr");
	ld(&g->e, size, dst, R0, 0);
}

void kload_member(struct cg *g, int size, int dst, int ptr, const char *type, const char *name)
{
	kload(g, size, dst, ptr, member(g, type, name));
}

void kload_bits(struct cg *g, int dst, int ptr, const char *type, const char *name, int width)
{
	int bit = need(g, kbtf_bit(type, name), name);

	kload(g, U8, dst, ptr, bit / 8);
	if (bit % 8)
		alui(&g->e, BPF_RSH, dst, bit % 8);
	alui(&g->e, BPF_AND, dst, (1 << width) - 1);
}

/* Conntrack's, where that is a module, are those of one BTF more. */
void cg_kfunc(struct cg *g, const char *func)
{
	int fd, id = need(g, kbtf_kfunc(func, &fd), func);

	call_kfunc(&g->e, id, fd >= 0);
	if (fd < 0)
		return;
	if (g->module_btf >= 0)
		close(g->module_btf);
	g->module_btf = fd;
}

int cg_ct_tuple(struct cg *g, int dir, const char *name)
{
	return member(g, "nf_conn", "tuplehash") +
	       dir * need(g, kbtf_size("nf_conntrack_tuple_hash"), "conntrack") +
	       member(g, "nf_conntrack_tuple_hash", "tuple") +
	       member(g, "nf_conntrack_tuple", name);
}

int cg_ct_size(struct cg *g)
{
	int size = member(g, "nf_conn", "status") + sizeof(unsigned long);

	if (size > EVENT_CT_MAX || cg_ct_tuple(g, 1, "dst.protonum") >= size)
		need(g, -1, "conntrack entry as short as expected");
	return size > EVENT_CT_MAX ? EVENT_CT_MAX : size;
}

void tload(struct cg *g, int size, int dst, int ptr, const char *type, const char *name)
{
	ld(&g->e, size, dst, ptr, member(g, type, name));
}

void cg_hook_state(struct cg *g, int dst, int ctx)
{
	kcast(g, ctx, 0, "bpf_nf_ctx");
	tload(g, U64, dst, R0, "bpf_nf_ctx", "state");
}

static void iter(struct cg *g, int off, const char *func)
{
	mov(&g->e, R1, R10);
	alui(&g->e, BPF_ADD, R1, off);
	cg_kfunc(g, func);
}

void loop_begin(struct cg *g, int off, int n)
{
	g->turns = n;
	if (!kfeat()->iters) {
		sti(&g->e, U64, R10, off, 0);
		return;
	}
	movi(&g->e, R2, 0);
	movi(&g->e, R3, n);
	iter(g, off, "bpf_iter_num_new");
}

void loop_next(struct cg *g, int off, __u32 end)
{
	struct emit *e = &g->e;

	if (kfeat()->iters) {
		iter(g, off, "bpf_iter_num_next");
		jmpi(e, BPF_JEQ, R0, 0, end);
		ld(e, U32, R1, R0, 0);
		return;
	}
	ld(e, U64, R1, R10, off);
	jmpi(e, BPF_JGE, R1, g->turns, end);
	mov(e, R2, R1);
	alui(e, BPF_ADD, R2, 1);
	st(e, U64, R10, off, R2);
}

void loop_end(struct cg *g, int off)
{
	if (kfeat()->iters)
		iter(g, off, "bpf_iter_num_destroy");
}

/* r6 = pkt, r7 = ctx; leaves with 0 if there is no pkt. */
void lib_begin(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 ok = new_label(e);

	jmpi(e, BPF_JNE, R2, 0, ok);
	cg_zero(g);
	place(e, ok);
	mov(e, R6, R2);
	mov(e, R7, R1);
}

void lib_ret(struct cg *g, int value)
{
	movi(&g->e, R0, value);
	exit_(&g->e);
}

/*
 * The TCP options into SCRATCH, their length into r8 (1..40); returns 2 for a
 * header that is not whole, 0 for one without options.
 */
static void read_options(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 ok = new_label(e), whole = new_label(e), some = new_label(e);
	int buf = g->slot[SLOT_SCRATCH];

	ld_slot(g, R1, SLOT_L4LEN);
	jmpi(e, BPF_JGE, R1, 20, ok);
	lib_ret(g, 2);
	place(e, ok);
	g->fl->packet_begin(g, -16);
	mov(e, R1, R6);
	alui(e, BPF_ADD, R1, buf);
	movi(e, R2, 1);
	ld_slot(g, R4, SLOT_L4OFF);
	alui(e, BPF_ADD, R4, 12);
	g->fl->packet_read(g, -16);
	ld(e, U8, R8, R6, buf);
	alui(e, BPF_RSH, R8, 4);
	alui(e, BPF_AND, R8, 15);
	alui(e, BPF_LSH, R8, 2);
	ok = new_label(e);
	jmpi(e, BPF_JGE, R8, 20, ok);
	lib_ret(g, 2);
	place(e, ok);
	ld_slot(g, R1, SLOT_L4LEN);
	jmp(e, BPF_JGE, R1, R8, whole);
	lib_ret(g, 2);
	place(e, whole);
	alui(e, BPF_SUB, R8, 20);
	jmpi(e, BPF_JGT, R8, 0, some);
	lib_ret(g, 0);
	place(e, some);
	ok = new_label(e);
	jmpi(e, BPF_JLE, R8, 40, ok);
	lib_ret(g, 2);
	place(e, ok);
	mov(e, R1, R6);
	alui(e, BPF_ADD, R1, buf);
	mov(e, R2, R8);
	ld_slot(g, R4, SLOT_L4OFF);
	alui(e, BPF_ADD, R4, 20);
	g->fl->packet_read(g, -16);
}

/*
 * A loop over the options: the index is kept in SCRATCH + 48, where the verifier
 * forgets it; r1 is the index, r2 points to the option, which is in r3.
 */
static void options_head(struct cg *g, __u32 top, __u32 out)
{
	struct emit *e = &g->e;
	int buf = g->slot[SLOT_SCRATCH];

	sti(e, U64, R6, buf + 48, 0);
	loop_begin(g, OPTIONS_LOOP, 40);
	place(e, top);
	loop_next(g, OPTIONS_LOOP, out);
	ld(e, U64, R1, R6, buf + 48);
	jmp(e, BPF_JGE, R1, R8, out);
	jmpi(e, BPF_JGT, R1, 39, out);
	mov(e, R2, R6);
	alui(e, BPF_ADD, R2, buf);
	alu(e, BPF_ADD, R2, R1);
	ld(e, U8, R3, R2, 0);
}

/* Steps over the option in r3 at r1, r2; @last: an option in the last byte is one byte long. */
static void options_next(struct cg *g, __u32 top, bool last)
{
	struct emit *e = &g->e;
	__u32 one = new_label(e), next = new_label(e);

	jmpi(e, BPF_JLT, R3, 2, one);
	if (last) {
		mov(e, R4, R8);
		alui(e, BPF_SUB, R4, 1);
		jmp(e, BPF_JEQ, R1, R4, one);
	}
	ld(e, U8, R4, R2, 1);
	jmpi(e, BPF_JEQ, R4, 0, one);
	alu(e, BPF_ADD, R1, R4);
	ja(e, next);
	place(e, one);
	alui(e, BPF_ADD, R1, 1);
	place(e, next);
	st(e, U64, R6, g->slot[SLOT_SCRATCH] + 48, R1);
	ja(e, top);
}

/* Out of the loop, and of the function. */
static void options_ret(struct cg *g, int value)
{
	loop_end(g, OPTIONS_LOOP);
	lib_ret(g, value);
}

/* net/netfilter/xt_tcpudp.c tcp_find_option(); r3: the option */
static void lib_tcpopt(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 top = new_label(e), out = new_label(e), other = new_label(e);

	lib_begin(g);
	st(e, U64, R10, -24, R3);
	read_options(g);
	options_head(g, top, out);
	ld(e, U64, R4, R10, -24);
	jmp(e, BPF_JNE, R3, R4, other);
	options_ret(g, 1);
	place(e, other);
	options_next(g, top, false);
	place(e, out);
	options_ret(g, 0);
}

/* net/netfilter/xt_tcpmss.c; r3, r4: the range */
static void lib_tcpmss(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 top = new_label(e), out = new_label(e), other = new_label(e), no = new_label(e);

	lib_begin(g);
	st(e, U64, R10, -24, R3);
	st(e, U64, R10, -32, R4);
	read_options(g);
	options_head(g, top, out);
	jmpi(e, BPF_JNE, R3, 2, other);
	mov(e, R4, R8);
	alu(e, BPF_SUB, R4, R1);
	jmpi(e, BPF_JLT, R4, 4, other);
	ld(e, U8, R4, R2, 1);
	jmpi(e, BPF_JNE, R4, 4, other);
	ld(e, U8, R4, R2, 2);
	alui(e, BPF_LSH, R4, 8);
	ld(e, U8, R5, R2, 3);
	alu(e, BPF_OR, R4, R5);
	ld(e, U64, R5, R10, -24);
	jmp(e, BPF_JLT, R4, R5, no);
	ld(e, U64, R5, R10, -32);
	jmp(e, BPF_JGT, R4, R5, no);
	options_ret(g, 1);
	place(e, no);
	options_ret(g, 0);
	place(e, other);
	options_next(g, top, true);
	place(e, out);
	options_ret(g, 0);
}

/* r0 = 1 if the flags in r8 (match << 8 | invert), as match ^ invert under @mask, are all clear. */
static void owner_clear(struct cg *g, int mask)
{
	struct emit *e = &g->e;
	__u32 no = new_label(e);

	mov(e, R1, R8);
	alui(e, BPF_RSH, R1, 8);
	alu(e, BPF_XOR, R1, R8);
	alui(e, BPF_AND, R1, mask);
	jmpi(e, BPF_JNE, R1, 0, no);
	lib_ret(g, 1);
	place(e, no);
	lib_ret(g, 0);
}

/*
 * r1 (0 or 1, in range or not) must be 1, or 0 where the flag @bit is inverted:
 * else returns 0.
 */
static void owner_must(struct cg *g, int bit)
{
	struct emit *e = &g->e;
	__u32 good = new_label(e);

	mov(e, R2, R8);
	alui(e, BPF_RSH, R2, bit);
	alui(e, BPF_AND, R2, 1);
	alu(e, BPF_XOR, R1, R2);
	jmpi(e, BPF_JNE, R1, 0, good);
	lib_ret(g, 0);
	place(e, good);
}

/* r1 = the id in r3 is within the two halves at @range of the stack. */
static void owner_range(struct cg *g, int range)
{
	struct emit *e = &g->e;
	__u32 out = new_label(e);

	movi(e, R1, 0);
	ld(e, U32, R4, R10, range + 4);
	jmp32(e, BPF_JLT, R3, R4, out);
	ld(e, U32, R4, R10, range);
	jmp32(e, BPF_JGT, R3, R4, out);
	movi(e, R1, 1);
	place(e, out);
}

/* r9: cred. r1 = one of its supplementary groups, sorted, is in the range at @range. */
static void owner_groups(struct cg *g, int range)
{
	struct emit *e = &g->e;
	int lo = g->slot[SLOT_SCRATCH], hi = lo + 8, top = new_label(e), out = new_label(e);
	__u32 low = new_label(e), next = new_label(e);

	kload_member(g, U64, R9, R9, "cred", "group_info");
	kload_member(g, U32, R3, R9, "group_info", "ngroups");
	sti(e, U64, R6, lo, 0);
	st(e, U64, R6, hi, R3);
	st(e, U64, R6, lo + 16, R3);
	for (int i = 0; i < 17; i++) {		/* NGROUPS_MAX is 65536 */
		low = new_label(e);
		next = new_label(e);
		ld(e, U64, R1, R6, lo);
		ld(e, U64, R2, R6, hi);
		jmp(e, BPF_JGE, R1, R2, top);
		alu(e, BPF_ADD, R1, R2);
		alui(e, BPF_RSH, R1, 1);
		st(e, U64, R6, lo + 24, R1);
		alui(e, BPF_LSH, R1, 2);
		alu(e, BPF_ADD, R1, R9);
		kload_member(g, U32, R3, R1, "group_info", "gid");
		ld(e, U64, R1, R6, lo + 24);
		ld(e, U32, R4, R10, range + 4);
		jmp32(e, BPF_JLT, R3, R4, low);
		st(e, U64, R6, hi, R1);
		ja(e, next);
		place(e, low);
		alui(e, BPF_ADD, R1, 1);
		st(e, U64, R6, lo, R1);
		place(e, next);
	}
	place(e, top);
	ld(e, U64, R1, R6, lo);
	ld(e, U64, R2, R6, lo + 16);
	mov(e, R3, R1);
	movi(e, R1, 0);
	jmp(e, BPF_JGE, R3, R2, out);
	alui(e, BPF_LSH, R3, 2);
	alu(e, BPF_ADD, R3, R9);
	kload_member(g, U32, R3, R3, "group_info", "gid");
	owner_range(g, range);
	place(e, out);
}

/* r9 = the full socket, by sk_to_full_sk(), or 0. */
static void owner_sock(struct cg *g, __u32 none)
{
	struct emit *e = &g->e;
	__u32 full = new_label(e);

	ld(e, U64, R9, R7, 8);
	tload(g, U64, R9, R9, "sk_buff", "sk");
	jmpi(e, BPF_JEQ, R9, 0, none);
	kload_member(g, U8, R1, R9, "sock", "__sk_common.skc_state");
	jmpi(e, BPF_JEQ, R1, 6, none);		/* TCP_TIME_WAIT */
	jmpi(e, BPF_JNE, R1, 12, full);		/* TCP_NEW_SYN_RECV */
	kload_member(g, U64, R9, R9, "sock", "__sk_common.skc_listener");
	jmpi(e, BPF_JEQ, R9, 0, none);
	place(e, full);
}

/* To @reset if it is a TCP reset of the helper's, which has no socket where the kernel sends it. */
static void owner_reset(struct cg *g, __u32 reset)
{
	struct emit *e = &g->e;
	__u32 no = new_label(e);

	ld_slot(g, R1, SLOT_SELF);
	jmpi(e, BPF_JEQ, R1, 0, no);
	if (cg_v6(g))
		ld_slot(g, R1, SLOT_PROTO6);
	else
		ld_field(g, R1, IR_PROTO);
	jmpi(e, BPF_JEQ, R1, IPPROTO_TCP, reset);
	place(e, no);
}

/* net/netfilter/xt_owner.c owner_mt(); r3 uids, r4 gids (first << 32 | last), r5 flags */
static void lib_owner(struct cg *g)
{
	struct emit *e = &g->e;
	__u32 none = new_label(e), nofile = new_label(e), exists = new_label(e);
	__u32 nouid = new_label(e), nogid = new_label(e), told = new_label(e);

	lib_begin(g);
	st(e, U64, R10, -8, R3);
	st(e, U64, R10, -16, R4);
	mov(e, R8, R5);
	owner_reset(g, none);
	owner_sock(g, none);
	kload_member(g, U64, R3, R9, "sock", "sk_socket");
	jmpi(e, BPF_JEQ, R3, 0, none);
	st(e, U64, R10, -24, R3);
	kload_member(g, U64, R3, R9, "sock", "__sk_common.skc_net.net");
	ld(e, U64, R1, R7, 0);
	tload(g, U64, R1, R1, "nf_hook_state", "net");
	jmp(e, BPF_JNE, R3, R1, none);
	mov(e, R1, R8);
	alui(e, BPF_RSH, R1, 8);
	alu(e, BPF_AND, R1, R8);
	alui(e, BPF_AND, R1, XT_OWNER_SOCKET);
	jmpi(e, BPF_JEQ, R1, 0, exists);
	lib_ret(g, 0);
	place(e, exists);
	ld_slot(g, R1, SLOT_SELF);
	jmpi(e, BPF_JNE, R1, 0, nofile);
	ld(e, U64, R3, R10, -24);
	kload_member(g, U64, R3, R3, "socket", "file");
	jmpi(e, BPF_JEQ, R3, 0, nofile);
	kload_member(g, U64, R9, R3, "file", "f_cred");
	mov(e, R1, R8);
	alui(e, BPF_AND, R1, XT_OWNER_UID << 8);
	jmpi(e, BPF_JEQ, R1, 0, nouid);
	kload_member(g, U32, R3, R9, "cred", "fsuid");
	owner_range(g, -8);
	owner_must(g, 0);
	place(e, nouid);
	mov(e, R1, R8);
	alui(e, BPF_AND, R1, XT_OWNER_GID << 8);
	jmpi(e, BPF_JEQ, R1, 0, nogid);
	kload_member(g, U32, R3, R9, "cred", "fsgid");
	owner_range(g, -16);
	jmpi(e, BPF_JNE, R1, 0, told);
	mov(e, R2, R8);
	alui(e, BPF_AND, R2, XT_OWNER_SUPPL_GROUPS << 8);
	jmpi(e, BPF_JEQ, R2, 0, told);
	owner_groups(g, -16);
	place(e, told);
	owner_must(g, 1);
	place(e, nogid);
	lib_ret(g, 1);
	place(e, none);
	owner_clear(g, 0xff);
	place(e, nofile);
	owner_clear(g, XT_OWNER_UID | XT_OWNER_GID);
}

void cg_lib_kernel(struct cg *g, enum cg_lib l)
{
	switch (l) {
	case LIB_TCPOPT:
		lib_tcpopt(g);
		break;
	case LIB_TCPMSS:
		lib_tcpmss(g);
		break;
	case LIB_OWNER:
		lib_owner(g);
		break;
	default:
		cg_lib_packet(g, l);
	}
}
