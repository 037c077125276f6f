// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a livepatch module is in its file, without the kernel's headers, for any 64 bit machine that there is a compiler
 * for.  The structures have the layout of include/linux/livepatch.h; macros make variants, some
 * of them such as no kernel has yet.
 */

#define SECTION(name) __attribute__((section(name), used))
#define INFO(tag, value) \
	static const char tag##_info[] SECTION(".modinfo") __attribute__((aligned(1))) = #tag "=" value

typedef unsigned long word;

/* include/linux/module.h: the beginning of struct module */
struct module {
	unsigned int state;
	word list[2];
	char name[56];
	word others[64];
};

struct kobject {
	word members[7];
	unsigned int reference;
#ifdef DEBUG_KOBJECTS
	word release[11];
#endif
	unsigned int flags;
};

struct klp_func {
#ifdef REORDERED
	word old_sympos;
	struct kobject kobj;
	void *new_func;
	const char *old_name;
	void *old_func;
#else
	const char *old_name;
	void *new_func;
	word old_sympos;
	void *old_func;
	struct kobject kobj;
#endif
	word node[2], stack_node[2];
	word old_size, new_size;
	_Bool nop, patched, transition;
};

struct klp_callbacks {
	void *pre_patch, *post_patch, *pre_unpatch, *post_unpatch;
	_Bool post_unpatch_enabled;
};

struct klp_object {
#ifdef REORDERED
	word added;
	struct kobject kobj;
	struct klp_callbacks callbacks;
	const char *name;
	struct klp_func *funcs;
#else
	const char *name;
	struct klp_func *funcs;
#ifndef NO_CALLBACKS
	struct klp_callbacks callbacks;
#endif
	struct kobject kobj;
#endif
	word func_list[2], node[2];
	struct module *mod;
	_Bool dynamic, patched;
};

struct klp_state {
#ifdef REORDERED
	unsigned int version;
	word added[2];
#endif
	word id;
#ifdef NO_VERSION
	_Bool block_disable, is_shadow;
#elif !defined(REORDERED)
	unsigned int version;
#endif
	void *data;
};

struct klp_patch {
#ifdef REORDERED
	word added[2];
	_Bool replace;
	struct klp_state *states;
	struct klp_object *objs;
	struct module *mod;
#else
	struct module *mod;
	struct klp_object *objs;
	struct klp_state *states;
#ifdef REPLACE_SET
	unsigned int replace_set;
#else
	_Bool replace;
#endif
#endif
	word list[2];
	struct kobject kobj;
	word others[11];
};

struct module __this_module SECTION(".gnu.linkonce.this_module") = { .name = "example" };

INFO(name, "example");
INFO(livepatch, "Y");
INFO(vermagic, "6.1.0 SMP mod_unload ");
INFO(depends, "");
#if defined(REPLACE_PARAMETER) || defined(PARAMETERS)
INFO(parmtype, "replace:bool");
#endif

static void new_function(void) { }
static void callback(void) { }

#ifdef OWNERS
/* Other structures that begin with the module that they belong to. */
static struct { void *owner, *llseek; } file_operations __attribute__((used)) = { &__this_module, new_function };
static struct { void *owner; const char *name; } named __attribute__((used)) = { &__this_module, "a name" };
static struct list { void *owner, *next, *previous; } listed __attribute__((used)) = {
	&__this_module, &listed.next, &listed.next,
};
static word last_word SECTION(".data.last") = 1;
static word zeros[64] SECTION(".data.zeros") = { 0 };
static struct { word first; void *owner; word *zeros; } amid __attribute__((used)) = { 1, &__this_module, zeros };
static struct { void *owner; word *number; } pointing __attribute__((used)) = { &__this_module, &last_word };
#endif

static struct klp_func functions[] = {
	{ .old_name = "first_function", .new_func = new_function },
	{ .old_name = "second_function", .new_func = new_function, .old_sympos = 2 },
	{ .old_name = "third_function", .new_func = new_function },
	{ }
};
static struct klp_func other_functions[] = { { .old_name = "other_function", .new_func = new_function }, { } };
static struct klp_func no_functions[] = { { } };

static struct klp_object objects[] = {
#ifndef NO_OBJECTS
#ifdef NO_CALLBACKS
	{ .funcs = functions },
	{ .name = "other_module", .funcs = other_functions },
#else
	{ .funcs = functions, .callbacks.post_patch = callback },
	{
		.name = "other_module",
		.funcs = other_functions,
		.callbacks = { callback, callback, callback, callback },
	},
#endif
	{ .name = "third_module", .funcs = no_functions },
#endif
	{ }
};

#ifdef STATES_AT_RUN_TIME
static struct klp_state states[3];
#elif defined(EMPTY_STATES)
static struct klp_state states[] = { { } };
#elif defined(NO_VERSION)
static struct klp_state states[] = { { .id = 1, .block_disable = 1 }, { .id = 2 }, { } };
#else
static struct klp_state states[] = {
	{ .id = 1, .version = 0 },
	{ .id = 0x1122334455667788, .version = 0xfffffffe },
#ifdef MANY_STATES
	{ 3 }, { 4 }, { 5 }, { 6 }, { 7 }, { 8 }, { 9 }, { 10 }, { 11 }, { 12 }, { 13 }, { 14 }, { 15 }, { 16 },
#endif
	{ }
};
#endif

#ifdef KPATCH_BUILD
/* kpatch's kmod/patch/kpatch-patch.h */
struct kpatch_patch_func {
	void *new_addr;
	word new_size, old_addr, old_size, sympos;
	const char *name, *objname;
};

static struct kpatch_patch_func kpatch_funcs[] SECTION(".kpatch.funcs") = {
	{ new_function, 8, 0, 8, 0, "first_function", "vmlinux" },
	{ new_function, 8, 0, 8, 0, "other_function", "other_module" },
	{ new_function, 8, 0, 8, 2, "second_function", "vmlinux" },
	{ new_function, 8, 0, 8, 0, "third_function", "vmlinux" },
};

#define CALLBACKS(which, count, ...) \
	static struct { \
		struct { void *callback; const char *objname; } entries[count]; \
		word padding; \
	} which##_callbacks SECTION(".kpatch.callbacks." #which) = { { __VA_ARGS__ } }
CALLBACKS(pre_patch, 1, { callback, "other_module" });
CALLBACKS(post_patch, 2, { callback, "vmlinux" }, { callback, "other_module" });
CALLBACKS(pre_unpatch, 1, { callback, "other_module" });
CALLBACKS(post_unpatch, 2, { callback, "other_module" }, { callback, "third_module" });
static void *force[] SECTION(".kpatch.force") = { new_function, 0 };
#ifdef KPATCH_STATES
/* as a fork of kpatch has it, for states that its code puts into the klp_patch */
static word system_states[] SECTION(".kpatch.system_states") = { 1, 1 };
#endif
#endif

#ifdef KLP_BUILD
/* include/linux/livepatch_external.h */
struct klp_func_ext {
	const char *old_name;
	void *new_func;
	word sympos;
};

struct klp_object_ext {
	const char *name;
	struct klp_func_ext *funcs;
	struct klp_callbacks callbacks;
	unsigned int nr_funcs;
};

static struct klp_func_ext func_exts[] SECTION("__klp_funcs") = {
	{ "first_function", new_function },
	{ "second_function", new_function, 2 },
	{ "third_function", new_function },
	{ "other_function", new_function },
};

static struct klp_object_ext object_exts[] SECTION(KLP_BUILD) = {
	{ 0, func_exts, { .post_patch = callback }, 3 },
	{ "other_module", func_exts + 3, { callback, callback, callback, callback }, 1 },
	{ "third_module", func_exts + 4 },
};
#endif

#ifdef EMPTY_KLP_OBJECTS
__asm__(".pushsection __klp_objects, \"aw\"; .popsection");
#endif

#ifdef AT_RUN_TIME
static struct klp_patch patch;
#else
static struct klp_patch patch = {
	.mod = &__this_module,
	.objs = objects,
#ifndef NO_STATES
	.states = states,
#endif
#ifdef REPLACE_SET
	.replace_set = 1,
#elif !defined(ADDITION)
	.replace = 1,
#endif
};
#endif
#ifdef CUT
/* What begins like a klp_patch, with nothing before and nothing behind it in its section. */
static struct { void *module, *objects; } cut SECTION(".data.cut") = { &__this_module, objects };
#endif
#ifdef TWO_PATCHES
static struct klp_patch second __attribute__((used)) = { .mod = &__this_module, .objs = objects };
#endif

/* include/linux/moduleparam.h */
struct kernel_param {
	const char *name;
	void *mod;
	const void *ops;
	unsigned short perm;
	signed char level;
	unsigned char flags;
	void *arg;
};
extern const char param_ops_bool[], param_ops_uint[], param_array_ops[];
#define PARAMETER(name, ops, to) \
	static const struct kernel_param name##_parameter SECTION("__param") __attribute__((aligned(8))) = { \
		#name, &__this_module, ops, 0644, -1, 0, to \
	}
struct kparam_array {
	unsigned int max, elemsize;
	unsigned int *num;
	const void *ops;
	void *elem;
};
#ifdef PARAMETER_REPLACE
PARAMETER(p, param_ops_bool, &patch.replace);
#elif defined(PARAMETER_VERSION)
PARAMETER(p, param_ops_uint, &states[1].version);
#elif defined(PARAMETER_ARRAY)
static const struct kparam_array several = { 2, 4, 0, param_ops_bool, &states[0].version };
PARAMETER(p, param_array_ops, (void *)&several);
#elif defined(PARAMETER_OF_ITS_OWN)
PARAMETER(p, &states, &states[1].version);
#elif defined(PARAMETERS)
PARAMETER(a_version, param_ops_uint, &states[1].version);
PARAMETER(replace, param_ops_bool, &patch.replace);
#elif defined(PARAMETER_ELSEWHERE)
static int elsewhere;
PARAMETER(p, param_ops_uint, &elsewhere);
#endif

int klp_enable_patch(struct klp_patch *);
void *klp_get_state(struct klp_patch *, word);

void use(void)
{
	klp_get_state(&patch, 1);
#ifdef CODE_SETS_DATA
	states[1].data = new_function;
#endif
}

int init_module(void)
{
#ifdef AT_RUN_TIME
	patch.mod = &__this_module;
	patch.objs = objects;
	patch.states = states;
#endif
#if defined(AT_RUN_TIME) || defined(STATES_AT_RUN_TIME)
	states[0].id = 1;
#endif
#ifdef CODE_SETS_REPLACE
	patch.replace = 1;
#endif
#ifdef CODE_COPIES_REPLACE
	patch.replace = !*(volatile _Bool *)__this_module.others;
#endif
#ifdef CODE_SETS_VERSION
	states[0].version = 9;
#endif
#ifdef CODE_SETS_ID
	states[1].id = 9;
#endif
#ifdef CODE_CHOOSES_STATES
	patch.states = states + 1;
#endif
#ifdef CODE_CHOOSES_FUNCTIONS
	patch.objs->funcs = other_functions;
#endif
#ifdef CODE_SETS_FUNCTION
	functions[1].old_sympos = 1;
#endif
	return klp_enable_patch(&patch);
}
