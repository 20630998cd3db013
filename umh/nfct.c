// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "family.h"
#include "mnl_util.h"
#include "nfct.h"
#include "nsid.h"

#define TABLE	"xtjit"
#define CHAIN	"conntrack"
#define COMMENT	"keeps conntrack on for xtjit; called by no hook"
#define RETRIES	16
#define BATCH	4096

#define NFT_MSG(msg) (NFNL_SUBSYS_NFTABLES << 8 | (msg))

/* Types in the user data of a table, which nft shows as its comment. */
#define UDATA_COMMENT 0

static void put_nfgen(struct nlmsghdr *h, int family, int res_id)
{
	struct nfgenmsg *g = mnl_nlmsg_put_extra_header(h, sizeof(*g));

	g->nfgen_family = family;
	g->version = NFNETLINK_V0;
	g->res_id = htons(res_id);
}

static struct nlmsghdr *nft_request(char *buf, int msg, int family, int flags)
{
	struct nlmsghdr *h = nlu_request(buf, NFT_MSG(msg), flags);

	put_nfgen(h, family, 0);
	return h;
}

static int dump_once(struct mnl_socket *s, int msg, int family, const char *table,
		     mnl_cb_t cb, void *arg)
{
	char buf[NLU_REQ];
	struct nlmsghdr *h = nft_request(buf, msg, family, NLM_F_DUMP);

	if (table)
		mnl_attr_put_strz(h, NFTA_RULE_TABLE, table);
	return nlu_dump(s, h, cb, arg);
}

/*
 * A dump that is interrupted by a change is repeated: what the callbacks
 * collect only ever grows, so an extra look does no harm.
 */
static int nft_dump(struct mnl_socket *s, int msg, int family, const char *table,
		    mnl_cb_t cb, void *arg)
{
	int ret = -EINTR;

	for (int i = 0; i < RETRIES && ret == -EINTR; i++)
		ret = dump_once(s, msg, family, table, cb, arg);
	return ret;
}

/* Errnos by which kernels say that they have no nf_tables, or no ct in it. */
static int nft_errno(int ret)
{
	switch (ret) {
	case -EPROTONOSUPPORT:
	case -EAFNOSUPPORT:
	case -EINVAL:
	case -ENOENT:
		return -EOPNOTSUPP;
	}
	return ret;
}

static int is_rule(const struct nlmsghdr *h, void *arg)
{
	struct nlattr *a;

	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg))
		if (mnl_attr_get_type(a) == NFTA_RULE_TABLE &&
		    !strcmp(mnl_attr_get_str(a), TABLE))
			*(bool *)arg = true;
	return MNL_CB_OK;
}

/* Is our rule there?  No table is as good as no rule. */
static int have_rule(struct mnl_socket *s, int family, bool *have)
{
	int ret;

	*have = false;
	ret = nft_dump(s, NFT_MSG_GETRULE, family, TABLE, is_rule, have);
	return ret == -ENOENT ? 0 : ret;
}

/* One batch under construction. */
struct batch {
	char buf[BATCH];
	size_t len;
};

static struct nlmsghdr *batch_add(struct batch *b, int type, int family, int flags)
{
	struct nlmsghdr *h = nlu_request(b->buf + b->len, type, flags);

	put_nfgen(h, family, type < NLMSG_MIN_TYPE + 2 ? NFNL_SUBSYS_NFTABLES : 0);
	return h;
}

static void batch_end_msg(struct batch *b, const struct nlmsghdr *h)
{
	b->len += NLMSG_ALIGN(h->nlmsg_len);
}

static void batch_mark(struct batch *b, int type)
{
	batch_end_msg(b, batch_add(b, type, AF_UNSPEC, 0));
}

static void batch_table(struct batch *b, int msg, int family, int flags)
{
	struct nlmsghdr *h = batch_add(b, NFT_MSG(msg), family, flags);
	struct {
		__u8 type, len;
		char text[sizeof(COMMENT)];
	} comment = { UDATA_COMMENT, sizeof(COMMENT), COMMENT };

	mnl_attr_put_strz(h, NFTA_TABLE_NAME, TABLE);
	if (msg == NFT_MSG_NEWTABLE)
		mnl_attr_put(h, NFTA_TABLE_USERDATA, sizeof(comment), &comment);
	batch_end_msg(b, h);
}

static void batch_chain(struct batch *b, int family)
{
	struct nlmsghdr *h = batch_add(b, NFT_MSG(NFT_MSG_NEWCHAIN), family, NLM_F_CREATE);

	mnl_attr_put_strz(h, NFTA_CHAIN_TABLE, TABLE);
	mnl_attr_put_strz(h, NFTA_CHAIN_NAME, CHAIN);
	batch_end_msg(b, h);
}

static struct nlattr *expr_start(struct nlmsghdr *h, const char *name, struct nlattr **data)
{
	struct nlattr *elem = mnl_attr_nest_start(h, NFTA_LIST_ELEM);

	mnl_attr_put_strz(h, NFTA_EXPR_NAME, name);
	*data = mnl_attr_nest_start(h, NFTA_EXPR_DATA);
	return elem;
}

static void expr_end(struct nlmsghdr *h, struct nlattr *elem, struct nlattr *data)
{
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, elem);
}

/* "ct state 0": the comparison is there for nft to have something to show. */
static void batch_rule(struct batch *b, int family)
{
	struct nlmsghdr *h = batch_add(b, NFT_MSG(NFT_MSG_NEWRULE), family,
				       NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK);
	struct nlattr *list, *elem, *data, *value;

	mnl_attr_put_strz(h, NFTA_RULE_TABLE, TABLE);
	mnl_attr_put_strz(h, NFTA_RULE_CHAIN, CHAIN);
	list = mnl_attr_nest_start(h, NFTA_RULE_EXPRESSIONS);
	elem = expr_start(h, "ct", &data);
	mnl_attr_put_u32(h, NFTA_CT_KEY, htonl(NFT_CT_STATE));
	mnl_attr_put_u32(h, NFTA_CT_DREG, htonl(NFT_REG_1));
	expr_end(h, elem, data);
	elem = expr_start(h, "cmp", &data);
	mnl_attr_put_u32(h, NFTA_CMP_SREG, htonl(NFT_REG_1));
	mnl_attr_put_u32(h, NFTA_CMP_OP, htonl(NFT_CMP_EQ));
	value = mnl_attr_nest_start(h, NFTA_CMP_DATA);
	mnl_attr_put_u32(h, NFTA_DATA_VALUE, 0);
	mnl_attr_nest_end(h, value);
	expr_end(h, elem, data);
	mnl_attr_nest_end(h, list);
	batch_end_msg(b, h);
}

static int batch_run(struct mnl_socket *s, struct batch *b)
{
	batch_mark(b, NFNL_MSG_BATCH_END);
	if (mnl_socket_sendto(s, b->buf, b->len) < 0)
		return -errno;
	return nlu_wait(s, 0, NULL, NULL);
}

/* A table left half empty by someone else is made anew, in one step. */
static int make_table(struct mnl_socket *s, int family)
{
	struct batch b = { .len = 0 };

	batch_mark(&b, NFNL_MSG_BATCH_BEGIN);
	batch_table(&b, NFT_MSG_NEWTABLE, family, NLM_F_CREATE);
	batch_table(&b, NFT_MSG_DELTABLE, family, 0);
	batch_table(&b, NFT_MSG_NEWTABLE, family, NLM_F_CREATE);
	batch_chain(&b, family);
	batch_rule(&b, family);
	return batch_run(s, &b);
}

int nfct_enable(int nfproto, struct xt_err *err)
{
	const struct xt_family *f = xt_family_by_proto(nfproto);
	struct mnl_socket *s;
	bool have = false;
	int ret;

	if (!f)
		return xt_fail(err, -EAFNOSUPPORT, "no such family: %d", nfproto);
	ret = nlu_open(&s, NETLINK_NETFILTER, 0, 0);
	if (!ret) {
		ret = have_rule(s, nfproto, &have);
		if (!ret && !have)
			ret = make_table(s, nfproto);
		mnl_socket_close(s);
	}
	if (!ret)
		return 0;
	return xt_fail(err, nft_errno(ret),
		       "cannot turn connection tracking on for %s by nf_tables "
		       "(CONFIG_NF_TABLES, CONFIG_NFT_CT): %s", f->name, strerror(-ret));
}

void nfct_disable(int nfproto)
{
	struct batch b = { .len = 0 };
	struct mnl_socket *s;
	int ret;

	if (nlu_open(&s, NETLINK_NETFILTER, 0, 0))
		return;
	batch_mark(&b, NFNL_MSG_BATCH_BEGIN);
	batch_table(&b, NFT_MSG_DELTABLE, nfproto, NLM_F_ACK);
	ret = batch_run(s, &b);
	mnl_socket_close(s);
	if (ret && ret != -ENOENT)
		xt_log("cannot delete nf_tables' table " TABLE ": %s", strerror(-ret));
}

static bool counted(const struct nlmsghdr *h)
{
	const struct nfgenmsg *g = mnl_nlmsg_get_payload(h);

	return g->nfgen_family == NFPROTO_IPV4 || g->nfgen_family == NFPROTO_IPV6 ||
	       g->nfgen_family == NFPROTO_INET;
}

/* Our own table has no base chains and no objects: nothing needs to be left out. */
static int see_chain(const struct nlmsghdr *h, void *arg)
{
	struct nft_facts *f = arg;
	bool base = false, nat = false;
	struct nlattr *a;

	if (!counted(h))
		return MNL_CB_OK;
	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(a) == NFTA_CHAIN_HOOK)
			base = true;
		if (mnl_attr_get_type(a) == NFTA_CHAIN_TYPE)
			nat = !strcmp(mnl_attr_get_str(a), "nat");
	}
	f->any_chain |= base;
	f->nat_chain |= base && nat;
	return MNL_CB_OK;
}

static int see_object(const struct nlmsghdr *h, void *arg)
{
	struct nft_facts *f = arg;
	struct nlattr *a;

	if (!counted(h))
		return MNL_CB_OK;
	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg))
		if (mnl_attr_get_type(a) == NFTA_OBJ_TYPE &&
		    ntohl(mnl_attr_get_u32(a)) == NFT_OBJECT_CT_HELPER)
			f->ct_helper = true;
	return MNL_CB_OK;
}

int nft_facts_get(struct nft_facts *f, struct xt_err *err)
{
	struct mnl_socket *s;
	int ret;

	memset(f, 0, sizeof(*f));
	ret = nlu_open(&s, NETLINK_NETFILTER, 0, 0);
	if (!ret) {
		ret = nft_dump(s, NFT_MSG_GETCHAIN, NFPROTO_UNSPEC, NULL, see_chain, f);
		if (!ret)
			ret = nft_dump(s, NFT_MSG_GETOBJ, NFPROTO_UNSPEC, NULL, see_object, f);
		mnl_socket_close(s);
	}
	ret = nft_errno(ret);
	/* a kernel without nf_tables has no rulesets of it */
	if (!ret || ret == -EOPNOTSUPP)
		return 0;
	return xt_fail(err, ret, "cannot read nf_tables' rulesets: %s", strerror(-ret));
}

int nft_watch_open(struct xt_err *err)
{
	int fd = nsid_listen(NETLINK_NETFILTER, 1 << (NFNLGRP_NFTABLES - 1));

	return fd >= 0 ? fd : xt_fail(err, fd, "cannot watch nf_tables: %s", strerror(-fd));
}

void nft_watch_drain(int fd, void (*fn)(int nsid), void (*lost)(void))
{
	char buf[256];		/* what it says is no matter */
	ssize_t n;
	int nsid;

	for (;;) {
		n = nsid_recv(fd, buf, sizeof(buf), &nsid);
		if (n >= 0)
			fn(nsid);
		else if (errno == ENOBUFS)
			lost();
		else if (errno != EINTR)
			break;
	}
}
