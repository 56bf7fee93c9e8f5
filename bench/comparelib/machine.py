# SPDX-License-Identifier: Apache-2.0
"""Facts about the machine, for the report."""
import os
import platform
import re
import subprocess


def _read(path):
    try:
        with open(path, encoding="utf-8") as source:
            return source.read().strip()
    except OSError:
        return ""


def _cpu_model():
    found = re.search(r"^model name\s*: (.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return found.group(1) if found else platform.machine()


def _caches():
    """{"L1d": "32K", ...} of core 0."""
    folder = "/sys/devices/system/cpu/cpu0/cache"
    caches = {}
    for index in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        path = os.path.join(folder, index)
        kind = {"Data": "d", "Instruction": "i"}.get(_read(path + "/type"), "")
        level = _read(path + "/level")
        if level:
            caches["L%s%s" % (level, kind)] = _read(path + "/size")
    return caches


def _extensions():
    """The widest vector units."""
    flags = set((re.search(r"^flags\s*: (.*)$", _read("/proc/cpuinfo"), re.MULTILINE) or [0, ""])[1].split())
    return [name for name in ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile") if name in flags]


def facts():
    """What the report says of this machine."""
    memory = re.search(r"MemTotal:\s*(\d+)", _read("/proc/meminfo"))
    huge = re.search(r"\[(\w+)\]", _read("/sys/kernel/mm/transparent_hugepage/enabled"))
    system = re.search(r'^PRETTY_NAME="?([^"\n]*)', _read("/etc/os-release"), re.MULTILINE)
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "caches": _caches(),
        "extensions": _extensions(),
        "memory_gib": round(int(memory.group(1)) / (1 << 20), 1) if memory else None,
        "huge_pages": huge.group(1) if huge else None,
        "kernel": platform.release(),
        "system": system.group(1) if system else platform.system(),
    }


def commit(top):
    """Which state of the sources this is; empty if they are not in git."""
    if not os.path.exists(os.path.join(top, ".git")):
        return ""
    try:
        done = subprocess.run(["git", "-C", top, "describe", "--always", "--dirty"], capture_output=True, text=True,
                              check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def name(machine):
    """A name for files: amd-epyc-2-cores"""
    words = re.sub(r"\(.*?\)|CPU|Processor|@.*", " ", machine["cpu"])
    return re.sub(r"[^a-z0-9]+", "-", ("%s %d cores" % (words, machine["cores"])).lower()).strip("-")


def free_memory():
    """Bytes that can be had."""
    found = re.search(r"MemAvailable:\s*(\d+)", _read("/proc/meminfo"))
    return int(found.group(1)) << 10 if found else 1 << 40
