"""Disk images with a boot loader: a partition table, GRUB, a /boot file system and a root file system,
put together without root's rights or loop devices.

  BIOS  MBR (boot.img), core.img in the gap before the first partition, 1: /boot, 2: root
  UEFI  GPT, 1: EFI system partition with GRUB as BOOTX64.EFI, 2: /boot, 3: root
"""
import pathlib
import shutil
import struct
import subprocess

import guest

MIB = 1 << 20
SECTOR = 512
GRUB = pathlib.Path('/usr/lib/grub')
MODULES = 'ext2 fat part_msdos part_gpt normal linux echo configfile search test ls serial terminal ' \
          'reboot halt sleep'.split()
ESP_TYPE, LINUX_TYPE = 'ef00', '8300'


def need(*tools):
    """Ends the test where a program that makes images is not installed."""
    for tool in tools:
        if shutil.which(tool, path='/usr/sbin:/usr/bin:/sbin:/bin') is None:
            guest.skip(f'{tool} is not installed')


def run(*words, **more):
    subprocess.run([*map(str, words)], check=True, capture_output=True, timeout=300,
                   env={'PATH': '/usr/sbin:/usr/bin:/sbin:/bin'}, **more)


def boot_files(folder, files, config):
    """A folder as /boot is to be: FILES by name, and GRUB's CONFIG."""
    (folder / 'grub').mkdir(parents=True, exist_ok=True)
    for name, path in files.items():
        shutil.copy(path, folder / name)
    (folder / 'grub' / 'grub.cfg').write_text(config)
    return folder


def file_system(path, folder, mebibytes):
    path.unlink(missing_ok=True)
    run('mke2fs', '-q', '-t', 'ext2', '-d', folder, path, f'{mebibytes}M')
    return path


def paste(disk, offset, source):
    """Copies SOURCE's data into DISK at OFFSET, and leaves its holes out."""
    run('dd', f'if={source}', f'of={disk}', f'seek={offset}', 'bs=1M', 'oflag=seek_bytes',
        'conv=notrunc,sparse')


def grub_core(path, target, prefix, *modules, early=None):
    if not (GRUB / target).exists():
        guest.skip(f'GRUB for {target} is not installed')
    words = ['-c', early] if early else []
    run('grub-mkimage', '-O', target, '-o', path, '-p', prefix, *words, *MODULES, *modules)
    return path.read_bytes()


def put_bios_grub(disk, scratch):
    """The boot sector, which loads core.img's first sector, which loads the rest of it."""
    boot = bytearray((GRUB / 'i386-pc' / 'boot.img').read_bytes())
    core = bytearray(grub_core(scratch / 'core.img', 'i386-pc', '(hd0,msdos1)/grub', 'biosdisk'))
    core += bytes(-len(core) % SECTOR)
    boot[0x5c:0x64] = struct.pack('<Q', 1)  # core.img's first sector
    boot[0x66:0x68] = b'\x90\x90'           # boot from the drive that the BIOS names
    core[SECTOR - 12:SECTOR] = struct.pack('<QHH', 2, len(core) // SECTOR - 1, 0x820)
    assert len(core) < MIB - SECTOR
    with disk.open('r+b') as out:
        table = out.read(SECTOR)[440:]
        out.seek(0)
        out.write(boot[:440] + table + core)


def size_of(*paths):
    return [-(-path.stat().st_size // MIB) for path in paths]


def bios_disk(disk, scratch, boot, root=None):
    """DISK with an MBR; BOOT and ROOT are file systems in files."""
    need('sfdisk', 'grub-mkimage')
    parts = [boot] + ([root] if root else [])
    sizes = size_of(*parts)
    disk.unlink(missing_ok=True)
    with disk.open('wb') as out:
        out.truncate((1 + sum(sizes) + 1) * MIB)
    text, at = 'label: dos\n', 1
    for size in sizes:
        text += f'start={at}MiB, size={size}MiB, type=83\n'
        at += size
    run('sfdisk', '-q', disk, input=text.encode())
    put_bios_grub(disk, scratch)
    for index, part in enumerate(parts):
        paste(disk, (1 + sum(sizes[:index])) * MIB, part)
    return disk


def fat(path, files, mebibytes=34):
    """A FAT file system with FILES by their names, whose folders are made."""
    need('mkfs.vfat', 'mcopy')
    path.unlink(missing_ok=True)
    with path.open('wb') as out:
        out.truncate(mebibytes * MIB)
    run('mkfs.vfat', '-F', '32', path)
    made = set()
    for name, source in files.items():
        for parent in reversed(list(pathlib.PurePath(name).parents)[:-1]):
            if parent not in made:
                run('mmd', '-i', path, f'::{parent}')
                made.add(parent)
        run('mcopy', '-i', path, source, f'::{name}')
    return path


def efi_partition(path, scratch):
    """A FAT file system with GRUB where firmware looks when it has no boot entry."""
    need('grub-mkimage')
    early = scratch / 'early.cfg'
    early.write_text('search --set=root --file /grub/grub.cfg\nset prefix=($root)/grub\n')
    core = scratch / 'BOOTX64.EFI'
    grub_core(core, 'x86_64-efi', '/grub', 'efi_gop', early=early)
    return fat(path, {'EFI/BOOT/BOOTX64.EFI': core})


def gpt_disk(disk, parts):
    """DISK with a GPT: an EFI system partition first, then Linux's."""
    need('sgdisk')
    sizes = size_of(*parts)
    disk.unlink(missing_ok=True)
    with disk.open('wb') as out:
        out.truncate((1 + sum(sizes) + 1) * MIB)
    words, at = [], 1
    for index, size in enumerate(sizes, 1):
        words += [f'--new={index}:{at}M:+{size}M',
                  f'--typecode={index}:{ESP_TYPE if index == 1 else LINUX_TYPE}']
        at += size
    run('sgdisk', *words, disk)
    for index, part in enumerate(parts):
        paste(disk, (1 + sum(sizes[:index])) * MIB, part)
    return disk


def uefi_disk(disk, scratch, boot, root=None):
    return gpt_disk(disk, [efi_partition(scratch / 'esp', scratch), boot] + ([root] if root else []))
