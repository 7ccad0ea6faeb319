"""A network that only the tests know goes through every public path; no line is changed for it."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_tones
from pytorch_lightning import Trainer
from tiny_gru import TinyGRU, TinyGRUConfig

import wavegen
from wavegen.codecs import mulaw
from wavegen.codecs.windows import total
from wavegen.commands.main import main
from wavegen.data.batches import ValidationWindows
from wavegen.data.labels import label_ids
from wavegen.distributions.sampling import Sampling
from wavegen.engines.choice import choose
from wavegen.engines.reference_scorer import TorchScorer, surprisal
from wavegen.errors import ConfigError, ModelError
from wavegen.generation.generate import generate
from wavegen.models.condition import Condition
from wavegen.models.serialization import load_config, load_model, save_model
from wavegen.scoring.classify import classify
from wavegen.scoring.detect import calibrate, detect
from wavegen.scoring.score import score
from wavegen.scoring.sources import Source
from wavegen.training.data_module import AudioDataModule
from wavegen.training.lightning_module import LitModel

CONFIG = TinyGRUConfig(
    sample_rate=8000, quantization_channels=64, labels={"label": ("high", "low")}, width=12
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, float]:
    """A folder of tones, the model directory of a short training, and its held-out bits."""
    home = tmp_path_factory.mktemp("second")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAVEGEN_CACHE", str(home / "cache"))
        write_tones(home / "tones")
        torch.manual_seed(0)
        data = AudioDataModule(str(home / "tones"), crop=150, batch_size=8, num_workers=0)
        training = LitModel(CONFIG, learning_rate=0.03, warmup_steps=5)
        trainer = Trainer(
            max_steps=50, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
            use_distributed_sampler=False, gradient_clip_val=1.0, check_val_every_n_epoch=None,
            val_check_interval=50,
        )  # fmt: skip
        trainer.fit(training, data)
        bits = float(trainer.callback_metrics["val_bits"])
    save_model(training.network, home / "model")
    return home / "tones", home / "model", bits


def test_it_learns(trained: tuple[Path, Path, float]) -> None:
    assert trained[2] < 0.9 * math.log2(CONFIG.quantization_channels)


def test_it_is_loaded_as_it_was_saved(trained: tuple[Path, Path, float]) -> None:
    _, model, _ = trained
    assert load_config(model) == CONFIG
    assert isinstance(load_model(model), TinyGRU)
    assert "tiny_gru" in load_config(model).describe()


def test_muon_moves_its_hidden_matrices() -> None:
    training = LitModel(CONFIG)
    groups = training.configure_optimizers()["optimizer"].param_groups
    hidden = {id(weight) for weight in groups[0]["params"]}
    names = {name for name, each in training.network.named_parameters() if id(each) in hidden}
    assert names == {"recurrent.weight_ih_l0", "recurrent.weight_hh_l0"}


def test_the_reference_engine_generates_from_it(trained: tuple[Path, Path, float]) -> None:
    _, model, _ = trained
    network = load_model(model)
    kinds = [{"label": "low"}, {"label": "high"}]
    together = generate(network, kinds, seconds=0.05, seed=3, sampling=Sampling(guidance=1.5))
    alone = generate(network, kinds[1], seconds=0.05, seed=3, sampling=Sampling(guidance=1.5))
    assert together.shape == (2, 400)
    assert np.array_equal(together[1], alone[0])
    assert choose(network).name == "torch"


@pytest.mark.parametrize(
    ("options", "says"),
    [({"name": "numba"}, "--engine torch"), ({"precision": "int8"}, "--precision float32")],
)
def test_engines_of_the_wavenet_are_refused(
    trained: tuple[Path, Path, float], options: dict[str, str], says: str
) -> None:
    with pytest.raises(ConfigError, match=f"'tiny_gru'.*{says}"):
        choose(load_model(trained[1]), **options)


def test_its_bits_are_the_same_however_a_recording_is_cut(
    trained: tuple[Path, Path, float],
) -> None:
    network = load_model(trained[1])
    codes = torch.randint(0, 64, (1, 900), generator=torch.Generator().manual_seed(0))
    labels = label_ids([{"label": "low"}, {}], network.config.labels)
    scorer = TorchScorer(network, Condition(labels))
    blocks = np.split(codes[0].numpy(), [1, 300, 301])
    sums, bits = zip(*scorer.blocks(blocks), strict=True)
    for number, label in enumerate(labels):
        log = network(codes, label[None]).log_softmax(-1).gather(-1, codes[..., None])
        expected = -log[0, :, 0] / math.log(2)
        assert total(np.concatenate(sums, axis=1))[number] == pytest.approx(expected.sum())
        if number == 0:
            np.testing.assert_allclose(np.concatenate(bits), expected, rtol=1e-4, atol=1e-4)


def test_files_are_scored_classified_and_judged(trained: tuple[Path, Path, float]) -> None:
    folder, model, _ = trained
    files = sorted(folder.rglob("*.wav"))
    scores = list(score(model, files, {"label": "low"}))
    assert not any(each.error for each in scores)
    assert all(0 < each.bits[0] / each.samples < 6 for each in scores)
    right = [
        each.predicted["label"] == path.parent.name
        for path, each in zip(files, classify(model, files), strict=True)
    ]
    assert np.mean(right) > 0.6
    calibrate(model, files * 4)
    assert not any(each.score.error for each in detect(model, files, false_alarms=0.1))


def test_the_commands_take_it(trained: tuple[Path, Path, float], tmp_path: Path, capsys) -> None:
    folder, model, _ = trained
    out = tmp_path / "out"
    assert main(["info", str(model)]) == 0
    assert "tiny_gru" in capsys.readouterr().out
    assert main(["generate", str(model), "--out", str(out), "--seconds", "0.05"]) == 0
    (wav,) = out.glob("*.wav")
    prompted = ["--prompt", str(wav), "--out", str(tmp_path / "on"), "--seconds", "0.05"]
    assert main(["generate", str(model), *prompted]) == 0
    assert main(["score", str(model), str(folder / "low")]) == 0


def test_a_prompt_is_taken_in_as_if_it_had_been_generated(
    trained: tuple[Path, Path, float],
) -> None:
    network = load_model(trained[1])
    codes = torch.randint(0, 64, (2, 50), generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([[1], [2]])
    engine = choose(network)
    engine.start(network.conditioning(Condition(labels)), Sampling(), prompt=codes[:, :20])
    torch.testing.assert_close(engine.force(codes[:, 20:]), network(codes, labels)[:, 20:])


def test_validation_of_the_end_of_a_recording_carries_the_whole_past(
    trained: tuple[Path, Path, float],
) -> None:
    folder, model, _ = trained
    network = load_model(model)
    data = AudioDataModule(str(folder), crop=150)
    data.match(network)
    corpus = data.corpus
    held_out = np.array([[3, 1000, 1200], [1, 0, 300]])
    (batch,) = ValidationWindows(corpus, held_out)
    assert batch["beginning"]
    bits = surprisal(
        network,
        batch["inputs"],
        batch["targets"],
        Condition(batch["labels"]),
        batch["beginning"],
    )
    expected = 0.0
    for clip, start, stop in held_out.tolist():
        codes = torch.from_numpy(mulaw.encode(corpus.store.waveform(clip)[:stop], 64))[None]
        labels = torch.from_numpy(corpus.label_ids[[clip]])
        logs = network(codes, labels).log_softmax(-1).gather(-1, codes[..., None])[0, start:, 0]
        expected -= float(logs.double().sum()) / math.log(2)
    assert float(bits.sum()) == pytest.approx(expected, rel=1e-5)


def test_a_distribution_of_its_own_is_trained_generated_from_and_scored(tmp_path: Path) -> None:
    """Two parameters a sample instead of one for each code."""
    config = TinyGRUConfig(sample_rate=8000, quantization_channels=64, width=12, logistic=True)
    torch.manual_seed(0)
    training = LitModel(config)
    codes = 32 + (8 * torch.sin(torch.arange(200) / 4)).long().expand(4, -1)
    batch = {
        "inputs": training.network.inputs(codes),
        "targets": codes,
        "labels": torch.zeros((4, 0), dtype=torch.int64),
        "clips": torch.arange(4),
        "beginning": True,
    }
    optimizer = torch.optim.Adam(training.parameters(), 0.02)
    losses = []
    for _ in range(40):
        losses.append(training.loss(batch).item())
        optimizer.zero_grad()
        training.loss(batch).backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
    save_model(training.network, tmp_path / "model")
    network = load_model(tmp_path / "model")
    wave = generate(network, count=2, seconds=0.02, seed=1)
    assert wave.shape == (2, 160)
    (scored,) = score(network, [Source(tmp_path / "a", waveform=wave[0])])
    taken = config.codec.encode(torch.from_numpy(wave[:1]))
    expected = network.distribution.bits(network(taken), taken).sum()
    assert scored.bits[0] == pytest.approx(float(expected), rel=1e-5)
    (logits,) = wavegen.load(tmp_path / "model").logits(wave[0], 8000)[None]
    assert logits.shape == (160, 2)
    with torch.no_grad():
        network.output.bias.fill_(math.nan)
    with pytest.raises(ModelError, match="not finite"):
        generate(network, seconds=0.02)
