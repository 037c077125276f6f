// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Readers of kernel memory: what the kernel knows of its livepatches and shows nowhere else.
 *
 * An object of its own, apart from the guard: it works on kernels that have no security programs, is run on demand and
 * pinned nowhere.  No lock is taken, so the list may change during a walk; user space walks twice and compares.
 * Addresses that are no longer good read as nothing.
 */
#include "stack.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MOST_PATCHES);
	__type(key, __u32);
	__type(value, struct patch_record);
} patches SEC(".maps");

extern const void klp_patches __ksym;
extern const void klp_transition_patch __ksym;

/* The array ends with an id of 0.  A global function, so that the verifier looks at its loop once, not once a patch. */
__noinline int read_states(__u64 at, struct patch_record *out)
{
	struct klp_state *state = (void *)at;

	if (!out)
		return 0;
	for (__u32 i = 0; i < MOST_STATES; i++) {
		__u64 id = BPF_CORE_READ(state, id);

		if (!id)
			return 0;
		out->state[i].id = id;
		out->state[i].version = BPF_CORE_READ(state, version);
		out->states = i + 1;
		state = (void *)state + bpf_core_type_size(struct klp_state);
	}
	out->truncated = BPF_CORE_READ(state, id) != 0;
	return 0;
}

/* By letters, since a string would be a map of its own. */
static __always_inline int is_vmlinux(const char *name)
{
	return name[0] == 'v' && name[1] == 'm' && name[2] == 'l' && name[3] == 'i' && name[4] == 'n' && name[5] == 'u' &&
	       name[6] == 'x' && !name[7];
}

/* The kernel's own object has no name; one that is named like it is taken for a module (klp_is_module). */
__noinline int read_objects(__u64 at, struct patch_record *out)
{
	struct list_head *head = (void *)at;
	struct list_head *each;

	if (!out)
		return 0;
	each = BPF_CORE_READ(head, next);
	for (__u32 i = 0; i < MOST_OBJECTS; i++) {
		char text[9] = {};
		struct klp_object *object;
		const char *name;

		if (each == head || !each) {
			out->known |= KNOWN_OBJECTS;
			return 0;
		}
		object = (void *)each - bpf_core_field_offset(struct klp_object, node);
		name = BPF_CORE_READ(object, name);
		if (name && bpf_probe_read_kernel_str(text, sizeof(text), name) > 0 && is_vmlinux(text))
			out->misnamed = 1;
		each = BPF_CORE_READ(each, next);
	}
	return 0;
}

static __always_inline void read_patch(struct klp_patch *patch, struct patch_record *out)
{
	struct module *module = BPF_CORE_READ(patch, mod);
	struct klp_patch *in_transition = 0;

	__builtin_memset(out, 0, __builtin_offsetof(struct patch_record, state));
	bpf_core_read_str(out->name, sizeof(out->name), &module->name);
	out->enabled = BPF_CORE_READ(patch, enabled);
	bpf_probe_read_kernel(&in_transition, sizeof(in_transition), &klp_transition_patch);
	out->transition = patch == in_transition;
	/* __klp_enable_patch sets `enabled` last, and the module's init function calls it. */
	out->coming = !out->enabled &&
		      BPF_CORE_READ(module, state) == bpf_core_enum_value(enum module_state, MODULE_STATE_COMING);
	if (bpf_core_field_exists(patch->replace)) {
		out->known |= KNOWN_REPLACE;
		out->replace = BPF_CORE_READ(patch, replace);
	}
	if (bpf_core_field_exists(patch->forced)) {
		out->known |= KNOWN_FORCED;
		out->forced = BPF_CORE_READ(patch, forced);
	}
	if (bpf_core_field_exists(patch->states) && bpf_core_field_exists(((struct klp_state *)0)->version)) {
		struct klp_state *states = BPF_CORE_READ(patch, states);

		out->known |= KNOWN_STATES;
		if (states)
			read_states((__u64)states, out);
	}
	if (bpf_core_field_exists(patch->obj_list) && bpf_core_field_exists(((struct klp_object *)0)->node))
		read_objects((__u64)patch + bpf_core_field_offset(struct klp_patch, obj_list), out);
}

/* Fills the map with the livepatches in the order of klp_patches, the oldest first. */
SEC("syscall")
int walk(struct stack_header *header)
{
	struct list_head *head = (void *)&klp_patches;
	struct list_head *each = BPF_CORE_READ(head, next);
	__u32 i;

	header->patches = 0;
	header->truncated = 0;
	for (i = 0; i < MOST_PATCHES; i++) {
		struct patch_record *out;
		__u32 key = i;

		if (each == head || !each)
			return 0;
		out = bpf_map_lookup_elem(&patches, &key);
		if (!out)
			return 0;
		read_patch((void *)each - bpf_core_field_offset(struct klp_patch, list), out);
		header->patches = i + 1;
		each = BPF_CORE_READ(each, next);
	}
	header->truncated = each != head;
	return 0;
}

/* The tasks that take part in a transition: outside one, every task's patch_state is KLP_TRANSITION_IDLE. */
SEC("iter/task")
int tasks(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	struct task_record record = {};

	if (!task)
		return 0;
	record.patch_state = BPF_CORE_READ(task, patch_state);
	if (record.patch_state == KLP_TRANSITION_IDLE)
		return 0;
	record.pid = BPF_CORE_READ(task, pid);
	record.tgid = BPF_CORE_READ(task, tgid);
	bpf_core_read_str(record.comm, sizeof(record.comm), &task->comm);
	bpf_seq_write(context->meta->seq, &record, sizeof(record));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
