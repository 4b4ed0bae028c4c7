/* SPDX-License-Identifier: GPL-3.0-or-later */
/* libxml2.h - libxml2, which is loaded by what reads XML: lx.xmlReadFile(). Its xmlFree is a variable that holds a
 * function: (*lx.xmlFree)(text). */
#ifndef LIBXML2_H
#define LIBXML2_H

#include <libxml/parser.h>
#include <libxml/tree.h>
#include <libxml/xpath.h>

#include "fs/late.h"

#define LIBXML2(F)                                                                                                     \
    F(xmlBufferContent)                                                                                                \
    F(xmlBufferCreate)                                                                                                 \
    F(xmlBufferFree)                                                                                                   \
    F(xmlFree)                                                                                                         \
    F(xmlFreeDoc)                                                                                                      \
    F(xmlGetProp)                                                                                                      \
    F(xmlNodeDump)                                                                                                     \
    F(xmlNodeGetContent)                                                                                               \
    F(xmlReadFd)                                                                                                       \
    F(xmlReadFile)                                                                                                     \
    F(xmlSetGenericErrorFunc)                                                                                          \
    F(xmlXPathCastToString)                                                                                            \
    F(xmlXPathEvalExpression)                                                                                          \
    F(xmlXPathFreeContext)                                                                                             \
    F(xmlXPathFreeObject)                                                                                              \
    F(xmlXPathNewContext)

extern struct libxml2 { LIBXML2(LATE_POINTER) } lx;

/* Before the sandbox. False after reporting. */
bool libxml2_load(void);

#endif
