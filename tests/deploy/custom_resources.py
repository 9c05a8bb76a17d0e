"""Kinds that operators bring, against `schemas/`; the pods in them against Kubernetes' own.

`published_kinds.py` writes the `.json` from what is published; the `.yaml` says where it is from.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from kubernetes_validate.utils import schema_contents
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.deploy.kustomize import Manifest

SCHEMAS = {file.stem: file for file in (Path(__file__).parent / "schemas").iterdir()}
DEFINITIONS = "/api/_definitions.json"


def validate(manifest: Manifest, version: str) -> None:
    """Raise jsonschema.ValidationError where the manifest is not of its kind.

    `version` is Kubernetes', whose types stand in the place of pods and containers.
    """
    _validator(manifest["kind"].lower(), version).validate(manifest)


@functools.cache
def _validator(kind: str, version: str) -> Any:
    name = f"kubernetes-json-schema/v{version}.0-local-strict/_definitions.json"
    definitions = DRAFT202012.create_resource(schema_contents(name, version))
    registry: Any = Registry().with_resource(DEFINITIONS, definitions)
    schema = yaml.safe_load(SCHEMAS[kind].read_text())
    return jsonschema.Draft202012Validator(schema, registry=registry)
