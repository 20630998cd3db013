# SPDX-License-Identifier: GPL-2.0
# Front door: `make help`.

PREFIX ?= /usr/local
DESTDIR ?=
VERSION := $(shell sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
B := build
V ?= 0
ifeq ($(V),0)
Q := @
say = @printf '  %-7s %s\n' "$(1)" "$(2)";
endif

CC ?= gcc
CFLAGS ?= -O2 -g
WARN := -Wall -Wextra -Werror
SAN :=
CPPFLAGS_ALL := -D_GNU_SOURCE -Iumh -Ikernel $(CPPFLAGS)
CFLAGS_ALL := -std=gnu11 $(WARN) $(CFLAGS) $(SAN)
LIBS := -lbpf -lelf -lmnl

# Everything but the main()s; unit tests link against it.
LIB_SRC := $(filter-out umh/main.c,$(wildcard umh/*.c)) $(wildcard umh/ext/*.c)
CLI_SRC := $(wildcard umh/cli/*.c)
SHIM_SRC := $(wildcard iptables-shim/*.c) umh/client.c umh/err.c
LIB_OBJ := $(LIB_SRC:%.c=$(B)/obj/%.o)
CLI_OBJ := $(CLI_SRC:%.c=$(B)/obj/%.o)
SHIM_OBJ := $(SHIM_SRC:%.c=$(B)/pic/%.o)

all: $(B)/xtjit $(B)/xtjitd $(B)/libxtjit-shim.so

$(B)/libxtjit.a: $(LIB_OBJ)
	$(call say,AR,$@) rm -f $@ && ar rcs $@ $^

$(B)/xtjitd: $(B)/obj/umh/main.o $(B)/libxtjit.a
	$(call say,LINK,$@) $(CC) $(CFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)

$(B)/xtjit: $(CLI_OBJ) $(B)/libxtjit.a
	$(call say,LINK,$@) $(CC) $(CFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LIBS)

$(B)/libxtjit-shim.so: $(SHIM_OBJ) iptables-shim/shim.map
	$(call say,LINK,$@) $(CC) $(CFLAGS_ALL) $(LDFLAGS) -shared -Wl,--version-script=iptables-shim/shim.map -o $@ $(SHIM_OBJ) -ldl

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(B)/pic/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -fPIC -fvisibility=hidden -MMD -MP -c -o $@ $<

# Tests: each selftests/{unit,golden,netns}/NAME_test.c is a program of its own.
TEST_SRC := $(wildcard selftests/unit/*_test.c selftests/golden/*_test.c selftests/netns/*_test.c)
TEST_BIN := $(TEST_SRC:selftests/%.c=$(B)/test/%)
VM_BIN := $(patsubst selftests/%.c,$(B)/test/%,$(wildcard selftests/vm/*_test.c))
UNIT_BIN := $(filter-out $(B)/test/netns/%,$(TEST_BIN))
TEST_PY := $(wildcard selftests/unit/*_test.py) $(wildcard selftests/netns/*_test.py)

$(B)/test/%: selftests/%.c $(B)/libxtjit.a
	@mkdir -p $(@D)
	$(call say,TEST,$@) $(CC) $(CPPFLAGS_ALL) -Iselftests/unit $(CFLAGS_ALL) $(LDFLAGS) -MMD -MP -MT $@ -MF $@.d -o $@ $< $(B)/libxtjit.a $(LIBS)

tests: all $(TEST_BIN) $(VM_BIN) $(B)/test/bench/lookup

# The same once more with the sanitizers, below build/asan.
asan:
	$(Q)$(MAKE) --no-print-directory B=$(B)/asan SAN="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer" CPPFLAGS="$(CPPFLAGS) -DDEBUG" $(UNIT_BIN:$(B)/%=$(B)/asan/%)

FUZZ_FLAGS := -O1 -g -DDEBUG -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined
FUZZ_SRC := selftests/fuzz/blob_fuzz.c $(wildcard umh/blob*.c) umh/family.c umh/err.c
$(B)/fuzz/blob_fuzz: $(FUZZ_SRC) $(wildcard umh/*.h)
	@mkdir -p $(@D)
	$(call say,FUZZ,$@) clang -std=gnu11 $(CPPFLAGS_ALL) $(WARN) $(FUZZ_FLAGS) -o $@ $(FUZZ_SRC)

setup:
	$(Q)scripts/setup

setup-test:
	$(Q)scripts/setup test

# The set-up comes first even under -j.
demo: setup
	$(Q)$(MAKE) --no-print-directory all
	$(Q)scripts/demo

setup-vm:
	$(Q)scripts/setup vm

# In virtual machines: what the kernel module is tested by, on each of the kernels.
VM_KERNELS := 6.1 6.12
VM_STYLE = 'selftests/vm/style_test.sh $(VM_KERNELS)' selftests/vm/kselftest_test.sh \
	selftests/vm/harness_test.sh
VM_TESTS = [ $(VM_KERNELS:%='selftests/vm/on %') $(VM_KERNELS:%='selftests/vm/cost_test.sh %') ]

# Two at a time, for they share nothing, and go by no clock.
BESIDE := $(UNIT_BIN) $(patsubst %,selftests/netns/%_test.py,corpus diff_edit diff_large flow \
	life life_kill new owner server server_kill server_table users vlan) \
	selftests/fuzz/fuzz_test $(UNIT_BIN:$(B)/%=$(B)/asan/%)

# For another make, where this one was not told.
JOBS = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

test: setup-vm
	$(Q)$(MAKE) --no-print-directory $(JOBS) tests asan $(B)/fuzz/blob_fuzz
	$(Q)selftests/run -t 900 [ $(VM_STYLE) $(BESIDE) ] \
		$(filter-out $(BESIDE),$(TEST_BIN) $(TEST_PY)) $(VM_TESTS)

test-vm: setup-vm
	$(Q)$(MAKE) --no-print-directory $(JOBS) tests
	$(Q)selftests/run [ $(VM_STYLE) ] $(VM_TESTS)

# All kernels, with the whole of the corpus: hours.
test-matrix: setup-vm
	$(Q)$(MAKE) --no-print-directory $(JOBS) tests
	$(Q)selftests/run -t 36000 $(shell sed "s|.*|'selftests/vm/cost_test.sh &' 'selftests/vm/on & full'|" scripts/matrix)

# Installation and the packages; in a VM: DKMS, and the change-over between ip_tables and the module.
test-package: setup-vm deb
	$(Q)selftests/run selftests/package/install_test.py selftests/package/deb_test.py
	$(Q)for k in 6.1 6.12; do \
		selftests/package/chroot $$k selftests/package/make_test.py && selftests/package/on $$k || exit; \
	done

bench: setup-test
	$(Q)$(MAKE) --no-print-directory all $(B)/test/bench/lookup
	$(Q)selftests/bench/bench.py $(if $(QUICK),--quick)

INSTALL_ENV := PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' VERSION='$(VERSION)' B='$(B)'

install: all
	$(Q)$(INSTALL_ENV) package/install put

uninstall:
	$(Q)$(INSTALL_ENV) package/install remove

setup-deb:
	$(Q)scripts/setup deb

# The packages, in build/deb; from a copy, for debhelper builds in the tree.
deb: setup-deb
	$(Q)package/deb '$(B)/deb'

clean:
	rm -rf $(B)

help:
	@echo "make            build xtjit, xtjitd and libxtjit-shim.so below build/"
	@echo "make demo       a stock iptables script, enforced by eBPF, shown working (root)"
	@echo "make test       everything that can be tested on this machine (root)"
	@echo "make test-vm    the kernel module, in virtual machines (root); half an hour"
	@echo "make test-matrix  the same on every kernel of scripts/matrix, with the whole corpus: two hours"
	@echo "make test-package  the Debian packages, and the way to the module and back, in VMs"
	@echo "make bench      speed next to ip_tables, nftables, ipset; QUICK=1: in three minutes (root)"
	@echo "make install    to PREFIX [$(PREFIX)] below DESTDIR; make uninstall: the reverse"
	@echo "make deb        Debian packages xtjit and xtjit-dkms, in build/deb"
	@echo "make asan       the unit tests with the sanitizers"
	@echo "make setup      install what is missing, by package; demo and test do so themselves"
	@echo "make clean      remove build/"
	@echo "V=1 shows the commands."

-include $(shell find $(B)/obj $(B)/pic $(B)/test $(B)/asan -type f -name '*.d' 2>/dev/null)

.PHONY: all tests asan setup setup-test setup-vm setup-deb demo test test-vm test-matrix test-package bench install uninstall deb clean help
