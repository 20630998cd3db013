// SPDX-License-Identifier: GPL-2.0
/*
 * xtjitd: answers requests for rulesets, and keeps them in force.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "backend.h"
#include "daemon.h"
#include "early.h"
#include "grace.h"
#include "helper.h"
#include "kernel_xt.h"
#include "loop.h"
#include "module.h"
#include "netns.h"
#include "request.h"
#include "sidefx.h"
#include "space.h"
#include "state.h"
#include "takeover.h"

#define RING_BYTES	(4u << 20)
#define IDLE_TICKS	5	/* seconds between calls of sidefx_idle() */

static const char usage[] =
	"usage: xtjitd [OPTION]...\n"
	"\n"
	"Compiles the rulesets of stock iptables to eBPF, and keeps them in force.\n"
	"\n"
	"  --socket PATH             listen there (default: $" XTJIT_SOCKET_ENV " or\n"
	"                            " XTJIT_SOCKET_DEFAULT ")\n"
	"  --module                  with the module xtjit only, which starts it so; else:\n"
	"                            with it if " XTJIT_DEV " is there\n"
	"  --daemon                  go to the background; exit 0 when listening (also if\n"
	"                            another helper listens there already), else 1\n"
	"  --early=off|on|eager      the early stage, where a ruleset does not say (on)\n"
	"  --fallback=kernel|refuse  what has no compiled form goes to the kernel's own\n"
	"                            ip_tables, or is refused (kernel)\n"
	"  --help                    this text\n"
	"\n"
	"SIGTERM and SIGINT end it and leave every ruleset in force.\n"
	"Exit status: 0, or 1 after an error, or 2 for wrong options.\n";

struct options {
	const char *socket;
	bool daemon, module;
};

static int keyword(const char *value, const char *const *words)
{
	for (int i = 0; words[i]; i++)
		if (!strcmp(value, words[i]))
			return i + 1;
	return -1;
}

static int parse_word(const char *opt, const char *value, const char *const *words, __u8 *out)
{
	int k = keyword(value, words);

	if (k < 0) {
		fprintf(stderr, "xtjitd: --%s=%s: not one of its values\n", opt, value);
		return -EINVAL;
	}
	*out = k;
	return 0;
}

static void parse_options(int argc, char **argv, struct options *o)
{
	static const char *const early[] = { "off", "on", "eager", NULL };
	static const char *const fallback[] = { "kernel", "refuse", NULL };
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "daemon", no_argument, NULL, 'd' },
		{ "module", no_argument, NULL, 'm' },
		{ "early", required_argument, NULL, 'e' },
		{ "fallback", required_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c, ret = 0;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 's':
			o->socket = optarg;
			break;
		case 'd':
			o->daemon = true;
			break;
		case 'm':
			o->module = true;
			break;
		case 'e':
			ret = ret ?: parse_word("early", optarg, early, &helper.early);
			break;
		case 'f':
			ret = ret ?: parse_word("fallback", optarg, fallback, &helper.fallback);
			break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			ret = -EINVAL;
		}
	}
	if (ret || optind < argc) {
		fputs("try: xtjitd --help\n", stderr);
		exit(2);
	}
	if (!o->socket || !*o->socket)
		o->socket = getenv(XTJIT_SOCKET_ENV);
	if (!o->socket || !*o->socket)
		o->socket = XTJIT_SOCKET_DEFAULT;
}

/*
 * Watches
 */

static bool stop, again;
static struct ring_buffer *ring;
static struct watch ring_watch = { .fd = -1 };
static struct watch timer_watch = { .fd = -1 };
static struct watch signal_watch = { .fd = -1 };

static void ring_event(struct watch *w, __u32 events)
{
	(void)w;
	(void)events;
	ring_buffer__consume(ring);
}

/* The module has come: we begin anew, with it, and take over what is in force. */
static void look_for_module(void)
{
	if (module_is_open() || !module_is_there())
		return;
	xt_log("the module is there");
	stop = again = true;
}

static void timer_event(struct watch *w, __u32 events)
{
	static unsigned int ticks;
	__u64 n;

	(void)events;
	if (read(w->fd, &n, sizeof(n)) < 0)
		return;
	request_tick();
	pmem_tick();
	space_tick();
	look_for_module();
	if (module_is_open())
		return;
	sidefx_tick();
	if (++ticks % IDLE_TICKS == 0)
		sidefx_idle();
}

static void signal_event(struct watch *w, __u32 events)
{
	struct signalfd_siginfo si;

	(void)events;
	if (read(w->fd, &si, sizeof(si)) == sizeof(si))
		stop = true;
}

static int watch_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	/* ignored, as who started us may have it, no child could be waited for */
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal_watch = (struct watch){
		.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .fn = signal_event,
	};
	return signal_watch.fd < 0 ? -errno : loop_add(&signal_watch, EPOLLIN);
}

static int watch_timer(void)
{
	struct itimerspec every = { { 1, 0 }, { 1, 0 } };

	timer_watch = (struct watch){
		.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
		.fn = timer_event,
	};
	if (timer_watch.fd < 0 || timerfd_settime(timer_watch.fd, 0, &every, NULL) < 0)
		return -errno;
	return loop_add(&timer_watch, EPOLLIN);
}

static int watch_ring(struct xt_err *err)
{
	ring = ring_buffer__new(helper.ring, sidefx_event, NULL, NULL);
	if (!ring)
		return xt_fail(err, -errno, "ring buffer: %s", strerror(errno));
	ring_watch = (struct watch){ .fd = ring_buffer__epoll_fd(ring), .fn = ring_event };
	return loop_add(&ring_watch, EPOLLIN);
}

/* The administrator wants the module out: nothing is left behind. */
static void module_gone(void)
{
	xt_log("the module has dropped all tables");
	space_drop_all();
	stop = true;
}

static int watch_all(struct xt_err *err)
{
	int ret = loop_init();

	if (!ret)
		ret = watch_signals();
	if (!ret)
		ret = watch_timer();
	if (!ret && !module_is_open())
		ret = watch_ring(err);
	if (!ret)
		ret = early_init(err);
	return ret ? xt_fail(err, ret, "event loop: %s", strerror(-ret)) : 0;
}

/*
 * The maps that all programs share: those that are pinned, or new ones.  With
 * the module there are none: nothing is done here for packets.
 */

/* As this helper would make it; an older one may have left another. */
static bool same_map(int fd, int type, __u32 key, __u32 value, __u32 max)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);

	return !bpf_obj_get_info_by_fd(fd, &info, &len) && info.type == (__u32)type &&
	       info.key_size == key && info.value_size == value && info.max_entries == max;
}

static int shared_map(const char *name, int type, __u32 key, __u32 value, __u32 max, __u32 flags,
		      struct xt_err *err)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = flags);
	int fd = state_get(state_root(), name), ret;

	if (fd >= 0 && same_map(fd, type, key, value, max))
		return fd;
	if (fd >= 0)
		close(fd);
	fd = bpf_map_create(type, name, key, value, max, &opts);
	if (fd < 0)
		return xt_fail(err, fd, "map %s: %s", name, strerror(-fd));
	ret = state_pin(fd, state_root(), name);
	if (ret) {
		close(fd);
		return xt_fail(err, ret, "pin of map %s: %s", name, strerror(-ret));
	}
	return fd;
}

static int open_shared(struct xt_err *err)
{
	helper.ring = shared_map("ring", BPF_MAP_TYPE_RINGBUF, 0, 0, RING_BYTES, 0, err);
	if (helper.ring < 0)
		return helper.ring;
	helper.self = shared_map("self", BPF_MAP_TYPE_HASH, sizeof(__u64),
				 sizeof(struct self_entry), SELF_MAX, 0, err);
	if (helper.self < 0)
		return helper.self;
	helper.lost = shared_map("lost", BPF_MAP_TYPE_ARRAY, sizeof(__u32), sizeof(__u64), 1,
				 BPF_F_MMAPABLE, err);
	return helper.lost < 0 ? helper.lost : 0;
}

static void raise_limits(void)
{
	struct rlimit nofile = { 65536, 65536 };
	struct rlimit memlock = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_NOFILE, &nofile);
	setrlimit(RLIMIT_MEMLOCK, &memlock);
}

/* With the module if it is there: nobody else has ip_tables' place then. */
static int choose_backend(bool required, struct xt_err *err)
{
	struct xt_err why = {};
	int ret = module_open(&why);

	if (ret == -ENOENT && !required) {
		if (access("/sys/module/xtjit", F_OK))
			space_drop_leftovers(state_module_root());
		return 0;
	}
	if (ret)
		return xt_fail(err, ret, "%s", why.text);
	helper.backend = &backend_module;
	kxt_set_absent();
	netns_set_opener(module_netns);
	return 0;
}

static int open_slow_path(struct xt_err *err)
{
	int ret = open_shared(err);

	if (!ret && sidefx_init(helper.self, helper.lost))
		ret = xt_fail(err, -EIO, "slow path");
	return ret;
}

static int start(const char *socket, bool module, struct xt_err *err)
{
	char *run_dir = daemon_run_dir(socket), old[PIN_DIR_MAX];
	int ret;

	if (!run_dir)
		return xt_fail(err, -ENOMEM, "out of memory");
	helper.started = now_ns();
	raise_limits();
	ret = netns_init(run_dir, err);
	free(run_dir);
	if (!ret)
		ret = daemon_settled(err);
	if (!ret)
		ret = choose_backend(module, err);
	if (!ret)
		ret = state_init(module_is_open() ? NULL : socket, err);
	if (!ret && !module_is_open()) {
		grace_init();
		ret = open_slow_path(err);
	}
	if (!ret)
		ret = watch_all(err);
	if (ret)
		return ret;
	space_recover_all();
	if (module_is_open()) {
		state_socket_root(old, socket);
		takeover(old);
	}
	ret = request_listen(socket, err);
	if (!ret && module_is_open())
		ret = module_watch(module_gone, err);
	return ret;
}

static void finish(void)
{
	request_exit();
	early_settle_all();
	space_exit();
	early_exit();
	grace_exit();
	ring_buffer__free(ring);
	close(timer_watch.fd);
	close(signal_watch.fd);
	loop_exit();
	if (helper.ring >= 0)
		close(helper.ring);
	if (helper.self >= 0)
		close(helper.self);
	if (helper.lost > 0)
		close(helper.lost);
	/* what all share is of no use to the next one */
	if (!state_has_spaces(state_root()))
		state_forget();
	module_close();		/* the module takes it for our end */
}

int main(int argc, char **argv)
{
	struct options o = {};
	struct xt_err err = {};
	char *socket;
	int ret;

	parse_options(argc, argv, &o);
	libbpf_set_print(NULL);
	socket = daemon_path(o.socket);
	ret = daemon_begin(socket, o.daemon, &err);
	if (!ret)
		ret = start(socket, o.module, &err);
	if (ret) {
		daemon_failed(err.text[0] ? err.text : strerror(-ret));
		return 1;
	}
	daemon_ready();
	loop_run(&stop);
	finish();
	free(socket);
	if (again)
		execv("/proc/self/exe", argv);
	return 0;
}
