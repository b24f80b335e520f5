#!/usr/bin/env python3
"""The screen, keyboard and pointer of a guest, through atoll screenshot, atoll sendkey and the VM's
socket: Debian's kernel on the linear frame buffer with PS/2, and with bochs-drm and virtio-input; a
boot sector in the BIOS's text and graphics modes.

Usage: screen_test.py [TEST...]. Exit status 77 where the kernel cannot be fetched.
"""
import os
import pathlib
import socket
import struct
import subprocess
import tempfile
import time
import zlib

import guest
from guest import Vm, check

BOOT_SECONDS = 240
STEP_SECONDS = 60
kernel = None
scratch = pathlib.Path(tempfile.mkdtemp(prefix='atoll-screen.'))

# Red over the first rows, as the frame buffer has it: blue, green, red, nothing. In one write: this
# kernel's DRM does not show what a write of exactly one row has changed.
PAINT = r'''
i=0; while [ $i -lt 1280 ]; do printf '\000\000\377\000'; i=$((i + 1)); done > /tmp/row
i=0; while [ $i -lt 16 ]; do cat /tmp/row; i=$((i + 1)); done > /tmp/rows
dd if=/tmp/rows of=/dev/fb0 bs=81920 2>/dev/null
'''


def address(name):
    folder = scratch / 'atoll' / name
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    os.chmod(scratch / 'atoll', 0o700)
    return f'unix:{folder}/screen.sock'


def vm(name, script, modules=()):
    image = guest.initramfs(scratch / 'initramfs', script, kernel, modules)
    return Vm({'kernel': kernel.image, 'initrd': image, 'append': 'console=tty0 console=ttyS0 quiet',
               'memory_bytes': 384 << 20, 'name': name, 'vnc': [address(name)]})


def atoll(*words, status=0):
    result = subprocess.run([guest.BUILD / 'atoll', *words], capture_output=True, text=True,
                            timeout=60, env={**os.environ, 'XDG_RUNTIME_DIR': str(scratch)})
    check(result.returncode == status, f'{words}: {result.returncode}: {result.stderr}')


def png(name):
    """Width, height and rows of RGB bytes of the VM's screen, as PNG (RFC 2083) has them."""
    path = scratch / 'screen.png'
    atoll('screenshot', name, str(path))
    data, chunks = path.read_bytes(), {}
    check(data[:8] == b'\x89PNG\r\n\x1a\n', 'the screenshot is no PNG file')
    at = 8
    while at < len(data):
        length, kind = struct.unpack('>I4s', data[at:at + 8])
        chunks[kind] = chunks.get(kind, b'') + data[at + 8:at + 8 + length]
        at += 12 + length
    width, height, depth, color = struct.unpack('>IIBB', chunks[b'IHDR'][:10])
    check((depth, color) == (8, 2), 'the screenshot is not in RGB')
    raw, rows, above = zlib.decompress(chunks[b'IDAT']), [], bytes(width * 3)
    for y in range(height):
        kind, line = raw[y * (width * 3 + 1)], bytearray(raw[y * (width * 3 + 1) + 1:][:width * 3])
        for x in range(len(line) if kind else 0):
            left, up = (line[x - 3] if x >= 3 else 0), above[x]
            corner = above[x - 3] if x >= 3 else 0
            guess = left + up - corner
            paeth = min((left, up, corner), key=lambda v: abs(guess - v))
            line[x] = (line[x] + (0, left, up, (left + up) // 2, paeth)[kind]) & 255
        rows.append(bytes(line))
        above = rows[-1]
    return width, height, rows


def point(name, x, y, buttons):
    """One pointer event, as a viewer sends it."""
    with socket.socket(socket.AF_UNIX) as viewer:
        viewer.settimeout(10)
        viewer.connect(str(scratch / 'atoll' / name / 'screen.sock'))
        viewer.recv(12)
        viewer.sendall(b'RFB 003.008\n')
        viewer.recv(2)
        viewer.sendall(b'\1')
        viewer.recv(4)
        viewer.sendall(b'\1' + struct.pack('>BBHH', 5, buttons, x, y))
        viewer.sendall(struct.pack('>BBHHHH', 3, 0, 0, 0, 1, 1))
        viewer.recv(64)
        time.sleep(0.2)


def cells(rows, row, count):
    """The pixels of the first COUNT characters of text line ROW."""
    lines = rows[row * 16:row * 16 + 16]
    return [b''.join(line[c * 24:c * 24 + 24] for line in lines) for c in range(count)]


def shows(rows):
    """The painted rows are red, and a line of equal letters stands under them."""
    if any(row != b'\xff\0\0' * (len(row) // 3) for row in rows[:16]):
        return False
    lines = [cells(rows, line, 40) for line in range(1, len(rows) // 16)]
    return any(len(set(line)) == 1 and 24 < sum(map(bool, line[0])) < 300 for line in lines)


def look(name):
    """A driver may copy what was painted to the screen a little later."""
    end = time.monotonic() + STEP_SECONDS
    while True:
        width, height, rows = png(name)
        check((width, height) == (1280, 800), f'the screen has {width} by {height} pixels')
        if shows(rows):
            return
        check(time.monotonic() < end, 'the red rows and the line of letters are not on the screen')
        time.sleep(0.5)


LETTERS = 'HHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHH'
TYPING = r'''
printf '\033[2J\033[4;1H' > /dev/tty1
echo %s > /dev/tty1
%s
echo PAINTED
read -r line < /dev/tty1; echo "TYPED <$line>"
''' % (LETTERS, PAINT)


def test_linear_and_ps2():
    with vm('linear', TYPING + 'grep Name /proc/bus/input/devices\nread -r line\n') as machine:
        machine.expect('PAINTED', BOOT_SECONDS)
        look('linear')
        atoll('sendkey', 'linear', '--text', 'Hello, World {42}!', 'backspace', '?', 'enter')
        machine.expect(r'TYPED <Hello, World \{42\}\?>', STEP_SECONDS)
        machine.expect('AT Translated Set 2 keyboard')
        machine.send('\n')
        check(machine.finish() == guest.STATUS_POWEROFF, 'the exit status is not 0')


def test_bochs_and_virtio():
    script = TYPING + r'''
cat /proc/fb
event=$(grep -A4 'Atoll Tablet' /proc/bus/input/devices | sed -n 's/.*\(event[0-9]*\).*/\1/p')
echo "POINTING $event"
dd if=/dev/input/$event bs=24 count=4 2>/dev/null | hexdump -v -e '24/1 "%02x" "\n"' | sed 's/^/EVENT /'
'''
    with vm('bochs', script, ('bochs', 'virtio_pci', 'virtio_input', 'evdev')) as machine:
        machine.expect('PAINTED', BOOT_SECONDS)
        look('bochs')
        atoll('sendkey', 'bochs', '--text', 'virtio', 'enter')
        machine.expect(r'TYPED <virtio>', STEP_SECONDS)
        machine.expect(r'bochs-drm')
        machine.expect(r'POINTING event\d', STEP_SECONDS)
        time.sleep(1)
        point('bochs', 1279, 0, 1)
        # type 3 (absolute), code 0 (x), value 0x7fff; then a key: the left button.
        machine.expect(r'EVENT \w{32}03000000ff7f0000', STEP_SECONDS)
        machine.expect(r'EVENT \w{32}0100100101000000', STEP_SECONDS)
        check(machine.finish() == guest.STATUS_POWEROFF, 'the exit status is not 0')


def test_bios_modes():
    """SeaBIOS and its VGA BIOS; keys come from the PS/2 keyboard."""
    sector = subprocess.run(['nasm', '-f', 'bin', '-o', scratch / 'disk',
                             guest.ROOT / 'tests' / 'guest' / 'screen.asm'], check=False)
    if sector.returncode != 0 or not pathlib.Path('/usr/share/seabios/bios-256k.bin').exists():
        print('test_bios_modes: skipped: needs nasm and seabios')
        return
    with open(scratch / 'disk', 'ab') as disk:
        disk.truncate(1 << 20)
    with Vm({'disks': [{'path': scratch / 'disk'}], 'firmware': 'bios', 'name': 'bios',
             'vnc': [address('bios')]}) as machine:
        machine.expect('SECTOR READY', BOOT_SECONDS)
        atoll('sendkey', 'bios', 'H', 'H', 'H')
        machine.expect('HHH', STEP_SECONDS)  # SeaBIOS repeats text on the serial port
        time.sleep(0.3)
        width, height, rows = png('bios')
        check((width, height) == (720, 400), f'text mode has {width} by {height} pixels')
        found = []
        for y in range(25):
            found.append([b''.join(row[c * 27:c * 27 + 27] for row in rows[y * 16:y * 16 + 16])
                          for c in range(4)])
        letters = [line for line in found if line[0] == line[1] == line[2] and any(line[0])]
        check(len(letters) == 1 and not any(letters[0][3][:27 * 12]),
              'the line of letters is not on the screen')
        atoll('sendkey', 'bios', '1')
        time.sleep(1)
        width, height, rows = png('bios')
        check((width, height) == (640, 400), f'mode 13h has {width} by {height} pixels')
        for y in range(0, 400, 2):
            check(rows[y] == rows[y + 1], f'lines {y} and {y + 1} of mode 13h differ')
            # The colour of a pixel is its offset's low byte: one line goes on from the last.
            for x in (0, 63, 200):
                column = (y // 2 * 320 + x) % 256
                check(rows[y][x * 6:x * 6 + 6] == rows[0][column * 6:column * 6 + 6],
                      f'pixel {x} of line {y // 2} of mode 13h has a wrong colour')
        atoll('sendkey', 'bios', '2')
        time.sleep(1)
        width, height, rows = png('bios')
        check((width, height) == (640, 480), f'mode 12h has {width} by {height} pixels')
        for n in range(400):
            dots = {x for x in range(640) if any(rows[n][x * 3:x * 3 + 3])}
            check(dots == ({n} if n % 16 else set()), f'line {n} of mode 12h has dots at {dots}')
        atoll('sendkey', 'bios', '4')
        time.sleep(1)
        width, height, rows = png('bios')
        check((width, height) == (640, 400), f'mode 4 has {width} by {height} pixels')
        for n in range(200):
            dots = {x for x in range(640) if any(rows[2 * n][x * 3:x * 3 + 3])}
            check(dots == ({2 * n, 2 * n + 1} if n % 4 else set()),
                  f'line {n} of mode 4 has dots at {dots}')
        machine.signal()


def test_no_such_vm():
    atoll('screenshot', 'nowhere', str(scratch / 'x.png'), status=4)
    atoll('sendkey', 'nowhere', 'a', status=4)
    atoll('sendkey', 'nowhere', status=2)


if __name__ == '__main__':
    kernel = guest.Kernel('linux-image-amd64')
    guest.run_tests(globals())
