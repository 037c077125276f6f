// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A module to be livepatched.  While its parameter `hold` is set, its kernel thread sleeps in klp_test_wait(), so that
 * a livepatch of that function is stuck: a wakeup in the name of livepatching only makes it look at `hold` again.
 */
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/wait.h>

static bool hold;
static DECLARE_WAIT_QUEUE_HEAD(changed);
static struct task_struct *thread;

static int set_hold(const char *value, const struct kernel_param *parameter)
{
	int error = param_set_bool(value, parameter);

	wake_up_all(&changed);
	return error;
}

static const struct kernel_param_ops hold_operations = {
	.set = set_hold,
	.get = param_get_bool,
};
module_param_cb(hold, &hold_operations, &hold, 0644);

/* What the livepatch's version of klp_test_wait() sleeps in, too. */
void klp_test_block(void)
{
	while (READ_ONCE(hold) && !kthread_should_stop())
		wait_event_interruptible(changed, !READ_ONCE(hold) || kthread_should_stop());
}
EXPORT_SYMBOL_GPL(klp_test_block);

static noinline void klp_test_wait(void)
{
	klp_test_block();
	barrier(); /* no tail call */
}

static int sleeper(void *unused)
{
	while (!kthread_should_stop()) {
		wait_event_interruptible(changed, READ_ONCE(hold) || kthread_should_stop());
		klp_test_wait();
	}
	return 0;
}

static int klp_test_show(struct seq_file *m, void *v)
{
	seq_puts(m, "not livepatched\n");
	return 0;
}

static int __init target_init(void)
{
	thread = kthread_run(sleeper, NULL, "klp_sleeper");
	if (IS_ERR(thread))
		return PTR_ERR(thread);
	if (!proc_create_single("klp_test_target", 0444, NULL, klp_test_show)) {
		kthread_stop(thread);
		return -ENOMEM;
	}
	return 0;
}

static void __exit target_exit(void)
{
	remove_proc_entry("klp_test_target", NULL);
	kthread_stop(thread);
}

module_init(target_init);
module_exit(target_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A target for the test livepatches of klpd");
