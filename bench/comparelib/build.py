# SPDX-License-Identifier: Apache-2.0
"""Makes the workers: one program per library, from the same driver; installs peers that are missing."""
import os
import re
import shutil
import subprocess

OPTIMISED = ["-D_GNU_SOURCE", "-O3", "-march=native", "-g"]
DRIVER = ["worker.c", "pattern.c"]

# worker: what tells that the library is there, Debian's packages
NEEDS = {
    "medley": ("/", []),
    "openmpi": ("mpicc.openmpi", ["openmpi-bin", "libopenmpi-dev"]),
    "mpich": ("mpicc.mpich", ["mpich", "libmpich-dev"]),
    "pump": ("/", []),
    "gloo": ("/usr/include/gloo/allreduce.h", ["libgloo-dev", "g++"]),
}
WORKER_OF = {"medley": "medley", "ompi": "openmpi", "ompi-ucx": "openmpi", "ompi-han": "openmpi", "mpich": "mpich",
             "gloo": "gloo", "pump": "pump"}


class CannotBuild(Exception):
    """A worker cannot be made; the text says why."""


def _is_there(worker):
    probe = NEEDS[worker][0]
    return os.path.exists(probe) if probe.startswith("/") else shutil.which(probe) is not None


def _rights():
    """What to put before apt-get, None if nothing may be installed."""
    if not shutil.which("apt-get"):
        return None
    if os.geteuid() == 0:
        return []
    if not shutil.which("sudo"):
        return None
    allowed = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
    return ["sudo", "-n"] if allowed else None


def install_peers(names):
    """Installs Debian's packages of the libraries that are missing; says what it cannot do."""
    missing = set() if os.environ.get("MDL_NO_SETUP") else {
        package for name in names if not _is_there(WORKER_OF[name]) for package in NEEDS[WORKER_OF[name]][1]}
    if not missing:
        return
    rights = _rights()
    if rights is None:
        print("not installed: for all peers, sudo apt-get install %s" % " ".join(sorted(missing)))
        return
    print("installing %s" % " ".join(sorted(missing)), flush=True)
    subprocess.run(rights + ["apt-get", "update", "-qq"], capture_output=True, check=False)
    subprocess.run(rights + ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq",
                             "--no-install-recommends", *sorted(missing)], capture_output=True, check=False)


def _compiler():
    return next((name for name in ("gcc", "cc", "clang") if shutil.which(name)), "gcc")


def _link_medley(build):
    """Words that link what is in the build tree, shared or static."""
    folder = os.path.join(build, ".libs")
    if os.path.exists(os.path.join(folder, "libmedley.so")):
        return ["-L" + folder, "-Wl,-rpath," + folder, "-lmedley"]
    with open(os.path.join(build, "libmedley.la"), encoding="utf-8") as source:
        needed = re.search(r"^dependency_libs='(.*)'", source.read(), re.MULTILINE)
    return [os.path.join(folder, "libmedley.a"), *(needed.group(1).split() if needed else []), "-lpthread"]


def _commands(worker, top, build, out):
    """The compiler's command lines."""
    peers = os.path.join(top, "bench", "peers")
    sources = [os.path.join(peers, name) for name in DRIVER]
    compiler = ["mpicc." + worker if worker in ("openmpi", "mpich") else _compiler(), "-std=c11", *OPTIMISED]
    if worker == "medley":
        return [compiler + ["-I" + os.path.join(top, "include"), *sources, os.path.join(peers, "backend_medley.c"),
                            "-o", out, *_link_medley(build)]]
    if worker == "gloo":
        objects = [out + "-" + name + ".o" for name in DRIVER]
        made = [compiler + ["-c", source, "-o", made] for source, made in zip(sources, objects)]
        return made + [["g++", "-std=c++17", *OPTIMISED, os.path.join(peers, "backend_gloo.cc"), *objects, "-o", out,
                        "-lgloo"]]
    backend = "backend_pump.c" if worker == "pump" else "backend_mpi.c"
    return [compiler + [*sources, os.path.join(peers, backend), "-o", out]]


def _is_fresh(out, folder):
    """Is it younger than all sources?"""
    if not os.path.exists(out):
        return False
    made = os.path.getmtime(out)
    return all(os.path.getmtime(os.path.join(folder, name)) < made for name in os.listdir(folder)
               if name.endswith((".c", ".cc", ".h")))


def build_worker(name, top, build):
    """Path of the worker for a library, in the build tree; made if it is older than its sources."""
    worker = WORKER_OF[name]
    folder = os.path.join(build, "bench", "peers")
    os.makedirs(folder, exist_ok=True)
    out = os.path.join(folder, "worker-" + worker)
    if _is_fresh(out, os.path.join(top, "bench", "peers")):
        return out
    if worker == "medley" and not os.path.exists(os.path.join(build, "libmedley.la")):
        raise CannotBuild("%s has no libmedley.la: make it first, or name the build tree with --build" % build)
    if not _is_there(worker):
        raise CannotBuild("not installed (Debian: %s)" % ", ".join(NEEDS[worker][1]))
    for command in _commands(worker, top, build, out):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise CannotBuild(str(error)) from error
        if done.returncode:
            raise CannotBuild("it cannot be compiled: " + " / ".join(done.stderr.strip().splitlines()[-3:])[-300:])
    return out
