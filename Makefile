# SPDX-License-Identifier: GPL-2.0
# Front door: `make help`.

PREFIX ?= /usr/local
DESTDIR ?=
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

clean:
	rm -rf $(B)

-include $(shell find $(B) -name '*.d' 2>/dev/null)

.PHONY: all clean
