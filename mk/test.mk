# SPDX-License-Identifier: GPL-3.0-or-later
# What the tests are built from and how they run. Every program speaks TAP (or only exits with 0 or not):
#   tests/unit/test_*.c   one cmocka program each; other files there are linked into all of them
#   tests/tools/*.c       one small program each, for the tests in tests/cli
#   tests/model/*.c       together build/tests/model_test, with --sample or --all
#   tests/crash/*.c       together build/tests/crash_test, with --sample or --all
#   tests/mutate/*.c      together build/tests/mutate_test, with --sample or --all
#   tests/preload/*.c     one library each, for LD_PRELOAD into a program: without our flags, sanitizers among them
#   tests/common/*.c      linked into every one of them
#   tests/cli/*.t         black-box tests of the tool
# scripts/run-test runs one of them with a time limit; scripts/check-summary prints the closing line.

UNIT_SRC := $(sort $(wildcard tests/unit/test_*.c))
UNIT_HELP := $(filter-out $(UNIT_SRC),$(sort $(wildcard tests/unit/*.c)))
COMMON_SRC := $(sort $(wildcard tests/common/*.c))
MODEL_SRC := $(sort $(wildcard tests/model/*.c))
CRASH_SRC := $(sort $(wildcard tests/crash/*.c))
MUTATE_SRC := $(sort $(wildcard tests/mutate/*.c))
TOOL_SRC := $(sort $(wildcard tests/tools/*.c))
CLI_TESTS := $(sort $(wildcard tests/cli/*.t))

UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$B/tests/unit/%)
TOOL_BIN := $(TOOL_SRC:tests/tools/%.c=$B/tests/tools/%)
BIG_BIN := $(if $(CRASH_SRC),$B/tests/crash_test) $(if $(MODEL_SRC),$B/tests/model_test)
MUTATE_BIN := $(if $(MUTATE_SRC),$B/tests/mutate_test)
TEST_BIN := $(UNIT_BIN) $(BIG_BIN) $(MUTATE_BIN) $(TOOL_BIN) $B/tests/killed_at.so

# The tests link the engine with IMG_DEBUG: its assertions, and the points at which a test can hold a thread. Flavours
# other than the usual one have it anyway.
TEST_ENGINE := $B/libimg$(if $(FLAVOUR),,-debug).a
TEST_LIBS := $(FS_LIBS) $(TOOL_LIBS) -lcmocka

$B/obj-debug/%.o: %.c $B/flags
	$(call say,CC)
	$(call compile,-DIMG_DEBUG -Ilibimg)
$B/libimg-debug.a: $(LIB_SRC:%.c=$B/obj-debug/%.o)
	$(call say,AR)
	$(archive)

$B/obj/tests/%.o: tests/%.c $B/flags
	$(call say,CC)
	$(call compile,-DIMG_DEBUG -Ilibimg -Itests -I.)
$B/tests/unit/%: $B/obj/tests/unit/%.o $(call objects,$(UNIT_HELP) $(COMMON_SRC)) $B/libfs.a $(TEST_ENGINE)
	$(call say,LD)
	$(call link,,$(TEST_LIBS))
# Parts of the tool that have a test of their own.
$B/tests/unit/test_copy_writer: $(call objects,cmd/copy_writer.c cmd/beneath.c cmd/chute.c cmd/report.c cmd/names.c cmd/allocate.c)
$B/tests/unit/test_sandbox: $(call objects,cmd/sandbox.c cmd/report.c cmd/names.c cmd/allocate.c)
$B/tests/tools/%: $B/obj/tests/tools/%.o $(call objects,$(COMMON_SRC)) $B/libfs.a $(TEST_ENGINE)
	$(call say,LD)
	$(call link,,$(TEST_LIBS))
$B/tests/model_test: $(call objects,$(MODEL_SRC) $(COMMON_SRC)) $(TEST_ENGINE)
	$(call say,LD)
	$(call link,,$(TEST_LIBS))
$B/tests/mutate_test: $(call objects,$(MUTATE_SRC) $(COMMON_SRC)) $B/libfs.a $(TEST_ENGINE)
	$(call say,LD)
	$(call link,,$(TEST_LIBS))
# What the crash test takes the place of, or looks into: it defines __wrap_NAME.
WRAPPED := $(patsubst __wrap_%,-Wl$(,)--wrap=%,$(shell grep -oh '__wrap_[a-z0-9_]*' /dev/null $(CRASH_SRC) | sort -u))
$B/tests/%.so: tests/preload/%.c
	$(call say,LD)
	$Q mkdir -p $(@D) && $(CC) -std=gnu11 -D_GNU_SOURCE -O2 $(WARN) -shared -fPIC $< -o $@
$B/tests/crash_test: $(call objects,$(CRASH_SRC) $(COMMON_SRC)) $(TEST_ENGINE) | $B/tests/qemu_img_again.so
	$(call say,LD)
	$(call link,,$(WRAPPED) $(TEST_LIBS))

# Objects are kept between runs although only patterns name them.
.SECONDARY:

test-programs: all $(TEST_BIN)

# The longest first, so that they run beside the others. Under tsan only what runs threads inside one process; under asan
# not what is long because it starts the tool some hundred times to do the same.
LONG_CLI := tests/cli/measure.t tests/cli/kill.t tests/cli/mutations.t
TESTS ?= $(BIG_BIN) $(filter-out $(if $(filter tsan,$(FLAVOUR)),$(GUEST_BIN)),$(MUTATE_BIN) $(UNIT_BIN)) \
    $(if $(filter tsan,$(FLAVOUR)),,$(filter-out $(if $(filter asan,$(FLAVOUR)),$(LONG_CLI)),$(CLI_TESTS)))
# Tests of guests' filesystems and volumes: all in one thread.
GUEST_BIN = $(patsubst %,$B/tests/unit/test_%,copy_writer ext_cuts ext_order fat fat_write fuzz_ext fuzz_guest inspect \
    late ntfs overlay packages sandbox volumes xfs) $(MUTATE_BIN)
# Seconds that one program may take.
TEST_TIMEOUT ?= $(if $(FLAVOUR),1800,560)

run_tests = @mkdir -p $B/results && rm -rf $B/results/*; \
	export IMG_BUILD='$(abspath $B)' TEST_TIMEOUT=$(TEST_TIMEOUT); bad=0; \
	prove --jobs $$((2 * $$(nproc))) --timer --exec scripts/run-test $1 || bad=1; \
	scripts/check-summary $B/results && exit $$bad

check:
	@scripts/deps build check
	@$(MAKE) --no-print-directory $(JOBS) test-programs
	@$(MAKE) --no-print-directory run-tests
run-tests:
	$(call run_tests,$(TESTS))

asan tsan:
	@$(MAKE) --no-print-directory FLAVOUR=$@ check

# Hours of work, if need be: their own limits.
soak: TEST_TIMEOUT = 14400
soak: export TEST_MODE = --all
soak:
	@scripts/deps build check
	@$(MAKE) --no-print-directory $(JOBS) $B/tests/model_test
	$(call run_tests,$B/tests/model_test)

# Every cipher, mode and hash against qemu-img and cryptsetup.
crypto-matrix: TEST_TIMEOUT = 14400
crypto-matrix: export CRYPTO_MATRIX = all
crypto-matrix:
	@scripts/deps build check
	@$(MAKE) --no-print-directory $(JOBS) all
	$(call run_tests,tests/cli/encrypt.t)

# Every kind of ext filesystem with large trees.
ext-matrix: TEST_TIMEOUT = 14400
ext-matrix: export EXT_MATRIX = all
ext-matrix:
	@scripts/deps build check
	@$(MAKE) --no-print-directory $(JOBS) test-programs
	$(call run_tests,tests/cli/ext.t)

# Many moments at which the power failed while ext and XFS were written, each as the kernel shows it after recovery.
guest-crashes: TEST_TIMEOUT = 14400
guest-crashes: export GUEST_CRASHES = all
guest-crashes:
	@scripts/deps build check
	@$(MAKE) --no-print-directory $(JOBS) test-programs
	$(call run_tests,tests/cli/guest-crashes.t)

# All that changes an image, killed at each of its writes.
kill: TEST_TIMEOUT = 14400
kill: export KILLS = all
kill:
	@scripts/deps build check
	@$(MAKE) --no-print-directory $(JOBS) all $B/tests/killed_at.so
	$(call run_tests,tests/cli/kill.t)

crash: TEST_TIMEOUT = 14400
crash: export TEST_MODE = --all
crash:
	@scripts/deps build check
	@$(MAKE) --no-print-directory $(JOBS) test-programs
	$(call run_tests,$B/tests/crash_test $(wildcard tests/mutants/run))

# Every kind of XFS with large trees.
xfs-matrix: TEST_TIMEOUT = 14400
xfs-matrix: export XFS_MATRIX = all
xfs-matrix:
	@scripts/deps build check
	@$(MAKE) --no-print-directory $(JOBS) all $B/tests/tools/fsdump
	$(call run_tests,tests/cli/xfs.t)

# Thousands of changed disks of each type under AddressSanitizer, and some hundred through the tool.
mutations: TEST_TIMEOUT = 14400
mutations: export TEST_MODE = --all
mutations: export MUTATIONS = 40
mutations:
	@scripts/deps build check
	@$(MAKE) --no-print-directory FLAVOUR=asan $(JOBS) build/asan/tests/mutate_test
	@$(MAKE) --no-print-directory $(JOBS) all build/tests/mutate_test
	$(call run_tests,build/asan/tests/mutate_test tests/cli/mutations.t)

# What real tools and kernels make of every kind of filesystem and volume, read whole: large trees on all kinds of ext, XFS,
# FAT and NTFS, volumes of every kind, and the layouts of common systems, which Debian's kernel makes in an emulated
# machine (tests/tcg). What is caught in the middle of a change is guest-crashes'.
GUEST_TESTS := $(patsubst %,tests/cli/%.t,ext xfs fat ntfs volumes lvm md luks inspect)
guest-matrix: TEST_TIMEOUT = 14400
guest-matrix: export EXT_MATRIX = all
guest-matrix: export XFS_MATRIX = all
guest-matrix: export FAT_MATRIX = all
guest-matrix: export NTFS_MATRIX = all
guest-matrix:
	@scripts/deps build check guest
	@$(MAKE) --no-print-directory $(JOBS) all $B/tests/tools/fsdump $B/tests/tools/volumes
	$(call run_tests,tests/tcg/matrix.t $(GUEST_TESTS))

.PHONY: check run-tests test-programs asan tsan soak crash crypto-matrix ext-matrix xfs-matrix guest-crashes kill mutations guest-matrix
