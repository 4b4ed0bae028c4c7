/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a taken-over reader could send to the process that makes files: names that lead out, links through symbolic
 * links, records that are none. Nothing may be made outside of the target, and all must end. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cmd/copy_records.h"
#include "cmd/copy_writer.h"

static char folder[] = "/tmp/img-copy-writer.XXXXXX";

struct wish {
    enum copy_kind kind;
    const char *payload;
    size_t length;
    struct copy_record more;
};
#define NAMED(kind, text, ...)                                                                                         \
    (struct wish) {                                                                                                    \
        kind, text, sizeof(text) - 1, {                                                                                \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }

static void send_one(struct chute *chute, const struct wish *wish) {
    struct copy_record *record = chute_reserve(chute, sizeof(*record) + wish->length);
    if (!record)
        return;
    *record = wish->more;
    record->kind = wish->kind;
    record->length = (uint32_t)wish->length;
    memcpy(record + 1, wish->payload, wish->length);
    chute_commit(chute, sizeof(*record) + wish->length);
}

/* Another process sends them, this one makes what they ask for below `folder`/target. */
static bool play(const struct wish *wishes, size_t count) {
    struct chute *chute = chute_create();
    pid_t child = fork();
    if (child == 0) {
        chute_be_sender(chute);
        for (size_t i = 0; i < count; i++)
            send_one(chute, &wishes[i]);
        chute_flush(chute);
        _exit(0);
    }
    chute_be_receiver(chute);
    char path[64];
    snprintf(path, sizeof(path), "%s/target", folder);
    int top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(top >= 0);
    bool good = make_host_files(chute, top);
    close(top);
    chute_close(chute);
    waitpid(child, NULL, 0);
    return good;
}
#define PLAY(...)                                                                                                      \
    play((const struct wish[]){__VA_ARGS__}, sizeof((const struct wish[]){__VA_ARGS__}) / sizeof(struct wish))

#define FILE_OF(name) NAMED(COPY_FILE, name), REST
#define REST NAMED(COPY_OWNER, "", .mode = 0644), NAMED(COPY_END, "")
#define DONE NAMED(COPY_DONE, "")

static bool exists(const char *name) {
    char path[128];
    struct stat stat;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return lstat(path, &stat) == 0;
}

static int set_up(void **state) {
    (void)state;
    char command[256];
    snprintf(command, sizeof(command), "rm -rf %s/* && mkdir %s/target %s/outside", folder, folder, folder);
    return system(command); /* NOLINT(cert-env33-c) */
}

static void makes_what_is_right(void **state) {
    (void)state;
    assert_true(PLAY(NAMED(COPY_DIRECTORY, "d"), NAMED(COPY_FILE, "f", .number = 1), NAMED(COPY_DATA, "bytes"),
                     NAMED(COPY_OWNER, "", .mode = 0644, .number = 5), NAMED(COPY_END, ""), NAMED(COPY_HARDLINK, "g"),
                     NAMED(COPY_UP, ""), NAMED(COPY_OWNER, "", .mode = 0755), NAMED(COPY_END, ""), DONE));
    assert_true(exists("target/d/f") && exists("target/d/g"));
}

static void names_lead_nowhere(void **state) {
    (void)state;
    static const char *const names[] = {"..", ".", "", "a/b", "../outside/x", "/etc/img-x"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct wish file = {COPY_FILE, names[i], strlen(names[i]), {0}};
        const struct wish directory = {COPY_DIRECTORY, names[i], strlen(names[i]), {0}};
        const struct wish node = {COPY_NODE, names[i], strlen(names[i]), {.mode = S_IFIFO}};
        assert_false(PLAY(file, REST, DONE));
        assert_false(PLAY(node, REST, DONE));
        assert_false(PLAY(directory, FILE_OF("below"), NAMED(COPY_UP, ""), REST, FILE_OF("behind"), DONE));
        assert_true(exists("target/behind"));
        assert_false(exists("below") || exists("target/below") || exists("outside/x"));
    }
    assert_false(PLAY(NAMED(COPY_FILE, "a\0b"), REST, DONE));
    assert_false(PLAY(NAMED(COPY_SYMLINK, "a"), REST, DONE));
}

static void links_are_not_followed(void **state) {
    (void)state;
    assert_true(PLAY(NAMED(COPY_SYMLINK, "s\0../outside"), REST, NAMED(COPY_DIRECTORY, "s"), FILE_OF("x"),
                     NAMED(COPY_UP, ""), REST, DONE));
    assert_false(exists("outside/x"));
    assert_true(exists("target/s/x")); /* the directory took the link's place */
    assert_true(PLAY(NAMED(COPY_SYMLINK, "t\0../outside/y"), REST, NAMED(COPY_FILE, "t"), NAMED(COPY_DATA, "data"),
                     REST, DONE));
    assert_false(exists("outside/y"));
}

static void the_way_up_ends_at_the_top(void **state) {
    (void)state;
    assert_false(PLAY(NAMED(COPY_UP, ""), REST, FILE_OF("x"), DONE));
    assert_false(
        PLAY(NAMED(COPY_DIRECTORY, "d"), NAMED(COPY_UP, ""), REST, NAMED(COPY_UP, ""), REST, FILE_OF("x"), DONE));
    assert_false(exists("x") || exists("target/x"));
}

static void links_are_to_files_that_were_made(void **state) {
    (void)state;
    assert_false(PLAY(NAMED(COPY_HARDLINK, "h", .number = 0), DONE));
    assert_false(PLAY(NAMED(COPY_FILE, "f", .number = 1), REST, NAMED(COPY_HARDLINK, "h", .number = UINT64_MAX), DONE));
    /* the folder of the file that is linked has become a link to the outside */
    assert_false(PLAY(NAMED(COPY_DIRECTORY, "d"), NAMED(COPY_FILE, "f", .number = 1), REST, NAMED(COPY_DROP, ""),
                      NAMED(COPY_UP, ""), REST, NAMED(COPY_HARDLINK, "h", .number = 0),
                      NAMED(COPY_HARDLINK, "i", .number = 1), DONE));
    assert_false(exists("target/i"));
}

static void nonsense_ends_it(void **state) {
    (void)state;
    assert_false(PLAY(NAMED((enum copy_kind)0, ""), FILE_OF("x"), DONE));
    assert_false(PLAY(NAMED((enum copy_kind)99, ""), FILE_OF("x"), DONE));
    assert_false(PLAY(NAMED(COPY_NODE, "n", .mode = S_IFREG | 04755), REST, FILE_OF("x"), DONE));
    assert_false(PLAY(NAMED(COPY_FILE, "f"), NAMED(COPY_DATA, "data", .number = UINT64_MAX - 1), FILE_OF("x"), DONE));
    assert_false(PLAY(NAMED(COPY_FILE, "f"), FILE_OF("x"), DONE));
    assert_false(PLAY(NAMED(COPY_FILE, "f"), NAMED(COPY_XATTR, "user.without-end"), FILE_OF("x"), DONE));
    assert_false(exists("target/x") || exists("target/n"));
    assert_false(PLAY(FILE_OF("y"))); /* no DONE */
    assert_true(exists("target/y"));
    /* attributes of nothing, and an end of nothing, are nothing */
    assert_true(PLAY(REST, NAMED(COPY_XATTR, "user.x\0y"), NAMED(COPY_DATA, "data"), DONE));
}

/* Bytes that no record of ours begins with, from many seeds. */
static void noise_is_survived(void **state) {
    (void)state;
    unsigned seed = 1;
    for (int round = 0; round < 300; round++) {
        struct wish wishes[12];
        static char noise[4096];
        for (size_t i = 0; i < sizeof(noise); i++)
            noise[i] = (char)(rand_r(&seed) >> 7);
        for (size_t i = 0; i < 12; i++) {
            wishes[i] = (struct wish){.kind = (enum copy_kind)(1 + rand_r(&seed) % 12),
                                      .payload = rand_r(&seed) % 2 ? "ab\0cd" : noise,
                                      .length = (size_t)(rand_r(&seed) % 6)};
            wishes[i].more.number = (uint64_t)(rand_r(&seed) % 3);
            wishes[i].more.mode = rand_r(&seed) % 2 ? S_IFIFO | 0600 : 0600;
        }
        play(wishes, 12);
    }
    assert_false(exists("ab") || exists("a"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(makes_what_is_right, set_up),
        cmocka_unit_test_setup(names_lead_nowhere, set_up),
        cmocka_unit_test_setup(links_are_not_followed, set_up),
        cmocka_unit_test_setup(the_way_up_ends_at_the_top, set_up),
        cmocka_unit_test_setup(links_are_to_files_that_were_made, set_up),
        cmocka_unit_test_setup(nonsense_ends_it, set_up),
        cmocka_unit_test_setup(noise_is_survived, set_up),
    };
    signal(SIGPIPE, SIG_IGN);
    if (!mkdtemp(folder) || !freopen("/dev/null", "w", stderr))
        return EXIT_FAILURE;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[64];
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command) || failed; /* NOLINT(cert-env33-c) */
}
