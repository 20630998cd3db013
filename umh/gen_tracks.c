// SPDX-License-Identifier: GPL-2.0
/*
 * A match of connection tracking turns it on by being there.  Where all of them
 * are compiled, the module instantiates one of them nevertheless.
 */
#include <linux/netfilter/x_tables.h>
#include <string.h>

#include "backend.h"
#include "ext.h"
#include "gen.h"
#include "helper.h"

static bool tracks(const char *name)
{
	return !strcmp(name, "conntrack") || !strcmp(name, "state");
}

/* The slot of a compiled match, which no program yields to. */
static struct xtjit_slot slot_of(const struct xt_ruleset *rs, const struct xt_rule *r,
				 const struct xt_part *part)
{
	__u32 at = (const char *)part->data - (const char *)rs->blob;

	return (struct xtjit_slot){
		.entry = r->offset,
		.ext = at - sizeof(struct xt_entry_match) - r->offset,
		.hooks = ext_rule_hooks(rs, r),
		.kind = XTJIT_SLOT_MATCH,
	};
}

bool gen_tracks(const struct xt_ruleset *rs, struct xtjit_slot *first)
{
	for (__u32 i = 0; i < rs->nrules; i++)
		for (__u32 k = 0; k < rs->rules[i].nmatches; k++)
			if (tracks(rs->rules[i].matches[k].name)) {
				if (first)
					*first = slot_of(rs, &rs->rules[i], &rs->rules[i].matches[k]);
				return true;
			}
	return false;
}

void gen_find_tracks(struct gen *g)
{
	struct xtjit_slot first;

	g->conntrack = gen_tracks(&g->rs, &first);
	if (!g->conntrack || !helper.backend->native)
		return;
	for (__u32 i = 0; i < g->ir.nslots; i++)
		if (tracks(g->ir.slot_names[i]))
			return;
	g->tracks = first;
}
