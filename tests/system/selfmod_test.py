#!/usr/bin/env python3
"""Code that changes under the translator: the program selfmod and a kernel that patches itself, in guests
with 1 and 2 vCPUs.

Usage: selfmod_test.py [TEST...]. ATOLL_TEST_ROUNDS (200) says how often each kind of change is made;
`make soak` asks for more.
"""
import os
import pathlib
import re
import shutil
import struct
import tempfile

import guest
from guest import Vm, check

BOOT_SECONDS, RUN_SECONDS = 240, 300
ROUNDS = int(os.environ.get('ATOLL_TEST_ROUNDS', '200'))
DISK_PAGES = 256

kernel = None
scratch = pathlib.Path(tempfile.mkdtemp(prefix='atoll-selfmod.'))


def code_disk():
    """A disk whose page N is a function that returns N."""
    path = scratch / 'code-disk'
    path.write_bytes(b''.join((b'\xb8' + struct.pack('<i', n) + b'\xc3').ljust(4096, b'\xcc')
                              for n in range(DISK_PAGES)))
    return path


def run_guest(script, cpus, program='selfmod', modules=(), **config):
    files = {'bin/test-program': (guest.BUILD / 'tests' / 'system' / program).read_bytes()}
    image = guest.initramfs(scratch / 'initramfs', script, kernel, modules, files)
    seconds = RUN_SECONDS * max(1, ROUNDS / 200)
    with Vm({'kernel': kernel.image, 'initrd': image, 'cpus': cpus, **config}) as machine:
        machine.expect(r'SCRIPT-ENDED', BOOT_SECONDS + seconds)
        check(machine.finish() == guest.STATUS_POWEROFF, 'the exit status is not 0')
        return machine.text()


def user_programs(cpus):
    text = run_guest(f'test-program {ROUNDS} /dev/vda', cpus,
                     modules=('virtio_pci', 'virtio_blk'),
                     disks=[{'path': code_disk(), 'readonly': True}])
    check('SELFMOD-OK' in text, 'the program did not end well')


def test_user_programs():
    user_programs(1)


def test_user_programs_on_two_cpus():
    user_programs(2)


def test_kernel_patches_itself():
    """Static keys, the function tracer, kprobes and BPF programs, while two vCPUs run kernel code."""
    script = '''
mount -t tracefs trace /sys/kernel/tracing
cd /sys/kernel/tracing
busy() { while [ ! -e /tmp/stop ]; do ls -l /proc/self/ >/tmp/$1; cat /tmp/$1 >/dev/null; done; }
for i in 1 2 3; do busy $i & done
round() {
    for value in 1 0; do echo $value >/proc/sys/kernel/sched_schedstats; done
    for tracer in function nop; do echo $tracer >current_tracer; done
    echo 'p:probed vfs_read' >kprobe_events && echo 1 >events/kprobes/probed/enable
    cat /proc/version >/dev/null
    echo 0 >events/kprobes/probed/enable; echo >kprobe_events
    for value in 1 0; do echo $value >events/sched/enable; done
}
n=0
while [ $n -lt ROUNDS ]; do round && n=$((n + 1)) || break; done
touch /tmp/stop; wait
echo "PATCHED $n times"
grep -c . trace | sed 's/^/TRACE-LINES /'
test-program ROUNDS
dmesg -r | grep -E '^<[0-4]>' | grep -E 'BUG|WARNING|Oops|invalid opcode|stall' | sed 's/^/COMPLAINT /'
'''
    rounds = max(2, ROUNDS // 60)
    text = run_guest(script.replace('ROUNDS', str(rounds)), 2, 'bpf_jit')
    check(f'PATCHED {rounds} times' in text, 'not every round was made')
    check('BPF-OK' in text, 'the BPF program did not end well')
    complaints = re.findall(r'COMPLAINT .*', text)
    check(not complaints, f'the kernel complains: {complaints}')


if __name__ == '__main__':
    kernel = guest.Kernel()
    try:
        guest.run_tests(globals())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
