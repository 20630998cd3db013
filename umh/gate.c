// SPDX-License-Identifier: GPL-2.0
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

#include "emit.h"
#include "gate.h"

#define SEEN_MAX	8192
#define PROG_NETFILTER	32	/* BPF_PROG_TYPE_NETFILTER */
#define ATTACH_NETFILTER 45	/* BPF_NETFILTER */
#define NF_CTX_SKB	8	/* offsetof(struct bpf_nf_ctx, skb) */

int gate_seen_create(struct xt_err *err)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_NO_PREALLOC);
	int fd = bpf_map_create(BPF_MAP_TYPE_HASH, "xtjit_seen", 8, 8, SEEN_MAX, &opts);

	if (fd < 0)
		return xt_fail(err, fd, "map of packets that are under way: %s", strerror(-fd));
	return fd;
}

void gate_seen_clear(int seen)
{
	__u64 key;

	while (!bpf_map_get_next_key(seen, NULL, &key))
		if (bpf_map_delete_elem(seen, &key))
			break;
}

static int load(struct emit *e, int type, int attach, const char *name, struct xt_err *err)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = attach);
	int fd = emit_finish(e, err);

	if (!fd) {
		fd = bpf_prog_load(type, name, "GPL", e->insns, e->n, &opts);
		if (fd < 0)
			xt_fail(err, fd, "program %s: %s", name, strerror(-fd));
	}
	emit_free(e);
	return fd;
}

/* r6 = context, r7 = state, the key of @seen at r10 - 8 */
static void prologue(struct emit *e, int words, __u32 xtjit, __u32 kernel)
{
	mov(e, R6, R1);
	ldmapvalue(e, R1, words, 0);
	ld(e, U32, R7, R1, 0);
	jmpi(e, BPF_JEQ, R7, GATE_XTJIT, xtjit);
	jmpi(e, BPF_JEQ, R7, GATE_KERNEL, kernel);
}

int gate_entry_prog(int words, int seen, int slot, struct xt_err *err)
{
	__u32 go, pass, to_xtjit;
	struct emit e;

	emit_init(&e);
	go = new_label(&e);
	pass = new_label(&e);
	to_xtjit = new_label(&e);
	prologue(&e, words, go, pass);
	ld(&e, U64, R1, R6, NF_CTX_SKB);
	st(&e, U64, R10, -8, R1);
	ldmap(&e, R1, seen);
	mov(&e, R2, R10);
	alui(&e, BPF_ADD, R2, -8);
	call_helper(&e, BPF_FUNC_map_delete_elem);	/* 0: it was noted */
	jmpi(&e, BPF_JEQ, R7, GATE_TO_XTJIT, to_xtjit);
	jmpi(&e, BPF_JEQ, R0, 0, pass);
	ja(&e, go);
	place(&e, to_xtjit);
	jmpi(&e, BPF_JNE, R0, 0, pass);
	place(&e, go);
	mov(&e, R1, R6);
	ldmap(&e, R2, slot);
	movi(&e, R3, 0);
	call_helper(&e, BPF_FUNC_tail_call);
	place(&e, pass);
	movi(&e, R0, 1);	/* NF_ACCEPT */
	exit_(&e);
	return load(&e, PROG_NETFILTER, ATTACH_NETFILTER, "xtjit_entry", err);
}

/* If a packet cannot be noted, the kernel does it, and perhaps xtjit, too. */
int gate_rule_prog(int words, int seen, struct xt_err *err)
{
	__u32 skip, kernel;
	struct emit e;

	emit_init(&e);
	skip = new_label(&e);
	kernel = new_label(&e);
	prologue(&e, words, skip, kernel);
	st(&e, U64, R10, -8, R6);
	sti(&e, U64, R10, -16, 1);
	ldmap(&e, R1, seen);
	mov(&e, R2, R10);
	alui(&e, BPF_ADD, R2, -8);
	mov(&e, R3, R10);
	alui(&e, BPF_ADD, R3, -16);
	movi(&e, R4, BPF_ANY);
	call_helper(&e, BPF_FUNC_map_update_elem);
	jmpi(&e, BPF_JNE, R7, GATE_TO_XTJIT, kernel);
	jmpi(&e, BPF_JNE, R0, 0, kernel);
	place(&e, skip);
	movi(&e, R0, 1);
	exit_(&e);
	place(&e, kernel);
	movi(&e, R0, 0);
	exit_(&e);
	return load(&e, BPF_PROG_TYPE_SOCKET_FILTER, 0, "xtjit_gate", err);
}
