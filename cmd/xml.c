/* SPDX-License-Identifier: GPL-3.0-or-later */
/* xml.c - see xml.h. */
#include "xml.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

/* The character of valid UTF-8 at `s`, and how many bytes it has. */
static uint32_t character(const unsigned char *s, size_t *length) {
    *length = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    uint32_t code = *length == 1 ? s[0] : s[0] & (0xffu >> (*length + 1));
    for (size_t i = 1; i < *length; i++)
        code = code << 6 | (s[i] & 0x3f);
    return code;
}

static bool changes_terminal(uint32_t c) {
    return (c >= 0x7f && c < 0xa0) || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

static void print_character(FILE *out, const unsigned char *s, size_t length, uint32_t code, bool in_attribute) {
    if (code == '&')
        fputs("&amp;", out);
    else if (code == '<')
        fputs("&lt;", out);
    else if (code == '>')
        fputs("&gt;", out);
    else if (code == '"' && in_attribute)
        fputs("&quot;", out);
    else if (code == '\r' || (in_attribute && (code == '\n' || code == '\t')) || changes_terminal(code))
        fprintf(out, "&#%u;", code);
    else if ((code < 0x20 && code != '\n' && code != '\t') || code == 0xfffe || code == 0xffff)
        fputs("\xef\xbf\xbd", out);
    else
        fwrite(s, 1, length, out);
}

static void print_escaped(FILE *out, const char *text, bool in_attribute) {
    char *valid = text_utf8(text);
    const unsigned char *s = (const unsigned char *)valid;
    for (size_t length; *s; s += length) {
        uint32_t code = character(s, &length);
        print_character(out, s, length, code, in_attribute);
    }
    free(valid);
}

static void close_tag(struct xml *xml, const char *end) {
    if (xml->tag_is_open)
        fputs(end, xml->out);
    xml->tag_is_open = false;
}

void xml_start(struct xml *xml, FILE *out) {
    *xml = (struct xml){.out = out};
    fputs("<?xml version=\"1.0\"?>\n", out);
}

void xml_begin(struct xml *xml, const char *name) {
    assert(xml->depth < XML_DEPTH_MAX);
    close_tag(xml, ">\n");
    fprintf(xml->out, "%*s<%s", (int)(2 * xml->depth), "", name);
    xml->names[xml->depth++] = name;
    xml->tag_is_open = true;
    xml->has_text = false;
}

void xml_attribute(struct xml *xml, const char *name, const char *value) {
    fprintf(xml->out, " %s=\"", name);
    print_escaped(xml->out, value, true);
    putc('"', xml->out);
}

void xml_text(struct xml *xml, const char *text) {
    close_tag(xml, ">");
    print_escaped(xml->out, text, false);
    xml->has_text = true;
}

void xml_end(struct xml *xml) {
    const char *name = xml->names[--xml->depth];
    if (xml->tag_is_open)
        fputs("/>\n", xml->out);
    else
        fprintf(xml->out, "%*s</%s>\n", xml->has_text ? 0 : (int)(2 * xml->depth), "", name);
    xml->tag_is_open = xml->has_text = false;
}

void xml_leaf(struct xml *xml, const char *name, const char *text) {
    if (!text || !*text)
        return;
    xml_begin(xml, name);
    xml_text(xml, text);
    xml_end(xml);
}
