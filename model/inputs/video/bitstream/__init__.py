"""Read just enough of a coded picture to know how it depends on others, without decoding it.

An inspector says of each packet what the planner must know (`Role`), or that it cannot tell
(`None`); one `None` and the whole file is decoded. Codecs without an inspector always are.
"""

from __future__ import annotations

from model.inputs.video.bitstream.av1 import Av1Inspector
from model.inputs.video.bitstream.h264 import H264Inspector
from model.inputs.video.bitstream.hevc import HevcInspector
from model.inputs.video.bitstream.intra import IntraInspector, JpegInspector, ProResInspector
from model.inputs.video.bitstream.mpeg import Mpeg4Inspector, MpegInspector
from model.inputs.video.bitstream.role import Inspector, Role
from model.inputs.video.bitstream.vpx import Vp8Inspector, Vp9Inspector

__all__ = ["Inspector", "Role", "inspector_for"]

INTRA_ONLY = frozenset(("dnxhd", "huffyuv", "ffvhuff", "rawvideo"))


def inspector_for(codec: str, extradata: bytes | None, *, cut: bool = False) -> Inspector | None:
    """Return the inspector for a decoder's name and a stream's header; None where there is none.

    Args:
        codec: Name of the decoder.
        extradata: The stream's header.
        cut: Whether the demuxer has cut the packets out of a stream, picture by picture.
    """
    header = extradata or b""
    if codec in INTRA_ONLY:
        return IntraInspector()
    if codec == "prores":
        return ProResInspector()
    if codec == "mjpeg":
        return JpegInspector()
    if codec == "h264":
        return H264Inspector(header)
    if codec == "hevc":
        return HevcInspector(header)
    if codec in ("mpeg1video", "mpeg2video"):
        return MpegInspector(cut)
    if codec == "mpeg4":
        return Mpeg4Inspector()
    if codec == "vp8":
        return Vp8Inspector()
    if codec == "vp9":
        return Vp9Inspector()
    if codec in ("av1", "libdav1d"):
        return Av1Inspector(header)
    return None
