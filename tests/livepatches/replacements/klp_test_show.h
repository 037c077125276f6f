/* SPDX-License-Identifier: GPL-2.0-or-later */
/* klp_test_target.c */
#include <linux/seq_file.h>

static int livepatch_klp_test_show(struct seq_file *m, void *v)
{
	seq_puts(m, "livepatch: " KBUILD_MODNAME "\n");
	return 0;
}
