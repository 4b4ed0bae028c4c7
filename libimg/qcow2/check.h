/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* check.h - is an image consistent, and if not, make it so.
 *
 * What a repair does, in this order; "B" is a barrier. A power cut at any point leaves an image on which the same
 * repair can be run again and that holds no less than before:
 *
 *   0. version 3: the dirty bit is set in the header, bitmaps that cannot be read are disowned with it. B
 *   1. Entries that name nothing valid are settled in place: reserved bits fall, entries whose cluster cannot exist
 * (past the end of the file, not aligned, on metadata) become zero (version 2 and L1: unallocated). B. The image is
 *      counted again, since what was lost no longer refers to anything. Repeated while something was settled.
 *   2. COPIED is cleared in active entries whose cluster does not have exactly one reference. B
 *   3. Counts. Where the refcount structure is sound and covers everything, they are corrected in place. B. Otherwise a
 *      whole new structure (and snapshot table, when that must change) is written behind the end of the file. B. One
 *      write of header sector 0 names it. B. The old one is not touched, so data that a damaged structure seemed to
 *      overlap is kept.
 *   4. COPIED is set in active entries whose cluster has one reference. B
 *   5. When a last count finds no corruption: dirty and corrupt bits are cleared. B
 *
 * So COPIED is never set on disk while the count that is about to be there is not one, and no count is below the
 * references that step 1 left. Between 3 and 5 a power cut may leave "one reference without COPIED": no data is at
 * risk. IMG_CHECK_REPAIR_LEAKS alone lowers counts in place and sets COPIED where a count fell to one; when the image
 * has corruptions, it leaves such counts instead, so that it never makes one more. It changes nothing while damaged
 * tables or read errors may hide references.
 *
 * Never repaired: an active L1 table that lies wholly outside the file, anything when a table cannot be read, and in
 * version 2 a cluster with more references than 16 bits hold.
 */
#ifndef LIBIMG_QCOW2_CHECK_H
#define LIBIMG_QCOW2_CHECK_H

#include "header.h"

/* Checks the image in `file`, and repairs it when the options say so. Nothing else may use the file meanwhile, and no
 * cache may hold anything that is not in it. `data_file`: the external data file, NULL when there is none or it is not
 * open. `header` is what the file says; a repair changes both. *repaired: something was written, also on failure; what
 * was read before is void. Returns 0 when the check ran, whatever it found; -ENOMEM, -EACCES (repair of a file that is
 * not writable) or the error of a write that a repair needed. */
int qcow2_check_file(struct storage *file, struct storage *data_file, struct qcow2_header *header,
                     const struct img_check_options *options, struct img_check_result *result, bool *repaired,
                     struct img_error *err);

#endif
