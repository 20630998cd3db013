#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""
Scripts say "iptables", which Debian by default makes the nf_tables variant: under
`xtjit run` that name is the legacy one; a script that says iptables-nft gets what it asks for.
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import dut
import netns
import tap


def out(ns, d, script):
    r = ns.run(d.xtjit('run', '--', 'sh', '-c', script), env=d.env(), check=False)
    return r.returncode, (r.stdout + r.stderr).strip()


def main():
    dut.only_shim()
    t = tap.Tap()
    d = dut.Xtjit(early='on')
    nft = os.path.exists('/usr/sbin/xtables-nft-multi')
    ns = netns.Netns('name')
    d.cookies.append(ns.cookie)
    try:
        with ns:
            if nft:
                # names of our own, as the alternatives system makes them
                at = os.path.join(d.dir, 'bin')
                os.mkdir(at)
                for name in ('iptables', 'ip6tables', 'iptables-save', 'iptables-nft'):
                    os.symlink('/usr/sbin/xtables-nft-multi', os.path.join(at, name))
                for name in ('iptables', 'ip6tables', 'iptables-save'):
                    status, text = out(ns, d, f'{at}/{name} -V')
                    t.ok(status == 0 and '(legacy)' in text, f'{name} is the legacy one', text)
                status, text = out(ns, d, f'{at}/iptables-nft -V')
                t.ok(status == 0 and '(nf_tables)' in text, 'iptables-nft is what it says', text)
                status, text = out(ns, d, f'{at}/iptables -A INPUT -s 192.0.2.1 -j DROP')
                t.eq((status, text), (0, ''), 'iptables -A')
                plain = subprocess.run([at + '/iptables', '-V'], capture_output=True, text=True)
                t.ok('(nf_tables)' in plain.stdout, 'without xtjit, nothing is different')
            else:
                t.skip('plain names', 'no xtables-nft-multi here')
                out(ns, d, 'iptables-legacy -A INPUT -s 192.0.2.1 -j DROP')
            status, text = out(ns, d, 'iptables-legacy -S INPUT')
            t.ok('-A INPUT -s 192.0.2.1/32 -j DROP' in text, 'the rule is there', text)
            r = ns.run(d.xtjit('status'), env=d.env())
            t.ok('ip filter: xtjit' in r.stdout, "and the table is xtjit's", r.stdout)
    finally:
        ns.delete()
        d.close()
    return t.done()


if __name__ == '__main__':
    sys.exit(main())
