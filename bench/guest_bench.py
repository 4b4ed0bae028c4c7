# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking into a guest's disk, beside the kernel's own mount of it (bench/run --only guest).

A qcow2 image of an ext4 disk with this machine's files: one file printed, all listed, all copied out. The kernel reads the
same filesystem from a raw file by a loop mount (root only), with what the page cache holds after one run. The sandbox is
on, as users have it. And two states of a disk compared."""
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS = 7


def seconds(argv, **more):
    start = time.perf_counter()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **more)
    return time.perf_counter() - start


def empty(folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)


def race(rounds, contestants):
    """Medians of commands that run in turn after one round to warm up: {name: (argv, prepare)}."""
    times = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, (argv, prepare) in contestants.items():
            if prepare:
                prepare()
            spent = seconds(argv)
            if number:
                times[name].append(spent)
    return {name: statistics.median(list_) for name, list_ in times.items()}


def bench(img, folder, disk, mount):
    out = os.path.join(folder, 'out')
    one = '/etc/passwd'
    guest = ['-a', disk, '-m', '/dev/sda1']
    files = sum(len(d) + len(f) for _, d, f in os.walk(mount))
    usr = [os.path.join(mount, 'usr')]
    print('%d files in the guest' % files)
    medians = race(ROUNDS, {'img cat': ([img, 'cat'] + guest + [one], None), 'true': (['true'], None)})
    print('img cat of one file     %8.1f ms   (starting a program that does nothing: %.1f ms)' % (
        medians['img cat'] * 1000, medians['true'] * 1000))
    medians = race(ROUNDS, {'img ls -lR': ([img, 'ls', '-lR'] + guest + ['/'], None),
                            'ls -lR': (['ls', '-lR', mount], None)})
    print('img ls -lR              %8.3f s    ls -lR of the mount %.3f s' % (medians['img ls -lR'], medians['ls -lR']))
    medians = race(3, {'img copy-out': ([img, 'copy-out'] + guest + ['/usr', out], lambda: empty(out)),
                       'cp -a': (['cp', '-a'] + usr + [out], lambda: empty(out))})
    size = int(subprocess.run(['du', '-sm', out], capture_output=True, text=True, check=True).stdout.split()[0])
    print('img copy-out of %d MiB %8.3f s    cp -a from the mount %.3f s   ratio %.2f' % (
        size, medians['img copy-out'], medians['cp -a'], medians['img copy-out'] / medians['cp -a']))
    print('largest of all children %8.1f MiB' % (resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024))


def many_files(folder):
    for number in range(20000):
        path = os.path.join(folder, 'd%02d' % (number // 1000), 'e%02d' % (number // 50 % 20))
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, 'file-%05d' % number), 'wb') as file:
            file.write(b'%d\n' % number * (number % 700))


def bench_diff(img, folder):
    """20 of 20,000 files changed between two snapshots, beside the same two disks as images that share nothing."""
    raw, disk, tree, old, new = (os.path.join(folder, name)
                                      for name in ('raw', 'qcow2', 'tree', 'old', 'new'))
    guest = ['-m', '/dev/sda']
    many_files(tree)
    with open(raw, 'wb') as file:
        file.truncate(512 << 20)
    subprocess.run(['/sbin/mke2fs', '-q', '-t', 'ext4', '-N', '40000', '-d', tree, raw], check=True)
    subprocess.run([img, 'convert', '-f', 'raw', '-O', 'qcow2', raw, disk], check=True)
    subprocess.run([img, 'snapshot', '-c', 'before', disk], check=True)
    subprocess.run([img, 'convert', '-O', 'qcow2', disk, old], check=True)
    for number in range(0, 20000, 1000):
        path = '/d%02d/e%02d' % (number // 1000, number // 50 % 20)
        name = os.path.join(folder, 'file-%05d' % number)
        with open(name, 'wb') as file:
            file.write(b'changed\n')
        subprocess.run([img, 'copy-in', '-a', disk] + guest + [name, path], check=True)
    subprocess.run([img, 'convert', '-O', 'qcow2', disk, new], check=True)
    shared = [img, 'diff', '-a', disk, '--a-snapshot', 'before', '-A', disk] + guest
    medians = race(ROUNDS, {'all': ([img, 'diff', '-a', old, '-A', new] + guest, None), 'shared': (shared, None),
                            'nothing': ([img, 'diff', '-a', disk, '-A', disk] + guest, None)})
    print('img diff, 20 of 20000   %8.1f ms   (of disks that share nothing %.1f ms, where nothing changed %.1f ms)' % (
        medians['shared'] * 1000, medians['all'] * 1000, medians['nothing'] * 1000))


def guest_bench(img, place):
    with tempfile.TemporaryDirectory(prefix='img-bench.', dir=place) as folder:
        bench_diff(img, folder)
    with tempfile.TemporaryDirectory(prefix='img-bench.', dir=place) as folder:
        raw, disk, mount = (os.path.join(folder, name) for name in ('disk.raw', 'disk.qcow2', 'mount'))
        subprocess.run([os.path.join(HERE, '../scripts/guest-disk'), raw, '1024', '500'], check=True,
                       stdout=subprocess.DEVNULL)
        subprocess.run([img, 'convert', '-f', 'raw', '-O', 'qcow2', raw, disk], check=True)
        os.mkdir(mount)
        print('\nguest: from and to %s' % place)
        if subprocess.run(['mount', '-o', 'loop,ro,offset=1048576', raw, mount]).returncode:
            print('left out: only root can mount the disk for comparison')
            return
        try:
            bench(img, folder, disk, mount)
        finally:
            subprocess.run(['umount', mount], check=False)
