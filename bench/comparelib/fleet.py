# SPDX-License-Identifier: Apache-2.0
"""The ranks of one library: started, told what to do over Unix sockets, ended.

See bench/peers/worker.c for what is said. A fleet that fails raises Failure with the reason and is not used again.
"""
import os
import shlex
import signal
import socket
import subprocess
import time


FAR_US = 0.1  # a word takes longer between cores that share no cache


class Failure(Exception):
    """A library cannot go on; the text says why."""


class Line:
    """The connection to one rank."""

    def __init__(self, connection):
        self.connection = connection
        self.pending = b""

    def send(self, text):
        """Tells the rank something."""
        try:
            self.connection.sendall((text + "\n").encode())
        except OSError as error:
            raise Failure("a rank has ended: %s" % error) from error

    def receive(self, deadline):
        """What the rank says next, as (word, rest)."""
        while b"\n" not in self.pending:
            self.connection.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                some = self.connection.recv(4096)
            except socket.timeout:
                raise Failure("a rank does not answer") from None
            except OSError as error:
                raise Failure("a rank has ended: %s" % error) from error
            if not some:
                raise Failure("a rank has ended")
            self.pending += some
        line, self.pending = self.pending.split(b"\n", 1)
        word, _, rest = line.decode(errors="replace").partition(" ")
        if word == "error":
            raise Failure(rest)
        return word, rest


class Fleet:
    """All ranks of one library in one configuration."""

    def __init__(self, name, commands, nranks, folder, limit=60):
        """commands: list of (argument list, environment to add); each is started once."""
        self.name = name
        self.nranks = nranks
        self.limit = limit
        self.commands = commands
        self.log = os.path.join(folder, name + ".log")
        self.path = os.path.join(folder, name + ".sock")
        self.processes = []
        self.lines = []
        self.version = ""

    def describe(self):
        """The command that starts it, as the report shows it."""
        command = self.commands[0][0]
        shown = [os.path.basename(word) if word.startswith("/") else word for word in command]
        return " ".join(shlex.quote(word) for word in shown)

    def start(self):
        """Starts the ranks and waits until all are ready."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(self.path)
            listener.listen(self.nranks)
            self._launch()
            deadline = time.monotonic() + self.limit
            self._accept(listener, deadline)
            self._get_ready(deadline)
        except Failure as failure:
            self.kill()
            raise Failure("%s%s" % (failure, self._tail())) from None
        finally:
            listener.close()

    def _launch(self):
        with open(self.log, "wb") as log:
            for command, extra in self.commands:
                environment = dict(os.environ, COMPARE_SOCKET=self.path, COMPARE_LIMIT=str(self.limit), **extra)
                self.processes.append(
                    subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     start_new_session=True))

    def _accept(self, listener, deadline):
        listener.settimeout(0.2)
        while len(self.lines) < self.nranks:
            try:
                self.lines.append(Line(listener.accept()[0]))
            except socket.timeout:
                ended = [p for p in self.processes if p.poll() is not None]
                if ended:
                    raise Failure("it ended with status %d" % ended[0].returncode) from None
                if time.monotonic() > deadline:
                    raise Failure("%d of %d ranks came" % (len(self.lines), self.nranks)) from None

    def _get_ready(self, deadline):
        """Shares what rank 0 has to tell the others, if the library needs that, and sorts the lines by rank."""
        said = [line.receive(deadline) for line in self.lines]
        if any(word == "share" for word, _ in said):
            text = next((rest for _, rest in said if rest), "")
            for line in self.lines:
                line.send("shared " + text)
            said = [line.receive(deadline) for line in self.lines]
        ranks = []
        for word, rest in said:
            rank, nranks, self.version = (rest + "  ").split(" ", 2)
            if word != "ready" or int(nranks) != self.nranks:
                raise Failure("it has %s ranks, not %d" % (nranks, self.nranks))
            ranks.append(int(rank))
        self.version = self.version.strip()
        self.lines = [self.lines[ranks.index(r)] for r in range(self.nranks)]

    def _tail(self):
        """The first of what it printed, for a report."""
        try:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                lines = [line.strip() for line in log if line.strip(" -\n")]
        except OSError:
            return ""
        return ": " + " / ".join(lines[:3])[:400] if lines else ""

    def ask(self, command):
        """Gives all ranks the command and returns their answers, by rank."""
        try:
            deadline = time.monotonic() + self.limit
            for line in self.lines:
                line.send(command)
            return [line.receive(deadline) for line in self.lines]
        except Failure as failure:
            self.kill()
            raise Failure("%s%s" % (failure, self._tail())) from None

    def variants(self, collective, dtype):
        """The ways in which the library does it; none: it cannot."""
        rest = self.ask("variants %s %s" % (collective, dtype))[0][1]
        return [word for word in rest.split(",") if word]

    def check(self, job):
        """Runs it once; None if all ranks have the right data, else what is wrong."""
        for rank, (word, rest) in enumerate(self.ask("check " + job)):
            if word != "right":
                return "rank %d: %s" % (rank, rest)
        return None

    def run(self, job, warmups, iterations):
        """Seconds for one operation: the slowest rank's mean. Sets far: do the first ranks' cores share no cache? None
        where they are not bound."""
        answers = [rest.split() for _, rest in self.ask("run %s %d %d" % (job, warmups, iterations))]
        flag = max(float(flag) for _, flag in answers)
        self.far = flag > FAR_US if flag else None
        return max(float(seconds) for seconds, _ in answers) / iterations

    def stop(self):
        """Lets the ranks end, and makes sure of it."""
        try:
            for line in self.lines:
                line.send("quit")
            for process in self.processes:
                process.wait(timeout=5)
        except (Failure, subprocess.TimeoutExpired):
            pass
        self.kill()

    def kill(self):
        """Ends what is left of it."""
        for line in self.lines:
            line.connection.close()
        for number, patience in ((signal.SIGTERM, 3), (signal.SIGKILL, None)):  # mpirun ends its ranks if it may
            for process in self.processes:
                try:
                    os.killpg(process.pid, number)
                except (ProcessLookupError, PermissionError):
                    pass
            for process in self.processes:
                try:
                    process.wait(timeout=patience)
                except subprocess.TimeoutExpired:
                    pass
        self.lines, self.processes = [], []
        if os.path.exists(self.path):
            os.unlink(self.path)
