// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A livepatch that puts its klp_patch together at run time, and keeps no tables to do it from: replaces
 * /proc/cmdline, adds to what is there, and carries state 0x1007, version 1.
 */

#define pr_fmt(fmt) "klp_test: " KBUILD_MODNAME ": " fmt

#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "cmdline_proc_show.h"

static struct klp_patch *patch;

static int fill(void)
{
	patch->objs = kcalloc(2, sizeof(*patch->objs), GFP_KERNEL);
	patch->states = kcalloc(2, sizeof(*patch->states), GFP_KERNEL);
	if (!patch->objs || !patch->states)
		return -ENOMEM;
	patch->objs->funcs = kcalloc(2, sizeof(*patch->objs->funcs), GFP_KERNEL);
	if (!patch->objs->funcs)
		return -ENOMEM;
	patch->mod = THIS_MODULE;
	patch->replace = false;
	patch->states->id = 0x1007;
	patch->states->version = 1;
	patch->objs->funcs->old_name = "cmdline_proc_show";
	patch->objs->funcs->new_func = livepatch_cmdline_proc_show;
	return 0;
}

static void give_back(void)
{
	if (patch && patch->objs)
		kfree(patch->objs->funcs);
	if (patch) {
		kfree(patch->objs);
		kfree(patch->states);
	}
	kfree(patch);
}

static int __init allocated_init(void)
{
	int error = -ENOMEM;

	pr_info("init\n");
	patch = kzalloc(sizeof(*patch), GFP_KERNEL);
	if (patch)
		error = fill();
	if (!error)
		error = klp_enable_patch(patch);
	if (error)
		give_back();
	return error;
}

static void __exit allocated_exit(void)
{
	give_back();
	pr_info("exit\n");
}

module_init(allocated_init);
module_exit(allocated_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("a livepatch allocated at run time");
MODULE_INFO(livepatch, "Y");
