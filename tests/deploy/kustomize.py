"""As much of `kustomize build` as our overlays use; anything else is refused, not passed over.

resources, components, images, JSON patches on a target of one kind and name, and its deletion.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
KNOWN = {"apiVersion", "kind", "resources", "components", "images", "patches"}


def build(folder: Path) -> list[Manifest]:
    """The manifests of an overlay."""
    return _apply(folder, [])


def _apply(folder: Path, manifests: list[Manifest]) -> list[Manifest]:
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(plan) <= KNOWN, set(plan) - KNOWN
    for name in plan.get("resources", []):
        place = folder / name
        manifests = manifests + (build(place) if place.is_dir() else _load(place))
    for name in plan.get("components", []):
        manifests = _apply(folder / name, manifests)
    for patch in plan.get("patches", []):
        _patch(manifests, patch)
    for image in plan.get("images", []):
        _set_image(manifests, image)
    return manifests


def _load(file: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(file.read_text()))


def _patch(manifests: list[Manifest], patch: Manifest) -> None:
    target = patch["target"]
    assert set(patch) == {"target", "patch"}
    assert set(target) == {"kind", "name"}
    found = [
        m
        for m in manifests
        if (m["kind"], m["metadata"]["name"]) == (target["kind"], target["name"])
    ]
    assert len(found) == 1, f"{target} fits {len(found)} manifests"
    steps = yaml.safe_load(patch["patch"])
    if isinstance(steps, dict):
        assert steps["$patch"] == "delete"
        assert (steps["kind"], steps["metadata"]["name"]) == (target["kind"], target["name"])
        manifests.remove(found[0])
        return
    for step in steps:
        _step(found[0], step["op"], step["path"], step["value"])


def _step(manifest: Manifest, op: str, path: str, value: Any) -> None:
    *parents, last = path.removeprefix("/").split("/")
    place: Any = manifest
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place[name]
    if isinstance(place, list):
        assert (op, last) == ("add", "-")
        place.append(value)
        return
    assert op in ("add", "replace")
    assert (last in place) == (op == "replace"), f"{op} {path}"
    place[last] = value


def _set_image(manifests: list[Manifest], image: Manifest) -> None:
    changed = 0
    for container in containers(manifests):
        if container["image"] == image["name"]:
            container["image"] = f"{image['newName']}:{image['newTag']}"
            changed += 1
    assert changed, f"no container has the image {image['name']}"


def containers(place: Any) -> Iterator[Manifest]:
    """Every container below a place, in whatever kind it stands."""
    if isinstance(place, list):
        for part in place:
            yield from containers(part)
    elif isinstance(place, dict):
        for name, part in place.items():
            yield from part if name in ("containers", "initContainers") else containers(part)
