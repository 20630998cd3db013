#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""make install and make uninstall, below a DESTDIR."""
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '../lib'))
import dut
from netns import run
from tap import Tap

PREFIXED = {
    'bin/xtjit': 0o755, 'sbin/xtjitd': 0o755, 'sbin/xtjit-switch': 0o755,
    'lib/xtjit/libxtjit-shim.so': 0o644, 'lib/systemd/system/xtjitd.service': 0o644,
    'share/xtjit/xtjit-switch.conf': 0o644,
    'share/bash-completion/completions/xtjit': 0o644,
    'share/bash-completion/completions/xtjit-switch': 0o644,
    'share/man/man8/xtjit.8': 0o644, 'share/man/man8/xtjitd.8': 0o644,
    'share/man/man8/xtjit-switch.8': 0o644,
}
TABLES = [f'{p}table_{t}' for p in ('ip', 'ip6')
          for t in ('filter', 'nat', 'mangle', 'raw', 'security')]


def version():
    with open(os.path.join(dut.ROOT, 'debian/changelog')) as f:
        return re.match(r'xtjit \((\S+)\)', f.readline()).group(1)


def sources():
    """What DKMS builds from."""
    kernel = os.path.join(dut.ROOT, 'kernel')
    names = [f'kernel/{n}' for n in os.listdir(kernel) if n.endswith(('.c', '.h'))]
    return {f'usr/src/xtjit-{version()}/{n}': 0o644 for n in names + ['Kbuild', 'dkms.conf']}


def expected(prefix):
    out = {f'{prefix[1:]}/{n}': m for n, m in PREFIXED.items()}
    out.update(sources())
    if prefix != '/usr':
        out['etc/modprobe.d/xtjit.conf'] = 0o644
    return out


def tree(top):
    """{path: mode} of all files."""
    out = {}
    for where, _, names in os.walk(top):
        for n in names:
            path = os.path.join(where, n)
            out[os.path.relpath(path, top)] = stat.S_IMODE(os.lstat(path).st_mode)
    return out


def make(target, dest, prefix):
    return run(['make', '-C', dut.ROOT, target, f'B={dut.BUILD}', f'DESTDIR={dest}', f'PREFIX={prefix}'])


def read(*path):
    with open(os.path.join(*path)) as f:
        return f.read()


def check_files(t, dest, prefix):
    make('install', dest, prefix)
    t.eq(tree(dest), expected(prefix), f'{prefix}: files and their modes')
    unit = read(dest, prefix[1:], 'lib/systemd/system/xtjitd.service')
    t.ok(f'ExecStart={prefix}/sbin/xtjitd --module\n' in unit, f'{prefix}: the unit starts the helper there')
    t.ok('@' not in re.sub('modprobe@', '', unit), f'{prefix}: nothing is left to fill in')
    conf = read(dest, f'usr/src/xtjit-{version()}/dkms.conf')
    t.ok(f'PACKAGE_VERSION="{version()}"\n' in conf, f'{prefix}: dkms.conf has the version')
    if prefix != '/usr':
        t.eq(read(dest, 'etc/modprobe.d/xtjit.conf'),
             f'options xtjit helper={prefix}/sbin/xtjitd\n', f'{prefix}: the module is told of the helper')


def check_remove(t, dest, prefix):
    foreign = os.path.join(dest, prefix[1:], 'share/xtjit/foreign')
    open(foreign, 'w').close()
    make('uninstall', dest, prefix)
    t.eq(list(tree(dest)), [os.path.relpath(foreign, dest)], f'{prefix}: uninstall removes all that is ours')
    left = [d for d, _, _ in os.walk(dest) if re.search(r'xtjit', os.path.relpath(d, dest))]
    t.eq(left, [os.path.dirname(foreign)], f'{prefix}: and its folders')


def check_modprobe(t, dest):
    """modprobe's own reading of the file that xtjit-switch links to."""
    conf = read(dest, 'usr/share/xtjit/xtjit-switch.conf')
    got = re.findall(r'^install (\S+) ', conf, re.M)
    t.eq(sorted(got), sorted(TABLES + ['ip_tables', 'ip6_tables']), 'modprobe.d: all modules of ip_tables')
    wrong = [n for n in got if not re.search(rf'^install {n} .*--ignore-install {n};', conf, re.M)]
    t.eq(wrong, [], 'modprobe.d: each falls back to itself')


def check_helper_path(t):
    """What the module has compiled in is where a package installs the helper."""
    text = read(dut.ROOT, 'kernel/umh.c')
    t.ok('"/usr/sbin/xtjitd"' in text, 'the module looks for the helper in /usr/sbin')


def check_manual(t, dest):
    for name in ('xtjit', 'xtjitd', 'xtjit-switch'):
        path = os.path.join(dest, f'usr/share/man/man8/{name}.8')
        r = run(['groff', '-man', '-ww', '-z', path], check=False)
        t.eq(r.stderr, '', f'{name}(8) has no mistakes')


def check_unit(t, top):
    """As systemd reads it, with a helper that is there."""
    if not shutil.which('systemd-analyze'):
        return t.skip('systemd takes the unit', 'no systemd-analyze')
    path = os.path.join(top, 'xtjitd.service')
    with open(path, 'w') as f:
        f.write(read(dut.ROOT, 'package/xtjitd.service').replace('@SBINDIR@', dut.BUILD))
    r = run(['systemd-analyze', 'verify', '--man=no', '--recursive-errors=no', path], check=False)
    return t.eq((r.returncode, r.stderr), (0, ''), 'systemd takes the unit')


def check_notify(t, top):
    """The unit is of Type=notify."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        path = os.path.join(top, 'notify')
        s.bind(path)
        s.settimeout(20)
        p = subprocess.Popen([os.path.join(dut.BUILD, 'xtjitd'), '--socket', os.path.join(top, 'x.sock')],
                             env=dict(os.environ, NOTIFY_SOCKET=path), stderr=subprocess.DEVNULL)
        try:
            t.eq(s.recv(100), b'READY=1', 'the helper says when it is ready')
        except socket.timeout:
            t.ok(False, 'the helper says when it is ready', f'exit status {p.poll()}')
        p.terminate()
        p.wait()
    dut.unmount_below(top)


def check_switch(t):
    script = os.path.join(dut.ROOT, 'package/xtjit-switch')
    t.eq(run([script], check=False).returncode, 2, 'xtjit-switch without a command: 2')
    t.eq(run([script, 'on', '--limit', 'x'], check=False).returncode, 2, 'xtjit-switch: a limit that is none: 2')
    r = run([script, 'status'], check=False)
    t.ok(r.returncode == 1 and 'modprobe ip_tables:      loads ip_tables\n' in r.stdout,
         'xtjit-switch status: off', r.stdout + r.stderr)


def main():
    t = Tap()
    top = tempfile.mkdtemp(prefix='xtjit-install.')
    try:
        for prefix in ('/usr', '/usr/local'):
            dest = os.path.join(top, prefix.replace('/', '_'))
            check_files(t, dest, prefix)
            if prefix == '/usr':
                check_modprobe(t, dest)
                if shutil.which('groff'):
                    check_manual(t, dest)
                else:
                    t.skip('the man pages have no mistakes', 'no groff')
            check_remove(t, dest, prefix)
        check_helper_path(t)
        check_unit(t, top)
        check_notify(t, top)
        check_switch(t)
    except (RuntimeError, subprocess.SubprocessError) as e:
        t.ok(False, 'make', e)
    finally:
        shutil.rmtree(top)
    return t.done()


sys.exit(main())
