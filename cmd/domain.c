/* SPDX-License-Identifier: GPL-3.0-or-later */
/* domain.c - see domain.h. A description is this host's configuration, not a guest's words, but it is read with
 * entities and the network switched off all the same. Disks that are no local file or block device are left out, with a
 * word. */
#include "domain.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libxml2.h"
#include "report.h"

/* The caller frees. */
static char *folder_of(const struct guest_options *options) {
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    bool session = options->connect ? strcmp(options->connect, "qemu:///session") == 0 : geteuid() != 0;
    if (session && config && *config)
        return text_format("%s/libvirt/qemu", config);
    if (session && home && *home)
        return text_format("%s/.config/libvirt/qemu", home);
    return text_copy("/etc/libvirt/qemu");
}

static char *text_of(xmlNode *node, const char *attribute) {
    xmlChar *value = node ? lx.xmlGetProp(node, BAD_CAST attribute) : NULL;
    char *text = value ? text_copy((const char *)value) : NULL;
    (*lx.xmlFree)(value);
    return text;
}

static xmlNode *child(xmlNode *node, const char *name) {
    for (node = node->children; node; node = node->next)
        if (node->type == XML_ELEMENT_NODE && strcmp((const char *)node->name, name) == 0)
            return node;
    return NULL;
}

static bool add_disk(struct guest_options *options, xmlNode *disk) {
    char *device = text_of(disk, "device"), *format = text_of(child(disk, "driver"), "type");
    xmlNode *source = child(disk, "source");
    char *path = text_of(source, "file");
    if (!path)
        path = text_of(source, "dev");
    char *sector = text_of(child(disk, "blockio"), "logical_block_size");
    unsigned sector_size = sector && strcmp(sector, "4096") == 0 ? 4096 : 512;
    bool is_disk = !device || strcmp(device, "disk") == 0;
    bool fits = options->ndisks < MAX_DISKS;
    if (is_disk && !path)
        report("A disk of the domain is no local file or device, and is left out");
    else if (is_disk && !fits)
        report("More than %d disks", MAX_DISKS);
    if (is_disk && path && fits) {
        options->disks[options->ndisks++] =
            (struct guest_disk){.path = path, .format = format, .sector_size = sector_size};
        path = format = NULL;
    }
    free(device);
    free(sector);
    free(path);
    free(format);
    return fits || !is_disk;
}

static bool add_disks(struct guest_options *options, xmlDoc *description, const char *name) {
    xmlXPathContext *context = lx.xmlXPathNewContext(description);
    xmlXPathObject *disks = context ? lx.xmlXPathEvalExpression(BAD_CAST "/domain/devices/disk", context) : NULL;
    int count = disks && disks->nodesetval ? disks->nodesetval->nodeNr : 0;
    bool good = true;
    options->disks_are_owned = true;
    for (int i = 0; i < count && good; i++)
        good = add_disk(options, disks->nodesetval->nodeTab[i]);
    if (good && options->ndisks == 0) {
        report("The domain %s has no disks", name);
        good = false;
    }
    lx.xmlXPathFreeObject(disks);
    lx.xmlXPathFreeContext(context);
    return good;
}

static void say_nothing(void *context, const char *format, ...) {
    (void)context, (void)format;
}

bool domain_add_disks(struct guest_options *options, const char *name) {
    if (!libxml2_load())
        return false;
    char *folder = folder_of(options);
    char *path = strchr(name, '/') ? text_copy(name) : text_format("%s/%s.xml", folder, name);
    free(folder);
    lx.xmlSetGenericErrorFunc(NULL, say_nothing);
    xmlDoc *description = lx.xmlReadFile(path, NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    bool good = description != NULL;
    if (good)
        good = add_disks(options, description, name);
    else
        report("The domain '%s' is not known: %s cannot be read as a description", name, path);
    lx.xmlFreeDoc(description);
    free(path);
    return good;
}

static int is_description(const struct dirent *entry) {
    size_t length = strlen(entry->d_name);
    return length > 4 && strcmp(entry->d_name + length - 4, ".xml") == 0;
}

bool domain_each(const struct guest_options *options, bool (*call)(void *opaque, const char *name), void *opaque) {
    struct dirent **entries;
    char *folder = folder_of(options);
    int count = scandir(folder, &entries, is_description, alphasort);
    bool good = count >= 0;
    if (!good)
        report("No list of domains: %s: %s", folder, strerror(errno));
    free(folder);
    for (int i = 0; i < count; i++) {
        entries[i]->d_name[strlen(entries[i]->d_name) - 4] = '\0';
        good = good && call(opaque, entries[i]->d_name);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    return good;
}
