/* SPDX-License-Identifier: GPL-3.0-or-later */
/* arch.c - for which processor a guest's programs are: the headers of ELF and of Windows' PE, in libguestfs' words. */
#include <stdlib.h>
#include <string.h>

#include "parts.h"

enum { BITS_32 = 1, BITS_64 = 2, ANY_BITS = 3 }; /* ELF's class */
enum { LITTLE = 1, BIG = 2, ANY_ORDER = 3 };     /* ELF's data encoding */

static const struct {
    unsigned machine;
    unsigned bits, order; /* masks */
    const char *name;
} elf_machines[] = {
    {2, ANY_BITS, ANY_ORDER, "sparc"},     {3, ANY_BITS, ANY_ORDER, "i386"},
    {8, ANY_BITS, LITTLE, "mipsel"},       {8, ANY_BITS, BIG, "mips"},
    {18, ANY_BITS, ANY_ORDER, "sparc"},    {20, ANY_BITS, ANY_ORDER, "ppc"},
    {21, ANY_BITS, BIG, "ppc64"},          {21, ANY_BITS, LITTLE, "ppc64le"},
    {22, BITS_32, ANY_ORDER, "s390"},      {22, BITS_64, ANY_ORDER, "s390x"},
    {40, ANY_BITS, ANY_ORDER, "arm"},      {43, ANY_BITS, ANY_ORDER, "sparc64"},
    {50, ANY_BITS, ANY_ORDER, "ia64"},     {62, ANY_BITS, ANY_ORDER, "x86_64"},
    {183, ANY_BITS, ANY_ORDER, "aarch64"}, {243, BITS_32, ANY_ORDER, "riscv32"},
    {243, BITS_64, ANY_ORDER, "riscv64"},  {258, ANY_BITS, ANY_ORDER, "loongarch64"},
};

static const struct {
    unsigned machine;
    const char *name;
} pe_machines[] = {{0x14c, "i386"}, {0x8664, "x86_64"}, {0xaa64, "aarch64"}};

static unsigned little16(const unsigned char *p) {
    return p[0] | (unsigned)p[1] << 8;
}

static const char *arch_of_elf(const unsigned char *head) {
    unsigned bits = head[4], order = head[5];
    unsigned machine = order == BIG ? (unsigned)head[18] << 8 | head[19] : little16(head + 18);
    if ((bits != BITS_32 && bits != BITS_64) || (order != LITTLE && order != BIG))
        return NULL;
    for (size_t i = 0; i < sizeof(elf_machines) / sizeof(elf_machines[0]); i++)
        if (elf_machines[i].machine == machine && (elf_machines[i].bits & bits) && (elf_machines[i].order & order))
            return elf_machines[i].name;
    return NULL;
}

static const char *arch_of_pe(const unsigned char *head, size_t length) {
    uint32_t at = little16(head + 0x3c) | (uint32_t)little16(head + 0x3e) << 16;
    if (length < 6 || at > length - 6 || memcmp(head + at, "PE\0\0", 4) != 0)
        return NULL;
    for (size_t i = 0; i < sizeof(pe_machines) / sizeof(pe_machines[0]); i++)
        if (pe_machines[i].machine == little16(head + at + 4))
            return pe_machines[i].name;
    return NULL;
}

const char *arch_of_program(const unsigned char *head, size_t length) {
    if (length >= 20 && memcmp(head, "\177ELF", 4) == 0)
        return arch_of_elf(head);
    if (length >= 64 && memcmp(head, "MZ", 2) == 0)
        return arch_of_pe(head, length);
    return NULL;
}

void inspect_arch(struct guest *guest, struct inspect_root *root) {
    static const char *const programs[] = {"/bin/bash", "/bin/ls", "/bin/echo", "/bin/rm", "/bin/sh"};
    unsigned char head[4096];
    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]) && !root->arch; i++)
        root->arch = arch_of_program(head, look_head(guest, programs[i], head, sizeof(head)));
    if (root->windows_systemroot) {
        char path[512];
        struct span system = span_of(root->windows_systemroot);
        if (system.length > 400)
            return;
        stpcpy(stpcpy(path, root->windows_systemroot), "/system32/cmd.exe");
        char *program = look_without_case(guest, path);
        if (program)
            root->arch = arch_of_program(head, look_head(guest, program, head, sizeof(head)));
        free(program);
    }
}
