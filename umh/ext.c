// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/x_tables.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "ext.h"
#include "ext/rows.h"

const struct ext_row *const ext_matches[] = {
	ext_tcp_rows, ext_udp_rows, ext_conntrack_rows, ext_comment_rows, ext_multiport_rows,
	ext_state_rows, ext_icmp_rows, ext_limit_rows, ext_mark_rows, ext_iprange_rows,
	ext_mac_rows, ext_owner_rows, ext_tcpmss_rows, ext_length_rows, ext_pkttype_rows,
	ext_hl_rows, ext_dscp_rows, ext_statistic_rows, ext_sctp_rows, ext_addrtype_rows, NULL
};

const struct ext_row *const ext_targets[] = { ext_reject_rows, ext_log_rows, NULL };

static bool row_fits(const struct ext_row *row, const char *name, const struct xt_family *f)
{
	int family = f == &xt_family_ip6 ? EXT_IP6 : EXT_IP;

	return (row->families & family) && !strcmp(row->name, name);
}

const struct ext_row *ext_find(const struct ext_row *const *list, const char *name,
			       __u8 rev, const struct xt_family *f)
{
	for (; *list; list++)
		for (const struct ext_row *row = *list; row->name; row++)
			if (row->rev == rev && row_fits(row, name, f))
				return row;
	return NULL;
}

static bool has_other_revision(const struct ext_row *const *list, const char *name,
			       const struct xt_family *f)
{
	for (; *list; list++)
		for (const struct ext_row *row = *list; row->name; row++)
			if (row_fits(row, name, f))
				return true;
	return false;
}

__u32 ext_add_log(struct ext_ctx *c, const struct ir_log *l)
{
	struct ir_table *t = c->ir;

	t->logs = ir_grow(t->arena, t->logs, t->nlogs, sizeof(*l));
	t->logs[t->nlogs] = *l;
	return t->nlogs++;
}

__u32 ext_add_limit(struct ext_ctx *c, const struct ir_limit *l)
{
	struct ir_table *t = c->ir;

	t->limits = ir_grow(t->arena, t->limits, t->nlimits, sizeof(*l));
	t->limits[t->nlimits] = *l;
	return t->nlimits++;
}

__u32 ext_add_nth(struct ext_ctx *c, const struct ir_nth *n)
{
	struct ir_table *t = c->ir;

	t->nths = ir_grow(t->arena, t->nths, t->nnths, sizeof(*n));
	t->nths[t->nnths] = *n;
	return t->nnths++;
}

void ext_add_range(struct ext_ctx *c, enum ir_field f, __u64 lo, __u64 hi, bool inv)
{
	ir_range(c->ir->arena, c->out, f, ~0ULL, lo, hi, inv);
}

int ext_add_l4(struct ext_ctx *c, enum ir_l4 how, __u32 len)
{
	struct ir_rule *r = c->out;
	struct ir_pred *p;

	if (c->rs->family == &xt_family_ip6) {
		if (!(c->rule->base.flags & IP6T_F_PROTO))
			return ext_fail(c, -EOPNOTSUPP, "needs a protocol");
		/* Its offset is in bytes, a multiple of 8, and never the 1 of IR_L4_TCP. */
		how = IR_L4_PLAIN;
	}
	for (int i = 0; i < r->npreds; i++)
		if (r->preds[i].kind == IR_P_L4 && r->preds[i].len >= len)
			return 0;
	p = ir_pred_add(c->ir->arena, r, IR_P_L4);
	p->field = how;
	p->len = len;
	return 0;
}

/* "filter INPUT rule 3: match "tcp" " */
static void place(const struct ext_ctx *c, char *buf, size_t size)
{
	const struct xt_ruleset *rs = c->rs;

	snprintf(buf, size, "%s %s rule %u: %s%s%s%s", rs->table->name,
		 rs->chains[c->rule->chain].name, xt_rule_number(rs, c->rule - rs->rules),
		 c->kind ? c->kind : "", c->kind ? " \"" : "",
		 c->kind ? c->part->name : "", c->kind ? "\" " : "");
}

int ext_fail(struct ext_ctx *c, int err, const char *fmt, ...)
{
	char where[160], text[256];
	va_list ap;

	place(c, where, sizeof(where));
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return xt_fail(c->err, err, "%s%s", where, text);
}

int ext_flag(struct ext_ctx *c, const char *name, __u32 v)
{
	if (v <= 1)
		return 0;
	return ext_fail(c, -EOPNOTSUPP, "has an odd value of \"%s\", 0x%x", name, v);
}

/* The kernel's own notes in the entry, as xt_ruleset_decode() left them. */
__u32 ext_rule_hooks(const struct xt_ruleset *rs, const struct xt_rule *r)
{
	size_t at = rs->family == &xt_family_ip6 ? offsetof(struct ip6t_entry, comefrom) :
						   offsetof(struct ipt_entry, comefrom);
	unsigned int comefrom;

	memcpy(&comefrom, (const char *)rs->blob + r->offset + at, sizeof(comefrom));
	return comefrom;
}

static void hook_names(__u32 hooks, char *buf, size_t size)
{
	size_t len = 0;

	buf[0] = 0;
	for (int h = 0; h < XT_HOOKS; h++)
		if (hooks & (1u << h) && len < size)
			len += snprintf(buf + len, size - len, "%s%s", len ? ", " : "",
					xt_hook_name[h]);
}

/* xt_check_match(), xt_check_target(): what they check before checkentry(). */
static int check_part(struct ext_ctx *c, const struct ext_row *row)
{
	const struct xt_base *b = &c->rule->base;
	__u32 size = XT_ALIGN(row->size);
	char names[64];

	if (c->part->size != size)
		return ext_fail(c, -EINVAL, "has %u bytes of data, not %u", c->part->size, size);
	if (row->table && strcmp(row->table, c->rs->table->name))
		return ext_fail(c, -EINVAL, "is only valid in table %s", row->table);
	if (row->hooks && (c->hooks & ~row->hooks)) {
		hook_names(c->hooks & ~row->hooks, names, sizeof(names));
		return ext_fail(c, -EINVAL, "cannot be used from %s", names);
	}
	if (row->proto && (row->proto != b->proto || (b->invflags & XT_INV_PROTO)))
		return ext_fail(c, -EINVAL, "is only valid for protocol %u", row->proto);
	return 0;
}

static bool has_native(const struct ext_ctx *c)
{
	return c->env && c->env->native;
}

/* A slot of the kernel's own extension; the data is its to check. */
static int lower_native(struct ext_ctx *c, enum xtjit_slot_kind kind)
{
	struct ir_table *t = c->ir;
	__u32 at = (const char *)c->part->data - (const char *)c->rs->blob;

	t->slots = ir_grow(t->arena, t->slots, t->nslots, sizeof(*t->slots));
	t->slot_names = ir_grow(t->arena, t->slot_names, t->nslots, sizeof(*t->slot_names));
	t->slots[t->nslots] = (struct xtjit_slot){
		.entry = c->rule->offset,
		.ext = at - sizeof(struct xt_entry_match) - c->rule->offset,
		.hooks = c->hooks,
		.kind = kind,
	};
	snprintf(t->slot_names[t->nslots], IR_EXT_NAME, "%s", c->part->name);
	if (kind == XTJIT_SLOT_MATCH) {
		ir_pred_add(t->arena, c->out, IR_P_NATIVE)->index = t->nslots++;
	} else {
		c->out->action = IR_A_NATIVE;
		c->out->arg = t->nslots++;
	}
	return 0;
}

static int lower_row(struct ext_ctx *c, const struct ext_row *const *list)
{
	const struct xt_part *part = c->part;
	const struct ext_row *row = ext_find(list, part->name, part->rev, c->rs->family);

	if (row && row->rather_native && has_native(c))
		return -EOPNOTSUPP;
	if (row)
		return check_part(c, row) ?: row->lower(c, part->data);
	if (has_other_revision(list, part->name, c->rs->family))
		return ext_fail(c, -EOPNOTSUPP, "has no compiled form of revision %u", part->rev);
	return ext_fail(c, -EOPNOTSUPP, "has no compiled form");
}

static int lower_part(struct ext_ctx *c, enum xtjit_slot_kind kind, const struct xt_part *part)
{
	bool match = kind == XTJIT_SLOT_MATCH;
	__u16 npreds = c->out->npreds;
	int err, earlier = c->err ? c->err->err : 0;

	c->kind = match ? "match" : "target";
	c->part = part;
	err = lower_row(c, match ? ext_matches : ext_targets);
	if (err == -EOPNOTSUPP && has_native(c)) {
		c->out->npreds = npreds;
		if (c->err && !earlier)
			memset(c->err, 0, sizeof(*c->err));
		err = lower_native(c, kind);
	}
	c->kind = NULL;
	return err;
}

static int lower_jump(struct ext_ctx *c, enum ir_action_kind action)
{
	const struct xt_ruleset *rs = c->rs;
	__u32 chain = rs->rules[c->rule->to].chain;

	if (rs->chains[chain].first != c->rule->to || rs->chains[chain].hook >= 0)
		return ext_fail(c, -EOPNOTSUPP, "jumps to what is not the head of a user chain");
	c->out->action = action;
	c->out->arg = chain;
	return 0;
}

static int lower_verdict(struct ext_ctx *c)
{
	switch (c->rule->verdict) {
	case XT_V_ACCEPT:
		c->out->action = IR_A_ACCEPT;
		return 0;
	case XT_V_DROP:
		c->out->action = IR_A_DROP;
		return 0;
	case XT_V_RETURN:
		c->out->action = IR_A_RETURN;
		return 0;
	case XT_V_NEXT:
		c->out->action = IR_A_NEXT;
		return 0;
	case XT_V_JUMP:
		return lower_jump(c, IR_A_JUMP);
	case XT_V_GOTO:
		return lower_jump(c, IR_A_GOTO);
	case XT_V_TARGET:
		return lower_part(c, XTJIT_SLOT_TARGET, &c->rule->target);
	case XT_V_QUEUE:
		c->out->action = IR_A_QUEUE;
		if (has_native(c))
			return 0;
		return ext_fail(c, -EOPNOTSUPP, "target \"QUEUE\" has no compiled form");
	case XT_V_ERROR:
		break;
	}
	return ext_fail(c, -EINVAL, "target \"ERROR\" in a chain");
}

/* Lowers c->rule into c->out. */
static int lower_rule(struct ext_ctx *c)
{
	const struct xt_rule *r = c->rule;
	int err = 0;

	c->hooks = ext_rule_hooks(c->rs, r);
	c->out->counter = r - c->rs->rules;
	lower_base(c);
	for (__u32 i = 0; i < r->nmatches && !err; i++)
		err = lower_part(c, XTJIT_SLOT_MATCH, &r->matches[i]);
	return err ? err : lower_verdict(c);
}

static void table_init(struct ir_table *ir, const struct xt_ruleset *rs)
{
	memset(ir, 0, sizeof(*ir));
	ir->family = rs->family;
	ir->table = rs->table;
	ir->ncounters = rs->nrules;
	ir->arena = ir_arena_new();
	memcpy(ir->base_chain, rs->base_chain, sizeof(ir->base_chain));
}

static int lower_chain(struct ext_ctx *c, const struct xt_chain *from, struct ir_chain *to)
{
	int err;

	snprintf(to->name, sizeof(to->name), "%s", from->name);
	to->hook = from->hook;
	to->nrules = from->count;
	to->rules = ir_alloc(c->ir->arena, from->count * sizeof(*to->rules));
	for (__u32 i = 0; i < from->count; i++) {
		c->rule = &c->rs->rules[from->first + i];
		c->out = &to->rules[i];
		err = lower_rule(c);
		if (err)
			return err;
	}
	return 0;
}

int ext_lower(const struct xt_ruleset *rs, const struct ext_env *env, struct ir_table *ir,
	      struct xt_err *err)
{
	struct ext_ctx c = { .rs = rs, .env = env, .ir = ir, .err = err };
	int ret;

	table_init(ir, rs);
	ir->nchains = rs->nchains;
	ir->chains = ir_alloc(ir->arena, rs->nchains * sizeof(*ir->chains));
	for (__u32 i = 0; i < rs->nchains; i++) {
		ret = lower_chain(&c, &rs->chains[i], &ir->chains[i]);
		if (ret) {
			ir_table_free(ir);
			return ret;
		}
	}
	return 0;
}

/* One rule alone, in a table @ir of its own, which is the caller's to free. */
static int lower_alone(struct ext_ctx *c, const struct xt_ruleset *rs, const struct ext_env *env,
		       __u32 rule, struct ir_table *ir, struct ir_rule *out, struct xt_err *err)
{
	*c = (struct ext_ctx){
		.rs = rs, .env = env, .rule = &rs->rules[rule], .ir = ir, .out = out, .err = err,
	};
	*out = (struct ir_rule){ 0 };
	table_init(ir, rs);
	return c->rule->verdict == XT_V_ERROR ? 0 : lower_rule(c);
}

/*
 * Why the early stage cannot decide the rule; NULL if it can.  Packets come to
 * it at these three hooks only.
 */
static const char *not_early(const struct ext_ctx *c, const struct ir_rule *r)
{
	const __u32 incoming = 1 << NF_INET_PRE_ROUTING | 1 << NF_INET_LOCAL_IN |
			       1 << NF_INET_FORWARD;

	if (!(c->hooks & incoming))
		return "packets of its hooks are not told by what a device received";
	if (!strcmp(c->rs->table->name, "nat"))
		return "it is for the first packet of a connection";
	switch (r->action) {
	case IR_A_LOG:
		return "it logs";
	case IR_A_REJECT:
		return "it answers";
	case IR_A_QUEUE:
		return "it queues";
	}
	for (int i = 0; i < r->npreds; i++)
		if (!ir_pred_early(&r->preds[i]))
			return ir_pred_name(&r->preds[i]);
	return NULL;
}

bool ext_rule_early(const struct xt_ruleset *rs, const struct ext_env *env, __u32 rule,
		    struct xt_err *why)
{
	const char *text = NULL;
	struct ir_table ir;
	struct ir_rule out;
	struct ext_ctx c;
	int err = lower_alone(&c, rs, env, rule, &ir, &out, why);

	if (!err && ir.nslots)
		text = "it has native parts";
	else if (!err)
		text = not_early(&c, &out);
	if (text)
		err = xt_fail(why, -EOPNOTSUPP, "%s", text);
	ir_table_free(&ir);
	return !err && c.rule->verdict != XT_V_ERROR;
}

bool ext_rule_native(const struct xt_ruleset *rs, const struct ext_env *env, __u32 rule,
		     struct xt_err *why)
{
	char text[200] = "";
	struct ir_table ir;
	struct ir_rule out;
	struct ext_ctx c;
	int err = lower_alone(&c, rs, env, rule, &ir, &out, why);
	bool native = !err && ir.nslots;

	for (__u32 i = 0; native && i < ir.nslots; i++) {
		size_t len = strlen(text);

		snprintf(text + len, sizeof(text) - len, "%s%s \"%s\"", i ? ", " : "",
			 ir.slots[i].kind == XTJIT_SLOT_MATCH ? "match" : "target",
			 ir.slot_names[i]);
	}
	if (native)
		xt_fail(why, -EOPNOTSUPP, "%s", text);
	ir_table_free(&ir);
	return native;
}

int ext_lower_rule(const struct xt_ruleset *rs, const struct ext_env *env, __u32 rule,
		   struct xt_err *err)
{
	struct ir_table ir;
	struct ir_rule out;
	struct ext_ctx c;
	int ret = lower_alone(&c, rs, env, rule, &ir, &out, err);

	ir_table_free(&ir);
	return ret;
}
