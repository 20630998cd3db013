// SPDX-License-Identifier: GPL-2.0
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "xtjit_dev.h"

/* The first of @places, relative to our own directory, that is there. */
static char *find(const char *const *places)
{
	char self[PATH_MAX], path[PATH_MAX + 64], *slash;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return NULL;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	for (; *places; places++) {
		snprintf(path, sizeof(path), "%s/%s", self, *places);
		if (!access(path, R_OK))
			return realpath(path, NULL);
	}
	return NULL;
}

const char *cli_shim_path(void)
{
	static const char *const places[] = {
		"libxtjit-shim.so", "../lib/xtjit/libxtjit-shim.so", NULL
	};
	static char *path;

	if (!path)
		path = find(places);
	return path;
}

const char *cli_helper_path(void)
{
	static const char *const places[] = {
		"xtjitd", "../sbin/xtjitd", "../libexec/xtjit/xtjitd", NULL
	};
	static char *path;

	if (!path)
		path = find(places);
	return path;
}

bool cli_module(void)
{
	const char *dev = getenv(XTJIT_DEV_ENV);

	return !access(dev && *dev ? dev : XTJIT_DEV, F_OK);
}

const char *cli_helper_env(void)
{
	const char *helper = getenv(XTJIT_HELPER_ENV);

	if (helper && *helper)
		return helper;
	helper = cli_helper_path();
	if (helper)
		setenv(XTJIT_HELPER_ENV, helper, 1);
	return helper;
}

/* Is @shim one of the paths in the list @preload? */
static bool listed(const char *preload, const char *shim)
{
	size_t len = strlen(shim);

	for (const char *at = preload; (at = strstr(at, shim)); at += len)
		if ((at == preload || strchr(": ", at[-1])) && strchr(": ", at[len]))
			return true;
	return false;
}

bool cli_preload(void)
{
	const char *shim = cli_shim_path(), *old = getenv("LD_PRELOAD");
	char *list;

	if (!shim) {
		cli_error("libxtjit-shim.so is not where it should be: beside xtjit, or in ../lib/xtjit");
		return false;
	}
	if (strpbrk(shim, ": ")) {
		cli_error("%s: LD_PRELOAD allows no space or colon in a path", shim);
		return false;
	}
	if (!old || !*old)
		return !setenv("LD_PRELOAD", shim, 1);
	if (listed(old, shim))
		return true;
	if (asprintf(&list, "%s:%s", shim, old) < 0 || setenv("LD_PRELOAD", list, 1)) {
		cli_error("out of memory");
		return false;
	}
	free(list);
	return true;
}
