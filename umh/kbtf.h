/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The running kernel's types (BTF): where members are, and the ids of structs
 * and kernel functions.  Types of conntrack may be those of its module, while it
 * is loaded.
 */
#ifndef XTJIT_KBTF_H
#define XTJIT_KBTF_H

/*
 * Byte offset of @member in struct @type; @member may be a path through named
 * members ("__sk_common.skc_cookie"); unnamed ones are looked through.
 * Negative errno if there is none.
 */
int kbtf_offset(const char *type, const char *member);

/* The same in bits, for bit-fields. */
int kbtf_bit(const char *type, const char *member);

/* Bytes of struct @type, or a negative errno. */
int kbtf_size(const char *type);

/* BTF ids, or a negative errno: -ENOENT if the kernel has none. */
int kbtf_struct(const char *name);
int kbtf_func(const char *name);

/*
 * The id of a function that programs may call, be it conntrack's module's: then
 * *fd is a new fd of the module's BTF, else -1.
 */
int kbtf_kfunc(const char *name, int *fd);

#endif
