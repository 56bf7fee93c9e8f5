# SPDX-License-Identifier: Apache-2.0
"""The program: measures configurations, or reads reports, and shows what came of it."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from . import analysis, build, configs, goals, limits, machine, measure, page, peers, report, text
from .fleet import Failure, Fleet

TYPES = ("f32", "f64", "i8", "i32", "f16", "bf16", "f8e4m3", "f8e5m2")
TYPE_SIZE = {"f32": 4, "f64": 8, "i32": 4, "f16": 2, "bf16": 2}
REDUCING = ("allreduce", "reducescatter", "reduce")


def start_fleets(config, options, folder, libraries):
    """The libraries that can run here; what came of each is noted in `libraries`."""
    fleets = {}
    names = ["medley"] + options.peers + (["pump"] if config.network and options.limits != "none" else [])
    for name in names:
        library = libraries.setdefault(name, {})
        try:
            worker = build.build_worker(name, options.top, options.build)
            fleet = Fleet(name, peers.start_commands(name, config, worker, folder), config.nranks, folder)
            library["command"] = fleet.describe()
            fleet.start()
            library["version"] = fleet.version
            fleets[name] = fleet
        except (build.CannotBuild, peers.Refused, Failure) as error:
            library["error"] = str(error)
        print("  %-9s %s" % (name, library.get("error") or library["version"]), flush=True)
    return fleets


def wanted_points(config, options, known):
    """(collective, type, size) in the order in which they are measured."""
    for collective in options.collectives:
        for dtype in options.types if collective in REDUCING else options.types[:1]:
            for size in options.sizes:
                parts = 1 if collective in ("allreduce", "broadcast", "reduce") else config.nranks
                if size % (parts * TYPE_SIZE.get(dtype, 1)) == 0 and (collective, dtype, size) not in known:
                    yield collective, dtype, size


def needed_memory(config, fleets, size):
    """Bytes of buffers that all ranks have at a point: one to send, one to receive; Medley two of each."""
    return 2 * size * config.nranks * (len(fleets) + 1)


class Stop(Exception):
    """There is no time for more."""


def measure_points(config, options, fleets, clock, known, points):
    """Appends to points what is not known yet."""
    bare = limits.Limits(options.build, options.limits)
    for collective, dtype, size in wanted_points(config, options, known):
        if not clock.allows(size):
            raise Stop
        if needed_memory(config, fleets, size) > 0.8 * machine.free_memory():
            print("  left out for want of memory: %s %s %s" % (collective, dtype, text.size_name(size)))
            continue
        start = time.monotonic()
        sampler = bare.sampler(config, collective, dtype, size, clock)
        point = measure.measure_point(fleets, collective, dtype, size, options.rounds, sampler)
        clock.note(point, time.monotonic() - start - (sampler.seconds if sampler else 0))
        if sampler and sampler.result():
            point["limits"] = sampler.result()
        points.append(point)


def run_here(config, options, clock, known):
    """Measures one configuration in this process's namespaces; its part of the report."""
    part = {"about": config.about, "nranks": config.nranks, "hosts": config.hosts, "gbit": config.gbit,
            "libraries": {}, "points": []}
    folder = tempfile.mkdtemp(prefix="compare.")
    fleets = {}
    try:
        fleets = start_fleets(config, options, folder, part["libraries"])
        measure_points(config, options, fleets, clock, known, part["points"])
    except Stop:
        print("  the time limit ends it here", flush=True)
    finally:
        for fleet in fleets.values():
            fleet.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return part


def run_in_hosts(config, options, words, clock, known):
    """The same in network namespaces: this program runs itself there, and leaves its part in a file."""
    with tempfile.TemporaryDirectory(prefix="compare.") as folder:
        out = os.path.join(folder, "part.json")
        with open(out, "w", encoding="utf-8") as task:
            json.dump({"known": sorted(known), "seconds": clock.left()}, task)
        script = os.path.join(options.top, "bench", "peers", "hosts.sh")
        compare = os.path.join(options.top, "bench", "compare")
        command = ["sh", script, str(config.gbit), sys.executable, compare, *words, "--config", config.name,
                   "--build", options.build, "--inside", out]
        said = []
        with subprocess.Popen(command, env=dict(os.environ, COMPARE_TOP=options.top), stdout=subprocess.PIPE,
                              text=True) as inside:
            for line in inside.stdout:
                said.append(line.strip())
                print(line, end="", flush=True)
        with open(out, encoding="utf-8") as done:
            part = json.load(done)
    if inside.returncode or "points" not in part:
        reason = said[-1] if said else "exit status %d" % inside.returncode
        return {"about": config.about, "nranks": config.nranks, "hosts": config.hosts, "gbit": config.gbit,
                "libraries": {}, "points": [], "error": reason}
    return part


def run_inside(options):
    """The part of run_in_hosts that runs in the namespaces."""
    with open(options.inside, encoding="utf-8") as source:
        task = json.load(source)
    config = configs.CONFIGS[options.config[0]]
    part = run_here(config, options, measure.Clock(task["seconds"]), {tuple(key) for key in task["known"]})
    report.save(part, options.inside)
    return 0


def run_configs(options, words, whole):
    """Measures what is asked for; joins it with the report that is there."""
    clock = measure.Clock(options.time_limit)
    build.install_peers(options.peers)
    for name in options.config:
        config = configs.CONFIGS[name]
        earlier = whole["configs"].get(name, {"points": []}) if whole else {"points": []}
        known = {report.key_of(point) for point in earlier["points"]}
        print("%s: %s" % (name, config.about), flush=True)
        if config.hosts > 1:
            part = run_in_hosts(config, options, words, clock, known)
        else:
            part = run_here(config, options, clock, known)
        new = {"schema": report.SCHEMA, "machine": machine.facts(), "date": time.strftime("%Y-%m-%d"),
               "commit": machine.commit(options.top), "rounds": options.rounds, "configs": {name: part}}
        whole = report.join(whole, new)
        if options.out:
            os.makedirs(options.out, exist_ok=True)
            report.save(whole, os.path.join(options.out, "compare.json"))
    return whole


def gather(options, words):
    """The report that is to be shown."""
    whole = None
    if options.sources:
        for path in options.sources:
            whole = report.join(whole, report.load(path))
        return whole
    earlier = os.path.join(options.out, "compare.json") if options.out else None
    if options.resume and earlier and os.path.exists(earlier):
        whole = report.load(earlier)
    return run_configs(options, words, whole)


MARKS = ("<!-- compare: begin -->", "<!-- compare: end -->")


def write_text(path, words):
    """A file with these words."""
    with open(path, "w", encoding="utf-8") as out:
        out.write(words)


def fill_readme(path, whole):
    """Puts the tables between the marks."""
    with open(path, encoding="utf-8") as source:
        before, begin, rest = source.read().partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not begin or not end:
        raise report.BadReport("%s has not the marks %s and %s" % (path, *MARKS))
    write_text(path, before + begin + "\n" + "\n".join(text.markdown(whole)) + "\n" + end + after)


def publish(folder, whole):
    """The files that are kept."""
    os.makedirs(folder, exist_ok=True)
    base = os.path.join(folder, machine.name(whole["machine"]))
    report.save(report.shorten(whole), base + ".json")
    write_text(base + ".html", page.page(whole))
    write_text(base + ".md", "# Medley beside its peers\n\n" + "\n".join(text.markdown(whole)))


def show(whole, options):
    """Prints the tables and writes the files."""
    print("\n".join(text.whole(whole)))
    for line in analysis.wrong(whole):
        print("ERROR: " + line)
    if options.out:
        os.makedirs(options.out, exist_ok=True)
        report.save(whole, os.path.join(options.out, "compare.json"))
        write_text(os.path.join(options.out, "compare.html"), page.page(whole))
    if options.publish:
        publish(options.publish, whole)
    if options.readme:
        fill_readme(options.readme, whole)


def status_of(whole, options):
    """1 if a result was wrong or Medley failed, or, with --check, if a goal was missed."""
    missed = any(met < number for _, number, met, _ in goals.summary(whole))
    return 1 if analysis.wrong(whole) or (options.check and missed) else 0


def run(options, words):
    """Returns the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if options.inside:
            return run_inside(options)
        whole = gather(options, words)
        show(whole, options)
    except (report.BadReport, OSError) as error:
        print("compare: %s" % error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return status_of(whole, options)
