# SPDX-License-Identifier: GPL-2.0-or-later
# Thin: every target is a command or two.

PREFIX        ?= /usr
SYSCONFDIR    ?= /etc
DESTDIR       ?=
SYSTEM_PYTHON ?= /usr/bin/python3
CLANG         ?= clang
LLVM_STRIP    ?= llvm-strip
PYTHONDIR     ?= $(shell $(SYSTEM_PYTHON) -Ic 'import sysconfig as s; \
  print(s.get_path("purelib", "deb_system" if "deb_system" in s.get_scheme_names() else "posix_prefix"))')
ZSHDIR        ?= $(PREFIX)/share/zsh/$(if $(wildcard /etc/debian_version),vendor-completions,site-functions)

# A test host leaves most of its two processors idle.
TEST_PROCESSES ?= 2

VENV   := .venv
PYTHON := $(VENV)/bin/python

# What `make check` and `make test` need of Debian, beside what the test host installs for itself.
PACKAGES := binutils clang dbus gcc gcc-aarch64-linux-gnu gcc-powerpc64le-linux-gnu gcc-s390x-linux-gnu kmod libbpf-dev \
  libbpf1 libxml2-utils linux-headers-cloud-amd64 llvm make openssl pandoc polkitd python3-asn1crypto \
  python3-cryptography python3-gi python3-pydbus python3-pyelftools python3-pyudev python3-systemd python3-venv \
  shellcheck systemd zsh

BPF_OBJECTS := $(patsubst %.c,%.o,$(wildcard klpd/kernel/bpf/*.bpf.c))
BPF_ARCH    := $(shell uname -m | sed 's/x86_64/x86/; s/aarch64/arm64/; s/s390x/s390/; s/ppc64le/powerpc/; s/riscv64/riscv/')
MAN_PAGES   := $(patsubst docs/%.md,build/man/%,$(wildcard docs/*.[1-8].md))

.PHONY: all help bpf man packages venv check format test test-all bench demo install clean

all: bpf

help:
	@printf '%s\n' 'make bpf       build the kernel guard and the readers of kernel memory' \
	  'make man       build the manual pages' \
	  'make check     run the linters' \
	  'make format    have ruff format the code' \
	  'make test      run the tests; make test-all: those, too, that take long' \
	  'make bench     measure side by side what klpd costs' \
	  'make demo      show the main job in a virtual machine' \
	  'make install   install it here, or below DESTDIR'

bpf: $(BPF_OBJECTS)

%.bpf.o: %.bpf.c $(wildcard klpd/kernel/bpf/*.h)
	$(CLANG) -O2 -g -Wall -Werror -target bpf -D__TARGET_ARCH_$(BPF_ARCH) -c $< -o $@
	$(LLVM_STRIP) -g $@

man: $(MAN_PAGES)

build/man/%: docs/%.md
	@mkdir -p $(@D)
	pandoc --standalone --from markdown-smart --to man --output $@ $<

packages:
	@python3 -m tests.vm.packages $(PACKAGES)

venv: $(VENV)/.done

$(VENV)/.done: .ci/requirements.txt | packages
	$(SYSTEM_PYTHON) -m venv --system-site-packages $(VENV)
	$(VENV)/bin/pip install --quiet --requirement .ci/requirements.txt
	@touch $@

check: venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	shellcheck .ci/run tests/check-units.sh completions/klpctl.bash
	xmllint --noout --nonet systemd/org.klpd1.conf systemd/org.klpd1.policy klpd/daemon/*.xml
	tests/check-units.sh

format: venv
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

test: venv bpf
	$(PYTHON) -m pytest --numprocesses $(TEST_PROCESSES) -m "not extended"

# With the other kernel, boots, lockdown, bad input, what stands in for the guard, the kernel's own selftests and more.
test-all: venv bpf
	$(PYTHON) -m pytest --numprocesses $(TEST_PROCESSES)

bench: packages
	$(SYSTEM_PYTHON) -m tests.bench

demo: packages
	python3 -m tests.demo

# Bytecode is made here for who may not write it later; with DESTDIR, that is for the tools that make packages.
install: bpf
	install -d $(DESTDIR)$(PYTHONDIR) $(DESTDIR)$(SYSCONFDIR)/klpd/policy.d $(DESTDIR)$(SYSCONFDIR)/klpd/livepatches.d
	find klpd -name '*.py' -o -name '*.xml' -o -name '*.bpf.o' -o -name py.typed | \
	  while read -r file; do install -D -m 644 "$$file" "$(DESTDIR)$(PYTHONDIR)/$$file"; done
	if [ -z "$(DESTDIR)" ]; then $(SYSTEM_PYTHON) -m compileall -q $(PYTHONDIR)/klpd; fi
	$(call script,sbin/klpd,klpd.daemon.__main__)
	$(call script,bin/klpctl,klpd.ctl.__main__)
	$(call script,lib/klpd/klpd-guard,klpd.daemon.early)
	$(call script,lib/klpd/klpd-release,klpd.daemon.release)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/klpd/policy.d policy/*.toml
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/klpd/examples policy/examples/*.toml
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system systemd/klpd.service systemd/klpd-guard.service \
	  systemd/klpd-release.service
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/catalog systemd/klpd.catalog
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/dbus-1/system-services systemd/org.klpd1.service
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/dbus-1/system.d systemd/org.klpd1.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/dbus-1/interfaces klpd/daemon/org.klpd1.*.xml
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/polkit-1/actions systemd/org.klpd1.policy
	install -D -m 644 completions/klpctl.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/klpctl
	install -D -m 644 completions/_klpctl $(DESTDIR)$(ZSHDIR)/_klpctl
	if [ -d build/man ]; then for page in build/man/*; do \
	  install -D -m 644 "$$page" "$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}"; done; fi

define script
@install -d $(DESTDIR)$(PREFIX)/$(dir $(1))
@printf '%s\n' '#!/usr/bin/python3 -I' 'import signal' 'import sys' '' '# Ctrl-C while the rest is imported:' \
  'signal.signal(signal.SIGINT, signal.SIG_DFL)' '' 'from $(2) import main' '' 'sys.exit(main())' > $(DESTDIR)$(PREFIX)/$(1)
@chmod 755 $(DESTDIR)$(PREFIX)/$(1)
endef

clean:
	rm -rf build $(BPF_OBJECTS)
