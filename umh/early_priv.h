/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The early stage's own parts: early.c (programs), early_facts.c (what they may
 * rely on), early_dev.c (devices), early_rest.c (where it only costs), early_watch.c (changes).
 */
#ifndef XTJIT_EARLY_PRIV_H
#define XTJIT_EARLY_PRIV_H

#include "attach.h"
#include "early.h"
#include "netdev.h"
#include "nfct.h"

#define EARLY_LOCAL_MAX	32	/* more local addresses: FIB lookups */

/* All that programs of one family are built upon, besides the tables: for memcmp(). */
struct early_basis {
	struct early_facts facts;	/* .local is NULL here */
	__u8 local[EARLY_LOCAL_MAX][16];
	__u32 apart;			/* bit per table: not walked, see early_apart() */
	bool nat_rules;			/* nat has rules in PREROUTING */
	bool need[EARLY_FLAVORS];	/* there are devices for it */
};

struct early_sample {
	__u64 ns;			/* 0: none */
	__u64 rx, drops[DROPS_STAGES];	/* packets so far */
};

/* early_rest.c; all times are in seconds. */
struct early_rest {
	bool on;			/* it rests */
	bool used;			/* it dropped much since it came */
	unsigned int age;		/* since it came */
	unsigned int calm;		/* in which it only cost, in a row */
	unsigned int wait, left;	/* until it may come back: the whole, and what is left */
	__u64 passed, dropped;		/* in the second in which it left */
	struct early_sample sample;	/* a second ago */
};

struct early_dev {
	__u32 ifindex;
	char name[16];
	enum attach_mode mode;
	int link;			/* XDP: fd */
	bool seen, veth;
	struct early_rest rest;
};

struct early {
	struct space *s;
	struct netdevs *nd;
	bool nft_changed;		/* nf_tables' rulesets have */
	bool nft_known;
	struct nft_facts nft;		/* if known, and nothing waits to be said of them */
	int array[EARLY_FLAVORS], entry[EARLY_FLAVORS], pass[EARLY_FLAVORS];
	bool has[2][EARLY_FLAVORS];		/* families: a program that may drop */
	bool stopped[2];			/* which is not in force just now */
	bool due[2];				/* ... and to be built, later */
	__u64 changed;				/* when a program last was, or would have been, in ns */
	__u64 due_since;
	struct early_basis basis[2];		/* of what was built last */
	char note[2][512];			/* why there is none */
	bool tc_for_ether;			/* a driver refused XDP */
	struct early_dev *devs;
	int ndevs;
};

/* Something has changed that may matter: builds anew if it does.  In the namespace. */
void early_check(struct early *e);

/* Calls early_settle_all() in @ns nanoseconds, and not before. */
void early_settle_in(__u64 ns);

/* nf_tables has said nothing that we have not heard. */
bool early_nft_is_quiet(void);

/* The tables in the order in which a packet meets them. */
extern const char *const early_order[XT_TABLES];

/* Fills *b; in the namespace.  As if @next were in force in @changed (or NULL: as it is). */
void early_basis_get(struct early *e, int family, const struct table *changed,
		     const struct gen *next, struct early_basis *b);

/*
 * The tables that are on a packet's path, but which programs cannot count in:
 * those that the kernel has, but not @taken, which it is about to lose; and nat,
 * where only a connection's first packet counts.
 */
__u32 early_apart(const struct early *e, int family, const struct table *taken);

/* Whether a program belongs on the device. */
static inline bool early_eligible(const struct netdev *d)
{
	return !d->loopback && !d->enslaved;
}

/*
 * Attaches to devices that lack it, and detaches from those that should not
 * have it (any more).  True if a driver refused XDP, and programs for TC have
 * to be built.
 */
bool early_devices_sync(struct early *e);
void early_take_off(struct early *e, struct early_dev *d);
/* Takes over the links that are pinned. */
void early_devices_recover(struct early *e);
/* @detach: takes the programs off; else only closes. */
void early_devices_close(struct early *e, bool detach);

/* Once a second, in the namespace. */
void early_rest_tick(struct early *e);
void early_rest_status(const struct early_dev *d, FILE *out);

#endif
