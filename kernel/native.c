// SPDX-License-Identifier: GPL-2.0
/* The kernel's own matches and targets: net/ipv4/netfilter/ip_tables.c find_check_entry(). */
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "xtjit.h"

/* What struct ipt_entry and struct ip6t_entry have in other places. */
struct entry {
	void *p;
	u8 *elems;
	u16 target, next;		/* offsets */
	u16 proto;
	bool inv_proto;
};

static size_t entry_size(u8 family)
{
	return family == NFPROTO_IPV6 ? sizeof(struct ip6t_entry) : sizeof(struct ipt_entry);
}

static void entry_view(struct entry *e, void *p, u8 family)
{
	e->p = p;
	e->elems = p + entry_size(family);
	if (family == NFPROTO_IPV6) {
		const struct ip6t_entry *t = p;

		e->target = t->target_offset;
		e->next = t->next_offset;
		e->proto = t->ipv6.proto;
		e->inv_proto = t->ipv6.invflags & IP6T_INV_PROTO;
	} else {
		const struct ipt_entry *t = p;

		e->target = t->target_offset;
		e->next = t->next_offset;
		e->proto = t->ip.proto;
		e->inv_proto = t->ip.invflags & IPT_INV_PROTO;
	}
}

/* A copy of the entry at @at, whose parts are within its bounds. */
static int entry_get(struct entry *e, u8 family, const struct xtjit_entries *from, u32 at)
{
	union {
		struct ipt_entry ip;
		struct ip6t_entry ip6;
	} head;
	size_t size = entry_size(family);
	u16 next;
	void *p;
	int ret;

	if (at > from->len || from->len - at < size)
		return -EINVAL;
	if (copy_from_user(&head, from->p + at, size))
		return -EFAULT;
	entry_view(e, &head, family);
	next = e->next;
	if (next < size || next > from->len - at)
		return -EINVAL;
	p = memdup_user(from->p + at, next);
	if (IS_ERR(p))
		return PTR_ERR(p);
	entry_view(e, p, family);
	ret = e->next == next ? xt_check_entry_offsets(p, e->elems, e->target, next) : -EINVAL;
	if (ret)
		kfree(p);
	return ret;
}

/* The match at @ext of the entry, NULL if none begins there. */
static struct xt_entry_match *entry_match(const struct entry *e, u32 ext)
{
	struct xt_entry_match *m;
	u32 at;

	for (at = e->elems - (u8 *)e->p; at < e->target; at += m->u.match_size) {
		m = e->p + at;
		if (at == ext)
			return m;
	}
	return NULL;
}

static struct xt_match *find_match(const struct xt_entry_match *m, u8 family)
{
	if (strnlen(m->u.user.name, sizeof(m->u.user.name)) == sizeof(m->u.user.name))
		return ERR_PTR(-EINVAL);
	return xt_request_find_match(family, m->u.user.name, m->u.user.revision);
}

static void put_matches(const struct entry *e, u32 end)
{
	struct xt_entry_match *m;
	u32 at;

	for (at = e->elems - (u8 *)e->p; at < end; at += m->u.match_size) {
		m = e->p + at;
		module_put(m->u.kernel.match->me);
	}
}

/* A target's checkentry() may look at the rule's matches (TCPMSS does). */
static int get_matches(const struct entry *e, u8 family)
{
	struct xt_entry_match *m;
	struct xt_match *match;
	u32 at;

	for (at = e->elems - (u8 *)e->p; at < e->target; at += m->u.match_size) {
		m = e->p + at;
		match = find_match(m, family);
		if (IS_ERR(match)) {
			put_matches(e, at);
			return PTR_ERR(match);
		}
		m->u.kernel.match = match;
	}
	return 0;
}

/* checkentry() may keep what it finds out in the data: it is the slot's own. */
static int copy_data(struct xtjit_native *n, const void *data, size_t len)
{
	n->data = kmalloc(max_t(size_t, len, 1), GFP_KERNEL_ACCOUNT);
	if (!n->data)
		return -ENOMEM;
	memcpy(n->data, data, len);
	return 0;
}

static void close_match(struct xtjit_native *n, const struct xtjit_place *at)
{
	struct xt_mtdtor_param par = {
		.net = at->net, .match = n->match, .matchinfo = n->data, .family = at->family,
	};

	if (par.match->destroy)
		par.match->destroy(&par);
	module_put(par.match->me);
}

static void close_target(struct xtjit_native *n, const struct xtjit_place *at)
{
	struct xt_tgdtor_param par = {
		.net = at->net, .target = n->target, .targinfo = n->data, .family = at->family,
	};

	if (par.target->destroy)
		par.target->destroy(&par);
	module_put(par.target->me);
}

void xtjit_native_close(struct xtjit_native *n, const struct xtjit_place *at)
{
	if (n->kind == XTJIT_SLOT_MATCH)
		close_match(n, at);
	else
		close_target(n, at);
	kfree(n->data);
}

static int open_match(struct xtjit_native *n, const struct xtjit_place *at,
		      const struct entry *e, const struct xtjit_slot *slot)
{
	struct xt_entry_match *m = entry_match(e, slot->ext);
	struct xt_mtchk_param par = {
		.net = at->net, .table = at->table, .entryinfo = e->p,
		.hook_mask = slot->hooks, .family = at->family,
	};
	u16 size;
	int ret;

	if (!m)
		return -EINVAL;
	n->match = find_match(m, at->family);
	if (IS_ERR(n->match))
		return PTR_ERR(n->match);
	size = m->u.match_size - sizeof(*m);
	ret = copy_data(n, m->data, size);
	if (!ret) {
		par.match = n->match;
		par.matchinfo = n->data;
		ret = xt_check_match(&par, size, e->proto, e->inv_proto);
	}
	if (ret) {
		kfree(n->data);
		module_put(n->match->me);
	}
	return ret;
}

static int check_target(struct xtjit_native *n, const struct xtjit_place *at,
			const struct entry *e, const struct xtjit_slot *slot, u16 size)
{
	struct xt_tgchk_param par = {
		.net = at->net, .table = at->table, .entryinfo = e->p, .target = n->target,
		.targinfo = n->data, .hook_mask = slot->hooks, .family = at->family,
	};
	int ret = get_matches(e, at->family);

	if (ret)
		return ret;
	ret = xt_check_target(&par, size, e->proto, e->inv_proto);
	put_matches(e, e->target);
	return ret;
}

static int open_target(struct xtjit_native *n, const struct xtjit_place *at,
		       const struct entry *e, const struct xtjit_slot *slot)
{
	struct xt_entry_target *t = e->p + e->target;
	u16 size = t->u.target_size - sizeof(*t);
	int ret;

	if (slot->ext != e->target ||
	    strnlen(t->u.user.name, sizeof(t->u.user.name)) == sizeof(t->u.user.name))
		return -EINVAL;
	n->target = xt_request_find_target(at->family, t->u.user.name, t->u.user.revision);
	if (IS_ERR(n->target))
		return PTR_ERR(n->target);
	ret = n->target->target ? copy_data(n, t->data, size) : -EINVAL;
	if (!ret)
		ret = check_target(n, at, e, slot, size);
	if (ret) {
		kfree(n->data);
		module_put(n->target->me);
	}
	return ret;
}

int xtjit_native_open(struct xtjit_native *n, const struct xtjit_place *at,
		      const struct xtjit_entries *from, const struct xtjit_slot *slot)
{
	struct entry e;
	int ret;

	ret = entry_get(&e, at->family, from, slot->entry);
	if (ret)
		return ret;
	n->data = NULL;
	n->kind = slot->kind;
	ret = slot->kind == XTJIT_SLOT_MATCH ? open_match(n, at, &e, slot) :
					       open_target(n, at, &e, slot);
	kfree(e.p);
	return ret;
}

int xtjit_native_show(const struct xtjit_native *n, const struct xtjit_entries *e,
		      const struct xtjit_slot *slot)
{
	u8 __user *data = e->p + slot->entry + slot->ext;
	const struct xt_match *m = n->match;
	const struct xt_target *t = n->target;

	if (n->kind == XTJIT_SLOT_MATCH)
		return xt_data_to_user(data + sizeof(struct xt_entry_match), n->data,
				       m->usersize, m->matchsize, XT_ALIGN(m->matchsize));
	return xt_data_to_user(data + sizeof(struct xt_entry_target), n->data,
			       t->usersize, t->targetsize, XT_ALIGN(t->targetsize));
}
