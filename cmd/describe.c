/* SPDX-License-Identifier: GPL-3.0-or-later */
/* describe.c - see describe.h.
 *
 * The format-specific part is built once, as JSON, and the human form is that tree written with indents: so the two
 * cannot disagree.
 */
#include "describe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd.h"
#include "json.h"
#include "names.h"
#include "report.h"
#include "size.h"

#define NSEC_PER_SEC UINT64_C(1000000000)

static json_t *bitmaps_json(const struct img_info *info) {
    json_t *list = json_new_array();
    for (size_t i = 0; i < info->nbitmaps; i++) {
        const struct img_bitmap_info *bitmap = &info->bitmaps[i];
        json_t *flags = json_new_array(), *entry = json_new_object();
        if (bitmap->in_use)
            json_add(flags, json_text("in-use"));
        if (bitmap->enabled)
            json_add(flags, json_text("auto"));
        json_put(entry, "flags", flags);
        json_put_text(entry, "name", bitmap->name);
        json_put_number(entry, "granularity", bitmap->granularity);
        json_add(list, entry);
    }
    return list;
}

static json_t *key_slots_json(const struct img_luks_info *luks) {
    json_t *list = json_new_array();
    for (size_t i = 0; i < sizeof(luks->slots) / sizeof(luks->slots[0]); i++) {
        const struct img_key_slot *slot = &luks->slots[i];
        json_t *entry = json_new_object();
        json_put_bool(entry, "active", slot->active);
        if (slot->active)
            json_put_number(entry, "iters", slot->iterations);
        json_put_number(entry, "key-offset", slot->key_offset);
        if (slot->active)
            json_put_number(entry, "stripes", slot->stripes);
        json_add(list, entry);
    }
    return list;
}

/* `format`: put among the others where a qcow2 image says it; NULL: a LUKS image. */
static void put_luks(json_t *data, const struct img_luks_info *luks, const char *format) {
    json_put_text(data, "ivgen-alg", luks->ivgen);
    json_put_text(data, "hash-alg", luks->hash);
    json_put_text(data, "cipher-alg", luks->cipher);
    json_put_text(data, "uuid", luks->uuid);
    if (luks->ivgen_hash)
        json_put_text(data, "ivgen-hash-alg", luks->ivgen_hash);
    if (format)
        json_put_text(data, "format", format);
    json_put_text(data, "cipher-mode", luks->mode);
    json_put(data, "slots", key_slots_json(luks));
    json_put_number(data, "payload-offset", luks->payload_offset);
    json_put_number(data, "master-key-iters", luks->master_key_iterations);
}

static json_t *luks_json(const struct img_info *info) {
    json_t *data = json_new_object();
    put_luks(data, info->luks, NULL);
    return data;
}

static json_t *qcow2_json(const struct img_info *info) {
    json_t *data = json_new_object();
    bool v3 = info->version >= 3;
    json_put_text(data, "compat", v3 ? "1.1" : "0.10");
    json_put_text(data, "compression-type", info->compression ? info->compression : "zlib");
    if (v3)
        json_put_bool(data, "lazy-refcounts", info->lazy_refcounts);
    if (info->nbitmaps)
        json_put(data, "bitmaps", bitmaps_json(info));
    json_put_number(data, "refcount-bits", info->refcount_bits);
    if (info->data_file)
        json_put_text(data, "data-file", info->data_file);
    if (info->encryption) {
        json_t *encrypt = json_new_object();
        if (info->luks)
            put_luks(encrypt, info->luks, info->encryption);
        else
            json_put_text(encrypt, "format", info->encryption);
        json_put(data, "encrypt", encrypt);
    }
    if (info->data_file)
        json_put_bool(data, "data-file-raw", info->data_file_raw);
    if (v3) {
        json_put_bool(data, "corrupt", info->corrupt);
        json_put_bool(data, "extended-l2", info->extended_l2);
    }
    return data;
}

/* NULL for a format that has nothing of its own to tell. */
static json_t *specific_json(const struct img_info *info) {
    if (strcmp(info->format, "luks") == 0 && info->luks)
        return luks_json(info);
    return strcmp(info->format, "qcow2") == 0 ? qcow2_json(info) : NULL;
}

json_t *describe_snapshots_json(const struct img_info *info) {
    json_t *list = json_new_array();
    for (size_t i = 0; i < info->nsnapshots; i++) {
        const struct img_snapshot_info *snapshot = &info->snapshots[i];
        json_t *entry = json_new_object();
        if (snapshot->icount != UINT64_MAX)
            json_put_number(entry, "icount", snapshot->icount);
        json_put_number(entry, "vm-clock-nsec", snapshot->vm_clock_ns % NSEC_PER_SEC);
        json_put_text(entry, "name", snapshot->name);
        json_put_number(entry, "date-sec", snapshot->date_ns / NSEC_PER_SEC);
        json_put_number(entry, "date-nsec", snapshot->date_ns % NSEC_PER_SEC);
        json_put_number(entry, "vm-clock-sec", snapshot->vm_clock_ns / NSEC_PER_SEC);
        json_put_text(entry, "id", snapshot->id);
        json_put_number(entry, "vm-state-size", snapshot->vm_state_size);
        json_add(list, entry);
    }
    return list;
}

json_t *describe_json(const char *name, const struct img_info *info) {
    json_t *o = json_new_object(), *data = specific_json(info);
    if (info->backing_file && info->backing_format)
        json_put_text(o, "backing-filename-format", info->backing_format);
    if (info->nsnapshots)
        json_put(o, "snapshots", describe_snapshots_json(info));
    json_put_number(o, "virtual-size", info->virtual_size);
    json_put_text(o, "filename", path_of(name));
    if (info->cluster_size)
        json_put_number(o, "cluster-size", info->cluster_size);
    json_put_text(o, "format", info->format);
    json_put_number(o, "actual-size", info->disk_size);
    if (data) {
        json_t *specific = json_new_object();
        json_put_text(specific, "type", info->format);
        json_put(specific, "data", data);
        json_put(o, "format-specific", specific);
    }
    if (info->full_backing_file)
        json_put_text(o, "full-backing-filename", info->full_backing_file);
    if (info->encrypted)
        json_put_bool(o, "encrypted", true);
    if (info->backing_file)
        json_put_text(o, "backing-filename", info->backing_file);
    json_put_bool(o, "dirty-flag", info->dirty);
    return o;
}

static void print_tree(FILE *out, const json_t *value, int indent);

static void print_branch(FILE *out, const json_t *value, int indent) {
    if (json_is_object(value) || json_is_array(value)) {
        fputc('\n', out);
        print_tree(out, value, indent + 4);
    } else if (json_is_string(value)) {
        fputc(' ', out);
        print_text(out, json_string_value(value));
        fputc('\n', out);
    } else if (json_is_integer(value)) {
        fprintf(out, " %" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
    } else {
        fprintf(out, " %s\n", json_is_true(value) ? "true" : "false");
    }
}

static void print_tree(FILE *out, const json_t *value, int indent) {
    const char *key;
    json_t *entry;
    size_t i;

    json_object_foreach((json_t *)value, key, entry) {
        fprintf(out, "%*s", indent, "");
        for (const char *c = key; *c; c++)
            fputc(*c == '-' ? ' ' : *c, out);
        fputc(':', out);
        print_branch(out, entry, indent);
    }
    json_array_foreach(value, i, entry) {
        fprintf(out, "%*s[%zu]:", indent, "", i);
        print_branch(out, entry, indent);
    }
}

/* Left-aligned in `width` columns; the padding counts bytes, as an escaped name has no wide ones. */
static void print_column(FILE *out, const char *text, int width) {
    char *safe = text_printable(text);
    fprintf(out, "%-*s", width, safe);
    free(safe);
}

static void print_snapshot(FILE *out, const struct img_snapshot_info *snapshot) {
    char size[HUMAN_SIZE_MAX], date[64] = "", clock[64], icount[32] = "";
    time_t seconds = (time_t)(snapshot->date_ns / NSEC_PER_SEC);
    struct tm tm;

    if (localtime_r(&seconds, &tm))
        strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
    uint64_t clock_sec = snapshot->vm_clock_ns / NSEC_PER_SEC;
    snprintf(clock, sizeof(clock), "%02" PRIu64 ":%02u:%02u.%03u", clock_sec / 3600, (unsigned)(clock_sec / 60 % 60),
             (unsigned)(clock_sec % 60), (unsigned)(snapshot->vm_clock_ns / 1000000 % 1000));
    if (snapshot->icount != UINT64_MAX)
        snprintf(icount, sizeof(icount), "%" PRIu64, snapshot->icount);

    print_column(out, snapshot->id, 9);
    fputc(' ', out);
    print_column(out, snapshot->name, 16);
    fprintf(out, " %8s%20s%13s%11s\n", human_size(snapshot->vm_state_size, size), date, clock, icount);
}

void describe_snapshots(FILE *out, const struct img_info *info) {
    fprintf(out, "Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
    for (size_t i = 0; i < info->nsnapshots; i++)
        print_snapshot(out, &info->snapshots[i]);
}

static void print_backing(FILE *out, const struct img_info *info) {
    fprintf(out, "backing file: ");
    print_text(out, info->backing_file);
    if (!info->full_backing_file) {
        fprintf(out, " (cannot determine actual path)");
    } else if (strcmp(info->backing_file, info->full_backing_file) != 0) {
        fprintf(out, " (actual path: ");
        print_text(out, info->full_backing_file);
        fputc(')', out);
    }
    fputc('\n', out);
    if (info->backing_format) {
        fprintf(out, "backing file format: ");
        print_text(out, info->backing_format);
        fputc('\n', out);
    }
}

void describe_print(FILE *out, const char *name, const struct img_info *info) {
    char virtual_size[HUMAN_SIZE_MAX], disk_size[HUMAN_SIZE_MAX];

    fprintf(out, "image: ");
    print_text(out, path_of(name));
    fprintf(out, "\nfile format: %s\nvirtual size: %s (%" PRIu64 " bytes)\ndisk size: %s\n", info->format,
            human_size(info->virtual_size, virtual_size), info->virtual_size, human_size(info->disk_size, disk_size));
    if (info->encrypted)
        fprintf(out, "encrypted: yes\n");
    if (info->cluster_size)
        fprintf(out, "cluster_size: %" PRIu64 "\n", info->cluster_size);
    if (info->dirty)
        fprintf(out, "cleanly shut down: no\n");
    if (info->backing_file)
        print_backing(out, info);
    if (info->nsnapshots)
        describe_snapshots(out, info);
    describe_print_specific(out, info);
}

void describe_print_specific(FILE *out, const struct img_info *info) {
    json_t *data = specific_json(info);
    if (data) {
        fprintf(out, "Format specific information:\n");
        print_tree(out, data, 4);
        json_decref(data);
    }
}

int describe_result(const char *name, const char *format) {
    struct img_open_options options = {.flags = IMG_OPEN_INFO, .format = format};
    struct img_info info;
    struct img_error err = {0};
    struct img *image = open_image_as(name, false, &options);
    int status = EXIT_FAILURE;

    if (!image)
        return EXIT_FAILURE;
    if (img_info(image, &info, &err) < 0) {
        report_image_error(&err, "Could not describe '%s'", name);
    } else {
        json_print(describe_json(name, &info));
        status = EXIT_SUCCESS;
    }
    img_close(image, NULL);
    return status;
}
