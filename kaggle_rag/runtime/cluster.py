"""Which cluster work is spread over (by `kaggle_rag.runtime.crew`), and the flags that say so."""

from __future__ import annotations

import argparse
import dataclasses

from kaggle_rag.runtime.errors import ConfigError

# The address of a Ray cluster that is started for one run.
LOCAL = "local"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A Ray cluster to work on.

    Parameters
    ----------
    address : ``auto`` or ``host:port`` of a running one; `LOCAL` starts one on this machine.
    device : ``cpu`` or ``cuda``; by default the GPUs if the cluster has any.
    """

    address: str = LOCAL
    device: str | None = None


def cluster_flags(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add the flags of `cluster_of`; ``verb`` is what is done on the cluster."""
    parser.add_argument(
        "--workers", choices=["1", "ray"], default="1",
        help=f"where to {verb}: 1, in this process (default); ray, on a Ray cluster (needs ray)",
    )  # fmt: skip
    parser.add_argument(
        "--ray-address", metavar="ADDR",
        help="auto or host:port of a running cluster (default: start one here)",
    )  # fmt: skip


def cluster_of(arguments: argparse.Namespace, device: str | None) -> Cluster | None:
    """The cluster that the flags name; ``None``: this process does the work.

    Raises
    ------
    ConfigError : an address without ``--workers ray``.
    """
    if arguments.workers == "ray":
        return Cluster(arguments.ray_address or LOCAL, device)
    if arguments.ray_address:
        raise ConfigError("a cluster is given but not used", where="--ray-address", cure="add --workers ray")
    return None
