// SPDX-License-Identifier: GPL-2.0-or-later
/* A livepatch in the format of klp-build (include/linux/livepatch_external.h): TABLES of tests/livepatches/table.py. */

#define pr_fmt(fmt) "klp_test: " KBUILD_MODNAME ": " fmt

#include "klp_from_tables.h"

#define IN_SECTION(name) __used __section(name)

struct function {
	const char *old_name;
	void *new_func;
	unsigned long sympos;
};

static struct function functions[] IN_SECTION("__klp_funcs") = {
	{ "cmdline_proc_show", livepatch_cmdline_proc_show },
	{ "version_proc_show", livepatch_version_proc_show, 1 },
	{ "klp_test_show", livepatch_klp_test_show },
};

static struct {
	const char *name;
	struct function *funcs;
	struct klp_callbacks callbacks;
	unsigned int nr_funcs;
} objects[] IN_SECTION("__klp_objects") = {
	{ NULL, functions, { .pre_patch = pre_patch, .post_unpatch = post_unpatch }, 2 },
	{ "klp_test_target", functions + 2, { .post_patch = post_patch }, 1 },
};

static void fill(void)
{
	int i, j;

	for (i = 0; i < ARRAY_SIZE(objects); i++) {
		struct klp_object *obj = object(objects[i].name);

		obj->callbacks = objects[i].callbacks;
		for (j = 0; j < objects[i].nr_funcs; j++)
			add_function(obj, objects[i].funcs[j].old_name, objects[i].funcs[j].new_func,
				     objects[i].funcs[j].sympos);
	}
}

MODULE_DESCRIPTION("a livepatch in the format of klp-build");
