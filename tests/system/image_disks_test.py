#!/usr/bin/env python3
"""The debian/12 image under strain: much data through the agent, a VM that is killed, disks that fail.

Usage: image_disks_test.py [TEST...]. Exit status 77 where image_test.py has not built the image.
"""
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import unittest

BUILD = os.environ.get('ATOLL_BUILD', 'build')
DATA = os.environ.get('ATOLL_TEST_DATA', os.path.join(BUILD, 'test-data'))
os.environ['XDG_DATA_HOME'] = os.path.abspath(DATA)
ATOLL = os.path.join(BUILD, 'atoll')
GUEST_SECONDS = 600
MIB = 1 << 20


def run(options, command, **more):
    return subprocess.run([ATOLL, 'run', 'debian/12', *options, '--', *command],
                          capture_output=True, timeout=GUEST_SECONDS, **more)


class Strain(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory(prefix='atoll-image-test.')
        self.addCleanup(self.scratch.cleanup)

    def path(self, name, size):
        path = os.path.join(self.scratch.name, name)
        with open(path, 'wb') as file:
            file.truncate(size)
        return path

    def test_streams_and_status(self):
        data = os.urandom(300000)
        result = run(['--net', 'none'], ['sh', '-c', 'sha256sum; uname -s >&2; exit 7'], input=data)
        self.assertEqual(result.returncode, 7, result)
        self.assertEqual(result.stdout.split()[0].decode(), hashlib.sha256(data).hexdigest())
        self.assertIn(b'Linux', result.stderr)
        self.assertEqual(run(['--net', 'none'], ['no-such-command']).returncode, 127)
        self.assertEqual(run(['--net', 'none'], ['sh', '-c', 'kill -9 $$']).returncode, 137)

    def test_much_output_in_order(self):
        result = run(['--net', 'none', '--cpus', '2'], ['seq', '1', '300000'])
        self.assertEqual(result.returncode, 0)
        want = ''.join(f'{i}\n' for i in range(1, 300001)).encode()
        self.assertEqual(hashlib.sha256(result.stdout).digest(), hashlib.sha256(want).digest())

    def test_synced_data_survives_sigkill(self):
        disk = self.path('disk.raw', 80 * MIB)
        script = ('dd if=/dev/urandom of=/dev/vdb bs=1M count=64 conv=fsync 2>/dev/null; '
                  'head -c 64M /dev/vdb | sha256sum; sleep 1000')
        guest = subprocess.Popen([ATOLL, 'run', 'debian/12', '--net', 'none', '--disk', disk, '--',
                                  'sh', '-c', script], stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL)
        self.addCleanup(guest.kill)
        digest = guest.stdout.readline().split()[0].decode()
        children = subprocess.run(['pgrep', '-P', str(guest.pid)], capture_output=True, text=True,
                                  check=True).stdout.split()
        self.assertEqual(len(children), 1)
        os.kill(int(children[0]), signal.SIGKILL)
        self.assertNotEqual(guest.wait(60), 0)
        with open(disk, 'rb') as file:
            self.assertEqual(hashlib.sha256(file.read(64 * MIB)).hexdigest(), digest)

    def test_bad_disks_give_the_guest_errors(self):
        shrinks = self.path('shrinks.raw', 64 * MIB)
        keeps = self.path('keeps.raw', 16 * MIB)
        script = '''
echo READY; read line
for skip in 0 32; do dd if=/dev/vdb of=/dev/null bs=1M skip=$skip count=1 iflag=direct 2>/dev/null
    echo "read at $skip: $?"; done
dd if=/dev/zero of=/dev/vdb bs=1M seek=32 count=1 oflag=direct 2>/dev/null; echo "write: $?"
dd if=/dev/urandom of=/dev/vdc bs=1M count=1 conv=fsync 2>/dev/null; echo "snapshot: $?"
dd if=/dev/urandom of=/dev/vdd bs=1M count=1 conv=fsync 2>/dev/null; echo "readonly: $?"
'''
        guest = subprocess.Popen(
            [ATOLL, 'run', 'debian/12', '--net', 'none', '--disk', shrinks, '--disk',
             keeps + ',snapshot', '--disk', ATOLL + ',readonly', '--', 'sh', '-c', script],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.addCleanup(guest.kill)
        self.assertEqual(guest.stdout.readline(), b'READY\n')
        os.truncate(shrinks, 8 * MIB)
        output, _ = guest.communicate(b'go\n', timeout=GUEST_SECONDS)
        self.assertEqual(output.decode().splitlines(),
                         ['read at 0: 0', 'read at 32: 1', 'write: 1', 'snapshot: 0',
                          'readonly: 1'])
        self.assertEqual(os.path.getsize(shrinks), 8 * MIB)
        with open(keeps, 'rb') as file:
            self.assertEqual(file.read().count(0), 16 * MIB)


if __name__ == '__main__':
    built = subprocess.run([ATOLL, 'image', 'ls', '--quiet'], capture_output=True, text=True,
                           check=True).stdout.split()
    if 'debian/12' not in built:
        print('skipped: image_test.py makes the image that this needs')
        sys.exit(77)
    unittest.main(verbosity=2, warnings='ignore')
