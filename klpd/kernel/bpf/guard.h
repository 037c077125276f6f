/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the guard's programs and user space (klpd/kernel/guard_abi.py) tell each other.  Any change is a new GUARD_ABI. */
#pragma once

#include "kernel.h"
#include "sha256.h"

#define GUARD_ABI 6

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
	EVENT_GOING = 5, /* a livepatch module is about to be freed: it was removed, or its init function failed */
	EVENT_SWITCH = 6, /* kernel.ftrace_enabled was to be switched off */
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
	VERDICT_FORBIDDEN = 9, /* not permitted to write, or to switch */
	VERDICT_SUPERSEDED = 10, /* approved, or permitted, in another epoch */
	VERDICT_ORPHANED = 11, /* approved by a klpd that has ended */
	VERDICT_AUDITED = 12, /* approved, though rules deny it, since klpd audits */
};

/*
 * The epoch is another whenever something else than the stack has changed that klpd judges by: the policy, what is
 * declared, the mode, the klpd that judges.  What was judged in one epoch is void in any other.
 */
struct guard_config {
	__u32 abi;
	__u32 mode;
	__u8 object[SHA256_SIZE]; /* digest of the object file that the programs come from */
	__u64 epoch; /* never 0 */
	__u32 ftrace_off; /* the policy lets kernel.ftrace_enabled be switched off */
	__u32 blind; /* the kernel told no addresses when the programs were loaded: those of its symbols are 0 */
};

/* Bytes, and the process that may load them: it is the one that opened their file, and was held.  0: any. */
struct approved_load {
	struct sha256_digest digest;
	__u32 process;
	__u32 reserved;
};

#define ANY_GENERATION (~0ULL)

struct guard_approval {
	__u64 expires_ns; /* CLOCK_MONOTONIC */
	__u64 generation; /* ANY_GENERATION: any */
	__u64 epoch;
	__u64 token; /* by which klpd knows the verdict */
	__u8 audited; /* rules deny it */
	__u8 standing; /* good in any epoch, whether klpd runs or not */
	__u8 reserved[6];
};

enum guard_permit {
	PERMIT_NO = 0,
	PERMIT_NOW = 1, /* in the generation of the permission */
	PERMIT_ALWAYS = 2, /* as long as its epoch is */
};

/* What may be written to the attributes of one livepatch; under the empty name, to those of all that are not named. */
struct guard_permission {
	__u64 generation; /* 0: none, which no stack has */
	__u64 epoch;
	__u8 enabled;
	__u8 force;
	__u8 reserved[6];
};

/* The one write that klpd is about to make itself, and the stack that it has judged it on. */
struct guard_intent {
	__u64 generation;
	__u64 epoch;
	__u32 process; /* 0: there is none */
	__u32 attribute;
	char livepatch[MODULE_NAME_LEN];
};

/* The bytes that a livepatch came with, and the guard's verdict on them. */
struct guard_entered {
	struct sha256_digest digest;
	__u64 token;
	__u32 verdict;
	__u32 reserved;
};

struct guard_counters {
	__u64 generation; /* of the stack: grows whenever it may have become another, by one or more */
	__u64 plain; /* modules that were let pass as no livepatches */
	__u64 allowed;
	__u64 refused;
	__u64 lost; /* events that found no room in the ring */
	__u64 tried_ns; /* when the kernel last began to see whether a transition is complete; CLOCK_MONOTONIC */
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
	__u8 mode;
	__u8 reserved[2];
	char comm[TASK_COMM_LEN];
	char module[MODULE_NAME_LEN]; /* as .modinfo says, or klp_patch when its transition started */
	struct sha256_digest digest;
	__u32 padding;
	__u64 token; /* of the approval that was used up */
};

#define PATH_PARTS 16
#define PATH_PART_SIZE 128

/*
 * Follows the event of a load that was refused since nobody had approved the bytes (or that is answered with ENOSYS):
 * where the file lies, for who can read it there.  A record of its own, since the ring would hold few events else.
 */
struct guard_path {
	__u64 time_ns;
	__u32 tgid;
	__u32 parts;
	struct sha256_digest digest; /* zero of what is compressed */
	char names[PATH_PARTS][PATH_PART_SIZE]; /* the last part first; what is behind them is anything */
};

_Static_assert(sizeof(struct guard_path) == 2096, "as guard_abi.py has it");
_Static_assert(sizeof(struct guard_config) == 56, "as guard_abi.py has it");
_Static_assert(sizeof(struct approved_load) == 40, "as guard_abi.py has it");
_Static_assert(sizeof(struct guard_approval) == 40, "as guard_abi.py has it");
_Static_assert(sizeof(struct guard_permission) == 24, "as guard_abi.py has it");
_Static_assert(sizeof(struct guard_intent) == 80, "as guard_abi.py has it");
_Static_assert(sizeof(struct guard_entered) == 48, "as guard_abi.py has it");
_Static_assert(sizeof(struct guard_event) == 160, "as guard_abi.py has it");
