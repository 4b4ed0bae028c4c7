# SPDX-License-Identifier: GPL-3.0-or-later
# libFuzzer targets: fuzz/fuzz_NAME.c, its kept corpus fuzz/corpus/NAME/ and its words fuzz/NAME.dict.
# They are built with clang in a tree of their own (FLAVOUR=fuzz), engine included.
#   make fuzz TIME=20            every target for 20 seconds
#   make fuzz TIME=600 ONLY=image
# What is found goes to build/fuzz/found/NAME-*, new inputs to build/fuzz/corpus/NAME.

TIME ?= 20
FUZZ_NAMES := $(patsubst fuzz/fuzz_%.c,%,$(sort $(wildcard fuzz/fuzz_*.c)))
FUZZ_HELP := $(filter-out $(wildcard fuzz/fuzz_*.c),$(sort $(wildcard fuzz/*.c)))
FUZZ_BIN := $(FUZZ_NAMES:%=$B/fuzz_%)

$B/fuzz_%: $B/obj/fuzz/fuzz_%.o $(call objects,$(FUZZ_HELP)) $B/libimg.a
	$(call say,LD)
	$(call link,-fsanitize=fuzzer)
# The names of images are the tool's.
$B/fuzz_nodes: $B/obj/fuzz/fuzz_nodes.o \
    $(call objects,$(FUZZ_HELP) $(addprefix cmd/,allocate.c nodes.c pairs.c option_list.c secret.c json.c report.c size.c names.c)) $B/libimg.a
	$(call say,LD)
	$(call link,-fsanitize=fuzzer,$(TOOL_LIBS))
# What reads guests.
GUEST_FUZZ := $(addprefix $B/fuzz_,ext fat ntfs release volumes xfs)
$(GUEST_FUZZ): $B/fuzz_%: $B/obj/fuzz/fuzz_%.o $(call objects,$(FUZZ_HELP) fuzz/guest/walk.c) $B/libfs.a $B/libimg.a
	$(call say,LD)
	$(call link,-fsanitize=fuzzer,$(FS_LIBS))
$B/obj/fuzz/%.o: fuzz/%.c $B/flags
	$(call say,CC)
	$(call compile,-Ilibimg -I.)

fuzz-programs: $(FUZZ_BIN)

fuzz:
	@scripts/deps build fuzz
	@$(MAKE) --no-print-directory FLAVOUR=fuzz $(JOBS) fuzz-programs
	@scripts/fuzz build/fuzz $(TIME) $(or $(ONLY),$(FUZZ_NAMES))

.PHONY: fuzz fuzz-programs
