// SPDX-License-Identifier: GPL-2.0
/*
 * From instructions to a loaded program: the types of its functions, the
 * verifier's answer.
 */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cg.h"
#include "listing.h"

#define LOG_SIZE (1 << 20)
#define KEPT_TYPES 4

struct types {
	struct btf *btf;
	int u64, ret, pkt, ctx;
};

static int add_types(struct cg *g, struct types *t)
{
	int u8, array, pkt, ctx, scalar = BTF_INT_SIGNED;

	t->btf = btf__new_empty();
	if (!t->btf)
		return -ENOMEM;
	t->ret = btf__add_int(t->btf, "int", 4, scalar);
	t->u64 = btf__add_int(t->btf, "u64", 8, 0);
	u8 = btf__add_int(t->btf, "u8", 1, 0);
	array = btf__add_array(t->btf, t->ret, u8, g->frame);
	pkt = btf__add_struct(t->btf, "pkt", g->frame);
	btf__add_field(t->btf, "bytes", array, 0, 0);
	t->pkt = btf__add_ptr(t->btf, pkt);
	ctx = btf__add_struct(t->btf, g->fl->ctx, 8);	/* known by its name */
	btf__add_field(t->btf, "first", t->u64, 0, 0);
	t->ctx = btf__add_ptr(t->btf, ctx);
	return t->ctx < 0 ? t->ctx : 0;
}

static int add_func(struct types *t, const struct cg_func *f, bool main)
{
	int proto = btf__add_func_proto(t->btf, t->ret);

	if (main || f->proto != CG_SCALARS)
		btf__add_func_param(t->btf, "ctx", t->ctx);
	if (!main && f->proto != CG_SCALARS)
		btf__add_func_param(t->btf, "pkt", t->pkt);
	for (int i = 0; !main && f->proto != CG_CTX_PKT && i < 3; i++)
		btf__add_func_param(t->btf, "arg", t->u64);
	return btf__add_func(t->btf, main ? "xtjit" : f->name,
			     main ? BTF_FUNC_STATIC : BTF_FUNC_GLOBAL, proto);
}

/*
 * An fd that stays ours, or a negative errno.  Most programs' types are those of
 * one of the last, whose BTF is kept.
 */
static int types_fd(const struct types *t)
{
	static struct kept {
		int fd;
		void *raw;
		__u32 len;
	} kept[KEPT_TYPES];
	static unsigned int oldest;
	struct kept *k = &kept[oldest];
	const void *raw;
	__u32 len;

	raw = btf__raw_data(t->btf, &len);
	if (!raw)
		return -ENOMEM;
	for (int i = 0; i < KEPT_TYPES; i++)
		if (kept[i].raw && kept[i].len == len && !memcmp(kept[i].raw, raw, len))
			return kept[i].fd;
	if (k->raw)
		close(k->fd);
	free(k->raw);
	*k = (struct kept){ .raw = malloc(len), .len = len };
	k->fd = k->raw ? bpf_btf_load(memcpy(k->raw, raw, len), len, NULL) : -ENOMEM;
	if (k->fd >= 0) {
		oldest = (oldest + 1) % KEPT_TYPES;
		return k->fd;
	}
	free(k->raw);
	k->raw = NULL;
	return k->fd;
}

/* The last line of the verifier's log that says something. */
static const char *reason(char *log)
{
	char *line = log, *last = log;

	for (line = strtok(log, "\n"); line; line = strtok(NULL, "\n"))
		if (*line && strncmp(line, "processed ", 10) && strncmp(line, "stack depth ", 12) &&
		    strncmp(line, "verification time ", 18))
			last = line;
	return last;
}

static int load(struct cg *g, struct bpf_prog_load_opts *o)
{
	int fd = bpf_prog_load(g->fl->prog_type, "xtjit", "GPL", g->e.insns, g->e.n, o);
	int err = -errno;
	char *log;

	if (fd >= 0)
		return fd;
	log = calloc(1, LOG_SIZE);
	if (!log)
		return xt_fail(g->err, -ENOMEM, "out of memory");
	o->log_buf = log;
	o->log_size = LOG_SIZE;
	o->log_level = 4;
	fd = bpf_prog_load(g->fl->prog_type, "xtjit", "GPL", g->e.insns, g->e.n, o);
	if (fd < 0) {
		err = err == -ENOSPC ? -errno : err;
		if (getenv("XTJIT_DEBUG_VERIFIER")) {
			o->log_level = 1;
			bpf_prog_load(g->fl->prog_type, "xtjit", "GPL", g->e.insns, g->e.n, o);
			fprintf(stderr, "%s\n", log);
		}
		xt_fail(g->err, -EOPNOTSUPP, "%s program of %u instructions: %s: %s", g->fl->name,
			g->e.n, strerror(-err), reason(log));
	}
	free(log);
	return fd < 0 ? -EOPNOTSUPP : fd;
}

int cg_load(struct cg *g)
{
	struct bpf_func_info fi[CG_MAX_FUNCS + 1] = { 0 };
	struct types t = { 0 };
	int err, btf = -1;

	if (g->env->listing)
		listing_print(g->env->listing, g);
	err = add_types(g, &t);
	for (int i = -1; !err && i < g->nfuncs; i++) {
		int id = add_func(&t, i < 0 ? NULL : &g->funcs[i], i < 0);

		err = id < 0 ? id : 0;
		fi[i + 1] = (struct bpf_func_info){ i < 0 ? 0 : g->funcs[i].start, id };
	}
	if (!err)
		err = btf = types_fd(&t);
	if (err >= 0) {
		const int btfs[] = { 0, g->module_btf };	/* the first place is not looked at */

		LIBBPF_OPTS(bpf_prog_load_opts, o,
			    .fd_array = g->module_btf >= 0 ? btfs : NULL,
			    .expected_attach_type = g->fl->attach_type,
			    .prog_btf_fd = btf,
			    .func_info = fi,
			    .func_info_cnt = g->nfuncs + 1,
			    .func_info_rec_size = sizeof(fi[0]));

		err = load(g, &o);
	} else {
		xt_fail(g->err, err, "types of the program: %s", strerror(-err));
	}
	btf__free(t.btf);
	return err;
}
