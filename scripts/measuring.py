"""What scripts/floor and scripts/syscalls share: servers under measurement, the loads, and reading wrk's output.

Nothing here decides what is compared or how it is printed. Servers and loads live on 127.0.0.1 only, every load has a
bounded duration, and only processes started here are ended, by their pid.
"""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS_MAX = 10
# A free port is looked for, let go and given to a server: so often, if another takes it meanwhile.
PORT_TRIES = 5
STOP_SECONDS_MAX = 5

# Each load is the wrk arguments of one generator and whether it runs on the server's own core.
CASES = {
    "64": "64 keep-alive connections",
    "512": "512 keep-alive connections",
    "pipelined": "64 connections, 16 requests deep",
    "1": "one connection",
    "saturated": "64 connections from the other core and 64 from the server's own, which leaves that core no idle time",
}

children = []


class Failure(Exception):
    """Something the user should read as one line."""


class PortTaken(Failure):
    """A server that could not listen where it was told to."""


def progress(text):
    print(text, file=sys.stderr, flush=True)


def spawn(*arguments, **keywords):
    child = subprocess.Popen(*arguments, **keywords)
    children.append(child)
    return child


def end(child, seconds=STOP_SECONDS_MAX):
    """Asks a child to end, then makes it."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            progress(f"pid {child.pid} did not end within {seconds} s of SIGTERM: killed")
            child.kill()
            child.wait()
    if child in children:
        children.remove(child)


def end_all():
    for child in list(children):
        end(child, 1)


def on_signals_end_children():
    def handle(number, _frame):
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


# ---- programs -------------------------------------------------------------------------------------------------------


def need_wrk():
    if shutil.which("wrk"):
        return
    progress("installing wrk with apt-get")
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    for step in (["update", "-q"], ["install", "-y", "-q", "wrk"]):
        subprocess.run([*sudo, "apt-get", *step], stdout=sys.stderr, check=False)
    if not shutil.which("wrk"):
        raise Failure("wrk is not there and could not be installed; install it and run this again")


def target_directory():
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "release"


def build(packages):
    for package in packages:
        progress(f"building {package}")
        command = ["cargo", "build", "--release", "--locked", "-p", package]
        if subprocess.run(command, cwd=ROOT, stdout=sys.stderr).returncode != 0:
            raise Failure(f"{package} does not build")


# Far beyond what a load comes to: what counts is that they are looked at. The first two, and the limit in the kernel's hands, are off
# by default; the others are named so that a new default does not take them out of the measurement.
EVERY_LIMIT = (" --requests-per-connection 4000000000 --connections-per-address 60000 --connections-max 60000"
               " --connections 60000 --memory 256 --body-rate 240 --head-timeout 10s --body-timeout 30s"
               " --body-total-timeout 5m --keep-alive 75s --write-timeout 30s")


def add_server_arguments(parser):
    """The flags that say what is compared and where it runs."""
    parser.add_argument("--ours", metavar="PATH", default=os.environ.get("ANNULET_SERVE"),
                        help="annulet-serve to measure (or ANNULET_SERVE) [built here]")
    parser.add_argument("--floor", metavar="PATH", default=os.environ.get("ANNULET_FLOOR"),
                        help="annulet-floor to measure against (or ANNULET_FLOOR) [built here]")
    parser.add_argument("--without-ours", action="store_true", help="leave annulet-serve out")
    parser.add_argument("--every-limit", action="store_true",
                        help="annulet-serve with every limit on, those too that are off unless asked for")
    parser.add_argument("--server", metavar="NAME=COMMAND", action="append", default=[],
                        help="one more server; {listen}, {port}, {core}, {floor} and {ours} are filled in, and "
                             "--listen ADDR is appended where neither {listen} nor {port} is there")
    parser.add_argument("--no-build", action="store_true", help="take the binaries that are there")
    parser.add_argument("--server-core", type=int, help="[the first core this process may use]")
    parser.add_argument("--load-core", type=int, help="[the last core this process may use]")
    parser.add_argument("--cases", metavar="A,B", help=f"which of {', '.join(CASES)} [all]")


@dataclass
class Plan:
    """The servers by name, the cores, the cases."""

    servers: dict
    server_core: int
    load_core: int
    cases: list


def plan(options, own_cores=os.sched_getaffinity(0)):
    cores = sorted(own_cores)
    server_core = options.server_core if options.server_core is not None else cores[0]
    load_core = options.load_core if options.load_core is not None else cores[-1]
    if server_core == load_core:
        progress(f"only core {server_core}: server and load share it, and no ratio means much")
    cases = options.cases.split(",") if options.cases else list(CASES)
    for case in cases:
        if case not in CASES:
            raise Failure(f"there is no case {case}; there are {', '.join(CASES)}")
    packages = []
    if not options.no_build:
        packages += [] if options.floor else ["annulet-floor"]
        packages += [] if options.ours or options.without_ours else ["annulet-http"]
    build(packages)
    paths = {
        "floor": options.floor or str(target_directory() / "annulet-floor"),
        "ours": options.ours or str(target_directory() / "annulet-serve"),
    }
    servers = {}
    if not options.without_ours:
        servers["ours"] = "{ours} --listen {listen} --cores {core}" + (EVERY_LIMIT if options.every_limit else "")
    servers["floor"] = "{floor} --listen {listen} --core {core}"
    for text in options.server:
        name, separator, command = text.partition("=")
        if not separator or not command or name in servers:
            raise Failure(f"--server wants a new NAME=COMMAND, not {text}")
        servers[name] = command
    filled = {}
    for name, command in servers.items():
        for key, value in (("{floor}", paths["floor"]), ("{ours}", paths["ours"]), ("{core}", str(server_core))):
            command = command.replace(key, value)
        filled[name] = command
    return Plan(filled, server_core, load_core, cases)


# ---- a server under measurement -------------------------------------------------------------------------------------


@dataclass
class Server:
    """One started server process."""

    name: str
    child: subprocess.Popen
    port: int
    answer_bytes: int = 0
    # Where it is asked for its counters, if its command has {admin}.
    admin: int | None = None

    @property
    def pid(self):
        return self.child.pid

    def cpu_seconds(self):
        """CPU time of all its threads, user and system, exact to the nanosecond.

        This is the process's CPU clock (clock_getcpuclockid(3)): the scheduler's sum of run times, brought up to date
        at the read, not the 100 Hz counts of /proc/PID/stat.
        """
        return time.clock_gettime((~self.pid << 3) | 2)

    def ticks(self):
        """(user, system) ticks since its start: sampled by the timer tick, good only for the split of the two."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]), int(fields[12])

    def stop(self):
        end(self.child)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(name, command, core):
    """Starts a server pinned to a core, on ports that are free, and waits until it answers."""
    for _ in range(PORT_TRIES - 1):
        try:
            return start_once(name, command, core)
        except PortTaken:
            # Somebody else was given it between our asking and the server's listening.
            pass
    return start_once(name, command, core)


def start_once(name, command, core):
    port = free_port()
    listen = f"127.0.0.1:{port}"
    if "{listen}" in command or "{port}" in command:
        command = command.replace("{listen}", listen).replace("{port}", str(port))
    else:
        command += f" --listen {listen}"
    admin = free_port() if "{admin}" in command else None
    command = command.replace("{admin}", f"127.0.0.1:{admin}")
    errors = tempfile.TemporaryFile()
    try:
        child = spawn(shlex.split(command), stdout=subprocess.DEVNULL, stderr=errors, stdin=subprocess.DEVNULL,
                      preexec_fn=lambda: os.sched_setaffinity(0, {core}))
    except OSError as error:
        raise Failure(f"{name}: {command}: {error}") from error
    server = Server(name, child, port, admin=admin)
    deadline = time.monotonic() + READY_SECONDS_MAX
    while True:
        try:
            server.answer_bytes = ask_once(port)
            # Another server may have answered, and ours be gone.
            if child.poll() is None:
                return server
            error = None
        except OSError as failed:
            error = failed
        if child.poll() is not None or time.monotonic() > deadline:
            server.stop()
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip() or error
            failure = PortTaken if "in use" in str(said) else Failure
            raise failure(f"{name} does not serve: {command}: {said}") from error
        time.sleep(0.01)


def ask_once(port):
    """One request; the length of the answer, which must be a 200 with the index page."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        answer = b""
        while b"\r\n\r\n" not in answer or len(answer) < answer_length(answer):
            piece = connection.recv(65536)
            if not piece:
                break
            answer += piece
    if not answer.startswith(b"HTTP/1.1 200"):
        raise Failure(f"the server on port {port} answers {answer[:60]!r}")
    return len(answer)


def answer_length(answer):
    head, _, _ = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return len(head) + 4 + (int(length.group(1)) if length else 0)


# ---- loads ----------------------------------------------------------------------------------------------------------

PIPELINED = """
-- Sends {depth} requests at a time; wrk counts every answer.
local batch
init = function()
  local requests = {{}}
  for i = 1, {depth} do requests[i] = wrk.format("GET", "/") end
  batch = table.concat(requests)
end
request = function() return batch end
"""


@dataclass
class Load:
    """What wrk saw, over all its processes."""

    requests: int = 0
    wall_seconds: float = 0
    p50_us: float = 0
    p99_us: float = 0
    faults: list = field(default_factory=list)


def script(directory, depth):
    path = Path(directory) / f"pipelined-{depth}.lua"
    path.write_text(PIPELINED.format(depth=depth))
    return ["-s", str(path)]


def generators(case, plan, directory):
    """The wrk processes of a case: (core, arguments)."""
    return {
        "64": [(plan.load_core, ["-c64"])],
        "512": [(plan.load_core, ["-c512"])],
        "pipelined": [(plan.load_core, ["-c64", *script(directory, 16)])],
        "1": [(plan.load_core, ["-c1"])],
        "saturated": [(plan.load_core, ["-c64"]), (plan.server_core, ["-c64"])],
    }[case]


def run_load(case, plan, port, seconds):
    """Loads a server for so many seconds and returns what the first generator saw, with the requests of all."""
    with tempfile.TemporaryDirectory() as directory:
        running = [
            spawn(["wrk", "-t1", f"-d{seconds}s", "--latency", *arguments, f"http://127.0.0.1:{port}/"],
                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                  preexec_fn=lambda core=core: os.sched_setaffinity(0, {core}))
            for core, arguments in generators(case, plan, directory)
        ]
        loads = []
        for child in running:
            try:
                text, _ = child.communicate(timeout=seconds + 15)
            except subprocess.TimeoutExpired as error:
                raise Failure(f"wrk did not end {seconds} s after it should") from error
            finally:
                end(child)
            loads.append(read_wrk(text))
    total = loads[0]
    if case == "pipelined":
        # wrk corrects its histogram for omitted samples and takes the answers of a batch for rounds of their own: its
        # percentiles mean nothing here (the upper ones come out as 0).
        total.p50_us = total.p99_us = 0
    for load in loads[1:]:
        total.requests += load.requests
        total.faults += load.faults
    return total


UNITS_US = {"us": 1, "ms": 1e3, "s": 1e6, "m": 6e7, "h": 3.6e9}


def read_wrk(text):
    """Reads wrk's report."""
    done = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m|h)\b", text)
    if not done:
        return Load(faults=[f"wrk reported nothing: {text.strip()[:200]}"])
    load = Load(int(done.group(1)), float(done.group(2)) * UNITS_US[done.group(3)] / 1e6)
    for percent, value, unit in re.findall(r"^\s+(\d+)%\s+([\d.]+)(us|ms|s|m|h)\s*$", text, re.M):
        if percent == "50":
            load.p50_us = float(value) * UNITS_US[unit]
        elif percent == "99":
            load.p99_us = float(value) * UNITS_US[unit]
    errors = re.search(r"Socket errors: (.*)", text)
    if errors:
        load.faults.append(f"socket errors: {errors.group(1)}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    if refused:
        load.faults.append(f"{refused.group(1)} answers were not 2xx")
    if load.requests == 0:
        load.faults.append("no request was answered")
    return load


def core_idle_seconds(core):
    """How long a core has been idle since boot."""
    for line in Path("/proc/stat").read_text().splitlines():
        fields = line.split()
        if fields[0] == f"cpu{core}":
            return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")
    raise Failure(f"there is no core {core}")
