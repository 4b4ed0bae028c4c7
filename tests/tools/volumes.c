/* SPDX-License-Identifier: GPL-3.0-or-later */
/* volumes.c - everything that fs/ finds on the disks of a guest, a line for each volume, to be compared with what other
 * tools say.
 *
 *   volumes [-b SECTOR] [-f FORMAT] [-k KEY]... [-n NAME]... [-c NAME] [-w NAME] DISK...
 *
 * -k: a passphrase for everything encrypted; -n: prints only the name of the volume that NAME finds, "-" if none; -c:
 * writes its bytes to stdout; -w: writes stdin over its first bytes (the disks are opened for writing).
 *
 * A line: NAME KIND SIZE key=value ..., with what is empty left out; then "note: ..." for each message.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/volume/volume.h"
#include "img.h"

#define MOST 64

struct passphrases {
    const char *list[MOST];
    size_t count;
};

static void stop(const char *what, const struct img_error *err) {
    fflush(stdout);
    fprintf(stderr, "volumes: %s: %s\n", what, err->text);
    exit(EXIT_FAILURE);
}

static int find_key(void *opaque, const char *name, const char *uuid, size_t nth, struct img_key *key) {
    struct passphrases *p = opaque;
    (void)name, (void)uuid;
    if (nth >= p->count)
        return -ENOKEY;
    *key = (struct img_key){p->list[nth], strlen(p->list[nth])};
    return 0;
}

static void print_text(const char *key, const char *text) {
    if (text && *text) {
        printf(" %s=", key);
        for (; *text; text++) {
            if (*text == ' ' || *text == '\\' || (unsigned char)*text < ' ')
                printf("\\x%02x", (unsigned char)*text);
            else
                putchar(*text);
        }
    }
}

static void print_volume(const struct volume *v) {
    static const char *const kinds[] = {"disk", "partition", "group", "logical", "crypt", "raid"};
    printf("%s %s %" PRIu64, v->name, kinds[v->kind], v->size);
    for (size_t i = 0; i < v->nparents; i++)
        printf("%s%s", i ? "," : " on=", v->parents[i]->name);
    if (v->kind == VOLUME_PARTITION)
        printf(" start=%" PRIu64, v->start);
    if (v->mbr_type)
        printf(" mbr=%02x", v->mbr_type);
    if (v->extended)
        printf(" extended");
    if (v->active)
        printf(" active");
    print_text("table", v->table);
    print_text("tableuuid", v->table_uuid);
    print_text("typeuuid", v->type_uuid);
    print_text("partuuid", v->part_uuid);
    print_text("partlabel", v->part_label);
    print_text("vuuid", v->uuid);
    if (v->is_pv)
        printf(" pv=%s pvsize=%" PRIu64, v->pv_uuid, v->pv_size);
    print_text("type", v->content.type);
    print_text("label", v->content.label);
    print_text("uuid", v->content.uuid);
    print_text("trouble", v->trouble);
    putchar('\n');
}

static void copy_out(struct volume *v) {
    static unsigned char buffer[1000 * 1000]; /* not whole sectors, on purpose */
    struct img_error err = {0};
    if (!v || !v->device)
        exit(EXIT_FAILURE);
    for (uint64_t at = 0; at < v->size;) {
        size_t count = v->size - at < sizeof(buffer) ? (size_t)(v->size - at) : sizeof(buffer);
        if (device_read(v->device, buffer, count, at, &err) < 0)
            stop(v->name, &err);
        fwrite(buffer, 1, count, stdout);
        at += count;
    }
}

static void copy_in(struct volume *v) {
    static unsigned char buffer[100 * 1000];
    struct img_error err = {0};
    uint64_t at = 0;
    size_t count;
    if (!v || !v->device)
        exit(EXIT_FAILURE);
    while ((count = fread(buffer, 1, sizeof(buffer), stdin)) > 0) {
        if (device_write(v->device, buffer, count, at, &err) < 0)
            stop(v->name, &err);
        at += count;
    }
    if (device_flush(v->device, &err) < 0)
        stop(v->name, &err);
}

int main(int argc, char **argv) {
    struct img_open_options options = {0};
    struct img_error err = {0};
    struct passphrases passphrases = {0};
    struct volume_keys keys = {.find = find_key, .opaque = &passphrases};
    struct volumes *volumes;
    struct img *images[MOST];
    struct device *disks[MOST];
    const char *names[MOST], *out = NULL, *in = NULL, *message;
    size_t nnames = 0, ndisks = 0;
    unsigned sector = 512;
    int opt;
    while ((opt = getopt(argc, argv, "b:f:k:n:c:w:")) != -1) {
        if (opt == 'b')
            sector = (unsigned)strtoul(optarg, NULL, 0);
        else if (opt == 'f')
            options.format = optarg;
        else if (opt == 'k' && passphrases.count < MOST)
            passphrases.list[passphrases.count++] = optarg;
        else if (opt == 'n' && nnames < MOST)
            names[nnames++] = optarg;
        else if (opt == 'c')
            out = optarg;
        else if (opt == 'w')
            in = optarg;
        else
            return EXIT_FAILURE;
    }
    options.flags = in ? IMG_OPEN_WRITE : 0;
    for (; optind < argc && ndisks < MOST; optind++, ndisks++)
        if (img_open(argv[optind], &options, &images[ndisks], &err) < 0 ||
            device_of_image(images[ndisks], sector, in != NULL, &disks[ndisks], &err) < 0)
            stop(argv[optind], &err);
    if (volumes_open(disks, ndisks, &keys, &volumes, &err) < 0)
        stop("the disks", &err);
    if (out)
        copy_out(volumes_find(volumes, out));
    else if (in)
        copy_in(volumes_find(volumes, in));
    for (size_t i = 0; i < nnames; i++) {
        const struct volume *v = volumes_find(volumes, names[i]);
        puts(v ? v->name : "-");
    }
    for (size_t i = 0; !out && !in && nnames == 0 && i < volumes_count(volumes); i++)
        print_volume(volumes_get(volumes, i));
    for (size_t i = 0; !out && !in && nnames == 0 && (message = volumes_message(volumes, i)); i++)
        printf("note: %s\n", message);
    volumes_close(volumes);
    while (ndisks > 0)
        img_close(images[--ndisks], NULL);
    return EXIT_SUCCESS;
}
