"""Writes docs/settings.md and docs/cli.md from the settings' models and the commands themselves.

`scripts/reference` writes both; `scripts/reference --check` says which is stale and ends with 1.
"""

import ast
import inspect
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from typer.main import get_command

from embedllm_router.cli.main import app
from embedllm_router.config.settings import RouterSettings
from embedllm_router.config.virtual_model import VirtualModelSettings

DOCS = Path(__file__).parents[1] / "docs"
SHARED_BY = 3
"""An option that so many commands have is described once."""

SETTINGS_INTRO = """# Settings

Every setting under `callback_settings.embedllm_router`. This page is written by `scripts/reference` from the code;
[configuration](configuration.md) explains how the settings work together.

An environment variable overrides the file: `EMBEDLLM_ROUTER_STORE__PATH` is `store.path`, with two underscores between
nested names. A value may be `os.environ/NAME`. An unknown name, a wrong type or a value out of range stops
`embedllm-router serve` with one sentence that names the setting.
"""
CLI_INTRO = """# Commands

Every command of `embedllm-router`. This page is written by `scripts/reference` from the code; `--help` after a command
prints the same. Results go to stdout, messages to stderr. Exit codes: 0 done, 1 failed, 2 the command or its input is
wrong.
"""


@dataclass(frozen=True, slots=True)
class Group:
    """A group of settings.

    Attributes:
        path: Dotted name of the group; empty for the top.
        model: The class that holds the settings.
    """

    path: str
    model: type[BaseModel]


def settings_page() -> str:
    """Markdown of every setting."""
    return "\n".join([SETTINGS_INTRO, *(_group_section(group) for group in _groups("", RouterSettings))])


def _groups(path: str, model: type[BaseModel]) -> Iterator[Group]:
    yield Group(path, model)
    for name, field in model.model_fields.items():
        if (inner := _inner_model(field)) and (name in _own_fields(model) or path.count(".") < 1):
            yield from _groups(_join(path, name) + (".NAME" if _is_mapping(field) else ""), inner)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _is_mapping(field: FieldInfo) -> bool:
    return getattr(field.annotation, "__origin__", None) is dict


def _inner_model(field: FieldInfo) -> type[BaseModel] | None:
    found = [field.annotation]
    while found:
        one = found.pop()
        if inspect.isclass(one) and issubclass(one, BaseModel):
            return one
        found.extend(get_args(one))
    return None


def _own_fields(model: type[BaseModel]) -> list[str]:
    return [name for name in model.model_fields if name in model.__annotations__]


def _group_section(group: Group) -> str:
    objective = [name for name in group.model.model_fields if name not in _own_fields(group.model)]
    listed = list(group.model.model_fields) if group.model is VirtualModelSettings else _own_fields(group.model)
    rows = [_setting_row(group, name) for name in listed]
    title = f"`{group.path}`" if group.path else "Top level"
    lines = [f"## {title}", "", _first_paragraph(group.model), ""]
    lines += ["| setting | value | default | meaning |", "|---|---|---|---|", *rows, ""]
    if objective and group.model is not VirtualModelSettings:
        lines += [f"Also, with the meanings above: {', '.join(f'`{name}`' for name in objective)}.", ""]
    return "\n".join(lines)


def _setting_row(group: Group, name: str) -> str:
    field = group.model.model_fields[name]
    meaning = _unset(_docstrings(group.model).get(name, "")) + _former_names(group.model, name)
    value = _group_link(field) if _inner_model(field) else _value(_schema(group.model, name))
    return _row(f"`{name}`", value, _default(field), meaning)


def _unset(meaning: str) -> str:
    """A docstring for readers of YAML: there, None is a setting that is left out."""
    said = re.sub(r"(^|[.] )None (?=[a-z]+s\b)", r"\1Unset ", meaning)
    return re.sub(r"\bNone (?=[a-z]+s\b)", "unset ", said)


def _group_link(field: FieldInfo) -> str:
    kind = str(getattr(field.annotation, "__origin__", None))
    return {str(dict): "groups by name", str(tuple): "list of groups"}.get(kind, "group")


def _former_names(model: type[BaseModel], name: str) -> str:
    old_names: Mapping[str, str] = getattr(model, "old_names", {})
    former = [f"`{old}`" for old, new in old_names.items() if new == name]
    return f" Formerly {', '.join(former)}, which still works and warns." if former else ""


@cache
def _docstrings(model: type[BaseModel]) -> Mapping[str, str]:
    """Attribute docstrings by field, inherited ones included."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if issubclass(cls, BaseModel) and cls.__module__.startswith("embedllm_router"):
            (tree,) = ast.parse(dedent(inspect.getsource(cls))).body
            found |= dict(_documented(tree.body if isinstance(tree, ast.ClassDef) else []))
    return found


def _documented(statements: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, text in pairwise(statements):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            yield ast.unparse(field.target), " ".join(str(text.value.value).split())


def _schema(model: type[BaseModel], name: str) -> dict[str, Any]:
    whole = TypeAdapter(model).json_schema(by_alias=False)
    found: dict[str, Any] = whole["properties"][name]
    return _resolved(found, whole.get("$defs", {}))


def _resolved(schema: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return dict(definitions[schema["$ref"].rsplit("/", 1)[-1]])
    if "items" in schema:
        return schema | {"items": _resolved(schema["items"], definitions)}
    if "anyOf" in schema:
        return schema | {"anyOf": [_resolved(one, definitions) for one in schema["anyOf"]]}
    return schema


def _value(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a few plain words."""
    if "anyOf" in schema:
        return " or ".join(_value(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_value(schema.get('items', {}))}"
    if kind in {"number", "integer"}:
        return "number" + _bounds(schema) if kind == "number" else "whole number" + _bounds(schema)
    words = {"boolean": "`true`, `false`", "string": _text(schema), "object": "mapping"}
    return words.get(kind, kind)


def _text(schema: Mapping[str, Any]) -> str:
    return {"password": "text, never shown", "path": "path"}.get(str(schema.get("format")), "text")


def _bounds(schema: Mapping[str, Any]) -> str:
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    found = [f"{word} {_number(schema[key])}" for key, word in words.items() if key in schema]
    return f", {', '.join(found)}" if found else ""


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=False)
    if default is None or default == () or isinstance(default, BaseModel):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return "all fields" if len(default) > 1 else f"`{default[0]}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{getattr(default, 'value', default)}`"


def cli_page() -> str:
    """Markdown of every command."""
    commands = list(_commands(get_command(app), "embedllm-router"))
    counts = Counter(_option_row(option) for _, command in commands for option in _options(command))
    shared = _shared_rows(counts)
    sections = [_command_section(name, command, shared) for name, command in commands]
    table = ["## Shared options", "", *_options_table(shared)]
    return "\n".join([CLI_INTRO, *sections, *table])


def _shared_rows(counts: Mapping[str, int]) -> list[str]:
    """Rows of options that many commands have; of two meanings of one name only the more frequent."""
    by_name: dict[str, str] = {}
    for row, n in counts.items():
        name = row.split(" | ")[0]
        if n >= SHARED_BY and n > counts.get(by_name.get(name, ""), 0):
            by_name[name] = row
    return list(by_name.values())


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        if getattr(inner, "commands", None):
            yield from _commands(inner, f"{path} {name}")
        elif not inner.hidden:
            yield f"{path} {name}", inner


def _options(command: Any) -> list[Any]:
    return [option for option in command.params if not getattr(option, "hidden", False)]


def _command_section(name: str, command: Any, shared: Sequence[str]) -> str:
    options = _options(command)
    arguments = " ".join(_argument(option) for option in options if option.param_type_name == "argument")
    own = [_option_row(option) for option in options if _option_row(option) not in shared]
    common = [_names(option)[-1] for option in options if _option_row(option) in shared]
    lines = [f"## `{f'{name} {arguments}'.strip()}`", "", inspect.cleandoc(command.help or ""), ""]
    lines += _options_table(own) if own else []
    lines += [f"[Shared options](#shared-options): {', '.join(f'`{one}`' for one in common)}.", ""] if common else []
    return "\n".join(lines)


def _options_table(rows: Sequence[str]) -> list[str]:
    return ["| option | value | default | meaning |", "|---|---|---|---|", *rows, ""]


def _argument(option: Any) -> str:
    name = str(option.name).upper() + ("..." if option.nargs == -1 else "")
    return name if option.required else f"[{name}]"


def _names(option: Any) -> list[str]:
    if option.param_type_name == "argument":
        return [str(option.name).upper()]
    return [*option.opts, *option.secondary_opts]


def _option_row(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in _names(option))
    kind = _kind(option.type_descriptor.annotation) + (", repeatable" if option.multiple else "")
    return _row(names, kind, _cli_default(option), option.help or "")


def _kind(annotation: Any) -> str:
    """A Python type in a plain word."""
    if inner := [one for one in get_args(annotation) if one is not type(None)]:
        literals = [f"`{one}`" for one in inner if isinstance(one, str)]
        return ", ".join(literals) or _kind(inner[0])
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return ", ".join(f"`{one.value}`" for one in annotation)
    words = {bool: "flag", int: "whole number", float: "number", str: "text", Path: "path"}
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())


def _cli_default(option: Any) -> str:
    default = option.default
    if option.required:
        return "required"
    if default is None or default in ((), [], False) or callable(default) or "Sentinel" in type(default).__name__:
        return ""
    shown = getattr(default, "value", default)
    return f"`{shown:g}`" if isinstance(shown, float) else f"`{shown}`"


def _row(*cells: str) -> str:
    return f"| {' | '.join(' '.join(cell.replace('|', chr(92) + '|').split()) for cell in cells)} |"


def _first_paragraph(model: type[BaseModel]) -> str:
    return " ".join((inspect.getdoc(model) or "").split("\n\n")[0].split())


def main(arguments: Sequence[str]) -> int:
    """Writes the pages, or with `--check` names the stale ones; the exit code."""
    pages = {"settings.md": settings_page(), "cli.md": cli_page()}
    stale = [name for name, text in pages.items() if not _is(DOCS / name, text)]
    if "--check" in arguments:
        print(*(f"docs/{name} is stale; run scripts/reference" for name in stale), sep="\n")
        return int(bool(stale))
    for name in stale:
        (DOCS / name).write_text(pages[name], encoding="utf-8")
        print(f"wrote docs/{name}")
    return 0


def _is(file: Path, text: str) -> bool:
    return file.exists() and file.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
