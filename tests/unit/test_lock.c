/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_lock.c - image locks, against ourselves, against qemu-img and qemu-io, and as the kernel tells them.
 *
 * The peer is the judge: what it refuses while we hold an image, and what we must refuse while it does.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scratch.h"

extern char **environ;

static char *image;

static int make_image(void **state) {
    (void)state;
    image = scratch_file("locked.img", "data", 4, 1 << 20);
    return 0;
}

static int remove_image(void **state) {
    (void)state;
    free(image);
    return 0;
}

static bool have_qemu(void) {
    return system("command -v qemu-img >/dev/null && command -v qemu-io >/dev/null") == 0;
}

static void need_qemu(void) {
    if (!have_qemu()) {
        print_message("qemu-utils is not installed\n");
        skip();
    }
}

static int try_open(uint32_t flags, struct img_error *error) {
    struct storage *s;
    struct img_error own;
    int r = file_open(image, flags, IMG_CACHE_WRITEBACK, &s, error != NULL ? error : &own);
    if (r == 0)
        storage_close(s);
    return r;
}

/* The locked bytes of the image, as the kernel tells somebody who would lock each of them: "100 101 103 201 203". (Not
 * from /proc/locks: a list that others change while it is read leaves lines out.) */
static const char *listed_bytes(void) {
    static char text[256];
    int fd = open(image, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    text[0] = '\0';
    for (int b = 0; b < 256; b++) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = b, .l_len = 1};
        assert_int_equal(fcntl(fd, F_OFD_GETLK, &lock), 0);
        if (lock.l_type == F_RDLCK)
            snprintf(text + strlen(text), sizeof text - strlen(text), text[0] ? " %d" : "%d", b);
    }
    close(fd);
    return text;
}

static void each_mode_locks_its_bytes(void **state) {
    (void)state;
    static const struct {
        uint32_t flags;
        const char *bytes;
    } modes[] = {
        {IMG_OPEN_WRITE, "100 101 103 201 203"},  {0, "100 201 203"},
        {IMG_OPEN_INFO, "100 201 203"},           {IMG_OPEN_FORCE_SHARE, "100"},
        {IMG_OPEN_UNLOCKED | IMG_OPEN_WRITE, ""},
    };
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        struct storage *s = open_storage(image, modes[i].flags, IMG_CACHE_WRITEBACK);
        assert_string_equal(listed_bytes(), modes[i].bytes);
        storage_close(s);
        assert_string_equal(listed_bytes(), "");
    }
}

static void creator_locks_its_bytes(void **state) {
    (void)state;
    char *path = scratch_path("new.img"), *kept = image;
    struct storage *s;
    struct img_error error;
    assert_int_equal(file_create(path, IMG_CACHE_WRITEBACK, &s, &error), 0);
    image = path;
    assert_string_equal(listed_bytes(), "101 103 203");
    assert_int_equal(try_open(0, NULL), -EAGAIN);
    storage_close(s);
    assert_int_equal(try_open(IMG_OPEN_WRITE, NULL), 0);
    assert_int_equal(file_create(path, IMG_CACHE_WRITEBACK, &s, &error), -EEXIST);
    image = kept;
    unlink(path);
    free(path);
}

/* Every mode beside every other, each opened by its own description in this process. */
static void modes_conflict_as_they_should(void **state) {
    (void)state;
    static const uint32_t flags[] = {IMG_OPEN_WRITE, 0, IMG_OPEN_FORCE_SHARE, IMG_OPEN_WRITE | IMG_OPEN_UNLOCKED};
    static const char allowed[4][5] = {"..yy", ".yyy", "yyyy", "yyyy"}; /* holder, then who comes */
    for (int holder = 0; holder < 4; holder++) {
        struct storage *s = open_storage(image, flags[holder], IMG_CACHE_WRITEBACK);
        for (int other = 0; other < 4; other++) {
            char before[256];
            snprintf(before, sizeof before, "%s", listed_bytes());
            assert_int_equal(try_open(flags[other], NULL), allowed[holder][other] == 'y' ? 0 : -EAGAIN);
            assert_string_equal(listed_bytes(), before);
        }
        storage_close(s);
    }
}

static void says_what_is_in_the_way(void **state) {
    (void)state;
    char expected[8192];
    struct img_error error;
    struct storage *writer = open_storage(image, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK);
    assert_int_equal(try_open(0, &error), -EAGAIN);
    snprintf(expected, sizeof expected,
             "Could not open '%s': Failed to get shared \"write\" lock\nIs another process using the image [%s]? "
             "(test_lock, pid = %d)",
             image, image, getpid());
    assert_string_equal(error.text, expected);
    assert_int_equal(error.code, -EAGAIN);
    assert_int_equal(try_open(IMG_OPEN_WRITE, &error), -EAGAIN);
    assert_non_null(strstr(error.text, "': Failed to get \"write\" lock\n"));
    storage_close(writer);

    assert_int_equal(try_open(IMG_OPEN_WRITE | IMG_OPEN_FORCE_SHARE, &error), -EINVAL);
    assert_non_null(strstr(error.text, "read-only"));
}

/* Somebody who locks the whole file exclusively, as no image program does. */
static void foreign_exclusive_lock(void **state) {
    (void)state;
    int fd = open(image, O_RDWR | O_CLOEXEC);
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &all), 0);
    struct img_error error;
    assert_int_equal(try_open(0, &error), -EAGAIN);
    assert_non_null(strstr(error.text, "exclusively"));
    close(fd);
    assert_int_equal(try_open(0, NULL), 0);
}

/* The description outlives our close when the descriptor was given to us; its locks must not. */
static void descriptor_gives_locks_back(void **state) {
    (void)state;
    int fd = open(image, O_RDWR | O_CLOEXEC);
    struct storage *s;
    struct img_error error;
    assert_int_equal(file_open_fd(fd, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK, &s, &error), 0);
    assert_string_equal(listed_bytes(), "100 101 103 201 203");
    assert_int_equal(try_open(0, NULL), -EAGAIN);
    storage_close(s);
    assert_string_equal(listed_bytes(), "");

    struct storage *writer = open_storage(image, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK);
    assert_int_equal(file_open_fd(fd, 0, IMG_CACHE_WRITEBACK, &s, &error), -EAGAIN);
    storage_close(writer);
    assert_string_equal(listed_bytes(), "");
    close(fd);
}

/* Classic POSIX locks would be dropped by the close of any descriptor of the file. */
static void survive_other_descriptors(void **state) {
    (void)state;
    struct storage *s = open_storage(image, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK);
    close(open(image, O_RDONLY | O_CLOEXEC));
    assert_string_equal(listed_bytes(), "100 101 103 201 203");
    storage_close(s);
}

/* ---- two processes ---- */

struct gate {
    int ready[2], go[2], done[2];
};

static int race(void *argument) {
    struct gate *g = argument;
    char byte;
    struct storage *s;
    if (write(g->ready[1], "r", 1) != 1 || read(g->go[0], &byte, 1) != 1)
        return 2;
    bool won = file_open(image, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK, &s, NULL) == 0;
    if (write(g->ready[1], "t", 1) != 1 || read(g->done[0], &byte, 1) != 1)
        return 2;
    return won ? 1 : 0;
}

static void never_two_winners(void **state) {
    (void)state;
    int winners = 0;
    for (int round = 0; round < 50; round++) {
        struct gate g;
        char bytes[2];
        assert_int_equal(pipe(g.ready) + pipe(g.go) + pipe(g.done), 0);
        pid_t a = in_child(race, &g), b = in_child(race, &g);
        for (int i = 0; i < 2; i++)
            assert_int_equal(read(g.ready[0], bytes, 1), 1);
        assert_int_equal(write(g.go[1], "gg", 2), 2);
        for (int i = 0; i < 2; i++)
            assert_int_equal(read(g.ready[0], bytes, 1), 1);
        assert_int_equal(write(g.done[1], "dd", 2), 2);
        int first = child_result(a), second = child_result(b);
        assert_true(first >= 0 && first <= 1 && second >= 0 && second <= 1);
        assert_true(first + second <= 1);
        winners += first + second;
        for (int i = 0; i < 2; i++) {
            close(g.ready[i]);
            close(g.go[i]);
            close(g.done[i]);
        }
    }
    print_message("%d of 50 races had a winner\n", winners);
}

static int hold_for_ever(void *argument) {
    int *pipe_end = argument;
    struct storage *s;
    if (file_open(image, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK, &s, NULL) < 0 || write(*pipe_end, "h", 1) != 1)
        return 1;
    for (;;)
        pause();
}

static void killed_holder_is_gone(void **state) {
    (void)state;
    int ends[2];
    char byte;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = in_child(hold_for_ever, &ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    assert_int_equal(try_open(IMG_OPEN_WRITE, NULL), -EAGAIN);
    kill(pid, SIGKILL);
    assert_int_equal(child_result(pid), -SIGKILL);
    assert_int_equal(try_open(IMG_OPEN_WRITE, NULL), 0);
    close(ends[0]);
    close(ends[1]);
}

/* ---- the peer ---- */

/* Runs a command whose "%s" is the image; its exit code, with what it printed in `output`. */
static int run(const char *command, char *output, size_t size) {
    char line[8192], whole[8200];
    size_t used = 0, n;
    snprintf(line, sizeof line, command, image);
    snprintf(whole, sizeof whole, "%s 2>&1", line);
    FILE *p = popen(whole, "r");
    assert_non_null(p);
    while (used < size - 1 && (n = fread(output + used, 1, size - 1 - used, p)) > 0)
        used += n;
    output[used] = '\0';
    int status = pclose(p);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect(const char *command, int code, const char *text) {
    char output[8192];
    int r = run(command, output, sizeof output);
    if (r != code || strstr(output, text) == NULL)
        fail_msg("%s: exit %d, not %d, and printed: %s", command, r, code, output);
}

/* On a raw image the peer takes no lock to describe it, and only byte 101 to write: so here it gets a qcow2 one, of
 * which it wants all. Returns the name that `image` had. */
static char *use_qcow2(void) {
    char *raw = image, output[1024];
    image = scratch_path("locked.qcow2");
    assert_int_equal(run("qemu-img create -q -f qcow2 '%s' 1M", output, sizeof output), 0);
    return raw;
}

static void peer_is_refused_while_we_write(void **state) {
    (void)state;
    need_qemu();
    char *raw = use_qcow2();
    struct storage *s = open_storage(image, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK);
    uint64_t length = storage_size(s);
    expect("qemu-img info '%s'", 1, "Failed to get shared \"write\" lock");
    expect("qemu-img check '%s'", 1, "Failed to get shared \"write\" lock");
    expect("qemu-img resize '%s' 2M", 1, "Failed to get \"write\" lock");
    expect("qemu-img create -f raw '%s' 4M", 1, "lock");
    expect("qemu-io -r -c 'read 0 4' '%s'", 1, "Failed to get shared \"write\" lock");
    expect("qemu-io -c 'write 0 4' '%s'", 1, "Failed to get \"write\" lock");
    expect("qemu-img info -U '%s'", 0, "virtual size: 1 MiB");
    expect("qemu-img check -U '%s'", 0, "No errors");
    assert_reads(s, 0, "QFI\xfb", 4);
    assert_int_equal(scratch_length(image), length);
    storage_close(s);
    expect("qemu-img check '%s'", 0, "No errors");
    free(image);
    image = raw;
}

static void peer_may_read_while_we_read(void **state) {
    (void)state;
    need_qemu();
    struct storage *s = open_storage(image, 0, IMG_CACHE_WRITEBACK);
    expect("qemu-img info -f raw '%s'", 0, "virtual size: 1 MiB");
    expect("qemu-io -f raw -r -c 'read 0 512' '%s'", 0, "read 512/512");
    expect("qemu-img resize -f raw '%s' 2M", 1, "Failed to get \"write\" lock");
    storage_close(s);
    s = open_storage(image, IMG_OPEN_FORCE_SHARE, IMG_CACHE_WRITEBACK);
    expect("qemu-io -f raw -c 'write -P 100 8 1' '%s'", 0, "wrote 1/1");
    storage_close(s);
}

/* qemu-io with the image open until its input ends. */
struct holder {
    pid_t pid;
    FILE *input, *output;
};

static struct holder peer_opens(const char *format, const char *option) {
    int to[2], from[2];
    assert_int_equal(pipe2(to, O_CLOEXEC) + pipe2(from, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, to[0], 0);
    posix_spawn_file_actions_adddup2(&actions, from[1], 1);
    const char *arguments[] = {"qemu-io", "-f", format, option != NULL ? option : image, option != NULL ? image : NULL,
                               NULL};
    struct holder h;
    assert_int_equal(posix_spawnp(&h.pid, "qemu-io", &actions, NULL, (char **)arguments, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(to[0]);
    close(from[1]);
    h.input = fdopen(to[1], "w");
    h.output = fdopen(from[0], "r");
    char line[256];
    fputs("length\n", h.input);
    fflush(h.input);
    do
        assert_non_null(fgets(line, sizeof line, h.output));
    while (strstr(line, "MiB") == NULL);
    return h;
}

static void peer_closes(struct holder h) {
    fclose(h.input);
    fclose(h.output);
    assert_true(child_result(h.pid) == 0);
}

static void we_are_refused_while_the_peer_writes(void **state) {
    (void)state;
    need_qemu();
    char *raw = use_qcow2();
    struct holder h = peer_opens("qcow2", NULL);
    struct img_error error;
    assert_string_equal(listed_bytes(), "100 101 103 201 203");
    assert_int_equal(try_open(0, &error), -EAGAIN);
    assert_non_null(strstr(error.text, "Failed to get shared \"write\" lock\nIs another process using the image ["));
    assert_int_equal(try_open(IMG_OPEN_INFO, NULL), -EAGAIN);
    assert_int_equal(try_open(IMG_OPEN_WRITE, &error), -EAGAIN);
    assert_non_null(strstr(error.text, "Failed to get \"write\" lock"));
    assert_int_equal(try_open(IMG_OPEN_WRITE | IMG_OPEN_FORCE_SHARE, NULL), -EINVAL);
    assert_int_equal(try_open(IMG_OPEN_FORCE_SHARE, NULL), 0);
    assert_string_equal(listed_bytes(), "100 101 103 201 203");
    peer_closes(h);
    assert_int_equal(try_open(IMG_OPEN_WRITE, NULL), 0);
    free(image);
    image = raw;

    h = peer_opens("raw", NULL);
    assert_int_equal(try_open(0, NULL), -EAGAIN);
    assert_int_equal(try_open(IMG_OPEN_WRITE, NULL), -EAGAIN);
    peer_closes(h);
}

static void we_may_read_while_the_peer_reads(void **state) {
    (void)state;
    need_qemu();
    char *raw = use_qcow2();
    struct holder h = peer_opens("qcow2", "-r");
    assert_int_equal(try_open(0, NULL), 0);
    assert_int_equal(try_open(IMG_OPEN_WRITE, NULL), -EAGAIN);
    peer_closes(h);
    h = peer_opens("qcow2", "-rU");
    assert_string_equal(listed_bytes(), "100");
    assert_int_equal(try_open(IMG_OPEN_WRITE, NULL), 0);
    peer_closes(h);
    free(image);
    image = raw;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_mode_locks_its_bytes),
        cmocka_unit_test(creator_locks_its_bytes),
        cmocka_unit_test(modes_conflict_as_they_should),
        cmocka_unit_test(says_what_is_in_the_way),
        cmocka_unit_test(foreign_exclusive_lock),
        cmocka_unit_test(descriptor_gives_locks_back),
        cmocka_unit_test(survive_other_descriptors),
        cmocka_unit_test(never_two_winners),
        cmocka_unit_test(killed_holder_is_gone),
        cmocka_unit_test(peer_is_refused_while_we_write),
        cmocka_unit_test(peer_may_read_while_we_read),
        cmocka_unit_test(we_are_refused_while_the_peer_writes),
        cmocka_unit_test(we_may_read_while_the_peer_reads),
    };
    alarm(100); /* a lock that is not given back must not make the program wait for ever */
    return cmocka_run_group_tests(tests, make_image, remove_image);
}
