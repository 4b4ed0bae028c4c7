/* SPDX-License-Identifier: GPL-3.0-or-later */
/* replay.h - what the files of the replay share. */
#ifndef FS_XFS_REPLAY_H
#define FS_XFS_REPLAY_H

#include "log.h"

struct xlog_buffer_place {
    uint64_t daddr;
    uint32_t sectors; /* of 512 bytes */
};

/* Is the buffer given up further on in the log? */
bool xlog_is_cancelled(struct xlog_replay *replay, struct xlog_buffer_place place);
/* replay_inode.c: the change of one inode. */
int xlog_replay_inode(struct xlog_replay *replay, struct xfs *xfs, const struct xlog_item *item, uint64_t lsn,
                      struct img_error *err);
/* intents.c: a change of a map is announced, and done. */
int xlog_replay_map(struct xfs *xfs, const struct xlog_item *item, struct img_error *err);
int xlog_replay_map_done(struct xfs *xfs, const struct xlog_item *item, struct img_error *err);

#endif
