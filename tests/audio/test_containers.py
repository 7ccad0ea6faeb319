"""What the bytes of a FLAC tell beyond what the decoder does; test_audio.py has the rest."""

from pathlib import Path

import audio_files as odd
import numpy as np
import pytest

from wavegen.audio import containers, reading
from wavegen.errors import AudioFileError


@pytest.fixture
def streamed(tmp_path: Path) -> Path:
    """A FLAC of 8200 frames in three blocks, whose header says zero frames, as to a pipe."""
    path = odd.claim_flac_frames(odd.save(tmp_path / "a.flac", odd.noise(1.025)), 0)
    # Neither the sizes of blocks nor the checksum of the audio are known in advance.
    return odd.patch(odd.patch(path, 12, bytes(6)), 26, bytes(16))


def test_a_flac_without_a_length_is_read_as_one_with_it(streamed: Path, tmp_path: Path) -> None:
    told = odd.save(tmp_path / "told.flac", odd.noise(1.025))
    assert reading.probe(streamed) == reading.probe(told) == reading.AudioInfo(8000, 1, 8200)
    np.testing.assert_array_equal(reading.read(streamed), reading.read(told))
    np.testing.assert_array_equal(reading.read(streamed, 5000), reading.read(told, 5000))


def test_tags_before_and_after_it_are_passed_over(streamed: Path) -> None:
    plain = streamed.read_bytes()
    for before in (b"", b"ID3\x04\x00\x00\x00\x00\x01\x02" + bytes(130)):
        for after in (b"", b"TAG" + b"\xff\xf8" * 62 + b"\x00"):
            streamed.write_bytes(before + plain + after)
            assert reading.probe(streamed).frames == 8200
            assert len(reading.read(streamed)) == 8200


@pytest.mark.parametrize("lost", [1, 2, 3, 10, 30, 1000, 9000])
def test_one_cut_short_is_refused_by_its_header(streamed: Path, lost: int) -> None:
    streamed.write_bytes(streamed.read_bytes()[:-lost])
    with pytest.raises(AudioFileError, match="cut short"):
        reading.probe(streamed)


def test_one_without_a_block_in_the_middle_is_refused(streamed: Path) -> None:
    data = streamed.read_bytes()
    second = data.index(b"\xff\xf8", data.index(b"\xff\xf8") + 1000)
    streamed.write_bytes(data[: second - 3000] + data[second:])
    with pytest.raises(AudioFileError, match=r"is cut short \(or damaged, after"):
        reading.read(streamed)


@pytest.mark.parametrize("block", [0, 16, 1000, 4096])
@pytest.mark.parametrize("bits", [8, 16, 24])
def test_blocks_of_any_size_are_counted(tmp_path: Path, block: int, bits: int) -> None:
    most = 2 ** (bits - 1)
    samples = np.random.default_rng(0).integers(-most, most, 6001)
    path = odd.flac(tmp_path / "a.flac", samples, bits, block)
    assert reading.probe(path).frames == 6001
    np.testing.assert_array_equal(reading.read(path), (samples / most).astype(np.float32))


@pytest.mark.parametrize("bits", [12, 20])
def test_a_depth_that_cannot_be_decoded_is_said_with_a_remedy(tmp_path: Path, bits: int) -> None:
    path = odd.flac(tmp_path / "a.flac", np.arange(2000), bits, 500)
    with pytest.raises(AudioFileError, match=rf"a\.flac: is FLAC of {bits} bits.* convert it to"):
        reading.probe(path)


def test_of_thousands_of_false_blocks_a_few_are_looked_at(tmp_path: Path, monkeypatch) -> None:
    """Each has a sound header; the checksums of all would take an hour."""
    path = odd.flac(tmp_path / "a.flac", np.zeros(20, int), 16, 16)
    block = len(b"fLaC") + 4 + 34
    header = path.read_bytes()[block : block + 8]
    path.write_bytes(path.read_bytes() + 40_000 * header)
    odd.patch(path, 10, b"\xff\xff")
    checked = []
    real = containers._crc

    def count(data: bytes, polynomial: int, bits: int) -> int:
        checked.append(bits)
        return real(data, polynomial, bits)

    monkeypatch.setattr(containers, "_crc", count)
    with pytest.raises(AudioFileError, match="cut short"):
        reading.probe(path)
    assert 0 < checked.count(16) < 10
