// SPDX-License-Identifier: GPL-2.0
/*
 * libFuzzer: any bytes as a SO_SET_REPLACE request; the first one chooses the
 * family.  What decodes must hold together, and decode to the same again.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../umh/blob.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool what)
{
	if (!what)
		abort();
}

static volatile unsigned int sink;

static void read_part(const struct xt_part *p)
{
	must(strlen(p->name) < 29 && !((uintptr_t)p->data % 8));
	for (__u32 i = 0; i < p->size; i++)
		sink += ((const uint8_t *)p->data)[i];
}

static void check_rule(const struct xt_ruleset *rs, __u32 i)
{
	const struct xt_rule *r = &rs->rules[i];

	for (__u32 m = 0; m < r->nmatches; m++)
		read_part(&r->matches[m]);
	read_part(&r->target);
	must(!i == !r->offset && r->chain <= rs->nchains);
	if (r->verdict == XT_V_JUMP || r->verdict == XT_V_GOTO)
		must(r->to < rs->nrules && rs->chains[rs->rules[r->to].chain].first == r->to &&
		     rs->chains[rs->rules[r->to].chain].hook < 0);
}

static void check_ruleset(const struct xt_ruleset *rs)
{
	__u32 entries = 1;

	for (__u32 i = 0; i < rs->nrules; i++)
		check_rule(rs, i);
	for (__u32 i = 0; i < rs->nchains; i++) {
		const struct xt_chain *ch = &rs->chains[i];

		must(ch->count && ch->first + ch->count < rs->nrules && strlen(ch->name) < 30);
		must(xt_rule_number(rs, ch->first + ch->count - 1) == ch->count);
		must(ch->hook < 0 || rs->base_chain[ch->hook] == (int)i);
		entries += ch->count + (ch->hook < 0);
	}
	must(entries == rs->nrules);
}

/* The decoder's own copy of the table, with counters, is the same table. */
static void decode_again(const struct xt_ruleset *rs, const struct xt_replace_hdr *h)
{
	__u64 (*counters)[2] = malloc(rs->nrules * sizeof(*counters));
	const void *entries;
	struct xt_replace_hdr got;
	struct xt_ruleset again;
	size_t len;
	void *arg;

	arg = xt_replace_build(rs->family, h, rs->blob, NULL, &len);
	memset(counters, 0xa5, rs->nrules * sizeof(*counters));
	xt_blob_put_counters(rs, (char *)arg + len - rs->size, counters);
	must(!xt_replace_parse(rs->family, arg, len, &got, &entries, NULL));
	must(!xt_ruleset_decode(&again, rs->family, &got, entries, NULL));
	must(again.size == rs->size && again.nchains == rs->nchains &&
	     !memcmp(again.blob, rs->blob, rs->size));
	xt_ruleset_free(&again);
	free(arg);
	free(counters);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const struct xt_family *f;
	struct xt_replace_hdr h;
	struct xt_err err = { 0 };
	struct xt_ruleset rs;
	const void *entries;
	int ret;

	if (!len)
		return 0;
	f = data[0] & 1 ? &xt_family_ip6 : &xt_family_ip;
	ret = xt_replace_parse(f, data + 1, len - 1, &h, &entries, &err) ?:
	      xt_ruleset_decode(&rs, f, &h, entries, &err);
	must(ret == err.err && !ret == !err.text[0]);
	if (ret)
		return 0;
	check_ruleset(&rs);
	decode_again(&rs, &h);
	xt_ruleset_free(&rs);
	return 0;
}
