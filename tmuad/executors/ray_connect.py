"""To a cluster, or an error that says what is wrong with it, and in good time: Ray itself tries for two minutes, then exits."""

import logging
import os
import socket
from pathlib import Path
from typing import Any

import tmuad
from tmuad.config_models import RayParams
from tmuad.errors import ClusterError

log = logging.getLogger(__name__)

LOCAL_STORE = 512 * 2**20  # bytes of the object store of a cluster of our own
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "1"}  # it must not phone home
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # of HTTP/2, with no settings
SETTINGS = 4  # type of the frame that every gRPC server answers it with


def connect(params: RayParams) -> Any:
    """The module `ray`, connected.

    Raises:
        ClusterError: Ray is not installed, or nothing at the address is a Ray cluster that this machine is part of.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ClusterError(
            f"executor: ray needs Ray ({error}); pip install 'tmuad[ray]', or set executor: local"
        ) from None
    address = params.address or os.environ.get("RAY_ADDRESS") or "local"
    source = "ray.address" if params.address else "RAY_ADDRESS"
    if address == "local":
        # Its workers are to find this very code.
        paths = [str(Path(tmuad.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        options: dict[str, Any] = {"include_dashboard": False, "object_store_memory": LOCAL_STORE}
    else:
        if address != "auto":
            _probe(address, source, params.timeout)
        options = {}
    try:
        ray.init(address, logging_level=logging.WARNING, **options)
    except (Exception, SystemExit) as error:  # Ray leaves the process where it cannot connect
        raise ClusterError(
            f"{source}: {address}: no connection ({error}); this machine must be a node of the cluster: "
            f"ray start --address HOST:PORT --num-cpus 0"
        ) from None
    return ray


def _probe(address: str, source: str, timeout: float) -> None:
    """Whether a gRPC server answers there."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise ClusterError(
            f"{source}: {address!r} is no HOST:PORT; give the address that `ray start --head` prints, or auto"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=min(timeout, 10)) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return  # what speaks TLS does not answer a plain greeting
            connection.settimeout(timeout)
            connection.sendall(PREFACE)
            answer = connection.recv(9, socket.MSG_WAITALL)
    except OSError as error:
        raise ClusterError(
            f"{source}: {address}: no Ray cluster can be reached ({error}); start one with `ray start --head`, "
            "give its address, or set executor: local"
        ) from None
    if len(answer) < 9 or answer[3] != SETTINGS:
        raise ClusterError(f"{source}: {address}: something else than a Ray cluster listens there; check the port")
