/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fs/proc/version.c */
#include <linux/seq_file.h>

static int livepatch_version_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "livepatch: " KBUILD_MODNAME "\n");
	return 0;
}
