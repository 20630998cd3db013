// SPDX-License-Identifier: GPL-2.0
#include <bpf/bpf.h>
#include <unistd.h>

#include "compile.h"
#include "drops.h"

int drops_create(struct drops *d)
{
	LIBBPF_OPTS(bpf_map_create_opts, o, .map_flags = BPF_F_MMAPABLE);
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "xtjit_drops", 4, sizeof(struct drops_cpu),
				possible_cpus(), &o);
	int ret;

	if (fd < 0)
		return fd;
	ret = pmem_map(&d->mem, fd);
	if (ret)
		close(fd);
	else
		d->mem.fd = fd;
	return ret;
}

int drops_open(struct drops *d, const char *dir)
{
	int ret;

	if (!pmem_open(&d->mem, dir, "drops", possible_cpus() * sizeof(struct drops_cpu)))
		return 0;
	ret = drops_create(d);
	if (ret)
		return ret;
	ret = state_pin(d->mem.fd, dir, "drops");
	if (ret)
		drops_close(d);
	return ret;
}

void drops_close(struct drops *d)
{
	pmem_close(&d->mem);
}

__u64 drops_get(const struct drops *d, enum drops_stage stage, __u32 ifindex)
{
	const struct drops_cpu *c = d->mem.p;
	__u64 sum = 0;

	for (int i = 0; i < possible_cpus(); i++)
		sum += __atomic_load_n(&c[i].n[stage][ifindex % DROPS_DEVICES], __ATOMIC_RELAXED);
	return sum;
}
