// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <linux/icmp.h>
#include <linux/ip.h>
#include <linux/netfilter/nf_log.h>
#include <netinet/in.h>

#include "sidefx_priv.h"

#define IP_CE		0x8000
#define IP_DF		0x4000
#define IP_MF		0x2000
#define IP_OFFSET	0x1fff

/* What an ICMP message of a type needs to be printed in full. */
static const __u8 icmp_need[NR_ICMP_TYPES + 1] = {
	[ICMP_ECHOREPLY] = 4,
	[ICMP_DEST_UNREACH] = 8 + sizeof(struct iphdr),
	[ICMP_SOURCE_QUENCH] = 8 + sizeof(struct iphdr),
	[ICMP_REDIRECT] = 8 + sizeof(struct iphdr),
	[ICMP_ECHO] = 4,
	[ICMP_TIME_EXCEEDED] = 8 + sizeof(struct iphdr),
	[ICMP_PARAMETERPROB] = 8 + sizeof(struct iphdr),
	[ICMP_TIMESTAMP] = 20,
	[ICMP_TIMESTAMPREPLY] = 20,
	[ICMP_ADDRESS] = 12,
	[ICMP_ADDRESSREPLY] = 12,
};

static void log_icmp_body(struct log_buf *b, const struct event *ev,
			  const struct icmphdr *ic, __u32 iphoff, __u32 off)
{
	switch (ic->type) {
	case ICMP_ECHOREPLY:
	case ICMP_ECHO:
		log_add(b, "ID=%u SEQ=%u ", ntohs(ic->un.echo.id), ntohs(ic->un.echo.sequence));
		break;
	case ICMP_PARAMETERPROB:
		log_add(b, "PARAMETER=%u ", ntohl(ic->un.gateway) >> 24);
		break;
	case ICMP_REDIRECT:
		log_ip4(b, "GATEWAY=", &ic->un.gateway, " ");
		/* fallthrough */
	case ICMP_DEST_UNREACH:
	case ICMP_SOURCE_QUENCH:
	case ICMP_TIME_EXCEEDED:
		if (!iphoff) {
			log_add(b, "[");
			log_ipv4(b, ev, off + sizeof(*ic));
			log_add(b, "] ");
		}
		if (ic->type == ICMP_DEST_UNREACH && ic->code == ICMP_FRAG_NEEDED)
			log_add(b, "MTU=%u ", ntohs(ic->un.frag.mtu));
	}
}

static void log_icmp(struct log_buf *b, const struct event *ev, bool fragment,
		     __u32 iphoff, __u32 off)
{
	const struct icmphdr *ic;

	log_add(b, "PROTO=ICMP ");
	if (fragment)
		return;
	ic = event_bytes(ev, off, sizeof(*ic));
	if (!ic) {
		log_add(b, "INCOMPLETE [%u bytes] ", ev->len - off);
		return;
	}
	log_add(b, "TYPE=%u CODE=%u ", ic->type, ic->code);
	if (ic->type <= NR_ICMP_TYPES && ev->len - off < icmp_need[ic->type])
		log_add(b, "INCOMPLETE [%u bytes] ", ev->len - off);
	else
		log_icmp_body(b, ev, ic, iphoff, off);
}

/* AH and ESP: the SPI at @spi of a header of @size bytes. */
static void log_ipsec(struct log_buf *b, const struct event *ev, __u32 off,
		      __u32 spi, __u32 size)
{
	const __u8 *h = event_bytes(ev, off, size);

	if (h)
		log_add(b, "SPI=0x%x ", ntohl(*(const __be32 *)(h + spi)));
	else
		log_add(b, "INCOMPLETE [%u bytes] ", ev->len - off);
}

/* False: the line ends here. */
static bool log_proto4(struct log_buf *b, const struct event *ev,
		       const struct iphdr *ih, __u32 iphoff)
{
	bool fragment = ntohs(ih->frag_off) & IP_OFFSET;
	__u32 off = iphoff + ih->ihl * 4;

	switch (ih->protocol) {
	case IPPROTO_TCP:
		return log_tcp(b, ev, fragment, off);
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		return log_udp(b, ev, ih->protocol, fragment, off);
	case IPPROTO_ICMP:
		log_icmp(b, ev, fragment, iphoff, off);
		break;
	case IPPROTO_AH:
		if (fragment)
			break;
		log_add(b, "PROTO=AH ");
		log_ipsec(b, ev, off, 4, 12);
		break;
	case IPPROTO_ESP:
		log_add(b, "PROTO=ESP ");
		if (!fragment)
			log_ipsec(b, ev, off, 0, 8);
		break;
	default:
		log_add(b, "PROTO=%u ", ih->protocol);
	}
	return true;
}

/* False: the line ends here. */
static bool log_options4(struct log_buf *b, const struct event *ev,
			 const struct iphdr *ih, __u32 iphoff)
{
	__u32 len = ih->ihl * 4 - sizeof(*ih);
	const __u8 *opt = event_bytes(ev, iphoff + sizeof(*ih), len);

	if (!opt) {
		log_add(b, "TRUNCATED");
		return false;
	}
	log_add(b, "OPT (");
	log_hex(b, opt, len);
	log_add(b, ") ");
	return true;
}

void log_ipv4(struct log_buf *b, const struct event *ev, __u32 off)
{
	const struct iphdr *ih = event_bytes(ev, off, sizeof(*ih));
	__u32 frag, len;

	if (!ih) {
		log_add(b, "TRUNCATED");
		return;
	}
	log_ip4(b, "SRC=", &ih->saddr, " ");
	log_ip4(b, "DST=", &ih->daddr, " ");
	/* of a segmentation offload packet larger than the field can say: 0 */
	len = ih->tot_len || off ? ntohs(ih->tot_len) : ev->len;
	log_add(b, "LEN=%u TOS=0x%02X PREC=0x%02X TTL=%u ID=%u ", len, ih->tos & 0x1e,
		ih->tos & 0xe0, ih->ttl, ntohs(ih->id));
	frag = ntohs(ih->frag_off);
	log_add(b, "%s%s%s", frag & IP_CE ? "CE " : "", frag & IP_DF ? "DF " : "",
		frag & IP_MF ? "MF " : "");
	if (frag & IP_OFFSET)
		log_add(b, "FRAG:%u ", frag & IP_OFFSET);
	if (ev->flags & NF_LOG_IPOPT && ih->ihl * 4 > (int)sizeof(*ih) &&
	    !log_options4(b, ev, ih, off))
		return;
	if (log_proto4(b, ev, ih, off) && !off)
		log_tail(b, ev);
}
