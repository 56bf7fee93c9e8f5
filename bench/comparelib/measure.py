# SPDX-License-Identifier: Apache-2.0
"""Measures one configuration: all libraries alive at once, one batch of each per round, in an order that is drawn.

A point is one collective, type and size. Each series (a library with a kind of buffers) of a point is checked with real
data, calibrated so that a batch takes a few milliseconds, and then timed round by round.
"""
import random
import time

from . import configs, peers
from .fleet import Failure

BATCH_SECONDS = 0.003  # where each rank has a core; else more, as it takes turns
MOST_ITERATIONS = 20000
WARMUP_SHARE = 10  # one tenth of a batch is not timed

ATTEMPTS = 3  # at a round, on average, where the cores move meanwhile

REST = 0.005  # seconds before a batch, in which what the batch before has left behind comes to rest


def batch_seconds(nranks):
    """How long a batch shall take."""
    return BATCH_SECONDS * max(1.0, nranks / len(configs.CORES))


class Series:
    """A library with a kind of buffers, at one point."""

    def __init__(self, name, fleet, kind):
        self.name = name
        self.fleet = fleet
        self.kind = kind
        self.batch = batch_seconds(fleet.nranks)
        self.variant = 0
        self.variant_name = ""
        self.iterations = 1
        self.rounds = []
        self.far = []  # in each round: did the first ranks' cores share no cache?
        self.error = None

    def job(self, collective, dtype, size):
        """The words of a command that name what is to be done."""
        return "%s %s %d %s %d" % (collective, dtype, size, self.kind, self.variant)

    def prepare(self, collective, dtype, size):
        """Checks every way in which the library does it and keeps the fastest that is right."""
        names = self.fleet.variants(collective, dtype)
        if not names:
            self.error = "not offered"
        best = None
        for number, name in enumerate(names):
            self.variant = number
            job = self.job(collective, dtype, size)
            wrong = self.fleet.check(job)
            if wrong:
                self.error = "wrong result (%s): %s" % (name, wrong)
                return
            seconds = self._calibrate(job)
            if best is None or seconds < best[0]:
                best = seconds, number, name
        if best:
            seconds, self.variant, self.variant_name = best
            self.iterations = max(1, min(MOST_ITERATIONS, round(self.batch / seconds)))

    def _calibrate(self, job):
        seconds, count = self.fleet.run(job, 0, 1), 1
        while seconds * count < self.batch / 4 and count < MOST_ITERATIONS / 4:
            count = min(count * 8, MOST_ITERATIONS // 4)
            seconds = self.fleet.run(job, 0, count)
        return seconds

    def time(self, collective, dtype, size):
        """One round."""
        warmups = self.iterations // WARMUP_SHARE
        if warmups == 0 and self.iterations > 1:
            warmups = 1
        seconds = self.fleet.run(self.job(collective, dtype, size), warmups, self.iterations)
        self.rounds.append(seconds * 1e6)
        self.far.append(self.fleet.far)

    def forget(self, rounds):
        """Only so many rounds count."""
        del self.rounds[rounds:], self.far[rounds:]

    def result(self):
        """What is kept of it."""
        if self.error:
            return {"error": self.error}
        result = {"us": [float("%.4g" % us) for us in self.rounds], "iterations": self.iterations}
        if self.variant_name != "default":
            result["variant"] = self.variant_name
        return result


def series_of(fleets):
    """The series that the living fleets give."""
    for name, fleet in fleets.items():
        if name == "medley":
            for series, kind in peers.MEDLEY.items():
                yield Series(series, fleet, kind)
        else:
            yield Series(name, fleet, "ordinary")


def guarded(series, action, *args):
    """Does something with a series; notes why it failed."""
    if series.error:
        return
    if not series.fleet.lines:
        series.error = "it has failed before"
        return
    try:
        action(*args)
    except Failure as failure:
        series.error = str(failure)


def time_round(series, job, seed):
    """One batch of each. Returns where the cores were: near, far, if they have moved mixed, None if nobody asked."""
    order = list(series)
    random.Random(seed).shuffle(order)
    for one in order:
        time.sleep(REST)
        guarded(one, one.time, *job)
    far = {one.far[-1] for one in series if not one.error}
    return "mixed" if len(far) > 1 else {True: "far", False: "near"}.get(far.pop() if far else None)


def measure_point(fleets, collective, dtype, size, rounds, sample=None):
    """One point: a dictionary for the report. sample(number, rounds) is called between the rounds."""
    series = list(series_of(fleets))
    for one in series:
        guarded(one, one.prepare, collective, dtype, size)
    cores, spare = [], (ATTEMPTS - 1) * rounds
    while len(cores) < rounds:
        number = len(cores)
        where = time_round(series, (collective, dtype, size), f"{collective} {dtype} {size} {number}")
        if where == "mixed" and spare:
            spare -= 1
            for one in series:
                one.forget(number)
            continue
        cores.append(where)
        if sample:
            sample(number, rounds)
    return {"collective": collective, "type": dtype, "bytes": size, "rounds": rounds,
            "cores": {where: cores.count(where) for where in sorted(set(cores) - {None})},
            "series": {one.name: one.result() for one in series}}


class Clock:
    """Says whether there is time for another point, judging by the one before."""

    def __init__(self, limit):
        self.end = None if limit is None else time.monotonic() + limit
        self.last = None

    def left(self):
        """Seconds, None without a limit."""
        return None if self.end is None else max(0.0, self.end - time.monotonic())

    def allows(self, size):
        """Is there time for a point of that size? The first is always allowed."""
        if self.end is None or self.last is None:
            return True
        point, seconds = self.last
        growth = max(1.0, size / point["bytes"]) if size > 1 << 14 else 1.0
        for series in point["series"].values():
            if "us" in series:
                mean = sum(series["us"]) / len(series["us"]) * 1e-6
                batch = series["iterations"] * mean
                batches = point["rounds"] + 5  # those of checks and of the calibration too
                seconds += batches * (max(mean * growth, batch) - batch)
        return seconds < self.left()

    def note(self, point, seconds):
        """A point was measured."""
        self.last = point, seconds
