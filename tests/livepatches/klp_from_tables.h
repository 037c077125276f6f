/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For livepatches that put their klp_patch together at run time from tables: the klp_patch, and what it patches. */

#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "cmdline_proc_show.h"
#include "klp_test_show.h"
#include "version_proc_show.h"

#define MOST_OBJECTS 2
#define MOST_FUNCTIONS 2

static struct {
	struct klp_patch patch;
	struct klp_object objects[MOST_OBJECTS + 1];
	struct klp_func functions[MOST_OBJECTS][MOST_FUNCTIONS + 1];
} *made;

static int pre_patch(struct klp_object *obj)
{
	pr_info("pre_patch %s\n", obj->name ?: "vmlinux");
	return 0;
}

static void post_patch(struct klp_object *obj)
{
	pr_info("post_patch %s\n", obj->name ?: "vmlinux");
}

static void post_unpatch(struct klp_object *obj)
{
	pr_info("post_unpatch %s\n", obj->name ?: "vmlinux");
}

/* The klp_object of a name (NULL for vmlinux), added if it is not there. */
static struct klp_object *object(const char *name)
{
	int i;

	for (i = 0; i < MOST_OBJECTS; i++) {
		struct klp_object *obj = &made->objects[i];

		if (!obj->funcs) {
			obj->name = name;
			obj->funcs = made->functions[i];
		}
		if (name ? obj->name && !strcmp(obj->name, name) : !obj->name)
			return obj;
	}
	BUG();
}

static void add_function(struct klp_object *obj, const char *old_name, void *new_func, unsigned long sympos)
{
	struct klp_func *func = obj->funcs;

	while (func->old_name)
		func++;
	func->old_name = old_name;
	func->new_func = new_func;
	func->old_sympos = sympos;
}

static void fill(void);

static int __init from_tables_init(void)
{
	int error;

	pr_info("init\n");
	made = kzalloc(sizeof(*made), GFP_KERNEL);
	if (!made)
		return -ENOMEM;
	made->patch.mod = THIS_MODULE;
	made->patch.objs = made->objects;
	made->patch.replace = true;
	fill();
	error = klp_enable_patch(&made->patch);
	if (error)
		kfree(made);
	return error;
}

static void __exit from_tables_exit(void)
{
	kfree(made);
	pr_info("exit\n");
}

module_init(from_tables_init);
module_exit(from_tables_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
