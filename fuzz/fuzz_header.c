// SPDX-License-Identifier: GPL-3.0-or-later
/* fuzz_header.c - bytes as the header of a qcow2 image: read strictly and leniently, written back, changed, laid out
 * anew.
 *
 * Held: what the strict reader takes the lenient one takes too; writing sector 0 of an untouched header changes nothing
 * that the reader sees; a name that was changed is read back. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "qcow2/header.h"

static bool read_header(struct mem *mem, struct qcow2_header *header, bool lenient) {
    struct img_error err = {0};
    struct storage *file = mem_storage(mem, false);
    if (!file)
        return false;
    memset(header, 0, sizeof(*header));
    int rc = header_read(file, header, lenient, &err);
    storage_close(file);
    if (rc && (rc > 0 || err.code != rc || !err.text[0]))
        fuzz_fail("header_read gives %d and says %d '%s'", rc, err.code, err.text);
    return rc == 0;
}

static void write_back(struct mem *mem, struct qcow2_header *header) {
    struct qcow2_header again;
    struct storage *file = mem_storage(mem, true);
    if (!file)
        return;
    int rc = header_write_sector(file, header);
    storage_close(file);
    if (rc)
        fuzz_fail("header_write_sector gives %d", rc);
    if (!read_header(mem, &again, false))
        fuzz_fail("a header that was written back is refused");
    if (again.size != header->size || again.l1_offset != header->l1_offset || again.l1_size != header->l1_size ||
        again.incompatible != header->incompatible || again.autoclear != header->autoclear ||
        again.refcount_table_offset != header->refcount_table_offset || again.version != header->version)
        fuzz_fail("a header that was written back says something else");
    header_free(&again);
}

/* Another backing file: in the bytes of the first cluster, if there is room. */
static void rename_backing(struct mem *mem, struct qcow2_header *header) {
    struct header_outside outside;
    struct img_error err = {0};
    struct qcow2_header again;
    free(header->backing_file);
    header->backing_file = strdup("another");
    if (!header->backing_file)
        return;
    int rc = header_relayout(header, &outside, &err);
    if (rc && (err.code != rc || !err.text[0]))
        fuzz_fail("header_relayout gives %d and says %d '%s'", rc, err.code, err.text);
    struct storage *file = rc ? NULL : mem_storage(mem, true);
    if (!file)
        return;
    rc = storage_write(file, header->first, header->first_size, 0);
    storage_close(file);
    if (rc)
        return; /* the file has no whole cluster and cannot grow */
    if (!read_header(mem, &again, false))
        fuzz_fail("a header with another backing file is refused");
    if (!again.backing_file || strcmp(again.backing_file, "another") != 0)
        fuzz_fail("the backing file's new name is not there");
    header_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mem *mem = mem_load(data, size);
    struct qcow2_header strict, lenient;
    bool takes = read_header(mem, &strict, false);
    bool takes_leniently = read_header(mem, &lenient, true);
    if (takes && !takes_leniently)
        fuzz_fail("a header is good but not good enough for a repair");
    if (takes) {
        struct img_error err = {0};
        write_back(mem, &strict);
        rename_backing(mem, &strict);
        int rc = header_compose(&strict, &err);
        if (rc && (err.code != rc || !err.text[0]))
            fuzz_fail("header_compose gives %d and says %d '%s'", rc, err.code, err.text);
        header_free(&strict);
    }
    if (takes_leniently)
        header_free(&lenient);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    if (seed % 2)
        return LLVMFuzzerMutate(data, size, max_size);
    mutate_image(data, size, seed);
    return size;
}
