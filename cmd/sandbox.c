/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sandbox.c - see sandbox.h. Three walls, each of which would do: no path may be opened (Landlock), no system call
 * that is not on the list below (seccomp), no capability.
 *
 * A call that is not allowed fails with EPERM rather than ending the process, so that a C library which tries something
 * newer first falls back. Threads may be made (key derivation uses them), processes not.
 *
 * No call that takes a path reaches the kernel at all. Where the C library uses one for what has no path (fstat is a
 * newfstatat of ""), or a library for a file that is open already (libcryptsetup opens the copy of a LUKS header in
 * memory by its name in /proc), a signal is raised in its place, and its handler does what was meant with the
 * descriptor. The handler is a convenience and no part of the wall: it can do nothing that the filter forbids.
 */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "report.h"

/* The sanitizers look at /proc, make processes and trace them: under them there is no sandbox. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER true
#else
#define UNDER_SANITIZER false
#endif

static const int allowed[] = {
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(preadv),
    SCMP_SYS(pwritev),
    SCMP_SYS(preadv2),
    SCMP_SYS(pwritev2),
    SCMP_SYS(lseek),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(sync_file_range),
    SCMP_SYS(fallocate),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fadvise64),
    SCMP_SYS(fstat),
    SCMP_SYS(fstatfs),
    SCMP_SYS(close),
    SCMP_SYS(memfd_create),
    SCMP_SYS(dup),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(mlock),
    SCMP_SYS(munlock),
    SCMP_SYS(futex),
    SCMP_SYS(rseq),
    SCMP_SYS(membarrier),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(getrandom),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(getrusage),
    SCMP_SYS(sysinfo),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(uname),
    SCMP_SYS(wait4),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

/* Of fcntl; not among them is what has the kernel send signals (F_SETOWN, F_SETSIG). O_ASYNC by F_SETFL then means the
 * default: no owner, no signal. */
static const int allowed_of_fcntl[] = {
    F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD, F_DUPFD_CLOEXEC, F_GETLK, F_SETLK, F_OFD_GETLK, F_OFD_SETLK,
};

/* ---- calls with a path ---- */

#if defined(__x86_64__)
#define ARGUMENT_REGISTERS                                                                                             \
    { REG_RDI, REG_RSI, REG_RDX, REG_R10 }
#define REGISTER(context, number) (context)->uc_mcontext.gregs[number]
#define RESULT REG_RAX
#elif defined(__aarch64__)
#define ARGUMENT_REGISTERS                                                                                             \
    { 0, 1, 2, 3 }
#define REGISTER(context, number) (context)->uc_mcontext.regs[number]
#define RESULT 0
#endif

#ifdef RESULT

/* The descriptor that a path of the form /proc/self/fd/N is of; -1: it is another one. */
static int descriptor_of(const char *path) {
    static const char prefix[] = "/proc/self/fd/";
    int fd = 0;
    if (strncmp(path, prefix, strlen(prefix)) != 0)
        return -1;
    const char *digit = path + strlen(prefix);
    if (!*digit)
        return -1;
    for (; *digit; digit++)
        if (*digit < '0' || *digit > '9' || fd > 99999)
            return -1;
        else
            fd = 10 * fd + *digit - '0';
    return fd;
}

static long do_with_descriptor(int call, int dir, const char *path, long flags_of_stat, void *stat) {
    int fd = descriptor_of(path);
    if (call == SYS_newfstatat && *path == '\0' && flags_of_stat & AT_EMPTY_PATH)
        fd = dir;
    if (fd < 0)
        return -EPERM;
    long result = call == SYS_newfstatat ? syscall(SYS_fstat, fd, stat) : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return result < 0 ? -errno : result;
}

static void answer(int signal, siginfo_t *info, void *opaque) {
    static const int registers[] = ARGUMENT_REGISTERS;
    ucontext_t *context = opaque;
    int before = errno;
    (void)signal;
    long dir = (long)REGISTER(context, registers[0]), stat = (long)REGISTER(context, registers[2]),
         flags = (long)REGISTER(context, registers[3]);
    /* NOLINTBEGIN(performance-no-int-to-ptr): so the kernel's interface has them */
    const char *path = (const char *)REGISTER(context, registers[1]);
    REGISTER(context, RESULT) = do_with_descriptor(info->si_syscall, (int)dir, path, flags, (void *)stat);
    /* NOLINTEND(performance-no-int-to-ptr) */
    errno = before;
}

static int catch_paths(scmp_filter_ctx filter, bool paths_are_closed) {
    (void)paths_are_closed;
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
    int ret = sigaction(SIGSYS, &action, NULL) < 0 ? -errno : 0;
    if (ret == 0)
        ret = seccomp_rule_add(filter, SCMP_ACT_TRAP, SCMP_SYS(newfstatat), 0);
    return ret < 0 ? ret : seccomp_rule_add(filter, SCMP_ACT_TRAP, SCMP_SYS(openat), 0);
}

#else

/* Registers that are not known here: what has a path is left to Landlock. */
static int catch_paths(scmp_filter_ctx filter, bool paths_are_closed) {
    static const int calls[] = {SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(openat)};
    int ret = 0;
    for (size_t i = 0; ret == 0 && i < sizeof(calls) / sizeof(calls[0]) - !paths_are_closed; i++)
        ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
    return ret;
}

#endif

/* ---- the filter ---- */

/* Each adds a rule to the filter; an error is remembered in *ret. */
static void allow(scmp_filter_ctx filter, int *ret, int call) {
    if (*ret == 0)
        *ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0);
}

static void allow_if(scmp_filter_ctx filter, int *ret, int call, struct scmp_arg_cmp argument) {
    if (*ret == 0)
        *ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1, argument);
}

static int filter_calls(bool paths_are_closed) {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int ret = filter ? 0 : -ENOMEM;
    /* a tree of calls, not a list: a third faster to make, and to load */
    if (ret == 0)
        ret = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
        allow(filter, &ret, allowed[i]);
    /* memory, but no code */
    allow_if(filter, &ret, SCMP_SYS(mmap), SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    allow_if(filter, &ret, SCMP_SYS(mprotect), SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    /* threads, but no processes; what wants clone3 learns that there is only clone */
    allow_if(filter, &ret, SCMP_SYS(clone), SCMP_A0_64(SCMP_CMP_MASKED_EQ, 0x10000 /* CLONE_THREAD */, 0x10000));
    if (ret == 0)
        ret = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    /* is it a terminal, and how wide? */
    allow_if(filter, &ret, SCMP_SYS(ioctl), SCMP_A1_32(SCMP_CMP_EQ, TCGETS, 0));
    allow_if(filter, &ret, SCMP_SYS(ioctl), SCMP_A1_32(SCMP_CMP_EQ, TIOCGWINSZ, 0));
    for (size_t i = 0; i < sizeof(allowed_of_fcntl) / sizeof(allowed_of_fcntl[0]); i++)
        allow_if(filter, &ret, SCMP_SYS(fcntl), SCMP_A1_32(SCMP_CMP_EQ, (unsigned)allowed_of_fcntl[i], 0));
    if (ret == 0)
        ret = catch_paths(filter, paths_are_closed);
    if (ret == 0)
        ret = seccomp_load(filter);
    seccomp_release(filter);
    return ret;
}

/* No path may be opened, made or changed any more; true where the kernel can do that. */
static bool close_paths(void) {
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 1)
        return false;
    /* What headers of today call everything; a newer kernel's further rights (truncate, ioctl) need an open file. */
    struct landlock_ruleset_attr rules = {.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
    int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);
    if (fd < 0)
        return false;
    bool closed = syscall(SYS_landlock_restrict_self, fd, 0) == 0;
    close(fd);
    return closed;
}

static void drop_capabilities(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    syscall(SYS_capset, &header, none);
}

bool sandbox_enter(void) {
    static const struct rlimit none = {0};
    if (UNDER_SANITIZER)
        return true;
    tzset(); /* the zone's file is read now */
    setrlimit(RLIMIT_CORE, &none);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        report("The sandbox cannot be entered: %s (--sandbox=off does without)", strerror(errno));
        return false;
    }
    bool closed = close_paths();
    drop_capabilities();
    int ret = filter_calls(closed);
    if (ret == 0)
        return true;
    report("The sandbox cannot be entered: %s (--sandbox=off does without)", strerror(-ret));
    return false;
}
