/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* check.c - the check as a whole: scan, report, repair in the order of check.h, and scan again for the verdict.
 *
 * After each step of a repair that changes references the image is scanned anew, quietly. Scans are cheap, and so no
 * step has to predict what an earlier one leaves; the last scan, not the repair, says whether the image is clean.
 */
#include "check.h"
#include "scan.h"

#include <string.h>

enum { MAX_ROUNDS = 8 }; /* of step 1; each takes something away, two or three are the rule */

static bool clean(const struct scan *s) {
    return !s->result.corruptions && !s->result.leaks && !s->result.check_errors;
}

static int scan_again(struct scan *s, struct img_error *err) {
    s->quiet = true;
    int code = scan_run(s);
    if (!code)
        code = scan_compare(s, NULL, NULL);
    return code ? img_fail_errno(err, code, "Could not count the references again") : 0;
}

/* Step 1 until nothing is left that it could do. */
static int settle(struct scan *s, bool *wrote, struct img_error *err) {
    for (int round = 0; round < MAX_ROUNDS; round++) {
        bool again;
        if (!s->entries_wrong && !s->overlaps.n && !s->bitmaps_wrong && !s->cut_end)
            return 0;
        int code = repair_entries(s, &again, wrote, err);
        if (code || !again)
            return code;
        if (s->dropped.n)
            s->without_snapshots = true;
        code = scan_again(s, err);
        if (code)
            return code;
    }
    return 0;
}

static int correct_counts(struct scan *s, bool *wrote, struct img_error *err) {
    bool rebuild = s->refcounts_broken || s->uncovered || s->snapshots_wrong || s->dropped.n ||
                   s->max_count > blockcount_max(s->header->refcount_order);
    int code = 0;
    if (rebuild) {
        s->without_refcounts = true;
        s->without_snapshots = s->snapshots_wrong || s->dropped.n;
        code = scan_again(s, err);
    }
    bool set = s->flags_set;
    if (!code && s->flags_clear)
        code = repair_flags(s, false, wrote, err);
    if (!code && rebuild)
        code = repair_rebuild(s, wrote, err);
    else if (!code && s->counts_wrong)
        code = repair_counts(s, RECOUNT_ALL, wrote, err);
    if (!code && set)
        code = repair_flags(s, true, wrote, err);
    s->without_refcounts = s->without_snapshots = false;
    s->dropped.n = 0;
    return code;
}

static int repair_all(struct scan *s, bool *wrote, struct img_error *err) {
    int code = 0;
    if (s->v3) {
        s->header->incompatible |= QCOW2_INCOMPAT_DIRTY;
        code = repair_header(s, wrote, err);
    }
    if (!code)
        code = settle(s, wrote, err);
    if (!code && s->v3 && !(s->header->autoclear & QCOW2_AUTOCLEAR_BITMAPS) && s->header->has_bitmaps)
        code = repair_header(s, wrote, err); /* before the counts of disowned bitmaps fall */
    return code ? code : correct_counts(s, wrote, err);
}

static int repair_leaks(struct scan *s, bool *wrote, struct img_error *err) {
    if (s->hidden || s->refcounts_broken || s->overlaps.n) {
        scan_tell(s, IMG_FINDING_ERROR, SCAN_NO_GUEST, 0,
                  "Leaks are not repaired: damaged tables may hide references; repair all");
        return 0;
    }
    /* A count that falls to one asks for the flag, and flags are set only where all counts are right. */
    if (s->result.corruptions)
        return repair_counts(s, RECOUNT_LOWER_UNSEEN, wrote, err);
    int code = repair_counts(s, RECOUNT_LOWER, wrote, err);
    return code || !s->flags_set ? code : repair_flags(s, true, wrote, err);
}

/* The last scan and what follows from it for the header. */
static int conclude(struct scan *s, uint64_t features, bool *wrote, struct img_error *err) {
    const uint64_t marks = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT;
    if (*wrote) {
        s->quiet = true;
        int code = scan_run(s);
        if (!code)
            code = scan_report(s);
        if (code)
            return img_fail_errno(err, code, "Could not check the repaired image");
    }
    bool sound = !s->result.corruptions && !s->result.check_errors;
    uint64_t incompatible = sound ? features & ~marks : features;
    if (incompatible == s->header->incompatible)
        return 0;
    s->header->incompatible = incompatible;
    return repair_header(s, wrote, err);
}

static int repair(struct scan *s, bool all, bool *wrote, struct img_error *err) {
    const struct img_check_result before = s->result;
    uint64_t features = s->header->incompatible;
    int code = 0;
    if (before.check_errors || s->hopeless) {
        scan_tell(s, IMG_FINDING_ERROR, SCAN_NO_GUEST, 0,
                  "Nothing is repaired: not all tables can be read, so references may be unknown");
        return 0;
    }
    if (all && (before.corruptions || (before.leaks && s->flags_set)))
        code = repair_all(s, wrote, err);
    else if (before.leaks)
        code = repair_leaks(s, wrote, err);
    if (!code)
        code = conclude(s, features, wrote, err);
    if (code) {
        s->result = before;
        s->result.check_errors++;
        return code;
    }
    if (s->result.corruptions < before.corruptions)
        s->result.corruptions_fixed = before.corruptions - s->result.corruptions;
    if (s->result.leaks < before.leaks)
        s->result.leaks_fixed = before.leaks - s->result.leaks;
    return 0;
}

int qcow2_check_file(struct storage *file, struct storage *data_file, struct qcow2_header *header,
                     const struct img_check_options *options, struct img_check_result *result, bool *repaired,
                     struct img_error *err) {
    struct scan s;
    uint32_t flags = options ? options->flags : 0;
    *repaired = false;
    *result = (struct img_check_result){0};
    if (flags && !file->writable)
        return img_fail(err, -EACCES, "The image is not open for writing and cannot be repaired");
    scan_setup(&s, file, data_file, header, options);
    int code = scan_run(&s);
    if (!code)
        code = scan_report(&s);
    if (code)
        code = img_fail_errno(err, code, "Could not check the image");
    else if (flags && (!clean(&s) || header->incompatible & (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT)))
        code = repair(&s, flags & IMG_CHECK_REPAIR_ALL, repaired, err);
    *result = s.result;
    scan_free(&s);
    return code;
}
