# SPDX-License-Identifier: GPL-2.0
"""
The network of the test, packets in and out of it, and NFLOG for what a packet
looks like at a hook:

    client               router                    server
    c0 10.1.1.2/24 ----- r0 10.1.1.1   r1 10.1.2.1 ----- s0 10.1.2.2/24
       fd01:1::2/64         fd01:1::1     fd01:2::1         fd01:2::2/64
"""
import ctypes
import os
import select
import socket
import struct
import subprocess
import time

libc = ctypes.CDLL(None, use_errno=True)
HOOKS = {"PREROUTING": 0, "INPUT": 1, "FORWARD": 2, "OUTPUT": 3, "POSTROUTING": 4}
MAC = {"c0": "02:00:00:00:01:02", "r0": "02:00:00:00:01:01",
       "r1": "02:00:00:00:02:01", "s0": "02:00:00:00:02:02"}
CONNTRACK_NONE, CONNTRACK_DNAT = 0, 2


def mac(name):
    return bytes.fromhex(MAC[name].replace(":", ""))


def run(*cmd, check=True):
    r = subprocess.run(cmd, capture_output=True, text=True)
    if check and r.returncode:
        raise RuntimeError("%s: %s" % (" ".join(cmd), r.stderr.strip()))
    return r.stdout


class Net:
    def __init__(self):
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.ns = {n: "sidefx%d%s" % (os.getpid(), n) for n in "crs"}
        for n in self.ns.values():
            run("ip", "netns", "add", n)
        self.link("c", "c0", "r", "r0")
        self.link("s", "s0", "r", "r1")
        for ns, dev, v4, v6 in (("c", "c0", "10.1.1.2/24", "fd01:1::2/64"),
                                ("r", "r0", "10.1.1.1/24", "fd01:1::1/64"),
                                ("r", "r1", "10.1.2.1/24", "fd01:2::1/64"),
                                ("s", "s0", "10.1.2.2/24", "fd01:2::2/64")):
            self.sh(ns, "ip addr add %s dev %s; ip addr add %s dev %s nodad" % (v4, dev, v6, dev))
        self.sh("c", "ip route add default via 10.1.1.1; ip route add default via fd01:1::1")
        self.sh("s", "ip route add default via 10.1.2.1; ip route add default via fd01:2::1")
        self.sysctl("net/ipv4/ip_forward", 1)
        self.sysctl("net/ipv6/conf/all/forwarding", 1)
        self.neighbours()

    def link(self, n1, d1, n2, d2):
        run("ip", "link", "add", d1, "netns", self.ns[n1], "address", MAC[d1], "type", "veth",
            "peer", "name", d2, "netns", self.ns[n2], "address", MAC[d2])
        for n, d in ((n1, d1), (n2, d2)):
            self.sh(n, "sysctl -qw net.ipv6.conf.%s.accept_ra=0 net.ipv6.conf.%s.accept_dad=0 "
                       "net.ipv6.conf.%s.mldv2_unsolicited_report_interval=0; "
                       "ethtool -K %s tx off gro off >/dev/null; ip link set lo up; "
                       "ip link set %s up" % (d, d, d, d, d))

    def neighbours(self):
        """Fixed, so that no ARP and no ND is between the packets."""
        for n, dev, peer, hosts in (("r", "r0", "c0", ("10.1.1.2", "fd01:1::2")),
                                    ("r", "r1", "s0", ("10.1.2.2", "fd01:2::2")),
                                    ("c", "c0", "r0", ("10.1.1.1", "fd01:1::1")),
                                    ("s", "s0", "r1", ("10.1.2.1", "fd01:2::1"))):
            for h in hosts:
                self.sh(n, "ip neigh replace %s lladdr %s dev %s nud permanent" %
                        (h, MAC[peer], dev))
        for dev, peer in (("r0", "c0"), ("r1", "s0")):  # a link-local address is on each
            self.sh("r", "ip neigh replace fe80::c lladdr %s dev %s nud permanent" %
                    (MAC[peer], dev))
        self.sh("c", "ip addr add fe80::c/64 dev c0 nodad")
        self.sh("r", "ip addr add fe80::1/64 dev r0 nodad")

    def sh(self, n, script):
        return run("ip", "netns", "exec", self.ns[n], "sh", "-ec", script)

    def sysctl(self, name, value):
        self.sh("r", "echo %s > /proc/sys/%s" % (value, name))

    def path(self, n):
        return "/run/netns/" + self.ns[n]

    def inside(self, n, fn):
        """Calls fn() in a namespace: sockets made there stay there."""
        fd = os.open(self.path(n), os.O_RDONLY)
        try:
            if libc.setns(fd, 0x40000000):
                raise OSError(ctypes.get_errno(), "setns")
            return fn()
        finally:
            libc.setns(self.home, 0x40000000)
            os.close(fd)

    def packet_socket(self, n, dev):
        def make():
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            s.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)    # SO_RCVBUFFORCE
            s.bind((dev, 3))
            return s
        return self.inside(n, make)

    def close(self):
        for n in self.ns.values():
            run("ip", "netns", "del", n, check=False)


def is_noise(pkt):
    """Neighbour discovery and multicast listeners, which are not answers."""
    if pkt[0] >> 4 != 6:
        return False
    return pkt[6] == 0 or (pkt[6] == 58 and len(pkt) > 40 and 130 <= pkt[40] <= 143)


class Capture:
    """What leaves the router: (device, packet) in order."""

    def __init__(self, net):
        self.socks = {net.packet_socket("c", "c0"): "c0", net.packet_socket("s", "s0"): "s0",
                      net.packet_socket("r", "lo"): "lo"}

    def drain(self, idle=0.08):
        out = []
        while True:
            ready, _, _ = select.select(list(self.socks), [], [], idle)
            if not ready:
                return out
            for s in ready:
                frame, where = s.recvfrom(65536)
                name = self.socks[s]
                if where[2] == 4 or frame[12:14] not in (b"\x08\0", b"\x86\xdd"):
                    continue    # sent by this end; ARP
                pkt = frame[14:]
                if not is_noise(pkt):
                    out.append((name, pkt))


def attr(type, data):
    return struct.pack("=HH", 4 + len(data), type) + data + b"\0" * (-len(data) % 4)


def attrs(data):
    out = {}
    while len(data) >= 4:
        n, t = struct.unpack("=HH", data[:4])
        out[t & 0x7fff] = data[4:n]
        data = data[(n + 3) & ~3:]
    return out


class Nflog:
    """Packets as they are at the hook, from the target NFLOG."""
    GROUP = 7

    def __init__(self, net):
        self.sock = net.inside("r", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12))
        self.sock.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
        self.config(attr(1, b"\1"))                                 # bind
        self.config(attr(2, struct.pack("!IBB", 0xffff, 2, 0)))     # whole packets
        self.config(attr(3, struct.pack("!I", 1 << 17)))            # buffer
        self.config(attr(5, struct.pack("!I", 1)))                  # no batches

    def config(self, body):
        msg = struct.pack("=BBH", 0, 0, socket.htons(self.GROUP)) + body
        self.sock.send(struct.pack("=IHHII", 16 + len(msg), 4 << 8 | 1, 5, 1, 0) + msg)
        err = struct.unpack("=i", self.sock.recv(4096)[16:20])[0]
        if err:
            raise OSError(-err, "nflog")

    def drain(self, idle=0.08):
        out = []
        while select.select([self.sock], [], [], idle)[0]:
            data = self.sock.recv(1 << 17)
            while len(data) >= 16:
                n, t = struct.unpack("=IH", data[:6])
                if t == 4 << 8:
                    out.append((data[16], attrs(data[20:n])))
                data = data[(n + 3) & ~3:]
        return out


EVENT = struct.Struct("=Q8B30sHIIIIIIIBBHHHI16s16s16s32s192s")
assert EVENT.size == 360  # offsetof(struct event, data)
LOG, REJECT = 1, 2


def packet_type(hw):
    """enum of <linux/if_packet.h>, from the destination address."""
    if len(hw) < 6 or not hw[0] & 1:
        return 0
    return 1 if hw[:6] == b"\xff" * 6 else 2


def event(record, kind, names, arg=0, flags=0, prefix=b"", ct=CONNTRACK_NONE, orig=(b"", 0)):
    """struct event, as a program at the hook would write it."""
    family, a = record
    hook = a[1][2]
    mark = struct.unpack("!I", a[2])[0] if 2 in a else 0
    indev = struct.unpack("!I", a[4])[0] if 4 in a else 0
    outdev = struct.unpack("!I", a[5])[0] if 5 in a else 0
    hw = a.get(16, b"")
    hwtype = struct.unpack("!H", a[15])[0] if 15 in a else 0
    uid = struct.unpack("!I", a[11])[0] if 11 in a else 0
    gid = struct.unpack("!I", a[14])[0] if 14 in a else 0
    data = a[9]
    kept = data[:1536]
    fixed = EVENT.pack(
        99, kind, family, hook, arg if kind == REJECT else 0, arg if kind == LOG else 0, flags,
        ct, packet_type(hw) if indev else 0, prefix, len(hw), mark, len(data), len(kept), indev,
        outdev, uid, gid, 11 in a, 0, hwtype, len(hw), socket.htons(orig[1]), 0, orig[0],
        names.get(indev, b""), names.get(outdev, b""), hw, b"")
    return fixed + kept


class Feeder:
    """The helper's slow path, in a process of its own."""

    def __init__(self, binary, netns):
        self.p = subprocess.Popen([binary, netns], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)

    def feed(self, record):
        self.p.stdin.write(struct.pack("=I", len(record)) + record)
        self.p.stdin.flush()
        words = self.p.stdout.readline().split()
        return dict(zip(words[::2], map(int, words[1::2])))

    def refs(self):
        first = self.feed(b"")
        words = self.p.stdout.readline().split()
        return first, dict(zip(words[::2], map(int, words[1::2])))

    def close(self):
        self.p.stdin.close()
        self.p.wait()


class Kmsg:
    """Kernel log records: (level, text)."""

    def __init__(self):
        self.fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self.fd, 0, os.SEEK_END)
        self.lost = False

    def __del__(self):
        os.close(self.fd)

    def drain(self, wait=0.1):
        time.sleep(wait)
        out = []
        while True:
            try:
                rec = os.read(self.fd, 8192)
            except BlockingIOError:
                return out
            except BrokenPipeError:
                self.lost = True
                continue
            head, text = rec.decode("utf-8", "replace").split(";", 1)
            out.append((int(head.split(",")[0]), text.split("\n", 1)[0]))
