"""The public names, and that asking for one loads no more than it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import model.inputs

ROOT = Path(__file__).resolve().parents[3]


def loaded_by(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return set(run.stdout.split())


def test_every_public_name_is_there_and_has_one_home() -> None:
    homes = [name for names in model.inputs._HOMES.values() for name in names]
    assert sorted(homes) == sorted(model.inputs.__all__)
    for name in model.inputs.__all__:
        assert getattr(model.inputs, name).__module__.startswith("model.inputs.")


def test_other_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = model.inputs.no_such_name


def test_decoding_loads_no_text_libraries_and_no_torch() -> None:
    loaded = loaded_by("from model.inputs import decode_clip")
    assert "av" in loaded
    assert not loaded & {"tokenizers", "ftfy", "torch", "torchvision", "cv2", "open_clip"}


def test_tokenizing_loads_no_video_libraries_and_no_torch() -> None:
    loaded = loaded_by("from model.inputs import Tokenizer; Tokenizer.clip().encode(['yoga'])")
    assert "tokenizers" in loaded
    assert not loaded & {"av", "PIL", "torch", "open_clip", "transformers"}


def test_importing_the_package_loads_neither() -> None:
    assert not loaded_by("import model.inputs") & {"av", "tokenizers", "numpy", "pydantic"}
