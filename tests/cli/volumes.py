#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of volumes need beside the shell.

  volumes.py table DISK [SECTOR]       partitions as sfdisk sees them, a line each
  volumes.py ours < LINES              the same of what tests/tools/volumes printed
  volumes.py gpt DISK [SECTOR]         puts right checksums into the headers of a changed GPT
  volumes.py encrypt KEY CIPHER SECTOR [TWEAK] < PLAIN > SECTORS
                                       by OpenSSL alone: KEY is a file, CIPHER aes-xts-plain64, aes-cbc-essiv:sha256 ...
  volumes.py luks2 DISK FROM TO        changes the text of both headers, with right checksums
  volumes.py interleave CHUNK FILE...  what lies in stripes, one behind the other
"""
import ctypes
import ctypes.util
import hashlib
import json
import re
import struct
import subprocess
import sys
import zlib


def line(number, start, size, kind, uuid, name, boot):
    print(number, start, size, kind.lower(), (uuid or "-").lower(), name or "-", "boot" if boot else "-")


def table_4096(disk):
    """sfdisk knows 512 only; fdisk has columns."""
    def show(columns):
        command = ["fdisk", "-b", "4096", "-l", "-o", columns, disk]
        out = subprocess.run(command, capture_output=True, check=True).stdout.decode()
        return out, out.split("\n\n")[-1].splitlines()[1:]
    head, _ = show("device")
    gpt = "Disklabel type: gpt" in head
    _, rows = show("device,start,sectors,type-uuid,uuid,name" if gpt else "device,start,sectors,id,boot")
    for row in rows:
        w = row.split()
        number = int(re.search(r"(\d+)$", w[0]).group(1))
        if gpt:
            line(number, int(w[1]) * 4096, int(w[2]) * 4096, w[3], w[4], " ".join(w[5:]), False)
        else:
            signature = int(re.search(r"Disk identifier: (0x\w+)", head).group(1), 16)
            size = 4096 if w[3] == "5" else int(w[2]) * 4096
            line(number, int(w[1]) * 4096, size, w[3].zfill(2), "%08x-%02x" % (signature, number), "", "*" in w)


def table(disk, sector="512"):
    if sector == "4096":
        return table_4096(disk)
    out = subprocess.run(["sfdisk", "-J", disk], capture_output=True, check=True).stdout
    t = json.loads(out)["partitiontable"]
    for p in t["partitions"]:
        number = int(re.search(r"(\d+)$", p["node"]).group(1))
        size = p["size"] * int(sector)
        if t["label"] == "dos":
            uuid = "%08x-%02x" % (int(t["id"], 16), number)
            if p["type"] in ("5", "f", "85"):
                size = max(1024, int(sector))
            line(number, p["start"] * int(sector), size, p["type"].zfill(2), uuid, "", p.get("bootable"))
        else:
            line(number, p["start"] * int(sector), size, p["type"], p["uuid"], p.get("name"), False)


def ours():
    for text in sys.stdin.buffer.read().decode("utf-8", "backslashreplace").splitlines():
        words = text.split(" ")
        if words[1] != "partition":
            continue
        v = dict(w.split("=", 1) for w in words[3:] if "=" in w)
        number = int(re.search(r"(\d+)$", words[0]).group(1))
        name = re.sub(r"\\x(..)", lambda m: chr(int(m.group(1), 16)), v.get("partlabel", ""))
        line(number, v["start"], words[2], v.get("mbr", v.get("typeuuid", "")), v.get("partuuid"), name,
             "active" in words)


def gpt(disk, sector="512"):
    sector = int(sector)
    with open(disk, "r+b") as f:
        last = f.seek(0, 2) - sector
        for at in (sector, last):
            f.seek(at)
            h = bytearray(f.read(sector))
            if h[:8] != b"EFI PART":
                continue
            array, count, size = struct.unpack_from("<QII", h, 72)
            f.seek(array * sector)
            struct.pack_into("<I", h, 88, zlib.crc32(f.read(count * size)))
            struct.pack_into("<I", h, 16, 0)
            struct.pack_into("<I", h, 16, zlib.crc32(bytes(h[:struct.unpack_from("<I", h, 12)[0]])))
            f.seek(at)
            f.write(h)


class OpenSSL:
    def __init__(self, name, key):
        self.lib = ctypes.CDLL(ctypes.util.find_library("crypto"))
        self.lib.EVP_CIPHER_CTX_new.restype = ctypes.c_void_p
        self.lib.EVP_get_cipherbyname.restype = ctypes.c_void_p
        self.cipher = ctypes.c_void_p(self.lib.EVP_get_cipherbyname(name.encode()))
        if not self.cipher.value:
            sys.exit("no cipher " + name)
        self.key = key
        self.context = ctypes.c_void_p(self.lib.EVP_CIPHER_CTX_new())

    def encrypt(self, iv, data):
        out, n = ctypes.create_string_buffer(len(data) + 32), ctypes.c_int()
        self.lib.EVP_CipherInit_ex(self.context, self.cipher, None, self.key, iv, 1)
        self.lib.EVP_CIPHER_CTX_set_padding(self.context, 0)
        self.lib.EVP_CipherUpdate(self.context, out, ctypes.byref(n), data, len(data))
        return out.raw[:n.value]


def encrypt(key, cipher, sector, tweak="0"):
    key, sector = open(key, "rb").read(), int(sector)
    algorithm, mode, iv = cipher.split("-", 2)
    bits = len(key) * (4 if mode == "xts" else 8)
    data = OpenSSL("%s-%d-%s" % (algorithm, bits, mode), key)
    if iv.startswith("essiv:"):
        essiv = OpenSSL("%s-256-ecb" % algorithm, hashlib.new(iv.split(":")[1], key).digest())
    number = int(tweak)
    while plain := sys.stdin.buffer.read(sector):
        v = struct.pack("<QQ", number & 0xffffffff if iv == "plain" else number, 0)
        if iv.startswith("essiv:"):
            v = essiv.encrypt(bytes(16), v)
        sys.stdout.buffer.write(data.encrypt(v, plain.ljust(sector, b"\0")))
        number += sector // 512


def luks2(disk, old, new):
    with open(disk, "r+b") as f:
        size = struct.unpack(">Q", f.read(16)[8:])[0]
        for at in (0, size):
            f.seek(at)
            h = bytearray(f.read(size))
            text = bytes(h[4096:]).rstrip(b"\0")
            if old.encode() not in text:
                sys.exit("'%s' is not in %s" % (old, text.decode()))
            h[4096:] = text.replace(old.encode(), new.encode(), 1).ljust(size - 4096, b"\0")
            h[448:512] = bytes(64)
            h[448:480] = hashlib.sha256(h).digest()
            f.seek(at)
            f.write(h)


def interleave(chunk, *files):
    parts = [open(f, "rb") for f in files]
    while True:
        for p in parts:
            piece = p.read(int(chunk))
            if not piece:
                return
            sys.stdout.buffer.write(piece)


commands = {"table": table, "ours": ours, "gpt": gpt, "encrypt": encrypt, "interleave": interleave, "luks2": luks2}
commands[sys.argv[1]](*sys.argv[2:])
