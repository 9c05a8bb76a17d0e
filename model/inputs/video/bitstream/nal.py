"""NAL units, the envelopes of H.264 and HEVC: length-prefixed (mp4) or start-coded (streams)."""

from __future__ import annotations

from collections.abc import Iterator

START_CODE = b"\x00\x00\x01"
# A picture of more units than this is not what an encoder writes.
MAX_UNITS = 512


class NalError(ValueError):
    """The units do not fill the packet exactly."""


def units(packet: memoryview, length_size: int) -> Iterator[memoryview]:
    """Yield the NAL units of a packet; `length_size` 0 means start codes."""
    return _prefixed(packet, length_size) if length_size else _start_coded(packet)


def _prefixed(packet: memoryview, length_size: int) -> Iterator[memoryview]:
    position, end = 0, len(packet)
    for _ in range(MAX_UNITS):
        if position == end:
            return
        first = position + length_size
        position = first + int.from_bytes(packet[position:first], "big")
        if position <= first or position > end:
            raise NalError
        yield packet[first:position]
    raise NalError


def _start_coded(packet: memoryview) -> Iterator[memoryview]:
    data = bytes(packet)
    first = data.find(START_CODE) + len(START_CODE)
    if first < len(START_CODE):
        raise NalError
    for _ in range(MAX_UNITS):
        following = data.find(START_CODE, first)
        # Zeros before a start code belong to no unit.
        unit = data[first:] if following < 0 else data[first:following].rstrip(b"\0")
        if not unit:
            raise NalError
        yield memoryview(unit)
        if following < 0:
            return
        first = following + len(START_CODE)
    raise NalError


class ParameterSets:
    """The parameter sets of a stream. A change of content in mid-stream ends all planning:
    decoding from a later key frame would then start with the wrong ones.
    """

    def __init__(self) -> None:
        self._known: set[bytes] = set()
        self._open = True

    def add(self, unit: memoryview | bytes) -> bool:
        """Note a parameter set; False if it is new after the first picture."""
        content = bytes(unit).rstrip(b"\0")
        if content in self._known:
            return True
        if self._open:
            self._known.add(content)
        return self._open

    def close(self) -> None:
        """Take no more sets: the first picture has come."""
        self._open = False
