// SPDX-License-Identifier: GPL-3.0-or-later
/* fuzz_nodes.c - bytes as the name of an image: the first one says whether it is JSON or a list of options.
 *
 * Held: a name is taken or refused with a sentence; what is taken is a tree whose images lie on something, and has a
 * name that is understood and comes to itself. Nothing is opened. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "../cmd/nodes.h"

/* The parts of an image, counted: the tree has an end. */
static void walk(const struct img_node *node, unsigned *left) {
    if (!node)
        return;
    if ((*left)-- == 0)
        fuzz_fail("a tree without end");
    if (node->kind == IMG_NODE_FORMAT && !node->file)
        fuzz_fail("an image that lies on nothing");
    if ((node->kind == IMG_NODE_FILE || node->kind == IMG_NODE_DEVICE) && (!node->path || !*node->path))
        fuzz_fail("a file without a name");
    walk(node->file, left);
    walk(node->backing, left);
    walk(node->data_file, left);
}

static void check_name(const struct nodes *n) {
    char *wrong = NULL, *name = nodes_name(n, "raw");
    struct nodes *again = nodes_is_name(name) ? nodes_parse(name, false, NULL, NULL, &wrong) : NULL;
    if (again) {
        char *same = nodes_name(again, "raw");
        if (strcmp(name, same) != 0)
            fuzz_fail("'%s' is called '%s'", name, same);
        free(same);
    } else if (wrong) {
        fuzz_fail("the name '%s' is refused: %s", name, wrong);
    }
    nodes_free(again);
    free(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 65536)
        return 0;
    char *text = malloc(size + 5), *wrong = NULL;
    if (!text)
        return 0;
    bool list = data[0] & 1;
    size_t start = list ? 0 : 5;
    memcpy(text, "json:", 5);
    memcpy(text + start, data + 1, size - 1);
    text[start + size - 1] = '\0';
    struct nodes *n = nodes_parse(text, list, NULL, NULL, &wrong);
    if (!n && (!wrong || !*wrong))
        fuzz_fail("a name is refused without a reason");
    if (n) {
        unsigned left = 64;
        walk(nodes_root(n), &left);
        check_name(n);
    }
    nodes_free(n);
    free(wrong);
    free(text);
    return 0;
}
