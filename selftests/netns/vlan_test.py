#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 120
"""
VLAN tags of frames that no VLAN device takes: in the frame, or beside it, as a device
leaves them that has taken them off (a program at the sender's egress puts them
there, for veth to hand over).  The early stage at TC sees both, XDP the former
only: that is a limit which the README names, and held here as it is.
"""
import os
import re
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import bpfsys
import dut
import pkt
import stream
import tap
from router import MAC_P, MAC_R, PEER, ROUTER, Router

RULE = '-A INPUT -p udp -m udp --dport 9 -j DROP'
RULES = f'*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n{RULE}\nCOMMIT\n'
COUNT = 10
OTHER, PRIORITY = 5, 0xe000	# tag control: VLAN 5; no VLAN, but a priority

# (where the tag is, the tag): how many the kernel's own rule counts
KINDS = {
    ('none', 0): COUNT,
    ('in the frame', OTHER): 0, ('in the frame', PRIORITY): COUNT,
    ('put in', OTHER): 0, ('put in', PRIORITY): COUNT,		# by the device
    ('beside', OTHER): 0, ('beside', PRIORITY): COUNT,
}
LIMIT = ('beside', OTHER)


def egress(r, tci, offload):
    """Has the sender's device tag what it sends: a link to be closed."""
    r.peer.run(['ethtool', '-K', 'p0', 'txvlan', 'on' if offload else 'off'])
    with r.peer:
        prog = bpfsys.tag_program(pkt.Builder(r.v6).ethertype, tci)
        try:
            return bpfsys.attach_egress(prog, socket.if_nametoindex('p0'))
        finally:
            os.close(prog)


def frame(v6, tags):
    b, s, d = pkt.Builder(v6), PEER[v6][0], ROUTER[v6][0]
    return 0, pkt.eth(MAC_R[0], MAC_P[0], b.ethertype,
                      b.ip(s, d, pkt.UDP, b.udp(s, d, 4000, 9, b'vlan')), tags)


def counted(r, where, tci):
    """By the rule, of COUNT frames of that kind."""
    before = stream.rule_packets(r.save(), RULE)
    link = egress(r, tci, where == 'beside') if where in ('put in', 'beside') else -1
    try:
        r.inject([frame(r.v6, ((0x8100, tci),) if where == 'in the frame' else ())] * COUNT)
    finally:
        if link >= 0:
            os.close(link)
    return stream.rule_packets(r.save(), RULE) - before


def test_stage(t, impl, v6, stage):
    """@stage: of the early one; XDP, TC (for XDP is taken), or '': there is none."""
    label = f'v{6 if v6 else 4} {impl.name} {stage}'.strip()
    r = Router('v', impl, v6)
    taken = -1
    try:
        if stage == 'TC':
            with r.ns:
                taken = bpfsys.attach_xdp(bpfsys.verdict_program(bpfsys.XDP_PASS),
                                          socket.if_nametoindex('eth0'))
        r.restore(RULES)
        if stage:
            text = r.ns.run(impl.xtjit('status'), env=impl.env()).stdout
            t.ok(re.search(f'early eth0: {stage}', text), f'{label}: is there', text)
        for (where, tci), want in KINDS.items():
            if (where, tci) == LIMIT and stage == 'XDP':
                want = COUNT
            t.eq(counted(r, where, tci), want, f'{label}: tag {where}, VLAN {tci & 0xfff}')
    finally:
        if taken >= 0:
            os.close(taken)
        r.close()


def supported():
    r = Router('v', dut.Kernel(), False)
    try:
        os.close(egress(r, OTHER, True))
    except OSError:
        return False
    finally:
        r.close()
    return True


def main():
    t = tap.Tap()
    if not supported():
        t.skip('vlan', 'no TCX: Linux 6.6')
        return t.done()
    impls = dut.make(early=('on',))
    try:
        for v6 in (False, True):
            if not impls[0].absent:
                t.guard('kernel', test_stage, t, impls[0], v6, '')
            if impls[-1].real:
                for stage in ('XDP', 'TC'):
                    t.guard(stage, test_stage, t, impls[-1], v6, stage)
    finally:
        impls[-1].close()
    return t.done()


sys.exit(main())
