// SPDX-License-Identifier: GPL-2.0
#include <bpf/btf.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "kbtf.h"

/* Parsed once; lives as long as the process. */
static struct btf *vmlinux(void)
{
	static struct btf *btf;
	static bool tried;

	if (!tried)
		btf = btf__load_vmlinux_btf();
	tried = true;
	return btf;
}

/* What was asked for before: the types are many, and searched one by one. */
static struct known {
	const char *type, *member;	/* string constants of the callers */
	int kind, answer;
} known[256];
static int nknown;

static bool recall(const char *type, const char *member, int kind, int *answer)
{
	for (int i = 0; i < nknown; i++)
		if (known[i].kind == kind && !strcmp(known[i].type, type) &&
		    !strcmp(known[i].member, member)) {
			*answer = known[i].answer;
			return true;
		}
	return false;
}

static int learn(const char *type, const char *member, int kind, int answer)
{
	if (nknown < (int)(sizeof(known) / sizeof(known[0])))
		known[nknown++] = (struct known){ type, member, kind, answer };
	return answer;
}

static int find(const char *name, int kind)
{
	int id;

	if (recall(name, "", kind, &id))
		return id;
	return learn(name, "", kind, vmlinux() ?
		     btf__find_by_name_kind(vmlinux(), name, kind) : -ENOENT);
}

int kbtf_struct(const char *name)
{
	return find(name, BTF_KIND_STRUCT);
}

int kbtf_func(const char *name)
{
	return find(name, BTF_KIND_FUNC);
}

int kbtf_size(const char *type)
{
	int id = kbtf_struct(type);

	return id < 0 ? id : (int)btf__resolve_size(vmlinux(), id);
}

/* Offset in bits of the member whose name is the first @len bytes of @name; its type in *id. */
static int member_bits(int *id, const char *name, size_t len)
{
	const struct btf_type *t = btf__type_by_id(vmlinux(), btf__resolve_type(vmlinux(), *id));
	const struct btf_member *m = t && btf_is_composite(t) ? btf_members(t) : NULL;

	for (int i = 0; m && i < btf_vlen(t); i++, m++) {
		const char *n = btf__name_by_offset(vmlinux(), m->name_off);
		int at = btf_member_bit_offset(t, i), sub = m->type, in;

		if (strlen(n) == len && !strncmp(n, name, len)) {
			*id = m->type;
			return at;
		}
		in = *n ? -ENOENT : member_bits(&sub, name, len);
		if (in >= 0) {
			*id = sub;
			return at + in;
		}
	}
	return -ENOENT;
}

static int walk(const char *type, const char *member)
{
	int id = kbtf_struct(type), bits = 0;

	while (id >= 0 && *member) {
		size_t len = strcspn(member, ".");
		int at = member_bits(&id, member, len);

		if (at < 0)
			return at;
		bits += at;
		member += len + (member[len] == '.');
	}
	return id < 0 ? id : bits;
}

int kbtf_bit(const char *type, const char *member)
{
	int bits;

	return recall(type, member, -1, &bits) ? bits : learn(type, member, -1, walk(type, member));
}

int kbtf_offset(const char *type, const char *member)
{
	int bits = kbtf_bit(type, member);

	return bits < 0 ? bits : bits / 8;
}
