// SPDX-License-Identifier: GPL-2.0
/*
 * The early stage's entry programs: attached once to a device, they go on to
 * the program in force by a tail call, so that one map update replaces it.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

#include "cg.h"

static int load_plain(struct emit *e, const struct flavor_ops *fl, struct xt_err *err)
{
	LIBBPF_OPTS(bpf_prog_load_opts, o, .expected_attach_type = fl->attach_type);
	int ret = emit_finish(e, err), fd;

	if (!ret) {
		fd = bpf_prog_load(fl->prog_type, "xtjit_entry", "GPL", e->insns, e->n, &o);
		ret = fd < 0 ? xt_fail(err, -errno, "entry program for %s: %s", fl->name,
				       strerror(errno)) : fd;
	}
	emit_free(e);
	return ret;
}

static void tail_call(struct emit *e, int prog_array, int slot)
{
	mov(e, R1, R6);
	ldmap(e, R2, prog_array);
	movi(e, R3, slot);
	call_helper(e, BPF_FUNC_tail_call);
}

/* By ethertype; XDP reads it from the frame, TC has it in skb->protocol. */
int compile_entry_early(enum early_flavor flavor, int prog_array, struct xt_err *err)
{
	struct emit e;
	__u32 pass, not_ip;
	bool xdp = flavor == EARLY_XDP;

	emit_init(&e);
	pass = new_label(&e);
	not_ip = new_label(&e);
	mov(&e, R6, R1);
	if (xdp) {
		ld(&e, U32, R7, R1, offsetof(struct xdp_md, data));
		ld(&e, U32, R2, R1, offsetof(struct xdp_md, data_end));
		mov(&e, R3, R7);
		alui(&e, BPF_ADD, R3, 14);
		jmp(&e, BPF_JGT, R3, R2, pass);
		ld(&e, U16, R8, R7, 12);
	} else {
		ld(&e, U32, R8, R1, offsetof(struct __sk_buff, protocol));
	}
	bswap(&e, R8, 16);
	jmpi(&e, BPF_JNE, R8, 0x0800, not_ip);
	tail_call(&e, prog_array, 0);
	ja(&e, pass);
	place(&e, not_ip);
	jmpi(&e, BPF_JNE, R8, 0x86dd, pass);
	tail_call(&e, prog_array, 1);
	place(&e, pass);
	movi(&e, R0, xdp ? XDP_PASS : -1);	/* TC_ACT_UNSPEC: on to other filters */
	exit_(&e);
	return load_plain(&e, xdp ? &flavor_xdp : &flavor_tc, err);
}
