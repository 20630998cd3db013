// SPDX-License-Identifier: GPL-2.0
/*
 * The early stage: the device that a frame came in on.  In its prologue: r6
 * context, r7 frame, r9 its end, which is not needed any more.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "cg.h"
#include "kbtf.h"
#include "kfeat.h"

/*
 * On kernels without casts every step from the context to the device's address
 * is a copy, and these cost more than all the rest of a drop: what XDP has found
 * is kept, by the low bits of the device's index.  A second device with the same
 * bits does without.
 */
#define DEVICES 256

struct device {
	__u64 ifindex;		/* 0: free; -1: being written */
	__u64 dev, addr;	/* struct net_device, and where its address is */
};

#define DEV(member) ((int)offsetof(struct device, member))

static bool is_xdp(const struct cg *g)
{
	return g->fl == &flavor_xdp;
}

int cg_device_map(struct cg *g)
{
	if (!is_xdp(g) || kfeat()->casts)
		return 0;
	g->devices = bpf_map_create(BPF_MAP_TYPE_ARRAY, "xtjit_devices", 4, sizeof(struct device),
				    DEVICES, NULL);
	if (g->devices < 0)
		return xt_fail(g->err, -errno, "no map for devices: %s", strerror(errno));
	return 0;
}

/* r8 = the address of struct xdp_buff or sk_buff. */
static void context(struct cg *g)
{
	struct emit *e = &g->e;

	mov(e, R1, R6);
	if (kfeat()->casts) {
		cg_kfunc(g, "bpf_cast_to_kern_ctx");
		mov(e, R8, R0);
		return;
	}
	mov(e, R2, R10);
	alui(e, BPF_ADD, R2, -g->frame);
	call_label(e, cg_lib(g, LIB_CTX));
	ld(e, U64, R8, R10, g->slot[SLOT_CTX] - g->frame);
}

/* r9 = struct net_device, r8 = where its address is */
static void from_context(struct cg *g)
{
	context(g);
	if (kfeat()->casts) {		/* then it has a type, and so has what it leads to */
		kcast(g, R8, 0, "xdp_buff");
		tload(g, U64, R8, R0, "xdp_buff", "rxq");
		tload(g, U64, R9, R8, "xdp_rxq_info", "dev");
		tload(g, U64, R8, R9, "net_device", "dev_addr");
		return;
	}
	kload_member(g, U64, R8, R8, "xdp_buff", "rxq");
	kload_member(g, U64, R9, R8, "xdp_rxq_info", "dev");
	kload_member(g, U64, R8, R9, "net_device", "dev_addr");
}

/* r0 = where the device is kept, if it is: its index is in SLOT_CTX, and in r1. */
static void find(struct cg *g, __u32 none)
{
	struct emit *e = &g->e;
	int key = -g->frame - 8;

	cg_early_ifindex(g, R1, R6);
	st(e, U64, R10, g->slot[SLOT_CTX] - g->frame, R1);
	alui(e, BPF_AND, R1, DEVICES - 1);
	st(e, U32, R10, key, R1);
	mov(e, R2, R10);
	alui(e, BPF_ADD, R2, key);
	ldmap(e, R1, g->devices);
	call_helper(e, BPF_FUNC_map_lookup_elem);
	jmpi(e, BPF_JEQ, R0, 0, none);
	ld(e, U64, R1, R10, g->slot[SLOT_CTX] - g->frame);
}

/* Keeps r8, r9 in the place in r0, for index r1, unless it is taken. */
static void keep(struct cg *g, __u32 taken)
{
	struct emit *e = &g->e;

	mov(e, R2, R0);
	movi(e, R0, 0);
	movi(e, R3, -1);
	atomic(e, U64, BPF_CMPXCHG, R2, DEV(ifindex), R3);
	jmpi(e, BPF_JNE, R0, 0, taken);
	st(e, U64, R2, DEV(dev), R9);
	st(e, U64, R2, DEV(addr), R8);
	atomic(e, U64, BPF_XCHG, R2, DEV(ifindex), R1);
}

static void device_xdp(struct cg *g, __u32 up)
{
	struct emit *e = &g->e;
	__u32 unknown = new_label(e), done = new_label(e);

	if (kfeat()->casts) {
		from_context(g);
		return;
	}
	find(g, up);
	ld(e, U64, R2, R0, DEV(ifindex));
	jmp(e, BPF_JNE, R1, R2, unknown);
	ld(e, U64, R9, R0, DEV(dev));
	ld(e, U64, R8, R0, DEV(addr));
	ja(e, done);
	place(e, unknown);
	from_context(g);
	find(g, up);
	keep(g, done);
	place(e, done);
}

/* Nothing of a device is looked at but where a rule, or IPv6, needs it. */
static void device_tc(struct cg *g)
{
	context(g);
	if (g->slot[SLOT_IFACE] >= 0 || cg_v6(g))
		kload_member(g, U64, R9, R8, "sk_buff", "dev");
}

void cg_device(struct cg *g, __u32 up)
{
	if (is_xdp(g))
		device_xdp(g, up);
	else
		device_tc(g);
}

void cg_device_net(struct cg *g, int dst)
{
	mov(&g->e, R1, R7);
	cg_kfunc(g, "bpf_cast_to_kern_ctx");
	if (is_xdp(g)) {
		kcast(g, R0, 0, "xdp_buff");
		tload(g, U64, dst, R0, "xdp_buff", "rxq");
		tload(g, U64, dst, dst, "xdp_rxq_info", "dev");
	} else {
		kcast(g, R0, 0, "sk_buff");
		tload(g, U64, dst, R0, "sk_buff", "dev");
	}
	kload_member(g, U64, dst, dst, "net_device", "nd_net.net");
}

/* Its name, and that it takes IPv6. */
void cg_device_fields(struct cg *g, __u32 up)
{
	struct emit *e = &g->e;
	int slot = g->slot[SLOT_IFACE], name = kbtf_offset("net_device", "name");

	if (slot >= 0 && !kfeat()->casts)
		kcopy(g, slot - g->frame, 16, R9, name);
	for (int i = 0; i < 16 && slot >= 0 && kfeat()->casts; i += 8) {
		kload(g, U64, R3, R9, name + i);
		st(e, U64, R10, slot + i - g->frame, R3);
	}
	if (!cg_v6(g))
		return;
	kload_member(g, U64, R3, R9, "net_device", "ip6_ptr");
	jmpi(e, BPF_JEQ, R3, 0, up);
	kload_member(g, U32, R3, R3, "inet6_dev", "cnf.disable_ipv6");
	jmpi(e, BPF_JNE, R3, 0, up);
}
