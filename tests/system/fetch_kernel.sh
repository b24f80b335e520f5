#!/bin/sh
# Fetches the newest kernel of Debian meta package NAME (linux-image-cloud-amd64, linux-image-amd64) into
# DIR: DIR/vmlinuz, DIR/config, DIR/modules/ (the tree of modules), DIR/version. With ARCH (i386) it is
# one of that architecture, and DIR/busybox is a static busybox of it. Does nothing when DIR has them
# already. Exit status 77 when packages cannot be fetched here, so that tests are skipped.
# Usage: fetch_kernel.sh NAME DIR [ARCH]
set -eu
name=$1
dir=$2
arch=${3:-}
[ -f "$dir/version" ] && exit 0
work=$dir.part
rm -rf "$work"
mkdir -p "$work"
cd "$work"
if [ -n "$arch" ]; then
    # Package lists of its own: the host's dpkg need not know the architecture.
    mkdir -p apt/state/lists/partial apt/cache/archives/partial
    : >apt/state/status
    cat >apt/conf <<END
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
Dir::State "$PWD/apt/state";
Dir::State::status "$PWD/apt/state/status";
Dir::Cache "$PWD/apt/cache";
END
    export APT_CONFIG="$PWD/apt/conf"
    timeout 300 apt-get update >/dev/null 2>&1 || true # one list that cannot be had need not matter
fi
# The meta package's only dependency is the real one.
real=$(apt-cache depends "$name" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -1)
if [ -z "$real" ]; then
    echo "fetch_kernel: no package $name${arch:+ of $arch}: run apt-get update" >&2
    exit 77
fi
for package in "$real" ${arch:+busybox-static}; do
    timeout 300 apt-get download "$package" >/dev/null 2>&1 || {
        echo "fetch_kernel: cannot download $package" >&2
        exit 77
    }
    dpkg -x ./"$package"_*.deb x
done
[ -z "$arch" ] || mv x/bin/busybox busybox
version=$(cd x/lib/modules && echo *)
mv "x/boot/vmlinuz-$version" vmlinuz
mv "x/boot/config-$version" config
mv "x/lib/modules/$version" modules
rm -rf x apt ./*.deb
echo "$version" >version
cd ..
rm -rf "$dir"
mv "$work" "$dir"
