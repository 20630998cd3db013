// SPDX-License-Identifier: GPL-2.0
/*
 * "iptables" in a script may be a link to the nf_tables variant, as Debian has
 * it by default, which makes no socket options that could be caught.  Called by
 * its plain name, it gives way to the legacy one; "iptables-nft" is left alone.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NFT	"xtables-nft-multi"
#define LEGACY	"xtables-legacy-multi"

static const char *base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool plain_name(const char *name)
{
	static const char *const names[] = {
		"iptables", "iptables-save", "iptables-restore",
		"ip6tables", "ip6tables-save", "ip6tables-restore",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

static void __attribute__((constructor)) to_legacy(int argc, char **argv, char **envp)
{
	char exe[4096];
	ssize_t n;

	if (argc < 1 || !argv[0] || !plain_name(base(argv[0])))
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
