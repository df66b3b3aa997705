"""What scripts/restarts and scripts/kills share: a supervised annulet-serve, what it says, and the load on it.

Everything lives on 127.0.0.1 and is bounded in time; only processes started here are signalled, by their pid.
"""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

import measuring
from measuring import Failure

EVENT_SECONDS_MAX = 60


class Supervised:
    """annulet-serve under a supervisor, and the lines of its stderr, those of whoever takes over included."""

    def __init__(self, program, arguments, listener=None):
        command = [program, *arguments]
        stdin = subprocess.DEVNULL
        if listener is not None:
            # As systemd hands a socket over: as descriptor 3, with the pid of who is meant.
            # By way of standard input: a shell need not know numbers above 9.
            stdin = listener
            line = 'exec 3<&0 0</dev/null; exec env LISTEN_PID=$$ LISTEN_FDS=1 "$@"'
            command = ["sh", "-c", line, "sh", *command]
        self.child = measuring.spawn(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        # The supervisor that serves: another one after an upgrade.
        self.pid = self.child.pid
        self.lines = []
        self.news = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()
        self.address = None
        for line in self.child.stdout:
            found = re.match(r"listening on http://(\S+?)/", line)
            self.address = self.address or (found and found[1])
            if line.startswith("ring "):
                break
        else:
            raise Failure(f"{' '.join(command)} does not start: {self.lines}")
        # Those who take over greet as well.
        threading.Thread(target=self.child.stdout.read, daemon=True).start()

    def _listen(self):
        for line in self.child.stderr:
            with self.news:
                self.lines.append(line.rstrip())
                self.news.notify_all()

    def told(self, words):
        """How often it has said so."""
        return sum(words in line for line in self.lines)

    def hear(self, words, times):
        """Waits until it has said so that many times; gives the last such line."""
        with self.news:
            if not self.news.wait_for(lambda: self.told(words) >= times, EVENT_SECONDS_MAX):
                raise Failure(f"it has not said {words!r} {times} times in {EVENT_SECONDS_MAX} s: {self.lines[-5:]}")
            return [line for line in self.lines if words in line][-1]

    def roll(self):
        times = self.told("every worker was replaced") + 1
        os.kill(self.pid, signal.SIGHUP)
        self.hear("every worker was replaced", times)

    def upgrade(self):
        times = self.told("has taken over") + 1
        os.kill(self.pid, signal.SIGUSR2)
        line = self.hear("has taken over", times)
        self.pid = int(re.search(r"pid (\d+) has taken over", line)[1])

    def end(self):
        """Asks whoever serves to end, and waits until it has."""
        os.kill(self.pid, signal.SIGTERM)
        until = time.monotonic() + EVENT_SECONDS_MAX
        while os.path.exists(f"/proc/{self.pid}") and not is_zombie(self.pid):
            if self.pid == self.child.pid and self.child.poll() is not None:
                break
            if time.monotonic() > until:
                raise Failure(f"pid {self.pid} does not end")
            time.sleep(0.01)
        measuring.end(self.child)

    def workers(self):
        """Its child processes."""
        with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="ascii") as children:
            return [int(pid) for pid in children.read().split()]

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def is_zombie(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def listening_socket():
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    return listener


class Load:
    """An open loop of annulet-bench that goes on in the background; `within` is a command that executes it."""

    def __init__(self, bench, address, rate, connections, seconds, *more, within=()):
        self.report = tempfile.NamedTemporaryFile(suffix=".json")
        command = [*within, bench, "load", "-t1", f"-c{connections}", "-R", str(rate), f"-d{seconds}s", "--timeout", "20s",
                   "--json", self.report.name, *more, f"http://{address}/"]
        self.child = measuring.spawn(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.PIPE, text=True)
        self.seconds = seconds

    def result(self):
        _, said = self.child.communicate(timeout=self.seconds + 60)
        measuring.children.remove(self.child)
        # 4 and 5: the figures are no good as a measurement. Here only what failed counts.
        if self.child.returncode not in (0, 4, 5):
            raise Failure(f"annulet-bench: {said}")
        with open(self.report.name, encoding="utf-8") as report:
            return json.load(report)


def capacity(bench, address, seconds=2):
    """Requests a second with keep-alive connections, from all cores."""
    load = Load(bench, address, 10_000_000, 32, seconds)
    return load.result()["rate"]
