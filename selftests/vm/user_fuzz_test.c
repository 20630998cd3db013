// SPDX-License-Identifier: GPL-2.0
/*
 * What an unprivileged user can do to the module: nothing with its device and its
 * parameters; and, as root of a user namespace, whatever may come to mind with
 * the socket options, by several processes that are killed in the middle of it.
 *
 * usage: user_fuzz_test [-t SECONDS] [-s SEED]
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <netinet/in.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>

#include "../unit/tap.h"

#define NOBODY 65534
#define WORKERS 3
#define LIFE_MS 700		/* of a worker, at most */
#define SPAN (1 << 16)

static uint64_t seed = 1;
static char *memory;		/* SPAN bytes, behind which there is nothing */

static uint32_t rnd(uint32_t n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (seed >> 33) % n;
}

static bool is_root(void)
{
	return !geteuid();
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

static bool refused(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd < 0 && (errno == EACCES || errno == EPERM);
}

/* A user, then root of a user namespace with a network namespace of its own. */
static bool become_user(void)
{
	/* dumpable again: its files in /proc are its own */
	return !is_root() || (!setgroups(0, NULL) && !setresgid(NOBODY, NOBODY, NOBODY) &&
			      !setresuid(NOBODY, NOBODY, NOBODY) && !prctl(PR_SET_DUMPABLE, 1));
}

static bool enter(void)
{
	char map[32];

	snprintf(map, sizeof(map), "0 %u 1", geteuid());
	return !unshare(CLONE_NEWUSER | CLONE_NEWNET) && write_file("/proc/self/uid_map", map);
}

/* 32 bytes, not always with a NUL. */
static void put_name(void *at)
{
	static const char *const names[] = {
		"filter", "nat", "mangle", "raw", "security", "", "nosuch", "recent", "LOG",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	};

	const char *name = names[rnd(sizeof(names) / sizeof(*names))];

	memset(at, 0, 32);
	memcpy(at, name, strnlen(name, 32));
}

static uint32_t number(uint32_t near)
{
	switch (rnd(6)) {
	case 0:
		return rnd(2) ? 0xffffffff : 0x7fffffff;
	case 1:
		return seed >> 20;
	case 2:
		return rnd(200);
	default:
		return near;
	}
}

/* Something like the header of a REPLACE, and junk. */
static void fill_replace(struct ipt_replace *r, uint32_t len)
{
	put_name(r->name);
	r->valid_hooks = number(0xe);
	r->num_entries = number(4);
	r->size = number(len - sizeof(*r));
	for (int i = 0; i < NF_INET_NUMHOOKS; i++) {
		r->hook_entry[i] = number(rnd(4) * 152);
		r->underflow[i] = number(rnd(4) * 152);
	}
	r->num_counters = number(4);
	r->counters = rnd(2) ? (void *)memory : (void *)(uintptr_t)rnd(5000);
}

/* A place in the memory, its end at the end of it as a rule. */
static char *place(uint32_t len)
{
	char *at = memory + SPAN - (len < SPAN ? len : SPAN);

	for (int i = 0; i < 40 && len; i++)
		at[rnd(len < SPAN ? len : SPAN)] = rnd(256);
	return rnd(20) ? at : at + rnd(3);
}

static void one_set(int fd, int level)
{
	static const uint32_t lens[] = { 0, 1, 39, 40, 56, 95, 96, 97, 248, 704, 5000, 40000 };
	uint32_t len = lens[rnd(sizeof(lens) / sizeof(*lens))];
	char *at = place(len);

	if (len >= sizeof(struct ipt_replace) && at + sizeof(struct ipt_replace) <= memory + SPAN)
		fill_replace((struct ipt_replace *)at, len);
	setsockopt(fd, level, rnd(8) ? IPT_SO_SET_REPLACE + rnd(2) : rnd(128), at,
		   rnd(20) ? len : number(len));
}

static void one_get(int fd, int level)
{
	static const uint32_t lens[] = { 0, 30, 31, 32, 36, 40, 83, 84, 85, 1000, 60000 };
	uint32_t len = lens[rnd(sizeof(lens) / sizeof(*lens))];
	char *at = place(len);
	socklen_t size = rnd(20) ? len : number(len);

	if (len >= 40 && at + 40 <= memory + SPAN) {
		put_name(at);
		*(uint32_t *)(at + 32) = number(len - 40);
	}
	getsockopt(fd, level, rnd(8) ? IPT_SO_GET_INFO + rnd(5) : rnd(128), at, &size);
}

static void one_read(void)
{
	static const char *const files[] = {
		"/proc/self/net/ip_tables_names", "/proc/self/net/ip6_tables_matches",
		"/proc/self/net/ip_tables_targets",
	};
	char buf[100];
	int fd = open(files[rnd(3)], O_RDONLY | O_CLOEXEC);

	while (fd >= 0 && read(fd, buf, sizeof(buf)) > 0)
		;
	if (fd >= 0)
		close(fd);
}

/* Until it is killed. */
static void work(void)
{
	int fd[2], level[2] = { SOL_IP, SOL_IPV6 };

	if (!rnd(10) && unshare(CLONE_NEWNET))
		_exit(1);
	fd[0] = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	fd[1] = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	for (;;) {
		int i = rnd(2);

		if (rnd(2))
			one_set(fd[i], level[i]);
		else if (rnd(10))
			one_get(fd[i], level[i]);
		else
			one_read();
	}
}

static pid_t start(void)
{
	pid_t pid;

	rnd(2);
	fflush(stdout);
	pid = fork();
	if (!pid)
		work();
	return pid;
}

static void wait_ms(uint32_t ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

/* Workers, killed and replaced; each has to die when it is told to. */
static uint32_t fuzz(time_t seconds)
{
	pid_t pid[WORKERS];
	uint32_t lives = 0;
	time_t end = time(NULL) + seconds;

	for (int i = 0; i < WORKERS; i++)
		pid[i] = start();
	while (time(NULL) < end) {
		int i = rnd(WORKERS);

		wait_ms(rnd(LIFE_MS));
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
		pid[i] = start();
		lives++;
	}
	for (int i = 0; i < WORKERS; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
	return lives;
}

static bool answers(void)
{
	struct ipt_getinfo info = { .name = "filter" };
	int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	socklen_t len = sizeof(info);
	bool ok = !getsockopt(fd, SOL_IP, IPT_SO_GET_INFO, &info, &len);

	close(fd);
	return ok && info.num_entries >= 4;
}

int main(int argc, char **argv)
{
	time_t seconds = 20;
	uint32_t lives;
	int opt;

	while ((opt = getopt(argc, argv, "t:s:")) != -1) {
		if (opt == 't')
			seconds = atoi(optarg);
		else if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else
			return 2;
	}
	memory = mmap(NULL, SPAN + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || mprotect(memory + SPAN, 4096, PROT_NONE) || !become_user())
		return 1;
	tap_ok(refused("/dev/xtjit"), "the device, by a user");
	tap_ok(refused("/sys/module/xtjit/parameters/flush"), "the parameter flush, by a user");
	if (!tap_ok(enter(), "a user namespace"))
		return tap_done();
	tap_ok(refused("/dev/xtjit"), "the device, by a user namespace's root");
	tap_ok(refused("/sys/module/xtjit/parameters/flush"),
	       "the parameter flush, by a user namespace's root");
	tap_ok(answers(), "its own tables can be read");
	lives = fuzz(seconds);
	tap_ok(lives > 0, "%u processes were killed at it", lives);
	tap_ok(answers(), "its own tables can be read still");
	return tap_done();
}
