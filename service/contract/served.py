"""What the API says of the server itself: the network that it serves, and whether it is ready."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from export.bundle import BundleDescription


class Limits(BaseModel):
    """What a request may hold; each is a setting of the server."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    max_upload_bytes: int
    max_text_bytes: int
    max_labels: int
    max_label_chars: int
    max_templates: int
    max_views: int
    max_duration_s: float
    max_pixels: int
    max_side: int
    max_frames: int


class ServedModel(BundleDescription):
    """The answer of GET /model: the bundle's own description, and what runs it.

    `selection` says why this runtime and precision were taken.
    """

    bundle: str
    runtime: str
    precision: str
    selection: tuple[str, ...]
    limits: Limits


class Alive(BaseModel):
    """The answer of GET /healthz."""

    status: Literal["ok"] = "ok"


class ReadyState(BaseModel):
    """The answer of GET /readyz; strangers are told `status` alone."""

    model_config = ConfigDict(frozen=True)

    status: Literal["ready"] = "ready"
    bundle: str | None = None
    decode_workers: int | None = None
    sandbox: dict[str, str] | None = None
    runtime: str | None = None
    selection: tuple[str, ...] | None = None
    shared_cache: str | None = None
    last_reload: str | None = None
