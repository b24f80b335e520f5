#!/usr/bin/env python3
"""The debian/12 image as a person uses it: built by the command, run to a shell and for commands, with
its network in both directions. The image is built once, below the build folder.
"""
import contextlib
import hashlib
import http.server
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import guest  # noqa: E402
from guest import check  # noqa: E402

ATOLL = guest.BUILD / 'atoll'
IMAGE = 'debian/12'
BUILD_SECONDS, RUN_SECONDS = 900, 300
DATA = pathlib.Path(os.environ.get('ATOLL_TEST_DATA', guest.BUILD / 'test-data'))
ENV = {**os.environ, 'XDG_DATA_HOME': str(DATA.absolute()), 'TERM': 'vt100'}
scratch = pathlib.Path(tempfile.mkdtemp(prefix='atoll-image.'))


def atoll(*words, data=b'', seconds=RUN_SECONDS):
    done = subprocess.run([ATOLL, *map(str, words)], input=data, env=ENV, capture_output=True,
                          timeout=seconds * guest.PATIENCE, check=False)
    return done.returncode, done.stdout.decode(errors='replace'), done.stderr.decode()


def has_image():
    return re.search(rf'^{IMAGE} ', atoll('image', 'ls')[1], re.M) is not None


def image_build():
    """The image, or the end of this test: without the tool or the packages there is none."""
    if has_image():
        return
    if shutil.which('mmdebstrap') is None:
        guest.skip('mmdebstrap is not installed')
    if subprocess.run(['apt-get', 'download', '--print-uris', 'hostname'], capture_output=True,
                      check=False).returncode != 0:
        guest.skip('this host knows no Debian packages: run apt-get update')
    start = time.monotonic()
    found, _, err = atoll('image', 'build', IMAGE, seconds=BUILD_SECONDS)
    check(found == 0, f'status {found}: {err}')
    check(has_image(), 'what was built is not listed')
    print(f'image built ({time.monotonic() - start:.1f} s)', flush=True)


@contextlib.contextmanager
def host_server(payload):
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
    try:
        yield server.server_port
    finally:
        server.shutdown()


def test_command():
    """Streams and status of a command are those of the guest's."""
    script = 'uname -s; tr a-z A-Z; echo to-stderr >&2; cat /etc/debian_version; exit 7'
    found, out, err = atoll('run', IMAGE, '--', 'sh', '-c', script, data=b'piped in\n')
    check(found == 7, f'status {found}, not 7: {err}')
    check(re.fullmatch(r'Linux\nPIPED IN\n12\.\d+\n', out), f'output {out!r}')
    check('to-stderr\n' in err and 'engine' in err, f'standard error {err!r}')
    found, _, err = atoll('run', IMAGE, '--net', 'none', '--', 'no-such-program')
    check(found in (12, 127), f'status {found} for a program that is not there: {err}')


def test_network_and_disk():
    """apt, a download from the host by checksum, and a second disk of random bytes, on two vCPUs."""
    payload, disk = os.urandom(4 << 20), scratch / 'disk'
    disk.write_bytes(os.urandom(1 << 20))
    with host_server(payload) as port:
        script = (f'nproc; curl -sS http://10.0.2.2:{port}/ | sha256sum; sha256sum </dev/vdb; '
                  'apt-get update -q >/tmp/apt 2>&1 || cat /tmp/apt; ls /var/lib/apt/lists | '
                  'grep -c Packages')
        found, out, err = atoll('run', IMAGE, '--cpus', '2', '--disk', f'{disk},readonly', '--',
                                'sh', '-c', script)
    check(found == 0, f'status {found}: {out} {err}')
    lines = out.split()
    check(lines[0] == '2', f'{lines[0]} vCPUs')
    check(hashlib.sha256(payload).hexdigest() in out, f'the download differs: {out}')
    check(hashlib.sha256(disk.read_bytes()).hexdigest() in out, f'the disk differs: {out}')
    check(int(lines[-1]) > 0, f'apt-get update brought no lists: {out}')


SERVER = r'''
use IO::Socket::INET;
my $l = IO::Socket::INET->new(LocalPort => 80, Listen => 5, ReuseAddr => 1) or die $!;
$| = 1; print "LISTENING\n";
my $c = $l->accept; my $r = <$c>; $r =~ s/\s+$//;
print $c "HTTP/1.0 200 OK\r\n\r\nguest saw: $r\n"; close $c; sleep 1;
'''


def test_forwarded_port():
    """A request to the host's port reaches a server in the guest."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([ATOLL, 'run', IMAGE, '-p', f'{port}:80', '--', 'perl', '-e', SERVER],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=ENV) as process:
        timer = threading.Timer(RUN_SECONDS * guest.PATIENCE, process.kill)
        timer.start()
        try:
            check(b'LISTENING' in process.stdout.readline(), 'the guest does not listen')
            url = f'http://127.0.0.1:{port}/over-the-wall'
            with urllib.request.urlopen(url, timeout=60) as answer:
                text = answer.read().decode()
            check(text == 'guest saw: GET /over-the-wall HTTP/1.1\n', f'the answer is {text!r}')
            check(process.wait(120) == 0, 'the exit status is not 0')
        finally:
            timer.cancel()
            process.kill()


class Terminal:
    """`atoll run` on a pseudo-terminal."""

    def __init__(self, *words):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen([ATOLL, *words], stdin=self.slave, stdout=self.slave,
                                        stderr=self.slave, env=ENV, start_new_session=True)
        self.output = ''

    def expect(self, pattern, seconds):
        end = time.monotonic() + seconds * guest.PATIENCE
        while not re.search(pattern, self.output):
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            check(ready, f'no {pattern!r} within {seconds} s after {self.output[-1500:]!r}')
            self.output += os.read(self.master, 65536).decode(errors='replace')
        self.output = ''

    def send(self, text):
        os.write(self.master, text.encode())

    def finish(self, seconds):
        """The exit status; the terminal must be as it was."""
        end = time.monotonic() + seconds * guest.PATIENCE
        while self.process.poll() is None:
            check(time.monotonic() < end, f'no end within {seconds} s: {self.output[-1500:]!r}')
            if select.select([self.master], [], [], 0.2)[0]:
                self.output += os.read(self.master, 65536).decode(errors='replace')
        check(termios.tcgetattr(self.slave) == self.before, 'the terminal was not restored')
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


def test_shell():
    """A root shell without a login; Ctrl-C is the guest's; poweroff ends with 0, and so does ^]."""
    for leave, seconds in (('poweroff\n', 120), ('\x1d', 30)):
        terminal = Terminal('run', IMAGE, '--net', 'none')
        try:
            terminal.expect(r'root@\S+# ', RUN_SECONDS)
            # Told by the program in front: a ^C between bash's commands may be lost anywhere.
            terminal.send('sh -c \'echo "$((6 * 7)) $(id -un) $(tty)"; exec sleep 1000\'\n')
            terminal.expect(r'42 root /dev/\w+', 60)
            terminal.send('\x03')
            terminal.expect(r'root@\S+# ', 60)
            terminal.send(leave)
            found = terminal.finish(seconds)
            check(found == 0, f'status {found}: {terminal.output[-1500:]!r}')
        finally:
            terminal.close()


if __name__ == '__main__':
    try:
        image_build()
        guest.run_tests(globals())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
