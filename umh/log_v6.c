// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <linux/icmpv6.h>
#include <linux/ipv6.h>
#include <linux/netfilter/nf_log.h>
#include <netinet/in.h>

#include "sidefx_priv.h"

struct frag6 {
	__u8 nexthdr, reserved;
	__be16 frag_off;
	__be32 id;
};

/* Where the walk along the extension headers is. */
struct walk6 {
	struct log_buf *b;
	const struct event *ev;
	__u32 off;
	__u8 proto;
	bool fragment;		/* not the first one */
	bool opt;		/* options are logged */
};

static bool is_ext(__u8 proto)
{
	switch (proto) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_FRAGMENT:
	case IPPROTO_ESP:
	case IPPROTO_AH:
	case IPPROTO_DSTOPTS:
		return true;
	}
	return false;	/* NONE ends the walk, too */
}

static bool log_frag6(struct walk6 *w)
{
	const struct frag6 *fh = event_bytes(w->ev, w->off, sizeof(*fh));
	__u16 frag;

	log_add(w->b, "FRAG:");
	if (!fh) {
		log_add(w->b, "TRUNCATED ");
		return false;
	}
	frag = ntohs(fh->frag_off);
	log_add(w->b, "%u ", frag & 0xfff8);
	if (frag & 1)
		log_add(w->b, "INCOMPLETE ");
	log_add(w->b, "ID:%08x ", ntohl(fh->id));
	if (frag & 0xfff8)
		w->fragment = true;
	return true;
}

/* AH and ESP. False: the line ends here. */
static bool log_ipsec6(struct walk6 *w, const char *name, __u32 spi, __u32 size,
		       const char *after)
{
	const __u8 *h;

	log_add(w->b, "%s ", name);
	if (w->fragment) {
		log_add(w->b, ")");
		return false;
	}
	h = event_bytes(w->ev, w->off, size);
	if (!h) {
		log_add(w->b, "INCOMPLETE [%u bytes] )", w->ev->len - w->off);
		return false;
	}
	log_add(w->b, "SPI=0x%x %s", ntohl(*(const __be32 *)(h + spi)), after);
	return true;
}

/* One extension header. False: the line ends here. */
static bool log_ext6(struct walk6 *w)
{
	const struct ipv6_opt_hdr *hp = event_bytes(w->ev, w->off, sizeof(*hp));
	__u32 len;

	if (!hp) {
		log_add(w->b, "TRUNCATED");
		return false;
	}
	if (w->opt)
		log_add(w->b, "OPT ( ");
	len = (hp->hdrlen + 1) << 3;
	switch (w->proto) {
	case IPPROTO_FRAGMENT:
		if (!log_frag6(w))
			return false;
		len = 8;
		break;
	case IPPROTO_AH:
		if (w->opt && !log_ipsec6(w, "AH", 4, 12, ""))
			return false;
		len = (hp->hdrlen + 2) << 2;
		break;
	case IPPROTO_ESP:
		if (w->opt)
			log_ipsec6(w, "ESP", 0, 8, ")");
		return false;
	default:
		if (!w->fragment)
			break;
		if (w->opt)
			log_add(w->b, ")");
		return false;
	}
	if (w->opt)
		log_add(w->b, ") ");
	w->proto = hp->nexthdr;
	w->off += len;
	return true;
}

/* False: the line ends here. */
static bool log_icmp6(struct walk6 *w, bool inner)
{
	const struct icmp6hdr *ic;

	log_add(w->b, "PROTO=ICMPv6 ");
	if (w->fragment)
		return true;
	ic = event_bytes(w->ev, w->off, sizeof(*ic));
	if (!ic) {
		log_add(w->b, "INCOMPLETE [%u bytes] ", w->ev->len - w->off);
		return false;
	}
	log_add(w->b, "TYPE=%u CODE=%u ", ic->icmp6_type, ic->icmp6_code);
	switch (ic->icmp6_type) {
	case ICMPV6_ECHO_REQUEST:
	case ICMPV6_ECHO_REPLY:
		log_add(w->b, "ID=%u SEQ=%u ", ntohs(ic->icmp6_identifier),
			ntohs(ic->icmp6_sequence));
		break;
	case ICMPV6_PARAMPROB:
		log_add(w->b, "POINTER=%08x ", ntohl(ic->icmp6_pointer));
		/* fallthrough */
	case ICMPV6_DEST_UNREACH:
	case ICMPV6_PKT_TOOBIG:
	case ICMPV6_TIME_EXCEED:
		if (!inner) {
			log_add(w->b, "[");
			log_ipv6(w->b, w->ev, w->off + sizeof(*ic), true);
			log_add(w->b, "] ");
		}
		if (ic->icmp6_type == ICMPV6_PKT_TOOBIG)
			log_add(w->b, "MTU=%u ", ntohl(ic->icmp6_mtu));
	}
	return true;
}

static bool log_proto6(struct walk6 *w, bool inner)
{
	switch (w->proto) {
	case IPPROTO_TCP:
		return log_tcp(w->b, w->ev, w->fragment, w->off);
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		return log_udp(w->b, w->ev, w->proto, w->fragment, w->off);
	case IPPROTO_ICMPV6:
		return log_icmp6(w, inner);
	}
	log_add(w->b, "PROTO=%u ", w->proto);
	return true;
}

void log_ipv6(struct log_buf *b, const struct event *ev, __u32 off, bool inner)
{
	const struct ipv6hdr *ih = event_bytes(ev, off, sizeof(*ih));
	struct walk6 w = { .b = b, .ev = ev };
	__u32 word;

	if (!ih) {
		log_add(b, "TRUNCATED");
		return;
	}
	word = ntohl(*(const __be32 *)ih);
	log_ip6(b, "SRC=", &ih->saddr);
	log_ip6(b, "DST=", &ih->daddr);
	log_add(b, "LEN=%zu TC=%u HOPLIMIT=%u FLOWLBL=%u ",
		ntohs(ih->payload_len) + sizeof(*ih), (word & 0x0ff00000) >> 20,
		ih->hop_limit, word & 0x000fffff);
	w.opt = ev->flags & NF_LOG_IPOPT;
	w.proto = ih->nexthdr;
	w.off = off + sizeof(*ih);
	while (is_ext(w.proto))
		if (!log_ext6(&w))
			return;
	if (log_proto6(&w, inner) && !inner)
		log_tail(b, ev);
}
