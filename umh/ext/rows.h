/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The rows of each file in this directory; every list ends with an empty row.
 */
#ifndef XTJIT_EXT_ROWS_H
#define XTJIT_EXT_ROWS_H

#include <linux/netfilter.h>

#include "../ext.h"

#define EXT_ANY (EXT_IP | EXT_IP6)

/*
 * Adds: the state has some bit of @mask (XT_CONNTRACK_STATE_*).  Of no bits too
 * it leaves a predicate over conntrack: what uses it must turn it on.
 */
void ext_add_ctstate(struct ext_ctx *c, __u32 mask, bool inv);

extern const struct ext_row ext_tcp_rows[], ext_udp_rows[], ext_sctp_rows[];
extern const struct ext_row ext_icmp_rows[], ext_multiport_rows[];
extern const struct ext_row ext_conntrack_rows[], ext_state_rows[];
extern const struct ext_row ext_comment_rows[], ext_limit_rows[], ext_statistic_rows[];
extern const struct ext_row ext_mark_rows[], ext_length_rows[], ext_hl_rows[];
extern const struct ext_row ext_dscp_rows[], ext_iprange_rows[], ext_mac_rows[];
extern const struct ext_row ext_pkttype_rows[], ext_tcpmss_rows[], ext_owner_rows[];
extern const struct ext_row ext_addrtype_rows[];

extern const struct ext_row ext_reject_rows[], ext_log_rows[];

#endif
