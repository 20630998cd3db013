// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "check.h"
#include "xtjit_msg.h"

struct exchange {
	struct xtjit_req req;
	void *payload;
	void *reply;		/* malloc()ed */
	size_t len;
	struct xt_err err;
};

void check_tables_free(struct check_tables *t)
{
	for (int i = 0; i < XT_TABLES; i++) {
		if (t->set[i])
			xt_ruleset_free(&t->rs[i]);
		free(t->entries[i]);
	}
	memset(t, 0, sizeof(*t));
}

/* The index of the table of that name, with its initial entries if it has none; -1: no such. */
static int table_index(struct check_tables *t, const char *name)
{
	for (int i = 0; i < XT_TABLES; i++) {
		if (strncmp(t->family->tables[i].name, name, XT_TABLE_MAXNAMELEN))
			continue;
		if (!t->entries[i])
			t->entries[i] = xt_initial_blob(t->family, &t->family->tables[i],
							&t->h[i]);
		return t->entries[i] ? i : -1;
	}
	return -1;
}

static int get_info(struct check_tables *t, struct exchange *x)
{
	struct ipt_getinfo *info = x->payload;	/* struct ip6t_getinfo is the same */
	const struct xt_replace_hdr *h;
	int i;

	if (x->req.len != sizeof(*info))
		return -EINVAL;
	i = table_index(t, info->name);
	if (i < 0)
		return -ENOENT;
	h = &t->h[i];
	info->valid_hooks = h->valid_hooks;
	info->num_entries = h->num_entries;
	info->size = h->size;
	memcpy(info->hook_entry, h->hook_entry, sizeof(info->hook_entry));
	memcpy(info->underflow, h->underflow, sizeof(info->underflow));
	x->reply = malloc(sizeof(*info));
	if (!x->reply)
		return -ENOMEM;
	memcpy(x->reply, info, sizeof(*info));
	x->len = sizeof(*info);
	return 0;
}

static int get_entries(struct check_tables *t, struct exchange *x)
{
	struct ipt_get_entries *get = x->payload;	/* so is struct ip6t_get_entries */
	int i;

	if (x->req.len != sizeof(*get))
		return -EINVAL;
	i = table_index(t, get->name);
	if (i < 0)
		return -ENOENT;
	if (get->size != t->h[i].size)
		return -EAGAIN;
	x->len = sizeof(*get) + get->size;
	x->reply = malloc(x->len);
	if (!x->reply)
		return -ENOMEM;
	memcpy(x->reply, get, sizeof(*get));
	memcpy((char *)x->reply + sizeof(*get), t->entries[i], get->size);
	return 0;
}

/* The new table takes the place of the old one. */
static int set_replace(struct check_tables *t, struct exchange *x)
{
	struct xt_replace_hdr h;
	struct xt_ruleset rs;
	const void *entries;
	void *copy;
	int i, err;

	err = xt_replace_parse(t->family, x->payload, x->req.len, &h, &entries, &x->err);
	if (err)
		return err;
	i = table_index(t, h.name);
	if (i < 0)
		return -ENOENT;
	err = xt_ruleset_decode(&rs, t->family, &h, entries, &x->err);
	if (err)
		return err;
	copy = malloc(h.size);
	x->len = h.num_counters * sizeof(struct xt_counters);
	x->reply = calloc(1, x->len);
	if (!copy || !x->reply) {
		free(copy);
		xt_ruleset_free(&rs);
		return -ENOMEM;
	}
	memcpy(copy, entries, h.size);
	free(t->entries[i]);
	if (t->set[i])
		xt_ruleset_free(&t->rs[i]);
	t->entries[i] = copy;
	t->h[i] = h;
	t->rs[i] = rs;
	t->set[i] = true;
	return 0;
}

static int answer(struct check_tables *t, struct exchange *x)
{
	const struct xt_family *f = t->family;
	__u32 opt = x->req.optname;

	if (x->req.op == XTJIT_OP_SET)
		return opt == (__u32)f->set_replace ? set_replace(t, x) : 0;
	if (x->req.op != XTJIT_OP_GET)
		return -EOPNOTSUPP;
	if (opt == (__u32)f->get_info)
		return get_info(t, x);
	if (opt == (__u32)f->get_entries)
		return get_entries(t, x);
	return 0;	/* every revision of every extension is there */
}

static bool recv_all(int fd, void *buf, size_t len)
{
	return recv(fd, buf, len, MSG_WAITALL) == (ssize_t)len;
}

static void send_all(int fd, const void *buf, size_t len)
{
	ssize_t n;

	for (size_t at = 0; at < len; at += n) {
		n = send(fd, (const char *)buf + at, len - at, MSG_NOSIGNAL);
		if (n <= 0)
			return;
	}
}

/* The descriptor of a namespace that comes along is dropped: nobody asked for it. */
static bool receive(int conn, struct exchange *x)
{
	if (!recv_all(conn, &x->req, sizeof(x->req)) || x->req.magic != XTJIT_MAGIC ||
	    x->req.len > XTJIT_MAX_PAYLOAD)
		return false;
	x->payload = malloc(x->req.len + 1);
	return x->payload && (!x->req.len || recv_all(conn, x->payload, x->req.len));
}

void check_serve(int conn, struct check_tables *t)
{
	struct exchange x = {};
	struct xtjit_rep rep;

	if (receive(conn, &x)) {
		rep = (struct xtjit_rep){
			.magic = XTJIT_MAGIC,
			.version = XTJIT_VERSION,
			.op = x.req.op,
			.id = x.req.id,
			.status = answer(t, &x),
			.note_len = strlen(x.err.text),
			.len = x.len,
		};
		send_all(conn, &rep, sizeof(rep));
		send_all(conn, x.reply, x.len);
		send_all(conn, x.err.text, rep.note_len);
	}
	free(x.payload);
	free(x.reply);
}
