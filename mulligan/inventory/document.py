"""YAML files with a schema: what is wrong with one is told with its line, its path in the file, and what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from mulligan.errors import InvalidArgument

_MAX_BYTES = 8 << 20

# Aliases can make a small file enormous, or endless.
_MAX_DEPTH = 32
_MAX_VALUES = 500_000

# Keys of mappings and indexes of lists, from the top.
PathTo = tuple[str | int, ...]

_TYPES = {
    "string": "text (put it in quotes if it looks like something else)",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}


@dataclass(frozen=True)
class Document:
    """A file's content, valid by its schema, and the lines that its parts begin at."""

    source: str
    content: Any
    lines: Mapping[PathTo, int]

    def refusal(self, path: PathTo, why: str) -> InvalidArgument:
        """The error that names the file, the line and the path."""
        line = next((self.lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.lines), 1)
        field = show_path(path)
        return InvalidArgument(f"{self.source}, line {line}: {field + ': ' if field else ''}{why}", field=field or None)


def read_text(path: Path) -> str:
    """The file's text; raises InvalidArgument when it cannot be read."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InvalidArgument(f"{path} has more than {_MAX_BYTES >> 20} MiB; split it")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidArgument(f"cannot read {path}: {error.strerror}; give the path of a YAML file") from None
    except UnicodeDecodeError:
        raise InvalidArgument(f"{path} is not UTF-8 text; give a YAML file") from None


def parse_document(text: str, source: str, schema: str) -> Document:
    """Reads YAML and checks it against `<schema>.schema.json`; raises InvalidArgument."""
    lines: dict[PathTo, int] = {}
    try:
        loader = _Loader(text)
        node = _compose(loader, source)
        content = _Builder(loader, source, lines).build(node, ()) if node else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidArgument(f"{source}, line {line}: this is not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise InvalidArgument(f"{source} is not valid YAML: {error}") from None
    document = Document(source, content, lines)
    _check(document, schema)
    return document


def _compose(loader: _Loader, source: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = loader.get_single_node()
    except RecursionError:
        line = loader.get_mark().line + 1
        raise InvalidArgument(f"{source}, line {line}: this nests too deeply; close what is open") from None
    return node


def show_path(path: PathTo) -> str:
    """profiles.small.inventory[cpu.shared].total"""
    shown = ""
    for part in path:
        plain = isinstance(part, str) and "." not in part
        shown += (f".{part}" if shown else str(part)) if plain else f"[{part}]"
    return shown


# JSON takes 1.0 for a whole number; what is made of the file does not.
_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda checker, value: type(value) is int
    ),
)


@cache
def _validator(schema: str) -> Any:
    text = (files("mulligan.inventory") / f"{schema}.schema.json").read_text()
    return _Validator(json.loads(text))


def _check(document: Document, schema: str) -> None:
    errors = sorted(
        _validator(schema).iter_errors(document.content), key=lambda error: [str(part) for part in error.path]
    )
    if errors:
        first = errors[0]
        path = tuple(first.absolute_path)
        more = f" ({len(errors) - 1} more to mend)" if len(errors) > 1 else ""
        raise document.refusal(path, _explain(first) + more)


def _explain(error: Any) -> str:
    """What is wrong and what to do, without the language of JSON Schema."""
    rule, wanted, found = error.validator, error.validator_value, error.instance
    if rule == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(str(key) for key in found if key not in known)
        return f"unknown key {unknown[0]!r}; known are {', '.join(known)}"
    if rule == "required":
        missing = next(key for key in wanted if key not in found)
        return f"{missing} is missing; add it"
    if rule == "type":
        kinds = wanted if isinstance(wanted, list) else [wanted]
        return f"this must be {' or '.join(_TYPES[kind] for kind in kinds)}, not {_show(found)}"
    if rule == "pattern":
        return f"{_show(found)} must be lower-case words joined by dots, such as cpu.x86.avx2"
    explained: str = _RULES[rule](wanted, found) if rule in _RULES else error.message
    return explained


_RULES: dict[str, Any] = {
    "const": lambda wanted, found: f"this must be {wanted}, not {_show(found)}",
    "enum": lambda wanted, found: f"this must be one of {', '.join(wanted)}, not {_show(found)}",
    "minimum": lambda wanted, found: f"this must be at least {wanted}, not {_show(found)}",
    "maximum": lambda wanted, found: f"this must be at most {wanted}, not {_show(found)}",
    "exclusiveMinimum": lambda wanted, found: f"this must be more than {wanted}, not {_show(found)}",
    "minItems": lambda wanted, found: f"this needs at least {wanted} items, not {len(found)}",
    "maxItems": lambda wanted, found: f"this takes at most {wanted} items, not {len(found)}",
    "minProperties": lambda wanted, found: f"this needs at least {wanted} entry; add one or leave it out",
    "minLength": lambda wanted, found: "this must not be empty",
    "maxLength": lambda wanted, found: f"this takes at most {wanted} characters, not {len(found)}",
    "uniqueItems": lambda wanted, found: f"{_show(_repeated(found))} is given twice; give it once",
}


def _repeated(items: Sequence[Any]) -> Any:
    return next(item for index, item in enumerate(items) if item in items[:index])


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


class _Loader(yaml.SafeLoader):
    """YAML without its dates: a time is text here, and is read with its zone."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Builder:
    """Builds plain values and notes their lines; a key that is given twice is refused."""

    def __init__(self, loader: _Loader, source: str, lines: dict[PathTo, int]) -> None:
        self._loader = loader
        self._source = source
        self._lines = lines

    def build(self, node: yaml.Node, path: PathTo) -> Any:
        if len(path) > _MAX_DEPTH or len(self._lines) > _MAX_VALUES:
            raise InvalidArgument(f"{self._source} nests too deeply or repeats itself by aliases; write it out")
        self._lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return self._build_mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._plain(node)

    def _plain(self, node: yaml.Node) -> Any:
        try:
            return self._loader.construct_object(node)
        except (ValueError, LookupError, AttributeError):  # whatever YAML's own constructors stumble over
            line, kind = node.start_mark.line + 1, node.tag.rpartition(":")[2]
            raise InvalidArgument(
                f"{self._source}, line {line}: {_show(node.value)} is no {kind}; write it plainly, or as text in quotes"
            ) from None

    def _build_mapping(self, node: yaml.MappingNode, path: PathTo) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._plain(key_node)
            line = key_node.start_mark.line + 1
            where = f"{self._source}, line {line}"
            if not isinstance(key, str):
                raise InvalidArgument(f"{where}: the key {_show(key)} is not text; put it in quotes")
            if key in built:
                raise InvalidArgument(f"{where}: {show_path((*path, key))} is given twice; give it once")
            built[key] = self.build(value_node, (*path, key))
            self._lines[(*path, key)] = line
        return built
