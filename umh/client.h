/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The asking side of the protocol (kernel/xtjit_msg.h): used by the shim, in
 * any process of a script, and by the command xtjit.  Thread-safe; raises no
 * signal; leaves no fd and no child behind, whatever happens, but for client_keep().
 */
#ifndef XTJIT_CLIENT_H
#define XTJIT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

#include "err.h"
#include "xtjit_msg.h"

struct client_call {
	/* the request */
	__u16 op;
	__u8 family;
	__u32 optname;
	int netns;		/* fd of the network namespace; stays the caller's */
	const void *req;
	size_t req_len;
	/* the reply */
	void *rep;		/* its payload goes here; NULL: to be malloc()ed */
	size_t rep_max;		/* what is longer is cut off */
	size_t rep_len;		/* the reply's own length */
	int *fd;		/* not NULL: an fd that comes with the reply, or -1 */
	bool fault;		/* rep is not (all) writable memory */
	bool unreached;		/* no reply: the helper could not be reached */
	char note[XTJIT_MAX_NOTE + 1];
};

/*
 * One exchange with the helper that the environment names, which is started if
 * it does not run and XTJIT_HELPER names its program.  A connection that breaks
 * is made anew, for up to 15 s, and the helper asked again with the same id.
 *
 * 0, or the negative errno of the reply: -ENOPROTOOPT if the helper could not
 * be reached.  note is "" or a text for the user, also on success.  An allocated
 * reply is NUL-terminated, and the caller's to free(), also after a failure; so
 * is *fd, to close().
 */
int client_call(struct client_call *c);

/*
 * For a process of one thread, which neither closes nor counts what is not its
 * own: from now on one connection serves all its calls.
 */
void client_keep(void);

/* Where the helper listens: XTJIT_SOCKET or the default. */
const char *client_socket_path(void);

/*
 * Connects to the socket @path.  If nobody listens there, starts @helper (if
 * not NULL) and keeps trying for 10 s.  An fd, or a negative errno and @err.
 */
int client_connect(const char *path, const char *helper, struct xt_err *err);

/*
 * Starts "HELPER --socket PATH --daemon" and waits until it listens.  Its
 * environment has nothing of ours, or of the dynamic linker's.  0 or a negative
 * errno; its own reason is on stderr then.
 */
int client_start_helper(const char *helper, const char *path, struct xt_err *err);

/* The value of XTJIT_EARLY or XTJIT_FALLBACK (NULL, "": the default); -1: not one. */
int client_early(const char *value);
int client_fallback(const char *value);

#endif
