// SPDX-License-Identifier: GPL-2.0
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "err.h"
#include "grace.h"
#include "state.h"

#define SWITCH "/sys/kernel/rcu_expedited"

static int inner = -1, outer = -1;	/* maps */
static int sw = -1;			/* SWITCH; -1: cannot be written */
static struct pmem mem = PMEM_NONE;
static int *on;				/* pinned: it was us who switched it on */

static void set_switch(char value)
{
	if (pwrite(sw, &value, 1, 0) != 1)
		xt_log(SWITCH ": %s", strerror(errno));
}

void grace_init(void)
{
	struct xt_err err = {};

	if (pmem_open(&mem, state_root(), "grace", sizeof(*on)) &&
	    (pmem_create(&mem, "xtjit_grace", sizeof(*on), &err) ||
	     state_pin(mem.fd, state_root(), "grace"))) {
		xt_log("updates take longer: no memory of what was switched on: %s", err.text);
		pmem_close(&mem);
		return;
	}
	on = mem.p;
	sw = open(SWITCH, O_RDWR | O_CLOEXEC);
	if (sw >= 0 && *on)
		set_switch('0');
	*on = 0;
}

void grace_exit(void)
{
	int *const fds[] = { &inner, &outer, &sw };

	for (int i = 0; i < 3; i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	pmem_close(&mem);
	on = NULL;
}

/* False: somebody else has, or it cannot be done. */
static bool expedite(void)
{
	char is;

	if (sw < 0 || pread(sw, &is, 1, 0) != 1 || is != '0')
		return false;
	__atomic_store_n(on, 1, __ATOMIC_SEQ_CST);
	set_switch('1');
	return true;
}

static void expedite_end(void)
{
	set_switch('0');
	__atomic_store_n(on, 0, __ATOMIC_SEQ_CST);
}

static int open_maps(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts);

	if (outer >= 0)
		return 0;
	if (inner < 0)
		inner = bpf_map_create(BPF_MAP_TYPE_ARRAY, "xtjit_inner", 4, 8, 1, NULL);
	opts.inner_map_fd = inner;
	if (inner >= 0)
		outer = bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "xtjit_grace", 4, 4, 1, &opts);
	return outer < 0 ? -errno : 0;
}

/* The second way does not exist where CPUs run without a tick (nohz_full). */
static int wait_for_programs(void)
{
	const __u32 zero = 0;

	if (!open_maps() && !bpf_map_update_elem(outer, &zero, &inner, BPF_ANY))
		return 0;
	return syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) ? -errno : 0;
}

void grace(void)
{
	bool expedited = expedite();
	int ret = wait_for_programs();

	if (expedited)
		expedite_end();
	if (ret) {
		xt_log("no grace period: %s", strerror(-ret));
		sleep(1);
	}
}
