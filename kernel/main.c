// SPDX-License-Identifier: GPL-2.0
/*
 * xtjit takes the place of ip_tables and ip6_tables: rulesets go to a helper in
 * user space, which gives programs back.
 */
#include <linux/init.h>

#include "xtjit.h"

static int flush_set(const char *val, const struct kernel_param *kp)
{
	bool yes;
	int ret = kstrtobool(val, &yes);

	if (ret || !yes)
		return ret;
	xtjit_table_drop_all();
	xtjit_dev_hangup();
	return 0;
}

static const struct kernel_param_ops flush_ops = { .set = flush_set };

module_param_cb(flush, &flush_ops, NULL, 0200);
MODULE_PARM_DESC(flush, "1: drops all tables of all namespaces, and sends the helper away");

static int __init xtjit_init(void)
{
	int ret;

	ret = xtjit_sockopt_init();
	if (ret)
		return ret;
	ret = xtjit_table_init();
	if (ret)
		goto err_sockopt;
	ret = xtjit_dev_init();
	if (ret)
		goto err_table;
	xtjit_sockopt_open();
	return 0;

err_table:
	xtjit_table_exit();
err_sockopt:
	xtjit_sockopt_exit();
	return ret;
}

static void __exit xtjit_exit(void)
{
	xtjit_sockopt_exit();
	xtjit_dev_exit();
	xtjit_table_exit();
}

module_init(xtjit_init);
module_exit(xtjit_exit);

MODULE_DESCRIPTION("iptables rulesets as eBPF programs");
MODULE_LICENSE("GPL");
