#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshot create by a full switch (docs/architecture.md, "Full switch"), tried on images that qemu-img made.

Everything is written aside: a new L1, a copy of each L2 table that contains a COPIED entry, refcount blocks and a
refcount table with the new counts, a snapshot table. Then the first 512 bytes of the header select all of it. For
random subsets of the aside writes (power cuts before the header) and for the finished image `qemu-img check` must
find no corruption and no leak, contents must be right, and qemu-img must be able to write, apply and delete.
Executable notes, not a tool: the image is held in memory. Needs qemu-img and qemu-io. Usage: full-switch.py [DIR]
"""
import hashlib, json, os, random, struct, subprocess, sys

OFFSET = (1 << 56) - 512
COPIED = 1 << 63


def sh(*argv):
    return subprocess.run(argv, capture_output=True, text=True)


def check(path):
    j = json.loads(sh('qemu-img', 'check', '--output=json', path).stdout)
    return j.get('corruptions', 0), j.get('leaks', 0), j.get('check-errors', 0)


def content(path, *opts):
    sh('qemu-img', 'convert', *opts, '-O', 'raw', path, 'content.raw')
    return hashlib.sha256(open('content.raw', 'rb').read()).hexdigest()[:12]


def make(path, compat, cluster, bits):
    """64 MiB with plain, compressed, shared and discarded clusters and one snapshot."""
    opts = 'compat=%s,cluster_size=%d' % (compat, cluster) + ('' if compat == '0.10' else ',refcount_bits=%d' % bits)
    sh('qemu-img', 'create', '-f', 'qcow2', '-o', opts, path, '64M')
    sh('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 9M', '-c', 'write -c -P 7 20M %d' % cluster,
       '-c', 'write -c -P 8 %d %d' % ((20 << 20) + cluster, cluster), '-c', 'write -P 2 40M 3M', path)
    sh('qemu-img', 'snapshot', '-c', 'old', path)
    sh('qemu-io', '-f', 'qcow2', '-c', 'write -P 3 1M 1M', '-c', 'write -P 4 50M 1M', '-c', 'discard 41M 1M', path)


def full_switch(path, name):
    """Returns the image as it is, the aside writes [(offset, bytes)], the new header sector, the end, statistics."""
    d = bytearray(open(path, 'rb').read())
    version, cbits = struct.unpack_from('>I', d, 4)[0], struct.unpack_from('>I', d, 20)[0]
    size, l1_n = struct.unpack_from('>Q', d, 24)[0], struct.unpack_from('>I', d, 36)[0]
    l1_off, rt_off, rt_clusters, nsnap, snap_off = struct.unpack_from('>QQIIQ', d, 40)
    bits, cs = (1 << struct.unpack_from('>I', d, 96)[0]) if version >= 3 else 16, 1 << cbits
    assert bits >= 8
    d += bytes(-len(d) % cs)
    per, width = cs * 8 // bits, bits // 8
    rt = struct.unpack_from('>%dQ' % (rt_clusters * cs // 8), d, rt_off)
    rc = {}
    for i, blk in enumerate(rt):
        for j in range(per if blk else 0):
            v = int.from_bytes(d[blk + j * width:blk + (j + 1) * width], 'big')
            if v:
                rc[i * per + j] = v
    end, aside, stat = len(d) // cs, [], dict(shared=0, copied=0)

    def take(n):
        nonlocal end
        first, end = end, end + n
        rc.update((c, 1) for c in range(first, end))
        return first * cs

    # counts along the active tree; copies of the tables whose flags change
    l1 = list(struct.unpack_from('>%dQ' % l1_n, d, l1_off))
    x = 62 - (cbits - 8)
    for i, e in enumerate(l1):
        table = e & OFFSET
        if not table:
            continue
        l2 = list(struct.unpack_from('>%dQ' % (cs // 8), d, table))
        had_copied = any(f & COPIED for f in l2)
        for j, f in enumerate(l2):
            if f >> 62 & 1:
                first, sectors = f & ((1 << x) - 1), (f >> x & ((1 << 62 - x) - 1)) + 1
                for c in range(first // cs, ((first & ~511) + sectors * 512 - 1) // cs + 1):
                    rc[c] += 1
            elif f & OFFSET:
                rc[(f & OFFSET) // cs] += 1
                l2[j] = f & ~COPIED
        if had_copied:
            l1[i] = take(1) | COPIED
            aside.append((l1[i] & OFFSET, struct.pack('>%dQ' % len(l2), *l2)))
            stat['copied'] += 1
        else:
            rc[table // cs] += 1
            l1[i] = table
            stat['shared'] += 1
    new_l1 = take(max(1, -(-l1_n * 8 // cs)))
    aside.append((new_l1, struct.pack('>%dQ' % l1_n, *l1)))

    # snapshot table: the old one and an entry that owns the old L1
    p = snap_off
    for _ in range(nsnap):
        p = p + 7 & ~7
        p += 40 + struct.unpack_from('>I', d, p + 36)[0] + sum(struct.unpack_from('>HH', d, p + 12))
    tab = bytes(d[snap_off:p]) if nsnap else b''
    ident = str(nsnap + 1).encode()
    tab += bytes(-len(tab) % 8) + struct.pack('>QIHHIIQII', l1_off, l1_n, len(ident), len(name), 1, 0, 0, 0, 24)
    tab += struct.pack('>QQQ', 0, size, (1 << 64) - 1) + ident + name.encode()
    new_snap = take(-(-len(tab) // cs))
    aside.append((new_snap, tab))
    for c in range(snap_off // cs, -(-p // cs)) if nsnap else ():
        rc[c] -= 1

    # the old refcount structure is free in the new one, which counts itself
    for c in [b // cs for b in rt if b] + list(range(rt_off // cs, rt_off // cs + rt_clusters)):
        rc[c] -= 1
    blocks, table = 0, 1
    while (need := -(-(end + blocks + table) // per)) > blocks or -(-need * 8 // cs) > table:
        blocks, table = max(blocks, need), max(table, -(-need * 8 // cs))
    offs = [take(1) for _ in range(blocks)]
    new_rt = take(table)
    for i, o in enumerate(offs):
        aside.append((o, b''.join(rc.get(c, 0).to_bytes(width, 'big') for c in range(i * per, (i + 1) * per))))
    aside.append((new_rt, struct.pack('>%dQ' % blocks, *offs) + bytes(table * cs - 8 * blocks)))
    head = bytearray(d[:512])
    struct.pack_into('>QQIIQ', head, 40, new_l1, new_rt, table, nsnap + 1, new_snap)
    return bytes(d), aside, bytes(head), end * cs, stat


def apply(path, name):
    """All cut states tried, then the switch. Returns how often tables were shared or copied; asserts the rest."""
    old, aside, head, end, stat = full_switch(path, name)

    def state(part):
        img = bytearray(old) + bytearray(end - len(old))
        for o, data in aside:
            if random.random() < part:
                img[o:o + len(data)] = data
        return img

    for k in range(8):
        open('cut.qcow2', 'wb').write(state(k / 7))
        assert check('cut.qcow2') == (0, 0, 0)
    img = state(2)
    img[:512] = head
    open(path, 'wb').write(img)
    assert check(path) == (0, 0, 0)
    return stat


def main():
    random.seed(1)
    os.chdir(sys.argv[1] if len(sys.argv) > 1 else '.')
    p = 'switch.qcow2'
    for geometry in (('0.10', 65536, 16), ('1.1', 65536, 16), ('1.1', 4096, 16), ('1.1', 4096, 64), ('1.1', 512, 64)):
        make(p, *geometry)
        before = content(p)
        s1, s2 = apply(p, 'n1'), apply(p, 'n2')
        sh('qemu-io', '-f', 'qcow2', '-c', 'write -P 9 5M 64k', '-c', 'write -P 9 50M 64k', p)
        assert check(p) == (0, 0, 0)
        touched, s3 = content(p), apply(p, 'n3')
        sh('qemu-io', '-f', 'qcow2', '-c', 'write -P 3 0 64M', p)
        for name, want in (('n1', before), ('n2', before), ('n3', touched)):
            assert content(p, '-l', 'snapshot.name=' + name) == want
        for name, want in (('n2', before), ('n3', touched), ('n1', before)):
            assert sh('qemu-img', 'snapshot', '-a', name, p).returncode == 0
            assert check(p) == (0, 0, 0) and content(p) == want
        for name in ('n1', 'old', 'n3', 'n2'):
            assert sh('qemu-img', 'snapshot', '-d', name, p).returncode == 0 and check(p) == (0, 0, 0)
        assert content(p) == before
        print('compat %s cluster %d refcount_bits %d: ok;' % geometry, 'tables', s1, s2, s3, flush=True)
    for f in (p, 'cut.qcow2', 'content.raw'):
        os.unlink(f)


main()
