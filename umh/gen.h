/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A generation: one ruleset of a table, compiled, with its counters; pinned as
 * a directory of the table's.
 */
#ifndef XTJIT_GEN_H
#define XTJIT_GEN_H

#include <linux/netfilter/x_tables.h>

#include "blob.h"
#include "classify.h"
#include "compile.h"
#include "state.h"
#include "xtjit_msg.h"

struct gen {
	__u64 number, prev;	/* prev: the one before it; 0: none */
	__u64 request;		/* the id of the request that set it; 0: none */
	__u64 commit_id;	/* the same, if it came from the module; else 0 */
	__u32 prog_id;
	__u32 ncounters;	/* entries of the ruleset */
	__u32 nnumbers;		/* counters in the maps */
	__u32 *counters;	/* of each entry, in the maps; NULL: its index */
	struct xt_replace_hdr h;
	int prog;		/* -1 once it is in force */
	struct table_maps maps;
	struct pmem live;	/* maps.counters */
	struct pmem base;	/* gen_base.c */
	bool image;		/* its lookups' map is pinned */
	bool in_place;		/* its program and maps are those of the one before it: gen_place.c */
	bool fixed;		/* none can come in place of it */
	bool unsettled;		/* packets may be under way that have not seen the last change in place */
	struct cl_stale *stale;	/* what that has left; NULL: nothing */
	struct cl_change *change;	/* which is to be made, in place */
	bool marks;		/* of raw: it has the target TRACE */
	bool drops;		/* its program counts what it drops: drops.h */
	bool traced;		/* its program, the one that is to come, is struct compile_env's .trace */
	struct pmem blob;	/* what is pinned of the ruleset; open until it is dropped, or shed */
	bool decoded;		/* rs, ir and grouped are there */
	struct xt_ruleset rs;
	struct ir_table ir;	/* after the passes */
	struct ir_table grouped;	/* the same in groups, which is what is compiled */
	bool conntrack;		/* gen_tracks(rs) */
	/*
	 * Made by gen_edit(): rs has no rules, and its blob is .blob's; ir has those
	 * of the ruleset that was decoded last, with their numbers then, but native
	 * slots of its own (malloc()ed; grouped has the same).
	 */
	bool edited;
	__u32 ndel, nadd;	/* entries that went and came */
	struct gen_origin *origin;	/* what it shares with those it was made from, or that from it */
	__u32 *offsets;		/* of rs.blob; NULL: not yet known */
	struct xtjit_slot tracks;	/* of the module's, see gen_find_tracks(); .ext 0: none */
	char dir[PIN_DIR_MAX];
};

/* The counter, in the maps, of the rule of an entry. */
static inline __u32 gen_counter_of(const struct gen *g, __u32 entry)
{
	return g->counters ? g->counters[entry] : entry;
}

/*
 * Why a ruleset was not taken: refused, as the kernel would; or it has no
 * compiled form, and the kernel may.
 */
enum gen_result { GEN_OK, GEN_REFUSED, GEN_UNCOMPILED };

/* Decodes and lowers. On GEN_OK *out is the caller's to gen_close(). */
enum gen_result gen_decode(struct gen **out, const struct xt_family *f,
			   const struct xt_replace_hdr *h, const void *entries,
			   struct xt_err *err);

/*
 * The same, and compiled, from @old, if they differ so little that what is alike
 * need not be done again (classify_edit()); GEN_UNCOMPILED if not.  With .in_place it is
 * not compiled: it is for table_change().
 */
enum gen_result gen_edit(struct gen **out, struct gen *old, const struct xt_replace_hdr *h,
			 const void *entries, __u64 netns);

/*
 * A generation that gen_edit() made with .in_place, and that is pinned, takes the place of @old:
 * gen_change() prepares it, struct backend's change() brings it into force, and gen_changed()
 * completes it, with @old's program and maps.  Where it cannot be brought into force,
 * gen_unchanged(), and @old stays.
 */
void gen_change(struct gen *g, struct gen *old);
void gen_changed(struct gen *g, struct gen *old);
void gen_unchanged(struct gen *g, struct gen *old);
/* gen_changed(), for who finds such a generation in force. */
void gen_change_again(struct gen *g);
/*
 * The last counters, *@n, of the generation that it replaced in place, which request *@request
 * had set; NULL: it did not replace one so.
 */
const struct xt_counters *gen_replaced(const struct gen *g, __u32 *n, __u64 *request);

/*
 * True if a match of connection tracking is anywhere in the ruleset, be it where no packet comes:
 * it turns tracking on by being there (its checkentry(): nf_ct_netns_get()). *@first, if that is
 * not NULL: a slot for the first one.
 */
bool gen_tracks(const struct xt_ruleset *rs, struct xtjit_slot *first);
/* .conntrack; next to the module also .tracks, where no native slot turns tracking on. */
void gen_find_tracks(struct gen *g);

/* Compiles and loads what was decoded, into a program that nothing calls yet. */
enum gen_result gen_compile(struct gen *g, __u64 netns, struct xt_err *err);

/*
 * The same again, traced or not (as *@trace has it; false if it cannot be), into
 * another program with the same maps.  Its fd, or a negative errno.
 */
int gen_compile_again(const struct gen *g, __u64 netns, bool *trace, struct xt_err *err);
/* That program, of this fd, is in force. */
void gen_reprogrammed(struct gen *g, int prog, bool traced);

/* The rule answers with a TCP reset. */
bool gen_resets(const struct ir_table *t, const struct ir_rule *r);
/* It was compiled, but nat has come since, and it cannot be exact next to it. */
bool gen_nat_conflict(const struct gen *g, struct xt_err *err);

/*
 * Pins it below the table's directory @dir, as gen-NUMBER; @old: which it is to replace in place,
 * or NULL. 0 or a negative errno.
 */
int gen_pin(struct gen *g, const struct gen *old, const char *dir, struct xt_err *err);

/*
 * Opens the pinned generation DIR/NAME; does not decode it.  0; -EPROTONOSUPPORT: another
 * version of xtjit pinned it; or another negative errno: it is none, or half made.
 */
int gen_open(struct gen **out, const char *dir, const char *name);
/* Decodes the pinned blob again. */
int gen_decode_again(struct gen *g, const struct xt_family *f, struct xt_err *err);

/* Where the entries are in what is pinned. */
#define GEN_ENTRIES XTJIT_ENTRIES_AT

/* The pinned entries, to be written to; NULL on failure. *m is to be closed by pmem_close(). */
void *gen_entries(const struct gen *g, struct pmem *m);
/* @entries, of the same layout, are what GET_ENTRIES shows. */
void gen_shown(struct gen *g, const void *entries);
/* No rules, no chains, policies ACCEPT. */
bool gen_is_empty(const struct gen *g);

/*
 * A generation as decoded, of the same ruleset, and in no other use: for texts.
 * NULL with @err; else the caller's to gen_close().
 */
struct gen *gen_reread(const struct gen *g, struct xt_err *err);

/* For gen*.c. */
/* @old: it takes the place of that one, in place; or NULL. */
int gen_base_make(struct gen *g, const struct gen *old, struct xt_err *err);
int gen_base_open(struct gen *g);
/* Of one that is pinned no more. */
void gen_base_spare(struct gen *g);
struct gen_origin {
	unsigned int refs;
	struct ir_table ir, grouped;
};
/* The counters that @g's rules have after the change @d of @old, and what *e is to know of it. */
bool gen_numbers(struct gen *g, const struct gen *old, const struct xt_diff *d, struct cl_edit *e);
/* Before @g takes the place of @old: base has @old's counters, and the @n writes to be made. */
void gen_base_change(struct gen *g, const struct gen *old, const struct cl_write *w, __u32 n);
/* Those; how many. */
__u32 gen_base_writes(const struct gen *g, const struct cl_write **w);
struct gen *gen_new(void);
/* Makes g->blob, for @size bytes of entries: where they belong; NULL with @err. */
void *gen_make_blob(struct gen *g, __u32 size, struct xt_err *err);
void gen_origin_put(struct gen_origin *o);

/* Forgets the rules, keeps the counters: it is the previous one now. */
void gen_strip(struct gen *g);
/* Then the same of what is pinned: only what tells its counters and requests is left. */
void gen_shed(struct gen *g);
/* Closes what it has open; NULL is ignored. */
void gen_close(struct gen *g);
/* Closes and unpins it. */
void gen_drop(struct gen *g);

/* Its counters as iptables sees them, g->ncounters of them. */
void gen_counters(const struct gen *g, struct xt_counters *out);

/*
 * Adds to its counters, once for each id: what is added becomes visible, and
 * the id known, at once.  0, or a negative errno and nothing is added.  gen_added() tells if
 * an id is known, by this generation or by those before it that passed their ids on.
 */
int gen_add(struct gen *g, __u64 id, const struct xt_counters *add);
bool gen_added(const struct gen *g, __u64 id);
/* Before @g is in force: its base is empty. */
void gen_inherit_ids(struct gen *g, const struct gen *from);

/* The listing of its program, compiled again. */
int gen_listing(const struct gen *g, __u64 netns, FILE *out, struct xt_err *err);

#endif
