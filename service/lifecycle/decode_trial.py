"""Try whether clips can be decoded on this system at all, before the server says it is ready."""

from __future__ import annotations

from pathlib import Path

from model.inputs import VideoError
from service.contract.errors import ApiError
from service.contract.upload import Upload, UploadWriter
from service.decode import DecodePool, DecodeUnavailable
from service.decode.sample_clip import SAMPLE_CLIP


class DecodeTrialFailed(RuntimeError):
    """No clip can be decoded on this system; the message names what it lacks."""


async def try_decoding(pool: DecodePool, upload_dir: Path | None) -> None:
    """Take a sample clip the way of every upload: on the disk, into a worker and back as frames.

    Raises:
        DecodeTrialFailed: That failed, and every clip would.
    """
    upload = _store(upload_dir)
    try:
        clip = await pool.decode(upload.file.fileno())
    except (DecodeUnavailable, VideoError) as error:
        raise DecodeTrialFailed(f"a sample clip cannot be decoded: {error}") from error
    finally:
        upload.close()
    if not clip.frames.any():
        raise DecodeTrialFailed("a sample clip cannot be decoded: its frames do not arrive")


def _store(upload_dir: Path | None) -> Upload:
    try:
        writer = UploadWriter(upload_dir)
        writer.write(SAMPLE_CLIP)
        return writer.finish()
    except ApiError as error:
        reason = error.__cause__ or error
        raise DecodeTrialFailed(
            f"uploads cannot be stored ({reason}); set XCLIP_UPLOAD_DIR to a folder that can be "
            "written to"
        ) from error
