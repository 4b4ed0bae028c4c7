/* SPDX-License-Identifier: GPL-3.0-or-later */
/* inspect_xpath.c - XPath on the XML that `img inspect` prints, so that scripts need no tool of their own for that. The
 * document has texts of a guest in it: it is parsed in the sandbox, without network, entities or documents of others.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inspect.h"
#include "libxml2.h"
#include "report.h"
#include "sandbox.h"

static void print_line(const char *text) {
    size_t length = strlen(text);
    fputs(text, stdout);
    if (length > 0 && text[length - 1] != '\n')
        putchar('\n');
}

static void print_node(xmlDocPtr document, xmlNodePtr node) {
    xmlBufferPtr buffer = lx.xmlBufferCreate();
    if (!buffer)
        out_of_memory();
    if (node->type == XML_ELEMENT_NODE) {
        lx.xmlNodeDump(buffer, document, node, 0, 1);
        print_line((const char *)lx.xmlBufferContent(buffer));
    } else {
        xmlChar *content = lx.xmlNodeGetContent(node);
        print_line(content ? (const char *)content : "");
        (*lx.xmlFree)(content);
    }
    lx.xmlBufferFree(buffer);
}

static bool print_result(xmlDocPtr document, xmlXPathObjectPtr result) {
    xmlChar *text;
    switch (result->type) {
    case XPATH_NODESET:
        for (int i = 0; result->nodesetval && i < result->nodesetval->nodeNr; i++)
            print_node(document, result->nodesetval->nodeTab[i]);
        return true;
    case XPATH_STRING:
    case XPATH_NUMBER:
    case XPATH_BOOLEAN:
        text = lx.xmlXPathCastToString(result);
        print_line(text ? (const char *)text : "");
        (*lx.xmlFree)(text);
        return true;
    default:
        report("The expression has a result of a kind that cannot be printed");
        return false;
    }
}

static bool evaluate(xmlDocPtr document, const char *expression) {
    xmlXPathContextPtr context = lx.xmlXPathNewContext(document);
    if (!context)
        out_of_memory();
    xmlXPathObjectPtr result = lx.xmlXPathEvalExpression((const xmlChar *)expression, context);
    bool good = false;
    if (result)
        good = print_result(document, result);
    else
        report("'%s' is not an XPath expression", expression);
    lx.xmlXPathFreeObject(result);
    lx.xmlXPathFreeContext(context);
    return good;
}

/* libxml2 would print its own words. */
static void stay_quiet(void *context, const char *format, ...) {
    (void)context, (void)format;
}

int print_xpath(const char *expression) {
    if (!libxml2_load() || !sandbox_enter())
        return EXIT_FAILURE;
    lx.xmlSetGenericErrorFunc(NULL, stay_quiet);
    xmlDocPtr document = lx.xmlReadFd(STDIN_FILENO, NULL, NULL,
                                      XML_PARSE_NOBLANKS | XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    if (!document) {
        report("The standard input is not an XML document");
        return EXIT_FAILURE;
    }
    bool good = evaluate(document, expression);
    lx.xmlFreeDoc(document);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
