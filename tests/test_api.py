import inspect
import pickle
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from small import LABELS, TINY
from small import network as small_network

import wavegen
from wavegen.codecs import mulaw
from wavegen.commands.main import main
from wavegen.errors import AudioFileError, ConfigError, LabelError, ModelError
from wavegen.generation.generate import generate
from wavegen.models.serialization import save_model
from wavegen.scoring.likelihood import recording_bits


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> wavegen.Model:
    folder = tmp_path_factory.mktemp("api") / "model"
    save_model(small_network(labels=LABELS), folder)
    return wavegen.load(folder, device="cpu")


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    return 0.3 * np.random.default_rng(0).standard_normal(700).astype(np.float32)


def test_all_names_are_there_and_documented() -> None:
    assert set(wavegen.__all__) <= set(dir(wavegen))
    for name in wavegen.__all__:
        assert inspect.getdoc(getattr(wavegen, name)), name
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        wavegen.lode  # noqa: B018


def test_generating_gives_the_samples_of_the_command(model, tmp_path: Path) -> None:
    one = model.generate(digit=1, speaker="bob", seconds=0.02, seed=3)
    assert (one.shape, one.dtype, one.sample_rate) == ((160,), np.float32, 8000)
    kind = {"digit": "1", "speaker": "bob"}
    np.testing.assert_array_equal(one, generate(model.network, kind, seconds=0.02, seed=3)[0])
    several = model.generate(labels=kind, count=3, seconds=0.02, seed=3)
    assert several.shape == (3, 160)
    np.testing.assert_array_equal(several[0], one)
    back, rate = soundfile.read(several[1].save(tmp_path / "a.wav"))
    assert rate == 8000
    np.testing.assert_allclose(back, several[1], atol=1 / 32768)
    assert type(one.samples) is np.ndarray
    assert several._repr_html_().count("<audio") == 3
    with pytest.raises(ConfigError, match="3 waveforms"):
        several.save(tmp_path / "b.wav")


def test_a_stream_is_what_is_generated_at_once(model) -> None:
    chunks: Iterator[wavegen.Audio] = model.stream(digit="2", chunk=50, seed=1)
    first = [next(chunks)]
    # What is generated in between does not disturb it.
    whole = model.generate(digit="2", seconds=300 / 8000, seed=1)
    np.testing.assert_array_equal(np.concatenate([*first, *islice(chunks, 5)]), whole)
    with pytest.raises(LabelError):
        model.stream(digit="9")


def test_an_engine_is_prepared_once(monkeypatch, tmp_path: Path) -> None:
    save_model(small_network(), tmp_path / "model")
    model = wavegen.load(tmp_path / "model", device="cpu")
    made = []
    choose = wavegen.choose_engine
    monkeypatch.setattr(
        "wavegen.api.generating.choose",
        lambda *given, **named: made.append(1) or choose(*given, **named),
    )
    for count in (None, 3, None):
        model.generate(count=count, seconds=0.01)
    streamed = model.stream()
    next(streamed)
    assert len(made) == 1
    model.generate(seconds=0.01)
    assert len(made) == 2
    streamed.close()


def test_further_training_is_heard_and_has_gradients(tmp_path: Path, wave) -> None:
    save_model(small_network(labels=LABELS), tmp_path / "model")
    model = wavegen.load(tmp_path / "model", device="cpu")
    assert not model.logits(wave).requires_grad
    before = model.generate(seconds=0.02)
    optimizer = torch.optim.SGD(model.network.train().requires_grad_().parameters(), lr=1.0)
    model.logits(wave, digit=1).logsumexp(-1).mean().backward()
    optimizer.step()
    model.network.requires_grad_(False)
    assert not np.array_equal(before, model.generate(seconds=0.02))


def test_a_waveform_keeps_its_rate(model, wave) -> None:
    audio = pickle.loads(pickle.dumps(wavegen.Audio(wave, 16_000)[:600]))
    np.testing.assert_array_equal(audio, wave[:600])
    assert audio.sample_rate == 16_000
    assert model.score(audio) == model.score(wave[:600], 16_000)
    assert model.score(audio).samples == 300


@pytest.mark.parametrize(
    "make", [np.asarray, torch.from_numpy, np.ndarray.tolist, lambda x: x[None]]
)
def test_waveforms_of_every_kind_are_scored_alike(model, wave, make) -> None:
    scored = model.score(make(wave), digit="1")
    assert scored.bits == pytest.approx(recording_bits(model.network, wave, {"digit": "1"}))
    assert scored.bits_per_sample == scored.bits / 700
    assert str(scored) == f"waveform: {scored.bits_per_sample:.4f} bits per sample, 0.09 s"


def test_integers_are_scaled(model, wave) -> None:
    integers = np.rint(wave * 32768).clip(-32768, 32767).astype(np.int16)
    assert model.score(integers).bits == model.score(integers / np.float32(32768)).bits
    wide = integers.astype(np.int32) << 16
    assert model.score(wide).bits == model.score(integers).bits
    prompted = model.generate(seconds=0.01, prompt=integers)
    np.testing.assert_array_equal(
        prompted, model.generate(seconds=0.01, prompt=integers / np.float32(32768))
    )


def test_files_and_waveforms_of_another_rate_agree(model, wave, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", wave, 11_025, subtype="FLOAT")
    of_file = model.score(tmp_path / "a.wav")
    assert model.score(wave, sample_rate=11_025).bits == of_file.bits
    first, _ = model.score([tmp_path / "a.wav", wave])
    assert first.bits == of_file.bits
    assert [each.bits for each in model.score(tmp_path)] == [of_file.bits]


def test_classes_and_logits(model, wave) -> None:
    found = model.classify(wave, speaker="ann")
    assert set(found.predicted) == {"digit"}
    assert sum(found.posterior["digit"].values()) == pytest.approx(1)
    assert found.predicted["digit"] in str(found)
    logits = model.logits(wave, digit="1")
    assert logits.shape == (700, 256)
    codes = mulaw.encode(wave, 256)
    nats = torch.nn.functional.cross_entropy(logits.double(), torch.from_numpy(codes))
    bits = nats.item() / np.log(2)
    assert bits == pytest.approx(model.score(wave, digit="1").bits_per_sample, rel=1e-5)


def test_detection_of_waveforms(tmp_path: Path) -> None:
    save_model(small_network(), tmp_path / "model")
    rng = np.random.default_rng(0)
    (tmp_path / "normal").mkdir()
    for number in range(40):
        noise = 0.1 * rng.standard_normal(800)
        soundfile.write(tmp_path / "normal" / f"{number}.wav", noise, 8000)
    model = wavegen.load(tmp_path / "model", device="cpu")
    with pytest.raises(ModelError, match="calibrate"):
        model.detect(np.zeros(800, np.float32))
    model.calibrate(tmp_path / "normal")
    loud, quiet = model.detect(
        [rng.uniform(-1, 1, 800), 0.1 * rng.standard_normal(800)], false_alarms=0.1
    )
    assert not loud.normal
    assert "anomalous" in str(loud)
    # Nor does what lies below print a histogram.
    assert "histogram" not in repr(model.detector(0.1).judge(np.zeros(800)))
    assert quiet.distance < loud.distance


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m, _: m.generate(colour="red"), LabelError, "colour"),
        (lambda m, _: m.generate(digit=7), LabelError, "choose one of 0, 1, 2"),
        (lambda m, _: m.generate(labels="seven"), ConfigError, "attribute -> class"),
        (lambda m, _: m.generate(prompt=np.zeros((2, 50))), ConfigError, "one channel"),
        (lambda m, _: m.score(np.zeros((2, 50))), ConfigError, "one channel"),
        (lambda m, _: m.score(np.zeros(5, np.int64)), ConfigError, "int64"),
        (lambda m, _: m.score(np.zeros(0, np.float32)), AudioFileError, "no samples"),
        (lambda m, _: m.score([[0.0], [0.0, 1.0]], sample_rate=1), ConfigError, "sample_rate"),
        (lambda m, _: m.logits([[0.0], [0.0, 1.0]]), ConfigError, "unequal"),
        (lambda m, _: m.score(7), ConfigError, "no recording"),
        (lambda m, path: m.score(path / "text.wav"), AudioFileError, "text.wav"),
        (lambda _, path: wavegen.load(path), ModelError, "no model"),
        (lambda _, path: wavegen.train(path, max_time="soon"), ConfigError, "10m"),
        (lambda _, path: wavegen.AudioDataModule(str(path)).setup(), ConfigError, "match"),
        (lambda _, path: wavegen.train(path, data=3), ConfigError, "dictionary"),
    ],
)
def test_mistakes_are_one_line(model, tmp_path: Path, call, error, words) -> None:
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(error, match=words) as caught:
        call(model, tmp_path)
    assert "\n" not in str(caught.value)


def test_training_looking_and_loading(tone_folder, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WAVEGEN_CACHE", str(tmp_path / "cache"))
    looked = wavegen.info(tone_folder)
    assert (looked.sample_rate, looked.labels) == (8000, {"label": ("high", "low")})
    assert "high (6), low (6)" in str(looked)
    groups: dict[str, dict[str, object]] = {}
    for option in TINY:
        name, value = option[2:].split("=")
        group, _, field = name.partition(".")
        groups.setdefault(group, {})[field] = value
    sizes = {k.partition(".")[2]: v for k, v in groups["model"].items() if "." in k}
    groups["model"] = {k: v for k, v in groups["model"].items() if "." not in k}
    trained = wavegen.train(
        tone_folder,
        run=tmp_path / "run",
        steps=4,
        network={**sizes, "layers": 6},
        ema_decay=0,
        **groups,
    )
    assert trained.folder == tmp_path / "run"
    assert trained.model.config.layers == 6
    assert 0 < trained.best_bits < 9
    described, held_out = str(wavegen.info(trained.folder)).rsplit("\n", 1)
    assert described in repr(trained.model)
    assert f" {trained.best_bits:.3f} bits per sample at step " in held_out
    # Unlike a network that was just made, a loaded one takes no gradients until it is asked to.
    network = trained.model.network.train().requires_grad_()
    network(torch.zeros(1, 40, dtype=torch.int64)).sum().backward()


def test_looking_prints_what_the_command_prints(tone_folder, capsys) -> None:
    assert main(["info", str(tone_folder)]) == 0
    assert capsys.readouterr().out == f"{wavegen.info(tone_folder)}\n"
    with pytest.raises(ConfigError, match="no such"):
        wavegen.info(tone_folder / "nowhere")


def test_completion_and_import_load_no_torch() -> None:
    code = "import sys, wavegen; dir(wavegen); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
