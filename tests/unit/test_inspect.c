/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_inspect.c - the text that tells what a guest is: release files, fstab, program headers, and walking over text.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/inspect/parts.h"

/* ---- text ---- */

static void lines_and_words(void **state) {
    (void)state;
    struct span text = span_of("one two\r\n\n  three\tfour "), line, word;
    assert_true(span_line(&text, &line) && span_is(line, "one two"));
    assert_true(span_word(&line, &word) && span_is(word, "one"));
    assert_true(span_word(&line, &word) && span_is(word, "two"));
    assert_false(span_word(&line, &word));
    assert_true(span_line(&text, &line) && line.length == 0);
    assert_true(span_line(&text, &line) && span_word(&line, &word) && span_is(word, "three"));
    assert_true(span_is(span_trim(line), "four"));
    assert_false(span_line(&text, &line));
}

static void versions(void **state) {
    static const struct {
        const char *text;
        bool found;
        unsigned major, minor;
    } cases[] = {
        {"12.2", true, 12, 2},
        {"24.04", true, 24, 4},
        {"trixie/sid", false, 0, 0},
        {"Linux release 7 (Core)", true, 7, 0},
        {"release 7.9.2009", true, 7, 9},
        {"a1 b2.3", true, 2, 3},
        {"99999999999.1", true, 1, 0},
        {"", false, 0, 0},
        {"5.", true, 5, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned major = 0, minor = 0;
        assert_int_equal(span_version(span_of(cases[i].text), &major, &minor), cases[i].found);
        assert_int_equal(major, cases[i].major);
        assert_int_equal(minor, cases[i].minor);
    }
}

static void quotes(void **state) {
    static const char *const pairs[][2] = {
        {"\"Debian GNU/Linux\"", "Debian GNU/Linux"},
        {"'a\\b'", "a\\b"},
        {"a\\ b", "a b"},
        {"\"a\\\"b\"", "a\"b"},
        {"\"open", "open"},
        {"end\\", "end\\"},
        {"", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        char *plain = span_unquoted(span_of(pairs[i][0]));
        assert_string_equal(plain, pairs[i][1]);
        free(plain);
    }
}

/* ---- release files ---- */

static void forget(struct inspect_root *root) {
    for (size_t i = 0; i < root->nmounts; i++)
        free(root->mounts[i].path);
    free(root->mounts);
    free(root->product_name);
    free(root->build_id);
    memset(root, 0, sizeof(*root));
}

static void os_release(void **state) {
    static const struct {
        const char *text, *distro, *product;
        unsigned major, minor;
        bool complete;
    } cases[] = {
        {"PRETTY_NAME=\"Ubuntu 24.04.1 LTS\"\nVERSION_ID=\"24.04\"\nID=ubuntu\n", "ubuntu", "Ubuntu 24.04.1 LTS", 24, 4,
         true},
        {"ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"", "debian",
         "Debian GNU/Linux 12 (bookworm)", 12, 0, false},
        {"ID=\"rocky\"\nVERSION_ID=\"9.3\"\nPRETTY_NAME='Rocky Linux 9.3'\n", "rocky", "Rocky Linux 9.3", 9, 3, true},
        {"ID=\"opensuse-leap\"\nVERSION_ID=\"15.5\"\nPRETTY_NAME=\"openSUSE Leap 15.5\"\n", "opensuse",
         "openSUSE Leap 15.5", 15, 5, true},
        {"ID=void\nPRETTY_NAME=\"Void Linux\"\n", "voidlinux", "Void Linux", 0, 0, true},
        {"ID=neokylin\nPRETTY_NAME=NeoKylin\nVERSION_ID=V7Update6\n", "neokylin", "NeoKylin", 7, 6, true},
        {"ID=arch\nPRETTY_NAME=\"Arch Linux\"\nBUILD_ID=rolling\n", "archlinux", "Arch Linux", 0, 0, false},
        {"# ID=debian\nID=unheard-of\nPRETTY_NAME=x\nVERSION_ID=1\n", NULL, "x", 1, 0, false},
        {"", NULL, NULL, 0, 0, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct inspect_root root = {0};
        bool complete = false;
        assert_int_equal(release_read_os_release(span_of(cases[i].text), &root, &complete), 0);
        assert_int_equal(complete, cases[i].complete);
        assert_int_equal(root.major, cases[i].major);
        assert_int_equal(root.minor, cases[i].minor);
        if (cases[i].distro)
            assert_string_equal(root.distro, cases[i].distro);
        else
            assert_null(root.distro);
        if (cases[i].product)
            assert_string_equal(root.product_name, cases[i].product);
        else
            assert_null(root.product_name);
        forget(&root);
    }
}

static void other_releases(void **state) {
    struct inspect_root root = {0};
    bool complete = false;
    (void)state;
    assert_int_equal(release_read_lsb_release(span_of("DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=10.04\n"
                                                      "DISTRIB_DESCRIPTION=\"Ubuntu 10.04.1 LTS\"\n"),
                                              &root, &complete),
                     0);
    assert_true(complete && root.major == 10 && root.minor == 4);
    assert_string_equal(root.product_name, "Ubuntu 10.04.1 LTS");
    forget(&root);
    assert_int_equal(release_read_suse(span_of("SUSE Linux Enterprise Server 11 (x86_64)\nVERSION = 11\n"
                                               "PATCHLEVEL = 3\n"),
                                       &root, &complete),
                     0);
    assert_string_equal(root.distro, "sles");
    assert_true(root.major == 11 && root.minor == 3);
    forget(&root);
    assert_int_equal(release_read_suse(span_of("openSUSE 13.2 (x86_64)\nVERSION = 13.2\n"), &root, &complete), 0);
    assert_string_equal(root.distro, "opensuse");
    assert_true(root.major == 13 && root.minor == 2);
    forget(&root);
}

/* ---- programs ---- */

static void machines(void **state) {
    unsigned char elf[64] = "\177ELF\2\1", pe[512] = "MZ";
    (void)state;
    elf[18] = 62;
    assert_string_equal(arch_of_program(elf, sizeof(elf)), "x86_64");
    elf[18] = 22;
    assert_string_equal(arch_of_program(elf, sizeof(elf)), "s390x");
    elf[4] = 1;
    assert_string_equal(arch_of_program(elf, sizeof(elf)), "s390");
    elf[5] = 2;
    elf[18] = 0;
    elf[19] = 21;
    assert_string_equal(arch_of_program(elf, sizeof(elf)), "ppc64");
    elf[5] = 3;
    assert_null(arch_of_program(elf, sizeof(elf)));
    assert_null(arch_of_program(elf, 19));
    pe[0x3c] = 0x80;
    memcpy(pe + 0x80, "PE\0\0\x64\x86", 6);
    assert_string_equal(arch_of_program(pe, sizeof(pe)), "x86_64");
    assert_null(arch_of_program(pe, 0x85));
    memset(pe + 0x3c, 0xff, 4);
    assert_null(arch_of_program(pe, sizeof(pe)));
    assert_null(arch_of_program(pe, 0));
}

/* ---- fstab ---- */

static int read_zeroes(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    (void)device, (void)offset, (void)err;
    memset(buffer, 0, count);
    return 0;
}

static void close_it(struct device *device) {
    free(device);
}

static const struct device_ops zero_ops = {.read = read_zeroes, .close = close_it};

static struct volumes *three_disks(void) {
    struct device *disks[3];
    struct volumes *volumes;
    struct img_error err = {0};
    for (size_t i = 0; i < 3; i++) {
        disks[i] = calloc(1, sizeof(*disks[i]));
        *disks[i] = (struct device){.ops = &zero_ops, .size = 1 << 20, .sector_size = 512};
    }
    assert_int_equal(volumes_open(disks, 3, NULL, &volumes, &err), 0);
    return volumes;
}

static void fstab(void **state) {
    struct volumes *volumes = three_disks();
    struct inspect_root root = {.volume = volumes_get(volumes, 0), .type = "linux"};
    const struct fstab_files files = {
        .fstab = span_of("# /dev/sda /wrong ext4\n"
                         "/dev/root / ext4 defaults 0 1\n"
                         "\t/dev/sdb ///srv//with\\040space/ ext4\n"
                         "/dev/sdb /dev/shm ext4\n"
                         "/dev/sdb /media/x ext4\n"
                         "/dev/sr0 /cdrom iso9660\n"
                         "/dev/sdz /nowhere ext4\n"
                         "tmpfs /tmp tmpfs\n"
                         "/dev/sdc none swap sw 0 0\n"
                         "/dev/sdc \"/srv/with space\" ext4\n"
                         "/dev/sdc /srv/with\\040space ext4\n"
                         "/dev/sdc"),
    };
    (void)state;
    assert_int_equal(fstab_read(&files, volumes, &root), 0);
    static const struct {
        const char *path, *device;
    } wanted[] = {
        {"/", "/dev/sda"}, {"/srv/with space", "/dev/sdb"}, {"none", "/dev/sdc"}, {"\"/srv/with", "/dev/sdc"}};
    assert_int_equal(root.nmounts, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(root.mounts[i].path, wanted[i].path);
        assert_string_equal(root.mounts[i].volume->name, wanted[i].device);
    }
    forget(&root);
    volumes_close(volumes);
}

/* `length` bytes of one line after another; the caller frees. */
static char *many_lines(const char *line, size_t length) {
    char *text = malloc(length + 1);
    size_t step = strlen(line);
    assert_non_null(text);
    for (size_t i = 0; i < length; i++)
        text[i] = line[i % step];
    text[length] = '\0';
    return text;
}

/* What a hostile guest makes the work of one line times that of another file. */
static void large_files(void **state) {
    static const char *const devices[] = {"/dev/mapper/a", "/dev/mapper/b", "/dev/md0"};
    char *crypttab = many_lines("b UUID=1\n", INSPECT_TEXT_MAX),
         *mdadm = many_lines("ARRAY /dev/md0 UUID=1 UUID=2\n", INSPECT_TEXT_MAX);
    struct volumes *volumes = three_disks();
    (void)state;
    alarm(60);
    for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
        struct inspect_root root = {.volume = volumes_find(volumes, "/dev/sda")};
        char line[64];
        snprintf(line, sizeof(line), "%s /x\n", devices[i]);
        char *fstab = many_lines(line, INSPECT_TEXT_MAX);
        const struct fstab_files files = {span_of(fstab), span_of(crypttab), span_of(mdadm)};
        assert_int_equal(fstab_read(&files, volumes, &root), 0);
        assert_int_equal(root.nmounts, 1);
        forget(&root);
        free(fstab);
    }
    alarm(0);
    volumes_close(volumes);
    free(crypttab);
    free(mdadm);
}

static void canonical_paths(void **state) {
    static const char *const pairs[][2] = {
        {"///usr//local//", "/usr/local"}, {"/", "/"}, {"//", "/"}, {"none", "none"}, {"", ""}, {"/a/b", "/a/b"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        char *path = strdup(pairs[i][0]);
        fstab_canonical(path);
        assert_string_equal(path, pairs[i][1]);
        free(path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_and_words), cmocka_unit_test(versions),        cmocka_unit_test(quotes),
        cmocka_unit_test(os_release),      cmocka_unit_test(other_releases),  cmocka_unit_test(machines),
        cmocka_unit_test(fstab),           cmocka_unit_test(canonical_paths), cmocka_unit_test(large_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
