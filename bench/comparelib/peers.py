# SPDX-License-Identifier: Apache-2.0
"""How each library is started in each configuration. Every choice is the one that serves the peer best here.

All: with as many cores as ranks, rank r has core r (the worker binds itself before its library starts: COMPARE_BIND has
the cores); with more ranks than cores none is bound, and a library that can give up the processor while it waits is
told to.
"""
import atexit
import functools
import os
import tempfile

from .configs import CORES

# series of Medley: name -> kind of buffers
MEDLEY = {"medley": "ordinary", "medley-mem": "registered"}
WHAT = {
    "medley": "Medley, ordinary buffers",
    "medley-mem": "Medley, medleyMemAlloc",
    "ompi": "Open MPI: ob1, vader with CMA, TCP between hosts",
    "ompi-ucx": "Open MPI: pml ucx",
    "ompi-han": "Open MPI: ob1, coll han",
    "mpich": "MPICH: ch4, ucx",
    "gloo": "Gloo: TCP",
    "pump": "limit: bare sockets",
}


class Refused(Exception):
    """A peer has no place in a configuration; the text says why."""


@functools.lru_cache(maxsize=None)
def _flag_file():
    """Where ranks 0 and 1 of a library, one library at a time, learn how far their cores are from each other."""
    with tempfile.NamedTemporaryFile(prefix="compare-flag-", delete=False) as made:
        made.write(bytes(4096))
    atexit.register(os.unlink, made.name)
    return made.name


def _bind(config):
    if not config.bound:
        return {}
    return {"COMPARE_BIND": ",".join(map(str, CORES[:config.nranks])), "COMPARE_FLAG": _flag_file()}


def _direct(config, worker, environment):
    """One process per rank, started from here."""
    commands = []
    for rank in range(config.nranks):
        enter = [os.environ["COMPARE_ENTER"], config.host_of(rank)] if config.hosts > 1 else []
        extra = dict(environment, COMPARE_RANK=str(rank), COMPARE_NRANKS=str(config.nranks),
                     COMPARE_ADDRESS=config.address_of(rank),
                     COMPARE_PARTNER=config.address_of((rank + config.nranks // 2) % config.nranks), **_bind(config))
        commands.append((enter + [worker], extra))
    return commands


def _medley(config, worker, _folder):
    return _direct(config, worker, {"MEDLEY_TRANSPORT": "tcp"} if config.tcp else {})


def _gloo(config, worker, folder):
    store = os.path.join(folder, "gloo-store")
    os.mkdir(store)
    return _direct(config, worker, {"COMPARE_STORE": store})


def _pump(config, worker, folder):
    if not config.network:
        raise Refused("nothing goes over TCP here")
    return _direct(config, worker, {"COMPARE_STORE": folder})


def _on_first_host(config, command):
    """mpirun runs where rank 0 is."""
    return [os.environ["COMPARE_ENTER"], "node1"] + command if config.hosts > 1 else command


def _host_list(config):
    return "node1:%d,node2:%d" % (config.per_host, config.per_host)


def _openmpi(config, worker, mca, environment=None):
    command = ["mpirun.openmpi", "--oversubscribe", "-n", str(config.nranks)]
    # Local rank 0 of each host would be bound to core 0: between hosts the workers bind themselves.
    command += ["--bind-to", "core" if config.bound and config.hosts == 1 else "none"]
    if not config.bound:
        mca = mca + [("mpi_yield_when_idle", "1")]
    if config.hosts > 1:
        command += ["--host", _host_list(config)]
        mca = mca + [("plm_rsh_agent", os.environ["COMPARE_AGENT"]), ("oob_tcp_if_include", "rail0")]
    for name, value in mca:
        command += ["--mca", name, value]
    extra = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", **_bind(config)}
    for name, value in (environment or {}).items():
        extra[name] = value
        command += ["-x", name]
    if config.hosts > 1:
        command += [word for name in _bind(config) for word in ("-x", name)]
        command += ["-x", "COMPARE_SOCKET", "-x", "COMPARE_LIMIT"]
    return [(_on_first_host(config, command + [worker]), extra)]


def _ob1(config):
    """ob1's means: vader (with CMA) inside a host and TCP outside."""
    inside = "" if config.tcp or config.per_host == 1 else "vader,"
    outside = "tcp," if config.tcp or config.hosts > 1 else ""
    mca = [("pml", "ob1"), ("btl", inside + outside + "self")]
    if config.hosts > 1:
        mca.append(("btl_tcp_if_include", "rail0"))
    return mca


def _ompi(config, worker, _folder):
    return _openmpi(config, worker, _ob1(config))


def _ucx_environment(config):
    if config.hosts == 1 and not config.tcp:
        return {}
    inside = ",sm" if config.per_host > 1 and not config.tcp else ""
    return {"UCX_TLS": "tcp,self" + inside, "UCX_NET_DEVICES": "lo" if config.tcp else "rail0"}


def _ompi_ucx(config, worker, _folder):
    mca = [("pml", "ucx"), ("pml_ucx_tls", "any"), ("pml_ucx_devices", "any")]
    return _openmpi(config, worker, mca, _ucx_environment(config))


def _ompi_han(config, worker, _folder):
    if config.hosts == 1:
        raise Refused("han joins hosts: on one host it hands over to what `ompi` runs")
    return _openmpi(config, worker, _ob1(config) + [("coll_han_priority", "100")])


def _mpich(config, worker, _folder):
    command = ["mpirun.mpich", "-n", str(config.nranks)]
    extra = {**_bind(config), **_ucx_environment(config)}
    if not config.bound:
        extra["MPIR_CVAR_POLLS_BEFORE_YIELD"] = "1"
    if config.tcp:
        extra["MPIR_CVAR_NOLOCAL"] = "1"
    if config.hosts > 1:
        command += ["-launcher", "ssh", "-launcher-exec", os.environ["COMPARE_AGENT"], "-iface", "rail0",
                    "-hosts", _host_list(config)]
    elif config.bound:
        command += ["-bind-to", "core"]
    return [(_on_first_host(config, command + [worker]), extra)]


_START = {"medley": _medley, "ompi": _ompi, "ompi-ucx": _ompi_ucx, "ompi-han": _ompi_han, "mpich": _mpich,
          "gloo": _gloo, "pump": _pump}
PEERS = tuple(name for name in _START if name not in ("medley", "pump"))


def start_commands(name, config, worker, folder):
    """List of (command, environment to add) that start a library's ranks. Raises Refused."""
    return _START[name](config, worker, folder)
