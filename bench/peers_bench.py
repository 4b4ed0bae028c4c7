# SPDX-License-Identifier: GPL-3.0-or-later
"""Two parts of bench/run: convert against the best that its peers can do, and convert on a file system with reflinks.

peers    a guest disk with 2 GiB of this machine's files, each way between raw and qcow2. qemu-img runs with -W -m 16 and
         with -t none or -t writeback, whichever was faster in a first round; ours with the same -t, so both are durable.
         nbdcopy (with qemu-nbd for qcow2, --flush) does the same work; cp to a raw file shows what the machine can do
reflink  raw and qcow2 of 4 GiB of data, on an XFS in a file that is mounted over a loop device

All contestants run once in every round, in turning order; medians. On a disk the page cache is dropped before each run
where we may (root), so each reads what it copies from the disk.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time

from turns import turns

HERE = os.path.dirname(os.path.abspath(__file__))
QEMU = ['qemu-img', 'convert', '-W', '-m', '16']


def quiet(*argv):
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def drop_page_cache():
    os.sync()
    try:
        with open('/proc/sys/vm/drop_caches', 'w') as knob:
            knob.write('1')
    except OSError:
        pass


def seconds(argv, target, prepare, cold):
    """How long a command takes to make `target`."""
    if os.path.exists(target):
        os.unlink(target)
    if prepare:
        quiet(*prepare)
    if cold:
        drop_page_cache()
    start = time.perf_counter()
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    took = time.perf_counter() - start
    if done.returncode:
        sys.exit('%s\nfailed with status %d: %s' % (' '.join(argv), done.returncode, done.stderr.strip()))
    return took


def race(contestants, target, rounds, cold):
    """{name: (argv, prepare)} -> {name: median of the seconds}."""
    medians = turns({name: lambda argv=argv, prepare=prepare: (seconds(argv, target, prepare, cold),)
                     for name, (argv, prepare) in contestants.items()}, rounds)
    return {name: median for name, (median,) in medians.items()}


def nbd(way, source, target, size):
    """The command of nbdcopy, and what must be there before."""
    if way == 'raw -> qcow2':
        return (['nbdcopy', '--flush', '--', source, '[', 'qemu-nbd', '-f', 'qcow2', '--discard=unmap', target, ']'],
                ['qemu-img', 'create', '-q', '-f', 'qcow2', target, str(size)])
    if way == 'qcow2 -> raw':
        return (['nbdcopy', '--flush', '--', '[', 'qemu-nbd', '-r', '-f', 'qcow2', source, ']', target],
                ['truncate', '-s', str(size), target])
    return (['nbdcopy', '--flush', '--', '[', 'qemu-nbd', '-r', '-f', 'qcow2', source, ']',
             '[', 'qemu-nbd', '-f', 'qcow2', '--discard=unmap', target, ']'],
            ['qemu-img', 'create', '-q', '-f', 'qcow2', target, str(size)])


def one_way(img, way, source, raw, target, rounds, cold):
    kinds = way.split(' -> ')
    formats = ['-f', kinds[0], '-O', kinds[1]]
    tries = {mode: min(seconds(QEMU + ['-t', mode, '-T', mode] + formats + [source, target], target, None, cold)
                       for _ in range(2)) for mode in ('none', 'writeback')}
    mode = min(tries, key=tries.get)
    medians = race({
        'img': ([img, 'convert', '-t', mode] + formats + [source, target], None),
        'qemu-img': (QEMU + ['-t', mode, '-T', mode] + formats + [source, target], None),
        'nbdcopy': nbd(way, source, target, os.stat(raw).st_size),
        'cp': (['sh', '-c', 'cp --sparse=auto "$0" "$1" && sync "$1"', source, target], None),
    }, target, rounds, cold)
    ours = medians['img']
    print('%-18s %-10s %8.3f %8.3f %8.3f %8.3f   %8.2f %8.2f %8.2f' % (
        way, mode, ours, medians['qemu-img'], medians['nbdcopy'], medians['cp'], medians['qemu-img'] / ours,
        medians['nbdcopy'] / ours, medians['cp'] / ours), flush=True)


def peers_bench(img, rounds, place):
    with tempfile.TemporaryDirectory(prefix='img-bench.', dir=place) as folder:
        raw, source, target = (os.path.join(folder, name) for name in ('disk.raw', 'source.qcow2', 'target'))
        quiet(os.path.join(HERE, '../scripts/guest-disk'), raw, '3072', '2048')
        quiet('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, source)
        kind = subprocess.run(['stat', '-f', '-c', '%T', folder], capture_output=True, text=True).stdout.strip()
        print('\npeers: 3 GiB disk, %d MiB in files, from and to %s (%s); %s, %s' % (
            os.stat(raw).st_blocks >> 11, place, kind, ' '.join(QEMU),
            subprocess.run(['nbdcopy', '--version'], capture_output=True, text=True).stdout.strip()))
        print('%-18s %-10s %8s %8s %8s %8s   %8s %8s %8s' % (
            '', '-t', 'img s', 'qemu s', 'nbd s', 'cp s', 'qemu/img', 'nbd/img', 'cp/img'))
        for way, path in (('raw -> qcow2', raw), ('qcow2 -> raw', source), ('qcow2 -> qcow2', source)):
            one_way(img, way, path, raw, target, rounds, kind != 'tmpfs')


def shared(path):
    """Extents of the file, and how many of them are shared."""
    lines = subprocess.run(['filefrag', '-v', path], capture_output=True, text=True).stdout.splitlines()
    extents = [line for line in lines if line.strip()[:1].isdigit()]
    return len(extents), sum('shared' in line for line in extents)


def reflink_bench(img, rounds, place):
    if os.geteuid():
        print('\nreflink: not measured, only root can mount an XFS')
        return
    with tempfile.TemporaryDirectory(prefix='img-bench.', dir=place) as folder:
        disk, mount = os.path.join(folder, 'xfs'), os.path.join(folder, 'mount')
        os.mkdir(mount)
        with open(disk, 'w') as file:
            file.truncate(12 << 30)
        quiet('mkfs.xfs', '-q', '-m', 'reflink=1', disk)
        if subprocess.run(['mount', '-o', 'loop', disk, mount]).returncode:
            print('\nreflink: not measured, no XFS can be mounted here')
            return
        try:
            reflink_ways(img, rounds, mount)
        finally:
            quiet('umount', mount)


def reflink_ways(img, rounds, mount):
    raw, source, target = (os.path.join(mount, name) for name in ('disk.raw', 'source.qcow2', 'target'))
    with open(raw, 'wb') as file:
        for _ in range(64):
            file.write(os.urandom(64 << 20))
    os.sync()
    print('\nreflink: 4 GiB of data on XFS, %s' % subprocess.run(
        ['mkfs.xfs', '-V'], capture_output=True, text=True).stdout.strip())
    for way, path in (('raw -> qcow2', raw), ('qcow2 -> raw', source)):
        kinds = way.split(' -> ')
        formats = ['-f', kinds[0], '-O', kinds[1]]
        medians = race({
            'img': ([img, 'convert', '-t', 'writeback'] + formats + [path, target], None),
            'cp': (['sh', '-c', 'cp --reflink=always "$0" "$1" && sync "$1"', path, target], None),
        }, target, rounds, False)
        quiet(img, 'convert', '-t', 'writeback', *formats, path, target)
        quiet('qemu-img', 'compare', '-q', path, target)
        print('%-18s img %.3f s, cp --reflink %.3f s; %d extents, %d of them shared' % (
            way, medians['img'], medians['cp'], *shared(target)), flush=True)
        if way == 'raw -> qcow2':
            shutil.move(target, source)
