// SPDX-License-Identifier: GPL-2.0
#include <bpf/bpf.h>
#include <unistd.h>

#include "emit.h"
#include "kbtf.h"
#include "kfeat.h"

/* It loads, and returns 0. */
static bool works(struct emit *e)
{
	char frame[64] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = frame, .data_size_in = sizeof(frame));
	int fd = emit_finish(e, NULL) ? -1 : bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "xtjit_probe", "GPL",
					     e->insns, e->n, NULL);
	bool ok = fd >= 0 && !bpf_prog_test_run_opts(fd, &o) && !o.retval;

	emit_free(e);
	if (fd >= 0)
		close(fd);
	return ok;
}

static bool has_gotol(void)
{
	struct emit e;
	__u32 never;

	emit_init(&e);
	never = new_label(&e);
	movi(&e, R0, 0);
	jmpi(&e, BPF_JEQ, R1, 0, never);
	insn(&e, BPF_JMP32 | BPF_JA, 0, 0, 0, 1);
	place(&e, never);
	movi(&e, R0, 1);
	exit_(&e);
	return works(&e);
}

static bool has_loose_stack(void)
{
	struct emit e;

	emit_init(&e);
	ld(&e, U64, R0, R10, -8);
	movi(&e, R0, 0);
	exit_(&e);
	return works(&e);
}

static bool has_func(const char *name)
{
	return kbtf_func(name) >= 0;
}

struct kfeat *kfeat(void)
{
	static struct kfeat f;
	static bool known;

	if (!known)
		f = (struct kfeat){
			.casts = has_func("bpf_rdonly_cast") && has_func("bpf_cast_to_kern_ctx"),
			.loose_stack = has_loose_stack(),
			.iters = has_func("bpf_iter_num_new"),
			.gotol = has_gotol(),
		};
	known = true;
	return &f;
}
