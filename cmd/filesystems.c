/* SPDX-License-Identifier: GPL-3.0-or-later */
/* filesystems.c - `img filesystems`, virt-filesystems: what a guest's disks are divided into, a row each.
 *
 * Which kinds of rows are wanted decides which columns there are. A row is a list of texts; how wide a column becomes
 * is known only when all rows are there.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file_line.h"
#include "fs/inspect/inspect.h"
#include "guest.h"
#include "json.h"
#include "report.h"
#include "short_size.h"

enum {
    OPT_FILESYSTEMS = OPT_GUEST_FIRST_FREE,
    OPT_EXTRA,
    OPT_PARTITIONS,
    OPT_BLOCK_DEVICES,
    OPT_LVS,
    OPT_VGS,
    OPT_PVS,
    OPT_ALL,
    OPT_CSV,
    OPT_NO_TITLE,
    OPT_UUID,
};

static const struct option long_opts[] = {
    GUEST_LONG,
    GUEST_LONG_OUTPUT,
    {"filesystems", no_argument, NULL, OPT_FILESYSTEMS},
    {"filesystem", no_argument, NULL, OPT_FILESYSTEMS},
    {"extra", no_argument, NULL, OPT_EXTRA},
    {"partitions", no_argument, NULL, OPT_PARTITIONS},
    {"partition", no_argument, NULL, OPT_PARTITIONS},
    {"parts", no_argument, NULL, OPT_PARTITIONS},
    {"part", no_argument, NULL, OPT_PARTITIONS},
    {"block-devices", no_argument, NULL, OPT_BLOCK_DEVICES},
    {"block-device", no_argument, NULL, OPT_BLOCK_DEVICES},
    {"blkdevs", no_argument, NULL, OPT_BLOCK_DEVICES},
    {"blkdev", no_argument, NULL, OPT_BLOCK_DEVICES},
    {"lvs", no_argument, NULL, OPT_LVS},
    {"lv", no_argument, NULL, OPT_LVS},
    {"logvols", no_argument, NULL, OPT_LVS},
    {"logvol", no_argument, NULL, OPT_LVS},
    {"logical-volumes", no_argument, NULL, OPT_LVS},
    {"vgs", no_argument, NULL, OPT_VGS},
    {"vg", no_argument, NULL, OPT_VGS},
    {"volgroups", no_argument, NULL, OPT_VGS},
    {"volgroup", no_argument, NULL, OPT_VGS},
    {"volume-groups", no_argument, NULL, OPT_VGS},
    {"pvs", no_argument, NULL, OPT_PVS},
    {"pv", no_argument, NULL, OPT_PVS},
    {"physvols", no_argument, NULL, OPT_PVS},
    {"physvol", no_argument, NULL, OPT_PVS},
    {"physical-volumes", no_argument, NULL, OPT_PVS},
    {"all", no_argument, NULL, OPT_ALL},
    {"long", no_argument, NULL, 'l'},
    {"human-readable", no_argument, NULL, 'h'},
    {"csv", no_argument, NULL, OPT_CSV},
    {"no-title", no_argument, NULL, OPT_NO_TITLE},
    {"uuid", no_argument, NULL, OPT_UUID},
    {"uuids", no_argument, NULL, OPT_UUID},
    GUEST_LONG_END,
};

enum column { NAME, TYPE, VFS, LABEL, MBR, SIZE, PARENT, UUID, COLUMNS };

static const char *const titles[COLUMNS] = {"Name", "Type", "VFS", "Label", "MBR", "Size", "Parent", "UUID"};

struct row {
    char *cells[COLUMNS]; /* NULL: nothing */
    uint64_t size;
};

struct list {
    struct guest_options options;
    bool wanted[OPT_ALL + 1 - OPT_FILESYSTEMS]; /* by the option that asks for these rows */
    bool columns[COLUMNS];
    bool is_long, human, csv, no_title, uuids;
    struct session *session;
    struct row *rows;
    size_t count, room;
};

static bool wants(const struct list *list, int option) {
    return list->wanted[option - OPT_FILESYSTEMS];
}

/* ---- rows ---- */

static struct row *add_row(struct list *list, const struct volume *volume, const char *type, uint64_t size) {
    if (list->count == list->room) {
        list->room = list->room ? 2 * list->room : 64;
        list->rows = realloc(list->rows, list->room * sizeof(list->rows[0]));
        if (!list->rows)
            out_of_memory();
    }
    struct row *row = &list->rows[list->count++];
    char human[SHORT_SIZE_MAX];
    *row = (struct row){.size = size};
    row->cells[NAME] = text_printable(volume->name);
    row->cells[TYPE] = text_copy(type);
    row->cells[SIZE] = list->human ? text_copy(short_size(size, human)) : text_format("%" PRIu64, size);
    return row;
}

static void set_cell(struct row *row, enum column column, const char *text) {
    if (text && *text)
        row->cells[column] = text_printable(text);
}

/* What a mount of it would have: of the device, what is left when the filesystem's own structures are taken off. */
static uint64_t usable_size(const struct volume *volume) {
    struct fs_space space = {0};
    struct fs *fs;
    uint64_t size = volume->size;
    if (volume->content.kind != PROBE_FILESYSTEM || !volume->device || fs_open(volume->device, NULL, &fs, NULL) < 0)
        return size;
    if (fs->ops->space(fs, &space, NULL) == 0)
        size = space.blocks * space.block_size;
    fs_close(fs);
    return size;
}

static void add_filesystem(struct list *list, const struct volume *volume) {
    const struct probe *content = &volume->content;
    bool mountable = content->kind == PROBE_FILESYSTEM;
    if (!mountable && !wants(list, OPT_EXTRA))
        return;
    struct row *row = add_row(list, volume, "filesystem", list->is_long ? usable_size(volume) : volume->size);
    set_cell(row, VFS, content->kind == PROBE_NOTHING ? "unknown" : content->type);
    set_cell(row, LABEL, content->label);
    set_cell(row, UUID, content->uuid);
}

static bool add_filesystems(struct list *list) {
    struct volume **volumes;
    size_t count;
    struct img_error err = {0};
    if (inspect_filesystems(list->session->volumes, &volumes, &count, &err) < 0) {
        report_guest_error(&err);
        return false;
    }
    for (size_t i = 0; i < count; i++)
        add_filesystem(list, volumes[i]);
    free(volumes);
    return true;
}

static void set_parents(struct row *row, const struct volume *volume) {
    char *all = text_copy("");
    for (size_t i = 0; i < volume->nparents; i++) {
        char *longer = text_format("%s%s%s", all, i > 0 ? "," : "", volume->parents[i]->name);
        free(all);
        all = longer;
    }
    set_cell(row, PARENT, all);
    free(all);
}

static void add_logical(struct list *list, const struct volume *volume) {
    if (volume->kind != VOLUME_LOGICAL)
        return;
    struct row *row = add_row(list, volume, "lv", volume->size);
    set_parents(row, volume);
    set_cell(row, UUID, volume->uuid);
}

static void add_group(struct list *list, const struct volume *volume) {
    if (volume->kind != VOLUME_GROUP)
        return;
    struct row *row = add_row(list, volume, "vg", volume->size);
    set_parents(row, volume);
    set_cell(row, UUID, volume->uuid);
}

static void add_physical(struct list *list, const struct volume *volume) {
    if (volume->is_pv)
        set_cell(add_row(list, volume, "pv", volume->pv_size), UUID, volume->pv_uuid);
}

static void add_partition(struct list *list, const struct volume *volume) {
    if (volume->kind != VOLUME_PARTITION)
        return;
    /* Linux shows of an extended partition its boot block, 1 KiB. */
    struct row *row = add_row(list, volume, "partition", volume->extended ? 1024 : volume->size);
    set_parents(row, volume);
    if (volume->mbr_type != 0)
        row->cells[MBR] = text_format("%02x", volume->mbr_type);
}

static void add_device(struct list *list, const struct volume *volume) {
    if (volume->kind == VOLUME_DISK)
        (void)add_row(list, volume, "device", volume->size);
}

static bool add_rows(struct list *list) {
    static const struct {
        int option;
        void (*add)(struct list *list, const struct volume *volume);
    } kinds[] = {
        {OPT_LVS, add_logical},          {OPT_VGS, add_group}, {OPT_PVS, add_physical}, {OPT_PARTITIONS, add_partition},
        {OPT_BLOCK_DEVICES, add_device},
    };
    const struct volumes *volumes = list->session->volumes;
    if ((wants(list, OPT_FILESYSTEMS) || wants(list, OPT_EXTRA)) && !add_filesystems(list))
        return false;
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
        for (size_t i = 0; wants(list, kinds[k].option) && i < volumes_count(volumes); i++)
            kinds[k].add(list, volumes_get(volumes, i));
    return true;
}

/* ---- output ---- */

/* Two spaces between columns, one if the line becomes too long for a terminal. */
static unsigned choose_gap(const size_t widths[COLUMNS]) {
    size_t sum = 0;
    for (size_t c = 0; c < COLUMNS; c++)
        sum += widths[c] + 2;
    return sum <= 72 ? 2 : 1;
}

static void print_aligned(const struct list *list, const char *const *cells, const size_t widths[COLUMNS]) {
    size_t owed = 0; /* spaces that come only if something follows */
    for (size_t c = 0; c < COLUMNS; c++) {
        if (!list->columns[c])
            continue;
        const char *cell = cells[c] ? cells[c] : "-";
        printf("%*s%s", (int)owed, "", cell);
        owed = widths[c] - strlen(cell) + choose_gap(widths);
    }
    putchar('\n');
}

static void print_csv(const struct list *list, const char *const *cells) {
    for (size_t c = 0, printed = 0; c < COLUMNS; c++) {
        if (!list->columns[c])
            continue;
        if (printed++ > 0)
            putchar(',');
        print_csv_field(stdout, cells[c] ? cells[c] : "");
    }
    putchar('\n');
}

static void widen(const struct list *list, const char *const *cells, size_t widths[COLUMNS]) {
    for (size_t c = 0; c < COLUMNS; c++) {
        size_t length = list->columns[c] ? strlen(cells[c] ? cells[c] : "-") : 0;
        widths[c] = length > widths[c] ? length : widths[c];
    }
}

static void print_table(const struct list *list) {
    size_t widths[COLUMNS] = {0};
    bool titled = list->is_long && !list->no_title;
    if (titled)
        widen(list, titles, widths);
    for (size_t i = 0; i < list->count; i++)
        widen(list, (const char *const *)list->rows[i].cells, widths);
    if (titled && list->csv)
        print_csv(list, titles);
    else if (titled)
        print_aligned(list, titles, widths);
    for (size_t i = 0; i < list->count; i++)
        if (list->csv)
            print_csv(list, (const char *const *)list->rows[i].cells);
        else
            print_aligned(list, (const char *const *)list->rows[i].cells, widths);
}

static void print_json(const struct list *list) {
    static const char *const keys[COLUMNS] = {"name", "type", "vfs", "label", "mbr-type", "size", "parent", "uuid"};
    json_t *all = json_new_array();
    for (size_t i = 0; i < list->count; i++) {
        json_t *row = json_new_object();
        for (size_t c = 0; c < COLUMNS; c++)
            if (c == SIZE)
                json_put_number(row, keys[c], list->rows[i].size);
            else if (list->rows[i].cells[c])
                json_put_text(row, keys[c], list->rows[i].cells[c]);
        json_add(all, row);
    }
    json_print(all);
}

static void free_rows(struct list *list) {
    for (size_t i = 0; i < list->count; i++)
        for (size_t c = 0; c < COLUMNS; c++)
            free(list->rows[i].cells[c]);
    free(list->rows);
}

/* ---- options ---- */

static bool parse_option(int opt, struct list *list) {
    switch (opt) {
    case 'l':
        list->is_long = true;
        return true;
    case 'h':
        list->human = true;
        return true;
    case OPT_CSV:
        list->csv = true;
        return true;
    case OPT_NO_TITLE:
        list->no_title = true;
        return true;
    case OPT_UUID:
        list->uuids = true;
        return true;
    case OPT_ALL:
        memset(list->wanted, true, sizeof(list->wanted));
        return true;
    default:
        if (opt < OPT_FILESYSTEMS || opt > OPT_PVS)
            return guest_option(opt, &list->options);
        list->wanted[opt - OPT_FILESYSTEMS] = true;
        return true;
    }
}

static void choose_columns(struct list *list) {
    if (!memchr(list->wanted, true, sizeof(list->wanted)))
        list->wanted[0] = true; /* OPT_FILESYSTEMS */
    if (list->options.output == OUTPUT_JSON)
        list->is_long = true;
    bool filesystems = wants(list, OPT_FILESYSTEMS) || wants(list, OPT_EXTRA);
    list->columns[NAME] = true;
    list->columns[TYPE] = list->columns[SIZE] = list->columns[PARENT] = list->is_long;
    list->columns[VFS] = list->columns[LABEL] = list->is_long && filesystems;
    list->columns[MBR] = list->is_long && wants(list, OPT_PARTITIONS);
    list->columns[UUID] = list->is_long && list->uuids;
}

static int run(int argc, char **argv) {
    struct list list = {0};
    int opt;
    while ((opt = next_option(&filesystems_command, argc, argv)) != -1)
        if (!parse_option(opt, &list))
            return EXIT_FAILURE;
    if (list.csv && list.human) {
        report("you cannot use -h and --csv options together");
        return EXIT_FAILURE;
    }
    if (optind < argc)
        usage_error("Unexpected argument '%s'", argv[optind]);
    choose_columns(&list);
    list.session = session_open(&list.options, SESSION_VOLUMES);
    if (!list.session)
        return EXIT_FAILURE;
    bool good = add_rows(&list);
    if (good && list.options.output == OUTPUT_JSON)
        print_json(&list);
    else if (good)
        print_table(&list);
    free_rows(&list);
    session_close(list.session);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

const struct command filesystems_command = {
    .name = "filesystems",
    .summary = "list filesystems, partitions and volumes inside a disk",
    .usage = GUEST_USAGE " [OPTION...]",
    .options = "      --filesystems       filesystems that can be mounted [this, if no other rows are asked for]\n"
               "      --extra             what else a volume holds: swap, what is not known\n"
               "      --partitions        partitions\n"
               "      --block-devices     disks\n"
               "      --lvs               logical volumes\n"
               "      --vgs               volume groups\n"
               "      --pvs               physical volumes\n"
               "      --all               all of these\n"
               "  -l, --long              more columns than the name\n"
               "      --uuid              with -l: UUIDs too\n"
               "  -h, --human-readable    with -l: sizes as 12K, 3.4G\n"
               "      --csv               comma-separated values\n"
               "      --no-title          no titles above the columns\n"
               "Which guest:\n" GUEST_HELP GUEST_HELP_OUTPUT,
    .short_opts = "lh" GUEST_SHORT,
    .long_opts = long_opts,
    .run = run,
};
