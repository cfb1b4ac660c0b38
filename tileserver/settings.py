"""Every setting of the service, read once at the edge and passed down."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, IPvAnyNetwork, StringConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict

from tileserver.logs import LogFormat

MIN_KEY_CHARACTERS = 16
# A key that is refused must not be shown, so the sentence is made without it: see `hide_input_in_errors` below.
ApiKey = Annotated[str, StringConstraints(min_length=MIN_KEY_CHARACTERS, max_length=256, pattern=r"^[!-~]+$")]


class Settings(BaseSettings):
    """Settings of one server; each may come from the environment as EARTHGEN_<NAME>."""

    model_config = SettingsConfigDict(
        env_prefix="EARTHGEN_", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    weights: str | None = Field(
        default=None, description="Folder of weights, or hf:OWNER/NAME; the ones that come with the package if absent."
    )
    prompt_weights: str | None = Field(
        default=None,
        description="Weights of what prompts start from, as `weights`, or a latent-diffusion checkpoint; "
        "the ones that come with the package if absent.",
    )
    band_weights: Path | None = Field(
        default=None, description="Folder of weights of bands, one folder a band, before those of the package."
    )
    perception_weights: Path | None = Field(
        default=None, description="Folder of weights of change detectors, one folder a model, before the package's."
    )
    cache: Path | None = Field(
        default=None, description="Folder of finished windows and registered worlds; memory only if absent."
    )
    store: str | None = Field(
        default=None,
        description="Where servers share finished windows, behind the cache: file:///folder or s3://bucket/prefix.",
    )
    memory_bytes: int = Field(
        default=256 << 20, ge=0, description="Bytes of finished windows kept in memory, per worker."
    )
    disk_bytes: int = Field(default=4 << 30, ge=0, description="Bytes of finished windows kept in the cache folder.")
    threads: int | None = Field(
        default=None, ge=1, description="Windows that one worker computes at a time; all usable cores if absent."
    )

    backend: str = Field(
        default="torch",
        description="What runs the cascade's layers: torch, openvino or openvino-bf16 (an extra of the package).",
    )

    tile_threads: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Tiles that one worker has under way; as many as `threads`, and two at least.",
    )
    tile_queue: int = Field(default=256, ge=1, description="Tiles that may wait to be generated; further ones get 503.")
    region_threads: int = Field(
        default=2, ge=1, le=32, description="Requests for areas, previews, points and statistics served at a time."
    )
    region_queue: int = Field(default=16, ge=0, description="Such requests that may wait; further ones get 503.")
    search_threads: int = Field(default=2, ge=1, le=32, description="Searches by text that go on at a time.")
    search_queue: int = Field(default=8, ge=0, description="Such searches that may wait; further ones get 503.")
    detect_threads: int = Field(default=1, ge=1, le=32, description="Change detections that go on at a time.")
    detect_queue: int = Field(default=4, ge=0, description="Such requests that may wait; further ones get 503.")
    export_threads: int = Field(default=1, ge=1, le=32, description="Exports that go on at a time, per worker.")
    export_queue: int = Field(default=8, ge=0, description="Unfinished exports; further ones get 503.")
    client_exports: int = Field(default=2, ge=1, description="Unfinished exports of one client; further ones get 429.")
    export_tiles: int = Field(
        default=16_384, ge=1, le=1 << 20, description="Tiles of one export; of a GeoTIFF, as many tiles' pixels."
    )
    export_bytes: int = Field(default=1 << 30, ge=1 << 20, description="Bytes of one exported file.")
    exports_bytes: int = Field(
        default=8 << 30, ge=1 << 20, description="Bytes of all finished exports; the oldest make room."
    )
    export_lifetime: float = Field(
        default=86_400.0, gt=0, description="Seconds for which the file of a finished export is kept."
    )
    agent_llm: str | None = Field(
        default=None,
        description="Language model that plans for the agent: an OpenAI-compatible address, or a folder or GGUF file; "
        "none if absent, and rules plan.",
    )
    agent_model: str | None = Field(default=None, description="Its name at that address.")
    agent_key: str | None = Field(default=None, repr=False, description="Key for that address.")
    agent_timeout: float = Field(default=30.0, gt=0, le=600, description="Seconds in which it has to answer.")
    client_threads: int | None = Field(
        default=None, ge=1, description="Tiles of one client that are under way at a time; no bound if absent."
    )
    client_queue: int = Field(default=128, ge=1, description="Tiles of one client that may wait; further ones get 429.")
    client_region_queue: int = Field(
        default=8, ge=0, description="Requests of one client for areas that may wait; further ones get 429."
    )
    client_rate: int = Field(
        default=1200,
        ge=0,
        description="Tiles that have to be generated, areas, pictures, searches and detections that one client may ask"
        " for in a minute; further ones get 429. Tiles that are ready do not count; 0: no bound.",
    )
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        default=(),
        description="Addresses or networks of proxies whose X-Forwarded-For says who the client is; FORWARDED_ALLOW_IPS"
        " of uvicorn, which is this machine, if empty.",
    )
    warm_up: bool = Field(
        default=False, description="When nothing else is to do, make what the map will probably show next."
    )
    encoded_bytes: int = Field(default=32 << 20, ge=0, description="Bytes of encoded tiles kept in memory, per worker.")

    max_pixels: int = Field(
        default=2048 * 2048,
        ge=256 * 256,
        le=4096 * 4096,
        description="Pixels of one area, preview or statistics request.",
    )
    detect_pixels: int = Field(
        default=1024 * 1024, ge=64 * 64, le=4096 * 4096, description="Pixels of one change detection."
    )
    max_body_bytes: int = Field(default=1 << 20, ge=1024, description="Bytes of one request body.")
    max_worlds: int = Field(default=10_000, ge=0, description="Worlds that may be registered.")
    read_only: bool = Field(default=False, description="Keep nothing: POST /worlds and exports get 403.")
    api_keys: tuple[ApiKey, ...] = Field(
        default=(),
        repr=False,
        description="Keys, one of which worlds and exports must bring; none are needed if empty.",
    )

    access_log: bool = Field(default=False, description="Write a line for every request.")
    log_format: LogFormat = Field(default="text", description="Of the log's lines: text, or json.")
    cors_origins: tuple[str, ...] = Field(default=("*",), description="Origins whose pages may read tiles.")
    attribution: str = Field(default="Synthetic imagery, generated by earthgen", description="Credit line in TileJSON.")
