/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef KLP_TEST_TARGET_H
#define KLP_TEST_TARGET_H

#include <linux/wait.h>

struct klp_test_gate {
	wait_queue_head_t queue;
	bool open;
};

#endif
