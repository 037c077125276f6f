// SPDX-License-Identifier: GPL-2.0-or-later
/* A module that is no livepatch, although it speaks of one. */

#define pr_fmt(fmt) "klp_test: " KBUILD_MODNAME ": " fmt

#include <linux/module.h>

static int __init ordinary_init(void)
{
	pr_info("init\n");
	return 0;
}

static void __exit ordinary_exit(void)
{
	pr_info("exit\n");
}

module_init(ordinary_init);
module_exit(ordinary_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("livepatch=Y is not for this one to say");
