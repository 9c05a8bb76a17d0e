"""The model repository for Triton: read by its client's own messages, compared with the graphs."""

from __future__ import annotations

import functools
import json
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from export.bundle import Bundle, PrecisionBuild, open_bundle
from export.bundle.manifest import GRAPH_NAMES, MANIFEST_FILE, BundleManifest, RuntimeName
from export.bundle.writing import hash_files, write_manifest
from export.errors import ExportError
from export.runtime import open_runtime
from export.triton import write_repository
from service.settings import DEMO_BUNDLE
from tests.conftest import ROOT, missing
from xclip_serve.__main__ import main

TYPES = {
    onnx.TensorProto.UINT8: "TYPE_UINT8",
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.FLOAT: "TYPE_FP32",
}
PYTHON = ROOT / ".venv-triton" / "bin" / "python"
READ = """
import json, pathlib, sys
from google.protobuf import json_format, text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
for file in pathlib.Path(sys.argv[1]).glob("*/config.pbtxt"):
    read = text_format.Parse(file.read_text(), ModelConfig())
    told = json_format.MessageToDict(read, preserving_proto_field_name=True)
    print(json.dumps([file.parent.name, told]))
"""


@pytest.fixture(scope="module")
def demo() -> Bundle:
    return open_bundle(DEMO_BUNDLE)


@pytest.fixture(scope="module")
def repository(demo: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(demo, tmp_path_factory.mktemp("triton") / "models")


@functools.cache
def configs(repository: Path) -> dict[str, dict[str, Any]]:
    """Every config of a repository, as Triton's messages read it."""
    if not PYTHON.exists():
        missing("tritonclient (make .venv-triton/.installed)")
    said = subprocess.run(
        [PYTHON, "-c", READ, repository], capture_output=True, text=True, check=True
    )
    return dict(map(json.loads, said.stdout.splitlines()))


def model_file(repository: Path, name: str) -> Path:
    file: str = configs(repository)[name]["default_model_filename"]
    return repository / name / "1" / file


def signature(tensors: Any) -> list[tuple[str, str, list[str]]]:
    """What a config must say of a graph's inputs or outputs, from the graph."""
    found = []
    for tensor in tensors:
        kind = tensor.type.tensor_type
        batch, *dims = [
            str(d.dim_value) if d.HasField("dim_value") else "-1" for d in kind.shape.dim
        ]
        assert batch == "-1"
        found.append((tensor.name, TYPES[kind.elem_type], dims))
    return found


def said(tensors: list[dict[str, Any]]) -> list[tuple[str, str, list[str]]]:
    return [(tensor["name"], tensor["data_type"], tensor["dims"]) for tensor in tensors]


def run(repository: Path, name: str, **inputs: np.ndarray) -> list[np.ndarray]:
    """Run a model as Triton's backend does: the file that the config names, by its path."""
    session = onnxruntime.InferenceSession(
        model_file(repository, name), providers=["CPUExecutionProvider"]
    )
    names = [tensor["name"] for tensor in configs(repository)[name]["output"]]
    outputs: Sequence[Any] = session.run(names, inputs)
    return [np.asarray(output) for output in outputs]


@pytest.mark.parametrize("name", GRAPH_NAMES)
def test_names_types_and_shapes_are_the_graphs(repository: Path, name: str) -> None:
    told = configs(repository)[name]
    graph = onnx.load(model_file(repository, name), load_external_data=False).graph
    assert (told["name"], told["backend"]) == (name, "onnxruntime")
    assert told["max_batch_size"] > 1
    assert "dynamic_batching" in told
    assert said(told["input"]) == signature(graph.input)
    assert said(told["output"]) == signature(graph.output)


def test_it_says_which_bundle_it_was_made_of(repository: Path, demo: Bundle) -> None:
    assert configs(repository)["video_encoder"]["parameters"] == {
        "bundle": {"string_value": f"sha256:{demo.hash}"},
        "precision": {"string_value": "fp32"},
    }


def test_the_models_answer_as_the_bundle_does(repository: Path, demo: Bundle) -> None:
    tokens = demo.tokenizer().encode(["a red circle", "a blue square"])
    frames = np.random.default_rng(0).integers(0, 256, (1, 8, 80, 80, 3), np.uint8)
    runtime = open_runtime(DEMO_BUNDLE, runtime="onnxruntime-cpu")
    try:
        features, text = runtime.encode_video(frames), runtime.encode_text(tokens)
        logits = runtime.score(features, text[None])
    finally:
        runtime.close()
    video, context = run(repository, "video_encoder", frames=frames)
    (vectors,) = run(repository, "text_encoder", token_ids=tokens)
    (scores,) = run(repository, "score_head", video=video, context=context, text=vectors[None])
    np.testing.assert_array_equal(scores, logits)


def test_weights_beside_a_graph_come_along(demo: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(demo.path, folder)
    graph = onnx.load(folder / "video_encoder.onnx")
    onnx.save(
        graph,
        folder / "video_encoder.onnx",
        save_as_external_data=True,
        location="video_encoder.onnx.data",
        size_threshold=1024,
    )
    (folder / MANIFEST_FILE).unlink()
    write_manifest(folder, demo.manifest.model_copy(update={"files": hash_files(folder)}))
    repository = write_repository(open_bundle(folder), tmp_path / "models")
    shutil.rmtree(folder)
    assert (repository / "video_encoder" / "1" / "video_encoder.onnx.data").stat().st_size > 0
    frames = np.zeros((2, 8, 80, 80, 3), np.uint8)
    assert run(repository, "video_encoder", frames=frames)[0].shape == (2, 128)


def with_build(demo: Bundle, **changes: Any) -> Bundle:
    """The demo as if its one precision had been made otherwise."""
    build = demo.manifest.precisions[0].model_copy(update=changes)
    manifest: BundleManifest = demo.manifest.model_copy(update={"precisions": (build,)})
    return replace(demo, manifest=manifest)


def test_clips_that_would_change_each_other_run_alone(demo: Bundle, tmp_path: Path) -> None:
    alone = with_build(demo, precision="int8", clips_per_run=1)
    repository = write_repository(alone, tmp_path / "models")
    told = configs(repository)["video_encoder"]
    assert told["max_batch_size"] == 1
    assert "dynamic_batching" not in told
    assert "dynamic_batching" in configs(repository)["score_head"]


@pytest.mark.parametrize(
    ("runtimes", "groups"), [((), []), (("onnxruntime-cuda",), [{"kind": "KIND_GPU"}])]
)
def test_a_precision_of_cards_asks_for_one(
    demo: Bundle, tmp_path: Path, runtimes: tuple[RuntimeName, ...], groups: list[dict[str, str]]
) -> None:
    repository = write_repository(with_build(demo, runtimes=runtimes), tmp_path / "models")
    assert configs(repository)["video_encoder"].get("instance_group", []) == groups


def test_what_onnx_runtime_cannot_run_is_refused(demo: Bundle, tmp_path: Path) -> None:
    only_openvino = PrecisionBuild(precision="bf16", runtimes=("openvino",), method="test")
    manifest = demo.manifest.model_copy(
        update={"precisions": (only_openvino, *demo.manifest.precisions)}
    )
    both = replace(demo, manifest=manifest)
    with pytest.raises(ExportError, match=r"no bf16 for ONNX Runtime.*--precision: fp32"):
        write_repository(both, tmp_path / "models")
    assert not any(tmp_path.iterdir())
    assert write_repository(both, tmp_path / "models", "fp32").is_dir()


def test_the_command_of_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "distributed.md").read_text()
    words = shlex.split(page[page.index("xclip-serve export triton bundles/b32") :].splitlines()[0])
    places = {"bundles/b32": str(DEMO_BUNDLE), "models": str(tmp_path / "models")}
    command = [places.get(word, word) for word in words[1:]]
    assert main(command) == 0
    assert "is made" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == sorted(GRAPH_NAMES)
    assert main(command) == 1
    assert "is there already; choose another name" in capsys.readouterr().err
