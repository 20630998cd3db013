/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The helper's end of the protocol (kernel/xtjit_msg.h): connections, framing.
 */
#ifndef XTJIT_REQUEST_H
#define XTJIT_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "err.h"
#include "xtjit_msg.h"

/* A request that came in whole, and its reply in the making. */
struct call {
	struct xtjit_req req;
	void *payload;		/* req.len bytes, aligned to 8, and a NUL */
	int netns;		/* fd */
	int peer;		/* process id of who asks; 0: not to be seen from here */
	__u64 cookie;		/* the namespace's */
	int last;		/* fd of the connection's request before, or -1 */
	__u64 last_cookie;
	bool device;		/* it came from the module, which knows its id */
	bool foreign;		/* the namespace belongs to another user namespace than the first */
	bool owner;		/* with device: who asks is of that user namespace */
	void *out;		/* malloc()ed, or NULL */
	size_t out_len;
	int out_fd;		/* goes with the reply, and is closed then; -1: none */
	struct xt_err err;	/* its text is the reply's note */
};

/* Listens at @path, which daemon_begin() took; calls serve() for each request. 0 or a negative errno. */
int request_listen(const char *path, struct xt_err *err);
/* Closes the listening socket and all connections. */
void request_exit(void);
/* Once a second: ends connections that take too long. */
void request_tick(void);

/* The length of what of c->err.text goes with the reply. */
size_t call_note(const struct call *c, int status);

/* The reply's payload: @len bytes, zeroed; NULL (and c->err) when out of memory. */
void *call_reply(struct call *c, size_t len);
/* The same, but all of it is to be written to. */
void *call_reply_dirty(struct call *c, size_t len);

#endif
