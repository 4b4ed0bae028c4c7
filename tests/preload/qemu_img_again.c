/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qemu_img_again.c - one `qemu-img check` that goes on checking the same path, for a test with very many images.
 *
 * Starting qemu-img costs far more than what it then does. Preloaded, this lets its main() check the image that the
 * command line names, and then makes the calls of that command again, by the program's own exported functions (they are
 * there for its block driver modules), each time a byte comes in on descriptor 3. Each check is answered there with
 * one byte: 'g' no corruption and no error (leaks are none), 'b' anything else. It ends with the conversation, or at
 * once when the program has no such functions.
 *
 * The caller asks a fresh qemu-img about everything that is not 'g', so what it says of a bad image is its own words.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

enum { CONVERSATION = 3, UNMAP = 0x4000, CHECK = 0x1000 }; /* BDRV_O_UNMAP | BDRV_O_CHECK, as the command has them */

typedef int main_function(int, char **, char **);
typedef int start_function(main_function *, int, char **, void (*)(void), void (*)(void), void (*)(void), void *);

static struct {
    main_function *main;
    void *(*qdict_new)(void);
    void (*qdict_put_str)(void *qdict, const char *key, const char *value);
    void *(*blk_new_open)(const char *filename, const char *reference, void *options, int flags, void **error);
    void *(*blk_bs)(void *blk);
    int (*bdrv_check)(void *bs, void *result, int fix);
    void (*blk_unref)(void *blk);
} qemu;

/* BdrvCheckResult begins with these; the rest is of no interest but needs room. */
struct check_result {
    int corruptions, leaks, check_errors;
    uint8_t rest[512];
};

static char check_again(const char *path) {
    void *error = NULL, *options = qemu.qdict_new();
    qemu.qdict_put_str(options, "driver", "qcow2");
    void *blk = qemu.blk_new_open(path, NULL, options, UNMAP | CHECK, &error);
    if (!blk)
        exit(1);
    struct check_result result = {0};
    int rc = qemu.bdrv_check(qemu.blk_bs(blk), &result, 0);
    qemu.blk_unref(blk);
    return rc == 0 && result.corruptions == 0 && result.check_errors == 0 ? 'g' : 'b';
}

/* qemu-img check -f qcow2 PATH */
static int converse(int argc, char **argv, char **environment) {
    const char *path = argv[argc - 1];
    char *copy[] = {argv[0], argv[1], argv[2], argv[3], argv[4], NULL};
    int status = qemu.main(argc, copy, environment);
    char answer = status == 0 || status == 3 ? 'g' : 'b', request;
    while (write(CONVERSATION, &answer, 1) == 1 && read(CONVERSATION, &request, 1) == 1)
        answer = check_again(path);
    return 0;
}

static void *of_qemu(const char *name) {
    void *found = dlsym(RTLD_DEFAULT, name);
    if (!found)
        _exit(1);
    return found;
}

int __libc_start_main(main_function *program, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*loader)(void), void *stack_end);
int __libc_start_main(main_function *program, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*loader)(void), void *stack_end) {
    start_function *start;
    *(void **)&start = dlsym(RTLD_NEXT, "__libc_start_main");
    if (argc != 5)
        _exit(1);
    qemu.main = program;
    *(void **)&qemu.qdict_new = of_qemu("qdict_new");
    *(void **)&qemu.qdict_put_str = of_qemu("qdict_put_str");
    *(void **)&qemu.blk_new_open = of_qemu("blk_new_open");
    *(void **)&qemu.blk_bs = of_qemu("blk_bs");
    *(void **)&qemu.bdrv_check = of_qemu("bdrv_check");
    *(void **)&qemu.blk_unref = of_qemu("blk_unref");
    return start(converse, argc, argv, init, fini, loader, stack_end);
}
