#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 900
"""make deb: what the packages contain, and that the source tree stays clean."""
import glob
import os
import re
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '../lib'))
import dut
from netns import run
from tap import Tap

DEB = os.path.join(dut.BUILD, 'deb')
NO_ADDRESS = 'bogus-mail-host'		# the project has none


def listing():
    """{path: (size, time)} of the source tree."""
    out = {}
    for where, dirs, names in os.walk(dut.ROOT):
        dirs[:] = [d for d in dirs if d not in ('.git', 'build', '__pycache__')]
        for n in names:
            path = os.path.join(where, n)
            st = os.lstat(path)
            out[os.path.relpath(path, dut.ROOT)] = (st.st_size, st.st_mtime_ns)
    return out


def package(name):
    found = glob.glob(f'{DEB}/{name}_*.deb')
    if len(found) != 1:
        raise RuntimeError(f'{DEB}: {found}')
    return found[0]


def contents(name):
    lines = run(['dpkg-deb', '-c', package(name)]).stdout.splitlines()
    return {line.split()[5][1:]: line.split()[0] for line in lines if line[0] != 'd'}


def field(name, which):
    return run(['dpkg-deb', '-f', package(name), which]).stdout.strip()


def control(name, script):
    return run(['dpkg-deb', '-I', package(name), script]).stdout


def check_xtjit(t):
    files = contents('xtjit')
    programs = ['/usr/bin/xtjit', '/usr/sbin/xtjitd', '/usr/sbin/xtjit-switch']
    t.eq([f for f in programs if files.get(f) != '-rwxr-xr-x'], [], 'xtjit: programs')
    others = ['/usr/lib/xtjit/libxtjit-shim.so', '/usr/share/xtjit/xtjit-switch.conf',
              '/usr/share/man/man8/xtjit.8.gz', '/usr/share/man/man8/xtjitd.8.gz',
              '/usr/share/man/man8/xtjit-switch.8.gz', '/usr/share/doc/xtjit/copyright',
              '/usr/share/bash-completion/completions/xtjit']
    t.eq([f for f in others if files.get(f) != '-rw-r--r--'], [], 'xtjit: other files')
    units = [f for f in files if re.fullmatch(r'(/usr)?/lib/systemd/system/xtjitd.service', f)]
    t.eq(len(units), 1, 'xtjit: the systemd unit')
    t.eq([f for f in files if f.startswith('/etc')], [], 'xtjit: nothing in /etc: it is off')
    needs = field('xtjit', 'Depends')
    t.ok(all(re.search(rf'\b{p}\b', needs) for p in ('iptables', 'libbpf1', 'libmnl0', 'kmod')),
         'xtjit: dependencies', needs)
    t.ok('xtjit-switch off' in control('xtjit', 'prerm'), 'xtjit: removal gives the rules back')


def check_dkms(t):
    files = contents('xtjit-dkms')
    src = os.path.commonpath([f for f in files if f.startswith('/usr/src/')]).split('/')[3]
    version = field('xtjit-dkms', 'Version')
    t.eq(src, f'xtjit-{version}', 'xtjit-dkms: its folder has the version')
    have = {f for f in files if f.startswith('/usr/src/')}
    want = {f'/usr/src/{src}/{n}' for n in ('Kbuild', 'dkms.conf')}
    want |= {f'/usr/src/{src}/kernel/{n}' for n in os.listdir(f'{dut.ROOT}/kernel')
             if n.endswith(('.c', '.h'))}
    t.eq(have, want, 'xtjit-dkms: the sources')
    t.ok(re.search(r'\bdkms\b', field('xtjit-dkms', 'Depends')), 'xtjit-dkms: needs dkms')
    t.ok('common.postinst' in control('xtjit-dkms', 'postinst'), 'xtjit-dkms: builds when it is installed')
    prerm = control('xtjit-dkms', 'prerm')
    t.ok(-1 < prerm.find('xtjit-switch off') < prerm.find('dkms remove'),
         'xtjit-dkms: removal gives the rules back first', prerm)


def check_lintian(t):
    if not shutil.which('lintian'):
        return t.skip('lintian finds no errors', 'no lintian')
    r = run(['lintian', '--allow-root', '--fail-on', 'error', '--suppress-tags',
             f'{NO_ADDRESS},{NO_ADDRESS}-in-debian-changelog'] + glob.glob(f'{DEB}/*.changes'), check=False)
    return t.eq(r.returncode, 0, 'lintian finds no errors') or t.diag(r.stdout + r.stderr)


def main():
    t = Tap()
    before = listing()
    r = run(['make', '-C', dut.ROOT, f'B={dut.BUILD}', 'deb'], check=False)
    if t.ok(r.returncode == 0, 'make deb', r.stdout + r.stderr):
        after = listing()
        changed = sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p))
        t.eq(changed, [], 'the source tree is as it was')
        t.guard('xtjit', check_xtjit, t)
        t.guard('xtjit-dkms', check_dkms, t)
        t.guard('lintian', check_lintian, t)
    return t.done()


sys.exit(main())
