"""Which runtime is taken, and what is said about those that were not."""

from __future__ import annotations

import builtins
import sys
from dataclasses import replace
from typing import Any

import pytest

from export.bundle import Bundle, BundleError, PrecisionBuild
from export.runtime import RuntimeOptions, RuntimeUnavailableError, open_runtime
from export.runtime.selection import BACKENDS


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes libraries look as if they were not installed."""
    hidden: set[str] = set()
    real = builtins.__import__

    def load(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] in hidden:
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    def hide(*names: str) -> None:
        hidden.update(names)
        for name in names:
            monkeypatch.delitem(sys.modules, name, raising=False)

    monkeypatch.setattr(builtins, "__import__", load)
    return hide


def test_auto_takes_the_best_that_works_and_says_why_not_the_better(tiny_bundle: Bundle) -> None:
    runtime = open_runtime(tiny_bundle, options=RuntimeOptions(threads=1))
    *reasons, taken = runtime.selection
    assert taken == f"{runtime.name}: taken"
    assert [reason.split(":")[0] for reason in reasons] == list(BACKENDS)[: len(reasons)]
    assert all(len(reason.split(": ", 1)[1]) > 10 for reason in reasons)


def test_auto_goes_on_where_a_library_is_absent(tiny_bundle: Bundle, absent: Any) -> None:
    absent("onnxruntime")
    runtime = open_runtime(tiny_bundle, options=RuntimeOptions(threads=1))
    assert runtime.name == "openvino"
    assert "onnxruntime-cpu: onnxruntime is not installed" in "\n".join(runtime.selection)
    assert "xclip-serve[cpu]" in "\n".join(runtime.selection)


def test_auto_without_any_runtime_names_all_reasons(tiny_bundle: Bundle, absent: Any) -> None:
    absent("onnxruntime", "openvino")
    with pytest.raises(RuntimeUnavailableError, match=r"onnxruntime-cpu: .*openvino: "):
        open_runtime(tiny_bundle)


@pytest.mark.parametrize("name", [n for n in BACKENDS if n not in ("onnxruntime-cpu", "openvino")])
def test_a_device_that_is_not_there_says_what_to_do(tiny_bundle: Bundle, name: str) -> None:
    with pytest.raises(RuntimeUnavailableError) as caught:
        open_runtime(tiny_bundle, name)
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert "\n" not in message
    assert "install" in message or "--tensorrt" in message


def test_an_asked_for_runtime_is_not_replaced(tiny_bundle: Bundle, absent: Any) -> None:
    absent("openvino")
    with pytest.raises(RuntimeUnavailableError, match=r"openvino is not installed.*\[cpu\]"):
        open_runtime(tiny_bundle, "openvino")


def test_default_precision_is_the_first_of_the_bundle(tiny_bundle: Bundle) -> None:
    assert open_runtime(tiny_bundle, "onnxruntime-cpu").precision == "fp32"
    assert open_runtime(tiny_bundle, "onnxruntime-cpu", "int8").precision == "int8"


def test_a_precision_that_is_not_in_the_bundle_says_how_to_get_it(tiny_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="only fp32, int8; export it with --precision bf16"):
        open_runtime(tiny_bundle, precision="bf16")


def test_a_precision_made_for_another_runtime_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(RuntimeUnavailableError, match="openvino: the bundle holds no int8 for it"):
        open_runtime(tiny_bundle, "openvino", "int8")


def test_an_unknown_runtime_is_a_callers_mistake(tiny_bundle: Bundle) -> None:
    with pytest.raises(ValueError, match=r"unknown runtime 'onnx'; choose auto, .*openvino"):
        open_runtime(tiny_bundle, "onnx")


def test_opens_a_path_too(tiny_bundle: Bundle) -> None:
    assert open_runtime(tiny_bundle.path, "fake").name == "fake"


def test_of_two_builds_of_one_precision_the_bundles_first_is_taken(
    tiny_bundle: Bundle, absent: Any
) -> None:
    calibrated = PrecisionBuild(precision="int8", runtimes=("openvino",), method="a test's own")
    others = [b.model_copy(update={"parity": ()}) for b in tiny_bundle.manifest.precisions]
    precisions = (calibrated, *others)  # none was compared with torch: nothing else counts
    manifest = tiny_bundle.manifest.model_copy(update={"precisions": precisions})
    bundle = replace(tiny_bundle, manifest=manifest)
    assert open_runtime(bundle, precision="int8").name == "openvino"
    absent("openvino")
    fallen_back = open_runtime(bundle, precision="int8")
    assert fallen_back.name == "onnxruntime-cpu"
    assert "openvino is not installed" in "\n".join(fallen_back.selection)
