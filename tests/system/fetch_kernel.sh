#!/bin/sh
# Fetches the newest kernel of Debian meta package NAME (linux-image-cloud-amd64, linux-image-amd64) into
# DIR: DIR/vmlinuz, DIR/config, DIR/modules/ (the tree of modules), DIR/version. Does nothing when DIR has
# them already. Exit status 77 when packages cannot be fetched here, so that tests are skipped.
set -eu
name=$1
dir=$2
[ -f "$dir/version" ] && exit 0
work=$dir.part
rm -rf "$work"
mkdir -p "$work"
# The meta package's only dependency is the real one.
real=$(apt-cache depends "$name" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -1)
if [ -z "$real" ]; then
    echo "fetch_kernel: no package $name: run apt-get update" >&2
    exit 77
fi
(cd "$work" && timeout 300 apt-get download "$real" >/dev/null 2>&1) || {
    echo "fetch_kernel: cannot download $real" >&2
    exit 77
}
dpkg -x "$work"/*.deb "$work/x"
version=$(cd "$work/x/lib/modules" && echo *)
mv "$work/x/boot/vmlinuz-$version" "$work/vmlinuz"
mv "$work/x/boot/config-$version" "$work/config"
mv "$work/x/lib/modules/$version" "$work/modules"
rm -rf "$work/x" "$work"/*.deb
echo "$version" >"$work/version"
rm -rf "$dir"
mv "$work" "$dir"
