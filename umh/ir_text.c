// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

#include "classify.h"
#include "ir_text.h"

const char *const ir_field_name[IR_NFIELDS] = {
	[IR_SADDR] = "saddr",
	[IR_DADDR] = "daddr",
	[IR_PROTO] = "proto",
	[IR_FRAGOFF] = "fragoff",
	[IR_LEN] = "len",
	[IR_DSFIELD] = "dsfield",
	[IR_TTL] = "ttl",
	[IR_SPORT] = "sport",
	[IR_DPORT] = "dport",
	[IR_TCPFLAGS] = "tcpflags",
	[IR_ICMP] = "icmp",
	[IR_MARK] = "mark",
	[IR_PKTTYPE] = "pkttype",
	[IR_MACOK] = "macok",
	[IR_SMAC] = "smac",
	[IR_CT] = "ct",
	[IR_CTSTATE] = "ctstate",
	[IR_CTSTATUS] = "ctstatus",
	[IR_CTPROTO] = "ctproto",
	[IR_CTDIR] = "ctdir",
	[IR_CTORIGSRC] = "ctorigsrc",
	[IR_CTORIGDST] = "ctorigdst",
	[IR_CTREPLSRC] = "ctreplsrc",
	[IR_CTREPLDST] = "ctrepldst",
	[IR_CTORIGSRCPORT] = "ctorigsrcport",
	[IR_CTORIGDSTPORT] = "ctorigdstport",
	[IR_CTREPLSRCPORT] = "ctreplsrcport",
	[IR_CTREPLDSTPORT] = "ctrepldstport",
	[IR_CTEXPIRE] = "ctexpire",
};

const char *const ir_field6_name[IR6_NFIELDS] = {
	[IR6_SADDR] = "saddr6",
	[IR6_DADDR] = "daddr6",
	[IR6_CTORIGSRC] = "ctorigsrc6",
	[IR6_CTORIGDST] = "ctorigdst6",
	[IR6_CTREPLSRC] = "ctreplsrc6",
	[IR6_CTREPLDST] = "ctrepldst6",
};

const char *const ir_action_name[IR_NACTIONS] = {
	[IR_A_NEXT] = "next",
	[IR_A_ACCEPT] = "accept",
	[IR_A_DROP] = "drop",
	[IR_A_RETURN] = "return",
	[IR_A_JUMP] = "jump",
	[IR_A_GOTO] = "goto",
	[IR_A_LOG] = "log",
	[IR_A_REJECT] = "reject",
	[IR_A_NATIVE] = "native",
	[IR_A_DEFER] = "defer",
	[IR_A_QUEUE] = "queue",
	[IR_A_LOOKUP] = "lookup",
	[IR_A_DISPATCH] = "dispatch",
};

bool ir_action_has_arg(enum ir_action_kind a)
{
	return a >= IR_A_JUMP && a <= IR_A_NATIVE;
}

bool ir_field_is_addr(enum ir_field f)
{
	return f == IR_SADDR || f == IR_DADDR ||
	       (f >= IR_CTORIGSRC && f <= IR_CTREPLDST);
}

/* A string in quotes; bytes that could be mistaken for syntax as \xNN. */
static void print_string(FILE *out, const char *s, size_t len, bool wild)
{
	fputc('"', out);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = s[i];

		if (isascii(c) && isprint(c) && !strchr("\"\\+", c))
			fputc(c, out);
		else
			fprintf(out, "\\x%02x", c);
	}
	fputs(wild ? "+\"" : "\"", out);
}

static void print_value(FILE *out, enum ir_field f, __u64 v)
{
	struct in_addr a = { htonl((__u32)v) };
	char buf[INET_ADDRSTRLEN];

	if (ir_field_is_addr(f))
		fputs(inet_ntop(AF_INET, &a, buf, sizeof(buf)), out);
	else if (f == IR_SMAC)
		fprintf(out, "%02x:%02x:%02x:%02x:%02x:%02x", (int)(v >> 40) & 255,
			(int)(v >> 32) & 255, (int)(v >> 24) & 255,
			(int)(v >> 16) & 255, (int)(v >> 8) & 255, (int)v & 255);
	else if (f == IR_MARK || f == IR_TCPFLAGS || f == IR_CTSTATE ||
		 f == IR_CTSTATUS || f == IR_ICMP || f == IR_DSFIELD)
		fprintf(out, "0x%llx", v);
	else
		fprintf(out, "%llu", v);
}

/* The prefix length that @mask is of, or -1. */
static int prefix_len(__u64 mask)
{
	__u32 low = ~(__u32)mask;

	return low & (low + 1) ? -1 : 32 - __builtin_popcount(low);
}

static void print_range(FILE *out, const struct ir_pred *p)
{
	__u64 full = ir_field_mask(p->field);
	int len = -1;

	fputs(ir_field_name[p->field], out);
	if (p->mask != full) {
		if (ir_field_is_addr(p->field) && p->lo == p->hi)
			len = prefix_len(p->mask);
		if (len < 0)
			fprintf(out, " & 0x%llx", p->mask);
		if (p->lo == 1 && p->hi == p->mask)
			return;
	}
	fputs(p->lo == p->hi ? " == " : " in ", out);
	print_value(out, p->field, p->lo);
	if (p->lo != p->hi) {
		fputc('-', out);
		print_value(out, p->field, p->hi);
	}
	if (len >= 0)
		fprintf(out, "/%d", len);
}

static int prefix6_len(const __u8 *mask)
{
	int len = 0;

	while (len < 128 && mask[len / 8] & (0x80 >> len % 8))
		len++;
	for (int i = len; i < 128; i++)
		if (mask[i / 8] & (0x80 >> i % 8))
			return -1;
	return len;
}

static void print_addr6(FILE *out, const struct ir_pred *p)
{
	char value[INET6_ADDRSTRLEN], mask[INET6_ADDRSTRLEN];
	int len = prefix6_len(p->mask6);

	inet_ntop(AF_INET6, p->value6, value, sizeof(value));
	inet_ntop(AF_INET6, p->mask6, mask, sizeof(mask));
	fputs(ir_field6_name[p->field], out);
	if (p->kind == IR_P_RANGE6)
		fprintf(out, " in %s-%s", value, mask);
	else if (len == 128)
		fprintf(out, " == %s", value);
	else if (len >= 0)
		fprintf(out, " == %s/%d", value, len);
	else
		fprintf(out, " & %s == %s", mask, value);
}

static void print_hex(FILE *out, const void *data)
{
	for (int i = 0; i < IR_IFNAMSIZ; i++)
		fprintf(out, "%02x", ((const __u8 *)data)[i]);
}

static void print_iface(FILE *out, const struct ir_pred *p)
{
	size_t len = strnlen(p->name, IR_IFNAMSIZ), masked = 0;
	bool plain = len > 0;

	while (masked < IR_IFNAMSIZ && p->nmask[masked] == 0xff)
		masked++;
	for (size_t i = masked; i < IR_IFNAMSIZ; i++)
		plain &= !p->nmask[i];
	for (size_t i = len; i < IR_IFNAMSIZ; i++)
		plain &= !p->name[i];
	plain &= masked == len || masked == len + 1;
	fputs(p->field ? "iface out " : "iface in ", out);
	if (plain) {
		print_string(out, p->name, len, masked == len);
		return;
	}
	print_hex(out, p->name);
	fputc('/', out);
	print_hex(out, p->nmask);
}

static void print_ports(FILE *out, const struct ir_pred *p)
{
	fprintf(out, "ports %s in ", p->src && p->dst ? "any" : p->src ? "src" : "dst");
	for (int i = 0; i < p->nports; i++) {
		fprintf(out, "%s%u", i ? "," : "", p->range[i][0]);
		if (p->range[i][0] != p->range[i][1])
			fprintf(out, "-%u", p->range[i][1]);
	}
}

static void print_owner(FILE *out, const struct ir_owner *o)
{
	fprintf(out, "owner match 0x%x invert 0x%x uid %u-%u gid %u-%u", o->match,
		o->invert, o->uid_min, o->uid_max, o->gid_min, o->gid_max);
}

static void print_pred(FILE *out, const struct ir_pred *p)
{
	if (p->inv)
		fputs("! ", out);
	switch ((enum ir_pkind)p->kind) {
	case IR_P_RANGE:
		return print_range(out, p);
	case IR_P_ADDR6:
	case IR_P_RANGE6:
		return print_addr6(out, p);
	case IR_P_IFACE:
		return print_iface(out, p);
	case IR_P_PORTS:
		return print_ports(out, p);
	case IR_P_OWNER:
		return print_owner(out, &p->owner);
	case IR_P_ADDRTYPE:
		fprintf(out, "addrtype %s 0x%x", p->field ? "dst" : "src", p->value);
		break;
	case IR_P_PROTO:
		fprintf(out, "proto6 == %u", p->value);
		break;
	case IR_P_L4:
		fprintf(out, "l4 %u%s", p->len, p->field == IR_L4_TCP ? " tcp" : "");
		break;
	case IR_P_TCPOPT:
		fprintf(out, "tcpopt %u", p->value);
		break;
	case IR_P_TCPMSS:
		fprintf(out, "tcpmss in %llu-%llu", p->lo, p->hi);
		break;
	case IR_P_LIMIT:
		fprintf(out, "limit %u", p->index);
		break;
	case IR_P_NTH:
		fprintf(out, "nth %u period %u", p->index, p->value);
		break;
	case IR_P_RANDOM:
		fprintf(out, "random 0x%x", p->value);
		break;
	case IR_P_NATIVE:
		fprintf(out, "native %u", p->index);
		break;
	case IR_P_BEFORE:
		fprintf(out, "before %u", p->index);
		break;
	case IR_P_CHAIN:
		fprintf(out, "chain %u", p->value & ~IR_ENTRY);
		break;
	case IR_P_FALSE:
	case IR_NPKINDS:
		fputs("false", out);
		break;
	}
}

void ir_print_rule(FILE *out, const struct ir_table *t, const struct ir_rule *r)
{
	(void)t;
	fprintf(out, "%u:", r->counter);
	for (int i = 0; i < r->npreds; i++) {
		fputs(i ? "; " : " ", out);
		print_pred(out, &r->preds[i]);
	}
	fprintf(out, " -> %s", ir_action_name[r->action]);
	if (ir_action_has_arg(r->action))
		fprintf(out, " %u", r->arg);
}

void ir_print_pred(FILE *out, const struct ir_pred *p)
{
	print_pred(out, p);
}

/* Chains may have any name: those that are not one plain word are quoted. */
static void print_name(FILE *out, const char *name)
{
	size_t len = strlen(name);
	bool word = len > 0;

	for (size_t i = 0; i < len; i++)
		word &= isascii(name[i]) && isgraph(name[i]) && !strchr("\"#\\", name[i]);
	if (word)
		fputs(name, out);
	else
		print_string(out, name, len, false);
}

static void print_tables(FILE *out, const struct ir_table *t)
{
	for (__u32 i = 0; i < t->nlogs; i++) {
		const struct ir_log *l = &t->logs[i];

		fprintf(out, "log %u level %u flags 0x%x prefix ", i, l->level, l->flags);
		print_string(out, l->prefix, strnlen(l->prefix, sizeof(l->prefix)), false);
		fputc('\n', out);
	}
	for (__u32 i = 0; i < t->nlimits; i++)
		fprintf(out, "limit %u avg %u burst %u\n", i, t->limits[i].avg,
			t->limits[i].burst);
	for (__u32 i = 0; i < t->nnths; i++)
		fprintf(out, "nth %u every %u first %u\n", i, t->nths[i].every,
			t->nths[i].first);
	for (__u32 i = 0; i < t->nslots; i++) {
		const struct xtjit_slot *s = &t->slots[i];

		fprintf(out, "slot %u %s ", i, s->kind == XTJIT_SLOT_MATCH ? "match" : "target");
		print_name(out, t->slot_names[i]);
		fprintf(out, " entry %u ext %u hooks 0x%x\n", s->entry, s->ext, s->hooks);
	}
}

static void print_groups(FILE *out, const struct ir_table *t, __u32 chain)
{
	for (__u32 j = 0; j < t->ngroups; j++)
		if (t->groups[j].chain == chain)
			classify_print(out, t, &t->groups[j], "  # ", true);
}

/* What is looked up of several chains at once. */
static void print_merged(FILE *out, const struct ir_table *t, __u32 chain)
{
	fprintf(out, "# %u chains as one\n", t->chains[chain].merges);
	print_groups(out, t, chain);
}

void ir_print(FILE *out, const struct ir_table *t)
{
	fprintf(out, "table %s %s\ncounters %u\n", t->family->name, t->table->name,
		t->ncounters);
	print_tables(out, t);
	for (__u32 i = 0; i < t->nchains; i++) {
		const struct ir_chain *c = &t->chains[i];

		if (c->merges) {
			print_merged(out, t, i);
			continue;
		}
		if (t->plain)
			c = &t->plain->chains[i];
		fputs("chain ", out);
		print_name(out, c->name);
		if (c->hook >= 0)
			fprintf(out, " hook %d", c->hook);
		fputc('\n', out);
		print_groups(out, t, i);
		for (__u32 j = 0; j < c->nrules; j++) {
			fputs("  ", out);
			ir_print_rule(out, t, &c->rules[j]);
			fputc('\n', out);
		}
	}
}

const char *ir_pred_name(const struct ir_pred *p)
{
	static const char *const names[IR_NPKINDS] = {
		[IR_P_PROTO] = "protocol", [IR_P_IFACE] = "interface", [IR_P_L4] = "header",
		[IR_P_PORTS] = "ports", [IR_P_TCPOPT] = "TCP options", [IR_P_TCPMSS] = "tcpmss",
		[IR_P_LIMIT] = "limit", [IR_P_NTH] = "statistic", [IR_P_RANDOM] = "statistic",
		[IR_P_OWNER] = "owner", [IR_P_ADDRTYPE] = "address type",
		[IR_P_ADDR6] = "address", [IR_P_RANGE6] = "address", [IR_P_NATIVE] = "native match",
	};

	if (p->kind == IR_P_RANGE)
		return ir_field_name[p->field];
	return names[p->kind] ?: "nothing";
}
