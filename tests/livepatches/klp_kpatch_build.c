// SPDX-License-Identifier: GPL-2.0-or-later
/* A livepatch in the format of kpatch-build (kpatch's kmod/patch): TABLES of tests/livepatches/table.py. */

#define pr_fmt(fmt) "klp_test: " KBUILD_MODNAME ": " fmt

#include "klp_from_tables.h"

#define IN_SECTION(name) __used __section(name)

static struct {
	void *new_addr;
	unsigned long new_size, old_addr, old_size, sympos;
	const char *name, *objname;
} functions[] IN_SECTION(".kpatch.funcs") = {
	{ livepatch_cmdline_proc_show, 0, 0, 0, 0, "cmdline_proc_show", "vmlinux" },
	{ livepatch_klp_test_show, 0, 0, 0, 0, "klp_test_show", "klp_test_target" },
	{ livepatch_version_proc_show, 0, 0, 0, 1, "version_proc_show", "vmlinux" },
};

/* kpatch's linker script adds the number behind them. */
#define CALLBACK(which, objname) \
	static struct { \
		void *callback; \
		const char *object; \
		unsigned long padding; \
	} table_##which IN_SECTION(".kpatch.callbacks." #which) = { which, objname }

CALLBACK(pre_patch, "vmlinux");
CALLBACK(post_patch, "klp_test_target");
CALLBACK(post_unpatch, "vmlinux");
static unsigned long no_pre_unpatch IN_SECTION(".kpatch.callbacks.pre_unpatch");
static void *forced[] IN_SECTION(".kpatch.force") = { livepatch_cmdline_proc_show, NULL };

static struct klp_object *named(const char *name)
{
	return object(strcmp(name, "vmlinux") ? name : NULL);
}

static void fill(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(functions); i++)
		add_function(named(functions[i].objname), functions[i].name, functions[i].new_addr,
			     functions[i].sympos);
	named(table_pre_patch.object)->callbacks.pre_patch = table_pre_patch.callback;
	named(table_post_patch.object)->callbacks.post_patch = table_post_patch.callback;
	named(table_post_unpatch.object)->callbacks.post_unpatch = table_post_unpatch.callback;
}

MODULE_DESCRIPTION("a livepatch in the format of kpatch-build");
