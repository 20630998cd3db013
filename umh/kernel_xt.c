// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel_xt.h"
#include "users.h"

/* Both families' structures are alike where we look at them. */
_Static_assert(sizeof(struct ipt_getinfo) == sizeof(struct ip6t_getinfo), "getinfo");
_Static_assert(sizeof(struct ipt_get_entries) == sizeof(struct ip6t_get_entries), "get_entries");

static bool absent;

void kxt_set_absent(void)
{
	absent = true;
}

bool kxt_is_absent(void)
{
	return absent;
}

/* Any socket of the family will do. One that is raw would take packets of its protocol. */
static int opt_socket(const struct xt_family *f)
{
	int fd;

	if (absent)
		return -ENOPROTOOPT;
	fd = socket(f->af, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

int kxt_get(const struct xt_family *f, int optname, void *buf, socklen_t *len)
{
	int fd = opt_socket(f);
	int ret;

	if (fd < 0)
		return fd;
	ret = getsockopt(fd, f->sol, optname, buf, len);
	if (ret < 0)
		ret = -errno;
	close(fd);
	return ret;
}

struct option {
	const struct xt_family *f;
	int fd, name;
	const void *buf;
	size_t len;
};

static int set_option(void *arg)
{
	const struct option *o = arg;

	return setsockopt(o->fd, o->f->sol, o->name, o->buf, o->len) ? -errno : 0;
}

int kxt_set(const struct xt_family *f, int optname, const void *buf, size_t len)
{
	struct option o = { .f = f, .fd = opt_socket(f), .name = optname, .buf = buf, .len = len };
	int ret;

	if (o.fd < 0)
		return o.fd;
	ret = optname == f->set_replace ? users_run(set_option, &o) : set_option(&o);
	close(o.fd);
	return ret;
}

/* A length that cannot be right: -EINVAL from ip_tables, -ENOPROTOOPT without it. */
bool kxt_present(const struct xt_family *f)
{
	char buf[4] = "";
	socklen_t len = sizeof(buf);

	return kxt_get(f, f->get_info, buf, &len) == -EINVAL;
}

char *kxt_proc(const char *path, size_t *len)
{
	size_t cap = 4096, at = 0;
	int fd = absent ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	char *buf = NULL, *bigger;
	ssize_t n = -1;

	if (fd < 0)
		return NULL;
	do {
		bigger = realloc(buf, cap + 1);
		if (!bigger)
			break;
		buf = bigger;
		n = read(fd, buf + at, cap - at);
		if (n > 0)
			at += n;
		if (at == cap)
			cap *= 2;
	} while (n > 0 || (n < 0 && errno == EINTR));
	close(fd);
	if (n < 0) {
		free(buf);
		return NULL;
	}
	buf[at] = '\0';
	*len = at;
	return buf;
}

bool kxt_listed(const struct xt_family *f, const char *table)
{
	size_t len;
	char *save, *text = kxt_proc(f->proc_names, &len);
	bool found = false;

	if (!text)
		return false;
	for (char *s = strtok_r(text, "\n", &save); s; s = strtok_r(NULL, "\n", &save))
		found |= !strcmp(s, table);
	free(text);
	return found;
}

static int read_once(const struct xt_family *f, const char *table, struct kxt_table *t)
{
	struct ipt_getinfo info = {};
	struct ipt_get_entries *get;
	socklen_t len = sizeof(info);
	int ret;

	strncpy(info.name, table, sizeof(info.name) - 1);
	ret = kxt_get(f, f->get_info, &info, &len);
	if (ret < 0)
		return ret;
	len = sizeof(*get) + info.size;
	get = calloc(1, len);
	if (!get)
		return -ENOMEM;
	memcpy(get->name, info.name, sizeof(get->name));
	get->size = info.size;
	ret = kxt_get(f, f->get_entries, get, &len);
	if (ret < 0)
		goto out;
	memset(&t->h, 0, sizeof(t->h));
	memcpy(t->h.name, info.name, sizeof(t->h.name));
	t->h.valid_hooks = info.valid_hooks;
	t->h.num_entries = info.num_entries;
	t->h.size = info.size;
	memcpy(t->h.hook_entry, info.hook_entry, sizeof(t->h.hook_entry));
	memcpy(t->h.underflow, info.underflow, sizeof(t->h.underflow));
	t->h.num_counters = info.num_entries;
	t->entries = malloc(info.size);
	ret = t->entries ? 0 : -ENOMEM;
	if (!ret)
		memcpy(t->entries, get->entrytable, info.size);
out:
	free(get);
	return ret;
}

/* -EAGAIN: it was replaced between the two options. */
int kxt_read(const struct xt_family *f, const char *table, struct kxt_table *t)
{
	int ret = -EAGAIN;

	t->entries = NULL;
	for (int i = 0; i < 10 && ret == -EAGAIN; i++)
		ret = read_once(f, table, t);
	return ret;
}

void kxt_free(struct kxt_table *t)
{
	free(t->entries);
	t->entries = NULL;
}

/* What the kernel fills in of an entry; its size is returned. */
static __u32 entry_parts(const struct xt_family *f, void *entry, unsigned int **comefrom,
			 struct xt_counters **counters)
{
	if (f->nfproto == NFPROTO_IPV6) {
		struct ip6t_entry *e = entry;

		*comefrom = &e->comefrom;
		*counters = &e->counters;
		return e->next_offset;
	} else {
		struct ipt_entry *e = entry;

		*comefrom = &e->comefrom;
		*counters = &e->counters;
		return e->next_offset;
	}
}

static void neutralise(const struct xt_family *f, void *entries, __u32 size)
{
	struct xt_counters *counters;
	unsigned int *comefrom;
	__u32 next;

	for (__u32 at = 0; at + f->entry_size <= size; at += next) {
		next = entry_parts(f, entries + at, &comefrom, &counters);
		*comefrom = 0;
		memset(counters, 0, sizeof(*counters));
		if (next < f->entry_size)
			break;
	}
}

void kxt_counters(const struct xt_family *f, const struct kxt_table *t, struct xt_counters *out)
{
	struct xt_counters *counters;
	unsigned int *comefrom;
	__u32 at = 0, next;

	for (__u32 i = 0; i < t->h.num_entries && at + f->entry_size <= t->h.size; i++) {
		next = entry_parts(f, t->entries + at, &comefrom, &counters);
		out[i] = *counters;
		at += next;
	}
}

bool kxt_untouched(const struct xt_family *f, const struct kxt_table *t)
{
	const struct xt_table_row *row = xt_table_row(f, t->h.name);
	struct xt_replace_hdr h;
	void *fresh, *copy;
	bool same = false;

	fresh = row ? xt_initial_blob(f, row, &h) : NULL;
	copy = malloc(t->h.size);
	if (fresh && copy && h.size == t->h.size && h.num_entries == t->h.num_entries) {
		memcpy(copy, t->entries, t->h.size);
		neutralise(f, copy, t->h.size);
		neutralise(f, fresh, t->h.size);
		same = !memcmp(copy, fresh, t->h.size);
	}
	free(copy);
	free(fresh);
	return same;
}

int kxt_replace(const struct xt_family *f, const struct xt_replace_hdr *h,
		const void *entries, struct xt_counters *counters)
{
	size_t len;
	void *arg = xt_replace_build(f, h, entries, counters, &len);
	int ret;

	if (!arg)
		return -ENOMEM;
	ret = kxt_set(f, f->set_replace, arg, len);
	free(arg);
	return ret;
}

int kxt_add_counters(const struct xt_family *f, const char *table,
		     const struct xt_counters *counters, __u32 n)
{
	struct xt_counters_info *info;
	size_t len = sizeof(*info) + n * sizeof(*counters);
	int ret;

	info = calloc(1, len);
	if (!info)
		return -ENOMEM;
	strncpy(info->name, table, sizeof(info->name) - 1);
	info->num_counters = n;
	memcpy(info->counters, counters, n * sizeof(*counters));
	ret = kxt_set(f, f->set_add_counters, info, len);
	free(info);
	return ret;
}
