#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""
make install and make uninstall on a machine that has kernel headers, with DKMS, without
it, and without the headers: selftests/package/chroot KERNEL selftests/package/make_test.py
"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '../lib'))
import dut
from netns import run
from tap import Tap

MODULES = f'/lib/modules/{os.environ.get("XTJIT_CHROOT")}'
LINK = '/etc/modprobe.d/xtjit-switch.conf'


def make(target):
    return run(['make', '-C', dut.ROOT, target], check=False)


def left():
    found = run(['find', '/usr', '/etc', '/lib/modules', '/var/lib/dkms', '-name', '*xtjit*'], check=False)
    return [p for p in found.stdout.split() if not p.startswith(dut.ROOT)]


def module():
    """What modprobe would load, below the modules' folder."""
    return run(['modinfo', '-k', os.path.basename(MODULES), '-n', 'xtjit'],
               check=False).stdout.strip().removeprefix(MODULES)


class Hidden:
    def __init__(self, path):
        self.path = path

    def __enter__(self):
        os.rename(self.path, self.path + '.hidden')

    def __exit__(self, *_):
        os.rename(self.path + '.hidden', self.path)


def install(t, how, where):
    r = make('install')
    if not t.ok(r.returncode == 0, f'{how}: make install', r.stdout + r.stderr):
        return ''
    t.eq(module(), where, f'{how}: the module')
    return r.stderr


def uninstall(t, how):
    r = make('uninstall')
    t.ok(r.returncode == 0, f'{how}: make uninstall', r.stdout + r.stderr)
    t.eq(left(), [], f'{how}: nothing is left')


def with_dkms(t):
    for how in ('DKMS', 'DKMS, again'):
        install(t, how, '/updates/dkms/xtjit.ko')
    t.ok('installed' in run(['dkms', 'status', 'xtjit']).stdout, 'DKMS: it knows')
    options = [line for line in run(['modprobe', '-c']).stdout.splitlines() if line.startswith('options xtjit ')]
    t.eq(options, ['options xtjit helper=/usr/local/sbin/xtjitd'], 'DKMS: modprobe tells the module of the helper')
    t.ok(os.access('/usr/local/sbin/xtjitd', os.X_OK), 'DKMS: which is there')
    os.symlink('/usr/local/share/xtjit/xtjit-switch.conf', LINK)
    r = make('uninstall')
    t.ok(r.returncode and 'xtjit-switch off' in r.stderr and os.path.exists('/usr/local/sbin/xtjitd'),
         'DKMS: no uninstall while the switch is on', r.stderr)
    os.unlink(LINK)
    uninstall(t, 'DKMS')


def main():
    t = Tap()
    with_dkms(t)
    with Hidden('/usr/sbin/dkms'):
        install(t, 'no DKMS', '/updates/xtjit.ko')
        uninstall(t, 'no DKMS')
        with Hidden(f'{MODULES}/build'):
            text = install(t, 'no headers', '')
            t.ok('only `xtjit run`' in text, 'no headers: it says so', text)
            uninstall(t, 'no headers')
    with Hidden(f'{MODULES}/build'):
        text = install(t, 'DKMS, no headers', '')
        t.ok('DKMS will build the module' in text, 'DKMS, no headers: it says so', text)
        uninstall(t, 'DKMS, no headers')
    return t.done()


if not os.environ.get('XTJIT_CHROOT'):
    print('1..0 # SKIP for selftests/package/chroot: it changes the machine')
    sys.exit(4)
sys.exit(main())
