"""What the system tests share: kernels, tiny initramfs images, and a VM run through build/atoll-vm.

Every wait is bounded; a VM that is still there at the end of its `with` block is killed. The guest's
console is kept whole, so that a failure can show it.
"""
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get('ATOLL_BUILD', ROOT / 'build'))
CACHE = pathlib.Path(os.environ.get('ATOLL_TEST_CACHE', ROOT / 'build' / 'kernels'))
SKIP = 77
# On a machine that does other things at the same time everything takes longer.
PATIENCE = float(os.environ.get('ATOLL_TEST_PATIENCE', '1'))

STATUS_POWEROFF, STATUS_ARGUMENT, STATUS_FILE, STATUS_ENGINE, STATUS_CRASH = 0, 2, 4, 6, 8
STATUS_HOST = 10


def skip(why):
    print(f'skipped: {why}')
    sys.exit(SKIP)


class Kernel:
    """A Debian kernel with its modules, fetched once. One of another architecture (i386) comes with a
    busybox of that architecture."""

    def __init__(self, package='linux-image-cloud-amd64', arch=None):
        self.dir = CACHE / package
        script = ROOT / 'tests' / 'system' / 'fetch_kernel.sh'
        words = [script, package, self.dir] + ([arch] if arch else [])
        result = subprocess.run(words, timeout=900)
        if result.returncode == SKIP:
            skip(f'{package} cannot be fetched here')
        result.check_returncode()
        self.image = self.dir / 'vmlinuz'
        self.busybox = self.dir / 'busybox' if arch else pathlib.Path('/bin/busybox')
        self.modules = {p.name.removesuffix('.ko').replace('-', '_'): p
                        for p in (self.dir / 'modules').rglob('*.ko')}

    def module_files(self, *names):
        """The modules and what they need, in the order in which they must be loaded."""
        depends = {}
        for line in (self.dir / 'modules' / 'modules.order').read_text().splitlines():
            depends[pathlib.Path(line).stem.replace('-', '_')] = []
        order = []

        def visit(name):
            if name in order or name not in self.modules:
                return  # built in
            info = self.modules[name].read_bytes()
            found = re.search(rb'\0depends=([^\0]*)\0', info)
            for needed in found.group(1).decode().split(',') if found else []:
                if needed:
                    visit(needed.replace('-', '_'))
            order.append(name)

        for name in names:
            visit(name)
        return [self.modules[name] for name in order]


def cpio(entries):
    """A cpio archive (newc) of (name, mode, bytes, (major, minor)) entries."""
    out = bytearray()
    for number, (name, mode, data, device) in enumerate(
            entries + [('TRAILER!!!', 0, b'', (0, 0))], 1):
        encoded = name.encode() + b'\0'
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0]
        out += b'070701' + b''.join(b'%08X' % f for f in fields) + encoded
        out += b'\0' * (-len(out) % 4)
        out += data
        out += b'\0' * (-len(out) % 4)
    return bytes(out)


def initramfs(path, script, kernel=None, modules=(), files=None):
    """Writes an initramfs whose init mounts the usual, loads MODULES, and runs SCRIPT (sh)."""
    busybox = kernel.busybox if kernel else pathlib.Path('/bin/busybox')
    if not busybox.exists():
        skip('busybox-static is not installed')
    entries = [(d, 0o040755, b'', (0, 0))
               for d in ('bin', 'dev', 'proc', 'sys', 'lib', 'mnt', 'tmp')]
    entries.append(('bin/busybox', 0o100755, busybox.read_bytes(), (0, 0)))
    entries.append(('dev/console', 0o020600, b'', (5, 1)))
    head = ['#!/bin/busybox sh', '/bin/busybox --install -s /bin', 'export PATH=/bin',
            'mount -t proc proc /proc', 'mount -t sysfs sys /sys', 'mount -t devtmpfs dev /dev']
    for index, module in enumerate(kernel.module_files(*modules) if kernel else ()):
        name = f'lib/{index:02}-{module.name}'
        entries.append((name, 0o100644, module.read_bytes(), (0, 0)))
        head.append(f'insmod /{name} || echo FAILED-MODULE {module.name}')
    for name, data in (files or {}).items():
        entries.append((name, 0o100755, data, (0, 0)))
    text = '\n'.join(head + [script, 'echo SCRIPT-ENDED', 'poweroff -f', 'sleep 1000', ''])
    entries.append(('init', 0o100755, text.encode(), (0, 0)))
    path.write_bytes(cpio(entries))
    return path


def counters(path):
    """What --debug-stats wrote: values by 'cpuN group.name'."""
    lines = (line.rsplit(' ', 1) for line in path.read_text().splitlines())
    return {name: int(value) for name, value in lines}


class Vm:
    """atoll-vm with a config; its console is our pipe."""

    def __init__(self, config, fds=()):
        defaults = {'schema': 1, 'memory_bytes': 256 << 20, 'append': 'console=ttyS0',
                    'engine': os.environ.get('ATOLL_TEST_ENGINE', 'auto')}
        self.config = {**defaults, **config}
        self.fds = fds
        self.output = b''
        self.process = None

    def __enter__(self):
        config_fd = os.memfd_create('config', 0)
        os.write(config_fd, json.dumps(self.config, default=str).encode())
        os.lseek(config_fd, 0, os.SEEK_SET)
        os.set_inheritable(config_fd, True)
        self.process = subprocess.Popen(
            [BUILD / 'atoll-vm', '--config-fd', str(config_fd)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=(config_fd, *self.fds))
        os.close(config_fd)
        return self

    def __exit__(self, kind, value, trace):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if kind is not None:
            sys.stdout.write('---- console ----\n' + self.text() + '\n---- end ----\n')
        self.process.stdin.close()
        self.process.stdout.close()

    def text(self):
        return self.output.decode(errors='replace')

    def pump(self, seconds):
        """Reads what comes within SECONDS; False when the output has ended."""
        ready, _, _ = select.select([self.process.stdout], [], [], max(seconds, 0))
        if not ready:
            return True
        data = os.read(self.process.stdout.fileno(), 65536)
        self.output += data
        return bool(data)

    def expect(self, pattern, seconds=60):
        """Waits for a regular expression on the console; returns the match."""
        end = time.monotonic() + seconds * PATIENCE
        while True:
            match = re.search(pattern, self.text())
            if match:
                return match
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(f'no {pattern!r} within {seconds} s')
            if not self.pump(left):
                match = re.search(pattern, self.text())
                if match:
                    return match
                raise AssertionError(f'the VM ended without {pattern!r}')

    def send(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def finish(self, seconds=60):
        """Waits for the end; returns the exit status."""
        end = time.monotonic() + seconds * PATIENCE
        while self.pump(min(1, end - time.monotonic())):
            if time.monotonic() >= end:
                raise AssertionError(f'the VM did not end within {seconds} s')
        return self.process.wait(max(1, end - time.monotonic()))

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def run_tests(module_globals):
    """Runs every function named test_*, or those named on the command line; exits 1 on failure."""
    chosen = sys.argv[1:]
    failed = []
    for name, function in list(module_globals.items()):
        if not name.startswith('test_') or (chosen and name not in chosen):
            continue
        start = time.monotonic()
        try:
            function()
            verdict = 'ok'
        except Exception as problem:  # the next test must run all the same
            verdict = f'FAILED: {type(problem).__name__}: {problem}'
            failed.append(name)
        print(f'{name}: {verdict} ({time.monotonic() - start:.1f} s)', flush=True)
    sys.exit(1 if failed else 0)
