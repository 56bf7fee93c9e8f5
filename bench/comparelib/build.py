# SPDX-License-Identifier: Apache-2.0
"""Makes the workers: one program per library, from the same driver."""
import os
import subprocess

COMMON = ["-D_GNU_SOURCE", "-O2", "-g"]
DRIVER = ["worker.c", "pattern.c"]
WORKER_OF = {"medley": "medley", "ompi": "openmpi", "ompi-ucx": "openmpi", "ompi-han": "openmpi", "mpich": "mpich"}


class CannotBuild(Exception):
    """A worker cannot be made; the text says why."""


def build_command(worker, top, build, out):
    """The compiler's command line."""
    peers = os.path.join(top, "bench", "peers")
    sources = [os.path.join(peers, name) for name in DRIVER]
    if worker == "medley":
        libraries = os.path.join(build, ".libs")
        return ["gcc", "-std=c11", *COMMON, "-I" + os.path.join(top, "include"), *sources,
                os.path.join(peers, "backend_medley.c"), "-o", out, "-L" + libraries, "-Wl,-rpath," + libraries,
                "-lmedley"]
    return ["mpicc." + worker, "-std=c11", *COMMON, *sources, os.path.join(peers, "backend_mpi.c"), "-o", out]


def build_worker(name, top, build, folder):
    """Path of the worker for a library."""
    worker = WORKER_OF[name]
    out = os.path.join(folder, "worker-" + worker)
    if os.path.exists(out):
        return out
    try:
        done = subprocess.run(build_command(worker, top, build, out), capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotBuild(str(error)) from error
    if done.returncode:
        raise CannotBuild(done.stderr.strip()[-300:])
    return out
