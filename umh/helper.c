// SPDX-License-Identifier: GPL-2.0
#include <time.h>

#include "backend.h"
#include "helper.h"

struct helper helper = {
	.backend = &backend_link,
	.early = XTJIT_EARLY_ON, .fallback = XTJIT_FALLBACK_KERNEL, .ring = -1, .self = -1,
	.lost = -1,
};

__u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}
