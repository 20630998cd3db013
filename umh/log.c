// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_log.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sidefx_priv.h"

void log_add(struct log_buf *b, const char *fmt, ...)
{
	va_list ap;
	int len;

	if (b->count < LOG_MAX) {
		va_start(ap, fmt);
		len = vsnprintf(b->text + b->count, LOG_MAX - b->count, fmt, ap);
		va_end(ap);
		if (len >= 0 && b->count + len < LOG_MAX) {
			b->count += len;
			return;
		}
	}
	b->count = LOG_MAX;
}

void log_mac(struct log_buf *b, const char *before, const __u8 *m)
{
	log_add(b, "%s%02x:%02x:%02x:%02x:%02x:%02x ", before,
		m[0], m[1], m[2], m[3], m[4], m[5]);
}

void log_ip4(struct log_buf *b, const char *before, const void *addr, const char *after)
{
	const __u8 *a = addr;

	log_add(b, "%s%u.%u.%u.%u%s", before, a[0], a[1], a[2], a[3], after);
}

void log_ip6(struct log_buf *b, const char *before, const void *addr)
{
	const __be16 *a = addr;

	log_add(b, "%s%04x:%04x:%04x:%04x:%04x:%04x:%04x:%04x ", before,
		ntohs(a[0]), ntohs(a[1]), ntohs(a[2]), ntohs(a[3]),
		ntohs(a[4]), ntohs(a[5]), ntohs(a[6]), ntohs(a[7]));
}

void log_hex(struct log_buf *b, const __u8 *p, __u32 n)
{
	for (__u32 i = 0; i < n; i++)
		log_add(b, "%02X", p[i]);
}

static void log_tcp_flags(struct log_buf *b, const struct tcphdr *th)
{
	const __u8 *byte = (const __u8 *)th + 12;
	static const char *const names[] = {
		"CWR ", "ECE ", "URG ", "ACK ", "PSH ", "RST ", "SYN ", "FIN "
	};
	bool ae = kernel_since(6, 15);	/* the lowest of the reserved bits became a flag */

	log_add(b, "RES=0x%02x ", (byte[0] & (ae ? 0x0e : 0x0f)) << 2);
	if (ae && byte[0] & 1)
		log_add(b, "AE ");
	for (int i = 0; i < 8; i++)
		if (byte[1] & (0x80 >> i))
			log_add(b, "%s", names[i]);
	log_add(b, "URGP=%u ", ntohs(th->urg_ptr));
}

bool log_tcp(struct log_buf *b, const struct event *ev, bool fragment, __u32 off)
{
	const struct tcphdr *th;
	const __u8 *opt;
	__u32 optlen;

	log_add(b, "PROTO=TCP ");
	if (fragment)
		return true;
	th = event_bytes(ev, off, sizeof(*th));
	if (!th) {
		log_add(b, "INCOMPLETE [%u bytes] ", ev->len - off);
		return false;
	}
	log_add(b, "SPT=%u DPT=%u ", ntohs(th->source), ntohs(th->dest));
	if (ev->flags & NF_LOG_TCPSEQ)
		log_add(b, "SEQ=%u ACK=%u ", ntohl(th->seq), ntohl(th->ack_seq));
	log_add(b, "WINDOW=%u ", ntohs(th->window));
	log_tcp_flags(b, th);
	if (!(ev->flags & NF_LOG_TCPOPT) || th->doff * 4 <= (int)sizeof(*th))
		return true;
	optlen = th->doff * 4 - sizeof(*th);
	opt = event_bytes(ev, off + sizeof(*th), optlen);
	if (!opt) {
		log_add(b, "OPT (TRUNCATED)");
		return false;
	}
	log_add(b, "OPT (");
	log_hex(b, opt, optlen);
	log_add(b, ") ");
	return true;
}

bool log_udp(struct log_buf *b, const struct event *ev, __u8 proto, bool fragment, __u32 off)
{
	const struct udphdr *uh;

	log_add(b, proto == IPPROTO_UDP ? "PROTO=UDP " : "PROTO=UDPLITE ");
	if (fragment)
		return true;
	uh = event_bytes(ev, off, sizeof(*uh));
	if (!uh) {
		log_add(b, "INCOMPLETE [%u bytes] ", ev->len - off);
		return false;
	}
	log_add(b, "SPT=%u DPT=%u LEN=%u ", ntohs(uh->source), ntohs(uh->dest), ntohs(uh->len));
	return true;
}

void log_tail(struct log_buf *b, const struct event *ev)
{
	if (ev->flags & NF_LOG_UID && ev->has_sk)
		log_add(b, "UID=%u GID=%u ", ev->uid, ev->gid);
	if (ev->mark)
		log_add(b, "MARK=0x%x ", ev->mark);
}

/* The kernel prints hard_header_len bytes from the MAC header on, wherever it ends. */
static __u8 mac_byte(const struct event *ev, __u32 i)
{
	if (i < ev->mac_len)
		return i < EVENT_MAC_MAX ? ev->mac[i] : 0;
	i -= ev->mac_len;
	return i < ev->data_len ? ev->data[i] : 0;
}

static void log_raw_mac(struct log_buf *b, const struct event *ev)
{
	log_add(b, "MAC=");
	if (ev->hh_len && ev->mac_len) {
		/* of ARPHRD_SIT, the Ethernet header that was before the tunnel's is not known */
		for (__u32 i = 0; i < ev->hh_len && ev->in_type != ARPHRD_SIT; i++)
			log_add(b, i ? ":%02x" : "%02x", mac_byte(ev, i));
		if (ev->in_type == ARPHRD_SIT) {
			log_ip4(b, " TUNNEL=", ev->mac + 12, "->");
			log_ip4(b, "", ev->mac + 16, "");
		}
	}
	log_add(b, " ");
}

static void log_mac_header(struct log_buf *b, const struct event *ev)
{
	const struct ethhdr *eth = (const void *)ev->mac;

	if (!(ev->flags & NF_LOG_MACDECODE) || ev->in_type != ARPHRD_ETHER) {
		log_raw_mac(b, ev);
		return;
	}
	if (ev->mac_len < ETH_HLEN)
		return;
	log_mac(b, "MACSRC=", eth->h_source);
	log_mac(b, "MACDST=", eth->h_dest);
	log_add(b, "MACPROTO=%04x ", ntohs(eth->h_proto));
}

void log_line(struct log_buf *b, const struct event *ev)
{
	b->count = 0;
	log_add(b, "%.*sIN=%.*s OUT=%.*s ", (int)sizeof(ev->prefix), ev->prefix,
		(int)sizeof(ev->in_name), ev->in_name, (int)sizeof(ev->out_name), ev->out_name);
	if (ev->in_name[0])
		log_mac_header(b, ev);
	if (ev->nfproto == NFPROTO_IPV4)
		log_ipv4(b, ev, 0);
	else
		log_ipv6(b, ev, 0, false);
}
