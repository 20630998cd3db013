// SPDX-License-Identifier: GPL-2.0
/*
 * The decoder against the running kernel: rulesets that iptables has set are
 * spoiled at random, and given both to the kernel's own ip_tables, in a
 * network namespace of this test's own, and to the decoder.  Both must say the
 * same, errno by errno; what both accept must read back the same.
 *
 * usage: blob_errno_test [-n MUTATIONS] [-s SEED] [-e FILE] [-w DIR]
 *   -e  the kernel's errnos are those in FILE, of a run of before; written if there is none
 *   -w  only write the valid requests to files in DIR (seeds of blob_fuzz)
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <netinet/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>

#include "../../umh/blob.h"
#include "../unit/tap.h"
#include "blob_spoil.h"

#define CHAINS \
	":a - [0:0]\n:b - [0:0]\n:c - [0:0]\n:d - [0:0]\n" \
	"-A a -p tcp -j b\n-A a -g c\n-A b -i eth0 -j c\n-A b -j RETURN\n" \
	"-A c -o lo\n-A c -p udp -j d\n-A c -j DROP\n-A d -p icmp -j ACCEPT\n"

static const struct ruleset {
	const struct xt_family *f;
	const char *table, *rules;
} rulesets[] = {
	{ &xt_family_ip, "filter", "" },
	{ &xt_family_ip6, "filter", "" },
	{ &xt_family_ip, "filter", CHAINS "-A INPUT -s 10.0.0.0/8 -j a\n-A INPUT -p tcp -g b\n"
	  "-A FORWARD -f -j DROP\n-A FORWARD -j a\n-A OUTPUT ! -d 10.1.2.3\n-P OUTPUT DROP\n" },
	{ &xt_family_ip6, "filter", CHAINS "-A INPUT -s fc00::/7 -j a\n-A INPUT -p tcp -g b\n"
	  "-A FORWARD -j a\n-A OUTPUT ! -d fe80::1\n-P OUTPUT DROP\n" },
	{ &xt_family_ip, "mangle", CHAINS "-A PREROUTING -j a\n-A INPUT -j b\n-A OUTPUT -g c\n"
	  "-A POSTROUTING -j d\n" },
	{ &xt_family_ip6, "raw", CHAINS "-A PREROUTING -j a\n-A OUTPUT -j d\n" },
	{ &xt_family_ip, "filter", CHAINS "-A INPUT -p tcp --dport 22 -j a\n"
	  "-A INPUT -p tcp --sport 1:5 --syn -j b\n-A FORWARD -p udp --dport 53 -j d\n" },
	{ &xt_family_ip6, "filter", CHAINS "-A INPUT -p tcp --dport 22 -j a\n"
	  "-A INPUT -p tcp --sport 1:5 --syn -j b\n-A FORWARD -p udp --dport 53 -j d\n"
	  "-A INPUT -m limit -j LOG --log-prefix x\n-A FORWARD -j MARK --set-mark 1\n" },
};

static int sock[2];		/* raw: IPv4, IPv6 */
static FILE *errnos;
static bool errnos_known;

static int sock_of(const struct xt_family *f)
{
	return sock[f == &xt_family_ip6];
}

static int get_info(const struct xt_family *f, const char *table, struct ipt_getinfo *info)
{
	socklen_t len = sizeof(*info);

	memset(info, 0, sizeof(*info));
	memcpy(info->name, table, strnlen(table, sizeof(info->name) - 1));
	return getsockopt(sock_of(f), f->sol, f->get_info, info, &len) ? -errno : 0;
}

/* The table's entries as the kernel has them. NULL on failure. */
static void *get_entries(const struct xt_family *f, const struct ipt_getinfo *info)
{
	socklen_t len = sizeof(struct ipt_get_entries) + info->size;
	struct ipt_get_entries *get = calloc(1, len);

	memcpy(get->name, info->name, sizeof(get->name));
	get->size = info->size;
	if (getsockopt(sock_of(f), f->sol, f->get_entries, get, &len)) {
		free(get);
		return NULL;
	}
	memmove(get, get->entrytable, info->size);
	return get;
}

/* Makes a request of the kernel's present table. */
static bool capture(struct request *r, const struct ruleset *s)
{
	struct ipt_getinfo info;
	void *entries;

	memset(r, 0, sizeof(*r));
	r->f = s->f;
	if (get_info(s->f, s->table, &info) || info.size > ARG_MAX / 2)
		return false;
	entries = get_entries(s->f, &info);
	if (!entries)
		return false;
	strcpy(r->h.name, s->table);
	r->h.valid_hooks = info.valid_hooks;
	r->h.num_entries = r->h.num_counters = info.num_entries;
	r->h.size = info.size;
	memcpy(r->h.hook_entry, info.hook_entry, sizeof(info.hook_entry));
	memcpy(r->h.underflow, info.underflow, sizeof(info.underflow));
	memcpy(r->arg + ARG_HDR, entries, info.size);
	r->len = ARG_HDR + info.size;
	free(entries);
	find_entries(r);
	return true;
}

static bool restore(const struct ruleset *s)
{
	FILE *p = popen(s->f == &xt_family_ip6 ? "ip6tables-legacy-restore"
					       : "iptables-legacy-restore", "we");

	if (!p)
		return false;
	fprintf(p, "*%s\n%sCOMMIT\n", s->table, s->rules);
	return !pclose(p);
}

/* A match or target that is not the kernel's own: it may refuse what we take. */
static bool has_extension(struct request *r)
{
	for (__u32 i = 0; i < r->n; i++) {
		const char *name = (char *)target(r, i) + 2;

		if (*target_offset(r, entry(r, i)) > r->f->entry_size ||
		    (*name && memcmp(name, "ERROR", 6)))
			return true;
	}
	return false;
}

static int ask_kernel(struct request *r)
{
	static struct xt_counters counters[8 * MAX_ENTRIES];
	void *ptr = counters;

	memcpy(r->arg + sizeof(r->h), &ptr, sizeof(ptr));
	return setsockopt(sock_of(r->f), r->f->sol, r->f->set_replace, r->arg, r->len) ? -errno
										       : 0;
}

/* An allocation of the exact length, so that the sanitizer sees a byte too much. */
static int ask_decoder(const struct request *r, struct xt_ruleset *rs, struct xt_err *err)
{
	void *arg = malloc(r->len);
	struct xt_replace_hdr h;
	const void *entries;
	int ret;

	memset(err, 0, sizeof(*err));
	memcpy(arg, r->arg, r->len);
	ret = xt_replace_parse(r->f, arg, r->len, &h, &entries, err) ?:
	      xt_ruleset_decode(rs, r->f, &h, entries, err);
	free(arg);
	return ret;
}

/* The kernel's table, just set, is what was decoded. */
static bool same_table(const struct xt_ruleset *rs)
{
	struct ipt_getinfo info;
	unsigned char *entries;
	bool same;

	if (get_info(rs->family, rs->table->name, &info))
		return false;
	same = info.size == rs->size && info.num_entries == rs->nrules &&
	       !memcmp(info.hook_entry, rs->hook_entry, sizeof(info.hook_entry)) &&
	       !memcmp(info.underflow, rs->underflow, sizeof(info.underflow));
	entries = get_entries(rs->family, &info);
	for (__u32 i = 0; same && i < rs->nrules; i++) {
		__u32 off = rs->rules[i].offset;

		same = !memcmp(entries + off, (char *)rs->blob + off, rs->family->entry_size);
	}
	free(entries);
	return same;
}

struct tally {
	__u32 accepted, refused, odd, theirs, wrong;
};

static bool agree(struct request *r, int kernel, int ours, struct tally *t)
{
	bool taken = !ours || ours == -EOPNOTSUPP;

	if (kernel && kernel != -EAGAIN) {
		t->refused++;
		if (kernel == ours)
			return true;
		/* extensions are checked after loops, before the table's name */
		t->theirs++;
		return kernel != -ELOOP && ours != -ELOOP && has_extension(r);
	}
	t->accepted++;
	t->odd += ours == -EOPNOTSUPP;
	return taken;
}

/*
 * As in the run of before; but what iptables does not make, xtjit's module refuses, and
 * of several defects with an extension it may tell another one.
 */
static bool as_before(struct request *r, int kernel, int ours, int *was)
{
	*was = kernel;
	if (!errnos)
		return true;
	if (errnos_known)
		return fscanf(errnos, "%d", was) == 1 &&
		       (*was == kernel || (!*was && kernel == ours && ours == -EOPNOTSUPP) ||
			(*was && kernel && has_extension(r)));
	return fprintf(errnos, "%d\n", kernel) > 0;
}

static void try_one(const struct request *sample, struct tally *t, __u32 number)
{
	static struct request r;
	struct xt_ruleset rs;
	struct ipt_getinfo info;
	struct xt_err err;
	int kernel, ours, was;
	bool ok;

	r = *sample;
	if (!get_info(r.f, r.h.name, &info))
		r.h.num_counters = info.num_entries;
	spoil(&r);
	kernel = ask_kernel(&r);
	ours = ask_decoder(&r, &rs, &err);
	ok = as_before(&r, kernel, ours, &was) & agree(&r, kernel, ours, t);
	if (!kernel && !ours)
		ok &= same_table(&rs);
	if (!ours)
		xt_ruleset_free(&rs);
	if (!ok && t->wrong++ < 10)
		tap_diag("mutation %u: kernel %d, ip_tables %d, decoder %d (%s)", number, kernel,
			 was, ours, err.text);
}

/* For an ordinary user: root in a user namespace. */
static bool become_root(void)
{
	char map[32];
	int fd, len;

	len = snprintf(map, sizeof(map), "0 %u 1", geteuid());
	if (unshare(CLONE_NEWUSER))
		return false;
	fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (write(fd, map, len) != len)
		len = 0;
	close(fd);
	return len;
}

/* A fresh network namespace: iptables does not survive every table that the kernel takes. */
static bool set_up(void)
{
	if (unshare(CLONE_NEWNET))
		return false;
	if (sock[0]) {
		close(sock[0]);
		close(sock[1]);
	}
	sock[0] = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	sock[1] = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	return sock[0] >= 0 && sock[1] >= 0;
}

static void test_ruleset(const struct ruleset *s, int index, __u32 mutations)
{
	static struct request sample;
	struct tally t = { 0 };
	struct xt_ruleset rs;
	struct xt_err err;
	int ret;

	if (!tap_ok(set_up() && restore(s) && capture(&sample, s), "%s %s %d: set and read", s->f->name,
		    s->table, index))
		return;
	ret = ask_decoder(&sample, &rs, &err);
	if (!tap_ok(!ret, "%s %s %d: decoded", s->f->name, s->table, index)) {
		tap_diag("%s", err.text);
		return;
	}
	tap_ok(same_table(&rs), "%s %s %d: as it is read from the kernel", s->f->name, s->table,
	       index);
	xt_ruleset_free(&rs);
	for (__u32 i = 0; i < mutations; i++)
		try_one(&sample, &t, i);
	tap_ok(!t.wrong && t.accepted && t.refused && t.odd < t.accepted,
	       "%s %s %d: the kernel's errnos", s->f->name, s->table, index);
	tap_diag("%u accepted (%u of them odd), %u refused (%u for an extension), %u wrong",
		 t.accepted, t.odd, t.refused, t.theirs, t.wrong);
}

static int write_seed(const struct ruleset *s, int index, const char *dir)
{
	static struct request r;
	__u8 family = s->f == &xt_family_ip6;
	char path[4096];
	FILE *f;

	if (!set_up() || !restore(s) || !capture(&r, s))
		return -1;
	snprintf(path, sizeof(path), "%s/%s-%s-%d", dir, s->f->name, s->table, index);
	f = fopen(path, "we");
	if (!f)
		return -1;
	fwrite(&family, 1, 1, f);
	fwrite(r.arg, 1, r.len, f);
	return fclose(f);
}

static int skip_all(const char *reason)
{
	printf("1..0 # SKIP %s\n", reason);
	return 4;
}

int main(int argc, char **argv)
{
	const int n = sizeof(rulesets) / sizeof(*rulesets);
	const char *seeds = NULL, *known = NULL;
	struct ipt_getinfo info;
	__u32 mutations = 10000;
	int opt;

	while ((opt = getopt(argc, argv, "n:s:e:w:")) != -1) {
		if (opt == 'n')
			mutations = atoi(optarg);
		else if (opt == 's')
			prng_state = strtoull(optarg, NULL, 0) | 1ull << 63;
		else if (opt == 'e')
			known = optarg;
		else if (opt == 'w')
			seeds = optarg;
		else
			return 2;
	}
	if ((geteuid() && !become_root()) || !set_up())
		return skip_all("no network namespace can be made");
	if (!restore(&rulesets[0]) || !restore(&rulesets[1]))	/* which loads ip_tables */
		return skip_all("there is no working iptables-legacy-restore");
	if (get_info(&xt_family_ip, "filter", &info) || get_info(&xt_family_ip6, "filter", &info))
		return skip_all("the kernel has no ip_tables");
	if (known) {
		errnos = fopen(known, "re");
		errnos_known = errnos;
		errnos = errnos ?: fopen(known, "we");
	}
	for (int i = 0; i < n; i++) {
		if (!seeds)
			test_ruleset(&rulesets[i], i, mutations);
		else if (write_seed(&rulesets[i], i, seeds))
			return 1;
	}
	return seeds ? 0 : tap_done();
}
