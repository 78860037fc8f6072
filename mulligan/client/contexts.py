"""Contexts: the systems that this user works with, in `$XDG_CONFIG_HOME/mulligan/client.yaml` (mode 0600).

    version: 1
    current: local
    contexts:
      local:
        addresses: [127.0.0.1:7400, 127.0.0.1:7401]   # any gateways; one that answers is enough
        ca_file: /home/ada/.local/state/mulligan/tls/ca.crt
        account: ada                                   # who `mulligan login` asks for
        credential_file: ""                            # JSON {"account", "secret"} to log in with, unasked
        project: lab                                   # the project to act in
        region: east                                   # where commands look that are given no --region

It holds no secret. Tokens are kept apart from it, in `$XDG_CACHE_HOME/mulligan/tokens/<context>.json` (mode 0600).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from mulligan.client._config import Credentials
from mulligan.config import Settings
from mulligan.errors import InvalidArgument, NotFound
from mulligan.files import locked, make_private_directory, write_private

VERSION = 1

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Context:
    """How one system is reached, and as whom. `client.yaml` describes the fields."""

    addresses: tuple[str, ...]
    ca_file: str = ""
    account: str = ""
    credential_file: str = ""
    project: str = ""
    region: str = ""

    def credentials(self) -> Credentials:
        """What the credential file holds, read now; raises InvalidArgument when it cannot be used."""
        try:
            found = json.loads(Path(self.credential_file).read_text())
            return Credentials(found["account"], found["secret"], self.project)
        except OSError as error:
            why = error.strerror or str(error)
        except (ValueError, KeyError, TypeError):
            why = 'it must be JSON {"account": …, "secret": …}'
        raise InvalidArgument(f"cannot log in with {self.credential_file}: {why}; or give another credential_file")


@dataclass(frozen=True, slots=True)
class Contexts:
    """What `client.yaml` holds."""

    current: str = ""
    contexts: Mapping[str, Context] = field(default_factory=dict)

    def get(self, name: str = "") -> Context:
        """The context of that name, or the current one; raises NotFound with what to do."""
        wanted = name or self.current
        if not wanted:
            raise NotFound(
                "no context is chosen; run `mulligan bootstrap` for a system on this host, "
                "or `mulligan context set NAME --address HOST:PORT --ca-file FILE` for another one"
            )
        if wanted not in self.contexts:
            known = ", ".join(sorted(self.contexts)) or "none"
            raise NotFound(f"there is no context {wanted!r}; known are: {known}")
        return self.contexts[wanted]

    def with_context(self, name: str, context: Context, *, make_current: bool) -> Contexts:
        """The same with one context added or replaced; the first one becomes the current one."""
        current = name if make_current or not self.current else self.current
        return Contexts(current, {**self.contexts, name: context})

    def without(self, name: str) -> Contexts:
        """The same without one context."""
        self.get(name)
        left = {other: context for other, context in self.contexts.items() if other != name}
        return Contexts("" if self.current == name else self.current, left)


def default_path() -> Path:
    """`$XDG_CONFIG_HOME/mulligan/client.yaml`, by default below `~/.config`."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "mulligan" / "client.yaml"


def load(path: Path | None = None) -> Contexts:
    """Reads the file; without one there are no contexts. Raises InvalidArgument when it is malformed."""
    path = path or default_path()
    try:
        text = path.read_text()
    except FileNotFoundError:
        return Contexts()
    try:
        return _parse(yaml.safe_load(text) or {})
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise InvalidArgument(f"{path}: {error}; mend the file, or remove it and set contexts anew") from None


def save(contexts: Contexts, path: Path | None = None) -> None:
    """Writes the file, for its owner alone."""
    path = path or default_path()
    make_private_directory(path.parent)
    document = {
        "version": VERSION,
        "current": contexts.current,
        "contexts": {
            name: {**asdict(context), "addresses": list(context.addresses)}
            for name, context in contexts.contexts.items()
        },
    }
    write_private(path, yaml.safe_dump(document, sort_keys=False).encode())


def set_context(name: str, context: Context, *, make_current: bool = False, path: Path | None = None) -> None:
    """Adds or replaces one context in the file."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument("a context's name is made of letters, digits, dots, dashes and underscores", field="name")
    if not context.addresses:
        raise InvalidArgument("a context needs at least one address, such as 127.0.0.1:7400", field="addresses")
    path = path or default_path()
    make_private_directory(path.parent)
    with locked(path.with_suffix(".lock")):
        save(load(path).with_context(name, context, make_current=make_current), path)


def write_local_context(settings: Settings, addresses: Sequence[str], path: Path | None = None) -> None:
    """Makes the system of these settings the current context, "local": its gateways, CA and first administrator.

    The administrator's secret stays where it is: the context names the file, on the host that has it. A project and
    region that were set for the administrator stay.
    """
    name = "local"
    tls_dir = Path(settings.tls_dir) if settings.tls_dir else settings.state_dir / "tls"
    secret = settings.state_dir / "secrets" / "admin.json"
    context = Context(
        addresses=tuple(addresses),
        ca_file=str(tls_dir / "ca.crt"),
        account="admin",
        credential_file=str(secret) if secret.exists() else "",
    )
    before = load(path).contexts.get(name)
    if before and before.account == context.account:
        context = replace(context, project=before.project, region=before.region)
    set_context(name, context, make_current=True, path=path)


def _parse(document: Any) -> Contexts:
    if not isinstance(document, dict) or document.get("version", VERSION) != VERSION:
        raise ValueError(f"it must be a mapping with version: {VERSION}")
    contexts = {str(name): _context(name, values) for name, values in (document.get("contexts") or {}).items()}
    return Contexts(str(document.get("current") or ""), contexts)


def _context(name: object, values: Any) -> Context:
    if not isinstance(values, dict):
        raise ValueError(f"contexts.{name} must be a mapping")
    known = {known.name for known in fields(Context)}
    unknown = sorted(str(key) for key in values.keys() - known)
    if unknown:
        raise ValueError(f"contexts.{name} has an unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    addresses = values.get("addresses") or []
    if not isinstance(addresses, list) or not addresses:
        raise ValueError(f"contexts.{name}.addresses must be a list of host:port")
    texts = {key: str(value or "") for key, value in values.items() if key != "addresses"}
    return Context(addresses=tuple(str(address) for address in addresses), **texts)
