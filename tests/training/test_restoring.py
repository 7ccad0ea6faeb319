"""Going on from a checkpoint that is damaged, or of someone else's choosing."""

import copy
import json
import random
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from wavegen.commands.main import main
from wavegen.errors import ModelError
from wavegen.models.serialization import best_figures
from wavegen.training.checkpoints import WholeCheckpoints
from wavegen.training.run_folder import BEST_CHECKPOINT, LAST_CHECKPOINT


@pytest.fixture
def run(short_run: Path, tmp_path: Path) -> Path:
    """A copy of a run of two steps."""
    return shutil.copytree(short_run, tmp_path / "run")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a checkpoint."""
    found = []
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in inner:
        found.append((*path, key))
        if isinstance(each, dict | list | tuple):
            found += places(each, (*path, key))
    return found


ODD = [
    None, True, False, 0, -1, 1, 3, 2**31, 2**63, 10**30, 0.5, -0.5, 1e308, float("nan"),
    float("inf"), "", "x", "../x", [], {}, [None], {"x": {}}, (), b"x",
    torch.zeros(()), torch.zeros(3), torch.full((), float("nan")), torch.zeros(2, 2, dtype=bool),
    torch.zeros((), dtype=torch.complex64), torch.zeros(2).to_sparse(), torch.empty(3, 0),
]  # fmt: skip


def mutated(checkpoint: dict[str, Any], chance: random.Random) -> tuple[Any, str]:
    """A copy with one value changed, and what was changed."""
    other = copy.deepcopy(checkpoint)
    # As often near the root, of which there is little, as among the many tensors.
    every = places(other)
    depth = chance.choice([1, 2, 3, 4, 5, 6])
    path = chance.choice([path for path in every if len(path) == depth] or every)
    holder = other
    for key in path[:-1]:
        holder = holder[key]
    if isinstance(holder, tuple):
        return mutated(checkpoint, chance)
    key, value = path[-1], holder[path[-1]]
    kind = chance.choice(["odd", "gone", "named", "nested", "shape", "type", "nan", "added"])
    if kind == "gone":
        del holder[key]
    elif kind == "named" and isinstance(holder, dict):
        holder[chance.choice([f"{key}x", 99, "reset"])] = holder.pop(key)
    elif kind == "added" and isinstance(holder, dict):
        holder[chance.choice(["reset", "total", "x", 5])] = chance.choice(ODD)
    elif kind == "nested":
        holder[key] = chance.choice([[value], {"x": value}, {key: value}])
    elif isinstance(value, torch.Tensor):
        holder[key] = {
            "shape": value[None],
            "type": value.to(chance.choice([torch.int8, torch.bool, torch.complex64])),
            "nan": torch.full_like(value, float("nan")) if value.is_floating_point() else -value,
        }.get(kind, chance.choice(ODD))
    else:
        holder[key] = chance.choice(ODD)
    return other, f"{kind} at {path}"


def resumed(run: Path, capsys, *options: str) -> str:
    """The error of going on with a run, on one line; "" if it did.

    The line names the checkpoint, or says that training diverged: so it may with other numbers.
    """
    capsys.readouterr()
    status = main(["train", "--resume", str(run), *options])
    if status == 0:
        return ""
    assert status == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("wavegen:")]
    assert len(lines) == 1
    assert str(run / LAST_CHECKPOINT) in lines[0] or "training has diverged" in lines[0]
    return lines[0]


def refused(run: Path, capsys, seed: int, count: int) -> int:
    """How many of `count` mutations of a run's checkpoint are refused; the others go on."""
    chance = random.Random(seed)
    good = WholeCheckpoints().load_checkpoint(run / LAST_CHECKPOINT)
    found = 0
    for number in range(count):
        changed, what = mutated(good, chance)
        torch.save(changed, run / LAST_CHECKPOINT)
        try:
            # So many steps that all that was loaded is used and written.
            error = resumed(run, capsys, "--trainer.max_steps=4")
        except BaseException as failure:
            pytest.fail(f"{failure!r} of mutation {number}, {what}")
        found += bool(error)
    return found


def test_a_damaged_checkpoint_is_one_line(run: Path, capsys) -> None:
    assert refused(run, capsys, seed=1, count=16) >= 8


@pytest.mark.slow
def test_many_damaged_checkpoints_are_one_line_each(run: Path, capsys) -> None:
    assert refused(run, capsys, seed=0, count=150) >= 75


def test_a_file_that_is_no_checkpoint_is_one_line(run: Path, capsys) -> None:
    last = run / LAST_CHECKPOINT
    whole, chance = last.read_bytes(), random.Random(0)
    for _ in range(40):
        place = chance.randrange(len(whole))
        damaged = bytearray(whole[: chance.choice([place, len(whole), len(whole)])])
        for place in chance.sample(range(len(damaged)), min(len(damaged), 30)):
            damaged[place] = chance.randrange(256)
        last.write_bytes(damaged)
        # Most of it is the numbers of tensors, which may be any.
        with suppress(ModelError):
            WholeCheckpoints().load_checkpoint(last)
    torch.save([good := torch.zeros(3), good], last)
    assert "not a checkpoint of a training" in resumed(run, capsys)


def test_a_checkpoint_takes_no_more_memory_than_its_file(run: Path, capsys) -> None:
    last = run / LAST_CHECKPOINT
    with zipfile.ZipFile(last) as parts:
        contents = {entry.filename: parts.read(entry) for entry in parts.infolist()}
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        with zipfile.ZipFile(last, "w", method) as parts:
            for name, content in contents.items():
                parts.writestr(name, content)
        assert ("compressed" in resumed(run, capsys)) == (method == zipfile.ZIP_DEFLATED)
    # Entries may also say that they are larger than they are, or share their bytes.
    with zipfile.ZipFile(last, "w") as parts:
        for name, content in contents.items():
            parts.writestr(name, content)
        first = max(parts.infolist(), key=lambda entry: entry.file_size)
        for number in range(40):
            other = copy.copy(first)
            other.filename = f"{first.filename}{number}"
            parts.filelist.append(other)
    assert "compressed" in resumed(run, capsys)


def test_a_learning_rate_that_overflows_is_one_line(run: Path, capsys) -> None:
    good = WholeCheckpoints().load_checkpoint(run / LAST_CHECKPOINT)
    for name in ("lr", "initial_lr", "base_lrs", "_last_lr"):
        changed = copy.deepcopy(good)
        if name.endswith("s") or name.startswith("_"):
            rates = changed["lr_schedulers"][0][name]
            rates[0] = 1e308
        else:
            changed["optimizer_states"][0]["param_groups"][0][name] = 1e308
        torch.save(changed, run / LAST_CHECKPOINT)
        assert name in resumed(run, capsys, "--trainer.max_steps=4")


KEY = (
    "ModelCheckpoint{'monitor': 'val_bits', 'mode': 'min', 'every_n_train_steps': 0, "
    "'every_n_epochs': 1, 'train_time_interval': None}"
)


def with_paths(checkpoint: dict[str, Any], folder: object, name: object) -> dict[str, Any]:
    """The checkpoint as Lightning's own callback writes it, which knows where its files are."""
    state = {
        "monitor": "val_bits",
        "best_model_score": torch.tensor(9.0),
        "best_model_path": str(name),
        "current_score": torch.tensor(9.0),
        "dirpath": str(folder),
        "best_k_models": {str(name): torch.tensor(9.0)},
        "kth_best_model_path": str(name),
        "kth_value": torch.tensor(9.0),
        "last_model_path": str(name),
    }
    unwatched = KEY.replace("'val_bits'", "None")
    return {**checkpoint, "callbacks": {**checkpoint["callbacks"], KEY: state, unwatched: state}}


@pytest.mark.parametrize("own", [False, True])
def test_resuming_removes_no_folder_that_a_checkpoint_names(
    run: Path, tmp_path: Path, own: bool
) -> None:
    """Neither by itself, nor by a callback that keeps checkpoints for the user."""
    last = run / LAST_CHECKPOINT
    good = WholeCheckpoints().load_checkpoint(last)
    callback = {"class_path": "ModelCheckpoint", "init_args": {"monitor": "val_bits"}}
    mine = [f"--trainer.callbacks={json.dumps([callback])}"]
    for number, form in enumerate(("local://{}", "file://{}", "{}", "{}/../victim")):
        victim = tmp_path / "victim"
        victim.mkdir(exist_ok=True)
        (victim / "thesis.txt").write_text("years")
        target = form.format(victim)
        torch.save(with_paths(good, last.parent.resolve(), target), last)
        limit = f"--trainer.max_steps={4 + number}"
        assert main(["train", "--resume", str(run), limit, *(mine if own else [])]) == 0
        assert (victim / "thesis.txt").read_text() == "years"
        assert not list(tmp_path.glob("*.ckpt"))


def test_a_callback_of_the_user_still_knows_its_own_best(run: Path) -> None:
    kept = {"monitor": "val_bits", "filename": "{step}"}
    callbacks = json.dumps([{"class_path": "ModelCheckpoint", "init_args": kept}])
    mine = [f"--trainer.callbacks={callbacks}", "--trainer.val_check_interval=1"]
    for steps in (4, 6):
        limit = f"--trainer.max_steps={steps}"
        assert main(["train", "--resume", str(run), limit, *mine]) == 0
    folder = run / LAST_CHECKPOINT.parent
    (best,) = {path.name for path in folder.iterdir()} - {"last.ckpt", "best.ckpt"}
    assert best == f"step={best_figures(run)['step']:.0f}.ckpt"


def test_checkpoints_are_removed_in_their_folders_only(tmp_path: Path) -> None:
    inside = tmp_path / "checkpoints"
    (inside / "deep").mkdir(parents=True)
    for path in (inside / "a.ckpt", tmp_path / "b.ckpt"):
        path.write_text("x")
    (inside / "link.ckpt").symlink_to(tmp_path / "b.ckpt")
    checkpoints = WholeCheckpoints(inside)
    checkpoints.remove_checkpoint(inside / "a.ckpt")
    assert not (inside / "a.ckpt").exists()
    for path in (
        tmp_path / "b.ckpt",
        inside / "link.ckpt",
        inside / ".." / "b.ckpt",
        inside / "deep",
        f"local://{inside}/deep",
        inside,
    ):
        with pytest.raises(ModelError, match="not removed"):
            checkpoints.remove_checkpoint(path)
    assert (tmp_path / "b.ckpt").exists()
    assert (inside / "deep").is_dir()


def test_a_run_that_has_moved_knows_its_best(run: Path, tmp_path: Path) -> None:
    """Also one that Lightning's own callback kept, with the paths of then."""
    last = run / LAST_CHECKPOINT
    good = WholeCheckpoints().load_checkpoint(last)
    torch.save(with_paths(good, "/gone/checkpoints", "/gone/checkpoints/best.ckpt"), last)
    moved = run.rename(tmp_path / "moved")
    before = best_figures(moved)
    assert before["step"] == 2
    # Nothing is better than a figure below all that can be.
    best = (moved / BEST_CHECKPOINT).read_bytes()
    text = (moved / "best.json").read_text()
    (moved / "best.json").write_text(text.replace(str(before["val_bits"]), "0.5"))
    assert main(["train", "--resume", str(moved), "--trainer.max_steps=4"]) == 0
    assert (moved / BEST_CHECKPOINT).read_bytes() == best
    assert best_figures(moved) == {**before, "val_bits": 0.5}
    (moved / "best.json").write_text(text)
    assert main(["train", "--resume", str(moved), "--trainer.max_steps=8"]) == 0
    assert best_figures(moved)["step"] > 4
    stored = WholeCheckpoints().load_checkpoint(moved / BEST_CHECKPOINT)
    assert stored["global_step"] == best_figures(moved)["step"]
    assert {path.name for path in moved.glob("checkpoints/*")} == {"best.ckpt", "last.ckpt"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved"]
