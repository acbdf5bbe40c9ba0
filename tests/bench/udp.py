"""UDP: one peer and many, handed over and relayed; what a flow costs to set up and to keep."""
import json
import os
import shutil
import subprocess
import time

from kit import Samples, descendants, free_port, memory_kib, request

PEERS = 1000
FLOOR = "a connected socket per peer, bare"
APART = "an address and a socket per peer, bare"
HANDED_OVER = "plumberd, hop", "plumberd, raw listener"


def relays(stage, port):
    """Front ports of relays to the far UDP port, of those that are installed."""
    fronts = {}
    if shutil.which("socat"):
        fronts["socat"] = free_port()
        stage.start("socat", "-T", "5", f"UDP4-LISTEN:{fronts['socat']},bind=127.0.0.1,fork", f"UDP4:127.0.0.1:{port}")
    fronts_nginx, ready = free_port(), free_port()
    if stage.nginx(f"127.0.0.1:{fronts_nginx} udp", f"127.0.0.1:{port}; }} server {{ listen 127.0.0.1:{ready}; "
                   f"proxy_pass 127.0.0.1:{port}", ready):
        fronts["nginx"] = fronts_nginx
    return fronts


def router(stage, name, service="", **keys):
    """A router that listens; returns (process, run directory, port)."""
    rules = json.dumps([f"allow in {service or '*'} udp:127.0.0.1"])
    raw = f'service = "{service}"\n' if service else ""
    # Rounds follow one another faster than udpd looks which flows ended.
    keys = {"direct_flows": 4 * PEERS, "flows_per_prefix": 8 * PEERS} | keys
    more = "".join(f"{key} = {value}\n" for key, value in keys.items())
    process, door = stage.router(name, f'rules = {rules}\n[[listen]]\nuri = "udp://127.0.0.1:0"\n{raw}{more}')
    listeners = json.loads(subprocess.run(
        [os.path.join(stage.options.bin, "plumb"), "--rundir", os.path.dirname(door), "--json", "status"],
        capture_output=True, text=True, check=True).stdout)["listeners"]
    return process, os.path.dirname(door), int(listeners[0]["actual"].rsplit(":", 1)[1].split("/")[0])


class Scene:
    """Every way to one echoing far end, and whose CPU counts as udpd's."""

    def __init__(self, stage):
        self.stage = stage
        plain = stage.start(stage.kit, "udpfar", stdout=subprocess.PIPE)
        port = int(stage.say(plain))
        floor = int(stage.say(stage.start(stage.kit, "udpfar", "--connected", 1, stdout=subprocess.PIPE)))
        apart = int(stage.say(stage.start(stage.kit, "udpfar", "--apart", PEERS, stdout=subprocess.PIPE)))
        near, door = stage.router("near")
        self.far, far_dir, hop_port = router(stage, "far")
        self.raw, raw_dir, raw_port = router(stage, "raw", "echo")
        for rundir in far_dir, raw_dir:
            stage.say(stage.start(stage.kit, "udpfar", "--rundir", rundir, "--service", "echo", stdout=subprocess.PIPE))
        stage.say(stage.start(stage.kit, "udpfar", "--seqpacket", os.path.join(far_dir, "own"), stdout=subprocess.PIPE))
        hop = f"udp://127.0.0.1:{hop_port}/"
        self.beside = {FLOOR: ["udp", floor], APART: ["apart", apart]}
        self.ways = {
            "direct": ["udp", port],
            "plumberd, hop": ["kept", door, request(service="echo", networkd=f"echo {hop}echo")],
            "plumberd, raw listener": ["udp", raw_port],
            "plumberd, relayed": ["kept", door, request(service="own", networkd=f"own {hop}own")],
        }
        self.ways.update({name: ["udp", front] for name, front in relays(stage, port).items()})
        self.ms = 200 if stage.options.quick else 700

    def helpers(self):
        """The udpd of the listening hosts, once they run."""
        return [pid for host in (self.far, self.raw) for pid in descendants(host.pid) if pid != host.pid]

    def run(self, name, *words):
        return self.stage.run("udp", *(self.ways | self.beside)[name], *words, "--ms", self.ms, "--pids",
                              ",".join(map(str, self.helpers())))


def bench_udp(stage, report):
    scene, rounds = Scene(stage), stage.options.rounds
    for title, words in ("32 echoes in flight", ["--flight", 32]), ("flood, received", ["--flood", 1]):
        for size in 64, 1200:
            got = Samples(scene.ways, rounds, lambda name: scene.run(name, *words, "--size", size))
            rows = [[name, got.median(name, "rate") / 1e3, got.ratio(name, "direct", "rate")] for name in scene.ways]
            report.table(f"UDP, {title}, {size} bytes, {rounds} rounds", ["way", "1000/s", "x direct"], rows)
            for name in HANDED_OVER:
                report.goal(f"{name}, {title}, {size}", got.ratio(name, "direct", "rate"), 0.97, "x", at_least=True)
            if "nginx" in scene.ways:
                report.goal(f"relayed to nginx, {title}, {size}", got.ratio("plumberd, relayed", "nginx", "rate"), 1.0,
                            "x", at_least=True)


def bench_udp_peers(stage, report):
    """Many peers with an echo in flight each, against as many that share nothing, and against one with 32; peers come
    one by one or 32 at a time."""
    scene, rounds = Scene(stage), stage.options.rounds
    one, many, slow = "one peer", f"{PEERS} peers", f"{PEERS} peers, set up one by one"
    words = {one: ["--peers", 1, "--flight", 32], many: ["--peers", PEERS, "--together", 32, "--flight", 1],
             slow: ["--peers", PEERS, "--flight", 1]}
    pairs = {f"{name}, {count}": (name, words[count]) for name in ("direct", APART, FLOOR, *HANDED_OVER) for count in words
             if count != slow or name in HANDED_OVER}
    got = Samples(pairs, rounds, lambda pair: scene.run(pairs[pair][0], *pairs[pair][1]))
    rows = []
    for pair, (name, _) in pairs.items():
        # Of the ways of others udpd knows nothing.
        ours = name in HANDED_OVER and not pair.endswith(one)
        rows.append([pair, got.median(pair, "rate") / 1e3, got.ratio(pair, f"{name}, {one}", "rate"),
                     "" if pair.endswith(one) else got.ratio(pair, f"{APART}, {many}", "rate"),
                     got.median(pair, "setup_us") if ours else "", got.median(pair, "daemon_ms") if ours else ""])
    report.table(f"UDP, {PEERS} peers on one port, 64 bytes, {rounds} rounds",
                 ["way", "1000 echoes/s", "x one peer", "x an address each", "set-up µs CPU/flow in udpd", "udpd's ms afterwards"], rows)
    for name in HANDED_OVER:
        report.goal(f"{name}: {PEERS} peers to as many with an address each",
                    got.ratio(f"{name}, {many}", f"{APART}, {many}", "rate"), 0.9, "x", at_least=True)
        for how in many, slow:
            report.goal(f"{name}, {how}: set-up CPU of udpd", got.median(f"{name}, {how}", "setup_us"), 60, " µs")


def bench_udp_idle(stage, report):
    scene, rows = Scene(stage), []
    for name, host in ((HANDED_OVER[0], scene.far), (HANDED_OVER[1], scene.raw), ("plumberd, relayed", scene.far)):
        words = scene.ways[name]
        stage.run("udp", *words, "--peers", PEERS, "--together", 32, "--ms", 1)
        # What grows once has grown; a hop is remembered for a minute, whatever became of its flow.
        time.sleep(61)
        stage.run("udp", *words, "--ms", 1)
        before = memory_kib(host)
        client = subprocess.Popen([stage.kit, "idle", *map(str, words), "--count", str(PEERS), "--ping",
                                   "1" if host is scene.raw else "0"],  # a raw flow begins with a datagram
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            if stage.say(client) != "ready":
                raise SystemExit("bench: the idle client ended early")
            each = (memory_kib(host) - before) / PEERS
        finally:
            client.stdin.close()
            client.wait(30)
        rows.append([name, f"{each:.4f} KiB"])
        if name in HANDED_OVER:
            report.goal(f"{name}: memory of plumberd and udpd for an idle flow", each, 0.05, " KiB")
    report.table(f"UDP, {PEERS} idle flows: Pss of the listening plumberd and its helpers", ["way", "per flow"], rows)


SECTIONS = {"udp": bench_udp, "udp-peers": bench_udp_peers, "udp-idle": bench_udp_idle}
