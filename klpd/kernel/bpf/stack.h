/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the readers of kernel memory tell user space (klpd/kernel/memory.py). */
#pragma once

#include "kernel.h"

#define MOST_PATCHES 64
#define MOST_STATES 64
#define MOST_OBJECTS 64

/* The context of walk: what it has to say of the whole list. */
struct stack_header {
	__u32 patches; /* how many there are in the map */
	__u32 truncated; /* there are more in the kernel */
};

/* Members that this kernel's structs have; the others are unknown, not 0. */
enum patch_known {
	KNOWN_REPLACE = 1,
	KNOWN_FORCED = 2,
	KNOWN_STATES = 4,
	KNOWN_OBJECTS = 8,
};

struct state_record {
	__u64 id;
	__u64 version;
};

struct patch_record {
	char name[MODULE_NAME_LEN];
	__u8 known;
	__u8 replace;
	__u8 enabled;
	__u8 forced;
	__u8 transition;
	__u8 truncated; /* it has more states */
	__u8 coming; /* being initialised: it may yet fail */
	__u8 states;
	__u8 misnamed; /* it waits for a module that is named vmlinux */
	__u8 unused[7];
	struct state_record state[MOST_STATES];
};

struct task_record {
	__s32 pid;
	__s32 tgid;
	__s32 patch_state;
	char comm[TASK_COMM_LEN];
};

_Static_assert(sizeof(struct patch_record) == 72 + 16 * MOST_STATES, "as memory.py has it");
_Static_assert(sizeof(struct task_record) == 28, "as memory.py has it");
