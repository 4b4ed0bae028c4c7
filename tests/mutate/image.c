// SPDX-License-Identifier: GPL-3.0-or-later
/* image.c - disks in memory whose changes are taken back page by page. A disk is mapped twice: as it was made, for
 * reading alone, and as this process changes it. */
#include "mutate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096u
#define SECTOR 512u

unsigned long outside_reads;
static bool recording;

static _Noreturn void stop(const char *what) {
    printf("Bail out! %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- the device ---- */

static int read_disk(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    struct disk *disk = (struct disk *)device;
    if (offset > device->size || count > device->size - offset) {
        outside_reads++;
        *err = (struct img_error){.code = -EIO, .text = "read outside of the disk"};
        return -EIO;
    }
    if (count == 0)
        return 0;
    memcpy(buffer, disk->bytes + offset, count);
    if (recording)
        memset(disk->read + offset / SECTOR, 1, (offset + count - 1) / SECTOR - offset / SECTOR + 1);
    return 0;
}

static void close_disk(struct device *device) {
    (void)device;
}

static const struct device_ops ops = {.read = read_disk, .close = close_disk};

/* ---- loading ---- */

static void load_disk(struct disk *disk, const char *path, unsigned sector) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        stop(path);
    disk->size = (uint64_t)st.st_size;
    disk->base = mmap(NULL, disk->size, PROT_READ, MAP_SHARED, fd, 0);
    disk->bytes = mmap(NULL, disk->size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (disk->base == MAP_FAILED || disk->bytes == MAP_FAILED)
        stop(path);
    close(fd);
    disk->flags = calloc(disk->size / PAGE + 1, 1);
    disk->read = calloc(disk->size / SECTOR + 1, 1);
    if (!disk->flags || !disk->read)
        stop(path);
    disk->device = (struct device){.ops = &ops, .size = disk->size, .sector_size = sector};
}

void base_load(struct base *base, const char *folder, const char *name, unsigned ndisks, unsigned sector) {
    char path[1000];
    *base = (struct base){.name = name, .ndisks = ndisks};
    for (unsigned i = 0; i < ndisks; i++) {
        snprintf(path, sizeof(path), i ? "%s/%s.%u" : "%s/%s", folder, name, i + 1);
        load_disk(&base->disks[i], path, sector);
    }
}

void base_free(struct base *base) {
    for (unsigned i = 0; i < base->ndisks; i++) {
        struct disk *disk = &base->disks[i];
        munmap(disk->base, disk->size);
        munmap(disk->bytes, disk->size);
        free(disk->touched);
        free(disk->flags);
        free(disk->read);
    }
    free(base->places);
    free(base->signs);
}

/* ---- changes ---- */

static void touch(struct disk *disk, uint64_t page) {
    if (disk->flags[page])
        return;
    disk->flags[page] = 1;
    if (disk->ntouched == disk->room) {
        disk->room = disk->room ? 2 * disk->room : 64;
        disk->touched = realloc(disk->touched, disk->room * sizeof(disk->touched[0]));
        if (!disk->touched)
            stop("memory");
    }
    disk->touched[disk->ntouched++] = page;
}

void disk_put(struct disk *disk, uint64_t at, const void *bytes, size_t count) {
    if (count == 0 || at >= disk->size || count > disk->size - at || memcmp(disk->bytes + at, bytes, count) == 0)
        return;
    for (uint64_t page = at / PAGE; page <= (at + count - 1) / PAGE; page++)
        touch(disk, page);
    memmove(disk->bytes + at, bytes, count);
}

void base_restore(struct base *base) {
    for (unsigned i = 0; i < base->ndisks; i++) {
        struct disk *disk = &base->disks[i];
        while (disk->ntouched > 0) {
            uint64_t page = disk->touched[--disk->ntouched], at = page * PAGE;
            memcpy(disk->bytes + at, disk->base + at, disk->size - at < PAGE ? disk->size - at : PAGE);
            disk->flags[page] = 0;
        }
        disk->device.size = disk->size;
    }
}

/* ---- places ---- */

void base_place(struct base *base, unsigned disk, uint64_t at, uint64_t length) {
    if (length == 0 || at >= base->disks[disk].size || length > base->disks[disk].size - at)
        return;
    if (base->nplaces == base->room) {
        base->room = base->room ? 2 * base->room : 256;
        base->places = realloc(base->places, base->room * sizeof(base->places[0]));
        if (!base->places)
            stop("memory");
    }
    base->places[base->nplaces++] = (struct place){disk, at, (uint32_t)length};
}

void base_record(bool on) {
    recording = on;
}

bool base_recording(void) {
    return recording;
}

static bool matters(const uint8_t *sector) {
    static const uint8_t zero[SECTOR];
    return memcmp(sector, zero, SECTOR) != 0 && memcmp(sector, CONTENT_MARK, strlen(CONTENT_MARK)) != 0;
}

void base_take_read(struct base *base) {
    for (unsigned i = 0; i < base->ndisks; i++)
        for (uint64_t at = 0; at + SECTOR <= base->disks[i].size && (!base->divided || at < base->divided);
             at += SECTOR)
            if (base->disks[i].read[at / SECTOR] && matters(base->disks[i].base + at))
                base_place(base, i, at, SECTOR);
}
