/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Plays the module: runs a table's program at a hook by BPF_PROG_TEST_RUN, as
 * xtjit_dev.h has it, and answers its native slots.  What it would find in
 * kernel memory is in the value of a map, whose address a program tells.
 */
#ifndef XTJIT_FLAVOR_HOOK_H
#define XTJIT_FLAVOR_HOOK_H

#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>

#include "emit.h"
#include "flavor_env.h"

#define HOOK_L3 14		/* where the packet begins in a test run */

/* The kernel's memory. */
struct hook_memory {
	struct xtjit_run run;
	__u64 self;		/* the address of all this */
	__u64 net;		/* the struct net of the namespace; 0: not known */
	__u8 skb[1024], ct[1024], dev[4096], state[256];
	__u8 head[64];		/* of the skb */
};

/* What a native slot comes to; or a verdict of netfilter's and more than ANSWER_VERDICT. */
enum answer { ANSWER_MISS, ANSWER_MATCH, ANSWER_GO_ON, ANSWER_VERDICT };

struct hook {
	int prog, hook, level;
	int table;		/* for .answer() */
	bool v6, traced;
	__u32 mark;
	__u32 ct;		/* XTJIT_RUN_CT, ctinfo << 4 */
	__u32 yields;		/* out */
	/* told with each slot, or rule (XTJIT_TRACE); may change @h and the packet */
	int (*answer)(struct hook *h, __u32 slot, struct packet *p);
	void *priv;
};

static struct hook_memory *hook_memory;
static int hook_spoiler = -1;	/* a program that spoils the stack that the next one will have */

/* The address of the namespace, where it can be told, into the map value. */
static void hook_tell_net(struct emit *e, int map)
{
	if (!kfeat()->casts)
		return;
	call_kfunc(e, kbtf_func("bpf_cast_to_kern_ctx"), 0);
	ld(e, U64, R2, R0, kbtf_offset("sk_buff", "dev"));
	ld(e, U64, R2, R2, kbtf_offset("net_device", "nd_net.net"));
	ldmapvalue(e, R1, map, 0);
	st(e, U64, R1, offsetof(struct hook_memory, net), R2);
}

/* The map value's address, written into it. */
static bool hook_tell_address(int map, struct xt_err *err)
{
	char frame[64] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = frame, .data_size_in = sizeof(frame));
	struct emit e;
	int prog, ret;

	emit_init(&e);
	hook_tell_net(&e, map);
	ldmapvalue(&e, R1, map, 0);
	st(&e, U64, R1, offsetof(struct hook_memory, self), R1);
	movi(&e, R0, 0);
	exit_(&e);
	ret = emit_finish(&e, err);
	prog = ret ? -1 : bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "self", "GPL", e.insns, e.n, NULL);
	emit_free(&e);
	if (prog < 0)
		return xt_fail(err, -errno, "address of a map: %s", strerror(errno)), false;
	ret = bpf_prog_test_run_opts(prog, &o);
	close(prog);
	return !ret && hook_memory->self;
}

static int hook_load_spoiler(void)
{
	struct emit e;
	int prog;

	emit_init(&e);
	for (int i = 8; i <= 512; i += 8)
		sti(&e, U64, R10, -i, 0x5a5a5a5a);
	movi(&e, R0, 0);
	exit_(&e);
	prog = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "spoiler", "GPL", e.insns, e.n, NULL);
	emit_free(&e);
	return prog;
}

static void hook_spoil(void)
{
	char frame[64] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = frame, .data_size_in = sizeof(frame));

	bpf_prog_test_run_opts(hook_spoiler, &o);
}

/* What a program keeps from one call to the next it keeps by CPU. */
static void hook_stay(void)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
}

static bool hook_up(struct xt_err *err)
{
	LIBBPF_OPTS(bpf_map_create_opts, o, .map_flags = BPF_F_MMAPABLE);
	int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "hook", 4, sizeof(*hook_memory), 1, &o);

	hook_stay();
	hook_memory = mmap(NULL, sizeof(*hook_memory), PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	hook_spoiler = hook_load_spoiler();
	if (map < 0 || hook_memory == MAP_FAILED || hook_spoiler < 0)
		return xt_fail(err, -errno, "no memory to be shared: %s", strerror(errno)), false;
	return hook_tell_address(map, err);
}

/* The devices, and the memory shared with programs; false, and said why, if they cannot be had. */
static bool env_up(void)
{
	struct xt_err err = { 0 };

	if (net_up(&err) && hook_up(&err))
		return true;
	printf("Bail out! %s\n", err.text);
	return false;
}

static __u64 hook_address(const void *p)
{
	return hook_memory->self + ((const char *)p - (const char *)hook_memory);
}

/* Puts @len bytes into a member of a struct in the kernel's memory. */
static void hook_poke(__u8 *base, const char *type, const char *member, const void *v, size_t len)
{
	memcpy(base + kbtf_offset(type, member), v, len);
}

static void hook_device(char *name, const char *dev)
{
	memset(name, 0, 16);
	if (dev)
		snprintf(name, 16, "%s", dev);
}

/* The skb, as xt_mac sees it: the Ethernet header is before its data. */
static void hook_skb(const struct packet *p)
{
	struct hook_memory *m = hook_memory;
	__u64 head = hook_address(m->head), data = head + 2 + 14, dev = hook_address(m->dev);
	__u16 mac = 2, type = 1;

	memcpy(m->head + 2, p->frame, 14);
	hook_poke(m->skb, "sk_buff", "head", &head, 8);
	hook_poke(m->skb, "sk_buff", "data", &data, 8);
	hook_poke(m->skb, "sk_buff", "dev", &dev, 8);
	hook_poke(m->skb, "sk_buff", "mac_header", &mac, 2);
	hook_poke(m->dev, "net_device", "type", &type, 2);
}

static void hook_memory_fill(const struct hook *h, const struct packet *p)
{
	static const char *const names[] = { "in0", "out0" };
	bool in = h->hook <= NF_INET_FORWARD, out = h->hook >= NF_INET_FORWARD;
	struct hook_memory *m = hook_memory;

	hook_device(m->run.in, in ? names[p->back] : NULL);
	hook_device(m->run.out, out ? names[!p->back] : NULL);
	m->run.skb = hook_address(m->skb);
	m->run.state = hook_address(m->state);
	hook_poke(m->state, "nf_hook_state", "net", &m->net, 8);
	m->run.ct = h->ct & XTJIT_RUN_CT ? hook_address(m->ct) : 0;
	hook_skb(p);
}

/* One call of the program. */
static __u32 hook_call(const struct hook *h, const struct packet *p, __u32 *cb)
{
	__u64 run = hook_address(&hook_memory->run);
	struct __sk_buff in = { .mark = h->mark, .ifindex = net.ifindex[p->back] }, out;
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = p->frame, .data_size_in = HOOK_L3 + p->l3len,
		    .ctx_in = &in, .ctx_size_in = sizeof(in),
		    .ctx_out = &out, .ctx_size_out = sizeof(out));

	hook_memory_fill(h, p);
	in.cb[0] = run;
	in.cb[1] = run >> 32;
	in.cb[2] = cb[2];
	in.cb[3] = cb[3];
	in.cb[4] = h->hook | h->ct | h->level << 8 | (h->traced ? XTJIT_RUN_TRACE : 0);
	if (bpf_prog_test_run_opts(h->prog, &o))
		return -errno;
	memcpy(cb, out.cb, sizeof(out.cb));
	return o.retval;
}

/* The verdict, or a negative errno. */
static int run_hook(struct hook *h, struct packet *p)
{
	__u32 cb[5] = { 0 }, ret;
	int a;

	h->yields = 0;
	for (;;) {
		hook_spoil();
		ret = hook_call(h, p, cb);
		if (ret == XTJIT_AGAIN)
			continue;
		if (ret != XTJIT_YIELD)
			return ret;
		h->yields++;
		a = h->answer ? h->answer(h, cb[3], p) : -EINVAL;
		if (a < 0 || a >= ANSWER_VERDICT)
			return a < 0 ? a : a - ANSWER_VERDICT;
		cb[3] = a == ANSWER_MATCH;
	}
}

#endif
