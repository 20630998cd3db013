/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the running kernel's BPF can do, beyond Linux 6.1; found out by its types
 * and by loading programs, for stable kernels take features over.
 */
#ifndef XTJIT_KFEAT_H
#define XTJIT_KFEAT_H

#include <stdbool.h>

struct kfeat {
	bool casts;		/* bpf_rdonly_cast(), bpf_cast_to_kern_ctx(): Linux 6.2 */
	bool loose_stack;	/* stack that was never written can be read, and passed on: 6.3 */
	bool iters;		/* bpf_iter_num_new(): 6.4 */
	bool gotol;		/* unconditional jumps of 32 bits: 6.6 */
};

/* Looked at once, when first asked for.  Tests turn some off. */
struct kfeat *kfeat(void);

#endif
