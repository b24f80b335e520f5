#!/bin/sh
# Run by mmdebstrap as its customize hook, as root of the new system in $1: makes a bare Debian 12 into
# the image debian/12. ATOLL_OUT is a folder that holds the static agent and takes disk.raw, vmlinuz
# and the modules for the initrd; ATOLL_DISK_BYTES is the size of the disk. Without root this runs in a
# user namespace as a user who owns nothing outside: what is made in ATOLL_OUT lies flat there, so that
# its owner can remove it.
set -eu
root=$1

say() { echo "I: $*" >&2; }

say "configuring the system"
echo debian > "$root/etc/hostname"
printf '127.0.0.1 localhost debian\n::1 localhost debian\n' > "$root/etc/hosts"
: > "$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id" "$root/etc/resolv.conf"
ln -s ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
echo '/dev/vda / ext4 rw,relatime 0 0' > "$root/etc/fstab"
cat > "$root/etc/motd" <<'END'
This is a virtual machine. 'poweroff' ends it, ^] leaves it at once.
END

# The network: every real adapter, by DHCP.
cat > "$root/etc/systemd/network/80-dhcp.network" <<'END'
[Match]
Type=ether

[Network]
DHCP=yes
LinkLocalAddressing=ipv6

[DHCPv4]
UseHostname=no
END

# A shell without a login on whatever console the kernel was given.
mkdir -p "$root/etc/systemd/system/serial-getty@.service.d"
cat > "$root/etc/systemd/system/serial-getty@.service.d/autologin.conf" <<'END'
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noissue --noclear --keep-baud 115200,57600,38400,9600 - $TERM
END

# The kernel's command line says which terminal the user sits at, and its size.
cat > "$root/etc/profile.d/atoll-console.sh" <<'END'
case $(tty) in /dev/ttyS*|/dev/hvc*)
    for word in $(cat /proc/cmdline); do
        value=${word#*=}
        case $word in
        atoll.term=*) for folder in /etc /lib /usr/share; do
                          [ -e "$folder/terminfo/$(echo "$value" | cut -c1)/$value" ] &&
                              export TERM="$value"
                      done ;;
        atoll.size=*) stty cols "${value%x*}" rows "${value#*x}" ;;
        esac
    done
    unset word value folder ;;
esac
END

# The agent that runs commands for the host.
install -D -m 0755 "$ATOLL_OUT/atoll-agent" "$root/usr/lib/atoll/atoll-agent"
cat > "$root/etc/systemd/system/atoll-agent.service" <<'END'
[Unit]
Description=Runs commands for the host
ConditionPathExistsGlob=/sys/class/virtio-ports/vport*
DefaultDependencies=no
After=local-fs.target systemd-tmpfiles-setup.service
Conflicts=shutdown.target
Before=shutdown.target

[Service]
ExecStart=/usr/lib/atoll/atoll-agent
Environment=HOME=/root USER=root LOGNAME=root SHELL=/bin/bash
Restart=always
OOMScoreAdjust=-900

[Install]
WantedBy=sysinit.target
END
chroot "$root" systemctl --quiet enable systemd-networkd systemd-resolved atoll-agent

# What a virtual machine of an hour has no use for; each costs start-up time on a slow engine.
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service \
            fstrim.timer systemd-networkd-wait-online.service getty@tty1.service \
            dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
            modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service \
            modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service; do
    chroot "$root" systemctl --quiet mask "$unit" 2>/dev/null || true
done
rm -rf "$root"/var/cache/apt/*.bin "$root"/var/lib/apt/lists/*

# The kernel, and the modules for the root disk, the agent and the network, in their order.
kernel=$(basename "$(ls -d "$root"/lib/modules/* | sort -V | tail -n 1)")
say "kernel $kernel"
echo "$kernel" > "$ATOLL_OUT/kernel-version"
cp "$root/boot/vmlinuz-$kernel" "$ATOLL_OUT/vmlinuz"
chroot "$root" sh -c "for module in virtio_pci virtio_blk ext4 virtio_console virtio_net; do
    modprobe --set-version '$kernel' --show-depends \$module; done" |
    sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' > "$ATOLL_OUT/modules.list"
number=0
while read -r module; do
    cp "$root$module" "$ATOLL_OUT/module-$(printf %02d $number).ko"
    number=$((number + 1))
done < "$ATOLL_OUT/modules.list"

say "making the disk image"
# Seen through a second mount, the tree is without what is mounted in it: /proc, /sys, /dev.
bare=$ATOLL_OUT/bare
mount --bind "$root" "$bare"
trap 'umount "$bare"' EXIT
truncate -s "$ATOLL_DISK_BYTES" "$ATOLL_OUT/disk.raw"
mke2fs -q -F -t ext4 -L root -d "$bare" "$ATOLL_OUT/disk.raw"
