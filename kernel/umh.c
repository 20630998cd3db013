// SPDX-License-Identifier: GPL-2.0
/* Starts the helper. */
#include <linux/kmod.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/umh.h>

#include "xtjit.h"

#ifndef XTJIT_HELPER
#define XTJIT_HELPER "/usr/sbin/xtjitd"
#endif

static char *helper = XTJIT_HELPER;
module_param(helper, charp, 0444);
MODULE_PARM_DESC(helper, "path of xtjitd, started on the first request; empty: never");

static DEFINE_MUTEX(lock);
static unsigned long last;		/* start, in jiffies; 0: none */

int xtjit_umh_start(void)
{
	static char *envp[] = {
		"HOME=/", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL
	};
	char *argv[] = { helper, "--module", NULL };
	int ret = 0;

	if (!*helper)
		return 0;
	mutex_lock(&lock);
	if (!last || time_after(jiffies, last + 2 * HZ)) {
		ret = call_usermodehelper(helper, argv, envp, UMH_WAIT_EXEC);
		last = jiffies | 1;
		if (ret)
			pr_err_ratelimited("%s cannot be started: error %d; see the module's parameter \"helper\"\n",
					   helper, ret);
	}
	mutex_unlock(&lock);
	return ret;
}
