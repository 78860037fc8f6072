"""Entry points of the five components: `mulligan-iam`, `-meta`, `-resource`, `-control`, `-executor`."""

from __future__ import annotations

import os
import sys

from cluster.flags import parse_flags
from cluster.places import Places
from cluster.ray_head import ray_environment
from mulligan.config import load_settings
from mulligan.errors import MulliganError

_PROGRAM_OF = {name: f"mulligan-{name}" for name in ("iam", "meta", "resource", "control", "executor")}


def iam() -> None:
    """Keeps the IAM actor and this host's IAM gateway."""
    _main("iam", sys.argv[1:])


def meta() -> None:
    """Keeps the metadata actor and this host's metadata gateway."""
    _main("meta", sys.argv[1:])


def resource() -> None:
    """Keeps the resource shards and this host's resource gateway."""
    _main("resource", sys.argv[1:])


def control() -> None:
    """Keeps control and results shards, and this host's control and boot gateways."""
    _main("control", sys.argv[1:])


def executor() -> None:
    """Keeps this host's executors."""
    _main("executor", sys.argv[1:])


def _main(component: str, arguments: list[str]) -> None:
    try:
        settings = load_settings(parse_flags(_PROGRAM_OF[component], arguments))
        Places(settings.state_dir).make()
        # Ray reads its environment when it is imported, so that comes after.
        os.environ.update(ray_environment(settings))
        from cluster.component import run_component

        run_component(component, settings)
    except (MulliganError, OSError) as error:
        print(f"{_PROGRAM_OF[component]}: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2:])
