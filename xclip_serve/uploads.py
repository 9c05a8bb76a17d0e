"""A clip as the engine takes it: a file on this disk, with its size and hash."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import BinaryIO

from model.files import open_regular
from service.contract.upload import Upload, UploadWriter
from xclip_serve.question import Video
from xclip_serve.storage import is_address, opened

CHUNK_BYTES = 1 << 20


def upload_of(video: Video, upload_dir: Path | None) -> Upload:
    """Make an upload of a clip: a file is read where it lies, all else is copied to the disk.

    Raises:
        OSError: The file cannot be read.
        ClassifyError: The object store cannot be reached.
    """
    if isinstance(video, str) and is_address(video):
        with opened(video) as stream:
            return _copied(stream, upload_dir)
    if isinstance(video, str | os.PathLike):
        file = open_regular(Path(video))
        try:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return Upload(file, os.fstat(file.fileno()).st_size, sha256)
        except BaseException:
            file.close()
            raise
    return _copied(io.BytesIO(video) if isinstance(video, bytes) else video, upload_dir)


def _copied(stream: BinaryIO, upload_dir: Path | None) -> Upload:
    writer = UploadWriter(upload_dir)
    try:
        if stream.seekable():
            stream.seek(0)
        while chunk := stream.read(CHUNK_BYTES):
            writer.write(chunk)
        return writer.finish()
    except BaseException:
        writer.close()
        raise
