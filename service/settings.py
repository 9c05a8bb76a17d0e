"""Every setting of the server: environment variables `XCLIP_*` and flags of the same names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from model.inputs.limits import VideoLimits
from model.inputs.sampling import FrameChoice
from service.decode.options import MOST_WINDOWS, PoolOptions
from service.setting_types import (
    Count,
    HostNames,
    Hosts,
    Origins,
    Proxies,
    Rate,
    RedisUrl,
    RootPath,
    Seconds,
)

MIB = 1 << 20
DEMO_BUNDLE = Path(__file__).parent / "demo_bundle"

# Where the defaults of a clip's bounds stand.
CLIP, POOL = VideoLimits(), PoolOptions()


class Settings(BaseSettings):
    """How the server runs. Unknown or ill-typed values stop it at the start."""

    model_config = SettingsConfigDict(
        env_prefix="XCLIP_",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        cli_prog_name="python -m service",
        cli_exit_on_error=False,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
    )

    bundle: Path = Field(DEMO_BUNDLE, description="folder of the bundle to serve")
    host: str = Field("127.0.0.1", description="address to listen on; :: takes IPv6 and IPv4")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    runtime: str = Field(
        "auto", description="what runs the graphs, or auto: a GPU, or else the fastest here"
    )
    precision: str | None = Field(
        None, description="fp32, fp16, bf16, int8, or auto: the fastest; default: the bundle's"
    )
    cache: Path = Field(
        Path("~/.cache/xclip-serve"),
        description="folder for what can be found out again, such as which runtime is the fastest",
    )
    threads: Count | None = Field(None, description="inference threads; default: the machine's")
    gpu_memory_bytes: Count | None = Field(
        None, description="memory of the GPU that the network may use; default: all of it"
    )
    cuda_graphs: bool = Field(
        False, description="onnxruntime-cuda replays the kernels of single clips at one go"
    )
    engine_cache: Path | None = Field(
        None, description="folder where onnxruntime-tensorrt keeps the engines that it builds"
    )
    weight_cache: Path | None = Field(
        None,
        description="folder where onnxruntime-cpu keeps packed weights, which servers on one "
        "machine then share",
    )

    bundle_timeout_s: Seconds = Field(
        900.0, description="time to read and open a bundle, engines that are built included"
    )

    max_upload_bytes: Count = Field(200 * MIB, description="largest request body")
    upload_timeout_s: Seconds = Field(120.0, description="time for a whole upload")
    upload_idle_timeout_s: Seconds = Field(15.0, description="longest pause within an upload")
    upload_dir: Path | None = Field(None, description="where uploads lie while they are used")
    max_text_bytes: Count = Field(4 * MIB, description="text fields of one request together")
    max_labels: Count = Field(10_000, description="labels in one request")
    max_label_chars: Count = Field(300, description="characters of one label or template")
    max_templates: Count = Field(16, description="templates in one request")
    max_prompts: Count | None = Field(
        None, description="labels times templates of one request; default: max_labels"
    )
    max_question_bytes: Count = Field(
        512 * MIB,
        description="memory for the labels, prompts and answers of all requests together",
    )
    max_views: Count = Field(8, le=POOL.max_views, description="temporal views of one clip")

    max_duration_s: Seconds = Field(CLIP.max_duration_s, description="longest video")
    max_pixels: Count = Field(
        CLIP.max_pixels,
        description="largest picture, width times height; decode_memory_bytes bounds it too",
    )
    max_side: Count = Field(CLIP.max_side, description="longest side of a picture")
    max_frames: Count = Field(CLIP.max_frames, description="frames of a video")
    decode_workers: Count | None = Field(None, description="decode processes; default: cores")
    decode_timeout_s: Seconds = Field(POOL.max_decode_s, description="time to decode one video")
    frame_rule: FrameChoice = Field(
        "auto",
        description="frames taken where a request does not say: exact (the published rule), "
        "keyframes (the cheapest of each segment), or auto: exact where that fits decode_budget_s",
    )
    decode_budget_s: Seconds = Field(
        POOL.budget_s,
        description="processor time that decoding by the exact rule may take under frame_rule auto",
    )
    decode_clips_per_worker: Count = Field(
        POOL.jobs_per_worker,
        description="clips after which a decode process is replaced; 1: a new one for each",
    )
    max_windows: Count = Field(
        1000, le=MOST_WINDOWS, description="windows that the timeline of one video may have"
    )
    timeline_timeout_s: Seconds = Field(
        POOL.max_timeline_s,
        description="time to answer with a timeline; decoding for one has decode_timeout_s, and as "
        "long as the video lasts on top, within this",
    )
    decode_memory_bytes: Count = Field(
        POOL.memory_bytes,
        description="memory one decode may take; up to 88 bytes for each of max_pixels",
    )

    max_connections: Count = Field(1000, description="open connections")
    header_timeout_s: Seconds = Field(10.0, description="time for a request's headers")
    keep_alive_s: Count = Field(
        75, description="how long a connection stays open unused: longer than a proxy keeps its own"
    )
    max_uploads: Count = Field(64, description="requests whose body is being received")
    max_uploads_per_client: Count | None = Field(
        None,
        description="requests of one key or address whose body is being received; default: its "
        "share, half of max_uploads at most",
    )
    max_in_flight: Count = Field(64, description="requests being answered or waiting for it")
    max_batch_clips: Count | None = Field(
        None, description="clips encoded together; default: 1 on a processor, 16 on a GPU"
    )
    request_timeout_s: Seconds = Field(60.0, description="time to answer once the upload is in")
    shutdown_grace_s: Seconds = Field(30.0, description="time for running requests at a stop")

    label_cache_bytes: Count = Field(256 * MIB, description="label vectors kept in memory")
    video_cache_bytes: Count = Field(256 * MIB, description="clip features kept in memory")
    video_cache_ttl_s: Seconds = Field(3600.0, description="how long memory keeps clip features")

    redis_url: RedisUrl | None = Field(
        None,
        description="Redis through which servers share label vectors and clip features: redis://, "
        "rediss:// (TLS)",
    )
    redis_timeout_s: Seconds = Field(0.05, description="longest wait for one read from Redis")
    redis_ttl_s: Seconds = Field(604_800.0, description="how long Redis keeps a label vector")
    redis_clip_ttl_s: Annotated[float, Field(ge=0)] = Field(
        3600.0, description="how long Redis keeps the features of a clip; 0: they are not shared"
    )
    redis_secret: SecretStr | None = Field(
        None,
        min_length=16,
        description="signs what is stored in Redis, the same on every server: then nobody who can "
        "write to Redis alone can forge a clip or a label",
    )
    warm_labels: Path | None = Field(
        None, description="text file of labels to embed before the server is ready, one a line"
    )

    sandbox: Literal["require", "warn"] = Field(
        "warn",
        description="where the system cannot confine decode processes fully: require ends the "
        "server, warn goes on with a warning",
    )
    api_keys_file: Path | None = Field(
        None, description="file of hashed API keys; without one nobody is asked for a key"
    )
    share_between_keys: bool = Field(
        False,
        description="keys find what was computed for others: clips by video_id, label vectors; and "
        "so may learn what they asked",
    )
    rate_limit: Rate | None = Field(
        None,
        description="requests about clips, texts and lists by a key or address, as 60/minute",
    )
    cost_limit: Rate | None = Field(
        None,
        description="seconds of work for one key or address, of decode processes and threads, such "
        "as 60/minute",
    )
    cors_origins: Origins = Field(
        (), description="origins whose pages may ask, with commas between; default: none"
    )
    root_path: RootPath = Field(
        "", description="prefix of every path, such as /xclip, where a proxy does not strip it"
    )
    allowed_hosts: HostNames = Field(
        (),
        description="names that clients may call this server by, with commas between; default: any",
    )
    trusted_proxies: Proxies = Field(
        "127.0.0.1",
        description="addresses or networks whose X-Forwarded-For and -Prefix are believed",
    )
    ops_port: int | None = Field(
        None, ge=0, le=65535, description="port for /metrics and /docs, away from the API's"
    )
    ops_host: str | None = Field(None, description="address of the ops port; default: host")
    video_url_hosts: Hosts = Field(
        (), description="hosts that video_url may name, with commas between; default: it is off"
    )
    video_url_timeout_s: Seconds = Field(30.0, description="time to fetch a video_url")

    docs: bool = Field(True, description="serve /docs and /openapi.json")
    metrics: bool = Field(True, description="serve /metrics")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="log level")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, JSON elsewhere"
    )

    @property
    def cache_folder(self) -> Path | None:
        """The folder `cache`; None where this user has no home."""
        try:
            return self.cache.expanduser()
        except RuntimeError:
            return None

    @property
    def video_limits(self) -> VideoLimits:
        """How large a clip may be."""
        return VideoLimits(
            max_pixels=self.max_pixels,
            max_side=self.max_side,
            max_duration_s=self.max_duration_s,
            max_frames=self.max_frames,
        )

    @property
    def pool_options(self) -> PoolOptions:
        """What decoding one clip may take."""
        return PoolOptions(
            max_decode_s=self.decode_timeout_s,
            max_timeline_s=self.timeline_timeout_s,
            budget_s=self.decode_budget_s,
            memory_bytes=self.decode_memory_bytes,
            libav_alloc_bytes=max(POOL.libav_alloc_bytes, 4 * self.max_pixels),
            jobs_per_worker=self.decode_clips_per_worker,
            sandbox=self.sandbox,
        )

    @property
    def keeps_clients_apart(self) -> bool:
        """Whether what is kept for one client is found by no other."""
        return self.api_keys_file is not None and not self.share_between_keys
