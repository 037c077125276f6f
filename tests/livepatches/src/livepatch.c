// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A test livepatch.  The generated source that includes this file defines
 *   KLP_OBJECTS    its struct klp_object initializers,
 *   KLP_STATES     its struct klp_state initializers, if it has any,
 *   KLP_REPLACE    whether it is cumulative,
 *   KLP_PRE_PATCH  what pre_patch returns,
 *   KLP_WAITS      if it replaces klp_test_wait.
 */
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

static int __maybe_unused new_show(struct seq_file *m, void *v)
{
	seq_printf(m, "livepatched by %s\n", THIS_MODULE->name);
	return 0;
}

#define cmdline_proc_show new_show
#define version_proc_show new_show
#define klp_test_show new_show

#ifdef KLP_WAITS
void klp_test_block(void);

static void new_wait(void)
{
	klp_test_block();
	barrier(); /* no tail call: this function is to be seen on the stack */
}

#define klp_test_wait new_wait
#endif

static const char *named(struct klp_object *obj)
{
	return obj->name ? obj->name : "vmlinux";
}

static int __maybe_unused pre_patch(struct klp_object *obj)
{
	pr_info("%s: pre_patch of %s\n", THIS_MODULE->name, named(obj));
	return KLP_PRE_PATCH;
}

static void __maybe_unused post_patch(struct klp_object *obj)
{
	pr_info("%s: post_patch of %s\n", THIS_MODULE->name, named(obj));
}

static void __maybe_unused pre_unpatch(struct klp_object *obj)
{
	pr_info("%s: pre_unpatch of %s\n", THIS_MODULE->name, named(obj));
}

static void __maybe_unused post_unpatch(struct klp_object *obj)
{
	pr_info("%s: post_unpatch of %s\n", THIS_MODULE->name, named(obj));
}

#define FUNCTION(old) { .old_name = #old, .new_func = old }

static struct klp_object objects[] = { KLP_OBJECTS {} };

#ifdef KLP_STATES
static struct klp_state states[] = { KLP_STATES {} };
#endif

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objects,
#ifdef KLP_STATES
	.states = states,
#endif
	.replace = KLP_REPLACE,
};

static int __init livepatch_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit livepatch_exit(void)
{
}

module_init(livepatch_init);
module_exit(livepatch_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A test livepatch of klpd");
MODULE_INFO(livepatch, "Y");
