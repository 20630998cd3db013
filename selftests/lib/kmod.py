# SPDX-License-Identifier: GPL-2.0
"""Kernel modules in the VM: ip_tables out, xtjit in, and the other way round."""
import contextlib
import glob
import os
import platform
import time

import dut
from netns import run

# Those that use one another come first.
LEGACY = [f'{p}table_{t}' for p in ('ip', 'ip6') for t in ('filter', 'nat', 'mangle', 'raw',
                                                          'security')] + ['ip_tables', 'ip6_tables']
XTJIT = '/sys/module/xtjit'


def loaded():
    """{module: how many use it}"""
    with open('/proc/modules') as f:
        return {line.split()[0]: int(line.split()[2]) for line in f}


def path():
    """xtjit.ko for the running kernel, below build/module/SERIES."""
    series = os.environ.get('XTJIT_VM') or '.'.join(platform.release().split('.')[:2])
    return os.path.join(dut.BUILD, 'module', series, 'xtjit.ko')


def switch_off():
    """From now on `modprobe ip_tables` loads ip_tables, unlike what scripts/vm-guest has left."""
    for name in ('xtjit-switch', 'xtjit'):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f'/etc/modprobe.d/{name}.conf')


def legacy_out():
    """Unloads ip_tables.  Its tables go with their namespaces, a little later."""
    def gone():
        for m in LEGACY:
            if loaded().get(m) == 0:
                run(['rmmod', m], check=False)
        return not loaded().keys() & set(LEGACY)
    if not dut.wait(gone, 30):
        raise RuntimeError(f'these stay: {loaded().keys() & set(LEGACY)}')


def helper(early):
    """The path of a program that starts the helper with that option."""
    at = f'/run/xtjitd-{early}'
    with open(at, 'w') as f:
        f.write(f'#!/bin/sh\nexec {dut.BUILD}/xtjitd --early {early} "$@"\n')
    os.chmod(at, 0o755)
    return at


def xtjit_in(early='off', **params):
    """Loads the module; its helper comes with the first request."""
    params.setdefault('helper', helper(early))
    run(['modprobe', 'xtjit'] + [f'{k}={v}' for k, v in params.items()])


def flush():
    """All tables of all namespaces are gone, and the helper is sent away."""
    with open(f'{XTJIT}/parameters/flush', 'w') as f:
        f.write('1')


def xtjit_out(limit=20):
    """A request that is on its way may bring a helper after all."""
    def gone():
        flush()
        return run(['rmmod', 'xtjit'], check=False).returncode == 0
    if not dut.wait(gone, limit):
        raise RuntimeError(f'xtjit is still used: {loaded()["xtjit"]}')


def helpers():
    """Process ids of all helpers, by what they run."""
    out = []
    for exe in glob.glob('/proc/[0-9]*/exe'):
        try:
            if os.readlink(exe) == os.path.join(dut.BUILD, 'xtjitd'):
                out.append(int(exe.split('/')[2]))
        except OSError:
            pass
    return out


def wait_helper(limit=10):
    """The helper's process id, once there is one."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        pids = helpers()
        if pids:
            return pids[0]
        time.sleep(0.05)
    raise RuntimeError('no helper came')
