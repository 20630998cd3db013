// SPDX-License-Identifier: GPL-2.0
/*
 * `xtjit unload`: the module drops its tables and hangs up, the helper takes
 * the early stage off and leaves, the module goes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "client.h"

#define FLUSH	"/sys/module/xtjit/parameters/flush"
#define WAIT_MS	10000
#define STEP_MS	20

static const char usage[] =
	"Usage: xtjit unload\n"
	"Takes the module xtjit out of the kernel, and with it all its tables in all\n"
	"network namespaces: packets pass. iptables is then the kernel's own, or\n"
	"`xtjit run`'s.\n\n"
	"  -h, --help  this text\n\n"
	"Exit status: 0, or 1 if the module is still there (why is on stderr), 2 for wrong\n"
	"options.\n";

/* One that is there takes away what is on devices and pinned; even if it was not. */
static void have_helper(void)
{
	struct xt_err err = {};
	int fd = client_connect(client_socket_path(), cli_helper_env(), &err);

	if (fd < 0)
		cli_error("unload: no helper, which may leave programs on devices: %s", err.text);
	else
		close(fd);
}

static int flush(void)
{
	int fd = open(FLUSH, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "1", 1) != 1) {
		cli_error("unload: %s: %s", FLUSH, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	close(fd);
	return 0;
}

/* The helper that is on its way out, and a request under way, have it for a moment. */
static int delete(void)
{
	struct timespec pause = { 0, STEP_MS * 1000000l };

	for (int ms = 0; ms < WAIT_MS; ms += STEP_MS) {
		if (!syscall(SYS_delete_module, "xtjit", O_NONBLOCK))
			return 0;
		if (errno != EWOULDBLOCK && errno != EBUSY)
			break;
		nanosleep(&pause, NULL);
	}
	cli_error("unload: the module cannot be taken out: %s", strerror(errno));
	return -1;
}

int cli_unload(int argc, char **argv)
{
	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(usage, stdout);
		return CLI_OK;
	}
	if (argc != 1) {
		fputs(usage, stderr);
		return CLI_USAGE;
	}
	if (!cli_module()) {
		cli_error("unload: the module is not loaded");
		return CLI_REFUSED;
	}
	have_helper();
	return flush() || delete() ? CLI_REFUSED : CLI_OK;
}
