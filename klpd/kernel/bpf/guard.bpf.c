// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guard: no livepatch is installed unless its very bytes were approved.
 *
 * load_file and load_buffer see the kernel's own copy of a module before load_module() does.  What is certainly no
 * livepatch passes; anything else needs an approval of its SHA-256, good once, for the process that opened the file, for
 * a time, in one epoch of what klpd judges by, for one generation of the stack of livepatches, and as long as the klpd
 * lives that gave it.  The programs at the end of this file count the generations.
 *
 * entry_created is the second lock: klp_enable_patch() makes a livepatch's entry in sysfs, with klp_mutex held, before
 * it touches anything; here that needs to be the doing of a task whose bytes passed the first lock, in the same epoch
 * and for a stack that is still the same.
 *
 * attribute_opened is the third lock: who opens `enabled` or `force` of a livepatch for writing needs a permission,
 * which klpd works out beforehand for each livepatch.  klpd itself tells beforehand what it is about to write, and to
 * which stack: where that is another by then, it may not.
 *
 * ftrace_switched keeps the kernel calling all of these.
 *
 * Programs of type lsm, since those of type fmod_ret are skipped where one is preempted by itself; for the same reason
 * nothing is kept in per-CPU maps.  The hooks may not sleep: what they wait for is bounded by the largest module that
 * is digested.
 */
#include "recognise.h"

#define LARGEST_DIGESTED (64ULL << 20)
#define EVENTS_SIZE (256 << 10)
#define FTRACE_ENABLED "kernel/ftrace_enabled"

/*
 * A transition ends in the kernel's worker only, which tries again a second after it has tried, rounded to a whole one
 * by at most a quarter down (round_jiffies_relative in kernel/time/timer.c).  A write that is opened in this time after
 * the begin of a try, when klp_mutex is free, comes before the next one.
 */
#define QUIET_NS (400ULL * 1000 * 1000)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guard_config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guard_counters);
} counters SEC(".maps");

/* Whoever opens many files drives out none but the oldest approvals: nobody else's is refused. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct approved_load);
	__type(value, struct guard_approval);
} approvals SEC(".maps");

/*
 * Tells whether klpd lives: it puts an event here, which the kernel takes out when the descriptor of this map is closed
 * by which it was put in (perf_event_fd_array_release in kernel/bpf/arraymap.c), however its process ends.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} alive SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENTS_SIZE);
} events SEC(".maps");

struct livepatch {
	char name[MODULE_NAME_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct livepatch);
	__type(value, struct guard_permission);
} permissions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guard_intent);
} intents SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct livepatch);
	__type(value, struct guard_entered);
} entered SEC(".maps");

/* What the first lock let a task load, until it is installed or the task loads another. */
struct pass {
	struct guard_approval approval; /* all zero where nothing was approved, and nothing is refused */
	struct guard_entered bytes;
	__u64 size;
};

/* A task, and when it started: the kernel uses the memory of one that has ended again. */
struct loader {
	__u64 task;
	__u64 start_time;
};

/*
 * Not task storage: newer kernels allocate that by kmalloc_nolock(), which gives nothing on a processor without
 * cmpxchg16b.  Here all memory is there from the start, and what tasks leave behind that ended goes when room is needed.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct loader);
	__type(value, struct pass);
} passes SEC(".maps");

/* The livepatch whose transition runs.  Both programs that use it run with klp_mutex held. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct livepatch);
} moving SEC(".maps");

extern const void klp_transition_patch __ksym __weak;
extern const void klp_mutex __ksym __weak;
extern const void sysfs_root_kn __ksym __weak;

static __always_inline struct guard_counters *count(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

static __always_inline struct guard_config *told(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

static __always_inline __u32 mode(void)
{
	struct guard_config *c = told();

	return c ? c->mode : MODE_ENFORCE;
}

/* Whether the klpd lives that has put its event there: any event answers otherwise than none does. */
static __always_inline int is_orphaned(void *ctx)
{
	__u32 nothing = 0;

	return bpf_perf_event_output(ctx, &alive, 0, &nothing, sizeof(nothing)) == -ENOENT;
}

/* An event about the current task with everything else zero, or NULL where the ring is full. */
static __always_inline struct guard_event *new_event(__u8 kind)
{
	struct guard_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	struct guard_counters *c = count();
	__u64 ids = bpf_get_current_pid_tgid();

	if (!e) {
		if (c)
			__sync_fetch_and_add(&c->lost, 1);
		return e;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->time_ns = bpf_ktime_get_ns();
	e->generation = c ? c->generation : 0;
	e->pid = ids;
	e->tgid = ids >> 32;
	e->uid = bpf_get_current_uid_gid();
	e->kind = kind;
	e->mode = mode();
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	return e;
}

/* What speaks against what was approved then. */
static __always_inline int outdated(struct guard_approval *approval)
{
	struct guard_counters *c = count();
	struct guard_config *now = told();

	if (!c || !now)
		return VERDICT_UNAPPROVED;
	if (!approval->standing && approval->epoch != now->epoch)
		return VERDICT_SUPERSEDED;
	if (approval->generation != ANY_GENERATION && approval->generation != c->generation)
		return VERDICT_STALE;
	return 0;
}

/*
 * Looks for an approval of the digest for this process, or for any, and uses it up.  `asked_ns` is when the load came
 * here: the time that it takes to digest its bytes is not the loader's.
 */
static __noinline int ask_approvals(struct pass *pass, __u64 asked_ns, int orphaned)
{
	struct approved_load key = { .process = bpf_get_current_pid_tgid() >> 32 };
	struct guard_approval *approval;
	int against;

	if (!pass)
		return VERDICT_UNAPPROVED;
	key.digest = pass->bytes.digest;
	approval = bpf_map_lookup_elem(&approvals, &key);
	if (!approval) {
		key.process = 0;
		approval = bpf_map_lookup_elem(&approvals, &key);
	}
	if (!approval)
		return VERDICT_UNAPPROVED;
	pass->approval = *approval;
	if (orphaned && !approval->standing)
		return VERDICT_ORPHANED;
	against = outdated(&pass->approval);
	if (against)
		return against;
	if (approval->expires_ns <= asked_ns)
		return VERDICT_EXPIRED;
	/* Of several tasks that found it, the one that deletes it has it. */
	if (bpf_map_delete_elem(&approvals, &key))
		return VERDICT_UNAPPROVED;
	return pass->approval.audited ? VERDICT_AUDITED : VERDICT_ALLOWED;
}

/*
 * A security program's answer, in a form that the verifier can follow: since Linux 6.12 it wants proof that it is 0 or
 * -errno, in 64 bits.
 */
static __always_inline long checked(long answer)
{
	barrier_var(answer);
	return answer >= -ESTALE && answer <= 0 ? answer : -EPERM;
}

static __always_inline struct loader current_loader(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return (struct loader){ (__u64)task, BPF_CORE_READ(task, start_time) };
}

/* The most steps to the root: from a name to its folder, or from a mount to what it is mounted on. */
#define PATH_STEPS 32

/*
 * Tells where a file lies, from its name to the root of its mount namespace, if all of that can be told.  With half of
 * the ring in use there is room for decisions only.
 */
static __always_inline void tell_path(struct file *file, struct sha256_digest *digest)
{
	struct mount *mount;
	struct dentry *at;
	struct guard_path *path;
	int step, whole = 0;

	if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > EVENTS_SIZE / 2)
		return;
	path = bpf_ringbuf_reserve(&events, sizeof(*path), 0);
	if (!path)
		return;
	path->parts = 0;
	path->time_ns = bpf_ktime_get_ns();
	path->tgid = bpf_get_current_pid_tgid() >> 32;
	path->digest = *digest;
	at = BPF_CORE_READ(file, f_path.dentry);
	mount = (void *)BPF_CORE_READ(file, f_path.mnt) - bpf_core_field_offset(struct mount, mnt);
	for (step = 0; step < PATH_STEPS; step++) {
		struct dentry *folder = BPF_CORE_READ(at, d_parent);
		struct mount *above;
		__u32 part = path->parts;

		if (at == BPF_CORE_READ(mount, mnt.mnt_root) || at == folder) {
			above = BPF_CORE_READ(mount, mnt_parent);
			if (above == mount) {
				whole = path->parts > 0;
				break;
			}
			at = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = above;
			continue;
		}
		if (part >= PATH_PARTS)
			break;
		if (bpf_probe_read_kernel_str(path->names[part], PATH_PART_SIZE, BPF_CORE_READ(at, d_name.name)) >=
		    PATH_PART_SIZE)
			break;
		path->parts = part + 1;
		at = folder;
	}
	if (whole)
		bpf_ringbuf_submit(path, 0);
	else
		bpf_ringbuf_discard(path, 0);
}

static __always_inline long gate(void *ctx, struct file *file, __u64 buf, __u64 size, __u8 way)
{
	__u64 asked_ns = bpf_ktime_get_ns();
	struct pass pass = { .size = size };
	struct loader loader = current_loader();
	struct recognised seen = {};
	__u32 in_mode = mode();
	struct guard_counters *c = count();
	int input = recognise(buf, size, 0, &seen);
	int verdict = VERDICT_UNAPPROVED;
	struct guard_event *e;
	long answer = -EPERM;

	bpf_map_delete_elem(&passes, &loader);
	if (input == INPUT_PLAIN) {
		if (c)
			__sync_fetch_and_add(&c->plain, 1);
		return 0;
	}
	if (seen.not_elf && way == WAY_FILE &&
	    !bpf_core_enum_value_exists(enum kernel_read_file_id, READING_MODULE_COMPRESSED)) {
		input = INPUT_COMPRESSED;
		verdict = VERDICT_COMPRESSED;
		answer = -ENOSYS;
	} else if (size > LARGEST_DIGESTED) {
		verdict = VERDICT_TOO_BIG;
	} else if (sha256(buf, size, 0, &pass.bytes.digest)) {
		verdict = VERDICT_UNREADABLE;
	} else if (in_mode != MODE_OFF) {
		verdict = ask_approvals(&pass, asked_ns, is_orphaned(ctx));
	}
	if (in_mode == MODE_OFF)
		verdict = VERDICT_OFF;
	if (verdict == VERDICT_ALLOWED || verdict == VERDICT_AUDITED || in_mode == MODE_OBSERVE || in_mode == MODE_OFF)
		answer = 0;
	if (!answer) {
		pass.bytes.verdict = verdict;
		pass.bytes.token = pass.approval.token;
		bpf_map_update_elem(&passes, &loader, &pass, BPF_ANY);
	}

	if (c)
		__sync_fetch_and_add(answer ? &c->refused : &c->allowed, 1);
	e = new_event(EVENT_LOAD);
	if (e) {
		e->size = size;
		e->way = way;
		e->input = input;
		e->verdict = verdict;
		e->refused = answer != 0;
		e->digest = pass.bytes.digest;
		e->token = pass.approval.token;
		if (seen.name)
			bpf_probe_read_kernel_str(e->module, sizeof(e->module), (void *)seen.name);
		bpf_ringbuf_submit(e, 0);
	}
	if (file && answer && (verdict == VERDICT_UNAPPROVED || verdict == VERDICT_COMPRESSED))
		tell_path(file, &pass.bytes.digest);
	return checked(answer);
}

/* finit_module(2), on whatever file. */
SEC("lsm/kernel_post_read_file")
long BPF_PROG(load_file, struct file *file, char *buf, __s64 size, int id)
{
	if (id != bpf_core_enum_value(enum kernel_read_file_id, READING_MODULE))
		return 0;
	return gate(ctx, file, (__u64)buf, size, WAY_FILE);
}

/* init_module(2). */
SEC("lsm/kernel_post_load_data")
long BPF_PROG(load_buffer, char *buf, __s64 size, int id)
{
	if (id != bpf_core_enum_value(enum kernel_load_data_id, LOADING_MODULE))
		return 0;
	return gate(ctx, 0, (__u64)buf, size, WAY_BUFFER);
}

static __always_inline struct kernfs_node *parent_of(struct kernfs_node *node)
{
	if (bpf_core_field_exists(node->parent))
		return BPF_CORE_READ(node, parent);
	return BPF_CORE_READ((struct kernfs_node___rcu *)node, __parent);
}

static __always_inline int is_named(struct kernfs_node *node, const char *name, int size)
{
	char found[16] = {};

	return bpf_probe_read_kernel_str(found, size + 1, BPF_CORE_READ(node, name)) == size && begins(found, name, size);
}

/* Whether it is /sys/kernel/livepatch; other file systems of kernfs may have a folder of these names. */
static __always_inline int is_livepatch_folder(struct kernfs_node *folder)
{
	struct kernfs_node *kernel, *root, *sysfs = 0;

	if (!is_named(folder, "livepatch", sizeof("livepatch")))
		return 0;
	kernel = parent_of(folder);
	if (!is_named(kernel, "kernel", sizeof("kernel")))
		return 0;
	root = parent_of(kernel);
	if (&sysfs_root_kn)
		bpf_probe_read_kernel(&sysfs, sizeof(sysfs), &sysfs_root_kn);
	return !sysfs || root == sysfs;
}

static __always_inline void next_generation(void)
{
	struct guard_counters *c = count();

	if (c)
		__sync_fetch_and_add(&c->generation, 1);
}

static __always_inline void name_of(struct kernfs_node *entry, struct livepatch *livepatch)
{
	bpf_probe_read_kernel_str(livepatch->name, sizeof(livepatch->name), BPF_CORE_READ(entry, name));
}

/* A livepatch that is refused, or let in though nothing approves it, when it is about to be installed. */
static __always_inline void tell_entry(struct livepatch *livepatch, struct pass *pass, int verdict, long answer)
{
	struct guard_counters *c = count();
	struct guard_event *e;

	if (c)
		__sync_fetch_and_add(answer ? &c->refused : &c->allowed, 1);
	e = new_event(EVENT_LOAD);
	if (!e)
		return;
	e->way = WAY_ENTRY;
	e->input = INPUT_LIVEPATCH;
	e->verdict = verdict;
	e->refused = answer != 0;
	if (pass) {
		e->digest = pass->bytes.digest;
		e->size = pass->size;
		e->token = pass->approval.token;
	}
	__builtin_memcpy(e->module, livepatch->name, sizeof(e->module));
	bpf_ringbuf_submit(e, 0);
}

/*
 * Asked for each new entry in sysfs and other file systems of kernfs.  A livepatch that gets one is not in force yet, and
 * may never be; but what was judged before is void from here on.
 */
SEC("lsm/kernfs_init_security")
long BPF_PROG(entry_created, struct kernfs_node *folder, struct kernfs_node *entry)
{
	struct livepatch livepatch = {};
	int verdict = VERDICT_UNAPPROVED;
	__u32 in_mode = mode();
	struct loader loader;
	struct pass *pass;

	if (!is_livepatch_folder(folder))
		return 0;
	name_of(entry, &livepatch);
	loader = current_loader();
	pass = bpf_map_lookup_elem(&passes, &loader);
	if (pass) {
		int approved = pass->bytes.verdict == VERDICT_ALLOWED || pass->bytes.verdict == VERDICT_AUDITED;

		verdict = approved ? outdated(&pass->approval) : 0;
	}
	if (verdict && in_mode != MODE_OFF) {
		tell_entry(&livepatch, pass, verdict, in_mode == MODE_OBSERVE ? 0 : -EPERM);
		if (in_mode != MODE_OBSERVE)
			return -EPERM;
	}
	next_generation();
	bpf_map_delete_elem(&entered, &livepatch);
	if (pass) {
		bpf_map_update_elem(&entered, &livepatch, &pass->bytes, BPF_ANY);
		bpf_map_delete_elem(&passes, &loader);
	}
	return 0;
}

static __always_inline int permit(struct guard_permission *permission, int attribute)
{
	if (!permission)
		return PERMIT_NO;
	return attribute == ATTRIBUTE_ENABLED ? permission->enabled : permission->force;
}

/* Whether anybody may write to the attribute; on anything but VERDICT_ALLOWED, why not. */
static __always_inline int ask_permissions(struct livepatch *livepatch, int attribute)
{
	struct guard_permission *permission = bpf_map_lookup_elem(&permissions, livepatch);
	struct guard_counters *c = count();
	struct guard_config *now = told();
	struct livepatch others = {};

	if (!permission)
		permission = bpf_map_lookup_elem(&permissions, &others);
	if (!permission || !c || !now)
		return VERDICT_STALE;
	if (permission->epoch != now->epoch)
		return VERDICT_SUPERSEDED;
	if (permit(permission, attribute) == PERMIT_ALWAYS)
		return VERDICT_ALLOWED;
	if (permission->generation != c->generation)
		return VERDICT_STALE;
	return permit(permission, attribute) == PERMIT_NOW ? VERDICT_ALLOWED : VERDICT_FORBIDDEN;
}

static __always_inline int is_same(struct livepatch *livepatch, const char *name)
{
	for (int i = 0; i < MODULE_NAME_LEN; i++) {
		if (livepatch->name[i] != name[i])
			return 0;
		if (!name[i])
			break;
	}
	return 1;
}

/* Whether someone is at the livepatches at this moment: the kernel's worker, say, that is about to end a transition. */
static __always_inline int is_busy(void)
{
	struct mutex *mutex = (void *)&klp_mutex;

	if (!mutex || !bpf_core_field_exists(mutex->owner))
		return 0;
	return (BPF_CORE_READ(mutex, owner.counter) & ~7LL) != 0; /* MUTEX_FLAGS in kernel/locking/mutex.c */
}

static __always_inline struct klp_patch *transition_patch(void)
{
	struct klp_patch *patch = 0;

	if (&klp_transition_patch)
		bpf_probe_read_kernel(&patch, sizeof(patch), &klp_transition_patch);
	return patch;
}

/* klpd's own write, which it may try once: 0, or what speaks against it now.  EAGAIN: it may try again in a moment. */
static __always_inline long ask_intent(struct guard_intent *intent)
{
	struct guard_counters *c = count();
	struct guard_config *now = told();
	__u64 tried_ns;

	if (!c || !now || intent->generation != c->generation || intent->epoch != now->epoch)
		return -ESTALE;
	if (is_busy())
		return -EAGAIN;
	tried_ns = c->tried_ns;
	if (transition_patch() && tried_ns && bpf_ktime_get_ns() - tried_ns > QUIET_NS)
		return -EAGAIN;
	return 0;
}

static __always_inline long write(struct kernfs_node *node)
{
	struct livepatch livepatch = {};
	struct guard_counters *c = count();
	struct kernfs_node *directory;
	struct guard_intent *intent;
	int attribute, verdict;
	__u32 in_mode = mode();
	struct guard_event *e;
	long answer = -EPERM;
	__u32 zero = 0;

	if (is_named(node, "enabled", sizeof("enabled")))
		attribute = ATTRIBUTE_ENABLED;
	else if (is_named(node, "force", sizeof("force")))
		attribute = ATTRIBUTE_FORCE;
	else
		return 0;
	directory = parent_of(node);
	if (!is_livepatch_folder(parent_of(directory)))
		return 0;
	name_of(directory, &livepatch);
	intent = bpf_map_lookup_elem(&intents, &zero);
	if (intent && intent->process == bpf_get_current_pid_tgid() >> 32 && intent->attribute == attribute &&
	    is_same(&livepatch, intent->livepatch))
		return checked(ask_intent(intent));
	verdict = in_mode == MODE_OFF ? VERDICT_OFF : ask_permissions(&livepatch, attribute);
	if (verdict == VERDICT_ALLOWED || in_mode == MODE_OBSERVE || in_mode == MODE_OFF)
		answer = 0;

	if (c)
		__sync_fetch_and_add(answer ? &c->refused : &c->allowed, 1);
	e = new_event(EVENT_WRITE);
	if (e) {
		e->way = attribute;
		e->verdict = verdict;
		e->refused = answer != 0;
		__builtin_memcpy(e->module, livepatch.name, sizeof(e->module));
		bpf_ringbuf_submit(e, 0);
	}
	return checked(answer);
}

/* Asked for each file that is opened, so all but a few leave after two looks at memory that is in use anyway. */
SEC("lsm/file_open")
long BPF_PROG(attribute_opened, struct file *file)
{
	struct inode *inode;

	if (!(file->f_mode & FMODE_WRITE))
		return 0;
	inode = file->f_inode;
	if (inode->i_sb->s_magic != SYSFS_MAGIC)
		return 0;
	return write(inode->i_private);
}

/* A cgroup's program's answer, of which the verifier wants proof that it is 0 or 1, not a number that happens to be. */
static __always_inline int yes_or_no(int passes)
{
	barrier_var(passes);
	return passes ? 1 : 0;
}

/* Whether kernel.ftrace_enabled may be switched off. */
static __always_inline int ask_switch(void)
{
	struct guard_config *now = told();
	struct guard_counters *c = count();
	int refused, verdict = VERDICT_FORBIDDEN;
	__u32 in_mode = mode();
	struct guard_event *e;

	if (in_mode == MODE_OFF)
		verdict = VERDICT_OFF;
	else if (now && now->ftrace_off)
		verdict = VERDICT_ALLOWED;
	refused = verdict == VERDICT_FORBIDDEN && in_mode != MODE_OBSERVE;

	if (c)
		__sync_fetch_and_add(refused ? &c->refused : &c->allowed, 1);
	e = new_event(EVENT_SWITCH);
	if (e) {
		e->verdict = verdict;
		e->refused = refused;
		bpf_ringbuf_submit(e, 0);
	}
	return !refused;
}

/*
 * While kernel.ftrace_enabled is 0 the kernel calls no other program of these (register_fentry in kernel/bpf/trampoline.c);
 * this one it does (__cgroup_bpf_run_filter_sysctl in kernel/bpf/cgroup.c): for each access to a sysctl, by whatever mount
 * of procfs, of a task in any cgroup, since it is attached to the root of them.  Only what certainly switches it on passes:
 * what else the kernel would make of some text need not be known here.
 */
SEC("cgroup/sysctl")
int ftrace_switched(struct bpf_sysctl *ctx)
{
	char name[sizeof(FTRACE_ENABLED)] = {};
	char value[sizeof("1\n")] = {};
	int size;

	if (!ctx->write)
		return 1;
	if (bpf_sysctl_get_name(ctx, name, sizeof(name), 0) != sizeof(name) - 1 ||
	    !begins(name, FTRACE_ENABLED, sizeof(name)))
		return 1;
	size = bpf_sysctl_get_new_value(ctx, value, sizeof(value));
	return yes_or_no((value[0] == '1' && (size == 1 || (size == 2 && value[1] == '\n'))) || ask_switch());
}

static __always_inline int tell_transition(__u8 kind, struct livepatch *livepatch)
{
	struct guard_event *e;

	/* First of all, so that nobody who has seen the event sees the generation before it. */
	next_generation();
	e = new_event(kind);
	if (e) {
		__builtin_memcpy(e->module, livepatch->name, sizeof(e->module));
		bpf_ringbuf_submit(e, 0);
	}
	return 0;
}

/* Called with klp_mutex held when a transition starts, and when it is reversed. */
SEC("fentry/klp_start_transition")
int BPF_PROG(transition_started)
{
	struct klp_patch *patch = transition_patch();
	__u32 zero = 0;
	struct livepatch *livepatch = bpf_map_lookup_elem(&moving, &zero);
	struct module *module;

	if (!livepatch)
		return 0;
	module = BPF_CORE_READ(patch, mod);
	bpf_core_read_str(livepatch->name, sizeof(livepatch->name), &module->name);
	return tell_transition(EVENT_TRANSITION_START, livepatch);
}

/*
 * Called with klp_mutex held at the end of a transition, and where one could not start; there is no transition patch then.
 *
 * An fexit program has its function return into a trampoline, which the unwinder does not know: a task in that function
 * has an unreliable stack (klp_check_stack).  So not klp_try_complete_transition(), which checks the stacks, that of the
 * task that it runs in included: that one would never be patched.  Nothing is checked in klp_complete_transition().
 */
SEC("fexit/klp_complete_transition")
int BPF_PROG(transition_ended)
{
	__u32 zero = 0;
	struct livepatch *livepatch = bpf_map_lookup_elem(&moving, &zero);

	if (!livepatch || transition_patch())
		return 0;
	return tell_transition(EVENT_TRANSITION_END, livepatch);
}

/*
 * klp_complete_transition() comes before its caller takes livepatches off the list, by one of these: who looks between
 * the two sees the new generation and the old list.
 */
SEC("fexit/klp_free_patch_async")
int BPF_PROG(disabled_left)
{
	next_generation();
	return 0;
}

SEC("fexit/klp_free_replaced_patches_async")
int BPF_PROG(replaced_left)
{
	next_generation();
	return 0;
}

/* Called with klp_mutex held, by the kernel's worker and by whoever starts a transition. */
SEC("fentry/klp_try_complete_transition")
int BPF_PROG(transition_tried)
{
	struct guard_counters *c = count();

	if (c)
		c->tried_ns = bpf_ktime_get_ns();
	return 0;
}

/* Called for each module that is removed, or whose init function has failed. */
SEC("fentry/klp_module_going")
int BPF_PROG(module_going, struct module *module)
{
	struct livepatch livepatch = {};

	if (!module->klp)
		return 0;
	bpf_probe_read_kernel_str(livepatch.name, sizeof(livepatch.name), module->name);
	bpf_map_delete_elem(&entered, &livepatch);
	return tell_transition(EVENT_GOING, &livepatch);
}

char LICENSE[] SEC("license") = "GPL";
