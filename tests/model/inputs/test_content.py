"""The demuxer is chosen by the first bytes alone, and only from the list."""

from __future__ import annotations

import random
import re

import pytest

from model.inputs.errors import NotAVideo, UnsupportedFormat, VideoError
from model.inputs.video.container_sniffer import HEAD_BYTES, demuxer_for


@pytest.mark.parametrize(
    ("head", "demuxer"),
    [
        (b"\0\0\0\x20ftypisom", "mov"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "mov"),
        (b"\x1a\x45\xdf\xa3\x9f\x42", "matroska"),
        (b"RIFF\0\0\0\0AVI LIST", "avi"),
        (b"FLV\x01\x05", "flv"),
        (b"OggS\0", "ogg"),
        (b"GIF89a", "gif"),
        (b"DKIF\0\0", "ivf"),
        (b"YUV4MPEG2 W48", "yuv4mpegpipe"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6", "asf"),
        (b"\0\0\x01\xba\x44\0\x04", "mpeg"),
        (b"\0\0\x01\xb3\x14\0\xf0", "mpegvideo"),
        (b"\0\0\x01\xb0\x01\0", "m4v"),
        (b"\0\0\0\x01\x67\x64\0\x0a", "h264"),
        (b"\0\0\0\x01\x09\xf0\0", "h264"),
        (b"\0\0\0\x01\x40\x01\x0c", "hevc"),
        (b"\0\0\x01\x46\x01\x50", "hevc"),
        ((b"\x47" + bytes(187)) * 8, "mpegts"),
        (bytes(4) + (b"\x47" + bytes(191)) * 8, "mpegts"),
        (b"junk" + (b"\x47" + bytes(187)) * 8, "mpegts"),
    ],
)
def test_videos_are_known_by_their_first_bytes(head: bytes, demuxer: str) -> None:
    assert demuxer_for(head) == demuxer


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\0" * 4096,
        b"#EXTM3U\n#EXT-X-VERSION:3\n/etc/passwd",
        b"ffconcat version 1.0\nfile '/etc/passwd'",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1",
        b"<?xml version='1.0'?><MPD>",
        b"movie=/etc/passwd",
        b"Hello, this is no video",
        b"%PDF-1.4",
        b"ID3\x04\0",
        b"fLaC",
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\0\0\0\0WEBPVP8X",
        b"RIFF\0\0\0\0WAVEfmt ",
    ],
)
def test_what_is_no_video_is_refused(head: bytes) -> None:
    with pytest.raises(NotAVideo) as refused:
        demuxer_for(head)
    assert refused.value.code == "not_a_video"
    assert "mp4" in refused.value.detail


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x06\x0e\x2b\x34\x02", "MXF"),
        (b"FWS\x08", "Flash"),
        (b".RMF\0", "RealMedia"),
        (b"nut/multimedia container\0", "NUT"),
        (b"\x1f\x07\x00\x3f", "raw-DV"),
    ],
)
def test_containers_that_are_left_out_are_named(head: bytes, name: str) -> None:
    with pytest.raises(UnsupportedFormat, match=re.escape(f"({name})")) as refused:
        demuxer_for(head)
    assert refused.value.code == "unsupported_media"


def test_random_bytes_are_hardly_ever_taken_for_a_video() -> None:
    rng = random.Random(0)
    taken = 0
    for _ in range(500):
        try:
            demuxer_for(rng.randbytes(HEAD_BYTES))
            taken += 1
        except VideoError:
            pass
    assert taken == 0
