#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 120
"""
A machine that has just booted, with xtjit in the place of ip_tables (scripts/run-vm):
the first iptables command of all is one of nat, in a script that knows nothing of
xtjit, and it works.

     lan                the VM itself               world
     eth0  <--->  lan0  10.1.0.1   192.0.2.1  eth0  <--->  eth0
     10.1.0.2                                       192.0.2.2
"""
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import dut
import flow
import kmod
import tap
from netns import Netns, run

RULE = '-A POSTROUTING -o eth0 -j MASQUERADE'


def links(lan, world):
    run(['ip', '-batch', '-'], input=(
        f'link add lan0 type veth peer name eth0 netns {lan.name}\n'
        f'link add eth0 type veth peer name eth0 netns {world.name}\n'
        'addr add 10.1.0.1/24 dev lan0\naddr add 192.0.2.1/24 dev eth0\n'
        'link set lan0 up\nlink set eth0 up\n'))
    lan.ip('addr add 10.1.0.2/24 dev eth0', 'link set eth0 up', 'route add default via 10.1.0.1')
    world.ip('addr add 192.0.2.2/24 dev eth0', 'link set eth0 up')
    with open('/proc/sys/net/ipv4/ip_forward', 'w') as f:
        f.write('1')


def ask(lan, world):
    """The address that a server in the world sees of a client in the lan, and its answer."""
    with world.socket(socket.AF_INET, socket.SOCK_DGRAM) as s, \
            lan.socket(socket.AF_INET, socket.SOCK_DGRAM) as c:
        s.bind(('', 7))
        s.settimeout(5)
        c.settimeout(5)
        c.connect(('192.0.2.2', 7))
        c.send(b'who am I')
        _, where = s.recvfrom(100)
        s.sendto(where[0].encode(), where)
        return where[0], flow.attempt(lambda: c.recv(100).decode())


def main():
    t = tap.Tap()
    before = kmod.loaded()
    t.ok(not before.keys() & {'xtjit', 'x_tables', 'ip_tables', 'nf_conntrack'},
         'nothing is loaded', str(before))
    lan, world = Netns('lan'), Netns('world')
    try:
        links(lan, world)
        r = run(['iptables', '-t', 'nat', *RULE.split()], check=False)
        t.eq((r.returncode, r.stdout + r.stderr), (0, ''), f'iptables -t nat {RULE}')
        now = kmod.loaded()
        t.ok('xtjit' in now and 'ip_tables' not in now, 'it has loaded xtjit, not ip_tables', str(now))
        t.ok(kmod.helpers(), 'the helper has been started')
        t.eq(ask(lan, world), ('192.0.2.1', '192.0.2.1'), 'what comes from the lan is masqueraded')
        save = run(['iptables-save', '-c', '-t', 'nat']).stdout
        t.ok(f'\n[1:36] {RULE}\n' in save, 'one packet is counted: the connection\'s first', save)
        r = run([f'{dut.BUILD}/xtjit', 'status'])
        t.ok('ip nat: xtjit, 1 rules' in r.stdout, 'xtjit says so', r.stdout)
    finally:
        lan.delete()
        world.delete()
        run(['ip', 'link', 'del', 'eth0'], check=False)
        if 'xtjit' in kmod.loaded():
            kmod.xtjit_out()
    return t.done()


sys.exit(main())
