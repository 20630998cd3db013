// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ir.h"

#define CHUNK_MIN (16u << 10)
#define CHUNK_MAX (1u << 20)

/* Memory is handed out from the newest chunk; earlier ones are only kept. */
struct chunk {
	struct chunk *older;
	char data[];
};

struct ir_arena {
	struct chunk *newest;
	char *next, *end;	/* what is free in the newest chunk */
	size_t size;		/* of the next chunk */
};

const __u8 ir_field_bits[IR_NFIELDS] = {
	[IR_SADDR] = 32, [IR_DADDR] = 32,
	[IR_PROTO] = 8,
	[IR_FRAGOFF] = 13,
	[IR_LEN] = 32,
	[IR_DSFIELD] = 8,
	[IR_TTL] = 8,
	[IR_SPORT] = 16, [IR_DPORT] = 16,
	[IR_TCPFLAGS] = 8,
	[IR_ICMP] = 16,
	[IR_MARK] = 32,
	[IR_PKTTYPE] = 8,
	[IR_MACOK] = 1,
	[IR_SMAC] = 48,
	[IR_CT] = 1,
	[IR_CTSTATE] = 16,
	[IR_CTSTATUS] = 32,
	[IR_CTPROTO] = 8,
	[IR_CTDIR] = 1,
	[IR_CTORIGSRC] = 32, [IR_CTORIGDST] = 32,
	[IR_CTREPLSRC] = 32, [IR_CTREPLDST] = 32,
	[IR_CTORIGSRCPORT] = 16, [IR_CTORIGDSTPORT] = 16,
	[IR_CTREPLSRCPORT] = 16, [IR_CTREPLDSTPORT] = 16,
	[IR_CTEXPIRE] = 32,
};

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

struct ir_arena *ir_arena_new(void)
{
	struct ir_arena *a = must(calloc(1, sizeof(*a)));

	a->size = CHUNK_MIN;
	return a;
}

static void new_chunk(struct ir_arena *a, size_t size)
{
	struct chunk *c;

	if (size < a->size)
		size = a->size;
	c = must(calloc(1, sizeof(*c) + size));
	c->older = a->newest;
	a->newest = c;
	a->next = c->data;
	a->end = c->data + size;
	if (a->size < CHUNK_MAX)
		a->size *= 2;
}

void *ir_alloc(struct ir_arena *a, size_t size)
{
	char *p;

	size = (size + 7) & ~(size_t)7;
	if ((size_t)(a->end - a->next) < size)
		new_chunk(a, size);
	p = a->next;
	a->next += size;
	return p;
}

void *ir_grow(struct ir_arena *a, void *array, __u32 n, size_t size)
{
	void *p;

	if (n & (n - 1))
		return array;
	p = ir_alloc(a, (n ? 2 * (size_t)n : 1) * size);
	if (n)
		memcpy(p, array, n * size);
	return p;
}

void ir_arena_free(struct ir_arena *a)
{
	struct chunk *c = a ? a->newest : NULL;

	while (c) {
		struct chunk *older = c->older;

		free(c);
		c = older;
	}
	free(a);
}

void ir_table_free(struct ir_table *t)
{
	ir_arena_free(t->arena);
	memset(t, 0, sizeof(*t));
}

struct ir_pred *ir_pred_add(struct ir_arena *a, struct ir_rule *r, enum ir_pkind kind)
{
	struct ir_pred *end = r->preds + r->npreds;
	size_t one = sizeof(*r->preds);
	struct ir_pred *p;

	/* The usual case, the rule's are the latest allocation, wastes no memory. */
	if (!r->npreds || (char *)end != a->next || (size_t)(a->end - a->next) < one) {
		p = ir_alloc(a, (r->npreds + 1) * one);
		if (r->npreds)
			memcpy(p, r->preds, r->npreds * one);
		r->preds = p;
	} else {
		ir_alloc(a, one);
	}
	p = &r->preds[r->npreds++];
	p->kind = kind;
	return p;
}

void ir_range(struct ir_arena *a, struct ir_rule *r, enum ir_field field,
	      __u64 mask, __u64 lo, __u64 hi, bool inv)
{
	bool always, never;
	struct ir_pred *p;

	mask &= ir_field_mask(field);
	never = lo > hi || lo > mask || (lo == hi && (lo & ~mask));
	always = !lo && hi >= mask;
	if ((always && !inv) || (never && inv))
		return;
	if (always || never) {
		if (field < IR_CTSTATUS) {
			ir_pred_add(a, r, IR_P_FALSE);
			return;
		}
		field = IR_CT;
		mask = 1;
		lo = hi = 0;
		inv = false;
	}
	p = ir_pred_add(a, r, IR_P_RANGE);
	p->field = field;
	p->inv = inv;
	p->mask = mask;
	p->lo = lo;
	p->hi = hi < mask ? hi : mask;
}

bool ir_pred_early(const struct ir_pred *p)
{
	switch (p->kind) {
	case IR_P_RANGE:
		return p->field == IR_CTSTATE || (p->field < IR_CT && p->field != IR_MARK);
	case IR_P_ADDR6:
	case IR_P_RANGE6:
		return p->field <= IR6_DADDR;
	case IR_P_PROTO:
	case IR_P_IFACE:
	case IR_P_L4:
	case IR_P_PORTS:
	case IR_P_ADDRTYPE:
	case IR_P_LIMIT:
	case IR_P_FALSE:
	case IR_P_BEFORE:
	case IR_P_CHAIN:
		return true;
	default:
		return false;
	}
}
