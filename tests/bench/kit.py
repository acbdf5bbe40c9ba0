"""What the sections of the benchmark share: a stage with its processes, samples by rounds, the report."""
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

NGINX_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"


def descendants(pid):
    """`pid` and all processes below it."""
    found = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as children:
                for child in children.read().split():
                    found += descendants(int(child))
    except OSError:
        pass
    return found


def tasks(pid):
    return [int(task) for task in os.listdir(f"/proc/{pid}/task")]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: gave up waiting for {what}")
        time.sleep(0.01)


def answers(address, kind=socket.SOCK_STREAM):
    """Whether somebody accepts connections at a UNIX path or a loopback port."""
    family = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
    with socket.socket(family, kind) as probe:
        try:
            probe.connect(("127.0.0.1", address) if isinstance(address, int) else address)
            return True
        except OSError:
            return False


class Stage:
    """A temporary directory and the processes started in it; leaving it ends them all."""

    def __init__(self, options):
        self.options = options
        self.kit = os.path.join(options.bin, "bench")
        self.started = []

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="plumberd-bench-")
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            process.terminate()
        for process in self.started:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name, text=None):
        path = os.path.join(self.dir, name)
        if text is not None:
            with open(path, "w") as file:
                file.write(text)
            os.chmod(path, 0o600)
        return path

    def start(self, *command, log="log", **how):
        """Starts a process whose standard error goes to a file of the stage."""
        with open(self.path(log), "a") as errors:
            process = subprocess.Popen([str(word) for word in command], stderr=errors, stdin=subprocess.DEVNULL,
                                       **how)
        self.started.append(process)
        return process

    def say(self, process):
        """First line that a process of the kit prints: it is ready."""
        return process.stdout.readline().decode().strip()

    def far(self, *options):
        """A far end; returns (process, TCP port)."""
        process = self.start(self.kit, "far", *options, stdout=subprocess.PIPE)
        return process, int(self.say(process))

    def floor(self, name, *options):
        path = self.path(name)
        process = self.start(self.kit, "floor", path, *options, stdout=subprocess.PIPE)
        self.say(process)
        return process, path

    def router(self, name, config="", **how):
        """plumberd with its events in a file; returns (process, native door)."""
        rundir = self.path(name)
        os.makedirs(rundir, mode=0o700, exist_ok=True)
        toml = self.path(f"{name}.toml", config)
        process = self.start(os.path.join(self.options.bin, "plumberd"), "--rundir", rundir, "--config", toml,
                             log=f"{name}.events", stdout=subprocess.DEVNULL, **how)
        door = os.path.join(rundir, "plumberd")
        wait_until(lambda: process.poll() is not None or answers(door, socket.SOCK_SEQPACKET), "plumberd")
        if process.poll() is not None:
            with open(self.path(f"{name}.events")) as events:
                raise SystemExit(f"bench: plumberd did not start:\n{events.read()}")
        return process, door

    def nginx(self, front, back, ready):
        """nginx's stream module between two addresses in nginx's words, or nothing if it is not installed."""
        if not (shutil.which("nginx") and os.path.exists(NGINX_MODULE)):
            return None
        config = self.path("nginx.conf", f"""
            load_module {NGINX_MODULE};
            {"user root;" if os.getuid() == 0 else ""}
            daemon off; pid {self.path("nginx.pid")}; error_log stderr; worker_processes 2;
            events {{ worker_connections 4096; }}
            stream {{ server {{ listen {front}; proxy_pass {back}; }} }}""")
        process = self.start("nginx", "-e", "stderr", "-c", config, "-p", self.dir)
        wait_until(lambda: answers(ready), "nginx")
        return process

    def haproxy(self, port, back):
        if not shutil.which("haproxy"):
            return None
        config = self.path("haproxy.cfg", f"""
global
    maxconn 4096
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen relay
    bind 127.0.0.1:{port}
    server far unix@{back}
""")
        process = self.start("haproxy", "-db", "-f", config)
        wait_until(lambda: answers(port), "haproxy")
        return process

    def socat(self, port, back):
        if not shutil.which("socat"):
            return None
        process = self.start("socat", "-b", "65536", f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,backlog=128",
                             f"UNIX-CONNECT:{back}")
        wait_until(lambda: answers(port), "socat")
        return process

    def pin(self, *cpus):
        """Confines every process of the stage, and those they start later, to `cpus` (none given: all)."""
        for process in self.started:
            for pid in descendants(process.pid):
                for task in tasks(pid):
                    os.sched_setaffinity(task, cpus or self.options.cpus)

    def run(self, part, *words, program=None, **how):
        """Runs one client of the kit (or of another `program`) to its end and returns what it measured."""
        done = subprocess.run([program or self.kit, part] + [str(word) for word in words], capture_output=True,
                              text=True, **how)
        if done.returncode != 0:
            raise SystemExit(f"bench: {part} {' '.join(map(str, words))}\n{done.stderr.strip()}")
        return json.loads(done.stdout)


def pids(*processes):
    return ",".join(str(process.pid) for process in processes)


def request(**params):
    """A native-door request, ready to send."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "connect", "params": params})


class Samples:
    """What each way measured in each round."""

    def __init__(self, ways, rounds, measure):
        """Calls measure(name) for every way in every round, in another order each time."""
        names = list(ways)
        self.of = {name: [] for name in names}
        for turn in range(rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                self.of[name].append(measure(name))

    def median(self, name, key):
        return statistics.median(sample[key] for sample in self.of[name])

    def compare(self, name, base, key, how):
        """Median over rounds of how(value, value of `base` in the same round)."""
        return statistics.median(how(a[key], b[key]) for a, b in zip(self.of[name], self.of[base]))

    def ratio(self, name, base, key):
        return self.compare(name, base, key, lambda a, b: a / b)

    def over(self, name, base, key):
        return self.compare(name, base, key, lambda a, b: a - b)


class Report:
    """Collects table rows and goals; prints each section as soon as it is measured."""

    def __init__(self):
        self.goals = []

    def table(self, title, head, rows):
        cells = [head] + [[cell if isinstance(cell, str) else f"{cell:.2f}" for cell in row] for row in rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
        print(f"\n{title}\n")
        for number, row in enumerate(cells):
            print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
            if number == 0:
                print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
        sys.stdout.flush()

    def goal(self, what, value, limit, unit="", at_least=False):
        met = value >= limit if at_least else value <= limit
        self.goals.append([what, f"{value:.3g}{unit}", f"{'≥' if at_least else '≤'} {limit:g}{unit}",
                           "met" if met else "MISSED"])

    def close(self):
        if self.goals:
            self.table("Goals", ["goal", "measured", "limit", ""], self.goals)


def memory_kib(process):
    """Pss of a process and all below it."""
    total = 0
    for pid in descendants(process.pid):
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    return total


def open_fds(process):
    """Descriptors of a process and all below it, once they have had time to close what they passed on."""
    counts = []
    for _ in range(20):
        counts.append(sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in descendants(process.pid)))
        time.sleep(0.05)
    return min(counts)
