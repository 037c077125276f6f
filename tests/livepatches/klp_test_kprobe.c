// SPDX-License-Identifier: GPL-2.0-or-later
/* Puts a kprobe on cmdline_proc_show whose post_handler has the kernel lead its calls elsewhere, as only one may do. */

#define pr_fmt(fmt) "klp_test: " KBUILD_MODNAME ": " fmt

#include <linux/kprobes.h>
#include <linux/module.h>

static void after(struct kprobe *probe, struct pt_regs *regs, unsigned long flags)
{
}

static struct kprobe probe = {
	.symbol_name = "cmdline_proc_show",
	.post_handler = after,
};

static int __init kprobe_init(void)
{
	return register_kprobe(&probe);
}

static void __exit kprobe_exit(void)
{
	unregister_kprobe(&probe);
}

module_init(kprobe_init);
module_exit(kprobe_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("no livepatch: a kprobe with a post_handler on cmdline_proc_show");
