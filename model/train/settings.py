"""A run's configuration from a YAML file and the command line, which wins."""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from model.command_line import one_line
from model.train.config import TrainConfig
from model.train.errors import TrainError

PROGRAM = "python -m model.train"


class _CommandLine(TrainConfig, BaseSettings):
    """Fine-tune an X-CLIP. Every key of the file can be given here as well, which wins."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    config: Path | None = None
    """YAML file with the configuration of the run."""


def read_config(arguments: Sequence[str]) -> TrainConfig:
    """Read the configuration of a command line; TrainError names the key that is wrong.

    `--help` prints every key with its meaning and default, and exits.
    """
    try:
        source: CliSettingsSource[Any] = CliSettingsSource(
            _CommandLine,
            cli_parse_args=list(arguments),
            cli_exit_on_error=False,
            cli_prog_name=PROGRAM,
            cli_hide_none_type=True,
            cli_avoid_json=True,
            cli_parse_none_str="null",
        )
        given = source()
    except SettingsError as error:
        raise TrainError(_command_mistake(str(error))) from None
    file = given.pop("config", None)
    if file is None and not given:
        raise TrainError(f"no configuration: {PROGRAM} --config FILE (see --help)")
    values = _merged(_read_yaml(Path(file)) if file else {}, given)
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        raise TrainError(_first_mistake(error)) from None


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrainError(f"configuration {file} does not exist") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TrainError(f"configuration {file}: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise TrainError(f"configuration {file} must be a mapping of keys")
    return content


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        nested = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = _merged(below, value) if nested else value  # type: ignore[arg-type]
    return merged


def _first_mistake(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown key {key}{_suggestion(key)}"
    if first["type"] == "missing":
        return f"{key} is missing: set it in the configuration or as --{key}"
    said = first["msg"].removeprefix("Value error, ")
    given = "" if isinstance(first["input"], Mapping) else f", not {first['input']!r}"
    return f"{key}: {said}{given}" if key else said


def _command_mistake(message: str) -> str:
    _, marker, rest = message.partition("unrecognized arguments: ")
    if not marker:
        return " ".join(message.split())
    word = next((w for w in rest.split() if w.startswith("-")), rest)
    key = word.lstrip("-").split("=")[0]
    return f"unknown option {word.split('=')[0]}{_suggestion(key)}"


def _suggestion(key: str) -> str:
    close = difflib.get_close_matches(key, list(_keys(TrainConfig)), n=1)
    return f": did you mean {close[0]}?" if close else " (see --help)"


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        for kind in _kinds(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys += _keys(kind, f"{prefix}{name}.")
    return keys


def _kinds(annotation: Any) -> tuple[Any, ...]:
    union = get_origin(annotation) in (Union, types.UnionType)
    return get_args(annotation) if union else (annotation,)
