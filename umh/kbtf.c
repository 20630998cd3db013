// SPDX-License-Identifier: GPL-2.0
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

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

/* A new fd of the BTF of a module that is loaded, and its id; or a negative errno. */
static int module_fd(const char *name, __u32 *id)
{
	char is[64];
	struct bpf_btf_info info;
	__u32 len;
	int fd;

	for (*id = 0; !bpf_btf_get_next_id(*id, id);) {
		fd = bpf_btf_get_fd_by_id(*id);
		if (fd < 0)
			continue;
		info = (struct bpf_btf_info){ .name = (uintptr_t)is, .name_len = sizeof(is) };
		len = sizeof(info);
		if (!bpf_obj_get_info_by_fd(fd, &info, &len) && info.kernel_btf && !strcmp(is, name))
			return fd;
		close(fd);
	}
	return -ENOENT;
}

/* Parsed once, but anew when the module was loaded again; NULL: it is not there. */
static struct btf *conntrack(int *fd)
{
	static struct btf *btf;
	static __u32 known_id;
	__u32 id;

	*fd = vmlinux() ? module_fd("nf_conntrack", &id) : -ENOENT;
	if (*fd < 0)
		return NULL;
	if (btf && id != known_id) {
		btf__free(btf);
		btf = NULL;
	}
	if (!btf)
		btf = btf__load_from_kernel_by_id_split(id, vmlinux());
	known_id = id;
	if (btf)
		return btf;
	close(*fd);
	return NULL;
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

/* What is not there may come with a module. */
static int learn(const char *type, const char *member, int kind, int answer)
{
	if (answer >= 0 && nknown < (int)(sizeof(known) / sizeof(known[0])))
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

int kbtf_kfunc(const char *name, int *fd)
{
	const struct btf *btf;
	int id = kbtf_func(name);

	*fd = -1;
	if (id >= 0)
		return id;
	btf = conntrack(fd);
	if (!btf)
		return -ENOENT;
	id = btf__find_by_name_kind(btf, name, BTF_KIND_FUNC);
	if (id < 0) {
		close(*fd);
		*fd = -1;
	}
	return id;
}

/* The types that @name is in, and its id there; NULL if it is in none. */
static const struct btf *types_of(const char *name, int *id)
{
	const struct btf *btf = vmlinux();
	int fd;

	*id = kbtf_struct(name);
	if (*id >= 0)
		return btf;
	btf = conntrack(&fd);
	if (!btf)
		return NULL;
	close(fd);
	*id = btf__find_by_name_kind(btf, name, BTF_KIND_STRUCT);
	return *id < 0 ? NULL : btf;
}

int kbtf_size(const char *type)
{
	const struct btf *btf;
	int id;

	if (recall(type, "", -2, &id))
		return id;
	btf = types_of(type, &id);
	return learn(type, "", -2, btf ? (int)btf__resolve_size(btf, id) : -ENOENT);
}

/* Offset in bits of the member whose name is the first @len bytes of @name; its type in *id. */
static int member_bits(const struct btf *btf, int *id, const char *name, size_t len)
{
	const struct btf_type *t = btf__type_by_id(btf, btf__resolve_type(btf, *id));
	const struct btf_member *m = t && btf_is_composite(t) ? btf_members(t) : NULL;

	for (int i = 0; m && i < btf_vlen(t); i++, m++) {
		const char *n = btf__name_by_offset(btf, m->name_off);
		int at = btf_member_bit_offset(t, i), sub = m->type, in;

		if (strlen(n) == len && !strncmp(n, name, len)) {
			*id = m->type;
			return at;
		}
		in = *n ? -ENOENT : member_bits(btf, &sub, name, len);
		if (in >= 0) {
			*id = sub;
			return at + in;
		}
	}
	return -ENOENT;
}

static int walk(const char *type, const char *member)
{
	int id, bits = 0;
	const struct btf *btf = types_of(type, &id);

	while (btf && *member) {
		size_t len = strcspn(member, ".");
		int at = member_bits(btf, &id, member, len);

		if (at < 0)
			return at;
		bits += at;
		member += len + (member[len] == '.');
	}
	return btf ? bits : -ENOENT;
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
