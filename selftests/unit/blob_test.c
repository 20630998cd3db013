// SPDX-License-Identifier: GPL-2.0
/*
 * The ruleset decoder: what it makes of a table, and the errno of each defect.
 * selftests/netns/blob_errno_test compares the errnos with the kernel's own.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "blob.h"
#include "blob_table.h"
#include "tap.h"

/* The entries of the table that the tests below change. */
enum {
	SSH, TOWEB, GOWEB, PLAIN, INPUT,	/* INPUT and its policy */
	FORWARD,
	LOG, OUTPUT,
	WEB, WEB1, WEB2, WEBEND,		/* the head of "web", and its rules */
	EMPTY, EMPTYEND,
	END,
};

static void sample(struct table *t, const struct xt_family *f)
{
	table_init(t, f, 32);
	memcpy(add(t, 48, "", 40), &(int){ V(NF_ACCEPT) }, 4);
	add_standard(t, 0);
	add_standard(t, 0);
	add_standard(t, 0);
	add_standard(t, V(NF_ACCEPT));
	add_standard(t, V(NF_DROP));
	add(t, 0, "LOG", 64);
	add_standard(t, V(NF_ACCEPT));
	add_error(t, "web");
	add_standard(t, V(NF_DROP));
	add_standard(t, V(NF_QUEUE));
	add_standard(t, XT_RETURN);
	add_error(t, "empty");
	add_standard(t, XT_RETURN);
	add_error(t, "ERROR");

	set_verdict(t, TOWEB, t->offset[WEB1]);
	set_verdict(t, GOWEB, t->offset[WEB1]);
	set_verdict(t, PLAIN, t->offset[INPUT]);
	*(__u8 *)IPFIELD(t, entry(t, GOWEB), flags) = is_ip6(t) ? IP6T_F_GOTO : IPT_F_GOTO;
	memset(IPFIELD(t, entry(t, WEB1), src), 10, f->addr_size);
	memset(IPFIELD(t, entry(t, WEB1), smsk), 0xff, f->addr_size);
	strcpy(IPFIELD(t, entry(t, WEB2), iniface), "eth0");
	memset(IPFIELD(t, entry(t, WEB2), iniface_mask), 0xff, 5);
	*(__u8 *)IPFIELD(t, entry(t, WEB2), invflags) = IPT_INV_VIA_IN;
	t->h.hook_entry[NF_INET_LOCAL_IN] = t->offset[SSH];
	t->h.underflow[NF_INET_LOCAL_IN] = t->offset[INPUT];
	t->h.hook_entry[NF_INET_FORWARD] = t->offset[FORWARD];
	t->h.underflow[NF_INET_FORWARD] = t->offset[FORWARD];
	t->h.hook_entry[NF_INET_LOCAL_OUT] = t->offset[LOG];
	t->h.underflow[NF_INET_LOCAL_OUT] = t->offset[OUTPUT];
}

static int decode(const struct table *t, struct xt_ruleset *rs, struct xt_err *err)
{
	memset(err, 0, sizeof(*err));
	return xt_ruleset_decode(rs, t->f, &t->h, t->blob, err);
}

static void test_rules(const struct xt_ruleset *rs, const struct table *t)
{
	static const enum xt_verdict verdicts[] = {
		XT_V_ACCEPT, XT_V_JUMP, XT_V_GOTO, XT_V_NEXT, XT_V_ACCEPT, XT_V_DROP,
		XT_V_TARGET, XT_V_ACCEPT, XT_V_ERROR, XT_V_DROP, XT_V_QUEUE, XT_V_RETURN,
		XT_V_ERROR, XT_V_RETURN, XT_V_ERROR,
	};
	const struct xt_rule *r = rs->rules;
	const char *f = t->f->name;
	bool ok = true;

	for (__u32 i = 0; i < rs->nrules; i++)
		ok &= r[i].verdict == verdicts[i] && r[i].offset == t->offset[i];
	tap_ok(ok && rs->nrules == END + 1, "%s: verdicts and offsets", f);
	tap_ok(r[TOWEB].to == WEB1 && r[GOWEB].to == WEB1, "%s: where jumps go", f);
	tap_ok(r[SSH].nmatches == 1 && !strcmp(r[SSH].matches[0].name, "tcp") &&
	       r[SSH].matches[0].size == 16 && !r[SSH].matches[0].rev &&
	       !((size_t)r[SSH].matches[0].data % 8) && !r[WEB1].nmatches,
	       "%s: matches", f);
	tap_ok(!strcmp(r[LOG].target.name, "LOG") && r[LOG].target.size == 32 &&
	       !strcmp(r[SSH].target.name, "") && !strcmp(r[END].target.name, "ERROR"),
	       "%s: targets", f);
	tap_ok(r[SSH].base.proto == 6 && r[SSH].base.flags == (is_ip6(t) ? IP6T_F_PROTO : 0),
	       "%s: protocol", f);
	ok = true;
	for (size_t i = 0; i < 16; i++)
		ok &= r[WEB1].base.src[i] == (i < t->f->addr_size ? 10 : 0) &&
		      r[WEB1].base.smsk[i] == (i < t->f->addr_size ? 0xff : 0) &&
		      !r[WEB1].base.dst[i] && !r[WEB1].base.dmsk[i];
	tap_ok(ok, "%s: addresses", f);
	tap_ok(!strcmp(r[WEB2].base.iniface, "eth0") && !r[WEB2].base.outiface[0] &&
	       r[WEB2].base.iniface_mask[4] == 0xff && !r[WEB2].base.iniface_mask[5] &&
	       r[WEB2].base.invflags == IPT_INV_VIA_IN, "%s: interfaces", f);
}

static bool chain_is(const struct xt_ruleset *rs, __u32 i, const char *name, int hook,
		     __u32 first, __u32 count)
{
	const struct xt_chain *ch = &rs->chains[i];
	bool ok = !strcmp(ch->name, name) && ch->hook == hook && ch->first == first &&
		  ch->count == count;

	for (__u32 r = first; r < first + count; r++)
		ok &= rs->rules[r].chain == i && xt_rule_number(rs, r) == r - first + 1;
	return ok;
}

static void test_chains(const struct xt_ruleset *rs, const char *f)
{
	tap_ok(rs->nchains == 5 &&
	       chain_is(rs, 0, "INPUT", NF_INET_LOCAL_IN, SSH, 5) &&
	       chain_is(rs, 1, "FORWARD", NF_INET_FORWARD, FORWARD, 1) &&
	       chain_is(rs, 2, "OUTPUT", NF_INET_LOCAL_OUT, LOG, 2) &&
	       chain_is(rs, 3, "web", -1, WEB1, 3) &&
	       chain_is(rs, 4, "empty", -1, EMPTYEND, 1), "%s: chains and rule numbers", f);
	tap_ok(rs->rules[WEB].chain == 3 && rs->rules[END].chain == 5 &&
	       !xt_rule_number(rs, WEB) && !xt_rule_number(rs, END), "%s: heads", f);
	tap_ok(rs->base_chain[NF_INET_PRE_ROUTING] == -1 &&
	       rs->base_chain[NF_INET_LOCAL_IN] == 0 && rs->base_chain[NF_INET_FORWARD] == 1 &&
	       rs->base_chain[NF_INET_LOCAL_OUT] == 2 &&
	       rs->base_chain[NF_INET_POST_ROUTING] == -1, "%s: base chains", f);
	tap_ok(rs->hook_entry[NF_INET_PRE_ROUTING] == ~0u &&
	       rs->underflow[NF_INET_LOCAL_IN] == rs->rules[INPUT].offset, "%s: hooks", f);
}

static __u32 comefrom(const struct xt_ruleset *rs, const struct table *t, __u32 i)
{
	const unsigned char *e = (const unsigned char *)rs->blob + rs->rules[i].offset;

	return *(__u32 *)FIELD(t, e, comefrom);
}

static void test_blob(const struct xt_ruleset *rs, struct table *t)
{
	__u64 counters[END + 1][2];
	bool ok = true;

	tap_ok(comefrom(rs, t, WEB2) == 1 << NF_INET_LOCAL_IN &&
	       comefrom(rs, t, LOG) == 1 << NF_INET_LOCAL_OUT && !comefrom(rs, t, EMPTYEND),
	       "%s: from which hooks", t->f->name);
	for (__u32 i = 0; i <= END; i++) {
		counters[i][0] = i + 1;
		counters[i][1] = 1000 + i;
	}
	xt_blob_put_counters(rs, t->blob, (const __u64 (*)[2])counters);
	for (__u32 i = 0; i <= END; i++)
		ok &= !memcmp(FIELD(t, entry(t, i), counters), counters[i], 16);
	tap_ok(ok, "%s: counters into a blob", t->f->name);
}

static void test_sample(const struct xt_family *f)
{
	struct xt_ruleset rs;
	struct xt_err err;
	struct table t;

	sample(&t, f);
	if (!tap_ok(!decode(&t, &rs, &err), "%s: a table decodes", f->name)) {
		tap_diag("%s", err.text);
		return;
	}
	test_rules(&rs, &t);
	test_chains(&rs, f->name);
	test_blob(&rs, &t);
	xt_ruleset_free(&rs);
	table_free(&t);
}

static void test_proto_flag(void)
{
	struct xt_ruleset rs;
	struct xt_err err;
	struct table t;

	sample(&t, &xt_family_ip6);
	*(__u8 *)IPFIELD(&t, entry(&t, SSH), flags) = 0;
	tap_ok(decode(&t, &rs, &err) == -EOPNOTSUPP && strstr(err.text, "protocol"),
	       "ip6: a protocol without IP6T_F_PROTO");
	table_free(&t);
}

/* What a defect changes. */
enum field {
	F_NEXT, F_TARGET, F_FLAGS, F_INV,		/* of an entry */
	F_TSIZE, F_TNAME, F_TREV, F_VERDICT,		/* of its target */
	F_MSIZE, F_MNAME,				/* of its first match */
	F_ERRNAME,					/* of an ERROR target */
	H_HOOKS, H_ENTRIES, H_SIZE, H_COUNTERS, H_TABLE,/* of the header */
	H_ENTRY, H_UNDERFLOW,				/* .entry is the hook */
	H_ENTRY_OF, H_UNDERFLOW_OF,			/* .value is an entry's index */
	F_JUMP,						/* the same */
};

#define IN 1		/* hooks */
#define FWD 2
#define OUT 3
#define LONG 64		/* F_TNAME, F_MNAME: no NUL at the end */

static const struct defect {
	const char *name;
	int err;
	enum field field;
	__u32 entry;
	long value;
} defects[] = {
	{ "next_offset: not aligned", -EINVAL, F_NEXT, LOG, 300 },
	{ "next_offset: 0", -EINVAL, F_NEXT, FORWARD, 0 },
	{ "next_offset: within the header", -EINVAL, F_NEXT, FORWARD, 64 },
	{ "next_offset: past the end", -EINVAL, F_NEXT, END, 65528 },
	{ "next_offset: standard target, 8 more", -EINVAL, F_NEXT, FORWARD, -8 },
	{ "flags: one unknown", -EINVAL, F_FLAGS, WEB1, 0x80 },
	{ "flags: IPv6's GOTO + 1", -EINVAL, F_FLAGS, PLAIN, 0x08 },
	{ "invflags: one unknown", -EINVAL, F_INV, WEB1, 0x80 },
	{ "invflags: all known", 0, F_INV, WEB1, 0x7f },
	{ "target_offset: 0", -EINVAL, F_TARGET, FORWARD, 0 },
	{ "target_offset: within the header", -EINVAL, F_TARGET, FORWARD, 8 },
	{ "target_offset: past the entry", -EINVAL, F_TARGET, FORWARD, 65528 },
	{ "target size: 0", -EINVAL, F_TSIZE, FORWARD, 0 },
	{ "target size: less than its header", -EINVAL, F_TSIZE, FORWARD, 31 },
	{ "target size: past the entry", -EINVAL, F_TSIZE, FORWARD, 48 },
	{ "target size: standard, only a header", -EINVAL, F_TSIZE, FORWARD, 32 },
	{ "target size: an extension's, less than its header", -EINVAL, F_TSIZE, LOG, 24 },
	{ "target size: an extension's, not aligned", -EINVAL, F_TSIZE, LOG, 60 },
	{ "target size: an extension's, a gap after it", 0, F_TSIZE, LOG, 40 },
	{ "target size: ERROR", -EINVAL, F_TSIZE, WEB, 56 },
	{ "target revision: standard", -ENOENT, F_TREV, FORWARD, 1 },
	{ "target revision: ERROR", -ENOENT, F_TREV, END, 1 },
	{ "target revision: an extension's", 0, F_TREV, LOG, 7 },
	{ "target name: not terminated", -EINVAL, F_TNAME, LOG, LONG },
	{ "verdict: 0", -EINVAL, F_VERDICT, WEB2, 0 },
	{ "verdict: STOLEN", -EINVAL, F_VERDICT, WEB2, V(NF_STOLEN) },
	{ "verdict: STOP", -EINVAL, F_VERDICT, WEB2, V(NF_STOP) },
	{ "verdict: QUEUE 1", -EINVAL, F_VERDICT, WEB2, V(NF_QUEUE | 1 << 16) },
	{ "verdict: INT_MIN", -EINVAL, F_VERDICT, WEB2, -2147483647L - 1 },
	{ "verdict: RETURN", 0, F_VERDICT, WEB2, XT_RETURN },
	{ "ERROR: its text not terminated", -EINVAL, F_ERRNAME, END, 30 },
	{ "ERROR: its text as long as can be", 0, F_ERRNAME, WEB, 29 },
	{ "match size: 0", -EINVAL, F_MSIZE, SSH, 0 },
	{ "match size: less than its header", -EINVAL, F_MSIZE, SSH, 24 },
	{ "match size: past the target", -EINVAL, F_MSIZE, SSH, 56 },
	{ "match size: a rest", -EINVAL, F_MSIZE, SSH, 40 },
	{ "match size: not aligned", -EINVAL, F_MSIZE, SSH, 44 },
	{ "match name: not terminated", -EINVAL, F_MNAME, SSH, LONG },
	{ "size: 0", -EINVAL, H_SIZE, 0, 0 },
	{ "size: too large", -ENOMEM, H_SIZE, 0, 512 << 20 },
	{ "entries: 0", -EINVAL, H_ENTRIES, 0, 0 },
	{ "entries: one more", -EINVAL, H_ENTRIES, 0, END + 2 },
	{ "entries: one less", -EINVAL, H_ENTRIES, 0, END },
	{ "entries: more than fit", -EINVAL, H_ENTRIES, 0, 1 << 27 },
	{ "entries: too many", -ENOMEM, H_ENTRIES, 0, (1 << 27) + 1 },
	{ "counters: too many", -ENOMEM, H_COUNTERS, 0, (1 << 25) + 1 },
	{ "counters: as many as can be", 0, H_COUNTERS, 0, 1 << 25 },
	{ "table: unknown", -ENOENT, H_TABLE, 0, 0 },
	{ "hooks: one less", -EINVAL, H_HOOKS, 0, 0x6 },
	{ "hooks: one more", -EINVAL, H_HOOKS, 0, 0x1e },
	{ "hooks: unknown", -EINVAL, H_HOOKS, 0, 0x8e },
	{ "hooks: none", -EINVAL, H_HOOKS, 0, 0 },
	{ "hook entry: within an entry", -EINVAL, H_ENTRY, FWD, 8 },
	{ "hook entry: past the end", -EINVAL, H_ENTRY, FWD, 1 << 20 },
	{ "hook entry: past the end, the last hook", -EINVAL, H_ENTRY, OUT, 1 << 20 },
	{ "hook entry: another's", -EINVAL, H_ENTRY_OF, FWD, SSH },
	{ "hook entry: after its successor", -EINVAL, H_ENTRY_OF, FWD, OUTPUT },
	{ "hook entry: in a user chain", -EOPNOTSUPP, H_ENTRY_OF, OUT, WEB1 },
	{ "hook entry: not the first", -EOPNOTSUPP, H_ENTRY_OF, IN, TOWEB },
	{ "underflow: past the end", -EINVAL, H_UNDERFLOW, FWD, 1 << 20 },
	{ "underflow: past the end, the last hook", -EINVAL, H_UNDERFLOW, OUT, 1 << 20 },
	{ "underflow: no verdict", -EINVAL, H_UNDERFLOW_OF, IN, TOWEB },
	{ "underflow: conditional", -EINVAL, H_UNDERFLOW_OF, IN, SSH },
	{ "underflow: RETURN", -EINVAL, H_UNDERFLOW_OF, OUT, WEBEND },
	{ "underflow: an extension", -EINVAL, H_UNDERFLOW_OF, OUT, LOG },
	{ "underflow: another's", -EINVAL, H_UNDERFLOW_OF, FWD, INPUT },
	{ "underflow: QUEUE", -EINVAL, F_VERDICT, INPUT, V(NF_QUEUE) },
	{ "jump: within an entry", -ELOOP, F_VERDICT, TOWEB, 8 },
	{ "jump: past the end", -ELOOP, F_VERDICT, TOWEB, 2147483647L },
	{ "jump: within an entry, not reached", -EOPNOTSUPP, F_VERDICT, EMPTYEND, 8 },
	{ "jump: to itself", -ELOOP, F_JUMP, TOWEB, TOWEB },
	{ "jump: to its caller", -ELOOP, F_JUMP, WEB1, TOWEB },
	{ "jump: to its own chain", -ELOOP, F_JUMP, WEB2, WEB1 },
	{ "jump: a loop that is not reached", -EOPNOTSUPP, F_JUMP, EMPTYEND, EMPTYEND },
	{ "jump: to the last entry", -ELOOP, F_JUMP, TOWEB, END },
	{ "jump: to a head", -EOPNOTSUPP, F_JUMP, TOWEB, WEB },
	{ "jump: to a base chain", -EOPNOTSUPP, F_JUMP, TOWEB, FORWARD },
	{ "jump: into a chain", -EOPNOTSUPP, F_JUMP, TOWEB, WEB2 },
	{ "jump: to an empty chain", 0, F_JUMP, TOWEB, EMPTYEND },
	{ "chain: falls into the next", -EOPNOTSUPP, F_INV, WEBEND, 1 },
	{ "chain: its last rule goes on", -EOPNOTSUPP, F_JUMP, WEBEND, EMPTY },
	{ "chain: no head", -EOPNOTSUPP, F_TNAME, WEB, 'A' },
	{ "blob: no ERROR at its end", -EOPNOTSUPP, F_TNAME, END, 'A' },
};

static void name_part(unsigned char *p, long value)
{
	if (value == LONG)
		memset(p + 2, 'x', 29);
	else
		p[2] = value;
}

static void spoil_entry(struct table *t, const struct defect *d)
{
	unsigned char *e = entry(t, d->entry), *tg = target(t, d->entry);
	unsigned char *match = e + t->f->entry_size;
	__u16 v16 = d->value;

	switch (d->field) {
	case F_NEXT:
		if (d->value < 0)
			v16 = *(__u16 *)FIELD(t, e, next_offset) - d->value;
		memcpy(FIELD(t, e, next_offset), &v16, 2);
		break;
	case F_TARGET:
		memcpy(FIELD(t, e, target_offset), &v16, 2);
		break;
	case F_FLAGS:
		*(__u8 *)IPFIELD(t, e, flags) = d->value;
		break;
	case F_INV:
		*(__u8 *)IPFIELD(t, e, invflags) = d->value;
		break;
	case F_TSIZE:
		memcpy(tg, &v16, 2);
		break;
	case F_TNAME:
		name_part(tg, d->value);
		break;
	case F_TREV:
		tg[HDR - 1] = d->value;
		break;
	case F_VERDICT:
		set_verdict(t, d->entry, d->value);
		break;
	case F_JUMP:
		set_verdict(t, d->entry, t->offset[d->value]);
		break;
	case F_MSIZE:
		memcpy(match, &v16, 2);
		break;
	case F_MNAME:
		name_part(match, d->value);
		break;
	case F_ERRNAME:
		memset(tg + HDR, 'x', d->value);
		break;
	default:
		break;
	}
}

static void spoil_header(struct table *t, const struct defect *d)
{
	switch (d->field) {
	case H_HOOKS:
		t->h.valid_hooks = d->value;
		break;
	case H_ENTRIES:
		t->h.num_entries = d->value;
		break;
	case H_SIZE:
		t->h.size = d->value;
		break;
	case H_COUNTERS:
		t->h.num_counters = d->value;
		break;
	case H_TABLE:
		strcpy(t->h.name, "filters");
		break;
	case H_ENTRY:
		t->h.hook_entry[d->entry] = d->value;
		break;
	case H_UNDERFLOW:
		t->h.underflow[d->entry] = d->value;
		break;
	case H_ENTRY_OF:
		t->h.hook_entry[d->entry] = t->offset[d->value];
		break;
	case H_UNDERFLOW_OF:
		t->h.underflow[d->entry] = t->offset[d->value];
		break;
	default:
		spoil_entry(t, d);
	}
}

static void test_defect(const struct xt_family *f, const struct defect *d)
{
	struct xt_ruleset rs;
	struct xt_err err;
	struct table t;
	int ret;

	sample(&t, f);
	spoil_header(&t, d);
	ret = decode(&t, &rs, &err);
	if (!tap_ok(ret == d->err && err.err == ret && !err.text[0] == !ret, "%s: %s",
		    f->name, d->name))
		tap_diag("%d (%s) instead of %d", ret, err.text, d->err);
	if (!ret)
		xt_ruleset_free(&rs);
	table_free(&t);
}

static const struct request {
	const char *name;
	size_t len;		/* of the header, or more than the entries need */
	long more;
	__u32 size, counters;
	int err;
} requests[] = {
	{ "a request, exactly", 96, 0, 1000, 1, 0 },
	{ "a request with more behind it", 96, 50, 1000, 1, 0 },
	{ "a request shorter than its table", 96, -1, 1000, 1, -EINVAL },
	{ "a request shorter than its header", 95, -1000, 1000, 1, -EINVAL },
	{ "a request of nothing", 0, -1000, 1000, 1, -EINVAL },
	{ "a request for no counters", 96, 0, 1000, 0, -EINVAL },
	{ "a request for too many counters", 96, 0, 1000, 134217727, -ENOMEM },
	{ "a request for many counters", 96, 0, 1000, 134217726, 0 },
	{ "too many counters before a short table", 96, -1, 1000, 1u << 31, -ENOMEM },
	{ "a size of 4 GB", 96, 0, ~0u, 1, -EINVAL },
};

static void test_request(const struct xt_family *f, const struct request *q)
{
	struct xt_replace_hdr h = { .size = q->size, .num_counters = q->counters }, got;
	size_t len = q->len + (q->size == ~0u ? 1000 : q->size) + q->more;
	unsigned char *arg = calloc(1, len + 1);
	const void *entries = NULL;
	struct xt_err err = { 0 };
	int ret;

	memset(h.name, 'x', sizeof(h.name));
	memcpy(arg, &h, len < sizeof(h) ? len : sizeof(h));
	ret = xt_replace_parse(f, arg, len, &got, &entries, &err);
	if (!tap_ok(ret == q->err && (ret || (entries == arg + 96 && got.size == q->size &&
					      strlen(got.name) == 31)),
		    "%s: %s", f->name, q->name))
		tap_diag("%d (%s) instead of %d", ret, err.text, q->err);
	free(arg);
}

/* The table of first use, as a request, and back. */
static void test_initial(const struct xt_family *f, const struct xt_table_row *row)
{
	struct xt_replace_hdr h, got;
	struct xt_err err = { 0 };
	struct xt_ruleset rs;
	const void *entries;
	void *blob, *arg, *ptr;
	__u64 counters[8][2];
	size_t len;
	bool ok;

	blob = xt_initial_blob(f, row, &h);
	arg = xt_replace_build(f, &h, blob, counters, &len);
	memcpy(&ptr, (char *)arg + 88, sizeof(ptr));
	ok = ptr == counters && !xt_replace_parse(f, arg, len, &got, &entries, &err) &&
	     !memcmp(&h, &got, sizeof(h)) &&
	     !xt_ruleset_decode(&rs, f, &got, entries, &err);
	if (!tap_ok(ok, "%s: initial table %s", f->name, row->name)) {
		tap_diag("%s", err.text);
		return;
	}
	ok = rs.table == row && rs.nrules == h.num_counters && rs.nchains == rs.nrules - 1 &&
	     rs.size == rs.nchains * (f->entry_size + 40) + f->entry_size + 64;
	for (__u32 i = 0; i < rs.nchains; i++)
		ok &= rs.chains[i].count == 1 && rs.rules[i].verdict == XT_V_ACCEPT;
	tap_ok(ok, "%s: initial table %s: one policy a chain", f->name, row->name);
	xt_ruleset_free(&rs);
	free(arg);
	free(blob);
}

/* None takes a second, but for the memory that it gets from the system; quadratic, hours. */
#define LARGE_SECONDS	10

/* Of our own: others may keep the machine busy. */
static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Three policies, then @chains chains of @rules rules; the first of each jumps to the next one. */
static void large(struct table *t, const struct xt_family *f, __u32 chains, __u32 rules)
{
	table_init(t, f, 5 + chains * (rules + 2));
	for (int i = 1; i < 4; i++) {
		t->h.hook_entry[i] = t->h.size;
		if (i == 1)
			add_standard(t, 3 * (f->entry_size + 40) + f->entry_size + 40 +
					f->entry_size + 64);
		t->h.underflow[i] = t->h.size;
		add_standard(t, V(NF_ACCEPT));
	}
	for (__u32 c = 0; c < chains; c++) {
		add_error(t, "c");
		for (__u32 r = 0; r < rules; r++) {
			__u32 to = t->h.size + (rules + 1) * (f->entry_size + 40) +
				   f->entry_size + 64;

			add_standard(t, !r && c + 1 < chains ? (int)to : V(NF_DROP));
			set_proto(t, entry(t, t->h.num_entries - 1), 17);
		}
		add_standard(t, XT_RETURN);
	}
	add_error(t, "ERROR");
}

static void test_large(const char *name, const struct xt_family *f, __u32 chains,
		       __u32 rules, int expect)
{
	struct xt_ruleset rs;
	struct xt_err err;
	struct table t;
	double start;
	int ret;

	large(&t, f, chains, rules);
	start = seconds();
	ret = decode(&t, &rs, &err);
	start = seconds() - start;
	if (!tap_ok(ret == expect && start < LARGE_SECONDS, "%s: %s", f->name, name))
		tap_diag("%d %s", ret, err.text);
	tap_diag("%u entries, %u chains: %.2f s", t.h.num_entries, chains, start);
	if (!ret)
		xt_ruleset_free(&rs);
	table_free(&t);
}

int main(void)
{
	static const struct xt_family *const families[] = { &xt_family_ip, &xt_family_ip6 };

	for (int i = 0; i < 2; i++) {
		const struct xt_family *f = families[i];

		test_sample(f);
		for (size_t j = 0; j < sizeof(defects) / sizeof(*defects); j++)
			test_defect(f, &defects[j]);
		for (size_t j = 0; j < sizeof(requests) / sizeof(*requests); j++)
			test_request(f, &requests[j]);
		for (int j = 0; j < XT_TABLES; j++)
			test_initial(f, &f->tables[j]);
		test_large("1M rules in one chain", f, 1, 1000000, 0);
		test_large("1M rules in 1000 chains", f, 1000, 1000, 0);
		test_large("a path of 340000 jumps", f, 340000, 1, 0);
		test_large("2M rules", f, 2, 1000000, -ENOMEM);
	}
	test_proto_flag();
	return tap_done();
}
