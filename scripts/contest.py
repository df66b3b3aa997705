"""What scripts/axum and scripts/tls share: a few servers loaded in turn by annulet-bench, round after round, and what each
unit of work costs them in CPU, how much they do by the clock, and which side had no more to give.

One core for the servers, another for the load; all servers are up, one at a time is loaded, and the order turns around
every round, as in scripts/peers. Which servers and which loads is the caller's to say.
"""

import argparse
import json
import os
import resource
import shlex
import shutil
import socket
import ssl
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import measuring
from measuring import ROOT, Failure, progress

PEERS = ROOT / "bench" / "peers"


@dataclass
class Case:
    """One load: arguments of annulet-bench, the path that it asks for, and what one of its requests is called."""

    words: list
    path: str = "/"
    unit: str = "request"


@dataclass
class Samples:
    """What the rounds of a case say of one server."""

    cost_us: list = field(default_factory=list)
    rate: list = field(default_factory=list)
    # How much of a core each side took.
    server_busy: list = field(default_factory=list)
    load_busy: list = field(default_factory=list)


def arguments(description, switches=()):
    """Of the command line; switches are those of one script alone, told in its description."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="[5]")
    parser.add_argument("--seconds", type=float, help="length of one load [1]")
    parser.add_argument("--only", metavar="TEXT", default="", help="cases whose name contains it")
    parser.add_argument("--no-build", action="store_true", help="take the binaries that are there")
    parser.add_argument("--short", action="store_true", help="does it run at all: 1 round, a fifth of a second")
    parser.add_argument("--server-core", type=int, help="[the first core this process may use]")
    parser.add_argument("--load-core", type=int, help="[the last core this process may use]")
    for switch in switches:
        parser.add_argument(switch, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    options.server_core = cores[0] if options.server_core is None else options.server_core
    options.load_core = cores[-1] if options.load_core is None else options.load_core
    options.rounds = options.rounds or (1 if options.short else 5)
    options.seconds = options.seconds or (0.2 if options.short else 1)
    return options


def peers_target():
    base = os.environ.get("CARGO_TARGET_DIR")
    return Path(base) / "peers" if base else PEERS / "target"


def peer(name):
    return peers_target() / "release" / f"peer-{name}"


def build_peers(names):
    """Builds servers of bench/peers, a workspace of their own."""
    environment = os.environ | {"CARGO_TARGET_DIR": str(peers_target())}
    for name in names:
        progress(f"building peer-{name}")
        command = ["cargo", "build", "--release", "--locked", "-p", f"peer-{name}"]
        if subprocess.run(command, cwd=PEERS, env=environment).returncode != 0:
            raise Failure(f"peer-{name} does not build")


def nginx_binary():
    """Where nginx is; installed if it is not. None if that fails."""
    path = os.environ["PATH"] + ":/usr/sbin"
    if not shutil.which("nginx", path=path):
        progress("installing nginx with apt-get")
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "nginx-light"]
        subprocess.run([*sudo, *install], check=False)
    return shutil.which("nginx", path=path)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A started server with all its processes. {listen} and {core} are filled into its command."""

    def __init__(self, name, command, core, is_tls, port=None):
        self.name, self.is_tls = name, is_tls
        self.port = port or free_port()
        words = shlex.split(command.replace("{listen}", f"127.0.0.1:{self.port}").replace("{core}", str(core)))
        self.errors = tempfile.TemporaryFile()
        self.child = measuring.spawn(words, stdout=subprocess.DEVNULL, stderr=self.errors, stdin=subprocess.DEVNULL,
                                     preexec_fn=lambda: os.sched_setaffinity(0, {core}))
        deadline = time.monotonic() + measuring.READY_SECONDS_MAX
        while True:
            try:
                return self.ask_once()
            except OSError as error:
                if self.child.poll() is not None or time.monotonic() > deadline:
                    measuring.end(self.child)
                    self.errors.seek(0)
                    said = self.errors.read().decode(errors="replace").strip() or error
                    raise Failure(f"{name} does not serve: {said}") from error
                time.sleep(0.02)

    def ask_once(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            if self.is_tls:
                context = ssl.create_default_context()
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                connection = context.wrap_socket(connection)
            connection.sendall(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            answer = connection.recv(4096)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise Failure(f"{self.name} answers {answer[:60]!r}")

    def cpu_seconds(self):
        """CPU time of it and its children, exact to the nanosecond (clock_getcpuclockid(3))."""
        children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text().split()
        return sum(time.clock_gettime((~int(pid) << 3) | 2) for pid in [self.child.pid, *children])


def load(server, options, case, samples):
    """One load of a server."""
    scheme = "https" if server.is_tls else "http"
    command = [str(measuring.target_directory() / "annulet-bench"), "load",
               f"{scheme}://127.0.0.1:{server.port}{case.path}", "-t", "1", "-d", f"{int(options.seconds * 1000)}ms",
               "--cores", str(options.load_core), "--json", "-", *case.words]
    server_before, load_before = server.cpu_seconds(), ended_cpu_seconds()
    child = measuring.spawn(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        text, said = child.communicate(timeout=options.seconds + 20)
    except subprocess.TimeoutExpired as error:
        raise Failure(f"the load on {server.name} did not end") from error
    finally:
        measuring.end(child)
    server_cpu, load_cpu = server.cpu_seconds() - server_before, ended_cpu_seconds() - load_before
    try:
        report = json.loads(text)
    except ValueError as error:
        raise Failure(f"the load on {server.name} reports nothing: {said.strip() or error}") from error
    if report["errors"]:
        progress(f"FAULT: {server.name}: {report['error_counts']}")
    requests, seconds = max(report["requests"], 1), max(report["duration_s"], 1e-3)
    samples.cost_us.append(server_cpu / requests * 1e6)
    samples.rate.append(requests / seconds)
    samples.server_busy.append(server_cpu / seconds)
    samples.load_busy.append(load_cpu / seconds)


def ended_cpu_seconds():
    """CPU time of all children that were waited for: the servers still run, so it is that of the loads."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def contest(servers, options, cases):
    """Loads all in turn. cases: name -> Case. Prints a table for each."""
    chosen = {name: case for name, case in cases.items() if options.only in name}
    if not chosen:
        raise Failure(f"there is no case with {options.only!r} in its name; there are: {'; '.join(cases)}")
    for name, case in chosen.items():
        all_samples = {server.name: Samples() for server in servers}
        for number in range(options.rounds):
            for server in servers if number % 2 == 0 else servers[::-1]:
                load(server, options, case, all_samples[server.name])
        print(f"\n{name}\n")
        print(f"| server | CPU µs a {case.unit} | {case.unit}s per CPU second | CPU of {servers[0].name}'s | "
              f"{case.unit}s/s | rate of {servers[0].name}'s | its core busy | the load's |")
        print("|---|---:|---:|---:|---:|---:|---:|---:|")
        first = all_samples[servers[0].name]
        for server in servers:
            own = all_samples[server.name]
            cost = statistics.median(own.cost_us)
            print(f"| {server.name} | {median_and_range(own.cost_us, 2)} | {1e6 / cost:.0f} | "
                  f"{ratios(own.cost_us, first.cost_us)} | {statistics.median(own.rate):.0f} | "
                  f"{ratios(own.rate, first.rate)} | {statistics.median(own.server_busy):.0%} | "
                  f"{statistics.median(own.load_busy):.0%} |", flush=True)


def median_and_range(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def ratios(own, first):
    """Round by round."""
    return median_and_range([one / other for one, other in zip(own, first)], 3)


def run(main):
    measuring.on_signals_end_children()
    try:
        main()
    except Failure as failure:
        progress(f"{failure}")
        raise SystemExit(1) from failure
    finally:
        measuring.end_all()
