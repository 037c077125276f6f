/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fs/proc/cmdline.c prints the kernel's command line, which modules cannot reach. */
#include <linux/seq_file.h>

static int livepatch_cmdline_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "livepatch: " KBUILD_MODNAME "\n");
	return 0;
}
