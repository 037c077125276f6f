# SPDX-License-Identifier: GPL-2.0-or-later
# Thin: every target says in one or two commands what it does.

PREFIX     ?= /usr
DESTDIR    ?=
SYSTEM_PYTHON ?= /usr/bin/python3
CLANG      ?= clang
LLVM_STRIP ?= llvm-strip
VENV       := .venv
PYTHON     := $(VENV)/bin/python

BPF_SOURCES := $(wildcard klpd/kernel/bpf/*.bpf.c)
BPF_OBJECTS := $(BPF_SOURCES:.c=.o)
BPF_ARCH    := $(patsubst x86_64,x86,$(patsubst aarch64,arm64,$(patsubst s390x,s390,$(patsubst ppc64le,powerpc,$(shell uname -m)))))

.PHONY: all bpf deps venv check test demo install clean

all: bpf

bpf: $(BPF_OBJECTS)

%.bpf.o: %.bpf.c $(wildcard klpd/kernel/bpf/*.h)
	$(CLANG) -O2 -g -Wall -Werror -target bpf -D__TARGET_ARCH_$(BPF_ARCH) -c $< -o $@
	$(LLVM_STRIP) -g $@

venv: $(VENV)/.done

$(VENV)/.done: pyproject.toml
	$(SYSTEM_PYTHON) -m venv --system-site-packages $(VENV)
	$(VENV)/bin/pip install --quiet ruff==0.14.5 mypy==1.18.2 pytest==8.4.2 hypothesis==6.147.0
	touch $@
