// SPDX-License-Identifier: GPL-2.0
/*
 * Groups, for people:
 *
 *	INPUT: 8500 rules by lookup in 2 families, 3 between; they drop, jump web
 *	  proto == 6; l4 20 tcp; key daddr/32 dport: 500 keys
 *	  key saddr/8-32 in 5 lengths: 8000 keys, 312 markers
 */
#include "classify.h"
#include "ir_text.h"

static const char *const field_name[CL_NFIELDS] = {
	[CL_SADDR] = "saddr", [CL_DADDR] = "daddr", [CL_SPORT] = "sport", [CL_DPORT] = "dport",
	[CL_SMAC] = "smac", [CL_IFACE] = "iface in", [CL_OFACE] = "iface out",
	[CL_CHAIN] = "chain",
};

static void print_cond(FILE *out, const struct cl_cond *c)
{
	if (c->how == CL_BAD)
		fputs("bad ", out);
	ir_print_pred(out, &c->p);
	fputs("; ", out);
}

static void print_key(FILE *out, const struct ir_table *t, const struct cl_family *f)
{
	const struct cl_table *last = f->ntables ? &f->tables[f->ntables - 1] : NULL;

	fputs("key", out);
	for (int i = 0; i < CL_NFIELDS; i++) {
		if (!f->has[i])
			continue;
		fprintf(out, " %s", field_name[i]);
		if (i == f->vary && f->ntables > 1)
			fprintf(out, "/%u-%u in %d lengths", f->tables[0].len, last->len,
				f->ntables);
		else if (cl_width(t, i) >= 32 && i <= CL_DADDR)
			fprintf(out, "/%u", i == f->vary ? last->len : f->len[i]);
	}
}

static void print_family(FILE *out, const struct ir_table *t, const struct ir_group *g,
			 const struct cl_family *f)
{
	__u32 keys = 0;

	for (int i = 0; i < f->nconds; i++)
		print_cond(out, &g->conds[f->conds[i]]);
	if (!f->nwords) {
		fputs("drop\n", out);
		return;
	}
	print_key(out, t, f);
	for (int i = 0; i < f->ntables; i++)
		keys += f->tables[i].nkeys;
	fprintf(out, ": %u keys", keys - f->nmarkers);
	if (f->nmarkers)
		fprintf(out, ", %u markers", f->nmarkers);
	if (f->depth)
		fprintf(out, ", lists of up to %d", f->depth);
	fputc('\n', out);
}

static void print_acts(FILE *out, const struct ir_table *t, const struct ir_group *g)
{
	for (__u32 i = 1; i < g->nacts && i <= 4; i++) {
		const struct cl_act *a = &g->acts[i];

		fprintf(out, "%s %s", i > 1 ? "," : "", ir_action_name[a->action]);
		if (a->action == IR_A_JUMP || a->action == IR_A_GOTO)
			fprintf(out, " %s", t->chains[a->arg].name);
		else if (a->action == IR_A_LOG || a->action == IR_A_REJECT)
			fprintf(out, " %u", a->arg);
	}
	if (g->nacts > 5)
		fprintf(out, ", %u more", g->nacts - 5);
}

void classify_print(FILE *out, const struct ir_table *t, const struct ir_group *g,
		    const char *indent, bool families)
{
	__u32 n = 0;

	for (__u32 i = 0; i < g->nfamilies; i++)
		n += !g->families[i].hot;
	fprintf(out, "%s%s: %u rules by lookup in %u families, %u between; they", indent,
		t->chains[g->chain].name, g->nmembers, n, g->nrest);
	print_acts(out, t, g);
	for (int i = CL_SADDR; i <= CL_DADDR; i++)
		if (g->sieve[i].bits)
			fprintf(out, "; sieve of %s/%u", field_name[i], g->sieve[i].bits);
	fputc('\n', out);
	for (__u32 i = 0; families && i < g->nfamilies; i++) {
		fprintf(out, "%s  ", indent);
		print_family(out, t, g, &g->families[i]);
	}
}
