#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""xfs_corpus.py IMAGE INPUT [--no-log]: the sectors of an image of one allocation group that are not zero, as fuzz_xfs.c
reads them. Left out are sectors of the log that only say that they are from before its first cycle; with --no-log all
of the log."""
import struct
import sys

data = open(sys.argv[1], 'rb').read()
block, = struct.unpack_from('>I', data, 4)
start, = struct.unpack_from('>Q', data, 48)
blocks, = struct.unpack_from('>I', data, 96)
log = range(start * block, (start + blocks) * block)
with open(sys.argv[2], 'wb') as out:
    out.write(struct.pack('<I', len(data) // 512))
    for at in range(0, len(data), 512):
        sector = data[at:at + 512]
        stale = at in log and (sys.argv[3:] == ['--no-log'] or sector[:8] == b'\xfe\xed\xba\xbe\0\0\0\0')
        if any(sector) and not stale:
            out.write(struct.pack('<I', at // 512) + sector)
