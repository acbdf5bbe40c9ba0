"""TLS: what tlsd costs, beside OpenSSL's own client and server, a bare relay (tests/bench/tls/floor.cc), haproxy, nginx
and stunnel. Far ends, floor and OpenSSL's clients are parts of the program tls-bench."""
import json
import os
import shutil
import subprocess

from kit import NGINX_MODULE, Samples, answers, descendants, free_port, memory_kib, pids, request, wait_until

SYSTEM_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def program(stage):
    return os.path.join(stage.options.bin, "tls-bench")


def openssl(stage, *words):
    subprocess.run(["openssl", *words], cwd=stage.dir, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def certificates(stage):
    """ca.pem, and far.pem: chain and key of a server at 127.0.0.1. P-256, as `plumb ca issue` makes them."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(stage, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=bench authority", "-days",
            "2", "-addext", "keyUsage=keyCertSign,cRLSign")
    openssl(stage, "req", *key, "-keyout", "far.key", "-out", "far.csr", "-subj", "/CN=far")
    stage.path("far.ext", "subjectAltName=IP:127.0.0.1,DNS:localhost\nkeyUsage=digitalSignature\n"
               "basicConstraints=critical,CA:FALSE\n")
    openssl(stage, "x509", "-req", "-in", "far.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-out", "far.crt", "-extfile", "far.ext")
    stage.path("far.pem", "".join(open(stage.path(name)).read() for name in ("far.crt", "far.key")))


def far(stage, *options):
    """OpenSSL's server; returns (process, port)."""
    process = stage.start(program(stage), "far", "--pem", stage.path("far.pem"), *options, stdout=subprocess.PIPE)
    return process, int(stage.say(process))


def floor(stage, *options):
    process = stage.start(program(stage), "floor", *options, stdout=subprocess.PIPE)
    return process, int(stage.say(process))


def haproxy(stage, bind, server):
    config = stage.path("haproxy.cfg", f"""
global
    maxconn 8000
defaults
    mode tcp
    timeout connect 5s
    timeout client 5m
    timeout server 5m
listen relay
    bind {bind}
    server far {server}
""")
    return stage.start("haproxy", "-db", "-f", config) if shutil.which("haproxy") else None


def nginx(stage, server):
    if not (shutil.which("nginx") and os.path.exists(NGINX_MODULE)):
        return None
    config = stage.path("nginx.conf", f"""
        load_module {NGINX_MODULE};
        {"user root;" if os.getuid() == 0 else ""}
        daemon off; pid {stage.path("nginx.pid")}; error_log stderr crit; worker_processes 2;
        events {{ worker_connections 10000; }}
        stream {{ proxy_timeout 5m; server {{ {server} }} }}""")
    return stage.start("nginx", "-e", "stderr", "-c", config, "-p", stage.dir)


def stunnel(stage, service):
    stunnel4 = shutil.which("stunnel4")
    config = stage.path("stunnel.conf", f"foreground = yes\npid =\ndebug = crit\n[relay]\nsessionResume = no\n{service}")
    return stage.start(stunnel4, config, stdout=subprocess.DEVNULL) if stunnel4 else None


def outward_peers(stage, port):
    """{name: (front's path, process)} of the relays that dial 127.0.0.1:`port` for UNIX clients; no sessions kept."""
    ca = stage.path("ca.pem")
    front = {name: stage.path(f"{name}.sock") for name in ("haproxy", "nginx", "stunnel")}
    started = {
        "haproxy": haproxy(stage, f"unix@{front['haproxy']}", f"127.0.0.1:{port} ssl verify required ca-file {ca} "
                           "verifyhost localhost sni str(localhost) no-ssl-reuse"),
        "nginx": nginx(stage, f"listen unix:{front['nginx']}; proxy_pass 127.0.0.1:{port}; proxy_ssl on; proxy_ssl_verify on; "
                       f"proxy_ssl_name localhost; proxy_ssl_trusted_certificate {ca}; proxy_ssl_session_reuse off; "
                       "proxy_ssl_protocols TLSv1.2 TLSv1.3;"),
        "stunnel": stunnel(stage, f"client = yes\naccept = {front['stunnel']}\nconnect = 127.0.0.1:{port}\n"
                           f"verifyChain = yes\nCAfile = {ca}\ncheckIP = 127.0.0.1\n"),
    }
    for name, process in started.items():
        if process:
            wait_until(lambda: answers(front[name]), name)
    return {name: (front[name], process) for name, process in started.items() if process}


def inward_peers(stage, service):
    """{name: (port, process)} of the relays that accept TLS for a UNIX service."""
    pem = stage.path("far.pem")
    port = {name: free_port() for name in ("haproxy", "nginx", "stunnel")}
    started = {
        "haproxy": haproxy(stage, f"127.0.0.1:{port['haproxy']} ssl crt {pem}", f"unix@{service}"),
        "nginx": nginx(stage, f"listen 127.0.0.1:{port['nginx']} ssl; ssl_certificate {pem}; ssl_certificate_key {pem}; "
                       f"ssl_protocols TLSv1.2 TLSv1.3; proxy_pass unix:{service};"),
        "stunnel": stunnel(stage, f"accept = 127.0.0.1:{port['stunnel']}\nconnect = {service}\ncert = {pem}\n"),
    }
    for name, process in started.items():
        if process:
            wait_until(lambda: answers(port[name]), name)
    return {name: (port[name], process) for name, process in started.items() if process}


def outward(stage, *far_options):
    """A far end and the ways to it: {name: (program, client's words, relays)}; the far end is (process, port)."""
    certificates(stage)
    end, port = far(stage, *far_options)
    ca, front, resuming = (stage.path(name) for name in ("ca.pem", "floor.sock", "resuming.sock"))
    to_end = "--port", port, "--ca", ca
    bare, _ = floor(stage, "--unix", front, *to_end)
    keeper, _ = floor(stage, "--unix", resuming, *to_end, "--resume", 1)
    helper = " ".join(str(word) for word in (program(stage), "floor", *to_end, "--resume", 1))
    broker, bare_door = stage.floor("broker.sock", "--helper", helper)
    router, door = stage.router("router", f"""
[routes]
full = {{ target = "tls://127.0.0.1:{port}", profile = "full" }}
cached = {{ target = "tls://127.0.0.1:{port}", profile = "cached" }}
[tls.full]
ca = "{ca}"
session_cache = false
[tls.cached]
ca = "{ca}"
""")
    ways = {
        "direct OpenSSL": (program(stage), [port, "--ca", ca], []),
        "direct, resumed": (program(stage), [port, "--ca", ca, "--resume", 1], []),
        "floor": (stage.kit, ["unix", front], [bare]),
        "floor, resumed": (stage.kit, ["unix", resuming], [keeper]),
        "bare broker, resumed": (stage.kit, ["kept", bare_door, "resume"], [broker]),
        "plumberd (tlsd)": (stage.kit, ["kept", door, request(service="full")], [router]),
        "plumberd, session cache": (stage.kit, ["kept", door, request(service="cached")], [router]),
    }
    for name, (path, process) in outward_peers(stage, port).items():
        ways[name] = (stage.kit, ["unix", path], [process])
    return (end, port), ways


def inward(stage, workers=1):
    """The same for TLS clients of a service on a UNIX socket; the far end is the service, the direct way has its own."""
    certificates(stage)
    beside, direct = far(stage)
    rundir, port, ca = stage.path("router"), free_port(), stage.path("ca.pem")
    os.makedirs(rundir, mode=0o700)
    service = os.path.join(rundir, "sink")
    end, _ = stage.far("--unix", service)
    bare, front = floor(stage, "--unix", service, "--pem", stage.path("far.pem"))
    router, _ = stage.router("router", f"""
rules = ["allow in sink tls", "allow serve sink *"]
[[listen]]
uri = "tls://127.0.0.1:{port}"
service = "sink"
profile = "own"
[tls.own]
certificate = "{stage.path('far.pem')}"
private_key = "{stage.path('far.pem')}"
""")
    listening = {"direct OpenSSL": (direct, None), "floor": (front, bare), "plumberd (tlsd)": (port, router),
                 **inward_peers(stage, service)}
    ways = {name: (program(stage), [at, "--ca", ca], [process] if process else [])
            for name, (at, process) in listening.items()}
    return end, beside, ways


def peers_of(ways):
    return [name for name in ways if name in ("haproxy", "nginx", "stunnel")]


def relay_table(stage, report, title, end_of, ways, directions):
    options = stage.options
    for direction, arrow in directions:
        def measure(name):
            client, words, relays = ways[name]
            return stage.run("bulk", *words, "--direction", direction, "--total", options.bulk * 2, "--far",
                             pids(end_of(name)), *(["--pids", pids(*relays)] if relays else []), program=client)
        got = Samples(ways, options.bulk_rounds, measure)
        best = min(peers_of(ways), key=lambda name: got.median(name, "relay"), default="floor")
        rows = [[name, f"{got.median(name, 'relay'):.3f}",
                 got.ratio(name, "floor", "relay"), f"{got.median(name, 'cpu'):.3f}", got.ratio(name, "floor", "cpu"),
                 got.median(name, "gbps"), got.ratio(name, "floor", "gbps")] for name in ways]
        report.table(f"TLS relay, {title}, {arrow}, {options.bulk_rounds} rounds of {options.bulk * 2 >> 20} MiB",
                     ["way", "relay's CPU s/GB", "x floor", "CPU s/GB, all", "x floor", "GB/s", "x floor"], rows)
        report.goal(f"TLS relay, {title}, {arrow}: CPU/GB to floor", got.ratio("plumberd (tlsd)", "floor", "relay"), 1.05, "x")
        report.goal(f"TLS relay, {title}, {arrow}: CPU/GB to {best}", got.ratio("plumberd (tlsd)", best, "relay"), 1.1, "x")


def bench_relay_out(stage, report):
    (end, _), ways = outward(stage)
    for name in "direct, resumed", "floor, resumed", "bare broker, resumed", "plumberd, session cache":
        del ways[name]
    relay_table(stage, report, "dialled", lambda name: end, ways, [("up", "plain→TLS"), ("down", "TLS→plain")])


def bench_relay_in(stage, report):
    end, beside, ways = inward(stage)
    relay_table(stage, report, "accepted", lambda name: beside if name == "direct OpenSSL" else end, ways,
                [("up", "TLS→plain"), ("down", "plain→TLS")])


def dial_rows(got, ways):
    return [[name, got.median(name, "cpu_us"), got.ratio(name, "direct OpenSSL", "cpu_us"), got.median(name, "p50_us"),
             got.ratio(name, "direct OpenSSL", "p50_us"), f"{got.median(name, 'rate'):.0f}",
             got.ratio(name, "direct OpenSSL", "rate"), f"{100 * got.median(name, 'resumed'):.0f} %"] for name in ways]


DIAL_HEAD = ["way", "CPU µs/dial", "x direct", "p50 µs", "x direct", "dials/s", "x direct", "resumed"]


def bench_dial(stage, report):
    options = stage.options
    (end, _), ways = outward(stage)
    for client, words, _ in ways.values():
        stage.run("dial", *words, "--count", 5, program=client)
    rounds, count = max(options.rounds, 3), options.dials // 10
    for title, cpus, more in (f"all on CPU {options.cpu}", [options.cpu], ["--count", count, "--cpu", options.cpu]), (
            "eight client threads, all CPUs", [], ["--threads", 8, "--ms", options.threads_ms]):
        stage.pin(*cpus)
        got = Samples(ways, rounds, lambda name: stage.run(
            "dial", *ways[name][1], *more, "--pids", pids(end, *ways[name][2]), program=ways[name][0]))
        report.table(f"TLS dial, {title}, {rounds} rounds", DIAL_HEAD, dial_rows(got, ways))
        cached, direct = "plumberd, session cache", "direct OpenSSL"
        if cpus:
            best = min(peers_of(ways), key=lambda name: got.median(name, "cpu_us"), default="floor")
            report.goal(f"TLS dial, full handshake: CPU to {best}", got.ratio("plumberd (tlsd)", best, "cpu_us"), 1.15, "x")
            report.goal("TLS dial, session cache: CPU to a direct full one", got.ratio(cached, direct, "cpu_us"), 0.85, "x")
        report.goal(f"TLS dial, session cache: rate to direct full ones, {title}", got.ratio(cached, direct, "rate"), 1.15, "x", True)
        report.goal(f"TLS dial, session cache: resumed, {title}", 100 * got.median(cached, "resumed"), 99, " %", True)


def bench_accept(stage, report):
    options = stage.options
    end, beside, ways = inward(stage)
    for client, words, _ in ways.values():
        stage.run("dial", *words, "--count", 5, program=client)
    stage.pin(options.cpu)
    got = Samples(ways, max(options.rounds, 3), lambda name: stage.run(
        "dial", *ways[name][1], "--count", options.dials // 10, "--cpu", options.cpu, "--pids",
        pids(beside if name == "direct OpenSSL" else end, *ways[name][2]), program=ways[name][0]))
    report.table(f"TLS accepted for a UNIX service, full handshake, all on CPU {options.cpu}", DIAL_HEAD, dial_rows(got, ways))
    best = min(peers_of(ways), key=lambda name: got.median(name, "cpu_us"), default="floor")
    report.goal(f"TLS accepted, full handshake: CPU to {best}", got.ratio("plumberd (tlsd)", best, "cpu_us"), 1.15, "x")


def bench_run(stage, report):
    """A program that starts, asks one thing over TLS and exits."""
    options = stage.options
    certificates(stage)
    end, port = far(stage)
    ca, once = stage.path("ca.pem"), os.path.join(options.bin, "bench-once")
    bundle = open(SYSTEM_BUNDLE).read() if os.path.exists(SYSTEM_BUNDLE) else ""
    store = {**os.environ, "SSL_CERT_FILE": stage.path("bundle.pem", bundle + open(ca).read())}
    router, door = stage.router("router", env=store)
    front = stage.path("floor.sock")
    bare, _ = floor(stage, "--unix", front, "--port", port, "--ca", ca)
    ways = {
        "OpenSSL, system bundle": [program(stage), "once", port],
        "OpenSSL, one authority": [program(stage), "once", port, ca],
        "plumberd": [once, f"tls://127.0.0.1:{port}"],
        "floor": [once, front],
    }
    ways.update({name: [once, path] for name, (path, _) in outward_peers(stage, port).items()})
    environment = {**store, "IPC_RUNDIR": os.path.dirname(door)}
    count = 10 if options.quick else 40
    def measure(name):
        return stage.run("runs", "--count", count, *ways[name], program=program(stage), env=environment)
    for name in ways:
        measure(name)
    got = Samples(ways, options.rounds, measure)
    base = "OpenSSL, system bundle"
    report.table(f"A program that starts, asks one thing over TLS and exits, {options.rounds} rounds of {count}",
                 ["way", "runs/s", f"x {base}", "its own CPU ms"],
                 [[name, f"{got.median(name, 'rate'):.0f}", got.ratio(name, base, "rate"),
                   got.median(name, "cpu_us") / 1e3] for name in ways])
    report.goal("TLS program: runs/s to OpenSSL with the bundle", got.ratio("plumberd", base, "rate"), 8, "x", True)


def helper_of(router, name="tlsd"):
    for pid in descendants(router.pid):
        with open(f"/proc/{pid}/comm") as comm:
            if comm.read().strip() == name:
                return pid
    raise SystemExit(f"bench: no {name} below plumberd")


class Pid:
    """A process that somebody else started, for memory_kib."""

    def __init__(self, pid):
        self.pid = pid


def bench_idle(stage, report):
    options = stage.options
    held = min(options.idle, 3000)
    (end, port), ways = outward(stage, "--hold", 1)
    listening, _ = stage.router("listening", f"""
[[listen]]
uri = "tls://127.0.0.1:0"
profile = "own"
[tls.own]
certificate = "{stage.path('far.pem')}"
private_key = "{stage.path('far.pem')}"
""")
    _, plain = stage.far()
    rows, each = [], {}
    for name in ["floor", "plumberd (tlsd)"] + peers_of(ways):
        client, words, (relay, ) = ways[name]
        warm = subprocess.Popen([client, "idle", *words, "--count", "200", "--ping", "1"], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE)
        warm.wait(30)
        if "plumberd" in name:  # the last 1,024 decisions are remembered, whatever became of them
            stage.run("dial", "kept", words[1], request(uri=f"tcp://127.0.0.1:{plain}"), "--count", 1100)
        before = memory_kib(relay)
        client = subprocess.Popen([client, "idle", *words, "--count", str(held), "--ping", "1"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        try:
            if stage.say(client) != "ready":
                raise SystemExit("bench: the idle client ended early")
            each[name] = (memory_kib(relay) - before) / held
        finally:
            client.stdin.close()
            client.wait(30)
        rows.append([name, each[name], f"{before / 1024:.2f}"])
    report.table(f"Memory, Pss; {held} idle TLS connections", ["way", "KiB each", "MiB before"], rows)
    tlsd = memory_kib(Pid(helper_of(listening))) / 1024
    report.table("Memory at rest, Pss, with a TLS listener", ["process", "MiB"],
                 [["tlsd", tlsd], ["plumberd and tlsd", memory_kib(listening) / 1024]])
    report.goal("TLS idle: memory per connection", each["plumberd (tlsd)"], 20, " KiB")
    report.goal("tlsd at rest", tlsd, 8, " MiB")


def bench_warm(stage, report):
    options = stage.options
    certificates(stage)
    end, port = far(stage)
    ca = stage.path("ca.pem")
    router, door = stage.router("router", f"""
[routes]
x = {{ target = "tls://127.0.0.1:{port}", warm = 8, profile = "p" }}
[tls.p]
ca = "{ca}"
""")
    ways = {"direct OpenSSL": (program(stage), [port, "--ca", ca], []),
            "warm": (stage.kit, ["kept", door, request(service="x")], [router])}
    gap = 5000
    for client, words, _ in ways.values():
        stage.run("dial", *words, "--count", 20, "--gap", gap, program=client)
    got = Samples(ways, options.rounds, lambda name: stage.run(
        "dial", *ways[name][1], "--count", options.dials // 20, "--gap", gap, "--pids", pids(end, *ways[name][2]),
        program=ways[name][0]))
    rows = [[name, got.median(name, "fd_us"), got.ratio(name, "direct OpenSSL", "fd_us"), got.median(name, "p50_us"),
             got.ratio(name, "direct OpenSSL", "p50_us"), got.median(name, "cpu_us")] for name in ways]
    report.table(f"Warm TLS dial, one each {gap // 1000} ms, {options.rounds} rounds",
                 ["way", "p50 µs to the connection", "x direct", "p50 µs to an answer", "x direct", "CPU µs/dial"], rows)
    report.goal("TLS warm: p50 to the connection, to direct", got.ratio("warm", "direct OpenSSL", "fd_us"), 0.2, "x")


SECTIONS = {"tls-out": bench_relay_out, "tls-in": bench_relay_in, "tls-dial": bench_dial,
            "tls-accept": bench_accept, "tls-run": bench_run, "tls-idle": bench_idle, "tls-warm": bench_warm}
