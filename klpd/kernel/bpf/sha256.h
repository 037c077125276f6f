/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SHA-256 (FIPS 180-4) of a buffer in kernel memory. */
#pragma once

#include "kernel.h"

#include <bpf/bpf_endian.h>

#define SHA256_SIZE 32
#define SHA256_BLOCK 64

struct sha256_digest {
	__u32 words[SHA256_SIZE / 4]; /* big endian, so its bytes are the digest as everybody writes it */
};

struct sha256 {
	__u64 at;
	__u32 unreadable;
	__u32 h[8];
	__u32 w[16];
};

static const __u32 sha256_k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

#define ROR(x, n) (((x) >> (n)) | ((x) << (32 - (n))))

static __always_inline __u32 sha256_word(struct sha256 *c, int i)
{
	if (i >= 16) {
		__u32 w15 = c->w[(i - 15) & 15], w2 = c->w[(i - 2) & 15];

		c->w[i & 15] += (ROR(w15, 7) ^ ROR(w15, 18) ^ (w15 >> 3)) + c->w[(i - 7) & 15] +
				(ROR(w2, 17) ^ ROR(w2, 19) ^ (w2 >> 10));
	}
	return c->w[i & 15];
}

/*
 * Takes the 16 big-endian words in c->w into c->h.  Returns 0, and hides from clang that it is always 0: clang would
 * drop it, and leave a pointer in the register that the verifier expects it in.
 */
static __noinline long sha256_block(struct sha256 *c)
{
	__u32 a = c->h[0], b = c->h[1], cc = c->h[2], d = c->h[3];
	__u32 e = c->h[4], f = c->h[5], g = c->h[6], h = c->h[7];
	long zero = 0;

#pragma unroll
	for (int i = 0; i < 16; i++)
		c->w[i] = bpf_ntohl(c->w[i]);
#pragma unroll
	for (int i = 0; i < 64; i++) {
		__u32 t1 = h + sha256_k[i] + sha256_word(c, i);
		t1 += (ROR(e, 6) ^ ROR(e, 11) ^ ROR(e, 25)) + (g ^ (e & (f ^ g)));
		__u32 t2 = (ROR(a, 2) ^ ROR(a, 13) ^ ROR(a, 22)) + ((a & b) | (cc & (a | b)));

		h = g;
		g = f;
		f = e;
		e = d + t1;
		d = cc;
		cc = b;
		b = a;
		a = t1 + t2;
		/* Without these clang puts work off, and needs more than BPF's 512 bytes of stack to remember it. */
		barrier_var(a);
		barrier_var(e);
	}
	c->h[0] += a;
	c->h[1] += b;
	c->h[2] += cc;
	c->h[3] += d;
	c->h[4] += e;
	c->h[5] += f;
	c->h[6] += g;
	c->h[7] += h;
	barrier_var(zero);
	return zero;
}

static long sha256_next(__u32 i, struct sha256 *c)
{
	if (bpf_probe_read_kernel(c->w, SHA256_BLOCK, (void *)c->at)) {
		c->unreadable = 1;
		return 1;
	}
	c->at += SHA256_BLOCK;
	return sha256_block(c);
}

/*
 * The digest of `size` bytes at kernel address `buf`, with no loop over more than bpf_loop's 8 Mi turns: `size` must be
 * below 512 MiB.  Returns nonzero where the bytes could not be read.
 *
 * A global function: the verifier looks at it once for all callers and knows nothing of its arguments.  `zero` is 0 all
 * the same; starting the flag that a loop's callback sets from it, not from a constant, keeps the verifier of Linux 6.1,
 * which follows a callback once only, from taking later checks of the flag for dead code.
 */
__noinline int sha256(__u64 buf, __u64 size, __u32 zero, struct sha256_digest *out)
{
	struct sha256 c = {
		.at = buf,
		.unreadable = zero,
		.h = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 },
	};
	__u32 rest = size & (SHA256_BLOCK - 1);

	if (!out)
		return 1;
	bpf_loop(size / SHA256_BLOCK, sha256_next, &c, 0);
	if (c.unreadable)
		return 1;
	__builtin_memset(c.w, 0, sizeof(c.w));
	if (bpf_probe_read_kernel(c.w, rest, (void *)c.at))
		return 1;
	((__u8 *)c.w)[rest] = 0x80;
	if (rest >= SHA256_BLOCK - 8) {
		if (sha256_block(&c))
			return 1;
		__builtin_memset(c.w, 0, sizeof(c.w));
	}
	c.w[14] = bpf_htonl((__u32)(size >> 29));
	c.w[15] = bpf_htonl((__u32)(size << 3));
	if (sha256_block(&c))
		return 1;
#pragma unroll
	for (int i = 0; i < 8; i++)
		out->words[i] = bpf_htonl(c.h[i]);
	return 0;
}
