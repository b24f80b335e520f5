#!/bin/sh
# The jobs of make bench, run by jobs.c: work.sh NAME does one and prints what must be the same everywhere.
# work.sh before NAME gets it ready, outside of the measured time. A job that measures by itself prints
# 'NS NAME NANOSECONDS' lines. The files it needs lie beside this one; what it writes goes to /tmp.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

# Vector instructions that guests do not see are hidden from OpenSSL everywhere, so that all sides run
# the same code: AVX-512 in its parts, VAES, VPCLMULQDQ and GFNI.
export OPENSSL_ia32cap=':~0x5f42d0230000'

openssl_speed() {
    openssl speed -elapsed -seconds 1 -mr "$@" 2>/dev/null
}

# The same work four times, on these processors.
four_times() {
    for task in 1 2 3 4; do
        taskset -c "$1" "$here/micro" --work 1500 >/tmp/work.$task &
    done
    wait
    cmp /tmp/work.1 /tmp/work.4
    cat /tmp/work.2
}

case "$*" in
python) python3 -I -S "$here/python.py" ;;
perl) perl "$here/perl.pl" ;;
sqlite) sqlite3 -batch :memory: ".read $here/sqlite.sql" ;;
gcc)
    gcc -O2 -c "$here/compile.i" -o /tmp/compile.o
    cksum </tmp/compile.o
    ;;
aes-gcm) openssl_speed -bytes 16384 -evp aes-256-gcm | awk -F: '/^.F:/ {print "NS aes-gcm", 1024e9 / $4}' ;;
openssl-sha256) openssl_speed -bytes 16384 -evp sha256 | awk -F: '/^.F:/ {print "NS openssl-sha256", 1024e9 / $4}' ;;
rsa-sign) openssl_speed rsa2048 | awk -F: '/^.F2:/ {print "NS rsa-sign", 1e9 / $4}' ;;
'before aes-gcm' | 'before openssl-sha256' | 'before rsa-sign')
    # Whether the answers are right, by the same code paths.
    cd /tmp
    openssl dgst -sha256 <"$here/compile.i"
    openssl dgst -sha256 -sign "$here/rsa.pem" <"$here/compile.i" | cksum
    openssl cms -encrypt -binary -aes-256-gcm -secretkeyid 01 -outform DER -secretkey \
        00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff <"$here/compile.i" >sealed
    openssl cms -decrypt -binary -inform DER -secretkeyid 01 -secretkey \
        00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff <sealed | cksum
    ;;
sh-forks)
    i=0
    while [ $i -lt 200 ]; do
        /bin/true
        i=$((i + 1))
    done
    echo $i
    ;;
hackbench) hackbench --groups 2 --loops 200 | grep -v Time ;;
'before apt-install') dpkg --purge atoll-bench >/dev/null 2>&1 ;;
apt-install)
    apt-get install -q -y -o APT::Sandbox::User=root "$here/atoll-bench.deb" >/tmp/apt.log 2>&1 ||
        cat /tmp/apt.log
    atoll-bench
    ;;
four-on-one) four_times 0 ;;
four-on-two) four_times 0,1 ;;
footprint)
    # Much code, little of it for long: a compiler, two interpreters, a database.
    for name in gcc python perl sqlite; do
        sh "$0" $name
    done
    ;;
'before '*) ;;
*)
    echo "work.sh: no job '$*'" >&2
    exit 2
    ;;
esac
