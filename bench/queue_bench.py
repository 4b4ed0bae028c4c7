# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue's part of bench/run: random requests of 4 KiB against fio and qemu-img bench, and what a lookup costs.

The files are on tmpfs. fio (bench/queue.fio) has a plain file of 4 GiB, bench/queue a qcow2 of 4 GiB beside it; both do
as many requests, in turn. fio's requests are moved by the kernel's worker threads, on as many cores as there are, since
tmpfs cannot be read without waiting; a queue uses one core. So fio is shown on all cores and, with its workers, on one,
and the time of the processor that each request took is shown too.

Past the page cache (O_DIRECT) both have 1 GiB on a disk and write a quarter of it: there the device is the limit.
"""
import json
import os
import re
import resource
import subprocess
import sys
import tempfile

from turns import turns

HERE = os.path.dirname(os.path.abspath(__file__))
GIB = 1 << 30
SIZE = 4 * GIB
REQUESTS = SIZE // 4096
CACHES = 40  # MiB: the defaults of the options, 32 for L2 and 8 for counts


def output(argv):
    """What a command prints, and the seconds of processor time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit('%s\nfailed with status %d: %s' % (' '.join(argv), done.returncode, done.stderr.strip()))
    return done.stdout + done.stderr, sum(
        getattr(after, name) - getattr(before, name) for name in ('ru_utime', 'ru_stime'))


def one_core():
    return ['taskset', '-c', str(max(os.sched_getaffinity(0)))]


class Queue:
    def __init__(self, program, folder, rounds):
        self.program, self.folder, self.rounds = program, folder, rounds
        self.peak = 0

    def path(self, name):
        return os.path.join(self.folder, name)

    def ours(self, *arguments, before=()):
        """Requests a second and microseconds of processor time for each of bench/queue."""
        text, processor = output([*before, self.program, *arguments])
        rate, nanoseconds, memory = map(float, text.split())
        if '-f' not in arguments:
            self.peak = max(self.peak, memory)
        return rate, processor, nanoseconds

    def fio(self, kind, before=(), size=SIZE, requests=REQUESTS, options=()):
        text, processor = output([*before, 'fio', '--output-format=json', '--filename=' + self.path('plain'),
                                  '--size=%d' % size, '--io_size=%d' % (requests * 4096), '--rw=' + kind, *options,
                                  os.path.join(HERE, 'queue.fio')])
        job = json.loads(text[text.index('{'):])['jobs'][0]['read' if kind == 'randread' else 'write']
        if job['total_ios'] != requests:
            sys.exit('fio did %d requests, not %d' % (job['total_ios'], requests))
        return job['iops'], processor

    def qemu(self, image, step):
        text, _ = output(['qemu-img', 'bench', '-w', '-f', 'qcow2', '-c', str(SIZE // 65536), '-d', '32', '-s', '4096',
                          '-S', str(step), '-t', 'writeback', '-i', 'threads', image])
        return SIZE / 65536 / float(re.search(r'completed in ([0-9.]+) seconds', text).group(1))

    def create(self, name, *options, size=SIZE):
        path = self.path(name)
        if os.path.exists(path):
            os.unlink(path)
        output(['qemu-img', 'create', '-q', '-f', 'qcow2', *options, path, str(size)])
        return path

    # ---- A: beside fio, qemu-img bench and pread

    def against_fio(self, image, kind, name):
        medians = turns({
            'ours': lambda: self.ours('-n', kind, image),
            'fio': lambda: self.fio('rand' + kind),
            'fio, one core': lambda: self.fio('rand' + kind, one_core()),
        }, self.rounds)
        self.ours(kind, image)  # once more, and what is on the disk is looked at
        ours = medians['ours'][0]
        for who in ('ours', 'fio', 'fio, one core'):
            rate, processor = medians[who][:2]
            print('%-28s %-15s %9.0f %8.2f %8s' % (name, who, rate, processor / REQUESTS * 1e6,
                                                  '' if who == 'ours' else '%.2f' % (ours / rate)), flush=True)
        return ours

    def allocating(self, preallocated):
        image = self.path('sparse')

        def fresh():
            self.create('sparse')

        def clusters():
            fresh()
            return self.ours('-s', '65536', 'write', image)

        def blocks():
            fresh()
            return self.ours('write', image)

        def theirs():
            fresh()
            return (self.qemu(image, 26801 * 65536),)

        medians = turns({'clusters': clusters, 'blocks': blocks, 'qemu-img bench': theirs}, self.rounds)
        output(['qemu-img', 'check', '-q', image])
        os.unlink(image)
        every, some, peer = (medians[name][0] for name in ('clusters', 'blocks', 'qemu-img bench'))
        row = '%-28s %-15s %9.0f   %s'
        print(row % ('allocating write', 'every request', every, '%.2f of preallocated, %.1f x qemu-img bench -w' % (
            every / preallocated, every / peer)))
        print(row % ('', 'each 16th', some, '%.2f of preallocated' % (some / preallocated)))
        print(row % ('', 'qemu-img bench', peer, 'every request'), flush=True)

    def depth_one(self, image):
        medians = turns({
            'queue': lambda: self.ours('-n', '-d1', 'read', image),
            'pread': lambda: self.ours('-n', '-fnone', 'read', self.path('plain')),
        }, self.rounds)
        queue, bare = medians['queue'][2], medians['pread'][2]
        print('%-28s %.0f ns, a bare pread %.0f ns: %.0f ns more' % ('read, depth 1', queue, bare, queue - bare),
              flush=True)

    def direct(self):
        """Overwrites past the page cache; self.folder is on a disk."""
        output(['fallocate', '-l', str(GIB), self.path('plain')])
        image, requests = self.create('direct', '-o', 'preallocation=full', size=GIB), GIB // 4 // 4096
        output(['dd', 'if=/dev/zero', 'of=' + self.path('plain'), 'bs=1M', 'count=1024', 'conv=notrunc'])
        arguments = ('-u', '-c', str(requests), 'write', image)
        medians = turns({
            'ours': lambda: self.ours('-n', *arguments),
            'ours, threads': lambda: self.ours('-n', '-t', *arguments),
            'fio': lambda: self.fio('randwrite', size=GIB, requests=requests, options=['--direct=1']),
        }, self.rounds)
        self.ours(*arguments)
        ours = medians['ours'][0]
        for who, (rate, processor, *_) in medians.items():
            print('%-28s %-15s %9.0f %8.2f %8s' % ('overwrite, O_DIRECT', who, rate, processor / requests * 1e6,
                                                  '' if who == 'ours' else '%.2f' % (ours / rate)), flush=True)

    # ---- B: the lookup

    def instructions(self, image, pieces):
        count = 100000
        text, _ = output(['valgrind', '--tool=callgrind', '--callgrind-out-file=/dev/null',
                          '--toggle-collect=img_queue_submit', '--toggle-collect=img_queue_reap',
                          '--toggle-collect=img_queue_wait', self.program, '-t', '-n', '-c', str(count), '-p', pieces,
                          '-w', str(SIZE), 'read', image])
        return int(re.search(r'Collected\s*:\s*([0-9]+)', text).group(1)) / count

    def lookup(self, small):
        """The large image has its 4 GiB in 64 pieces, a table or two for each, so nothing of the way is shared."""
        large = self.create('large', size=8 << 40)
        layout = {'4 GiB': (small, '1'), '8 TiB': (large, '64')}
        self.ours('-p', '64', '-w', str(SIZE), 'write', large)
        medians = turns({name: (lambda image=image, pieces=pieces: self.ours(
            '-n', '-p', pieces, '-w', str(SIZE), 'read', image)) for name, (image, pieces) in layout.items()}, self.rounds)
        counts = {name: self.instructions(image, pieces) for name, (image, pieces) in layout.items()}
        for name in layout:
            print('%-28s %-15s %9.0f   %.0f ns, %.0f instructions of ours for each' % (
                'read, working set 4 GiB', name, medians[name][0], medians[name][2], counts[name]))
        print('%-28s %-15s time %.3f, instructions %.3f' % (
            '', '8 TiB : 4 GiB', medians['8 TiB'][2] / medians['4 GiB'][2], counts['8 TiB'] / counts['4 GiB']),
            flush=True)
        os.unlink(large)


def queue_bench(folder, disk, rounds, program):
    bench = Queue(program, folder, rounds)
    settings = [line.strip() for line in open(os.path.join(HERE, 'queue.fio')) if '=' in line and line[0] != ';']
    print('\nqueue: %d requests of 4 KiB at random, 32 at once, in %s; content looked at afterwards' % (REQUESTS, folder))
    print(output(['fio', '--version'])[0].strip() + ': ' + ' '.join(settings))
    print('qemu-img bench: -w -c %d -d 32 -s 4096 -t writeback -i threads, one cluster each' % (SIZE // 65536))
    output(['fallocate', '-l', str(SIZE), bench.path('plain')])
    image = bench.create('preallocated', '-o', 'preallocation=falloc')
    print('%-28s %-15s %9s %8s %8s' % ('', '', 'requests', 'us of', 'ratio to'))
    print('%-28s %-15s %9s %8s %8s' % ('', '', 'a second', 'CPU each', 'it'))
    preallocated = bench.against_fio(image, 'write', 'overwrite')
    bench.against_fio(image, 'read', 'read')
    bench.depth_one(image)
    os.unlink(bench.path('plain'))
    bench.allocating(preallocated)
    bench.lookup(image)
    with tempfile.TemporaryDirectory(prefix='img-bench.', dir=disk) as place:
        Queue(program, place, rounds).direct()
    print('%-28s %.1f MiB more than before the image was opened, at most, in all runs; caches of %d MiB are allowed' % (
        'memory', bench.peak, CACHES))
    if bench.peak > CACHES:
        sys.exit('that is more than the caches may have')
