"""The settings of a Mulligan installation: eleven in all, each given by flag, environment or `mulligan.toml`."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mulligan.errors import InvalidArgument

ENVIRONMENT_PREFIX = "MULLIGAN_"
SETTINGS_FILE = "mulligan.toml"
LOG_LEVELS = ("debug", "info", "warning", "error")


def default_state_dir() -> Path:
    """`$XDG_STATE_HOME/mulligan`, by default `~/.local/state/mulligan`."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "mulligan"


def _setting(default: Any, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator can choose. An empty address means: run an embedded one on this host."""

    state_dir: Path = _setting(
        Path(), "Folder for all state and secrets. Change it to run a second system on this host."
    )
    etcd: str = _setting(
        "",
        "host:port[,host:port] of your own etcd, TLS by the CA of tls_dir. For production; empty runs one here.",
    )
    nats: str = _setting("", "URL of your own NATS with JetStream. Give it for production; empty runs one here.")
    postgres: str = _setting("", "DSN of your own PostgreSQL database. Give it for production; empty runs one here.")
    ray: str = _setting("", "host:port of a running Ray head: your own or the first host's. Empty runs one here.")
    listen: str = _setting("127.0.0.1", "Address that gateways bind. 0.0.0.0 to serve other hosts.")
    port: int = _setting(7400, "First of five ports: iam, meta, resource, control, boot. 0 takes free ones.")
    advertise: str = _setting("", "Host name or address that clients reach this host by. Empty: as listen.")
    tls_dir: str = _setting(
        "", "Folder with your own ca.crt, server.crt and server.key. Empty: a CA of its own, made at bootstrap."
    )
    executors: int = _setting(1, "Executors on this host. More when the queue grows; each takes about 100 MB.")
    log_level: str = _setting("info", "debug, info, warning or error, until a Configure call says otherwise.")

    @property
    def advertised_host(self) -> str:
        """What clients are told."""
        return self.advertise or self.listen


def load_settings(flags: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Settings:
    """Merges flags over environment over `mulligan.toml` in the state directory over defaults.

    Flags that are None were not given. Raises InvalidArgument for an unknown or malformed setting.
    """
    environment = os.environ if environment is None else environment
    given = {name: value for name, value in flags.items() if value is not None}
    from_environment = {
        setting.name: environment[ENVIRONMENT_PREFIX + setting.name.upper()]
        for setting in fields(Settings)
        if environment.get(ENVIRONMENT_PREFIX + setting.name.upper())
    }
    state_dir = Path(given.get("state_dir") or from_environment.get("state_dir") or default_state_dir()).absolute()
    merged = {**_read_file(state_dir / SETTINGS_FILE), **from_environment, **given, "state_dir": state_dir}
    return _validated(merged)


def stored_settings(state_dir: Path) -> Settings:
    """What `mulligan.toml` in the state directory says by itself, over the defaults."""
    return load_settings({"state_dir": state_dir}, environment={})


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment that gives no setting, so that the file decides."""
    ours = {ENVIRONMENT_PREFIX + setting.name.upper() for setting in fields(Settings)}
    return {name: value for name, value in environment.items() if name not in ours}


def _read_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path} is not valid TOML ({error}); mend or remove it") from None
    if isinstance(found.get("tls_dir"), str) and found["tls_dir"]:
        found["tls_dir"] = str(path.parent / found["tls_dir"])
    return found


def _validated(values: Mapping[str, Any]) -> Settings:
    known = {setting.name: setting for setting in fields(Settings)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InvalidArgument(f"unknown setting {unknown[0]!r}; known are {', '.join(known)}", field=unknown[0])
    settings = Settings(**{name: _converted(name, value) for name, value in values.items()})
    if settings.log_level not in LOG_LEVELS:
        raise InvalidArgument(f"log_level must be one of {', '.join(LOG_LEVELS)}", field="log_level")
    if not 0 <= settings.port <= 65_530:
        raise InvalidArgument("port must lie between 0 and 65530: five ports follow it", field="port")
    if not 1 <= settings.executors <= 64:
        raise InvalidArgument("executors must lie between 1 and 64", field="executors")
    return settings


def _converted(name: str, value: Any) -> Any:
    if name == "state_dir":
        return Path(value)
    if name not in ("port", "executors"):
        return _text(name, value)
    try:
        if isinstance(value, bool | float):
            raise ValueError
        return int(value)
    except (TypeError, ValueError):
        raise InvalidArgument(f"{name} must be a whole number, not {value!r}", field=name) from None


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str | Path):
        raise InvalidArgument(f"{name} must be text in quotes, not {value!r}", field=name)
    # Processes that do not work in the caller's folder read it too.
    return str(Path(value).absolute()) if name == "tls_dir" and value else str(value)
