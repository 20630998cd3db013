// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "journal.h"

#define UNWRITTEN (~0ull)	/* no rule has met so many packets */

int journal_begin(struct table *t, enum journal_kind kind, __u64 id, __u32 na, __u32 nb,
		  struct pmem *m, struct xt_err *err)
{
	struct journal *j;
	int ret;

	ret = pmem_create(m, "xtjit_journal", sizeof(*j) + ((size_t)na + nb) * sizeof(j->c[0]),
			  err);
	if (ret)
		return ret;
	j = m->p;
	j->id = id;
	j->kind = kind;
	j->na = na;
	j->nb = nb;
	if (na)
		journal_a(j)->pcnt = UNWRITTEN;
	if (nb)
		journal_b(j)->pcnt = UNWRITTEN;
	ret = state_pin(m->fd, t->dir, "journal");
	if (ret) {
		xt_fail(err, ret, "pin below %s: %s", t->dir, strerror(-ret));
		pmem_close(m);
	}
	return ret;
}

struct journal *journal_open(struct table *t, struct pmem *m)
{
	struct journal *j;

	if (pmem_open(m, t->dir, "journal", sizeof(*j)))
		return NULL;
	j = m->p;
	if (j->ngates <= XT_HOOKS && j->ngates <= j->nb &&
	    sizeof(*j) + ((size_t)j->na + j->nb) * sizeof(j->c[0]) <= m->len)
		return j;
	pmem_close(m);
	return NULL;
}

bool journal_written(const struct xt_counters *c, __u32 n)
{
	return n && c->pcnt != UNWRITTEN;
}

struct xt_counters *journal_sum(struct journal *j)
{
	struct xt_counters *sum = calloc((size_t)j->nb + 1, sizeof(*sum));
	const struct xt_counters *a = journal_a(j);

	if (!sum)
		return NULL;
	if (journal_written(journal_b(j), j->nb)) {
		memcpy(sum, journal_b(j), j->nb * sizeof(*sum));
		gate_strip_counters(sum, j->nb, j->ngates, j->at);
	}
	for (__u32 i = 0; journal_written(a, j->na) && i < j->na && i < j->nb - j->ngates; i++) {
		sum[i].pcnt += a[i].pcnt;
		sum[i].bcnt += a[i].bcnt;
	}
	return sum;
}
