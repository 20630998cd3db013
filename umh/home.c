// SPDX-License-Identifier: GPL-2.0
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "home.h"

#define BOOT_ID_LEN 36

struct home {
	char boot[BOOT_ID_LEN + 1];
	unsigned long mnt, net;		/* inode numbers; 0: cannot be told */
};

static void boot_id(char out[BOOT_ID_LEN + 1])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(out, 0, BOOT_ID_LEN + 1);
	if (fd < 0)
		return;
	if (read(fd, out, BOOT_ID_LEN) != BOOT_ID_LEN)
		out[0] = '\0';
	close(fd);
}

static unsigned long ns_of(const char *pid, const char *name)
{
	char path[PATH_MAX];
	struct stat s;

	snprintf(path, sizeof(path), "/proc/%s/ns/%s", pid, name);
	return stat(path, &s) ? 0 : s.st_ino;
}

static bool join(const char *pid, const char *name, int type)
{
	char path[PATH_MAX];
	int fd;
	bool ok;

	if (ns_of(pid, name) == ns_of("self", name))
		return true;
	snprintf(path, sizeof(path), "/proc/%s/ns/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ok = fd >= 0 && !setns(fd, type);
	if (fd >= 0)
		close(fd);
	return ok;
}

/* A process in namespace number @ino; false if there is none that we may look at. */
static bool find_process(const char *name, unsigned long ino, char pid[16])
{
	DIR *d = opendir("/proc");
	bool found = false;
	struct dirent *e;

	while (d && !found && (e = readdir(d))) {
		if (e->d_name[0] < '1' || e->d_name[0] > '9' || strlen(e->d_name) > 15)
			continue;
		found = ns_of(e->d_name, name) == ino;
		if (found)
			strcpy(pid, e->d_name);
	}
	if (d)
		closedir(d);
	return found;
}

static bool join_recorded(int file)
{
	struct home h = {};
	char text[128] = "", boot[BOOT_ID_LEN + 1], pid[16];

	if (pread(file, text, sizeof(text) - 1, 0) <= 0 ||
	    sscanf(text, "%36s %lu %lu", h.boot, &h.mnt, &h.net) != 3)
		return false;
	boot_id(boot);
	if (strcmp(boot, h.boot) || !h.mnt || !h.net)
		return false;
	/* net first: the other mount namespace may have another /proc */
	if (find_process("net", h.net, pid))
		join(pid, "net", CLONE_NEWNET);
	return find_process("mnt", h.mnt, pid) && join(pid, "mnt", CLONE_NEWNS);
}

static int parent_of(int pid)
{
	char path[32], text[512] = "", *p;
	int fd, parent = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof(text) - 1) > 0) {
		p = strrchr(text, ')');		/* the name may have anything in it */
		if (!p || sscanf(p, ") %*c %d", &parent) != 1)
			parent = 0;
	}
	close(fd);
	return parent;
}

static void join_outermost(void)
{
	char name[16], outermost[16] = "";

	for (int pid = getppid(); pid > 0; pid = parent_of(pid)) {
		snprintf(name, sizeof(name), "%d", pid);
		if (ns_of(name, "mnt") && ns_of(name, "net"))
			strcpy(outermost, name);
	}
	if (!outermost[0])
		return;
	join(outermost, "net", CLONE_NEWNET);
	join(outermost, "mnt", CLONE_NEWNS);
}

void home_join(int file)
{
	if (!join_recorded(file))
		join_outermost();
}

int home_record(int file, struct xt_err *err)
{
	struct home h = { .mnt = ns_of("self", "mnt"), .net = ns_of("self", "net") };
	char text[128];
	int n;

	boot_id(h.boot);
	n = snprintf(text, sizeof(text), "%s %lu %lu\n", h.boot, h.mnt, h.net);
	if (ftruncate(file, 0) < 0 || pwrite(file, text, n, 0) != n)
		return xt_fail(err, -errno, "lock file: %s", strerror(errno));
	return 0;
}
