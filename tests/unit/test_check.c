/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_check.c - the check against qemu-img: the kept fixtures, statistics of sound images, images damaged at random.
 *
 * A repair is held to what it promises: one run makes the image clean in both tools' eyes, a second changes nothing,
 * and every guest cluster that the damage did not touch reads as before.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_util.h"
#include "scratch.h"

#define FAIL(run, ...)                                                                                                 \
    do {                                                                                                               \
        check_show(run);                                                                                               \
        fail_msg(__VA_ARGS__);                                                                                         \
    } while (0)

/* ---- fixtures ------------------------------------------------------------------------------------------ */

struct fixture {
    char *file, *ours, *theirs, *text, *guest;
};

static char *trimmed(char *text) {
    while (*text == ' ' || *text == '`')
        text++;
    for (size_t n = strlen(text); n > 0 && strchr(" `\n", text[n - 1]) != NULL; n--)
        text[n - 1] = '\0';
    return text;
}

/* A row of the table in README.md: | image | what | ours | theirs | prints | part |. False: the line is none. */
static bool parse_row(char *line, struct fixture *f) {
    char *column[7];
    int n = 0;
    for (char *part = strtok(line, "|"); part != NULL && n < 7; part = strtok(NULL, "|"))
        column[n++] = trimmed(part);
    if (n < 6 || strstr(column[0], ".qcow2") == NULL)
        return false;
    *f = (struct fixture){column[0], column[2], column[3], column[4], column[5]};
    return true;
}

static void check_line_of(const struct fixture *f, const struct check_run *run) {
    if (strcmp(f->text, "-") == 0)
        return;
    const struct check_line *line = check_find(run, f->text);
    if (line == NULL)
        FAIL(run, "%s: no finding '%s'", f->file, f->text);
    char guest[64] = "-";
    if (line->has_guest)
        snprintf(guest, sizeof guest, "0x%" PRIx64 " + 0x%" PRIx64, line->guest_start, line->guest_length);
    if (strcmp(guest, f->guest) != 0)
        FAIL(run, "%s: the finding names the guest range %s", f->file, guest);
}

/* Repairs and expects that nothing is left to say. */
static void expect_repaired(const char *path, uint32_t flags, const char *what, bool ask_peer) {
    struct check_run run;
    check_path(path, flags, &run);
    if (strcmp(check_verdict(&run), "clean") != 0)
        FAIL(&run, "%s: after a repair %s", what, check_verdict(&run));
    check_run_free(&run);
    size_t size, again;
    uint8_t *first = read_file(path, &size);
    check_path(path, flags, &run);
    if (strcmp(check_verdict(&run), "clean") != 0 || run.repaired || run.nlines > 0)
        FAIL(&run, "%s: a second repair finds something", what);
    check_run_free(&run);
    uint8_t *second = read_file(path, &again);
    assert_true(size == again && memcmp(first, second, size) == 0);
    free(first);
    free(second);
    if (ask_peer && strcmp(peer_verdict(path, NULL), "clean") != 0)
        fail_msg("%s: qemu-img does not find the repaired image clean", what);
}

static void try_fixture(const struct fixture *f) {
    char source[256];
    struct check_run run;
    size_t size, after;
    snprintf(source, sizeof source, "fixtures/%s", f->file);
    uint8_t *bytes = read_file(source, &size);
    char *path = scratch_path(f->file);
    write_file(path, bytes, size);

    check_path(path, 0, &run);
    if (strcmp(check_verdict(&run), f->ours) != 0)
        FAIL(&run, "%s: %s", f->file, check_verdict(&run));
    check_line_of(f, &run);
    bool leaks = strcmp(f->ours, "leaks") == 0;
    check_run_free(&run);
    uint8_t *now = read_file(path, &after);
    assert_true(after == size && memcmp(now, bytes, size) == 0);
    free(now);

    bool ask_peer = strstr(f->file, "data-file") == NULL; /* its data file is not there */
    if (ask_peer)
        assert_string_equal(peer_verdict(path, NULL), f->theirs);
    if (leaks) {
        expect_repaired(path, IMG_CHECK_REPAIR_LEAKS, f->file, ask_peer);
        write_file(path, bytes, size);
    }
    expect_repaired(path, IMG_CHECK_REPAIR_ALL, f->file, ask_peer);
    now = read_file(path, &after);
    if (be_get(now + 4, 4) >= 3)
        assert_int_equal(be_get(now + 72, 8) & 3, 0); /* neither dirty nor corrupt */
    free(now);
    free(bytes);
    remove(path);
    free(path);
}

static void fixtures_say_what_the_table_says(void **state) {
    (void)state;
    FILE *table = fopen("fixtures/README.md", "r");
    assert_non_null(table);
    char *line = NULL;
    size_t room = 0;
    int n = 0;
    while (getline(&line, &room, table) > 0) {
        struct fixture f;
        if (parse_row(line, &f)) {
            try_fixture(&f);
            n++;
        }
    }
    free(line);
    fclose(table);
    assert_true(n >= 60);
}

/* A refcount table entry that names guest data must not cost the data. */
static void repair_keeps_data_below_a_wrong_block(void **state) {
    (void)state;
    size_t size;
    uint8_t *bytes = read_file("fixtures/block-on-data.qcow2", &size);
    char *path = scratch_path("block-on-data");
    write_file(path, bytes, size);
    expect_repaired(path, IMG_CHECK_REPAIR_ALL, path, true);
    assert_int_equal(shell(NULL, "qemu-io -r -f qcow2 -c 'read -P 1 0 2k' '%s' | grep -q 'Pattern verif'", path), 1);
    free(bytes);
    free(path);
}

/* ---- sound images ------------------------------------------------------------------------------------------ */

/* Options of qemu-img create, and what is done with the image then; %s is its path. */
static const struct recipe {
    const char *options, *size, *fill;
} recipes[] = {
    {"cluster_size=512", "700K",
     "qemu-io -t unsafe -c 'write -P 1 3k 90k' -c 'write -P 2 200k 1k' -c 'write -z 10k 9k' '%1$s'"},
    {"cluster_size=512,refcount_bits=1", "700K", "qemu-io -t unsafe -c 'write -P 1 0 99k' -c 'discard 4k 30k' '%1$s'"},
    {"cluster_size=4k,refcount_bits=64", "9M",
     "qemu-io -t unsafe -c 'write -P 1 1M 300k' -c 'write -c -P 3 4M 16k' '%1$s' && qemu-img snapshot -c s '%1$s' && "
     "qemu-io -t unsafe -c 'write -P 4 1M 8k' -c 'discard 1100k 64k' '%1$s'"},
    {"cluster_size=4k,compat=0.10", "9M",
     "qemu-io -t unsafe -c 'write -P 1 1M 60k' -c 'write -c -P 3 4M 4k' '%1$s' && qemu-img snapshot -c s '%1$s' && "
     "qemu-img snapshot -c t '%1$s' && qemu-io -t unsafe -c 'write -P 4 1M 8k' '%1$s'"},
    {"cluster_size=16k,extended_l2=on", "3M",
     "qemu-io -t unsafe -c 'write -P 1 1M 90k' -c 'write -z 1030k 1k' -c 'write -P 2 2M 512' '%1$s'"},
    {"cluster_size=2M", "9M", "qemu-io -t unsafe -c 'write -P 1 1M 1M' -c 'write -c -P 3 4M 2M' '%1$s'"},
    {"cluster_size=4k,compression_type=zstd", "9M",
     "qemu-io -t unsafe -c 'write -c -P 1 0 4k' -c 'write -c -P 2 4k 4k' -c 'write -P 3 8k 4k' '%1$s' && "
     "qemu-img bitmap --add -g 4k '%1$s' b && qemu-io -t unsafe -c 'write -P 3 8k 80k' '%1$s'"},
    {"preallocation=metadata", "5M", ":"},
};
enum { RECIPES = sizeof recipes / sizeof recipes[0] };

static char *make_image(size_t i) {
    char name[32], fill[2048];
    snprintf(name, sizeof name, "image%zu", i);
    char *path = scratch_path(name);
    assert_int_equal(
        shell(NULL, "qemu-img create -q -f qcow2 -o %s '%s' %s", recipes[i].options, path, recipes[i].size), 0);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(fill, sizeof fill, recipes[i].fill, path);
#pragma GCC diagnostic pop
    assert_int_equal(shell(NULL, "{ %s; } >/dev/null", fill), 0);
    return path;
}

static void statistics_are_the_peers(void **state) {
    (void)state;
    for (size_t i = 0; i < RECIPES; i++) {
        char *path = make_image(i), *json;
        struct check_run run;
        check_path(path, 0, &run);
        assert_string_equal(peer_verdict(path, &json), "clean");
        if (strcmp(check_verdict(&run), "clean") != 0)
            FAIL(&run, "%s: %s", recipes[i].options, check_verdict(&run));
        assert_int_equal(run.result.total_clusters, json_number(json, "total-clusters"));
        assert_int_equal(run.result.allocated_clusters, json_number(json, "allocated-clusters"));
        assert_int_equal(run.result.fragmented_clusters, json_number(json, "fragmented-clusters"));
        assert_int_equal(run.result.compressed_clusters, json_number(json, "compressed-clusters"));
        assert_int_equal(run.result.image_end_offset, json_number(json, "image-end-offset"));
        check_run_free(&run);
        free(json);
        free(path);
    }
}

/* ---- damage at random ---------------------------------------------------------------------------------------- */

struct victim {
    uint8_t *bytes, *guest;
    size_t size, guest_size;
    uint64_t l1, l1_size, reftable;
    unsigned cluster_bits, words;
};

static uint64_t cluster_size(const struct victim *v) {
    return 1ull << v->cluster_bits;
}

/* The guest's content as the peer reads it; what cannot be read is zero. NULL: it cannot be opened. */
static uint8_t *guest_content(const char *path, size_t *size) {
    char *raw = scratch_path("raw");
    int status = shell(NULL, "qemu-img convert --salvage -t unsafe -f qcow2 -O raw '%s' '%s' 2>/dev/null", path, raw);
    uint8_t *content = status == 0 ? read_file(raw, size) : NULL;
    remove(raw);
    free(raw);
    return content;
}

static void take_victim(struct victim *v, const char *path) {
    v->bytes = read_file(path, &v->size);
    v->guest = guest_content(path, &v->guest_size);
    assert_non_null(v->guest);
    v->cluster_bits = be_get(v->bytes + 20, 4);
    v->l1_size = be_get(v->bytes + 36, 4);
    v->l1 = be_get(v->bytes + 40, 8);
    v->reftable = be_get(v->bytes + 48, 8);
    v->words = be_get(v->bytes + 4, 4) >= 3 && be_get(v->bytes + 72, 8) & 16 ? 2 : 1;
}

/* A random L2 entry that is in use: its place in the file, 0 when there is none; *guest: the cluster. */
static uint64_t pick_entry(const struct victim *v, uint64_t *seed, uint64_t *guest) {
    uint64_t per_table = cluster_size(v) / (8 * v->words), skip = random_next(seed) % 5000, seen = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (uint64_t i = 0; i < v->l1_size; i++) {
            uint64_t table = be_get(v->bytes + v->l1 + 8 * i, 8) & QCOW2_OFFSET_MASK;
            for (uint64_t j = 0; table != 0 && j < per_table; j++) {
                uint64_t at = table + j * 8 * v->words;
                if (be_get(v->bytes + at, 8) == 0 || (pass == 1 && skip-- > 0))
                    continue;
                seen++;
                *guest = i * per_table + j;
                if (pass == 1)
                    return at;
            }
        }
        if (seen == 0)
            return 0;
        skip %= seen;
    }
    return 0;
}

static uint64_t any_cluster(const struct victim *v, uint64_t *seed) {
    return random_next(seed) % (v->size >> v->cluster_bits) << v->cluster_bits;
}

static uint64_t flag_or_not(uint64_t *seed) {
    return random_next(seed) % 2 ? QCOW2_COPIED : 0;
}

/* Changes something in `bytes` (a copy) and marks the guest clusters that may read differently afterwards. */
static void damage_once(const struct victim *v, uint8_t *bytes, uint64_t *seed, uint8_t *touched, char *what) {
    uint64_t per_table = cluster_size(v) / (8 * v->words), guest = 0, other = 0;
    uint64_t at = pick_entry(v, seed, &guest), kind = random_next(seed) % 8, value = 0;
    uint64_t block = be_get(v->bytes + v->reftable, 8);
    if (kind >= 3 && at == 0)
        kind = 0;
    switch (kind) {
    case 0: /* a byte of counts */
    case 1:
        at = block + random_next(seed) % (v->size >> v->cluster_bits);
        at = at < block + cluster_size(v) ? at : block;
        value = random_next(seed) % 3;
        bytes[at] = (uint8_t)value;
        break;
    case 2: /* a bit of an L1 entry */
        at = v->l1 + 8 * (random_next(seed) % v->l1_size);
        value = be_get(bytes + at, 8) ^ 1ull << random_next(seed) % 64;
        be_put(bytes + at, 8, value);
        memset(touched + (at - v->l1) / 8 * per_table, 1, per_table);
        break;
    case 3: /* a bit of an L2 entry */
        value = be_get(bytes + at, 8) ^ 1ull << random_next(seed) % 64;
        be_put(bytes + at, 8, value);
        touched[guest] = 1;
        break;
    case 4: /* COPIED alone: the data stays */
        value = be_get(bytes + at, 8) ^ QCOW2_COPIED;
        be_put(bytes + at, 8, value);
        if (value & QCOW2_COMPRESSED)
            touched[guest] = 1;
        break;
    case 5: /* any cluster of the file, metadata too */
        value = any_cluster(v, seed) | flag_or_not(seed);
        be_put(bytes + at, 8, value);
        touched[guest] = 1;
        break;
    case 6: /* somebody else's */
        value = be_get(bytes + pick_entry(v, seed, &other), 8);
        be_put(bytes + at, 8, value);
        touched[guest] = touched[other] = 1;
        break;
    default: /* the refcount table */
        at = v->reftable;
        value = random_next(seed) % 2 ? 0 : any_cluster(v, seed);
        be_put(bytes + at, 8, value);
    }
    sprintf(what + strlen(what), " %" PRIu64 ":0x%" PRIx64 "=0x%" PRIx64, kind, at, value);
}

static void compare_guest(const struct victim *v, const char *path, const uint8_t *touched, const char *what) {
    size_t size;
    uint8_t *now = guest_content(path, &size);
    if (now == NULL || size != v->guest_size)
        fail_msg("%s: the repaired image cannot be read", what);
    for (uint64_t at = 0; at < size; at += cluster_size(v)) {
        uint64_t n = size - at < cluster_size(v) ? size - at : cluster_size(v);
        if (!touched[at >> v->cluster_bits] && memcmp(now + at, v->guest + at, n) != 0)
            fail_msg("%s: the data at 0x%" PRIx64 " is not what it was", what, at);
    }
    free(now);
}

static void damage_and_repair(const struct victim *v, const char *path, uint64_t seed) {
    char what[512];
    struct check_run run;
    uint8_t *bytes = malloc(v->size), *touched = calloc(1, (v->guest_size >> v->cluster_bits) + cluster_size(v));
    assert_true(bytes != NULL && touched != NULL);
    memcpy(bytes, v->bytes, v->size);
    snprintf(what, sizeof what, "seed %" PRIu64 " of %s:", seed, strrchr(path, '/') + 1);
    for (uint64_t n = 1 + seed % 3, random = seed * 0x9e3779b97f4a7c15ull; n > 0; n--)
        damage_once(v, bytes, &random, touched, what);
    write_file(path, bytes, v->size);
    check_path(path, 0, &run);
    const char *ours = check_verdict(&run), *theirs = peer_verdict(path, NULL);
    bool corrupt = strcmp(ours, "corrupt") == 0;
    /* "error": the peer gives up over what it then cannot read. Corruption that it does not see is in the table of
     * fixtures; anything that it does see we must see. */
    if (strcmp(ours, theirs) != 0 && !corrupt)
        FAIL(&run, "%s: %s, but qemu-img says %s", what, ours, theirs);
    check_run_free(&run);
    write_file(path, bytes, v->size);
    expect_repaired(path, IMG_CHECK_REPAIR_ALL, what, true);
    compare_guest(v, path, touched, what);
    free(bytes);
    free(touched);
}

static void random_damage_is_seen_and_repaired(void **state) {
    (void)state;
    enum { SEEDS = 6 }; /* for each recipe */
    for (size_t i = 0; i < RECIPES; i++) {
        struct victim v;
        char *path = make_image(i);
        take_victim(&v, path);
        for (uint64_t seed = 1; seed <= SEEDS; seed++)
            damage_and_repair(&v, path, i * 1000 + seed);
        free(v.bytes);
        free(v.guest);
        free(path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixtures_say_what_the_table_says),
        cmocka_unit_test(repair_keeps_data_below_a_wrong_block),
        cmocka_unit_test(statistics_are_the_peers),
        cmocka_unit_test(random_damage_is_seen_and_repaired),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
