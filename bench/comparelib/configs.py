# SPDX-License-Identifier: Apache-2.0
"""What is compared where: configurations, and how each library is started in them."""
import os
from dataclasses import dataclass

CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Config:
    """Where ranks live and what joins them."""

    name: str
    nranks: int
    hosts: int = 1  # network namespaces
    tcp: bool = False  # ranks of one host use TCP too
    gbit: int = 0  # of the link between hosts, 0: as fast as it goes
    about: str = ""

    @property
    def bound(self):
        """Does rank r have core r for itself?"""
        return self.nranks <= CORES

    @property
    def network(self):
        """Does anything go over TCP?"""
        return self.tcp or self.hosts > 1


def _hosts(per_host, gbit):
    name = "hosts%d%s" % (per_host, "-%dg" % gbit if gbit else "")
    speed = "shaped to %d Gbit/s" % gbit if gbit else "unshaped"
    return Config(name, 2 * per_host, hosts=2, gbit=gbit,
                  about="two hosts (namespaces), %d rank%s each, %s" % (per_host, "s" * (per_host > 1), speed))


CONFIGS = {
    config.name: config
    for config in (
        Config("shm2", 2, about="one host, 2 ranks"),
        Config("shm4", 4, about="one host, 4 ranks"),
        Config("shm8", 8, about="one host, 8 ranks"),
        Config("tcp2", 2, tcp=True, about="one host, 2 ranks, TCP over loopback"),
        _hosts(1, 0), _hosts(1, 10), _hosts(1, 1),
        _hosts(2, 0), _hosts(2, 10), _hosts(2, 1),
    )
}

# series of Medley: name -> kind of buffers
MEDLEY = {"medley": "ordinary", "medley-mem": "registered"}
PEERS = ("ompi", "ompi-ucx", "ompi-han", "mpich", "gloo")


class Refused(Exception):
    """A peer has no place in a configuration; the text says why."""


def _direct(config, worker, environment):
    """One process per rank, started from here."""
    bind = {"COMPARE_BIND": "1"} if config.bound else {}
    commands = []
    for rank in range(config.nranks):
        extra = dict(environment, COMPARE_RANK=str(rank), COMPARE_NRANKS=str(config.nranks), **bind)
        commands.append(([worker], extra))
    return commands


def _medley(config, worker, _folder):
    environment = {"MEDLEY_DEBUG": "WARN"}
    if config.tcp:
        environment["MEDLEY_TRANSPORT"] = "tcp"
    return _direct(config, worker, environment)


def _openmpi(config, worker, *mca):
    command = ["mpirun.openmpi", "--oversubscribe", "-n", str(config.nranks)]
    if config.bound:
        command += ["--bind-to", "core"]
    else:
        command += ["--bind-to", "none", "--mca", "mpi_yield_when_idle", "1"]
    for name, value in mca:
        command += ["--mca", name, value]
    environment = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    if config.bound:
        environment["COMPARE_BIND"] = "1"
    return [(command + [worker], environment)]


def _ompi(config, worker, _folder):
    return _openmpi(config, worker, ("pml", "ob1"), ("btl", "tcp,self" if config.tcp else "vader,self"))


START = {"medley": _medley, "ompi": _ompi}


def start_commands(name, config, worker, folder):
    """List of (command, environment) that start a library's ranks. Raises Refused."""
    if name not in START:
        raise Refused("not written yet")
    return START[name](config, worker, folder)
