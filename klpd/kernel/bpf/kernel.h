/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the programs need to know of the kernel, instead of a dump of all its types: each struct has only the members
 * that are read, and CO-RE puts in their offsets in the kernel that the object is loaded into.
 */
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed int __s32;
typedef signed long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

/* include/uapi/linux/bpf.h */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERF_EVENT_ARRAY = 4,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_ANY = 0,
};

enum {
	BPF_RB_AVAIL_DATA = 0,
};

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

/* include/uapi/asm-generic/errno-base.h, errno.h */
#define EPERM 1
#define ENOENT 2
#define EAGAIN 11
#define ENOSYS 38
#define ESTALE 116

/* include/linux/module.h: MODULE_NAME_LEN is 64 - sizeof(unsigned long) */
#define MODULE_NAME_LEN 56
/* include/linux/sched.h */
#define TASK_COMM_LEN 16
/* include/linux/fs.h; include/uapi/linux/magic.h */
#define FMODE_WRITE 2
#define SYSFS_MAGIC 0x62656572
/* include/linux/livepatch.h; KLP_UNDEFINED before Linux 6.10 */
#define KLP_TRANSITION_IDLE (-1)

/* include/uapi/linux/bpf.h; the verifier translates each access to it, so that it has no offsets to be put in. */
struct bpf_sysctl {
	__u32 write;
	__u32 file_pos;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct list_head {
	struct list_head *next;
};

enum module_state {
	MODULE_STATE_COMING = 1,
};

struct module {
	enum module_state state;
	char name[MODULE_NAME_LEN];
	_Bool klp;
};

typedef struct {
	__s64 counter;
} atomic64_t;

/* With PREEMPT_RT it has no such member. */
struct mutex {
	atomic64_t owner;
};

struct klp_state {
	unsigned long id;
	unsigned int version;
};

struct klp_object {
	const char *name;
	struct list_head node;
};

struct klp_patch {
	struct module *mod;
	struct klp_state *states;
	_Bool replace;
	struct list_head list;
	struct list_head obj_list;
	_Bool enabled;
	_Bool forced;
};

struct task_struct {
	int pid;
	int tgid;
	__u64 start_time;
	int patch_state;
	char comm[TASK_COMM_LEN];
};

struct kernfs_node {
	struct kernfs_node *parent;
	const char *name;
};

/* Since Linux 6.15 the member has another name. */
struct kernfs_node___rcu {
	struct kernfs_node *__parent;
};

struct super_block {
	unsigned long s_magic;
};

struct inode {
	struct super_block *i_sb;
	void *i_private;
};

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	unsigned int f_mode;
	struct inode *f_inode;
	struct path f_path;
};

/* fs/mount.h */
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

/*
 * Only the names of the enumerators count: CO-RE puts in the running kernel's values.  READING_MODULE_COMPRESSED is
 * younger than Linux 6.12.  A kernel that has it calls the hook a second time, as READING_MODULE, with the bytes that it
 * has decompressed; a kernel that has not never shows them to anybody.
 */
enum kernel_read_file_id {
	READING_MODULE,
	READING_MODULE_COMPRESSED,
};

enum kernel_load_data_id {
	LOADING_MODULE,
};
