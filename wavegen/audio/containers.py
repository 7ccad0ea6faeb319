"""The length of audio files by their own bytes, where the decoder does not check it.

Functions take a file that is open for reading in binary mode, unbuffered, and its size in bytes
where they need it.
"""

import struct
from functools import cache
from typing import BinaryIO

# Encoders that write to a pipe cannot know the size: they write 2^32-1 or about 2^31.
_STREAMED_SIZE = 0x7FFF_F000
_OGG_PAGE_BYTES = 65_307
_MP3_TAIL_BYTES = 4096  # the frames of padding that an encoder asks players to leave out
_ID3V1_BYTES = 128
_FLAC_HEADER_BYTES = 16  # of a block, at most
# By chance one place in 2^24 looks like the header of a block. A crafted file could have millions.
_MOST_TRIED = 8


def wav_data(file: BinaryIO) -> tuple[int, int] | None:
    """Where the audio of a WAV starts, and its length in bytes; None if it has no such header."""
    order = ">" if _at(file, 0, 4) == b"RIFX" else "<"
    offset, wide = 12, 0
    for _ in range(1000):  # chunks; a crafted file could have millions of empty ones
        header = _at(file, offset, 24)
        if len(header) < 8:
            return None
        name, length = header[:4], struct.unpack_from(order + "I", header, 4)[0]
        if name == b"ds64" and len(header) == 24:
            wide = struct.unpack_from("<Q", header, 16)[0]
        if name == b"data":
            if length == 0xFFFF_FFFF and wide:
                return offset + 8, wide
            return None if length >= _STREAMED_SIZE else (offset + 8, length)
        offset += 8 + length + length % 2
    return None


def ogg_ends(file: BinaryIO, size: int) -> bool:
    """Whether the last page of an OGG is complete and marked as the last."""
    tail = _at(file, max(0, size - _OGG_PAGE_BYTES), _OGG_PAGE_BYTES)
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27:
        return False
    header = 27 + page[26]
    return bool(page[5] & 4) and len(page) >= header + sum(page[27:header])


def mp3_says_length(file: BinaryIO) -> bool:
    """Whether an MP3's first frame carries the tag with its exact length."""
    first = _at(file, _after_id3(file), 64)
    return b"Xing" in first or b"Info" in first


def mp3_goes_on(file: BinaryIO, size: int, here: int) -> bool:
    """Whether there are more frames after the place where the decoder stopped.

    Without a length tag the decoder estimates the length from the first frame, and may stop
    in the middle of the audio.
    """
    following = _at(file, here, 2)
    goes_on = len(following) == 2 and following[0] == 0xFF and following[1] >= 0xE0
    return goes_on and size - here > _MP3_TAIL_BYTES


def flac_bits(file: BinaryIO) -> int | None:
    """Bits of a sample of a FLAC; None if it is none."""
    about = _at(file, _after_id3(file), 26)
    if about[:4] != b"fLaC" or len(about) < 26:
        return None
    return (int.from_bytes(about[18:26], "big") >> 36 & 31) + 1


def flac_frames(file: BinaryIO, size: int) -> int | None:
    """Frames of a FLAC without a length in its header; None if its last block is not complete.

    Encoders that write to a pipe cannot return to the header (RFC 9639, sections 8.2 and 9).
    """
    about = _at(file, _after_id3(file), 26)
    longest = int.from_bytes(about[10:12], "big")
    rest = int.from_bytes(about[18:26], "big")
    channels, bits = (rest >> 41 & 7) + 1, (rest >> 36 & 31) + 1
    # No encoder writes more than uncompressed samples, where a channel may have one bit more.
    block_bytes = longest * channels * (bits + 1) // 8 + channels + 64
    tail = _at(file, max(0, size - block_bytes - _ID3V1_BYTES), block_bytes + _ID3V1_BYTES)
    if tail[-_ID3V1_BYTES:][:3] == b"TAG":
        tail = tail[:-_ID3V1_BYTES]
    start, tried = len(tail), 0
    while tried < _MOST_TRIED and (start := tail.rfind(b"\xff", 0, start)) >= 0:
        frames = _flac_frames_until(tail[start : start + _FLAC_HEADER_BYTES], longest)
        if frames is None:
            continue
        tried += 1
        # The checksum of data that ends with its own checksum is 0.
        if _crc(tail[start:], 0x8005, 16) == 0:
            return frames
    return None


def _flac_frames_until(header: bytes, longest: int) -> int | None:
    """Frames up to the end of a block that begins with `header`; None if it is no header."""
    if len(header) < 6 or header[1] & 0xFE != 0xF8 or header[3] & 1:
        return None
    # A number coded as in UTF-8, but in up to seven bytes: the leading ones count them.
    ones = 8 - (header[4] ^ 0xFF).bit_length()
    if ones in (1, 8):
        return None
    number = header[4] & 0x7F >> ones
    end = 4 + max(1, ones)
    for byte in header[5:end]:
        number = number << 6 | byte & 0x3F
    code = header[2] >> 4
    if code in (6, 7):
        block = int.from_bytes(header[end : end + code - 5], "big") + 1
        end += code - 5
    elif code >= 8:
        block = 256 << code - 8
    else:
        block = 192 if code == 1 else 576 << code - 2 if code else 0
    end += {12: 1, 13: 2, 14: 2}.get(header[2] & 15, 0)  # the sample rate
    if not block or len(header) <= end or _crc(header[: end + 1], 0x07, 8):
        return None
    # Blocks of a fixed size have a block number, others the number of their first frame.
    return number + block if header[1] & 1 else number * longest + block


def _crc(data: bytes, polynomial: int, bits: int) -> int:
    """Cyclic redundancy check of `data`, the highest bit first, beginning with 0."""
    table = _crc_table(polynomial, bits)
    check, mask = 0, (1 << bits) - 1
    for byte in data:
        check = (check << 8 & mask) ^ table[check >> bits - 8 ^ byte]
    return check


@cache
def _crc_table(polynomial: int, bits: int) -> list[int]:
    table = []
    for byte in range(256):
        check = byte << bits - 8
        for _ in range(8):
            check = check << 1 ^ (polynomial | 1 << bits if check >> bits - 1 else 0)
        table.append(check)
    return table


def _after_id3(file: BinaryIO) -> int:
    """Where the audio begins, after a tag of ID3v2 if there is one."""
    header = _at(file, 0, 10)
    if header[:3] != b"ID3" or len(header) < 10:
        return 0
    size = header[6:]  # four times seven bits
    return 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3])


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    """Up to `size` bytes at `offset`. (Windows has no `os.pread`.)"""
    file.seek(offset)
    return file.read(size)
