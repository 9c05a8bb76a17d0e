"""Write the schemas of KServe's, Kubeflow's and KEDA's kinds from packages that carry their types.

    python -m tests.deploy.published_kinds

downloads the packages (they are read, not installed nor imported), takes each field's name, type
and bounds from their classes, which were generated from what the operators publish, and writes
`schemas/KIND.json`. Pods and other types of Kubernetes stay references to Kubernetes' own schemas;
descriptions, defaults and status are left out. A field that no class names is refused, as an API
server does with `--validate=strict`.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubernetes_validate.utils import latest_version, schema_contents

Schema = dict[str, Any]
FOLDER = Path(__file__).parent / "schemas"
DEFINITIONS = "/api/_definitions.json"
PLAIN = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}
OPEN = {"V1beta1MetricQuantity"}  # named by the package and defined nowhere: a quantity
BOUNDS = {
    "ge": "minimum",
    "le": "maximum",
    "min_length": "minLength",
    "max_length": "maxLength",
    "pattern": "pattern",
}


@dataclass(frozen=True)
class Kind:
    """A kind, and the package that has its types.

    Attributes:
        name: As `kind` has it.
        api: As `apiVersion` has it.
        package: On the registry of Python packages, pinned; all three are under Apache-2.0.
        folder: Of the modules in it.
        top: Class of the whole manifest.
    """

    name: str
    api: str
    package: str
    folder: str
    top: str


KINDS = (
    Kind(
        "InferenceService",
        "serving.kserve.io/v1beta1",
        "kserve==0.21.0",
        "kserve/models/",
        "V1beta1InferenceService",
    ),
    Kind(
        "PyTorchJob",
        "kubeflow.org/v1",
        "kubeflow-training==1.9.4",
        "kubeflow/training/models/",
        "KubeflowOrgV1PyTorchJob",
    ),
    Kind(
        "ScaledObject",
        "keda.sh/v1alpha1",
        "cloudcoil-models-keda==2.20.2.1",
        "cloudcoil/models/keda/v1alpha1",
        "ScaledObject",
    ),
)


def main() -> None:
    """Write every schema."""
    for kind in KINDS:
        schema = schema_of(kind, dict(_classes(kind)))
        text = json.dumps(schema, indent=1, sort_keys=True)
        (FOLDER / f"{kind.name.lower()}.json").write_text(text + "\n")


def schema_of(kind: Kind, classes: dict[str, ast.ClassDef]) -> Schema:
    """Return the schema of a kind, with those of its own classes as definitions."""
    types = _Types(classes)
    top = types.of_class(kind.top)
    status = top["properties"].pop("status")
    types.wanted.discard(status["$ref"].rpartition("/")[2])
    top["properties"]["apiVersion"] = {"const": kind.api}
    top["properties"]["kind"] = {"const": kind.name}
    top["required"] = ["apiVersion", "kind", "metadata", "spec"]
    comment = f"{kind.name}, {kind.api}, of the package {kind.package} (Apache-2.0)"
    return {"$comment": comment, **top, "$defs": types.reached()}


def _classes(kind: Kind) -> Iterator[tuple[str, ast.ClassDef]]:
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run(
            [*pip, "--ignore-requires-python", "--dest", folder, kind.package], check=True
        )
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as files:
            for name in files.namelist():
                if name.startswith(kind.folder) and name.endswith(".py"):
                    for part in ast.parse(files.read(name)).body:
                        if isinstance(part, ast.ClassDef):
                            yield part.name, part


@dataclass
class _Types:
    """Schemas of types by their names, and which classes they lead to."""

    classes: dict[str, ast.ClassDef]
    wanted: set[str] = field(default_factory=set)

    def reached(self) -> dict[str, Schema]:
        """Return the schemas of all classes that have been named, and of those that these name."""
        done: dict[str, Schema] = {}
        while todo := sorted(self.wanted - set(done)):
            for name in todo:
                done[name] = self.of_class(name)
        return done

    def of_class(self, name: str) -> Schema:
        body = self.classes[name].body
        told = {
            part.targets[0].id: ast.literal_eval(part.value)
            for part in body
            if isinstance(part, ast.Assign)
            and isinstance(part.targets[0], ast.Name)
            and part.targets[0].id in ("openapi_types", "attribute_map")
        }
        if told:
            named, required = self._of_openapi(self.classes[name], told)
        else:
            named, required = self._of_pydantic(body)
        if not named:
            raise ValueError(f"{name} has no field")
        if list(named) == ["root"]:  # pydantic's RootModel: a name for another type
            return dict(named["root"])
        schema = {"type": "object", "additionalProperties": False, "properties": named}
        return {**schema, "required": required} if required else schema

    def _of_openapi(
        self, model: ast.ClassDef, told: dict[str, dict[str, str]]
    ) -> tuple[Schema, list[str]]:
        """Fields of a class of openapi-generator, which refuses None where a field is required."""
        names = told["attribute_map"]
        refused = {
            found[1]
            for part in ast.walk(model)
            if isinstance(part, ast.Raise)
            and (found := re.search(r"Invalid value for `(\w+)`, must not be", ast.unparse(part)))
        }
        named = {names[k]: self.of_text(t) for k, t in told["openapi_types"].items() if k in names}
        return named, sorted(names[k] for k in refused)

    def _of_pydantic(self, body: list[ast.stmt]) -> tuple[Schema, list[str]]:
        """Fields of a class of pydantic's, which are required where they have no default."""
        named: Schema = {}
        required = []
        for part in body:
            if (
                isinstance(part, ast.AnnAssign)
                and isinstance(part.target, ast.Name)
                and not ast.unparse(part.annotation).startswith("ClassVar")
            ):
                name, schema = self._of_annotation(part.target.id, part.annotation)
                named[name] = schema
                if part.value is None:
                    required.append(name)
        return named, sorted(required)

    def _of_annotation(self, name: str, annotation: ast.expr) -> tuple[str, Schema]:
        if not (isinstance(annotation, ast.Subscript) and _id(annotation.value) == "Annotated"):
            return name, self.of_type(annotation)
        assert isinstance(annotation.slice, ast.Tuple)
        kind, call = annotation.slice.elts
        assert isinstance(call, ast.Call)
        told = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
        name = told.pop("alias", name)
        schema = self.of_type(kind)
        bounds = {BOUNDS[word]: told[word] for word in told}
        if schema.get("type") == "array":
            bounds = {word.replace("Length", "Items"): value for word, value in bounds.items()}
        return name, {**schema, **bounds}

    def of_text(self, text: str) -> Schema:
        """The schema of `list[V1Container]`, `dict(str, str)` and the like."""
        if text.startswith("dict("):
            text = f"dict[{text[5:-1]}]"
        return self.of_type(ast.parse(text, mode="eval").body)

    def of_type(self, kind: ast.expr) -> Schema:
        if isinstance(kind, ast.BinOp):
            sides = [self.of_type(side) for side in (kind.left, kind.right) if not _is_none(side)]
            return sides[0] if len(sides) == 1 else {"anyOf": sides}
        if isinstance(kind, ast.Subscript):
            of = kind.slice
            match _id(kind.value):
                case "list":
                    return {"type": "array", "items": self.of_type(of)}
                case "dict":
                    assert isinstance(of, ast.Tuple)
                    value = self.of_type(of.elts[1])
                    return {"type": "object", "additionalProperties": value}
                case "Literal":
                    values = ast.literal_eval(of)
                    return {"enum": list(values) if isinstance(values, tuple) else [values]}
                case "Annotated":
                    return self._of_annotation("", kind)[1]
        name = _id(kind)
        if name in PLAIN:
            return {"type": PLAIN[name]}
        if name in OPEN:
            return {}
        if name in self.classes:
            self.wanted.add(name)
            return {"$ref": f"#/$defs/{name}"}
        return {"$ref": f"{DEFINITIONS}#/$defs/{_of_kubernetes(name)}"}


def _of_kubernetes(name: str) -> str:
    """The full name of a type of Kubernetes: V1Container is io.k8s.api.core.v1.Container."""
    version = latest_version()
    file = f"kubernetes-json-schema/v{version}-local-strict/_definitions.json"
    known = schema_contents(file, version)["$defs"]
    short = re.sub(r"^(K8sIoApi|V1(?=[A-Z])|Resource(?=Quantity))", "", name)
    places = ["api.core.v1.", "apimachinery.pkg.apis.meta.v1.", "apimachinery.pkg.api.resource."]
    if found := re.match(r"([A-Z][a-z]+)(V\d[a-z0-9]*)([A-Z].*)", short):
        group, of, short = found.groups()
        places = [f"api.{group.lower()}.{of.lower()}."]
    for place in places:
        if f"io.k8s.{place}{short}" in known:
            return f"io.k8s.{place}{short}"
    raise ValueError(f"{name} is no type of the package's nor of Kubernetes'")


def _id(name: ast.expr) -> str:
    if not isinstance(name, ast.Name):
        raise TypeError(f"what is {ast.unparse(name)}?")
    return name.id


def _is_none(kind: ast.expr) -> bool:
    return isinstance(kind, ast.Constant) and kind.value is None


if __name__ == "__main__":
    main()
