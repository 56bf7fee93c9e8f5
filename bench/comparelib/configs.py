# SPDX-License-Identifier: Apache-2.0
"""Where ranks live and what joins them."""
import os
from dataclasses import dataclass

CORES = sorted(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Config:
    """A configuration."""

    name: str
    nranks: int
    hosts: int = 1  # network namespaces
    tcp: bool = False  # ranks of one host use TCP too
    gbit: int = 0  # of the link between hosts, 0: as fast as it goes
    about: str = ""

    @property
    def bound(self):
        """Does rank r have core r for itself?"""
        return self.nranks <= len(CORES)

    @property
    def per_host(self):
        """Ranks of one host."""
        return self.nranks // self.hosts

    @property
    def network(self):
        """Does anything go over TCP?"""
        return self.tcp or self.hosts > 1

    def host_of(self, rank):
        """Ranks fill the first host first."""
        return "node%d" % (1 + rank // self.per_host)

    def address_of(self, rank):
        """Where the rank's host listens."""
        return "127.0.0.1" if self.hosts == 1 else "10.77.0.%d" % (1 + rank // self.per_host)


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
