// SPDX-License-Identifier: GPL-2.0
/*
 * A generation that takes the place of the one before it in the same maps, under the same
 * programs: what is written there is a key and its rule, or that a key has none.
 */
#include <stdlib.h>
#include <string.h>

#include "gen.h"
#include "grace.h"

void gen_change(struct gen *g, struct gen *old)
{
	size_t stride = counters_stride(&old->maps);
	struct cl_write w[CL_WRITES];

	if (!old->stale)
		old->stale = calloc(1, sizeof(*old->stale));
	if (!old->stale)
		abort();
	if (old->unsettled)
		grace();
	classify_put_keys(&old->grouped, &g->grouped, g->change, old->live.p, stride);
	if (g->change->wide)
		grace();
	classify_move_keys(&old->grouped, &g->grouped, g->change, old->live.p, stride);
	gen_base_change(g, old, w, classify_writes(g->change, old->stale, w));
}

void gen_unchanged(struct gen *g, struct gen *old)
{
	old->fixed = !classify_left(g->change, old->stale);
	old->unsettled = true;
}

/*
 * A packet that both rules match, the one that comes and the one that goes, meets one of them:
 * when it looked for the first before that came, the second is still there.
 */
static void write_all(const struct cl_write *w, __u32 n, void *image, void *live, size_t stride)
{
	__u32 come = n;

	while (come && w[come - 1].value == CL_NONE)
		come--;
	classify_write(w, come, image, live, stride);
	if (come && come < n)
		grace();
	classify_write(w + come, n - come, image, live, stride);
}

void gen_changed(struct gen *g, struct gen *old)
{
	const struct cl_write *w;
	__u32 n = gen_base_writes(g, &w);

	write_all(w, n, classify_data(&old->grouped), old->live.p, counters_stride(&old->maps));
	classify_changed(&old->grouped, &g->grouped, g->change, old->stale);
	g->maps = old->maps;
	g->live = old->live;
	g->stale = old->stale;
	g->unsettled = g->change->n;
	old->maps.counters = -1;
	old->live = (struct pmem)PMEM_NONE;
	old->stale = NULL;
	free(g->change);
	g->change = NULL;
}

void gen_change_again(struct gen *g)
{
	const struct cl_write *w;
	__u32 n = gen_base_writes(g, &w);
	size_t stride = counters_stride(&g->maps);
	struct pmem image = PMEM_NONE;
	__u64 need = 0;
	bool ok = true;

	for (__u32 i = 0; i < n; i++) {
		need = w[i].image + 4 > need ? w[i].image + 4 : need;
		ok &= !w[i].counted || w[i].counted + 4 <= stride;
	}
	if (!n)
		return;
	if (!ok || pmem_open(&image, g->dir, "image", need)) {
		xt_log("%s: its last change is only done in part", g->dir);
		return;
	}
	write_all(w, n, image.p, g->live.p, stride);
	pmem_close(&image);
}
