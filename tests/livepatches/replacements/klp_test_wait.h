/* SPDX-License-Identifier: GPL-2.0-or-later */
/* klp_test_target.c; it sleeps like the original, so that a held task makes unpatching wait, too. */
#include "klp_test_target.h"

static int livepatch_klp_test_wait(struct klp_test_gate *gate)
{
	return wait_event_interruptible(gate->queue, READ_ONCE(gate->open));
}
