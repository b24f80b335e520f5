#!/usr/bin/env python3
"""Machines that boot by firmware: SeaBIOS and OVMF start GRUB from a disk, GRUB starts Linux; resets,
power-off, the UEFI shell, and variables that are still there at the next boot.
"""
import http.server
import pathlib
import re
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import bootable  # noqa: E402
import guest  # noqa: E402
from guest import check  # noqa: E402

ROMS = {'bios': pathlib.Path('/usr/share/seabios/bios-256k.bin'),
        'uefi': pathlib.Path('/usr/share/OVMF/OVMF_CODE_4M.fd')}
MODULES = ('efivarfs', 'virtio_pci', 'virtio_blk')
VARIABLE = '/sys/firmware/efi/efivars/Mark-12345678-1234-1234-1234-123456789abc'
BOOTS = ('bios', 'uefi')
scratch = pathlib.Path(tempfile.mkdtemp(prefix='atoll-firmware.'))

MENU = '''
set timeout=0
menuentry "Test" {
  echo "GRUB loads Linux by $grub_platform"
  linux /vmlinuz console=ttyS0 panic=-1 $extra
  initrd /initrd
}
'''

# What the guest says of its machine, and then does what its command line asks for.
SCRIPT = f'''
echo "BIOS-VENDOR $(cat /sys/class/dmi/id/bios_vendor) OF $(cat /sys/class/dmi/id/sys_vendor)"
echo "CPUS $(grep -c ^processor /proc/cpuinfo)"
echo "MEMORY $(awk '/MemTotal/ {{ print int($2 / 1024) }}' /proc/meminfo)"
test -d /sys/firmware/efi && echo BOOTED-BY-EFI || echo BOOTED-BY-BIOS
test -f /sys/firmware/acpi/tables/APIC && echo HAS-ACPI
dd if=/dev/vda bs=512 count=1 2>/dev/null | tail -c 2 | od -An -tx1
if [ -d /sys/firmware/efi ] && mount -t efivarfs none /sys/firmware/efi/efivars; then
  if [ -f {VARIABLE} ]; then
    echo "VARIABLE-IS $(tail -c +5 {VARIABLE})"
  else
    printf '\\007\\000\\000\\000kept' >{VARIABLE} && echo VARIABLE-WRITTEN
  fi
fi
echo GUEST-READY
read answer
[ "$answer" = reboot ] && reboot -f
'''


def disk(kind):
    """A disk with GRUB and a tiny Linux that boots by KIND of firmware; made once."""
    path = scratch / f'{kind}.raw'
    if not ROMS[kind].exists():
        guest.skip(f'{ROMS[kind]} is not there')
    if path.exists():
        return path
    kernel = guest.Kernel()
    folder = scratch / kind
    folder.mkdir()
    initrd = guest.initramfs(scratch / 'initrd', SCRIPT, kernel, MODULES)
    files = bootable.boot_files(folder / 'boot', {'vmlinuz': kernel.image, 'initrd': initrd}, MENU)
    boot = bootable.file_system(folder / 'boot.img', files, 48)
    getattr(bootable, f'{kind}_disk')(path, folder, boot)
    return path


def config(kind, **more):
    return {'disks': [{'path': disk(kind), 'snapshot': True}],
            'firmware_log': scratch / f'{kind}.log', **more}


def type_slowly(vm, text):
    """A BIOS looks at the serial line 18 times a second, and keeps 15 keys."""
    for key in text:
        vm.send(key)
        time.sleep(0.06)


def with_escapes(text):
    """TEXT as SeaBIOS may send it: moves of the cursor between its letters."""
    return r'(?:\x1b\[[\d;]*[A-Za-z])*'.join(map(re.escape, text))


def boot_is_right(vm, kind, cpus=1):
    vm.expect(f'firmware {kind}: the disk has')
    vm.expect(with_escapes('GRUB loads Linux by ' + ('pc' if kind == 'bios' else 'efi')), 120)
    vm.expect('GUEST-READY', 120)
    text = vm.text()
    check(f'BOOTED-BY-{"EFI" if kind == "uefi" else "BIOS"}' in text, 'booted by the other')
    check('HAS-ACPI' in text, 'no ACPI tables')
    check(re.search('55 aa', text), 'the disk cannot be read')
    check(' OF Atoll' in text, 'no SMBIOS')
    check(f'CPUS {cpus}' in text, 'processors are missing')


def test_bios_boots_reboots_and_powers_off():
    with guest.Vm(config('bios', cpus=2)) as vm:
        boot_is_right(vm, 'bios', cpus=2)
        vm.output = b'firmware bios: the disk has'
        vm.send('reboot\n')
        boot_is_right(vm, 'bios', cpus=2)
        vm.send('\n')
        check(vm.finish() == guest.STATUS_POWEROFF, 'no power-off')
    log = (scratch / 'bios.log').read_text()
    check(log.count('Booting from 0000:7c00') == 2, 'not booted twice')
    took = re.search(r'\[ *([\d.]+)\] Booting from 0000:7c00', log)
    print(f'SeaBIOS to boot loader: {took[1]} s', flush=True)


def test_uefi_boots_reboots_and_powers_off():
    with guest.Vm(config('uefi', cpus=2)) as vm:
        boot_is_right(vm, 'uefi', cpus=2)
        vm.output = b'firmware uefi: the disk has'
        vm.send('reboot\n')
        boot_is_right(vm, 'uefi', cpus=2)
        vm.send('\n')
        check(vm.finish() == guest.STATUS_POWEROFF, 'no power-off')


def test_uefi_variables_are_kept_and_not_shared():
    store = scratch / 'vms' / 'a' / 'vars.fd'
    with guest.Vm(config('uefi', firmware_variables=store)) as vm:
        vm.expect('VARIABLE-WRITTEN', 120)
        vm.expect('GUEST-READY')
        with guest.Vm(config('uefi', firmware_variables=store)) as other:
            check(other.finish() == guest.STATUS_FILE, 'two VMs with one store')
            check('another VM uses them' in other.text(), 'no reason is given')
        vm.send('\n')
        check(vm.finish() == guest.STATUS_POWEROFF, 'no power-off')
    with guest.Vm(config('uefi', firmware_variables=store)) as vm:
        vm.expect('VARIABLE-IS kept', 120)
        vm.expect('GUEST-READY')
    with guest.Vm(config('uefi')) as vm:
        vm.expect('VARIABLE-WRITTEN', 120)


def test_more_memory_than_fits_below_4_gib():
    for kind in BOOTS:
        with guest.Vm(config(kind, memory_bytes=5 << 30)) as vm:
            boot_is_right(vm, kind)
            found = int(re.search(r'MEMORY (\d+)', vm.text())[1])
            check(4700 < found < 5120, f'{found} MiB')


def test_uefi_shell_lists_file_systems():
    """An EFI system partition without a loader: the shell comes up and reads it."""
    folder = scratch / 'shell'
    folder.mkdir()
    (folder / 'hello.txt').write_text('text')
    esp = bootable.fat(folder / 'esp', {'HELLO.TXT': folder / 'hello.txt'})
    plain = bootable.gpt_disk(scratch / 'shell.raw', [esp])
    with guest.Vm({'disks': [{'path': plain}]}) as vm:
        vm.expect('any other key to continue', 60)
        time.sleep(0.5)
        vm.send(' ')
        vm.expect('Shell> ')
        vm.send('ls fs0:\r')
        vm.expect('HELLO.TXT')
        vm.send('reset -s\r')
        check(vm.finish() == guest.STATUS_POWEROFF, 'no power-off')


def test_a_disk_that_boots_nothing_is_refused():
    empty = scratch / 'empty.raw'
    empty.write_bytes(bytes(4 << 20))
    with guest.Vm({'disks': [{'path': empty}]}) as vm:
        check(vm.finish() == guest.STATUS_FILE, 'it was started')
        check('neither boot code nor an EFI system partition' in vm.text(), 'no reason is given')


def test_boot_order_is_followed():
    """The second disk comes first: SeaBIOS says that it boots, although the first has no loader."""
    empty = scratch / 'first.raw'
    empty.write_bytes(bytes(4 << 20))
    disks = [{'path': empty}, {'path': disk('bios'), 'snapshot': True}]
    with guest.Vm({'disks': disks, 'boot': ['disk1', 'disk0']}) as vm:
        vm.expect('GUEST-READY', 120)
        check('not a bootable disk' not in vm.text(), 'the first disk was tried first')


def test_ipxe_starts_linux_over_http():
    """SeaBIOS runs iPXE's ROM, which is told on its command line to fetch a script from this host."""
    if not pathlib.Path('/usr/lib/ipxe/qemu/pxe-virtio.rom').exists():
        guest.skip('ipxe-qemu is not installed')
    kernel = guest.Kernel()
    files = {'/s': b'#!ipxe\necho FETCHED\nkernel vmlinuz console=ttyS0\ninitrd initrd\nboot\n',
             '/vmlinuz': kernel.image.read_bytes(),
             '/initrd': guest.initramfs(scratch / 'net-initrd', 'echo GUEST-READY').read_bytes()}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            self.send_header('Content-Length', str(len(files[self.path])))
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            self.wfile.write(files[self.path])

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with guest.Vm({'firmware': 'bios', 'memory_bytes': 512 << 20,
                   'nets': [{'kind': 'user'}]}) as vm:
        vm.expect(with_escapes('for the iPXE command line'), 60)
        time.sleep(0.3)
        vm.send('\x02')
        vm.expect(with_escapes('iPXE> '), 30)
        type_slowly(vm, 'dhcp\r')
        vm.expect(r'Configuring.*ok\s+' + with_escapes('iPXE> '), 60)
        type_slowly(vm, f'chain http://10.0.2.2:{server.server_port}/s\r')
        vm.expect(with_escapes('FETCHED'), 60)
        vm.expect('GUEST-READY', 120)
    server.shutdown()


if __name__ == '__main__':
    guest.run_tests(globals())
