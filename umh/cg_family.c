// SPDX-License-Identifier: GPL-2.0
/*
 * One family of a group: its key, the tables of its lengths, and what an entry has.
 */
#include <linux/netfilter.h>

#include "cg_lookup.h"

/* Where a part is in struct pkt. */
static short part_slot(const struct lookup *l, const struct cl_part *p)
{
	static const __u8 fields[CL_NFIELDS] = {
		[CL_SADDR] = IR_SADDR, [CL_DADDR] = IR_DADDR, [CL_SPORT] = IR_SPORT,
		[CL_DPORT] = IR_DPORT, [CL_SMAC] = IR_SMAC,
	};
	const struct cg *g = l->g;

	switch (p->field) {
	case CL_CHAIN:
		return cg_entry(g, l->t, l->gr->chain);
	case CL_IFACE:
		return g->slot[SLOT_IFACE] + 8 * p->half;
	case CL_OFACE:
		return g->slot[SLOT_OFACE] + 8 * p->half;
	case CL_SADDR:
	case CL_DADDR:
		if (cg_v6(g))
			return g->field6[p->field == CL_SADDR ? IR6_SADDR : IR6_DADDR] + 8 * p->half;
		break;
	}
	return g->field[fields[p->field]];
}

/* @dst = part under its mask, in place; spoils r5 if the mask is a wide one. */
static void part(struct lookup *l, const struct cl_part *p, int dst, int len)
{
	struct emit *e = &l->g->e;
	__u64 whole = cl_part_mask(l->t->ir, p, cl_width(l->t->ir, p->field));
	__u64 mask = cl_part_mask(l->t->ir, p, len);

	if (p->bits > 32) {
		ld(e, U64, dst, R6, part_slot(l, p));
		if (mask != whole) {
			ldimm64(e, R5, mask);
			alu(e, BPF_AND, dst, R5);
		}
	} else {
		ld(e, U32, dst, R6, part_slot(l, p));
		if (mask != whole)
			alui32(e, BPF_AND, dst, mask);
	}
	if (p->shift)
		alui(e, BPF_LSH, dst, p->shift);
}

/* @dst = word @w of the key; spoils r5. */
static void word(struct lookup *l, const struct cl_family *f, const struct cl_table *tab, int w,
		 int dst)
{
	bool first = true;

	for (int i = 0; i < f->nparts; i++) {
		const struct cl_part *p = &f->parts[i];
		int len = p->field == f->vary ? tab->len : f->len[p->field];

		if (p->word != w)
			continue;
		part(l, p, first ? dst : R5, len);
		if (!first)
			alu(&l->g->e, BPF_OR, dst, R5);
		first = false;
	}
}

/* phash_hash(): words 0 and 1 stay in r1, r2; the hash is r3. */
static void hash(struct lookup *l, const struct cl_family *f, const struct cl_table *tab)
{
	struct emit *e = &l->g->e;

	for (int w = 0; w < f->nwords; w++) {
		int reg = w == 0 ? R1 : R2;

		word(l, f, tab, w, reg);
		if (w)
			alu(e, BPF_ADD, R3, reg);
		else
			mov(e, R3, reg);
		ldimm64(e, R5, tab->ph.mul[w]);
		alu(e, BPF_MUL, R3, R5);
		mov(e, R5, R3);
		alui(e, BPF_RSH, R5, 32);
		alu(e, BPF_XOR, R3, R5);
	}
}

static void scale(struct emit *e, int reg, __u32 n)
{
	alui(e, BPF_MUL, reg, n);
	alui(e, BPF_RSH, reg, 32);
}

static bool counted(const struct lookup *l, const struct cl_table *tab)
{
	return l->by_slot && tab && tab->counter != CL_NONE;
}

static __u32 slot_bytes(const struct cl_family *f)
{
	return counted_size(cl_counted_size(f));
}

/* r0 = the key's slot; if that has a counter, r4 = its place */
static void find_slot(struct lookup *l, const struct cl_family *f, const struct cl_table *tab)
{
	struct emit *e = &l->g->e;

	hash(l, f, tab);
	insn(e, BPF_ALU | BPF_MOV | BPF_X, R5, R3, 0, 0);
	scale(e, R5, tab->ph.nbuckets);
	alui(e, BPF_LSH, R5, 1);
	ldmapvalue(e, R0, l->map, tab->disp);
	alu(e, BPF_ADD, R0, R5);
	ld(e, U16, R5, R0, 0);
	alui(e, BPF_LSH, R5, 1);
	alui(e, BPF_ADD, R5, 1);
	alu(e, BPF_MUL, R3, R5);
	alui(e, BPF_RSH, R3, 32);
	scale(e, R3, tab->ph.nslots);
	if (counted(l, tab)) {
		alui(e, BPF_MUL, R3, slot_bytes(f) / 8);
		alui(e, BPF_ADD, R3, tab->counter);
		mov(e, R4, R3);
		alui(e, BPF_LSH, R3, 3);
		mov(e, R0, R9);
		alu(e, BPF_ADD, R0, R3);
		return;
	}
	alui(e, BPF_MUL, R3, f->slot_size);
	ldmapvalue(e, R0, l->map, tab->slots);
	alu(e, BPF_ADD, R0, R3);
}

/* Falls through with r3 = what the table has for the key, or goes to @miss. */
static void probe(struct lookup *l, const struct cl_family *f, const struct cl_table *tab,
		  __u32 miss)
{
	struct emit *e = &l->g->e;
	int key = counted(l, tab) ? CL_COUNTED_KEY : 0;

	find_slot(l, f, tab);
	for (int w = 0; w < f->nwords; w++) {
		int reg = w == 0 ? R1 : R2;

		if (w && f->nwords > 2)
			word(l, f, tab, w, reg);
		ld(e, f->word_size[w] == 8 ? U64 : U32, R5, R0, key + f->word_at[w]);
		jmp(e, BPF_JNE, R5, reg, miss);
	}
	ld(e, U32, R3, R0, (key ? slot_bytes(f) : f->slot_size) - 4);
}

/* r0 = the node of index r3, which is one: else to @none. */
static void node(struct lookup *l, __u32 none)
{
	struct emit *e = &l->g->e;

	jmpi32(e, BPF_JGE, R3, l->gr->nnodes, none);
	alui(e, BPF_LSH, R3, 3);
	ldmapvalue(e, R0, l->map, l->gr->nodes);
	alu(e, BPF_ADD, R0, R3);
}

/* r3: a list -> its first value from r1 on, or to @none. */
static void from_list(struct lookup *l, const struct cl_family *f, __u32 none)
{
	struct emit *e = &l->g->e;
	__u32 got = new_label(e);

	for (int i = 0; i < f->depth; i++) {
		bool last = i == f->depth - 1;

		node(l, none);
		ld(e, U32, R3, R0, 0);
		if (last) {
			jmp32(e, BPF_JLT, R3, R1, none);
		} else {
			jmp32(e, BPF_JGE, R3, R1, got);
			ld(e, U32, R3, R0, 4);
		}
	}
	place(e, got);
}

/*
 * The same by halves, where r3 is a node { CL_NONE, n } with n values behind it.  What is
 * left of them is kept in memory, of which the verifier does not follow each outcome.
 */
static void from_array(struct lookup *l, const struct cl_family *f, __u32 none)
{
	short at = l->g->slot[SLOT_LIST], end = at + 4;
	struct emit *e = &l->g->e;

	mov(e, R2, R3);
	alui32(e, BPF_ADD, R2, 1);
	st(e, U32, R6, at, R2);
	node(l, none);
	ld(e, U32, R3, R0, 4);
	alu(e, BPF_ADD, R3, R2);
	st(e, U32, R6, end, R3);
	for (__u32 step = 1u << (cl_halves(f->depth) - 1); step; step /= 2) {
		__u32 next = new_label(e);

		ld(e, U32, R3, R6, at);
		alui32(e, BPF_ADD, R3, step);
		mov(e, R2, R3);
		ld(e, U32, R4, R6, end);
		jmp32(e, BPF_JGT, R3, R4, next);
		alui32(e, BPF_SUB, R3, 1);
		node(l, next);
		ld(e, U32, R3, R0, 0);
		jmp32(e, BPF_JGE, R3, R1, next);
		st(e, U32, R6, at, R2);
		place(e, next);
	}
	ld(e, U32, R3, R6, at);
	ld(e, U32, R4, R6, end);
	jmp32(e, BPF_JGE, R3, R4, none);
	node(l, none);
	ld(e, U32, R3, R0, 0);
}

static int family_told(const struct lookup *l, const struct cl_family *f)
{
	int how = TOLD;

	for (int i = 0; i < f->nconds; i++)
		how |= cg_told(l, &l->gr->conds[f->conds[i]]);
	return how;
}

/* Whether all conditions of the family that are told of NEW packets hold of one. */
static bool holds_new(const struct lookup *l, const struct cl_family *f)
{
	bool yes = true;

	for (int i = 0; i < f->nconds; i++) {
		const struct cl_cond *c = &l->gr->conds[f->conds[i]];

		if (cg_told(l, c) == TOLD_IF_NEW)
			yes &= cg_early_holds_new(&c->p);
	}
	return yes;
}

/*
 * r3, r4: a value of the family, of @tab, and its counter's place, if it has one; to @none if
 * it is not for a NEW packet.  Of one that may be INVALID it cannot be told.
 */
static void if_new(struct lookup *l, const struct cl_family *f, const struct cl_table *tab,
		   __u32 none)
{
	struct emit *e = &l->g->e;
	__u32 unsure = new_label(e), sure = new_label(e);

	st(e, U64, R10, -16, R3);
	if (counted(l, tab))
		st(e, U64, R10, -24, R4);
	cg_early_new(l->g, unsure);
	if (!holds_new(l, f))
		ja(e, none);
	ld(e, U64, R3, R10, -16);
	ja(e, sure);
	place(e, unsure);
	ld(e, U64, R3, R10, -16);
	alui32(e, BPF_AND, R3, ~0xff);		/* CL_HOTDROP: up */
	place(e, sure);
	if (counted(l, tab))
		ld(e, U64, R4, R10, -24);
}

/* The counter at place r4, @tab having some, or that of value r3's rule is to count; spoils r4. */
static void count_by(struct lookup *l, const struct cl_table *tab)
{
	struct emit *e = &l->g->e;

	if (!counted(l, tab)) {
		mov(e, R4, R3);
		alui(e, BPF_RSH, R4, 8);
		alui(e, BPF_LSH, R4, 1);
	}
	st(e, U32, R6, l->best + 4, R4);
}

/* r3: a value, of @tab if there is one, which may be the best one. */
static void better(struct lookup *l, const struct cl_family *f, const struct cl_table *tab,
		   __u32 none)
{
	struct emit *e = &l->g->e;
	int how = family_told(l, f);
	__u32 here = new_label(e);

	ld(e, U32, R5, R6, l->best);
	jmp32(e, BPF_JGE, R3, R5, none);
	if (how & TOLD_IF_NEW)
		if_new(l, f, tab, none);
	if (l->by_slot)
		count_by(l, tab);
	if (how & NOT_FORWARDED && !(how & NOT_TOLD)) {
		ld_slot(l->g, R5, SLOT_HOOK);
		jmpi(e, BPF_JNE, R5, NF_INET_FORWARD, here);
	}
	if (how & (NOT_FORWARDED | NOT_TOLD))
		alui32(e, BPF_AND, R3, ~0xff);		/* CL_HOTDROP: up */
	place(e, here);
	st(e, U32, R6, l->best, R3);
}

static void probe_best(struct lookup *l, const struct cl_family *f, const struct cl_table *tab,
		       __u32 miss)
{
	struct emit *e = &l->g->e;
	__u32 none = new_label(e);

	probe(l, f, tab, miss);
	if (l->gr->resumes)
		ld(e, U32, R1, R6, l->from);
	if (f->deep)
		from_array(l, f, none);
	else if (f->depth)
		from_list(l, f, none);
	else if (l->gr->resumes)
		jmp32(e, BPF_JLT, R3, R1, none);
	better(l, f, tab, none);
	place(e, none);
}

/* Bisection of the lengths: falls through, or goes to @end. */
static void bisect(struct lookup *l, const struct cl_family *f, int lo, int hi, __u32 end)
{
	struct emit *e = &l->g->e;
	int mid = cl_middle(f, lo, hi);
	__u32 miss;

	if (lo > hi)
		return;
	miss = lo == hi ? end : new_label(e);
	probe_best(l, f, &f->tables[mid], miss);
	bisect(l, f, mid + 1, hi, end);
	if (miss == end)
		return;
	if (mid > lo)
		ja(e, end);
	place(e, miss);
	bisect(l, f, lo, mid - 1, end);
}

/* Where the answer of the sieve is. */
static short sieve_slot(const struct cg *g, int field)
{
	return g->slot[SLOT_SIEVE] + (field == CL_DADDR ? 4 : 0);
}

void cg_sieves(struct lookup *l)
{
	struct emit *e = &l->g->e;

	for (int i = CL_SADDR; i <= CL_DADDR; i++) {
		const struct cl_sieve *s = &l->gr->sieve[i];
		const struct cl_part p = { .field = i };

		if (!s->bits)
			continue;
		ld(e, U32, R1, R6, part_slot(l, &p));
		alui(e, BPF_RSH, R1, 32 - s->bits);
		alui(e, BPF_LSH, R1, 2);
		ldmapvalue(e, R2, l->map, s->at);
		alu(e, BPF_ADD, R2, R1);
		ld(e, U32, R1, R2, 0);
		st(e, U32, R6, sieve_slot(l->g, i), R1);
	}
}

void cg_if_sieved(struct lookup *l, const struct cl_family *f, __u32 bits, __u32 not)
{
	ld(&l->g->e, U32, R1, R6, sieve_slot(l->g, f->sieve_by));
	alui32(&l->g->e, BPF_AND, R1, bits);
	jmpi32(&l->g->e, BPF_JEQ, R1, 0, not);
}

/* The tables that the sieve names, the longest first. */
static void spread(struct lookup *l, const struct cl_family *f, __u32 end)
{
	for (int i = f->ntables - 1; i >= 0; i--) {
		__u32 next = new_label(&l->g->e);

		cg_if_sieved(l, f, f->tables[i].sieve, next);
		probe_best(l, f, &f->tables[i], next);
		ja(&l->g->e, end);
		place(&l->g->e, next);
	}
}

/* Where a packet that is to be forwarded will leave, the early stage does not know. */
static void known_keys(struct lookup *l, const struct cl_family *f)
{
	struct emit *e = &l->g->e;
	__u32 known;

	if (!l->g->fl->early || !f->has[CL_OFACE])
		return;
	known = new_label(e);
	ld_slot(l->g, R1, SLOT_HOOK);
	jmpi(e, BPF_JNE, R1, NF_INET_FORWARD, known);
	cg_zero(l->g);
	place(e, known);
}

void cg_family(struct lookup *l, const struct cl_family *f)
{
	struct emit *e = &l->g->e;
	__u32 end = new_label(e);

	known_keys(l, f);
	if (f->spread) {
		spread(l, f, end);
	} else if (f->nwords) {
		bisect(l, f, 0, f->ntables - 1, end);
	} else {
		movi32(e, R3, f->first);
		if (l->gr->resumes) {
			ld(e, U32, R1, R6, l->from);
			jmp32(e, BPF_JLT, R3, R1, end);
		}
		better(l, f, NULL, end);
	}
	place(e, end);
}
