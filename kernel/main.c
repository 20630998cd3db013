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

/* They would fail later, and less clearly. */
static int refuse_ip_tables(struct notifier_block *nb, unsigned long state, void *data)
{
	const struct module *mod = data;

	if (state != MODULE_STATE_COMING ||
	    (strcmp(mod->name, "ip_tables") && strcmp(mod->name, "ip6_tables")))
		return NOTIFY_DONE;
	pr_notice_ratelimited("%s is not loaded next to xtjit, which has its place: see xtjit(8)\n",
			      mod->name);
	return notifier_from_errno(-EBUSY);
}

static struct notifier_block module_notifier = { .notifier_call = refuse_ip_tables };

static int __init xtjit_init(void)
{
	int ret;

	ret = xtjit_sockopt_init();
	if (ret)
		return ret;
	ret = compat_init();
	if (ret)
		goto err_sockopt;
	ret = register_module_notifier(&module_notifier);
	if (ret)
		goto err_compat;
	ret = xtjit_table_init();
	if (ret)
		goto err_notifier;
	ret = xtjit_dev_init();
	if (ret)
		goto err_table;
	xtjit_sockopt_open();
	return 0;

err_table:
	xtjit_table_exit();
err_notifier:
	unregister_module_notifier(&module_notifier);
err_compat:
	compat_exit();
err_sockopt:
	xtjit_sockopt_exit();
	return ret;
}

static void __exit xtjit_exit(void)
{
	xtjit_sockopt_exit();
	xtjit_dev_exit();
	xtjit_table_exit();
	unregister_module_notifier(&module_notifier);
	compat_exit();
}

module_init(xtjit_init);
module_exit(xtjit_exit);

MODULE_DESCRIPTION("iptables rulesets as eBPF programs");
MODULE_LICENSE("GPL");
