// SPDX-License-Identifier: GPL-2.0-or-later
/* A module that is no livepatch. */
#include <linux/module.h>

static int __init ordinary_init(void)
{
	return 0;
}

static void __exit ordinary_exit(void)
{
}

module_init(ordinary_init);
module_exit(ordinary_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A module that is no livepatch");
