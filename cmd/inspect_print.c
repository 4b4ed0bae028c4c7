/* SPDX-License-Identifier: GPL-3.0-or-later */
/* inspect_print.c - a root as virt-inspector's XML, and the same as JSON (inspect.h). */
#include <stdlib.h>
#include <string.h>

#include "inspect.h"
#include "report.h"

/* In the order of virt-inspector's schema. */
static const struct {
    enum package_field field;
    const char *xml, *json;
} fields[] = {
    {PACKAGE_NAME, "name", "name"},
    {PACKAGE_DISPLAY_NAME, "display_name", "display-name"},
    {PACKAGE_FIELDS, "epoch", "epoch"},
    {PACKAGE_VERSION, "version", "version"},
    {PACKAGE_RELEASE, "release", "release"},
    {PACKAGE_ARCH, "arch", "arch"},
    {PACKAGE_INSTALL_PATH, "install_path", "install-path"},
    {PACKAGE_PUBLISHER, "publisher", "publisher"},
    {PACKAGE_URL, "url", "url"},
    {PACKAGE_SOURCE, "source_package", "source-package"},
    {PACKAGE_SUMMARY, "summary", "summary"},
    {PACKAGE_DESCRIPTION, "description", "description"},
};

#define NFIELDS (sizeof(fields) / sizeof(fields[0]))

/* Of the root itself, up to the version and behind it. */
struct property {
    const char *xml, *json, *value;
};

#define NPROPERTIES 14

static void list_properties(const struct inspect_root *root, char number[2][12], struct property list[NPROPERTIES]) {
    snprintf(number[0], sizeof(number[0]), "%u", root->major);
    snprintf(number[1], sizeof(number[1]), "%u", root->minor);
    const struct property all[NPROPERTIES] = {
        {"root", "root", root->volume->name},
        {"name", "name", root->type},
        {"arch", "arch", root->arch},
        {"distro", "distro", root->distro},
        {"product_name", "product-name", root->product_name},
        {"product_variant", "product-variant", root->product_variant},
        {"major_version", "major-version", number[0]},
        {"minor_version", "minor-version", number[1]},
        {"package_format", "package-format", root->package_format},
        {"package_management", "package-management", root->package_management},
        {"hostname", "hostname", root->hostname},
        {"build_id", "build-id", root->build_id},
        {"osinfo", "osinfo", root->osinfo},
        {"windows_systemroot", "windows-systemroot", root->windows_systemroot},
    };
    memcpy(list, all, sizeof(all));
}

/* ---- XML ---- */

static void print_mounts(struct xml *xml, const struct shown_root *shown) {
    xml_begin(xml, "mountpoints");
    for (size_t i = 0; i < shown->nmounts; i++) {
        xml_begin(xml, "mountpoint");
        xml_attribute(xml, "dev", shown->mounts[i]->volume->name);
        xml_text(xml, shown->mounts[i]->path);
        xml_end(xml);
    }
    xml_end(xml);
}

static void print_filesystems(struct xml *xml, const struct shown_root *shown) {
    xml_begin(xml, "filesystems");
    for (size_t i = 0; i < shown->nfilesystems; i++) {
        const struct volume *volume = shown->filesystems[i];
        xml_begin(xml, "filesystem");
        xml_attribute(xml, "dev", volume->name);
        xml_leaf(xml, "type", volume->content.type);
        xml_leaf(xml, "label", volume->content.label);
        xml_leaf(xml, "uuid", volume->content.uuid);
        xml_end(xml);
    }
    xml_end(xml);
}

static void print_package(struct xml *xml, const struct package *package) {
    xml_begin(xml, "application");
    for (size_t i = 0; i < NFIELDS; i++) {
        char number[12];
        if (fields[i].field < PACKAGE_FIELDS)
            xml_leaf(xml, fields[i].xml, package->fields[fields[i].field]);
        else if (package->epoch != 0) {
            snprintf(number, sizeof(number), "%u", package->epoch);
            xml_leaf(xml, fields[i].xml, number);
        }
    }
    xml_end(xml);
}

void print_root_xml(struct xml *xml, const struct shown_root *shown) {
    char number[2][12];
    struct property list[NPROPERTIES];
    list_properties(shown->root, number, list);
    xml_begin(xml, "operatingsystem");
    for (size_t i = 0; i < NPROPERTIES; i++)
        xml_leaf(xml, list[i].xml, list[i].value);
    print_mounts(xml, shown);
    print_filesystems(xml, shown);
    if (shown->packages) {
        xml_begin(xml, "applications");
        for (size_t i = 0; i < shown->packages->count; i++)
            print_package(xml, &shown->packages->list[i]);
        xml_end(xml);
    }
    xml_leaf(xml, "icon", shown->icon);
    xml_end(xml);
}

/* ---- JSON ---- */

static void put_text(json_t *object, const char *key, const char *text) {
    if (text && *text)
        json_put_text(object, key, text);
}

static json_t *mounts_as_json(const struct shown_root *shown) {
    json_t *all = json_new_array();
    for (size_t i = 0; i < shown->nmounts; i++) {
        json_t *mount = json_new_object();
        json_put_text(mount, "path", shown->mounts[i]->path);
        json_put_text(mount, "device", shown->mounts[i]->volume->name);
        json_add(all, mount);
    }
    return all;
}

static json_t *filesystems_as_json(const struct shown_root *shown) {
    json_t *all = json_new_array();
    for (size_t i = 0; i < shown->nfilesystems; i++) {
        json_t *one = json_new_object();
        json_put_text(one, "device", shown->filesystems[i]->name);
        put_text(one, "type", shown->filesystems[i]->content.type);
        put_text(one, "label", shown->filesystems[i]->content.label);
        put_text(one, "uuid", shown->filesystems[i]->content.uuid);
        json_add(all, one);
    }
    return all;
}

static json_t *packages_as_json(const struct packages *packages) {
    json_t *all = json_new_array();
    for (size_t i = 0; i < packages->count; i++) {
        const struct package *package = &packages->list[i];
        json_t *one = json_new_object();
        for (size_t f = 0; f < NFIELDS; f++)
            if (fields[f].field < PACKAGE_FIELDS)
                put_text(one, fields[f].json, package->fields[fields[f].field]);
            else if (package->epoch != 0)
                json_put_number(one, fields[f].json, package->epoch);
        json_add(all, one);
    }
    return all;
}

json_t *root_as_json(const struct shown_root *shown) {
    char number[2][12];
    struct property list[NPROPERTIES];
    json_t *root = json_new_object();
    list_properties(shown->root, number, list);
    for (size_t i = 0; i < NPROPERTIES; i++)
        if (list[i].value == number[0])
            json_put_number(root, list[i].json, shown->root->major);
        else if (list[i].value == number[1])
            json_put_number(root, list[i].json, shown->root->minor);
        else
            put_text(root, list[i].json, list[i].value);
    json_put(root, "mountpoints", mounts_as_json(shown));
    json_put(root, "filesystems", filesystems_as_json(shown));
    if (shown->packages)
        json_put(root, "applications", packages_as_json(shown->packages));
    put_text(root, "icon", shown->icon);
    return root;
}
