#!/bin/sh
# Proves --engine kvm on real SVM, which QEMU's TCG emulates: a Debian guest with kvm_amd runs the unit
# tests of the engine, then `atoll run --engine kvm` boots Debian's cloud kernel in it to user space with
# 1 and 2 vCPUs. Usage: kvm_nested.sh [BUILD]. Exit status 77 when a part it needs is missing here.
# KVM_NESTED_SECONDS bounds the whole (1500 by default).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${1:-$here/../../build}
build=$(cd "$build" && pwd)
seconds=${KVM_NESTED_SECONDS:-1500}
for tool in qemu-system-x86_64 busybox cpio; do
    command -v "$tool" >/dev/null || { echo "kvm_nested: no $tool: apt-get install $tool" >&2; exit 77; }
done
kernel=$build/kernels/linux-image-cloud-amd64
"$here/fetch_kernel.sh" linux-image-cloud-amd64 "$kernel"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

pack() { # DIR: the tree below it as an initramfs on standard output
    (cd "$1" && find . | cpio -o -H newc 2>/dev/null | gzip -1)
}

# A static busybox serves both guests.
base() { # DIR
    mkdir -p "$1/bin" "$1/dev" "$1/proc" "$1/sys" "$1/tmp" "$1/run" "$1/root"
    cp "$(command -v busybox)" "$1/bin/busybox"
    for applet in sh mount cat grep echo insmod poweroff ls mkdir sleep timeout; do
        ln -sf busybox "$1/bin/$applet"
    done
}

# The inner guest: says how many processors it has, and powers off.
base "$work/inner"
cat >"$work/inner/init" <<'INIT'
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
echo "INNER-USER-SPACE cpus=$(grep -c ^processor /proc/cpuinfo)" \
    "clock=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
grep -E 'timer|LOC|RES' /proc/interrupts
poweroff -f
INIT
chmod +x "$work/inner/init"

# The outer guest: kvm_amd, our programs with their libraries, the inner guest.
base "$work/outer"
mkdir -p "$work/outer/atoll"
cp "$build/atoll" "$build/atoll-vm" "$build/test_kvm" "$work/outer/atoll/"
for program in atoll atoll-vm test_kvm; do
    ldd "$build/$program" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$work/outer$(dirname "$library")"
        cp -n "$library" "$work/outer$library"
    done
done
for module in virt/lib/irqbypass arch/x86/kvm/kvm arch/x86/kvm/kvm-amd; do
    cp "$kernel/modules/kernel/$module.ko" "$work/outer/"
done
cp "$kernel/vmlinuz" "$work/outer/atoll/vmlinuz"
pack "$work/inner" >"$work/outer/atoll/initrd"
cat >"$work/outer/init" <<'INIT'
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
export HOME=/root XDG_RUNTIME_DIR=/run PATH=/bin:/atoll
for module in irqbypass kvm kvm-amd; do
    insmod /$module.ko || echo "OUTER: no $module"
done
ls -l /dev/kvm
timeout 400 /atoll/test_kvm
echo "OUTER-TEST-STATUS $?"
for cpus in 1 2; do
    echo "OUTER-BOOT cpus=$cpus"
    timeout 500 atoll run --engine kvm --kernel /atoll/vmlinuz --initrd /atoll/initrd --net none \
        --memory 256M --cpus $cpus --append 'console=ttyS0 panic=-1' </dev/null
    echo "OUTER-BOOT-STATUS cpus=$cpus status=$?"
done
echo OUTER-END
poweroff -f
INIT
chmod +x "$work/outer/init"
pack "$work/outer" >"$work/outer.gz"

log=$build/kvm_nested.log
# One thread for both processors: with one each, QEMU 7.2 loses the outer guest in about one of ten
# runs of the tests.
timeout "$seconds" qemu-system-x86_64 -accel tcg,thread=single -cpu EPYC,+svm,+npt -smp 2 -m 1G \
    -kernel "$kernel/vmlinuz" -initrd "$work/outer.gz" -append 'console=ttyS0 quiet panic=-1' \
    -display none -monitor none -serial stdio -no-reboot </dev/null >"$log" 2>&1 || true
failed=0
want() { # PATTERN: must be in the log
    grep -q "$1" "$log" || { echo "kvm_nested: missing in $log: $1" >&2; failed=1; }
}
want 'OUTER-TEST-STATUS 0'
for cpus in 1 2; do
    want "INNER-USER-SPACE cpus=$cpus"
    want "OUTER-BOOT-STATUS cpus=$cpus status=0"
done
want 'OUTER-END'
[ "$failed" = 0 ] && echo "kvm_nested: unit tests, and boots with 1 and 2 vCPUs under kvm_amd: ok"
exit "$failed"
