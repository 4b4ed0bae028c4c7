# SPDX-License-Identifier: GPL-3.0-or-later
# Everything built goes under build/. `make` builds, `make demo` shows the main job, `make check` passes the tests;
# `make help` names the rest. Sources are found by wildcard, so a new file needs no line here.
# FLAVOUR=asan|tsan|debug|fuzz builds a second tree under build/FLAVOUR with the same rules. A change of compiler or
# flags rebuilds the tree, a change of a header what includes it.

VERSION := 0.1.0
SOVERSION := 0

FLAVOUR ?=
B := build$(if $(FLAVOUR),/$(FLAVOUR))
PREFIX ?= /usr/local
DESTDIR ?=

ifeq ($(origin CC),default)
CC := $(if $(filter fuzz,$(FLAVOUR)),clang,gcc)
endif
WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
CFLAGS ?= -O2 -g
SANITIZE := -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all -DIMG_DEBUG
CFLAGS_asan := $(SANITIZE) -fsanitize=address,undefined
CFLAGS_tsan := $(SANITIZE) -fsanitize=thread
CFLAGS_fuzz := $(SANITIZE) -fsanitize=fuzzer-no-link,address,undefined
CFLAGS_debug := -O1 -g -DIMG_DEBUG
FLAGS = -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DIMG_VERSION='"$(VERSION)"' -pthread -Iinclude $(WARN) \
        $(if $(FLAVOUR),$(CFLAGS_$(FLAVOUR)),$(CFLAGS)) $(CPPFLAGS)
, := ,
# ISA-L where there is one, as libimg/codec/isal.h sees it; i386 has none.
ISAL := $(shell echo '\#include <isa-l/igzip_lib.h>' | $(CC) $(CPPFLAGS) -E - >/dev/null 2>&1 && echo -lisal)
LIBS := -lzstd $(ISAL) -ldeflate -lz -lcrypto -luring -pthread
TOOL_LIBS := -ljansson -lm
# What the guest's filesystems are read with: of fs/ alone, the library needs none of it. Three more libraries are loaded
# by who needs them (fs/late.h).
FS_LIBS := -Wl$(,)--as-needed -lext2fs -lcom_err -lntfs-3g -lseccomp -ljansson -lcrypto

LIB_SRC := $(sort $(wildcard libimg/*.c libimg/*/*.c))
FS_SRC := $(sort $(wildcard fs/*.c fs/*/*.c fs/*/*/*.c))
CMD_SRC := $(sort $(wildcard cmd/*.c cmd/*/*.c))

objects = $(patsubst %.c,$B/obj/%.o,$1)
LIB_OBJ := $(call objects,$(LIB_SRC))
FS_OBJ := $(call objects,$(FS_SRC))
CMD_OBJ := $(call objects,$(CMD_SRC))

all: $B/libimg.a $B/libimg.so $B/img

# `make V=1` shows the commands.
Q := $(if $(V),,@)
say = $(if $(V),,@echo '  $1	$@')
compile = $Q mkdir -p $(@D) && $(CC) $(FLAGS) $1 -MMD -MP -c $< -o $@
link = $Q mkdir -p $(@D) && $(CC) $(FLAGS) $(LDFLAGS) $1 $(filter %.o,$^) $(filter %.a,$^) $(LIBS) $2 -o $@
archive = $Q rm -f $@ && $(AR) rcs $@ $^

$B/obj/libimg/%.o: libimg/%.c $B/flags
	$(call say,CC)
	$(call compile,-fPIC -fvisibility=hidden -Ilibimg)
$B/obj/fs/%.o: fs/%.c $B/flags
	$(call say,CC)
	$(call compile,-Ifs)
$B/obj/cmd/%.o: cmd/%.c $B/flags
	$(call say,CC)
	$(call compile,-I. -isystem /usr/include/libxml2)

$B/obj/bench/%.o: bench/%.c $B/flags
	$(call say,CC)
	$(call compile)

$B/libimg.a: $(LIB_OBJ)
	$(call say,AR)
	$(archive)
$B/libimg.so: $(LIB_OBJ)
	$(call say,LD)
	$(call link,-shared -Wl$(,)-soname$(,)$(@F).$(SOVERSION))
	@ln -sf $(@F) $@.$(SOVERSION)
# Guest filesystems: a part of the tool.
$B/libfs.a: $(FS_OBJ)
	$(call say,AR)
	$(archive)
$B/img: $(CMD_OBJ) $B/libfs.a $B/libimg.a
	$(call say,LD)
	$(call link,,$(FS_LIBS) $(TOOL_LIBS))

$B/bench/%: $B/obj/bench/%.o $B/libimg.a
	$(call say,LD)
	$(call link)

# The compiler and its flags, rewritten only when they change.
$B/flags: FORCE
	@mkdir -p $(@D)
	@echo "$(CC) $(subst ",\",$(FLAGS))" | cmp -s - $@ || echo "$(CC) $(subst ",\",$(FLAGS))" > $@

include mk/test.mk mk/fuzz.mk mk/install.mk

-include $(shell find $B/obj $B/obj-debug -name '*.d' 2>/dev/null)

# Installs what is missing first, so its parts are built by a second make: without -j on all cores.
JOBS = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))

demo:
	@scripts/deps build demo
	@$(MAKE) --no-print-directory $(JOBS) all
	@scripts/demo $B/img

bench:
	@scripts/deps build bench
	@$(MAKE) --no-print-directory $(JOBS) all $B/bench/queue
	@bench/run --img $B/img $(BENCH)

lint:
	@scripts/deps build lint
	@scripts/lint

model:
	@scripts/deps model
	@tests/spin/run $(MODEL)

clean:
	rm -rf build

help:
	@echo 'make            build build/img, build/libimg.a, build/libimg.so'
	@echo 'make demo       the main job on a disk made of the files of this machine'
	@echo 'make check      all tests (a sample of the model and crash tests); TESTS="tests/cli/info.t ..." runs some'
	@echo 'make asan|tsan  the tests under AddressSanitizer and UBSan, or ThreadSanitizer'
	@echo 'make soak       every seed of the model test            make crash  every power-cut state and every mutant'
	@echo 'make crypto-matrix  every cipher, mode and hash against qemu-img and cryptsetup'
	@echo 'make ext-matrix|xfs-matrix  every kind of these filesystems, large trees, against the kernel'
	@echo 'make guest-crashes  ext and XFS after power cuts, against the kernel after its recovery'
	@echo 'make kill       all that changes an image, killed at each of its writes'
	@echo 'make mutations  10,000 changed filesystems, volumes and partition tables of each type, under AddressSanitizer'
	@echo 'make model      the SPIN models of the protocol          make fuzz   every fuzz target for TIME=20 seconds'
	@echo 'make bench      against qemu-img and fio, in turn              make lint   format, static analysis, house rules'
	@echo 'make install    DESTDIR= PREFIX=/usr/local               make uninstall, make clean'

FORCE:
.PHONY: all demo bench lint model clean help FORCE
