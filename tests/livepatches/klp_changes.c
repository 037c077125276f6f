// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A livepatch that is something else in the kernel than in its file: it replaces /proc/cmdline, adds to what is there, and
 * carries state 0x1008, version 1 as its file says, and version 9 once it is in force.  A module parameter changes whether
 * it replaces the livepatches before it.
 */

#define pr_fmt(fmt) "klp_test: " KBUILD_MODNAME ": " fmt

#include <linux/livepatch.h>
#include <linux/module.h>

#include "cmdline_proc_show.h"

static struct klp_func functions[] = {
	{ .old_name = "cmdline_proc_show", .new_func = livepatch_cmdline_proc_show },
	{ }
};

static struct klp_object objects[] = {
	{ .funcs = functions },
	{ }
};

static struct klp_state states[] = {
	{ .id = 0x1008, .version = 1 },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objects,
	.states = states,
};

module_param_named(cumulative, patch.replace, bool, 0);

/* No relocation of the code's leads to the states. */
static struct klp_patch *volatile self = &patch;

static int __init changes_init(void)
{
	pr_info("init\n");
	self->states->version = 9;
	return klp_enable_patch(&patch);
}

static void __exit changes_exit(void)
{
	pr_info("exit\n");
}

module_init(changes_init);
module_exit(changes_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("a livepatch that is not what its file says");
MODULE_INFO(livepatch, "Y");
