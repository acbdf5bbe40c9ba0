"""Reload: what clients notice of it while the router reads, indexes and installs 100,000 rules."""
import json
import os
import statistics
import subprocess
import time

from kit import memory_kib, request

RULES = 100_000


def reload(stage, rundir):
    """One reload, waited for; seconds."""
    began = time.monotonic()
    subprocess.run([os.path.join(stage.options.bin, "plumb"), "--rundir", rundir, "reload"], check=True,
                   stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def dials(stage, seconds, *words):
    """A thousand dials a second, each timed from when it was due."""
    return subprocess.Popen([stage.kit, "dial", *map(str, words), "--every", "1000", "--count", str(int(seconds * 1000))],
                            stdout=subprocess.PIPE, text=True)


def bench_reload(stage, report):
    """Reloads follow each other, a second apart, as long as the dials last."""
    quick = stage.options.quick
    far, port = stage.far()
    rules = subprocess.run([os.path.join(stage.options.bin, "judge-bench"), "toml", str(RULES)], check=True,
                           capture_output=True, text=True).stdout
    rules = rules.replace("rules = [\n", f'rules = [\n  "allow out * tcp:127.0.0.1:{port}",\n', 1)
    router, door = stage.router("router", rules)
    rundir = os.path.dirname(door)
    ways = {"session per dial": ["session", door], "kept session": ["kept", door]}
    uri = request(uri=f"tcp://127.0.0.1:{port}")
    rows, worst = [], 0.0
    for name, way in ways.items():
        for busy in False, True:
            took = []
            running = dials(stage, 5 if quick else 20, *way, uri)
            while running.poll() is None:
                time.sleep(1)
                if busy and running.poll() is None:
                    took.append(reload(stage, rundir))
            got = json.loads(running.stdout.read())
            rows.append([f"{name}, {'reloads' if busy else 'at rest'}", str(len(took)),
                         f"{statistics.median(took) * 1000:.0f}" if took else "", f"{got['rate']:.0f}", got["p50_us"] / 1000,
                         got["p99_us"] / 1000, got["p999_us"] / 1000, got["max_us"] / 1000])
            worst = max(worst, got["p999_us"] / 1000 if busy else 0)
    report.table(f"Reloads of {RULES} rules under 1,000 dials/s, CPUs {sorted(stage.options.cpus)}",
                 ["dials", "reloads", "ms each", "dials/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms"], rows)
    report.goal("dials during reloads: p99.9", worst, 50, " ms")
    report.table("Memory of the router (Pss)", ["", "MiB"],
                 [["after the reloads", memory_kib(router) / 1024]])


SECTIONS = {"reload": bench_reload}
