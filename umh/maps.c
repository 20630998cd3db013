// SPDX-License-Identifier: GPL-2.0
/*
 * The maps of a table's generation.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/netfilter/x_tables.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "classify.h"
#include "compile.h"

int possible_cpus(void)
{
	static int n;

	if (!n)
		n = libbpf_num_possible_cpus();
	return n > 0 ? n : 1;
}

size_t counters_stride(const struct table_maps *m)
{
	size_t size = m->ncounters * sizeof(struct xt_counters);

	for (int i = 0; i < COUNTED_SIZES; i++)
		size += (size_t)m->counted.n[i] * counted_size(i);
	return size ?: sizeof(struct xt_counters);
}

static void add(struct xt_counters *out, const struct xt_counters *n)
{
	out->pcnt += __atomic_load_n(&n->pcnt, __ATOMIC_RELAXED);
	out->bcnt += __atomic_load_n(&n->bcnt, __ATOMIC_RELAXED);
}

/* What a slot has counted, most have nothing, belongs to the rule of its value; a marker's is none. */
static void add_slots(const struct table_maps *m, const void *p, struct xt_counters *out)
{
	for (int i = 0; i < COUNTED_SIZES; i++)
		for (__u32 k = 0; k < m->counted.n[i]; k++, p += counted_size(i)) {
			__u32 value = *(__u32 *)(p + counted_size(i) - 4);

			if (((const struct xt_counters *)p)->pcnt && value >> 8 < m->ncounters)
				add(&out[value >> 8], p);
		}
}

/* The programs count packets and bytes in this order too. */
void counters_add(const struct table_maps *m, const void *live, struct xt_counters *out)
{
	for (int cpu = 0; cpu < possible_cpus(); cpu++) {
		const struct xt_counters *n = live + cpu * counters_stride(m);

		for (__u32 i = 0; i < m->ncounters; i++)
			add(&out[i], &n[i]);
		add_slots(m, n + m->ncounters, out);
	}
}

/* All CPUs have the same slots. */
static int fill_counted(const struct table_maps *m, const struct ir_table *t)
{
	size_t stride = counters_stride(m), rules = m->ncounters * sizeof(struct xt_counters);
	size_t size = stride * possible_cpus();
	char *p;

	if (stride <= rules)
		return 0;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, m->counters, 0);
	if (p == MAP_FAILED)
		return -errno;
	classify_fill_counted(t, p);
	for (int cpu = 1; cpu < possible_cpus(); cpu++)
		memcpy(p + cpu * stride + rules, p + rules, stride - rules);
	munmap(p, size);
	return 0;
}

/* The resolution of the coarse clocks is one tick. */
__u32 kernel_hz(void)
{
	struct timespec t;

	if (clock_getres(CLOCK_MONOTONIC_COARSE, &t) || !t.tv_nsec)
		return 250;
	return (1000000000u + t.tv_nsec / 2) / t.tv_nsec;
}

bool kernel_preempt_rt(void)
{
	static int rt = -1;
	struct utsname u;

	if (rt < 0)
		rt = !uname(&u) && strstr(u.version, "PREEMPT_RT");
	return rt;
}

/* POW2_BELOW32(MAX_CPJ) */
__u32 limit_credits_per_jiffy(void)
{
	__u32 max = 0xffffffffu / (kernel_hz() * 60 * 60 * 24), p = 1;

	while (p <= max / 2)
		p *= 2;
	return p;
}

/* user2credits(), XT_LIMIT_SCALE 10000 */
static __u32 credits(__u32 user)
{
	__u32 rate = kernel_hz() * limit_credits_per_jiffy();

	if (user > 0xffffffffu / rate)
		return user / 10000 * rate;
	return user * rate / 10000;
}

struct limit_cost limit_cost(const struct ir_limit *l)
{
	return (struct limit_cost){
		.cost = credits(l->avg),
		.cap = credits(l->avg * l->burst),
	};
}

/* Buckets are full; prev 0 says that none has been looked at. */
static int fill_state(int fd, const struct ir_table *t)
{
	for (__u32 i = 0; i < t->nlimits + t->nnths; i++) {
		struct rule_state s = { 0 };

		if (i < t->nlimits)
			s.credit = limit_cost(&t->limits[i]).cap;
		else
			s.prev = t->nths[i - t->nlimits].first;
		if (bpf_map_update_elem(fd, &i, &s, 0))
			return -errno;
	}
	return 0;
}

int table_maps_create(struct table_maps *m, const struct ir_table *t, struct xt_err *err)
{
	LIBBPF_OPTS(bpf_map_create_opts, o, .map_flags = BPF_F_MMAPABLE);
	__u32 n = t->nlimits + t->nnths;
	int ret;

	m->state = -1;
	m->ncounters = t->ncounters;
	m->counted = t->counted;
	m->counters = bpf_map_create(BPF_MAP_TYPE_ARRAY, "xtjit_counters", 4,
				     counters_stride(m), possible_cpus(), &o);
	if (m->counters < 0)
		return xt_fail(err, -errno, "%s: no map for %u counters: %s", t->table->name,
			       t->ncounters, strerror(errno));
	ret = fill_counted(m, t);
	if (ret) {
		table_maps_close(m);
		return xt_fail(err, ret, "%s: counters: mmap: %s", t->table->name, strerror(-ret));
	}
	if (!n)
		return 0;
	m->state = bpf_map_create(BPF_MAP_TYPE_ARRAY, "xtjit_state", 4,
				  sizeof(struct rule_state), n, NULL);
	ret = m->state < 0 ? -errno : fill_state(m->state, t);
	if (!ret)
		return 0;
	table_maps_close(m);
	return xt_fail(err, ret, "%s: no map for the state of limit and statistic: %s",
		       t->table->name, strerror(-ret));
}

void table_maps_close(struct table_maps *m)
{
	if (m->counters >= 0)
		close(m->counters);
	if (m->state >= 0)
		close(m->state);
	m->counters = m->state = -1;
}
