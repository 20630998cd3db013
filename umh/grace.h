/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Grace periods: when is a program that has been replaced run by nobody any more?
 *
 * The kernel tells who updates a map of maps: the call returns when every
 * program that could still see the old inner map is done, and so every other
 * one, too (kernel/bpf/syscall.c maybe_wait_bpf_programs()).  That takes some
 * ticks unless grace periods are expedited, which /sys/kernel/rcu_expedited
 * has for the whole machine: it is switched on for as long as we wait.  Where
 * it cannot be written, waiting just takes longer.
 */
#ifndef XTJIT_GRACE_H
#define XTJIT_GRACE_H

/* Waits until every program that has begun to run is done. */
void grace(void);

/*
 * To be called once, after state_init(): the switch is put back if a helper was
 * killed while it was on.  grace() works without it, too.
 */
void grace_init(void);
void grace_exit(void);

#endif
