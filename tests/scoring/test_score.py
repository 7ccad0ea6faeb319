"""Files in, bits and posteriors out; one likelihood whatever is read and scored together."""

import csv
import json
import math
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import LABELS
from small import network as small_network

from wavegen.audio import reading
from wavegen.codecs import mulaw
from wavegen.codecs.windows import SUMMED, total
from wavegen.commands.main import main
from wavegen.data.clips import find_clips
from wavegen.data.labels import label_ids
from wavegen.data.settings import DataSettings, save_training
from wavegen.engines import choice
from wavegen.engines.cpu.wavenet_scorer import NumbaScorer
from wavegen.engines.reference_scorer import TorchScorer, with_context
from wavegen.errors import ConfigError, LabelError, ModelError
from wavegen.models.condition import Condition
from wavegen.models.serialization import save_model
from wavegen.scoring import likelihood
from wavegen.scoring import score as scoring
from wavegen.scoring.classify import class_kinds, classify, posterior
from wavegen.scoring.likelihood import recording_bits, scorer
from wavegen.scoring.score import score
from wavegen.scoring.sources import Source, find_sources

KINDS = [{"digit": "1"}, {}, {"digit": "0", "speaker": "bob"}]


def whole(network, codes: np.ndarray, kind) -> np.ndarray:
    """Bits of every sample from one parallel pass."""
    ids = label_ids([kind], network.config.labels)
    logits = network(torch.from_numpy(codes)[None], ids).double().log_softmax(-1)
    return -logits[0, np.arange(len(codes)), codes].numpy() / math.log(2)


def of(network, kinds) -> Condition:
    return Condition(label_ids(kinds, network.config.labels))


def make_scorer(kind: str, network, chunk: int):
    return {"torch": TorchScorer, "numba": NumbaScorer}[kind](network, of(network, KINDS), chunk)


@pytest.mark.parametrize("kind", ["torch", "numba"])
@settings(deadline=None, max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=4),
    chunk=st.integers(1, 2000),
    shape=st.sampled_from(
        [
            {},
            {"kernel_size": 3, "gate": "tanh"},
            {"layers": 1, "stacks": 1},
            {"residual_channels": 33, "gate_channels": 34, "skip_channels": 65},
            {"quantization_channels": 300},
            {"quantization_channels": 2},
        ]
    ),
)
def test_bits_do_not_depend_on_what_is_scored_together(kind, lengths, chunk, shape) -> None:
    network = small_network(labels=LABELS, **shape)
    codes = network.config.quantization_channels
    rng = np.random.default_rng(0)
    recordings = [rng.integers(0, codes, length) for length in lengths]
    scored = make_scorer(kind, network, chunk).surprisals(recordings)
    for recording, bits in zip(recordings, scored, strict=True):
        assert bits.shape == (3, len(recording))
        for row, labels in enumerate(KINDS):
            expected = whole(network, recording, labels)
            assert np.abs(bits[row] - expected).max() < 1e-4
            # A recording of one likely sample has few bits, and float32 rounds those of each.
            assert bits[row].sum() == pytest.approx(expected.sum(), rel=1e-6, abs=1e-5)


@pytest.mark.parametrize("kind", ["torch", "numba"])
@settings(deadline=None, max_examples=20)
@given(
    cuts=st.lists(st.integers(0, 200), max_size=6),
    seed=st.integers(0, 99),
    kernel_size=st.sampled_from([2, 3]),
)
def test_bits_do_not_depend_on_where_a_recording_is_cut(kind, cuts, seed, kernel_size) -> None:
    network = small_network(labels=LABELS, kernel_size=kernel_size)
    codes = np.random.default_rng(seed).integers(0, 256, 200)
    made = make_scorer(kind, network, 64)
    places = [0, *sorted(set(cuts) - {0, 200}), 200]
    blocks = (codes[a:b] for a, b in pairwise(places))
    got = np.concatenate(
        list(with_context(made.surprisals, network.receptive_field, blocks)), axis=1
    )
    for row, labels in enumerate(KINDS):
        expected = whole(network, codes, labels)
        assert np.abs(got[row] - expected).max() < 1e-4
        assert got[row].sum() == pytest.approx(expected.sum(), rel=1e-6)


def test_compiled_bits_are_the_same_to_the_last_bit_however_they_are_cut() -> None:
    """Blocks within a piece, pieces within a recording, threads, and what lies beside."""
    network = small_network(labels=LABELS, layers=8, residual_channels=20)
    codes = np.random.default_rng(0).integers(0, 256, 3000)
    (expected,) = make_scorer("numba", network, 1 << 15).surprisals([codes])
    for piece in (1, 700, 2999):
        made = make_scorer("numba", network, piece)
        got, _ = made.surprisals([codes, codes[:100]])
        assert np.array_equal(got, expected)
        blocks = with_context(
            made.surprisals, network.receptive_field, [codes[:90], codes[90:91], codes[91:]]
        )
        assert np.array_equal(np.concatenate(list(blocks), axis=1), expected)
    (alone,) = NumbaScorer(network, of(network, KINDS[2:])).surprisals([codes])
    assert np.array_equal(alone[0], expected[2])


@pytest.mark.parametrize("kind", ["torch", "numba"])
def test_totals_are_those_of_all_bits_in_memory_that_labels_do_not_multiply(kind) -> None:
    network = small_network(labels=LABELS)
    codes = np.random.default_rng(0).integers(0, 256, 16000)
    made = {"torch": TorchScorer, "numba": NumbaScorer}[kind](
        network, of(network, KINDS * 20), 4000
    )
    (expected,) = made.surprisals([codes])
    made.totals([codes[:10]])
    tracemalloc.start()
    ((sums, first),) = made.totals([codes])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < expected.nbytes / 4
    assert np.array_equal(first, expected[0])
    assert sums.shape == (60, -(-len(codes) // SUMMED))
    by_hand = [expected[:, at : at + SUMMED].sum(axis=1) for at in range(0, len(codes), SUMMED)]
    assert total(sums) == pytest.approx(np.sum(by_hand, axis=0), rel=1e-12)
    assert sums == pytest.approx(np.stack(by_hand, axis=1), rel=1e-12)


def test_compiled_totals_are_the_same_to_the_last_bit_however_they_are_cut() -> None:
    network = small_network(labels=LABELS, layers=8, residual_channels=20)
    codes = np.random.default_rng(0).integers(0, 256, 3000)
    ((expected, first),) = make_scorer("numba", network, 1 << 15).totals([codes])
    threads = torch.get_num_threads()
    try:
        for piece, count in ((1, 1), (700, 2), (2999, 3)):
            torch.set_num_threads(count)
            made = make_scorer("numba", network, piece)
            (sums, bits), _ = made.totals([codes, codes[:100]])
            assert np.array_equal(sums, expected)
            assert np.array_equal(bits, first)
    finally:
        torch.set_num_threads(threads)
    cuts = [codes[: 2 * SUMMED], codes[2 * SUMMED : 3 * SUMMED], codes[3 * SUMMED :]]
    sums = [sums for sums, _ in made.blocks(cuts)]
    assert np.array_equal(np.concatenate(sums, axis=1), expected)
    carried = total(sums[2], total(sums[1], total(sums[0])))
    assert np.array_equal(carried, total(expected))


def test_very_likely_and_very_unlikely_codes_have_finite_bits() -> None:
    network = small_network()
    with torch.no_grad():
        network.output.bias[7] += 500
    codes = np.array([7, 7, 8, 7])
    (bits,) = NumbaScorer(network, of(network, [{}])).surprisals([codes])
    assert bits[0, [0, 1, 3]] == pytest.approx(0, abs=1e-6)
    assert bits[0, 2] == pytest.approx(whole(network, codes, {})[2], rel=1e-6)
    assert bits[0, 2] > 500


@pytest.mark.parametrize("codes", [[-1], [3, 256]])
def test_codes_that_there_are_not_are_refused(codes) -> None:
    with pytest.raises(IndexError, match="from 0 to 255"):
        make_scorer("numba", small_network(labels=LABELS), 10).surprisals([np.array(codes)])


def test_weights_are_read_when_the_scorer_is_made() -> None:
    network = small_network(labels=LABELS)
    codes = np.arange(50)
    (before,) = scorer(network, KINDS).surprisals([codes])
    with torch.no_grad():
        network.hidden.weight.mul_(1.5)
    (after,) = scorer(network, KINDS).surprisals([codes])
    assert np.abs(after[0] - whole(network, codes, KINDS[0])).max() < 1e-4
    assert np.abs(after - before).max() > 1e-3


def test_without_numba_torch_scores_and_that_is_said(monkeypatch, caplog) -> None:
    network = small_network(labels=LABELS)
    assert isinstance(scorer(network, KINDS), NumbaScorer)
    for cached in (choice._numba_failure, choice._say_once):
        cached.cache_clear()
    monkeypatch.setitem(sys.modules, "wavegen.engines.cpu.wavenet_scorer", None)
    try:
        assert isinstance(scorer(network, KINDS), TorchScorer)
        assert isinstance(scorer(network, KINDS), TorchScorer)
    finally:
        for cached in (choice._numba_failure, choice._say_once):
            cached.cache_clear()
    (said,) = caplog.messages
    assert "scoring more slowly with torch: numba cannot run" in said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five recordings of several lengths, one at another rate, and two that are none."""
    rng = np.random.default_rng(0)
    (tmp_path / "audio" / "deep").mkdir(parents=True)
    for number, length in enumerate((50, 700, 3, 320)):
        wave = 0.3 * rng.standard_normal(length)
        soundfile.write(tmp_path / "audio" / f"{number}.wav", wave, 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "audio" / "deep" / "4.wav", 0.3 * rng.standard_normal(900), 16000)
    (tmp_path / "audio" / "2b.wav").write_text("no audio")
    (tmp_path / "audio" / "z.wav").write_bytes(b"")
    return tmp_path / "audio"


@pytest.mark.parametrize("long", [1 << 18, 200, 0])
def test_files_are_scored_in_their_order_and_bad_ones_named(folder, monkeypatch, long) -> None:
    """Read ahead together, or alone block by block: it makes no difference."""
    monkeypatch.setattr(scoring, "_LONG", long)
    monkeypatch.setattr(scoring, "_AHEAD", 1000)
    network = small_network(labels=LABELS)
    sources = find_sources([folder / "3.wav", folder])
    seen = []
    results = list(score(network, sources, KINDS, keep=True, progress=seen.append))
    assert [each.source for each in results] == sources
    names = ["3.wav", "0.wav", "1.wav", "2.wav", "2b.wav", "3.wav", "4.wav", "z.wav"]
    assert [source.path.name for source in sources] == names
    assert [bool(each.error) for each in results] == [name in ("2b.wav", "z.wav") for name in names]
    for each in results:
        if each.error:
            assert str(each.source.path) not in each.error
            continue
        waveform = reading.read(each.source.path, 8000)
        assert each.samples == len(waveform)
        assert each.seconds == len(waveform) / 8000
        assert each.file_rate == (16000 if each.source.path.name == "4.wav" else 8000)
        assert np.array_equal(each.waveform, waveform)
        assert np.array_equal(each.histogram, np.bincount(mulaw.encode(waveform), minlength=256))
        for row, kind in enumerate(KINDS):
            expected = recording_bits(network, waveform, kind)
            assert each.bits[row] == pytest.approx(expected, rel=1e-6)
            if row == 0:
                assert each.surprisal.sum() == pytest.approx(expected, rel=1e-6)
    assert sum(seen) == sum(each.samples for each in results)


def test_totals_of_a_file_are_the_same_to_the_last_bit_block_by_block(folder, monkeypatch) -> None:
    network = small_network(labels=LABELS)
    together = list(score(network, folder, KINDS))
    monkeypatch.setattr(scoring, "_LONG", 100)
    monkeypatch.setattr(scoring, "BLOCK", 2 * SUMMED)
    for one, other in zip(together, score(network, folder, KINDS), strict=True):
        assert np.array_equal(one.bits, other.bits)
        assert one.samples == other.samples


@pytest.mark.parametrize("long", [1 << 18, 100])
@pytest.mark.parametrize("kind", ["torch", "numba"])
def test_weights_that_overflow_are_refused(folder, monkeypatch, kind, long) -> None:
    monkeypatch.setattr(scoring, "_LONG", long)
    if kind == "torch":
        for module in (scoring, likelihood):
            monkeypatch.setattr(module, "scorer", lambda net, k: TorchScorer(net, of(net, k)))
    network = small_network(labels=LABELS)
    for weight in network.parameters():
        weight.fill_(3e38)
    with pytest.raises(ModelError, match="not finite"):
        next(score(network, folder, KINDS))
    with pytest.raises(ModelError, match="not finite"):
        recording_bits(network, np.zeros(100, np.float32))


def test_a_long_file_damaged_at_its_end_is_bad_as_a_whole(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(scoring, "_LONG", 1000)
    wave = 0.1 * np.random.default_rng(0).standard_normal(300_000)
    soundfile.write(tmp_path / "a.flac", wave, 8000)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[-5000:-3000] = bytes(2000)
    (tmp_path / "a.flac").write_bytes(data)
    soundfile.write(tmp_path / "b.wav", wave[:100], 8000)
    bad, good = score(small_network(), find_sources([tmp_path]), [{}])
    assert bad.error
    assert good.samples == 100


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(LabelError, match="unknown digit"):
        list(score(small_network(labels=LABELS), [], [{"digit": "7"}]))


@pytest.mark.parametrize("long", [1 << 18, 200])
def test_a_waveform_is_scored_as_its_file(folder, monkeypatch, long) -> None:
    monkeypatch.setattr(scoring, "_LONG", long)
    network = small_network(labels=LABELS)
    files = find_sources([folder / "1.wav", folder / "deep" / "4.wav"])
    arrays = [
        replace(source, waveform=reading.read(source.path), sample_rate=rate)
        for source, rate in zip(files, (0, 16000), strict=True)
    ]
    pairs = zip(score(network, files, KINDS), score(network, arrays, KINDS), strict=True)
    for expected, found in pairs:
        assert np.array_equal(found.bits, expected.bits)
        assert found.samples == expected.samples
        assert found.file_rate == expected.file_rate
        assert found.without_samples().source.waveform is None
    (bad,) = score(network, [Source(Path("x"), waveform=np.array([0, np.inf], np.float32))])
    assert bad.error == "holds NaN or infinity; repair it or leave it out"


ATTRIBUTES = {"digit": ("0", "1", "2"), "speaker": ("a", "b")}


def test_the_posterior_is_bayes_rule() -> None:
    kinds, attributes = class_kinds(ATTRIBUTES, {}, most=5)
    assert kinds == [{"digit": d} for d in "012"] + [{"speaker": s} for s in "ab"]
    bits = np.array([100.0, 101.0, 103.0, 5000.0, 4000.0])
    uniform = posterior(bits, kinds, attributes)
    assert list(uniform["digit"].values()) == pytest.approx([8 / 13, 4 / 13, 1 / 13])
    assert uniform["speaker"] == {"a": pytest.approx(0, abs=1e-100), "b": 1.0}
    counts = {"digit": {"0": 1, "1": 2, "2": 0}, "speaker": {"a": 5, "b": 5}}
    skewed = posterior(bits, kinds, attributes, counts)
    assert list(skewed["digit"].values()) == pytest.approx([0.5, 0.5, 0])
    # The network may know classes that training had no clips of.
    assert posterior(bits, kinds, attributes, {**counts, "digit": {"1": 3}})["digit"]["1"] == 1
    with pytest.raises(ConfigError, match="--prior uniform"):
        posterior(bits, kinds, attributes, {"digit": {}, "speaker": {"c": 1}})
    unheard = {"digit": {"1": 3}, "speaker": {"a": 0}}
    for most in (5, 100):
        kinds, attributes = class_kinds(ATTRIBUTES, {}, most)
        with pytest.raises(ConfigError, match="no training clip has the attribute speaker"):
            posterior(np.zeros(len(kinds)), kinds, attributes, unheard)
    with pytest.raises(ConfigError, match="no training clip has the attribute speaker"):
        classify(small_network(labels=ATTRIBUTES), [], counts=unheard)
    kinds, attributes = class_kinds(ATTRIBUTES, {"speaker": "b"})
    assert kinds == [{"speaker": "b", "digit": d} for d in "012"]
    assert attributes == {"digit": ("0", "1", "2")}
    assert class_kinds(ATTRIBUTES, {"speaker": "b", "digit": "0"}) == ([], {})


def test_combinations_sum_over_the_other_attributes() -> None:
    kinds, attributes = class_kinds(ATTRIBUTES, {})
    assert kinds == [{"digit": d, "speaker": s} for d in "012" for s in "ab"]
    chances = np.array([[4, 1], [1, 1], [0.5, 8]])
    bits = 9000 - np.log2(chances.ravel())
    got = posterior(bits, kinds, attributes)
    assert list(got["digit"].values()) == pytest.approx(chances.sum(1) / chances.sum())
    assert list(got["speaker"].values()) == pytest.approx(chances.sum(0) / chances.sum())
    counts = {"digit": {"0": 3, "1": 0, "2": 1}, "speaker": {"a": 1, "b": 2}}
    weighed = chances * np.array([[3], [0], [1]]) * np.array([[1, 2]])
    got = posterior(bits, kinds, attributes, counts)
    assert list(got["digit"].values()) == pytest.approx(weighed.sum(1) / weighed.sum())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    network = small_network(labels={"label": ("high", "low")})
    save_model(network, tmp_path / "model")
    return tmp_path / "model"


def test_what_training_held_out_is_found_again(model, tone_folder, capsys) -> None:
    settings = DataSettings(labels=(), validation_fraction=0.5)
    save_training({}, settings, model)
    held_out = find_clips(tone_folder, settings).of("validation")
    assert len(held_out) > len(find_clips(tone_folder).of("validation"))
    command = ["score", str(model), str(tone_folder), "--split", "validation"]
    assert main([*command, "--format", "jsonl"]) == 0
    scored = [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()]
    assert scored == [str(clip.path) for clip in held_out]


def test_a_folder_without_the_attributes_of_training_is_read_as_it_is(
    model, tone_folder, capsys
) -> None:
    settings = DataSettings(labels=("label", "speaker"), validation_fraction=0.5)
    save_training({}, settings, model)
    command = ["classify", str(model), str(tone_folder), "--check"]
    assert main([*command, "--split", "validation"]) == 0
    held_out = find_clips(tone_folder, DataSettings(validation_fraction=0.5)).of("validation")
    assert f" of {len(held_out)} right" in capsys.readouterr().out
    # Other names than in training, and so other attributes.
    assert main([*command, "--data.label_pattern", r"(?P<number>\d)"]) == 0
    assert "right" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "reading",
    [
        3,
        [],
        {"labels": 3},
        {"labels": [3]},
        {"label_pattern": 3},
        {"validation_fraction": "1"},
        {"folder": "/"},
    ],
)
def test_a_model_cannot_say_anything_of_its_training(model, tone_folder, reading, capsys) -> None:
    (model / "training.json").write_text(json.dumps({"clips": {}, "reading": reading}))
    assert main(["score", str(model), str(tone_folder), "--split", "validation"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "training.json: does not hold the settings of training" in error


def test_score_prints_a_table_and_all_together(model, folder, capsys) -> None:
    # Two of the files are none.
    assert main(["score", str(model), str(folder), "--label", "low"]) == 1
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].split() == ["path", "samples", "seconds", "bits", "bits_per_sample"]
    assert len(lines) == 1 + 7 + 1
    assert "2b.wav: is not audio" in captured.out
    assert "resampled from 16000 to 8000 Hz" in captured.err
    assert "2 of 7 files could not be scored" in captured.err
    assert "uniform 8.0, order-0" in lines[-1]
    network = small_network(labels={"label": ("high", "low")})
    waves = [reading.read(path, 8000) for path in sorted(folder.rglob("[0134].wav"))]
    waves.append(reading.read(folder / "2.wav"))
    bits = sum(recording_bits(network, wave, {"label": "low"}) for wave in waves)
    assert float(lines[-1].split()[1]) == pytest.approx(bits / sum(map(len, waves)), abs=1e-4)


def test_score_for_programs(model, folder, capsys) -> None:
    assert main(["score", str(model), str(folder), "--format", "jsonl"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    fields = ["path", "samples", "seconds", "bits", "bits_per_sample", "error"]
    assert all(list(row) == fields for row in rows)
    assert [row["error"] is None for row in rows] == [row["samples"] is not None for row in rows]
    good = [row for row in rows if row["error"] is None]
    assert len(good) == 5
    for row in good:
        assert row["bits_per_sample"] == pytest.approx(row["bits"] / row["samples"])
    assert main(["score", str(model), str(folder), "--format", "csv"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == ",".join(fields)
    assert len(lines) == 8


def test_metadata_may_name_files_elsewhere(model, folder, tmp_path, capsys) -> None:
    elsewhere = tmp_path / "elsewhere.wav"
    elsewhere.write_bytes((folder / "0.wav").read_bytes())
    rows = "".join(f"{name},train\n" for name in ("0.wav", "1.wav", elsewhere))
    (folder / "metadata.csv").write_text(f"file_name,split\n{rows}")
    # What metadata leaves out is named, and not scored.
    assert main(["score", str(model), str(folder), "--split", "train"]) == 1
    assert "elsewhere.wav" in capsys.readouterr().out


def test_score_writes_every_sample_and_draws_it(model, folder, tmp_path, capsys) -> None:
    (folder / "deep" / "0.wav").write_bytes((folder / "0.wav").read_bytes())
    out = tmp_path / "out"
    arguments = ["score", str(model), str(folder), "--per-sample", str(out), "--plot", str(out)]
    assert main(arguments) == 1
    assert {path.name for path in out.iterdir()} == {
        f"{name}.{kind}"
        for name in ("0.wav", "1.wav", "2.wav", "3.wav", "deep-4.wav", "deep-0.wav")
        for kind in ("npz", "png")
    }
    with np.load(out / "1.wav.npz") as stored:
        assert stored["surprisal"].shape == (700,)
        assert stored["sample_rate"] == 8000
        network = small_network(labels={"label": ("high", "low")})
        expected = recording_bits(network, reading.read(folder / "1.wav"))
        assert stored["surprisal"].sum() == pytest.approx(expected, rel=1e-6)
    capsys.readouterr()
    twice = ["score", str(model), str(folder / "0.wav"), str(folder / "deep" / "0.wav")]
    assert main([*twice, "--plot", str(tmp_path / "twice")]) == 2
    assert "two files would be written to" in capsys.readouterr().err
    assert not (tmp_path / "twice").exists()
    assert main(twice) == 0


def test_the_commands_are_functions_of_paths_too(model, folder) -> None:
    path = folder / "1.wav"
    (scored,) = score(str(model), [str(path)], {"label": "low"})
    network = small_network(labels={"label": ("high", "low")})
    bits = [
        recording_bits(network, reading.read(path), {"label": each}) for each in ("low", "high")
    ]
    assert scored.bits == pytest.approx(bits[:1], rel=1e-6)
    found = list(classify(model, [path, folder / "z.wav"]))
    assert found[1].score.error
    assert found[1].predicted == {}
    share = 1 / (1 + 2 ** (bits[0] - bits[1]))
    assert found[0].posterior["label"]["low"] == pytest.approx(share, abs=1e-6)
    assert found[0].predicted == {"label": "low" if share > 0.5 else "high"}


def long_file(folder: Path, seconds: int) -> Path:
    """Noise at 8 kHz."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(80_000)
    with soundfile.SoundFile(folder / f"{seconds}.wav", "w", 8000, 1) as file:
        for _ in range(seconds // 10):
            file.write(noise)
    return folder / f"{seconds}.wav"


def most_memory(*arguments: object) -> int:
    """Bytes that a command takes at most, and what else a process needs."""
    code = f"""
import resource, sys
from wavegen.commands.main import main
assert main({[str(each) for each in arguments]}) in (0, 1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
    run = [sys.executable, "-c", code]
    return int(subprocess.check_output(run, text=True, stderr=subprocess.PIPE).splitlines()[-1])


@pytest.mark.slow
def test_an_hour_takes_no_more_memory_than_five_minutes(model, tmp_path) -> None:
    few, many = (
        most_memory("score", model, long_file(tmp_path, seconds)) for seconds in (300, 3600)
    )
    assert many < few + 20e6


@pytest.mark.slow
def test_judging_and_drawing_twenty_minutes_takes_no_more_memory_than_five(model, tmp_path) -> None:
    (tmp_path / "normal").mkdir()
    for number in range(40):
        wave = 0.1 * np.random.default_rng(number).standard_normal(800)
        soundfile.write(tmp_path / "normal" / f"{number}.wav", wave, 8000)
    assert main(["detect", "--calibrate", str(model), str(tmp_path / "normal")]) == 0
    short, long = long_file(tmp_path, 300), long_file(tmp_path, 1200)
    for command in (["detect", "--false-alarms", "0.1"], ["score", "--plot", tmp_path / "out"]):
        few, many = (most_memory(*command, model, path) for path in (short, long))
        # As an array of float64 it alone takes 77 MB.
        assert many < few + 15e6, command


def test_classify_checks_itself_against_the_labels(model, tone_folder, capsys) -> None:
    save_training({"label": {"high": 1, "low": 0}}, DataSettings(), model)
    command = ["classify", str(model), str(tone_folder), "--format", "jsonl"]
    assert main([*command, "--check"]) == 0
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert list(rows[0]) == ["path", "samples", "seconds", "posterior", "predicted", "error"]
    right = sum(row["predicted"]["label"] in row["path"] for row in rows)
    assert f"label: {right} of 12 right" in captured.err
    for row in rows:
        assert sum(row["posterior"]["label"].values()) == pytest.approx(1)
    assert main([*command, "--prior", "training"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(row["posterior"]["label"] == {"high": 1, "low": 0} for row in rows)
    assert main(["classify", str(model), str(tone_folder), "--format", "csv"]) == 0
    table = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert list(table[0]) == ["path", "samples", "seconds", "label", "label_probability", "error"]
    for row in table:
        assert row["label"] in ("high", "low")
        assert 0.5 <= float(row["label_probability"]) <= 1
    assert main(["classify", str(model), str(tone_folder), "--check"]) == 0
    out = capsys.readouterr().out
    matrix = [line.split() for line in out.splitlines()[-2:]]
    assert [line[0] for line in matrix] == ["high", "low"]
    assert sum(int(cell) for line in matrix for cell in line[1:]) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "MODEL", "nowhere"], "no such file or folder"),
        (["score", "nowhere", "FOLDER"], "no such folder"),
        (["score", "MODEL", "FOLDER", "--label", "x"], "unknown label 'x'"),
        (["score", "MODEL", "FOLDER/z.wav"], "none of the files could be scored"),
        (["classify", "MODEL", "FOLDER", "--label", "low"], "nothing to classify"),
        (["classify", "MODEL", "FOLDER", "--prior", "training"], "how many clips"),
        (["classify", "MODEL", "FOLDER/0.wav", "--check"], "only folders have labels"),
        (["score", "MODEL", "FOLDER", "--plot", "FOLDER/0.wav"], "0.wav"),
        (["score", "MODEL", "FOLDER", "--format", "xml"], "invalid choice"),
        (["score", "MODEL"], "required"),
    ],
)
def test_a_mistake_is_one_line(model, folder, capsys, arguments, message) -> None:
    names = {"MODEL": str(model), "FOLDER": str(folder)}
    words = [
        w.replace("FOLDER", names["FOLDER"]).replace("MODEL", names["MODEL"]) for w in arguments
    ]
    assert main(words) == 2
    err = [line for line in capsys.readouterr().err.splitlines() if "resampled" not in line]
    assert len(err) == 1
    assert message in err[0]
