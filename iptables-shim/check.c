// SPDX-License-Identifier: GPL-2.0
/*
 * `xtjit check` runs iptables-restore against itself, with no privileges and
 * no effect: whatever the kernel would be asked is answered here.
 */
#include "shim.h"

#include <errno.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <stdlib.h>
#include <string.h>

bool shim_checking(void)
{
	return getenv("XTJIT_CHECK");
}

/* Something to ask options of. */
int shim_check_socket(int type)
{
	return shim_next()->socket(AF_UNIX, SOCK_DGRAM | (type & ~SOCK_RAW), 0);
}

/* Every set exists, and is number 0. */
int shim_check_ipset(void *val, const socklen_t *len)
{
	struct ip_set_req_get_set *get = val;
	struct ip_set_req_get_set_family *fam = val;
	struct ip_set_req_version *v = val;

	if (*len >= sizeof(*v) && v->op == IP_SET_OP_VERSION) {
		v->version = IPSET_PROTOCOL;
		return 0;
	}
	if (*len >= sizeof(*get) && get->op == IP_SET_OP_GET_BYNAME) {
		get->set.index = 0;
		return 0;
	}
	if (*len >= sizeof(*get) && get->op == IP_SET_OP_GET_BYINDEX) {
		strcpy(get->set.name, "0");
		return 0;
	}
	if (*len >= sizeof(*fam) && fam->op == IP_SET_OP_GET_FNAME) {
		fam->family = 0;
		fam->set.index = 0;
		return 0;
	}
	errno = EINVAL;
	return -1;
}
