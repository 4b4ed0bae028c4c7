/* SPDX-License-Identifier: GPL-3.0-or-later */
/* text.c - the parser of LVM's text (text.h). It goes through the bytes once, with the open sections and arrays on a
 * small stack, and writes the zero at the end of each key and string over a byte that it has read already. */
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../error.h"

#define DEPTH_MOST 16
#define NODES_MOST (1u << 20)

struct parser {
    char *at, *end;
    unsigned line;
    struct text *text;
    uint32_t room;
    struct {
        uint32_t node, last; /* what is open, and the latest in it */
    } open[DEPTH_MOST];
    unsigned depth;
    struct img_error *err;
};

static int wrong(struct parser *p, const char *what) {
    return fail(p->err, -EUCLEAN, "Line %u of the metadata of LVM %s", p->line, what);
}

static void skip_blanks(struct parser *p) {
    bool comment = false;
    for (; p->at < p->end; p->at++) {
        if (*p->at == '\n') {
            p->line++;
            comment = false;
        } else if (*p->at == '#') {
            comment = true;
        } else if (!comment && *p->at != ' ' && *p->at != '\t' && *p->at != '\r' && *p->at != '\0') {
            return;
        }
    }
}

static bool take(struct parser *p, char wanted) {
    skip_blanks(p);
    if (p->at == p->end || *p->at != wanted)
        return false;
    p->at++;
    return true;
}

/* A new node at the end of what is open. */
static int add(struct parser *p, enum text_kind kind, const char *key, struct text_node **node) {
    struct text *t = p->text;
    if (t->count == p->room) {
        uint32_t room = p->room ? 2 * p->room : 256;
        if (room > NODES_MOST)
            return wrong(p, "has too much before it");
        struct text_node *nodes = realloc(t->nodes, room * sizeof(struct text_node));
        if (!nodes)
            return fail_no_memory(p->err);
        t->nodes = nodes;
        p->room = room;
    }
    uint32_t index = t->count++;
    t->nodes[index] = (struct text_node){.kind = kind, .total = 1, .key = key};
    if (p->depth > 0) {
        uint32_t *last = &p->open[p->depth - 1].last;
        if (*last)
            t->nodes[*last].next = index;
        else
            t->nodes[p->open[p->depth - 1].node].first = index;
        *last = index;
    }
    *node = &t->nodes[index];
    return 0;
}

static int open_node(struct parser *p, enum text_kind kind, const char *key) {
    struct text_node *node = NULL;
    if (p->depth == DEPTH_MOST)
        return wrong(p, "is nested too deep");
    int ret = add(p, kind, key, &node);
    if (ret == 0) {
        p->open[p->depth].node = (uint32_t)(node - p->text->nodes);
        p->open[p->depth++].last = 0;
    }
    return ret;
}

/* The string that begins behind the quote, ended with a zero where it stands. */
static int take_string(struct parser *p, char quote, const char **string) {
    char *to = p->at;
    *string = to;
    while (p->at < p->end && *p->at != quote) {
        if (*p->at == '\\' && quote == '"' && p->end - p->at > 1)
            p->at++;
        if (*p->at == '\n')
            p->line++;
        *to++ = *p->at++;
    }
    if (p->at == p->end)
        return wrong(p, "has a string without an end");
    p->at++;
    *to = '\0';
    return 0;
}

static int take_number(struct parser *p, int64_t *number) {
    char *from = p->at, *end;
    errno = 0;
    *number = strtoll(from, &end, 10);
    if (end == from || errno)
        return wrong(p, "has no value that is known");
    while (end < p->end && (*end == '.' || (*end >= '0' && *end <= '9'))) /* no fraction matters */
        end++;
    p->at = end;
    return 0;
}

static int take_value(struct parser *p, const char *key) {
    struct text_node *node;
    const char *string = NULL;
    int64_t number = 0;
    bool is_string = true;
    int ret;
    if (take(p, '['))
        return open_node(p, TEXT_ARRAY, key);
    if (take(p, '"')) {
        ret = take_string(p, '"', &string);
    } else if (take(p, '\'')) {
        ret = take_string(p, '\'', &string);
    } else {
        is_string = false;
        ret = take_number(p, &number);
    }
    if (ret == 0)
        ret = add(p, is_string ? TEXT_STRING : TEXT_NUMBER, key, &node);
    if (ret < 0)
        return ret;
    if (is_string)
        node->string = string;
    else
        node->number = number;
    return 0;
}

static bool is_key_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '+' || c == '.' || c == '/';
}

/* "key {" or "key = value" */
static int take_entry(struct parser *p) {
    char *key = p->at, *key_end;
    int ret;
    while (p->at < p->end && is_key_byte(*p->at))
        p->at++;
    key_end = p->at;
    if (key_end == key)
        return wrong(p, "has no key where one is needed");
    if (take(p, '{')) {
        ret = open_node(p, TEXT_SECTION, key);
        *key_end = '\0';
        return ret;
    }
    if (!take(p, '='))
        return wrong(p, "has a key without a value");
    *key_end = '\0';
    return take_value(p, key);
}

static void close_node(struct parser *p) {
    uint32_t index = p->open[--p->depth].node;
    p->text->nodes[index].total = p->text->count - index;
}

static int take_all(struct parser *p) {
    int ret = open_node(p, TEXT_SECTION, "");
    while (ret == 0) {
        skip_blanks(p);
        bool in_array = p->text->nodes[p->open[p->depth - 1].node].kind == TEXT_ARRAY;
        if (p->at == p->end)
            return p->depth == 1 ? 0 : wrong(p, "ends before a section does");
        if (in_array && take(p, ','))
            continue;
        if (p->depth > 1 && take(p, in_array ? ']' : '}'))
            close_node(p);
        else
            ret = in_array ? take_value(p, "") : take_entry(p);
    }
    return ret;
}

int text_parse(char *bytes, size_t length, struct text *text, struct img_error *err) {
    struct parser p = {.at = bytes, .end = bytes + length, .line = 1, .text = text, .err = err};
    *text = (struct text){.bytes = bytes};
    int ret = length <= TEXT_MOST ? take_all(&p) : fail(err, -EUCLEAN, "The metadata of LVM is %zu bytes long", length);
    if (ret < 0)
        text_free(text);
    return ret;
}

void text_free(struct text *text) {
    free(text->nodes);
    free(text->bytes);
    *text = (struct text){0};
}

const struct text_node *text_walk(const struct text *text, const struct text_node *in, const struct text_node *at) {
    uint32_t index = at ? at->next : in->first;
    return index ? &text->nodes[index] : NULL;
}

const struct text_node *text_get(const struct text *text, const struct text_node *section, const char *key) {
    const struct text_node *node = NULL;
    while ((node = text_walk(text, section, node)))
        if (strcmp(node->key, key) == 0)
            return node;
    return NULL;
}

const struct text_node *text_section(const struct text *text, const struct text_node *section, const char *key) {
    const struct text_node *node = text_get(text, section, key);
    return node && node->kind == TEXT_SECTION ? node : NULL;
}

const char *text_string(const struct text *text, const struct text_node *section, const char *key) {
    const struct text_node *node = text_get(text, section, key);
    return node && node->kind == TEXT_STRING ? node->string : NULL;
}

bool text_number(const struct text *text, const struct text_node *section, const char *key, uint64_t *number) {
    const struct text_node *node = text_get(text, section, key);
    if (!node || node->kind != TEXT_NUMBER || node->number < 0)
        return false;
    *number = (uint64_t)node->number;
    return true;
}

bool text_lists(const struct text *text, const struct text_node *section, const char *key, const char *word) {
    const struct text_node *array = text_get(text, section, key), *node = NULL;
    if (!array || array->kind != TEXT_ARRAY)
        return false;
    while ((node = text_walk(text, array, node)))
        if (node->kind == TEXT_STRING && strcmp(node->string, word) == 0)
            return true;
    return false;
}
