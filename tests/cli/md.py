#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Members of MD arrays as no tool makes them without a kernel: md.py DISK MIB LEVEL DISKS ROLE CHUNK EVENTS

The disk is filled with bytes that tell disk and place; a superblock of version 1.2 says that its data begins at 2 MiB.
mdadm --examine is asked by the test whether it is right."""
import struct
import sys

path, mib, level, disks, role, chunk, events = sys.argv[1], *map(int, sys.argv[2:])
start, at = 2 << 20, 4096
length = (mib << 20) - start
b = bytearray(4096)
struct.pack_into("<IIII", b, 0, 0xa92b4efc, 1, 0, 0)
b[16:32] = bytes(range(16))
b[32:38] = b"host:0"
struct.pack_into("<QiIQII", b, 64, 1700000000, level, 0, length // 512 if level == 1 else 0, chunk // 512, disks)
struct.pack_into("<QQQQI", b, 128, start // 512, length // 512, at // 512, 0, role)
b[168:184] = bytes([role + 1] * 16)
struct.pack_into("<QQQ", b, 192, 1700000000, events, 2**64 - 1)
struct.pack_into("<I", b, 220, 192)
for i in range(192):
    struct.pack_into("<H", b, 256 + 2 * i, i if i < disks else 0xffff)
total = sum(struct.unpack_from("<160I", b))
struct.pack_into("<I", b, 216, (total & 0xffffffff) + (total >> 32))
with open(path, "wb") as f:
    f.write(b"".join(struct.pack("<II", role + 1, i) * 64 for i in range(mib * 2048)))
    f.seek(at)
    f.write(b)
