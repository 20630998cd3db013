// SPDX-License-Identifier: GPL-2.0
/*
 * What is done for iptables itself: one connection to the helper is enough for it.
 * And "iptables" in a script may be a link to the nf_tables variant, as Debian has
 * it by default, which makes no socket options that could be caught.  Called by
 * its plain name, it gives way to the legacy one; "iptables-nft" is left alone.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"

#define NFT	"xtables-nft-multi"
#define LEGACY	"xtables-legacy-multi"

static const char *base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Of iptables; with *legacy, the one that is always the legacy one. */
static bool is_iptables(const char *name, bool *legacy)
{
	const char *rest = name + strlen("ip");

	if (strncmp(name, "ip", strlen("ip")))
		return false;
	rest += *rest == '6';
	if (strncmp(rest, "tables", strlen("tables")))
		return false;
	rest += strlen("tables");
	*legacy = !strncmp(rest, "-legacy", strlen("-legacy"));
	if (*legacy)
		rest += strlen("-legacy");
	return !*rest || !strcmp(rest, "-save") || !strcmp(rest, "-restore");
}

static void __attribute__((constructor)) to_legacy(int argc, char **argv, char **envp)
{
	char exe[4096];
	bool legacy;
	ssize_t n;

	if (argc < 1 || !argv[0] || !is_iptables(base(argv[0]), &legacy))
		return;
	client_keep();
	if (legacy)
		return;
	n = readlink("/proc/self/exe", exe, sizeof(exe) - sizeof(LEGACY));
	if (n <= 0)
		return;
	exe[n] = '\0';
	if (strcmp(base(exe), NFT))
		return;
	strcpy(exe + (base(exe) - exe), LEGACY);
	execve(exe, argv, envp);	/* not there: as if we were not, either */
}
