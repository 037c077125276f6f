// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A module to be patched.  In /proc/klp_test_target:
 *
 *   show   reading calls klp_test_show(), which says "original"
 *   hold   writing 1 closes a gate and puts the kernel thread klp_test_held to sleep in klp_test_wait(); a transition
 *          that patches or unpatches that function waits until 0 is written, which opens the gate.  Nothing else ends
 *          it: a kernel thread gets no signals.  Writing 1 again puts one more to sleep there: in the midst of a
 *          transition, it holds up the way back.
 *   wait   reading sleeps in klp_test_wait() while the gate is closed; signals do end that
 */

#define pr_fmt(fmt) "klp_test: " KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/proc_fs.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#include "klp_test_target.h"

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 14, 0)
#define __state state
#endif

static struct klp_test_gate gate = {
	.queue = __WAIT_QUEUE_HEAD_INITIALIZER(gate.queue),
	.open = true,
};
static struct task_struct *held[4];
static DEFINE_MUTEX(hold_lock);

static noinline __noclone int klp_test_show(struct seq_file *m, void *v)
{
	seq_puts(m, "original\n");
	return 0;
}

/* A livepatch knows it by this very name, which a clone would not have. */
static noinline __noclone int klp_test_wait(struct klp_test_gate *gate)
{
	return wait_event_interruptible(gate->queue, READ_ONCE(gate->open));
}

static int hold_thread(void *unused)
{
	/* Again where kthread_stop() woke it up: the gate is what counts. */
	while (!READ_ONCE(gate.open))
		klp_test_wait(&gate);
	return 0;
}

static int hold(void)
{
	struct task_struct *task;
	int i = 0;

	while (i < ARRAY_SIZE(held) && held[i])
		i++;
	if (i == ARRAY_SIZE(held))
		return -EBUSY;
	WRITE_ONCE(gate.open, false);
	task = kthread_create(hold_thread, NULL, "klp_test_held");
	if (IS_ERR(task)) {
		WRITE_ONCE(gate.open, i == 0);
		return PTR_ERR(task);
	}
	held[i] = get_task_struct(task);
	wake_up_process(task);
	/* Whoever wrote 1 can rely on it. */
	while (READ_ONCE(task->__state) != TASK_INTERRUPTIBLE)
		schedule_timeout_uninterruptible(1);
	return 0;
}

static void release(void)
{
	int i;

	WRITE_ONCE(gate.open, true);
	wake_up_all(&gate.queue);
	for (i = 0; i < ARRAY_SIZE(held) && held[i]; i++) {
		kthread_stop(held[i]);
		put_task_struct(held[i]);
		held[i] = NULL;
	}
}

static ssize_t hold_write(struct file *file, const char __user *buffer, size_t count, loff_t *ppos)
{
	bool wanted;
	int error;

	error = kstrtobool_from_user(buffer, count, &wanted);
	if (error)
		return error;
	mutex_lock(&hold_lock);
	if (wanted)
		error = hold();
	else
		release();
	mutex_unlock(&hold_lock);
	return error ?: count;
}

static ssize_t wait_read(struct file *file, char __user *buffer, size_t count, loff_t *ppos)
{
	return klp_test_wait(&gate);
}

static const struct proc_ops hold_ops = {
	.proc_write = hold_write,
};

static const struct proc_ops wait_ops = {
	.proc_read = wait_read,
};

static int __init target_init(void)
{
	struct proc_dir_entry *folder = proc_mkdir("klp_test_target", NULL);

	if (!folder || !proc_create_single("show", 0444, folder, klp_test_show) ||
	    !proc_create("hold", 0200, folder, &hold_ops) || !proc_create("wait", 0444, folder, &wait_ops)) {
		proc_remove(folder);
		return -ENOMEM;
	}
	pr_info("init\n");
	return 0;
}

static void __exit target_exit(void)
{
	remove_proc_entry("klp_test_target/hold", NULL);
	release();
	remove_proc_subtree("klp_test_target", NULL);
	pr_info("exit\n");
}

module_init(target_init);
module_exit(target_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("a module to be patched");
