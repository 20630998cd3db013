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
#include <stdlib.h>
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
	__u32 numbered;		/* 1: .counters of the generation, at the end */
	__u32 in_place;		/* 1: what follows, and what there is to write, behind the sums */
	__u32 nwas, nwrites;
	__u64 was_request;	/* that had set what was replaced */
	__u64 reserved[2];
	struct base_copy copy[2];
	/*
	 * ncounters each; then, if .in_place, struct cl_write[CL_WRITES] and nwas counters; then, if
	 * .numbered, ncounters numbers of 32 bits.
	 */
	struct xt_counters sum[];
};

static size_t rest_size(const struct gen *g, const struct base *b)
{
	return (b->in_place ? CL_WRITES * sizeof(struct cl_write) : 0) +
	       (size_t)b->nwas * sizeof(struct xt_counters) +
	       (b->numbered ? g->ncounters * sizeof(__u32) : 0);
}

/* @b: that much more than its sums. */
static size_t base_size(const struct gen *g, const struct base *b, int nsums)
{
	return sizeof(*b) + (size_t)nsums * g->ncounters * sizeof(struct xt_counters) +
	       rest_size(g, b);
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

static struct cl_write *writes(const struct gen *g)
{
	return (void *)(base(g)->sum + base(g)->nsums * g->ncounters);
}

static struct xt_counters *was(const struct gen *g)
{
	return (void *)(writes(g) + (base(g)->in_place ? CL_WRITES : 0));
}

static __u32 *numbers(const struct gen *g)
{
	return (void *)(was(g) + base(g)->nwas);
}

int gen_base_make(struct gen *g, const struct gen *old, struct xt_err *err)
{
	struct base b = { .nsums = g->ncounters <= LARGE ? 2 : old ? 1 : 0 };
	int ret;

	b.numbered = g->counters != NULL;
	b.in_place = old != NULL;
	b.nwas = old ? old->ncounters : 0;
	b.was_request = old ? old->request : 0;
	ret = pmem_create_dirty(&g->base, NAME, base_size(g, &b, b.nsums), err);
	if (ret)
		return ret;
	*base(g) = b;
	if (!old)
		memset(base(g)->sum, 0, b.nsums * g->ncounters * sizeof(*base(g)->sum));
	if (b.numbered)
		memcpy(numbers(g), g->counters, g->ncounters * sizeof(__u32));
	return 0;
}

void gen_base_spare(struct gen *g)
{
	pmem_spare(&g->base, NAME);
}

int gen_base_open(struct gen *g)
{
	const struct base *b;
	int ret = pmem_open(&g->base, g->dir, "base", sizeof(*b));

	if (ret)
		return ret;
	b = base(g);
	if (b->nsums > 2 || b->nwas > XT_MAX_RULES || b->nwrites > CL_WRITES ||
	    g->base.len < base_size(g, b, b->nsums))
		return -EINVAL;
	g->in_place = b->in_place;
	if (!b->numbered)
		return 0;
	g->counters = malloc((g->ncounters + 1) * sizeof(__u32));
	if (!g->counters)
		return -ENOMEM;
	memcpy(g->counters, numbers(g), g->ncounters * sizeof(__u32));
	for (__u32 i = 0; i < g->ncounters; i++)
		if (g->counters[i] >= g->nnumbers)
			return -EINVAL;
	return 0;
}

/* What the maps have counted, by their counters; malloc()ed. */
static struct xt_counters *live(const struct gen *g)
{
	struct xt_counters *n = calloc(g->nnumbers + 1, sizeof(*n));

	if (!n)
		abort();
	counters_add(&g->maps, g->live.p, n);
	return n;
}

/* @out, of each entry: the sum, and what the maps have counted, @n. */
static void add_sum(const struct gen *g, const struct xt_counters *n, struct xt_counters *out)
{
	const struct xt_counters *from = sum(g, base(g), valid(base(g)));

	for (__u32 i = 0; i < g->ncounters; i++) {
		const struct xt_counters *x = &n[gen_counter_of(g, i)];

		out[i].pcnt = x->pcnt + (from ? from[i].pcnt : 0);
		out[i].bcnt = x->bcnt + (from ? from[i].bcnt : 0);
	}
}

void gen_counters(const struct gen *g, struct xt_counters *out)
{
	struct xt_counters *n = live(g);

	add_sum(g, n, out);
	free(n);
}

/* What slots that @old's change has left have counted: it is to be kept, they are to be free. */
static void without_stale(const struct gen *old, struct xt_counters *n)
{
	size_t stride = counters_stride(&old->maps);

	for (__u32 i = 0; old->stale && i < old->stale->n; i++) {
		const struct cl_slot_change *s = &old->stale->slot[i];

		for (int cpu = 0; s->counted && cpu < possible_cpus(); cpu++) {
			const struct xt_counters *x = old->live.p + cpu * stride + s->counted;

			n[s->value >> 8].pcnt -= x->pcnt;
			n[s->value >> 8].bcnt -= x->bcnt;
		}
	}
}

/*
 * The maps go on counting: what they have so far, and will have when that is written,
 * is subtracted in the sum.
 */
void gen_base_change(struct gen *g, const struct gen *old, const struct cl_write *w, __u32 nw)
{
	struct xt_counters *n = live(old), *to = sum(g, base(g), 0);

	add_sum(old, n, was(g));
	without_stale(old, n);
	for (__u32 i = 0; i < g->ncounters; i++) {
		const struct xt_counters *x = &n[gen_counter_of(g, i)];

		to[i].pcnt = -x->pcnt;
		to[i].bcnt = -x->bcnt;
	}
	free(n);
	memcpy(writes(g), w, nw * sizeof(*w));
	base(g)->nwrites = nw;
}

__u32 gen_base_writes(const struct gen *g, const struct cl_write **w)
{
	*w = writes(g);
	return base(g)->nwrites;
}

const struct xt_counters *gen_replaced(const struct gen *g, __u32 *n, __u64 *request)
{
	*n = base(g)->nwas;
	*request = base(g)->was_request;
	return base(g)->in_place ? was(g) : NULL;
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
	struct base *new;
	struct pmem m;
	int ret = pmem_create_dirty(&m, NAME, base_size(g, base(g), 1), &err);

	if (ret)
		return ret;
	new = m.p;
	*new = *base(g);
	new->valid = 0;
	new->nsums = 1;
	add_to(g, new, 0, base(g), id, add);
	memcpy(new->sum + g->ncounters, writes(g), rest_size(g, new));
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
