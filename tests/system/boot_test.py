#!/usr/bin/env python3
"""Boots Debian's cloud kernel with tiny initramfs images: console, processors, disk, network, ends.

Usage: boot_test.py [TEST...]. Exit status 77 where the kernel cannot be fetched.
"""
import ctypes
import hashlib
import http.server
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import tempfile
import threading
import urllib.request

import guest
from guest import Vm, check

BOOT_SECONDS = 240
STEP_SECONDS = 120
MIB = 1 << 20
VIRTIO = ('virtio_pci', 'virtio_blk', 'virtio_net', 'virtio_rng', 'virtio_console')

kernel = None
scratch = pathlib.Path(tempfile.mkdtemp(prefix='atoll-boot.'))


def vm(script, modules=(), append='console=ttyS0', **config):
    image = guest.initramfs(scratch / 'initramfs', script, kernel, modules)
    return Vm({'kernel': kernel.image, 'initrd': image, 'append': append, **config})


def test_prints_and_powers_off():
    """A kernel that finds everything in order says nothing at warning level or above. (That a timer's
    interrupt came late is the fault of a busy host.)"""
    script = '''
echo "UNAME $(uname -sm)"; echo "CPUS $(nproc)"; echo "ARGS $(cat /proc/cmdline)"
echo "MEMORY $(grep MemTotal /proc/meminfo)"
read -r line; echo "LINE <$line>"
dmesg -r | grep -E '^<[0-4]>' | grep -v 'hrtimer: interrupt took' | sed 's/^/COMPLAINT /'
'''
    with vm(script, append='console=ttyS0 hello=world') as machine:
        machine.expect(r'UNAME Linux x86_64', BOOT_SECONDS)
        machine.expect(r'CPUS 1\b')
        machine.expect(r'ARGS console=ttyS0 hello=world')
        machine.send('typed text\n')
        machine.expect(r'LINE <typed text>', STEP_SECONDS)
        machine.expect(r'SCRIPT-ENDED', STEP_SECONDS)
        check(machine.finish() == guest.STATUS_POWEROFF, 'the exit status is not 0')
        complaints = re.findall(r'COMPLAINT .*', machine.text())
        check(not complaints, f'the kernel complains: {complaints}')


def test_plain_kernel_large_memory():
    """Debian's kernel for real machines, RAM above 4 GiB, an initrd that no RAM below 2 GiB holds."""
    plain = guest.Kernel('linux-image-amd64')
    image = guest.initramfs(scratch / 'initramfs', '''
echo "CPUS $(nproc)"; echo "MEMORY $(sed -n 's/MemTotal: *//p' /proc/meminfo)"
dd if=/dev/zero of=/tmp/fill bs=1M count=256 2>/dev/null && echo "FILLED $(stat -c %s /tmp/fill)"
''')
    with Vm({'kernel': plain.image, 'initrd': image, 'cpus': 4,
             'memory_bytes': 5 << 30}) as machine:
        machine.expect(r'CPUS 4\b', BOOT_SECONDS)
        found = int(machine.expect(r'MEMORY (\d+) kB', STEP_SECONDS).group(1))
        check(found > 4.5 * MIB, f'the guest sees {found} KiB of 5 GiB')
        machine.expect(r'FILLED 268435456', STEP_SECONDS)
        machine.expect(r'SCRIPT-ENDED', STEP_SECONDS)
        check(machine.finish() == guest.STATUS_POWEROFF, 'the exit status is not 0')


# What a 32-bit busybox computes: integers of 64 bits, floating point, hashes, packers, many processes.
WORK_32 = r'''
bb=${BB:-busybox}
$bb awk 'BEGIN { for (i = 1; i < 60000; i++) s += 1 / i - i / 7.5; printf "AWK %.6f\n", s }'
i=0; n=7; while [ $i -lt 20000 ]; do n=$(((n * 6364136223846793005 + 1442695040888963407) % 1000003)); i=$((i+1)); done
echo "SHELL $n"
$bb seq 1 40000 > /tmp/seq
for sum in md5sum sha1sum sha256sum sha512sum; do $bb $sum /tmp/seq; done | $bb awk '{ print "HASH " $1 }'
$bb gzip -c /tmp/seq | $bb gunzip -c | $bb cmp - /tmp/seq && echo GZIP-SAME
$bb bzip2 -c /tmp/seq | $bb bunzip2 -c | $bb cmp - /tmp/seq && echo BZIP-SAME
$bb sort -rn /tmp/seq | $bb head -1 | $bb sed 's/^/SORT /'
i=0; while [ $i -lt 200 ]; do $bb true & i=$((i+1)); done; wait; echo FORKED
'''


def expect_work_32(machine):
    text = ''.join(f'{i}\n' for i in range(1, 40001)).encode()
    number = 7
    for _ in range(20000):
        product = (number * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        signed = product - 2**64 if product >> 63 else product
        number = abs(signed) % 1000003 * (-1 if signed < 0 else 1)
    value = sum(1 / i - i / 7.5 for i in range(1, 60000))
    found = machine.expect(r'AWK (-?[0-9.]+)\s', STEP_SECONDS)
    check(abs(float(found.group(1)) - value) < 1e-5, f'awk: {found.group(1)}, not {value}')
    machine.expect(rf'SHELL {number}\s', STEP_SECONDS)
    for name in ('md5', 'sha1', 'sha256', 'sha512'):
        machine.expect('HASH ' + hashlib.new(name, text).hexdigest(), STEP_SECONDS)
    for word in ('GZIP-SAME', 'BZIP-SAME', 'SORT 40000', 'FORKED'):
        machine.expect(word, STEP_SECONDS)


def test_32_bit_kernel():
    """Debian's kernel for 32-bit processors, with PAE, on one and on two processors."""
    old = guest.Kernel('linux-image-686-pae', 'i386')
    image = guest.initramfs(scratch / 'initramfs', 'echo "UNAME $(uname -sm) $(nproc)"' + WORK_32,
                            old)
    for cpus in (1, 2):
        with Vm({'kernel': old.image, 'initrd': image, 'cpus': cpus}) as machine:
            machine.expect(rf'UNAME Linux i686 {cpus}\b', BOOT_SECONDS)
            expect_work_32(machine)
            machine.expect(r'SCRIPT-ENDED', STEP_SECONDS)
            check(machine.finish() == guest.STATUS_POWEROFF, 'the exit status is not 0')


def test_32_bit_programs():
    """32-bit programs on the 64-bit kernel."""
    old = guest.Kernel('linux-image-686-pae', 'i386')
    image = guest.initramfs(scratch / 'initramfs', 'export BB=/mnt/busybox32' + WORK_32, kernel,
                            files={'mnt/busybox32': old.busybox.read_bytes()})
    with Vm({'kernel': kernel.image, 'initrd': image, 'cpus': 2}) as machine:
        machine.expect(r'AWK', BOOT_SECONDS)
        expect_work_32(machine)
        machine.expect(r'SCRIPT-ENDED', STEP_SECONDS)
        check(machine.finish() == guest.STATUS_POWEROFF, 'the exit status is not 0')


def test_lockstep():
    """Translated code does what the interpreter does: each block's first runs and some later ones.
    (tests/system/soak compares them all.)"""
    stats = scratch / 'stats'
    with vm('echo "SUM $(seq 1 2000 | md5sum)"', engine='dbt', debug_lockstep='2/2003',
            debug_stats=str(stats)) as machine:
        machine.expect(r'SUM [0-9a-f]{32} ', 3 * BOOT_SECONDS)
        check(machine.finish(BOOT_SECONDS) == guest.STATUS_POWEROFF, 'the exit status is not 0')
    counters = guest.counters(stats)
    check(counters['cpu0 lockstep.insns'] > 1000000, 'too little was compared')


def test_two_cpus_reboot():
    """Every device works again after a reset, and the disk has what was written before it."""
    disk = scratch / 'reboot-disk'
    with open(disk, 'wb') as file:
        file.truncate(8 * MIB)
    script = '''
echo "CPUS $(nproc)"
echo "FOUND <$(dd if=/dev/vda bs=16 count=1 2>/dev/null | tr -d '\\0')>"
printf 'left-by-boot-one' | dd of=/dev/vda bs=16 conv=notrunc 2>/dev/null; sync
head -c 16 /dev/hwrng | wc -c | sed 's/^/RANDOM /'
ls /sys/class/net | tr '\\n' ' ' | sed 's/^/NETS /'; echo
read -r what
[ "$what" = reboot ] && reboot -f
'''
    with vm(script, VIRTIO, cpus=2, disks=[{'path': disk}], nets=[{'kind': 'user'}]) as machine:
        machine.expect(r'CPUS 2\b', BOOT_SECONDS)
        machine.expect(r'FOUND <>', STEP_SECONDS)
        machine.expect(r'RANDOM 16\b', STEP_SECONDS)
        machine.expect(r'NETS .*eth0', STEP_SECONDS)
        machine.send('reboot\n')
        machine.expect(r'CPUS 2\b[\s\S]*CPUS 2\b', BOOT_SECONDS)
        machine.expect(r'FOUND <left-by-boot-one>', STEP_SECONDS)
        machine.expect(r'RANDOM 16\b[\s\S]*RANDOM 16\b', STEP_SECONDS)
        machine.expect(r'NETS .*eth0[\s\S]*NETS .*eth0', STEP_SECONDS)
        machine.send('go on\n')
        machine.expect(r'SCRIPT-ENDED', STEP_SECONDS)
        check(machine.finish() == guest.STATUS_POWEROFF, 'the exit status is not 0')


def test_resets_under_io():
    """Five resets while disk requests are on their way."""
    disk = scratch / 'reset-disk'
    with open(disk, 'wb') as file:
        file.truncate(256 * MIB)
    script = '''
n=$(dd if=/dev/vda bs=1 count=1 2>/dev/null | tr -cd 0-9)
echo "BOOT <$n>"
[ "$n" = 5 ] || {
    echo $((n + 1)) | dd of=/dev/vda bs=512 count=1 conv=sync 2>/dev/null; sync
    for i in 1 2 3; do
        dd if=/dev/zero of=/dev/vda bs=64k seek=$((i * 1000)) count=900 oflag=direct 2>/dev/null &
        dd if=/dev/vda of=/dev/null bs=64k skip=$((i * 1000)) count=900 iflag=direct 2>/dev/null &
    done
    usleep 200000
    reboot -f
}
'''
    with vm(script, VIRTIO, cpus=2, disks=[{'path': disk}]) as machine:
        machine.expect(r'BOOT <5>', 3 * BOOT_SECONDS)
        machine.expect(r'SCRIPT-ENDED', STEP_SECONDS)
        check(machine.finish() == guest.STATUS_POWEROFF, 'the exit status is not 0')


def test_four_cpus():
    script = '''
echo "CPUS $(nproc)"
for i in 1 2 3 4 5 6 7 8; do (n=0; while [ $n -lt 300 ]; do n=$((n+1)); done; echo "JOB $i") & done
wait
'''
    with vm(script, cpus=4) as machine:
        machine.expect(r'CPUS 4\b', BOOT_SECONDS)
        machine.expect(r'SCRIPT-ENDED', STEP_SECONDS)
        check(len(re.findall(r'JOB \d', machine.text())) == 8, 'a job is missing')
        check(machine.finish() == guest.STATUS_POWEROFF, 'the exit status is not 0')


def unpacked_kernel():
    """The ELF file inside the bzImage (this kernel is packed with LZ4, legacy frames), or None."""
    packed = kernel.image.read_bytes()
    at = packed.find(b'\x02\x21\x4c\x18') + 4
    try:
        lz4 = ctypes.CDLL('liblz4.so.1')
    except OSError:
        return None
    frame_bytes = 8 * MIB
    buffer = ctypes.create_string_buffer(frame_bytes)
    elf = b''
    while at >= 4 and len(elf) % frame_bytes == 0:
        size, = struct.unpack_from('<I', packed, at)
        if size == 0 or size > len(packed) - at - 4:
            break
        got = lz4.LZ4_decompress_safe(packed[at + 4:at + 4 + size], buffer, size, frame_bytes)
        if got <= 0:
            break
        elf += buffer.raw[:got]
        at += 4 + size
    return elf if elf.startswith(b'\x7fELF') else None


def test_pvh():
    """The same kernel as an ELF file, entered by its PVH note."""
    elf = unpacked_kernel()
    if elf is None:
        print('test_pvh: the kernel cannot be unpacked here')
        return
    vmlinux = scratch / 'vmlinux'
    vmlinux.write_bytes(elf)
    image = guest.initramfs(scratch / 'initramfs', 'echo "CPUS $(nproc)"; cat /proc/cmdline')
    with Vm({'kernel': vmlinux, 'initrd': image, 'cpus': 2,
             'append': 'console=ttyS0 by=pvh'}) as machine:
        machine.expect(r'CPUS 2\b', BOOT_SECONDS)
        machine.expect(r'by=pvh\s+SCRIPT-ENDED', STEP_SECONDS)
        check(machine.finish() == guest.STATUS_POWEROFF, 'the exit status is not 0')


def test_triple_fault():
    with vm('echo HERE; reboot -f', append='console=ttyS0 reboot=t') as machine:
        machine.expect(r'HERE', BOOT_SECONDS)
        check(machine.finish() == guest.STATUS_CRASH, 'the exit status is not that of a crash')
        check('triple fault on vCPU 0' in machine.text(), 'no message')
        check('cr3' in machine.text(), 'no registers')


def test_power_button():
    script = '''
dd if=/dev/input/event0 of=/dev/null bs=24 count=1 2>/dev/null &
sleep 1
echo READY
wait
echo PRESSED
'''
    with vm(script, modules=('button', 'evdev')) as machine:
        machine.expect(r'READY', BOOT_SECONDS)
        machine.signal(signal.SIGTERM)
        machine.expect(r'PRESSED', STEP_SECONDS)
        check(machine.finish() == guest.STATUS_POWEROFF, 'the exit status is not 0')


def test_forced_end():
    with vm('echo READY; sleep 1000') as machine:
        machine.expect(r'READY', BOOT_SECONDS)
        machine.signal(signal.SIGTERM)
        machine.signal(signal.SIGINT)
        check(machine.finish() == guest.STATUS_HOST, 'the exit status is not that of a forced end')


def test_disk_survives_kill():
    """What the guest has synced is there, byte for byte, after the process was killed."""
    disk = scratch / 'disk'
    size = 64 * MIB
    with open(disk, 'wb') as file:
        file.truncate(size + MIB)
    script = f'''
echo "SECTORS $(cat /sys/block/vda/size)"
yes 0123456789abcde | dd of=/dev/vda bs=1M count=64 iflag=fullblock 2>/dev/null
sync
echo "SYNCED $?"
sleep 1000
'''
    with vm(script, VIRTIO, disks=[{'path': disk}]) as machine:
        machine.expect(rf'SECTORS {(size + MIB) // 512}\b', BOOT_SECONDS)
        machine.expect(r'SYNCED 0', STEP_SECONDS)
        machine.process.kill()
        machine.finish()
    data = disk.read_bytes()
    check(data[:size] == b'0123456789abcde\n' * (size // 16), 'bytes differ')
    check(data[size:] == bytes(MIB), 'bytes were written beyond what the guest wrote')

    script = '''
dd if=/dev/vda bs=1M count=8 2>/dev/null | sha256sum | sed 's/^/SUM /'
dd if=/dev/zero of=/dev/vda bs=4096 count=1 2>/dev/null && sync; echo "WRITE $?"
blockdev --getro /dev/vdb | sed 's/^/READONLY /'
'''
    with vm(script, VIRTIO, disks=[{'path': disk, 'snapshot': True},
                                   {'path': disk, 'readonly': True}], cpus=2) as machine:
        machine.expect('SUM ' + hashlib.sha256(data[:8 * MIB]).hexdigest(), BOOT_SECONDS)
        machine.expect(r'WRITE 0', STEP_SECONDS)
        machine.expect(r'READONLY 1', STEP_SECONDS)
        check(machine.finish(STEP_SECONDS) == guest.STATUS_POWEROFF, 'the exit status is not 0')
    check(disk.read_bytes() == data, 'a snapshot disk was changed')


def test_network():
    """DHCP, a download from a server on the host, and a request from the host to the guest."""
    payload = os.urandom(512 * 1024)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header('Content-Length', str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        forwarded = probe.getsockname()[1]
    script = f'''
ip link set eth0 up || ip link
cat > /tmp/dhcp.sh <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add $ip/$mask dev $interface
ip route add default via $router
echo "BOUND $ip $router $dns"
echo "ROUTER=$router" > /tmp/router
END
chmod +x /tmp/dhcp.sh
udhcpc -i eth0 -n -q -s /tmp/dhcp.sh
. /tmp/router
wget -q -O /tmp/payload http://$ROUTER:{server.server_port}/ && sha256sum /tmp/payload | sed 's/^/SUM /'
httpd -p 80 -h /tmp && echo SERVING
read -r line
'''
    user = {'kind': 'user', 'forwards': [{'host_port': forwarded, 'guest_port': 80}]}
    try:
        with vm(script, VIRTIO, nets=[user], cpus=2) as machine:
            machine.expect(r'BOUND \S+ \S+ \S+', BOOT_SECONDS)
            machine.expect('SUM ' + hashlib.sha256(payload).hexdigest(), STEP_SECONDS)
            machine.expect(r'SERVING', STEP_SECONDS)
            with urllib.request.urlopen(f'http://127.0.0.1:{forwarded}/payload',
                                        timeout=STEP_SECONDS) as answer:
                check(answer.read() == payload, 'what the guest served is not what it was given')
            machine.send('done\n')
            check(machine.finish(STEP_SECONDS) == guest.STATUS_POWEROFF, 'the exit status is not 0')
    finally:
        server.shutdown()


def test_errors():
    """What is wrong is said, and told by the exit status."""
    bad = scratch / 'bad'
    bad.write_bytes(os.urandom(100000))
    image = guest.initramfs(scratch / 'initramfs', 'true', kernel)
    cases = [
        ({'kernel': '/nonexistent'}, guest.STATUS_FILE, "kernel '/nonexistent'"),
        ({'kernel': bad}, guest.STATUS_FILE, 'not a kernel'),
        ({'kernel': image}, guest.STATUS_FILE, 'initrd'),
        ({'kernel': scratch}, guest.STATUS_FILE, 'not a regular file'),
        ({'kernel': kernel.image, 'initrd': '/nonexistent'}, guest.STATUS_FILE, 'initrd'),
        ({'kernel': kernel.image, 'memory_bytes': 16 * MIB}, guest.STATUS_FILE, '--memory'),
        ({'kernel': kernel.image, 'disks': [{'path': '/nonexistent'}]}, guest.STATUS_FILE,
         '/nonexistent'),
        ({'kernel': kernel.image, 'append': 'a' * 5000}, guest.STATUS_FILE, 'command line'),
        ({'kernel': kernel.image, 'cpus': 1000}, guest.STATUS_ARGUMENT, "'cpus'"),
        ({'kernel': kernel.image, 'bogus': 1}, guest.STATUS_ARGUMENT, "'bogus'"),
    ]
    for config, status, says in cases:
        with Vm(config) as machine:
            found = machine.finish()
            check(found == status, f'{config}: status {found}, not {status}: {machine.text()}')
            check(says in machine.text(), f'{config}: {machine.text()!r} does not say {says!r}')


if __name__ == '__main__':
    try:
        kernel = guest.Kernel()
        guest.run_tests(globals())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
