// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <netinet/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "blob.h"
#include "kernel_xt.h"
#include "probe.h"

#define POLICY_SIZE (sizeof(struct ip6t_entry) + sizeof(struct xt_standard_target))

/* Table raw with one more rule in OUTPUT, "-p tcp -j ACCEPT"; malloc()ed. */
static char *table_with_rule(struct xt_replace_hdr *h)
{
	const struct xt_table_row *raw = xt_table_row(&xt_family_ip6, "raw");
	char *blob = xt_initial_blob(&xt_family_ip6, raw, h), *out;
	__u32 at = h->hook_entry[NF_INET_LOCAL_OUT];
	struct ip6t_entry *rule;

	out = blob ? malloc(h->size + POLICY_SIZE) : NULL;
	if (out) {
		memcpy(out, blob, at + POLICY_SIZE);
		memcpy(out + at + POLICY_SIZE, blob + at, h->size - at);
		rule = (void *)(out + at);
		rule->ipv6.proto = IPPROTO_TCP;
		rule->ipv6.flags = IP6T_F_PROTO;
		h->underflow[NF_INET_LOCAL_OUT] += POLICY_SIZE;
		h->size += POLICY_SIZE;
		h->num_counters = h->num_entries++;
	}
	free(blob);
	return out;
}

static int set_rule(int s)
{
	struct xt_counters old[8];
	struct xt_replace_hdr h;
	char *entries = table_with_rule(&h);
	size_t len;
	void *arg;
	int ret;

	if (!entries)
		return -ENOMEM;
	arg = xt_replace_build(&xt_family_ip6, &h, entries, old, &len);
	ret = arg ? setsockopt(s, IPPROTO_IPV6, IP6T_SO_SET_REPLACE, arg, len) : -1;
	free(arg);
	free(entries);
	return ret;
}

/* Destination options of 264 bytes in a packet that has 8 of them. */
static int send_odd(int s)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	unsigned char p[48] = { 0x60, [5] = 8, IPPROTO_DSTOPTS, 64, [40] = IPPROTO_TCP, 32 };

	p[23] = p[39] = 1;		/* ::1 */
	return sendto(s, p, sizeof(p), 0, (void *)&to, sizeof(to)) < 0 ? -errno : 0;
}

/* Exit status of the child: 1 if the packet was dropped by the rule that could not read it. */
static int child(void)
{
	struct ip6t_getinfo info = { .name = "raw" };
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	socklen_t len = sizeof(info);
	int s;

	if (unshare(CLONE_NEWNET))
		return 1;
	s = socket(AF_INET6, SOCK_RAW, IPPROTO_RAW);
	if (s < 0 || ioctl(s, SIOCSIFFLAGS, &lo) ||
	    getsockopt(s, IPPROTO_IPV6, IP6T_SO_GET_INFO, &info, &len) || set_rule(s))
		return 1;
	return send_odd(s) == -EPERM;
}

bool probe_exthdr_checked(void)
{
	static int answer = -1;
	int status = 0;
	pid_t pid;

	if (answer >= 0 || kxt_is_absent())
		return answer;
	pid = fork();
	if (!pid)
		_exit(child());
	answer = pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
		 WEXITSTATUS(status);
	return answer;
}
