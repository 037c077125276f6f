/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the guard's programs and user space (klpd/kernel/guard_abi.py) tell each other.  Any change is a new GUARD_ABI. */
#pragma once

#include "kernel.h"
#include "sha256.h"

#define GUARD_ABI 3

/* ENFORCE is 0: a guard that nobody has told anything is closed.  So is one told a mode that it does not know. */
enum guard_mode {
	MODE_ENFORCE = 0,
	MODE_OBSERVE = 1, /* decide, report, let pass */
	MODE_OFF = 2, /* report, let pass; use no approval up */
};

enum guard_event_kind {
	EVENT_LOAD = 1,
	EVENT_TRANSITION_START = 2, /* of a reversal, too */
	EVENT_TRANSITION_END = 3,
	EVENT_WRITE = 4, /* an attribute of a livepatch was opened for writing */
};

/* How a livepatch came: by finit_module(2), by init_module(2), or unseen up to its entry in /sys/kernel/livepatch. */
enum guard_way {
	WAY_FILE = 1,
	WAY_BUFFER = 2,
	WAY_ENTRY = 3,
};

/* The attributes of a livepatch that change something. */
enum guard_attribute {
	ATTRIBUTE_ENABLED = 1,
	ATTRIBUTE_FORCE = 2,
};

/* What the bytes of a module are.  Of plain ones there is no event. */
enum guard_input {
	INPUT_PLAIN = 0,
	INPUT_LIVEPATCH = 1,
	INPUT_UNPARSED = 2, /* not understood whole, so it may be a livepatch */
	INPUT_COMPRESSED = 3, /* no ELF file, and this kernel may decompress it where nobody sees it */
};

enum guard_verdict {
	VERDICT_ALLOWED = 1,
	VERDICT_UNAPPROVED = 2,
	VERDICT_EXPIRED = 3,
	VERDICT_STALE = 4, /* approved, or permitted, for another generation of the stack */
	VERDICT_TOO_BIG = 5,
	VERDICT_UNREADABLE = 6, /* the kernel's copy could not be read: no digest */
	VERDICT_COMPRESSED = 7, /* answered with ENOSYS: kmod decompresses it and comes back */
	VERDICT_OFF = 8,
	VERDICT_FORBIDDEN = 9, /* not permitted to write */
};

struct guard_config {
	__u32 abi;
	__u32 mode;
	__u8 object[SHA256_SIZE]; /* digest of the object file that the programs come from */
	__u64 klpd; /* the id of klpd's cgroup, whose writes klpd has judged itself; 0: none */
};

struct guard_approval {
	__u64 expires_ns; /* CLOCK_MONOTONIC */
	__u64 generation; /* 0: any */
};

enum guard_permit {
	PERMIT_NO = 0,
	PERMIT_NOW = 1, /* in the generation of the permission */
	PERMIT_ALWAYS = 2,
};

/* What may be written to the attributes of one livepatch; under the empty name, to those of any. */
struct guard_permission {
	__u64 generation; /* 0: none, which no stack has */
	__u8 enabled;
	__u8 force;
	__u8 reserved[6];
};

struct guard_counters {
	__u64 generation; /* of the stack: grows at each start and end of a transition, by one or more */
	__u64 plain; /* modules that were let pass as no livepatches */
	__u64 allowed;
	__u64 refused;
	__u64 lost; /* events that found no room in the ring */
};

struct guard_event {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 generation;
	__u64 size;
	__u32 pid; /* of the thread */
	__u32 tgid;
	__u32 uid;
	__u8 kind;
	__u8 way; /* of a write: the attribute */
	__u8 input;
	__u8 verdict;
	__u8 refused; /* the caller got an error; a mode may let pass what the verdict would not */
	__u8 reserved[3];
	char comm[TASK_COMM_LEN];
	char module[MODULE_NAME_LEN]; /* as .modinfo says, or klp_patch when its transition started */
	struct sha256_digest digest;
	__u32 padding;
};

_Static_assert(sizeof(struct guard_config) == 48, "as guard_abi.py has it");
_Static_assert(sizeof(struct guard_permission) == 16, "as guard_abi.py has it");
_Static_assert(sizeof(struct guard_event) == 152, "as guard_abi.py has it");
