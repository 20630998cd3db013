#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 600
"""
Unprivileged users against the module: user_fuzz_test, and blob_errno_test's spoiled
rulesets.  Another namespace's rules stay in force, and nothing leaks.
"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import dut
import kmod
import leak
import stream
import tap
from netns import run

SECONDS = os.environ.get('XTJIT_SECONDS', '25')
SPOILED = os.environ.get('XTJIT_SPOILED', '300')
NOBODY = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups']


def relay(t, what, cmd):
    """Its tests as ours."""
    env = dict(os.environ, XTABLES_LOCKFILE='/tmp/nobody.lock')
    r = subprocess.run(cmd, capture_output=True, text=True, env=env)
    found = re.findall(r'^(not )?ok \d+ - (.*)$', r.stdout, re.M)
    for bad, name in found:
        t.ok(not bad, f'{what}: {name}', r.stdout[-1500:])
    t.ok(found and r.returncode == 0, f'{what}: exit status {r.returncode}', r.stderr[-500:])


def main():
    t = tap.Tap()
    kmod.xtjit_in('on')
    impl = dut.Module()
    try:
        run(['iptables-legacy', '-S'])
        watch = leak.Watch(t, 'users')
        with stream.running(impl, False, pps=500) as (_, s):
            relay(t, 'fuzz', [f'{dut.BUILD}/test/vm/user_fuzz_test', '-t', SECONDS])
            relay(t, 'spoiled rulesets',
                  NOBODY + [f'{dut.BUILD}/test/netns/blob_errno_test', '-n', SPOILED])
            s.check(t, "another namespace's rules were in force all the time")
        watch.check(objects=12)
        t.ok(impl.pid(), 'the helper is there')
    finally:
        kmod.xtjit_out()
    return t.done()


sys.exit(main())
