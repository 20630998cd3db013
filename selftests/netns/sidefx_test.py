#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
The helper's slow path against the kernel's own REJECT and LOG: the same packets
meet first ip_tables' target, then NFLOG and DROP, with what NFLOG saw given to
the helper's code as events.  The answers on the wire, and the log lines, must
be the same.
"""
import glob
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from sidefx_net import (CONNTRACK_DNAT, LOG, MAC, REJECT, Capture, Feeder, Kmsg, Net, Nflog, event,
                        mac)
from sidefx_packets import (ETH_IP, ETH_IP6, TCP, UDP, addr, ip4, ip6, normal, odd4, odd6, options4,
                            packets4, packets6, show, tcp, udp)

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PARTS = "err.c", "sidefx*.c", "log*.c", "reject*.c", "xrlim.c"
WITH4 = ["icmp-net-unreachable", "icmp-host-unreachable", "icmp-proto-unreachable",
         "icmp-port-unreachable", None, "icmp-net-prohibited", "icmp-host-prohibited",
         "tcp-reset", "icmp-admin-prohibited"]
WITH6 = ["icmp6-no-route", "icmp6-adm-prohibited", None, "icmp6-addr-unreachable",
         "icmp6-port-unreachable", None, "tcp-reset", "icmp6-policy-fail", "icmp6-reject-route"]
ALL_NETNS = "/proc/sys/net/netfilter/nf_log_all_netns"
tests = failures = 0


def ok(good, name, *why):
    global tests, failures
    tests += 1
    failures += not good
    print("%sok %d - %s" % ("" if good else "not ", tests, name))
    if not good:
        for line in why:
            print("#   " + line)
    sys.stdout.flush()


def build(tmp):
    feed = os.path.join(tmp, "sidefx_feed")
    src = [f for p in PARTS for f in glob.glob(os.path.join(TOP, "umh", p))]
    src.append(os.path.join(TOP, "selftests/netns/sidefx_feed.c"))
    subprocess.run([os.environ.get("CC", "gcc"), "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g",
                    "-fsanitize=address,undefined", "-fno-sanitize-recover", "-Wall", "-Wextra",
                    "-Werror", "-I" + os.path.join(TOP, "umh"), "-I" + os.path.join(TOP, "kernel"),
                    "-o", feed] + src + ["-lbpf", "-lmnl"], check=True)
    return feed


class Bench:
    def __init__(self, tmp):
        self.net = Net()
        self.capture = Capture(self.net)
        self.nflog = Nflog(self.net)
        self.feeder = Feeder(build(tmp), self.net.path("r"))
        self.eth = {n: self.net.packet_socket(n, n + "0") for n in "cs"}
        self.raw = self.net.inside("r", lambda: [
            socket.socket(f, socket.SOCK_RAW, socket.IPPROTO_RAW)
            for f in (socket.AF_INET, socket.AF_INET6)])
        for s in self.raw:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 5)
        self.names = {}
        for line in self.net.sh("r", "ip -o link").splitlines():
            index, name = line.split(": ")[:2]
            self.names[int(index)] = name.split("@")[0].encode()

    def send(self, pkt, frm="c", dst=None):
        """A packet, from the client's or server's side or from the router itself."""
        v6 = pkt[0] >> 4 == 6
        if frm == "r":
            to = socket.inet_ntop(socket.AF_INET6, pkt[24:40]) if v6 else \
                socket.inet_ntoa(pkt[16:20])
            try:
                self.raw[v6].sendto(pkt, (to, 0))
            except PermissionError:     # dropped at OUTPUT
                pass
            return
        dst = dst or mac("r0" if frm == "c" else "r1")
        proto = ETH_IP6 if v6 else ETH_IP
        self.eth[frm].send(dst + mac(frm + "0") + struct.pack("!H", proto) + pkt)

    def rules(self, v6, hook, targets, match=""):
        """
        The last target is for all packets, those before it for some; of what
        the router sends, only for what send() has marked.
        """
        mark = "-m mark --mark 5" if hook == "OUTPUT" else ""
        self.net.sh("r", "; ".join(["%s -F %s" % (tool(v6), hook)] + [
            "%s -A %s %s %s -j %s" % (tool(v6), hook, mark, match if t != targets[-1] else "", t)
            for t in targets]))

    def clear(self, v6, hook):
        self.net.sh("r", "%s -F %s" % (tool(v6), hook))

    def answers(self, send):
        self.capture.drain(0.02)
        send()
        return self.capture.drain()

    def kernel(self, v6, hook, name, send, match=""):
        self.rules(v6, hook, ["REJECT --reject-with " + name, "DROP"], match)
        out = self.answers(send)
        self.clear(v6, hook)
        return out

    def ours(self, v6, hook, name, send, match="", **kw):
        number = (WITH6 if v6 else WITH4).index(name)
        self.rules(v6, hook, ["NFLOG --nflog-group 7", "DROP"], match)

        def send_and_feed():
            send()
            for record in self.nflog.drain():
                self.stats = self.feeder.feed(event(record, REJECT, self.names, number, **kw))
        self.nflog.drain(0)
        out = self.answers(send_and_feed)
        self.clear(v6, hook)
        return out

    def close(self):
        self.feeder.close()
        self.net.close()


def tool(v6):
    return "ip6tables-legacy -w" if v6 else "iptables-legacy -w"


def compare(title, theirs, ours, least=1, label=True):
    """The same answers, and not too few of them; label: with their flow labels."""
    a, b = (sorted((d, normal(p, label, d == "lo")) for d, p in x) for x in (theirs, ours))
    why = ["kernel %d answers, ours %d" % (len(a), len(b))]
    why += ["kernel only: %s %s" % (d, show(p)) for d, p in a if (d, p) not in b][:2]
    why += ["ours only:   %s %s" % (d, show(p)) for d, p in b if (d, p) not in a][:2]
    ok(a == b and len(a) >= least, "%s: %d answers" % (title, len(a)), *why)


ENDS = {"INPUT": ("c", ("10.1.1.2", "10.1.1.1"), ("fd01:1::2", "fd01:1::1")),
        "FORWARD": ("c", ("10.1.1.2", "10.1.2.2"), ("fd01:1::2", "fd01:2::2")),
        "OUTPUT": ("r", ("10.1.2.1", "10.1.2.2"), ("fd01:2::1", "fd01:2::2"))}


def both(b, v6, hook, name, title, send, least=1, label=True, **kw):
    match = "-p tcp" if name == "tcp-reset" else ""
    theirs = b.kernel(v6, hook, name, send, match)
    compare(title, theirs, b.ours(v6, hook, name, send, match, **kw), least, label)


def sender(b, frm, packets, dst=None):
    def send():
        for p in packets:
            b.send(p, frm, dst)
    return send


def no_limits(b, off=True):
    b.net.sysctl("net/ipv4/icmp_ratemask", 0 if off else 6168)
    b.net.sysctl("net/ipv6/icmp/ratemask", "" if off else "0-1,3-127")
    time.sleep(1.1)     # read anew


def test_kinds(b):
    for hook, (frm, v4, v6) in ENDS.items():
        for name in filter(None, WITH4):
            both(b, False, hook, name, "IPv4 %s %s" % (hook, name),
                 sender(b, frm, packets4(*v4)), 10)
        for name in filter(None, WITH6):
            both(b, True, hook, name, "IPv6 %s %s" % (hook, name),
                 sender(b, frm, packets6(*v6)), 10)


def test_options(b):
    b.net.sh("r", "for d in all r0 r1; do sysctl -qw net.ipv4.conf.$d.accept_source_route=1; done")
    for hook in ("INPUT", "FORWARD"):
        pkts = options4(*ENDS[hook][1])
        both(b, False, hook, "icmp-port-unreachable", "IP options, %s" % hook,
             sender(b, "c", pkts), 10)
        both(b, False, hook, "tcp-reset", "IP options, reset, %s" % hook, sender(b, "c", pkts), 1)


def test_destinations(b):
    """Multicast and broadcast, of the link and of IP, get no answer."""
    odd = [ip4("10.1.1.2", d, UDP, udp("10.1.1.2", d, 4000, 53)) for d in
           ("224.0.0.1", "10.1.1.255", "255.255.255.255")]
    odd += [ip4("10.1.1.2", d, TCP, tcp("10.1.1.2", d, 4000, 53)) for d in
            ("224.0.0.1", "10.1.1.255", "255.255.255.255")]
    probe = ip4("10.1.1.2", "10.1.1.1", TCP, tcp("10.1.1.2", "10.1.1.1", 4001, 53))
    for name in ("icmp-port-unreachable", "tcp-reset"):
        both(b, False, "INPUT", name, "broadcast addresses, " + name,
             sender(b, "c", odd + [probe]))
    pkts = packets4("10.1.1.2", "10.1.1.1")[:20]
    for name in ("icmp-port-unreachable", "tcp-reset"):
        for what, dst in (("broadcast", b"\xff" * 6), ("multicast", b"\1\0\x5e\0\0\1")):
            both(b, False, "INPUT", name, "link-layer %s, %s" % (what, name),
                 sender(b, "c", pkts, dst), name == "tcp-reset" and 5)
    odd = [ip6("fd01:1::2", d, UDP, udp("fd01:1::2", d, 4000, 53)) for d in
           ("ff02::1", "fd01:1::", "ff02::1:ff00:1")]
    odd += [ip6(s, "fd01:1::1", UDP, udp(s, "fd01:1::1", 4000, 53)) for s in
            ("::", "fd01:1::", "fd01:2::")]
    odd += [ip6(s, "fd01:1::1", TCP, tcp(s, "fd01:1::1", 4000, 53)) for s in
            ("::", "fd01:1::2")]
    both(b, True, "INPUT", "icmp6-port-unreachable", "IPv6 odd addresses",
         sender(b, "c", odd))
    both(b, True, "INPUT", "tcp-reset", "IPv6 odd addresses, reset", sender(b, "c", odd))
    ll = packets6("fe80::c", "fe80::1")[:24] + packets6("fe80::c", "fd01:1::1")[:24]
    both(b, True, "INPUT", "icmp6-port-unreachable", "IPv6 link-local", sender(b, "c", ll), 5)
    both(b, True, "INPUT", "tcp-reset", "IPv6 link-local, reset", sender(b, "c", ll), 5)


def test_local(b):
    """From the router to itself, through lo."""
    for v6, here in ((False, "10.1.1.1"), (True, "fd01:1::1"), (False, "127.0.0.1"), (True, "::1")):
        pkts = packets6(here, here)[:24] if v6 else packets4(here, here)[:24]
        icmps = "icmp6-port-unreachable" if v6 else "icmp-port-unreachable"
        for name in (icmps, "tcp-reset"):
            for hook in ("INPUT", "OUTPUT"):
                both(b, v6, hook, name, "%s to itself, %s, %s" % (here, hook, name),
                     sender(b, "r", pkts), 5)


def test_sources(b):
    """The answer's source and way where it is not the packet's destination."""
    v4 = [ip4(s, "10.1.2.2", UDP, udp(s, "10.1.2.2", 5000, 53)) for s in ("10.9.0.1", "10.1.1.2")]
    v4 += [ip4(s, "10.1.2.2", TCP, tcp(s, "10.1.2.2", 5000, 53)) for s in ("10.9.0.1", "10.1.1.2")]
    v6 = [ip6(s, d, UDP, udp(s, d, 5000, 53)) for s in ("fd09::1", "fd01:1::2")
          for d in ("fd01:2::2", "fd01:1::1")]
    v6 += [ip6("fd09::1", "fd01:2::2", TCP, tcp("fd09::1", "fd01:2::2", 5000, 53))]
    net = b.net
    net.sh("r", "for d in all r0 r1; do sysctl -qw net.ipv4.conf.$d.rp_filter=0; done; "
                "ip addr add 10.1.1.99/24 dev r0; ip addr add fd01:1::99/64 dev r0 nodad; "
                "ip addr add fd01:2::99/64 dev r1 nodad; "
                "ip route add 10.9.0.0/16 via 10.1.2.2; ip route add fd09::/16 via fd01:2::2")
    for value in (0, 1):
        net.sysctl("net/ipv4/icmp_errors_use_inbound_ifaddr", value)
        time.sleep(1.1)
        both(b, False, "FORWARD", "icmp-port-unreachable",
             "asymmetric routes, icmp_errors_use_inbound_ifaddr=%d" % value,
             sender(b, "c", v4), 4)
    net.sysctl("net/ipv4/icmp_errors_use_inbound_ifaddr", 0)
    both(b, False, "FORWARD", "tcp-reset", "asymmetric routes, reset", sender(b, "c", v4), 2)
    for hook in ("FORWARD", "INPUT"):
        both(b, True, hook, "icmp6-no-route", "IPv6 asymmetric routes, %s" % hook,
             sender(b, "c", v6), 2)
    both(b, True, "FORWARD", "tcp-reset", "IPv6 asymmetric routes, reset", sender(b, "c", v6), 1)
    net.sh("r", "ip route replace 10.9.0.0/16 via 10.1.2.2 src 10.1.1.99 mtu 400 hoplimit 33; "
                "ip route replace fd09::/16 via fd01:2::2 src fd01:1::99 hoplimit 34; "
                "ip route replace fd01:1::/64 dev r0 hoplimit 35; "
                "sysctl -qw net.ipv4.ip_default_ttl=77 net.ipv6.conf.r0.hop_limit=78")
    time.sleep(1.1)
    v4.append(ip4("10.9.0.1", "10.1.2.2", UDP, udp("10.9.0.1", "10.1.2.2", 5001, 53, b"m" * 900)))
    both(b, False, "FORWARD", "icmp-port-unreachable", "route with src, mtu, hoplimit",
         sender(b, "c", v4), 5)
    both(b, True, "FORWARD", "icmp6-no-route", "IPv6 route with src, hoplimit",
         sender(b, "c", v6), 2)
    back = [ip4("10.1.2.2", "10.9.0.1", TCP, tcp("10.1.2.2", "10.9.0.1", 5001, 53))]
    both(b, False, "FORWARD", "tcp-reset", "hop limit of the packet's own route",
         sender(b, "s", back + v4), 1)
    both(b, True, "FORWARD", "tcp-reset", "IPv6 route with hoplimit, reset", sender(b, "c", v6), 1)
    both(b, False, "INPUT", "tcp-reset", "ip_default_ttl",
         sender(b, "c", packets4("10.1.1.2", "10.1.1.1")[:5]), 2)
    both(b, False, "INPUT", "icmp-port-unreachable", "ip_default_ttl, ICMP",
         sender(b, "c", packets4("10.1.1.2", "10.1.1.1")[:5]), 2)
    net.sh("r", "ip route replace fd01:1::/64 dev r0; ip route del 10.9.0.0/16; "
                "ip route del fd09::/16")
    both(b, True, "INPUT", "tcp-reset", "hop_limit of the device",
         sender(b, "c", packets6("fd01:1::2", "fd01:1::1")[:5]), 2)


def test_rules(b):
    """Routing rules for the answer: by its source, by its mark."""
    b.net.sh("r", "for d in all r0 r1; do sysctl -qw net.ipv4.conf.$d.rp_filter=0; done; "
                  "sysctl -qw net.ipv4.fwmark_reflect=1 net.ipv6.fwmark_reflect=1")
    time.sleep(1.1)
    for what in ("from 10.1.1.1", "fwmark 7", "from 10.1.2.2"):
        six = what.replace("10.1.1.1", "fd01:1::1").replace("10.1.2.2", "fd01:2::2")
        b.net.sh("r", "ip rule add %s lookup 77; ip route add default via 10.1.2.2 table 77; "
                      "ip -6 rule add %s lookup 77; "
                      "ip route add default via fd01:2::2 table 77" % (what, six))
        if what == "fwmark 7":
            b.net.sh("r", "for t in iptables ip6tables; do "
                          "$t-legacy -w -t mangle -A INPUT -j MARK --set-mark 7; "
                          "$t-legacy -w -t mangle -A FORWARD -j MARK --set-mark 7; done")
        for hook in ("INPUT", "FORWARD"):
            v4, v6 = packets4(*ENDS[hook][1])[:24], packets6(*ENDS[hook][2])[:24]
            for name in ("icmp-port-unreachable", "tcp-reset"):
                both(b, False, hook, name, "rule %s, %s %s" % (what, hook, name),
                     sender(b, "c", v4), 5)
                name = name.replace("icmp-", "icmp6-")
                both(b, True, hook, name, "IPv6 rule %s, %s %s" % (six, hook, name),
                     sender(b, "c", v6), 5)
        b.net.sh("r", "ip rule del %s lookup 77; ip route flush table 77; "
                      "ip -6 rule del %s lookup 77; ip -6 route flush table 77; "
                      "iptables-legacy -w -t mangle -F; ip6tables-legacy -w -t mangle -F" %
                 (what, six))
    b.net.sh("r", "sysctl -qw net.ipv4.fwmark_reflect=0 net.ipv6.fwmark_reflect=0")


def test_mark(b):
    """fwmark_reflect: the answer has the packet's mark, seen by a rule of OUTPUT."""
    setup = "; ".join("%s -t mangle -A PREROUTING -j MARK --set-mark 7; "
                      "%s -t mangle -A OUTPUT -m mark --mark 7 -j TOS --set-tos 0x08" %
                      (t, t) for t in (tool(False), tool(True)))
    b.net.sh("r", setup)
    for value in (0, 1):
        b.net.sysctl("net/ipv4/fwmark_reflect", value)
        b.net.sysctl("net/ipv6/fwmark_reflect", value)
        time.sleep(1.1)
        for v6, icmps in ((False, "icmp-port-unreachable"), (True, "icmp6-port-unreachable")):
            ends = ENDS["INPUT"][2 if v6 else 1]
            pkts = (packets6 if v6 else packets4)(*ends)[:24]
            for name in (icmps, "tcp-reset"):
                both(b, v6, "INPUT", name, "fwmark_reflect=%d, %s %s" %
                     (value, "IPv6" if v6 else "IPv4", name), sender(b, "c", pkts), 5)
    b.net.sysctl("net/ipv4/fwmark_reflect", 0)
    b.net.sysctl("net/ipv6/fwmark_reflect", 0)
    b.net.sh("r", "iptables-legacy -w -t mangle -F; ip6tables-legacy -w -t mangle -F")


def test_limits(b):
    """One answer a second and destination, six at once; 50 at once to all."""
    no_limits(b, False)
    for v6, name in ((False, "icmp-port-unreachable"), (True, "icmp6-port-unreachable")):
        src, dst = ENDS["INPUT"][2 if v6 else 1]
        make, udp_ = (ip6, udp) if v6 else (ip4, udp)
        one = [make(src, dst, UDP, udp_(src, dst, 6000 + i, 53)) for i in range(20)]
        theirs = b.kernel(v6, "INPUT", name, sender(b, "c", one))
        ours = b.ours(v6, "INPUT", name, sender(b, "c", one))
        ok(len(theirs) == len(ours) == 6, "one destination, IPv%d" % (6 if v6 else 4),
           "kernel %d, ours %d" % (len(theirs), len(ours)))
        time.sleep(1.2)
        base = "fd01:1::5:%x" if v6 else "10.1.1.%d"
        srcs = [base % i for i in range(110, 240)]
        b.net.sh("r", "; ".join("ip neigh replace %s lladdr %s dev r0 nud permanent" %
                                (s, MAC["c0"]) for s in srcs))
        many = [make(s, dst, UDP, udp_(s, dst, 6100, 53)) for s in srcs]
        theirs = b.kernel(v6, "INPUT", name, sender(b, "c", many))
        ours = b.ours(v6, "INPUT", name, sender(b, "c", many))
        ok(all(35 <= n < 130 for n in (len(theirs), len(ours))),
           "many destinations, IPv%d: some are not answered" % (6 if v6 else 4),
           "kernel %d, ours %d" % (len(theirs), len(ours)))
    test_rate(b)
    no_limits(b)


def test_rate(b):
    """The answers of one and a half seconds: six, and then one each 400 ms."""
    b.net.sysctl("net/ipv4/icmp_ratelimit", 400)
    b.net.sysctl("net/ipv6/icmp/ratelimit", 400)
    for v6, name in ((False, "icmp-port-unreachable"), (True, "icmp6-port-unreachable")):
        src, dst = ENDS["INPUT"][2 if v6 else 1]
        pkt = (ip6 if v6 else ip4)(src, dst, UDP, udp(src, dst, 6200, 53))

        def send(feed=lambda: time.sleep(0.02)):
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                b.send(pkt)
                feed()

        def feed():
            for record in b.nflog.drain(0.02):
                b.feeder.feed(event(record, REJECT, b.names, 4 if v6 else 3))
        time.sleep(2.5)     # all buckets full
        theirs = b.kernel(v6, "INPUT", name, send)
        b.rules(v6, "INPUT", ["NFLOG --nflog-group 7", "DROP"])
        ours = b.answers(lambda: send(feed))
        b.clear(v6, "INPUT")
        ok(len(theirs) >= 8 and abs(len(theirs) - len(ours)) <= 2,
           "answers in 1.5 s, IPv%d: %d" % (6 if v6 else 4, len(theirs)), "ours %d" % len(ours))


def test_dnat(b):
    """
    A new connection with a translated destination, dropped before it is known.
    The kernel's flow label is made from an address that the answer no longer has.
    """
    for v6, name in ((False, "icmp-admin-prohibited"), (True, "icmp6-adm-prohibited")):
        src, old, new = ("fd01:1::2", "fd01:1::1", "fd01:2::2") if v6 else \
            ("10.1.1.2", "10.1.1.1", "10.1.2.2")
        make = ip6 if v6 else ip4
        to = "[%s]:8080" % new if v6 else "%s:8080" % new
        b.net.sh("r", "; ".join(
            "%s -t nat -A PREROUTING -d %s -p %s --dport 80 -j DNAT --to-destination %s" %
            (tool(v6), old, p, to) for p in ("tcp", "udp")))
        pkts = [make(src, old, TCP, tcp(src, old, 7000 + i, 80, data=b"d" * i)) for i in range(4)]
        pkts += [make(src, old, UDP, udp(src, old, 7100 + i, 80, data=b"d" * 40)) for i in range(4)]
        pkts += [make(src, old, UDP, udp(src, old, 7110, 80, b"d" * 1400))]
        for what in (name, "tcp-reset"):
            both(b, v6, "FORWARD", what, "translated destination, IPv%d %s" %
                 (6 if v6 else 4, what), sender(b, "c", pkts), 4, label=False, ct=CONNTRACK_DNAT,
                 orig=(addr(old), 80))
        b.net.sh("r", "%s -t nat -F" % tool(v6))


def log_lines(b, v6, hook, opts, level, packets):
    """The lines of the kernel and ours; they differ in the prefix's last letter."""
    kmsg = Kmsg()
    prefix = "%d" % os.getpid()
    flags = sum(bit for bit, o in ((1, "--log-tcp-sequence"), (2, "--log-tcp-options"),
                                   (4, "--log-ip-options"), (8, "--log-uid"),
                                   (32, "--log-macdecode")) if o in opts)
    b.rules(v6, hook, ["LOG --log-level %d --log-prefix '%sK: ' %s" % (level, prefix, opts),
                       "NFLOG --nflog-group 7", "DROP"])
    b.nflog.drain(0)
    recs = []
    for i in range(0, len(packets), 8):     # the kernel's ring is small
        for frm, p in packets[i:i + 8]:
            b.send(p, frm)
        for record in b.nflog.drain(0.02):
            b.feeder.feed(event(record, LOG, b.names, level, flags, (prefix + "U: ").encode()))
        recs += kmsg.drain(0)
    b.clear(v6, hook)
    recs += kmsg.drain()
    if kmsg.lost:
        return log_lines(b, v6, hook, opts, level, packets)
    starts = [prefix + who + ": " for who in "KU"]
    return [[(prio & 7, text[len(p):]) for prio, text in recs if text.startswith(p)]
            for p in starts]


def test_log(b):
    all_opts = "--log-tcp-sequence --log-tcp-options --log-ip-options"
    before = open(ALL_NETNS).read()
    with open(ALL_NETNS, "w") as f:
        f.write("1")
    time.sleep(0.6)
    b.net.sh("r", "iptables-legacy -w -t mangle -A PREROUTING -p udp -j MARK --set-mark 0xbeef; "
                  "ip6tables-legacy -w -t mangle -A PREROUTING -p udp -j MARK --set-mark 1")
    try:
        for hook, (frm, v4, v6) in ENDS.items():
            for opts in ("", all_opts, "--log-macdecode " + all_opts):
                for is6, ends, make in ((False, v4, (packets4, odd4)),
                                        (True, v6, (packets6, odd6))):
                    pkts = [(frm, p) for m in make for p in m(*ends)]
                    if not is6 and hook != "OUTPUT":
                        pkts += [(frm, p) for p in options4(*ends)]
                    theirs, ours = log_lines(b, is6, hook, opts, 7, pkts)
                    compare_lines("LOG IPv%d %s %s" % (6 if is6 else 4, hook, opts),
                                  theirs, ours, 40)
        pkts = [("r", p) for p in packets4("127.0.0.1", "127.0.0.1")[:12]]
        for hook in ("INPUT", "OUTPUT"):
            theirs, ours = log_lines(b, False, hook, all_opts + " --log-uid", 7, pkts)
            compare_lines("LOG --log-uid on lo, %s" % hook, theirs, ours, 10)
        for level in range(4, 7):
            theirs, ours = log_lines(b, False, "INPUT", "", level, pkts[:1])
            compare_lines("LOG level %d" % level, theirs, ours, 1)
    finally:
        with open(ALL_NETNS, "w") as f:
            f.write(before)
        b.net.sh("r", "iptables-legacy -w -t mangle -F; ip6tables-legacy -w -t mangle -F")
    if before.strip() == "0":
        time.sleep(0.6)
        _, ours = log_lines(b, False, "INPUT", "", 7, pkts[:2])
        ok(not ours, "LOG: another namespace is silent while nf_log_all_netns is 0", repr(ours))


def compare_lines(title, theirs, ours, least):
    why = ["kernel %d lines, ours %d" % (len(theirs), len(ours))]
    for a, b in zip(theirs, ours):
        if a != b:
            why += ["kernel %r" % (a,), "ours   %r" % (b,)]
            break
    ok(theirs == ours and len(theirs) >= least, "%s: %d lines" % (title.strip(), len(theirs)), *why)


def test_raw(b):
    """
    A packet of protocol 255 is not answered where a raw socket of that protocol
    is: there is but the test's own.
    """
    for name, icmp in ("raw", "0001"), ("raw6", "003A"):
        rows = b.net.sh("r", "cat /proc/net/" + name).splitlines()[1:]
        kinds = [row.split()[1].split(":")[1] for row in rows]
        ok(kinds.count("00FF") == 1 and icmp in kinds, "no socket in %s is a trap" % name,
           repr(kinds))


def test_refs(b):
    before, after = b.feeder.refs()
    ok(before[b"refs"] == before[b"map"] + 1 and before[b"map"] >= 4,
       "every socket but rtnetlink's is known to the map", repr(before))
    ok(after == {b"refs": 0, b"map": 0}, "nothing is left of a forgotten namespace", repr(after))


def main():
    if os.geteuid():
        print("1..0 # SKIP needs root")
        return 4
    only = sys.argv[1:]
    with tempfile.TemporaryDirectory() as tmp:
        os.environ["XTABLES_LOCKFILE"] = os.path.join(tmp, "lock")
        b = Bench(tmp)
        try:
            no_limits(b)
            for test in (test_kinds, test_options, test_destinations, test_local, test_rules,
                         test_mark, test_limits, test_log, test_sources, test_dnat, test_raw,
                         test_refs):
                if not only or test.__name__[5:] in only:
                    test(b)
        finally:
            b.close()
    print("1..%d" % tests)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
