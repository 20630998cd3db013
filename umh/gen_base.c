// SPDX-License-Identifier: GPL-2.0
/*
 * A generation's counters: what its programs count, and base, what ADD_COUNTERS added.
 *
 * Of base there are two copies; .valid says which one counts, in the other the next one is
 * prepared.  A large table's sums would take much memory, mostly for nothing but zeros: these
 * begin without, and base is made anew whenever there is something to add, with one sum, and
 * takes the old one's place below the pins.
 */
#include <errno.h>
#include <string.h>

#include "gen.h"

#define NAME	"xtjit_base"
#define IDS	16
#define LARGE	4096	/* rules; so many have two sums still */

struct base_copy {
	__u64 ids[IDS];		/* of the last requests that added; a ring */
	__u64 nids;
	__u64 reserved[7];
};

struct base {
	__u64 valid;		/* 0, 1 */
	__u64 nsums;		/* 0, 1, 2 */
	__u64 reserved[6];
	struct base_copy copy[2];
	struct xt_counters sum[];	/* ncounters each */
};

static size_t base_size(const struct gen *g, int nsums)
{
	return sizeof(struct base) + (size_t)nsums * g->ncounters * sizeof(struct xt_counters);
}

static struct base *base(const struct gen *g)
{
	return g->base.p;
}

static __u64 valid(const struct base *b)
{
	return __atomic_load_n(&b->valid, __ATOMIC_ACQUIRE) & 1;
}

static struct xt_counters *sum(const struct gen *g, struct base *b, __u64 copy)
{
	return b->nsums ? b->sum + copy % b->nsums * g->ncounters : NULL;
}

int gen_base_make(struct gen *g, struct xt_err *err)
{
	int nsums = g->ncounters <= LARGE ? 2 : 0;
	int ret = pmem_create_dirty(&g->base, NAME, base_size(g, nsums), err);

	if (ret)
		return ret;
	memset(g->base.p, 0, base_size(g, nsums));
	base(g)->nsums = nsums;
	return 0;
}

void gen_base_spare(struct gen *g)
{
	pmem_spare(&g->base, NAME);
}

int gen_base_open(struct gen *g)
{
	int ret = pmem_open(&g->base, g->dir, "base", base_size(g, 0));

	if (ret)
		return ret;
	return base(g)->nsums <= 2 && g->base.len >= base_size(g, base(g)->nsums) ? 0 : -EINVAL;
}

void gen_counters(const struct gen *g, struct xt_counters *out)
{
	const struct xt_counters *from = sum(g, base(g), valid(base(g)));

	if (from)
		memcpy(out, from, g->ncounters * sizeof(*out));
	else
		memset(out, 0, g->ncounters * sizeof(*out));
	counters_add(&g->maps, g->live.p, out);
}

static bool any(const struct gen *g, const struct xt_counters *n)
{
	for (__u32 i = 0; i < g->ncounters; i++)
		if (n[i].pcnt || n[i].bcnt)
			return true;
	return false;
}

/* @to = the copy of @from that counts, and what is added. */
static void add_to(const struct gen *g, struct base *to, __u64 copy, struct base *from, __u64 id,
		   const struct xt_counters *add)
{
	const struct xt_counters *old = sum(g, from, valid(from));
	struct xt_counters *new = sum(g, to, copy);
	struct base_copy *c = &to->copy[copy];

	*c = from->copy[valid(from)];
	c->ids[c->nids++ % IDS] = id;
	if (new == old)		/* none, or nothing is added */
		return;
	for (__u32 i = 0; i < g->ncounters; i++) {
		new[i].pcnt = (old ? old[i].pcnt : 0) + add[i].pcnt;
		new[i].bcnt = (old ? old[i].bcnt : 0) + add[i].bcnt;
	}
}

static int renew(struct gen *g, __u64 id, const struct xt_counters *add)
{
	struct xt_err err = {};
	struct pmem m;
	int ret = pmem_create_dirty(&m, NAME, base_size(g, 1), &err);

	if (ret)
		return ret;
	memset(m.p, 0, sizeof(struct base));
	((struct base *)m.p)->nsums = 1;
	add_to(g, m.p, 0, base(g), id, add);
	ret = state_replace(m.fd, g->dir, "base");
	if (ret) {
		pmem_close(&m);
		return ret;
	}
	gen_base_spare(g);
	g->base = m;
	return 0;
}

int gen_add(struct gen *g, __u64 id, const struct xt_counters *add)
{
	struct base *b = base(g);
	__u64 next = !valid(b);

	if (b->nsums < 2 && any(g, add))
		return renew(g, id, add);
	add_to(g, b, next, b, id, add);
	__atomic_store_n(&b->valid, next, __ATOMIC_RELEASE);
	return 0;
}

bool gen_added(const struct gen *g, __u64 id)
{
	const struct base_copy *c = &base(g)->copy[valid(base(g))];

	for (int i = 0; i < IDS; i++)
		if (id && c->ids[i] == id)
			return true;
	return false;
}

void gen_inherit_ids(struct gen *g, const struct gen *from)
{
	base(g)->copy[valid(base(g))] = base(from)->copy[valid(base(from))];
}
