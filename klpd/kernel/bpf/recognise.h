/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is this module a livepatch?  The kernel's own question is get_modinfo(info, "livepatch") (kernel/module/main.c,
 * check_modinfo_livepatch): the tag counts, whatever its value.  How the kernel finds .modinfo in a file that is odd
 * differs between versions, so only what every version must read the same way is called plain: section headers and
 * names within the file, exactly one section named .modinfo, allocated, of ordinary content, not empty and ended by a
 * NUL, and walked to its end without meeting the tag.
 *
 * Both walks are as long as the file makes them.  Their state starts from values that the verifier cannot know (see
 * sha256.h), and is only ever set to constants or advanced, never counted.
 */
#pragma once

#include "guard.h"

struct elf64_ehdr {
	__u8 e_ident[16];
	__u16 e_type;
	__u16 e_machine;
	__u32 e_version;
	__u64 e_entry;
	__u64 e_phoff;
	__u64 e_shoff;
	__u32 e_flags;
	__u16 e_ehsize;
	__u16 e_phentsize;
	__u16 e_phnum;
	__u16 e_shentsize;
	__u16 e_shnum;
	__u16 e_shstrndx;
};

struct elf64_shdr {
	__u32 sh_name;
	__u32 sh_type;
	__u64 sh_flags;
	__u64 sh_addr;
	__u64 sh_offset;
	__u64 sh_size;
	__u32 sh_link;
	__u32 sh_info;
	__u64 sh_addralign;
	__u64 sh_entsize;
};

/* include/uapi/linux/elf.h */
#define SHT_PROGBITS 1
#define SHF_ALLOC 2

/* The longest piece of .modinfo read at once, and the most pieces: far more than any module has (amdgpu: 42 KB). */
#define PIECE 64
#define MOST_PIECES (1 << 20)

struct recognised {
	__u64 name; /* address of the module's name in .modinfo, or 0 */
	__u32 not_elf;
};

struct sections {
	__u64 at;
	__u64 names;
	__u64 names_size;
	__u64 modinfo;
	__u64 modinfo_size;
	__u32 found;
	__u32 odd;
};

struct strings {
	__u64 at;
	__u64 end;
	__u64 name;
	__u32 inside; /* the next piece continues a string */
	__u32 ended;
	__u32 odd;
	__u32 livepatch;
};

/* __builtin_memcmp may become a call, which BPF has not. */
static __always_inline int begins(const char *text, const char *with, int length)
{
#pragma unroll
	for (int i = 0; i < length; i++)
		if (text[i] != with[i])
			return 0;
	return 1;
}

static long next_section(__u32 i, struct sections *c)
{
	struct elf64_shdr section;
	char name[16];
	long length;

	if (bpf_probe_read_kernel(&section, sizeof(section), (void *)c->at) || section.sh_name >= c->names_size) {
		c->odd = 1;
		return 1;
	}
	c->at += sizeof(section);
	length = bpf_probe_read_kernel_str(name, sizeof(".modinfo") + 1, (void *)(c->names + section.sh_name));
	if (length < 0) {
		c->odd = 1;
		return 1;
	}
	if (length != sizeof(".modinfo") || !begins(name, ".modinfo", 8))
		return 0;
	if (c->found || section.sh_type != SHT_PROGBITS || !(section.sh_flags & SHF_ALLOC)) {
		c->odd = 1;
		return 1;
	}
	c->found = 1;
	c->modinfo = section.sh_offset;
	c->modinfo_size = section.sh_size;
	return 0;
}

static long next_string(__u32 i, struct strings *c)
{
	char piece[PIECE];
	long length;

	if (c->at >= c->end) {
		c->ended = 1;
		return 1;
	}
	length = bpf_probe_read_kernel_str(piece, sizeof(piece), (void *)c->at);
	if (length <= 0) {
		c->odd = 1;
		return 1;
	}
	if (!c->inside) {
		if (begins(piece, "livepatch=", 10))
			c->livepatch = 1;
		else if (!c->name && begins(piece, "name=", 5))
			c->name = c->at + 5;
	}
	if (length == sizeof(piece)) {
		/* The helper puts a NUL last, where the string may have gone on. */
		c->at += sizeof(piece) - 1;
		c->inside = 1;
	} else {
		c->at += length;
		c->inside = 0;
	}
	return 0;
}

static __always_inline int within(__u64 offset, __u64 length, __u64 size)
{
	return offset <= size && length <= size - offset;
}

/* The tag in `length` bytes of .modinfo at kernel address `at`.  A global function, as sha256(). */
__noinline int recognise_strings(__u64 at, __u64 length, __u32 zero, struct recognised *out)
{
	struct strings c = {
		.at = at,
		.end = at + length,
		.name = zero,
		.inside = zero,
		.ended = zero,
		.odd = zero,
		.livepatch = zero,
	};
	char last = 1;

	if (!out)
		return INPUT_UNPARSED;
	/* The kernel compares the tag beyond an end that no NUL marks. */
	if (!length || bpf_probe_read_kernel(&last, 1, (void *)(at + length - 1)) || last)
		return INPUT_UNPARSED;
	bpf_loop(MOST_PIECES, next_string, &c, 0);
	out->name = c.name;
	if (c.livepatch)
		return INPUT_LIVEPATCH;
	return c.ended && !c.odd ? INPUT_PLAIN : INPUT_UNPARSED;
}

/*
 * Finds .modinfo in the `size` bytes at kernel address `buf`, and what it says.  The 64 bit layout in the kernel's own
 * byte order is taken for granted, as the kernel does.  A global function, as sha256().
 */
__noinline int recognise(__u64 buf, __u64 size, __u32 zero, struct recognised *out)
{
	struct sections c = {
		.names = zero,
		.modinfo = zero,
		.modinfo_size = zero,
		.found = zero,
		.odd = zero,
	};
	struct elf64_ehdr header;
	struct elf64_shdr names;

	if (!out)
		return INPUT_UNPARSED;
	if (size < sizeof(header) || bpf_probe_read_kernel(&header, sizeof(header), (void *)buf) ||
	    !begins((char *)header.e_ident, "\177ELF", 4)) {
		out->not_elf = 1;
		return INPUT_UNPARSED;
	}
	if (header.e_shentsize != sizeof(names) || header.e_shstrndx >= header.e_shnum ||
	    !within(header.e_shoff, (__u64)header.e_shnum * sizeof(names), size))
		return INPUT_UNPARSED;
	c.at = buf + header.e_shoff;
	if (bpf_probe_read_kernel(&names, sizeof(names), (void *)(c.at + header.e_shstrndx * sizeof(names))) ||
	    !within(names.sh_offset, names.sh_size, size))
		return INPUT_UNPARSED;
	c.names = buf + names.sh_offset;
	c.names_size = names.sh_size;
	bpf_loop(header.e_shnum, next_section, &c, 0);
	if (c.odd || !c.found || !within(c.modinfo, c.modinfo_size, size))
		return INPUT_UNPARSED;
	return recognise_strings(buf + c.modinfo, c.modinfo_size, zero, out);
}
