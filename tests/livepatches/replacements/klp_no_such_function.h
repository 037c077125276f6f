/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For a function that no kernel has. */
static int livepatch_klp_no_such_function(void)
{
	return 0;
}
