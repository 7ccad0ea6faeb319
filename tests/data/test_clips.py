import json
import os
from pathlib import Path

import audio_files as odd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavegen.data.clips import ClipSet, find_clips
from wavegen.data.folders import OnBadFile, audio_files
from wavegen.data.settings import DataSettings
from wavegen.data.splits import choose_validation
from wavegen.data.summary import summary
from wavegen.errors import AudioFileError, ConfigError, DataError, LabelError


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        odd.save(folder / name, odd.noise(0.02))
    return folder


def classes(folder: Path, **counts: int) -> Path:
    return fill(folder, *(f"{c}/{i}.wav" for c, count in counts.items() for i in range(count)))


def labels(found: ClipSet) -> dict[str, dict[str, str]]:
    return {clip.name: clip.labels for clip in found.clips}


def splits(found: ClipSet) -> dict[str, str]:
    return {clip.name: clip.split for clip in found.clips}


def skipped(found: ClipSet) -> dict[str, str]:
    return {one.name: one.reason for one in found.skipped}


def notes(found: ClipSet) -> str:
    return "\n".join(found.notes)


# What is found


def test_audio_is_found_recursively_sorted_whatever_its_case(tmp_path: Path) -> None:
    fill(tmp_path, "b.flac", "deep/er/a.ogg", "a.MP3", ".hidden.wav", ".hidden/a.wav")
    (tmp_path / "notes.txt").write_text("no audio")
    found = find_clips(tmp_path)
    assert [clip.name for clip in found.clips] == ["a.MP3", "b.flac", "deep/er/a.ogg"]
    assert "1 file of other types skipped: 1 .txt" in found.notes
    clip = found.clips[1]
    assert (clip.path, clip.info.frames) == (tmp_path / "b.flac", 160)
    status = clip.path.stat()
    assert (clip.size, clip.mtime_ns) == (status.st_size, status.st_mtime_ns)


def test_linked_folders_are_followed_and_loops_survived(tmp_path: Path) -> None:
    data = classes(tmp_path / "data", dog=2)
    (data / "cat").symlink_to(fill(tmp_path / "elsewhere", "0.wav", "1.wav"))
    (data / "dog" / "loop").symlink_to(data)
    found = find_clips(data)
    assert list(labels(found)) == ["cat/0.wav", "cat/1.wav", "dog/0.wav", "dog/1.wav"]
    assert "dog/loop leads to a folder already read" in notes(found)


def test_a_broken_link_is_left_out_with_its_reason(tmp_path: Path) -> None:
    fill(tmp_path, "a.wav")
    (tmp_path / "b.wav").symlink_to(tmp_path / "b.wav")
    assert "cannot be opened" in skipped(find_clips(tmp_path))["b.wav"]


def test_a_link_whose_target_may_not_be_looked_at_is_left_out(tmp_path: Path, monkeypatch) -> None:
    fill(tmp_path, "a.wav")
    for name in ("closed", "closed.wav"):
        (tmp_path / name).symlink_to(tmp_path / "a.wav")
    is_dir = Path.is_dir

    def refuse(path: Path) -> bool:
        if path.stem == "closed":
            raise PermissionError(13, "Permission denied")
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", refuse)
    found = find_clips(tmp_path)
    assert list(labels(found)) == ["a.wav"]
    reason = "cannot be looked at (Permission denied); allow reading it"
    assert skipped(found) == {"closed": reason, "closed.wav": reason}
    with pytest.raises(DataError, match="closed"):
        find_clips(tmp_path, on_bad_file="fail")


def test_names_that_are_not_utf8_stay_usable_and_printable(tmp_path: Path) -> None:
    odd.rename_to_bytes(odd.save(tmp_path / "class" / "a.wav"), b"\xff.wav")
    odd.rename_to_bytes(tmp_path / "class", b"caf\xe9")
    found = find_clips(tmp_path)
    (clip,) = found.clips
    assert clip.path.exists()
    assert clip.name.isprintable()
    assert summary(found, 8000).replace("\n", "").isprintable()
    json.dumps(found.attributes, ensure_ascii=False).encode()


def test_channels_are_noted_once(tmp_path: Path) -> None:
    for i in range(3):
        odd.save(tmp_path / f"{i}.wav", np.zeros((100, 2), np.float32))
    assert (
        "3 files with several channels: mixed to mono by their mean" in find_clips(tmp_path).notes
    )


def test_the_commonest_rate_is_chosen_up_to_the_limit(tmp_path: Path) -> None:
    for i, rate in enumerate((8000, 11_025, 11_025, 8000, 44_100)):
        odd.save(tmp_path / f"{i}.wav", rate=rate)
    found = find_clips(tmp_path)
    assert found.commonest_sample_rate() == 11_025  # the higher of equals
    assert found.commonest_sample_rate(limit=9000) == 9000


# Folders that cannot be used


def refused(folder: Path, on_bad_file: OnBadFile = "skip", **settings: object) -> str:
    with pytest.raises(DataError) as caught:
        find_clips(folder, DataSettings(**settings), on_bad_file)  # type: ignore[arg-type]
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_without_audio_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "nothing")
    (tmp_path / "file.wav").write_text("")
    assert "not a folder" in refused(tmp_path / "file.wav")
    (tmp_path / "empty" / "emptier").mkdir(parents=True)
    assert "no audio in it (no files)" in refused(tmp_path / "empty")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.m4a").write_text("")
    message = refused(tmp_path / "texts")
    assert "1 .m4a" in message
    assert ".wav .flac .ogg .mp3" in message


def test_a_folder_of_bad_files_is_refused_with_the_first_reason(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_text("text")
    assert "none of its 2 audio files can be used; a.wav is not audio" in refused(tmp_path)


def test_bad_files_are_left_out_with_reasons_or_stop_everything(tmp_path: Path) -> None:
    fill(tmp_path, "good.wav", "other.wav")
    (tmp_path / "text.wav").write_text("text")
    odd.cut(odd.save(tmp_path / "short.wav"))
    odd.save(tmp_path / "none.wav", np.zeros(0, np.float32))
    odd.claim_flac_frames(odd.save(tmp_path / "huge.flac", odd.noise(0.001)), 2**36 - 1)
    odd.patch(odd.save(tmp_path / "rate.wav"), 24, (2**31 - 1).to_bytes(4, "little"))
    found = find_clips(tmp_path)
    assert list(labels(found)) == ["good.wav", "other.wav"]
    reasons = skipped(found)
    assert reasons.keys() == {"huge.flac", "none.wav", "rate.wav", "short.wav", "text.wav"}
    assert reasons["text.wav"].startswith("is not audio")
    table = summary(found, 8000)
    assert "left out: 5 files" in table
    assert "1: is cut short; copy or export it again: short.wav" in table
    with pytest.raises(AudioFileError, match=r"huge\.flac: claims more"):
        find_clips(tmp_path, on_bad_file="fail")


def test_runs_below_the_folder_are_not_learned(tmp_path: Path) -> None:
    fill(tmp_path, "dog/a.wav", "cat/b.wav", "runs/x/samples/step_0000002/dog.wav")
    for name in ("dog", "runs/x"):
        (tmp_path / name / "config.yaml").touch()
    found = find_clips(tmp_path)
    assert found.attributes == {"label": ("cat", "dog")}
    assert notes(found).count("run folders of wavegen are not read: runs/x") == 1
    # Named by itself its samples are what is asked for, and scoring takes what lies in a folder.
    assert len(find_clips(tmp_path / "runs" / "x").clips) == 1
    assert len(audio_files(tmp_path)[0]) == 3
    with pytest.raises(DataError, match="run folders of wavegen are not read: x"):
        find_clips(tmp_path / "runs")


def test_settings_out_of_range_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a.wav")
    for fraction in (0, 1, -0.5):
        with pytest.raises(ConfigError, match="validation_fraction"):
            find_clips(tmp_path, DataSettings(validation_fraction=fraction))
    with pytest.raises(ConfigError, match="skip or fail"):
        find_clips(tmp_path, on_bad_file="ignore")  # type: ignore[arg-type]


# Labels


def test_class_folders_are_labels_in_natural_order(tmp_path: Path) -> None:
    found = find_clips(fill(classes(tmp_path, b=2, **{"10": 2, "9": 2}), "9/deep/er.wav", "x.wav"))
    assert found.attributes == {"label": ("9", "10", "b")}
    assert labels(found)["9/deep/er.wav"] == {"label": "9"}
    assert labels(found)["x.wav"] == {}
    assert "1 clip without label: left unspecified" in found.notes


def test_class_folders_can_be_left_out_of_the_labels(tmp_path: Path) -> None:
    found = find_clips(classes(tmp_path, a=2, b=2), DataSettings(labels=[]))
    assert found.attributes == {}
    assert not any(labels(found).values())


def test_files_at_the_root_have_no_labels(tmp_path: Path) -> None:
    found = find_clips(fill(tmp_path, "a.wav", "b.wav"))
    assert found.attributes == {}
    with pytest.raises(LabelError, match="no label attribute 'label'"):
        find_clips(tmp_path, DataSettings(labels=["label"]))


def test_a_pattern_gives_several_attributes(tmp_path: Path) -> None:
    fill(tmp_path, "7_theo_0.wav", "7_lucas_1.wav", "10_theo_2.wav", "noise.wav")
    pattern = r"^(?P<digit>\d+)_(?P<speaker>[a-z]+)"
    found = find_clips(tmp_path, DataSettings(label_pattern=pattern))
    assert found.attributes == {"digit": ("7", "10"), "speaker": ("lucas", "theo")}
    assert labels(found)["10_theo_2.wav"] == {"digit": "10", "speaker": "theo"}
    assert skipped(found) == {"noise.wav": "does not match the label pattern"}
    only = find_clips(tmp_path, DataSettings(label_pattern=pattern, labels=["speaker"]))
    assert only.attributes == {"speaker": ("lucas", "theo")}
    with pytest.raises(LabelError, match="digit, speaker"):
        find_clips(tmp_path, DataSettings(label_pattern=pattern, labels=["size"]))


def test_a_group_that_takes_no_part_leaves_the_attribute_unspecified(tmp_path: Path) -> None:
    fill(tmp_path, "7_a.wav", "b.wav")
    found = find_clips(tmp_path, DataSettings(label_pattern=r"(?P<digit>\d)?_?[ab]"))
    assert labels(found) == {"7_a.wav": {"digit": "7"}, "b.wav": {}}


@pytest.mark.parametrize("pattern", ["(", r"(\d)", "plain"])
def test_a_pattern_without_named_groups_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(ConfigError, match="label_pattern"):
        find_clips(fill(tmp_path, "a.wav"), DataSettings(label_pattern=pattern))


TABLES = {
    "metadata.csv": "\ufefffile_name,digit,speaker\na.wav,1,theo\nx/b.wav, 10,\n",
    "metadata.jsonl": '{"file_name": "a.wav", "digit": 1, "speaker": "theo"}\n\n'
    '{"file_name": "x/b.wav", "digit": 10, "speaker": null}\n',
}


@pytest.mark.parametrize("table", TABLES)
def test_metadata_gives_every_further_column(tmp_path: Path, table: str) -> None:
    fill(tmp_path, "a.wav", "x/b.wav")
    (tmp_path / table).write_text(TABLES[table], encoding="utf-8")
    found = find_clips(tmp_path)
    assert labels(found) == {
        "a.wav": {"digit": "1", "speaker": "theo"},
        "x/b.wav": {"digit": "10"},
    }
    assert found.attributes == {"digit": ("1", "10"), "speaker": ("theo",)}
    assert "1 clip without speaker: left unspecified" in found.notes
    assert find_clips(tmp_path, DataSettings(labels=["speaker"])).attributes == {
        "speaker": ("theo",)
    }
    with pytest.raises(LabelError, match=r"no label attribute 'mood'.*digit, speaker"):
        find_clips(tmp_path, DataSettings(labels=["mood"]))


def test_metadata_and_folder_that_disagree_are_reported(tmp_path: Path) -> None:
    fill(tmp_path / "data", "a.wav", "b.wav", "extra.wav")
    fill(tmp_path, "secret.wav")
    (tmp_path / "data" / "metadata.csv").write_text(
        "file_name,label\na.wav,x\n./b.wav,x\nb.wav,y\ngone.wav,x\n../secret.wav,x\n/etc/passwd,x\n"
    )
    found = find_clips(tmp_path / "data")
    assert labels(found) == {"a.wav": {"label": "x"}, "b.wav": {"label": "x"}}
    assert skipped(found) == {
        "b.wav": "is named twice by metadata.csv: the first row counts",
        "gone.wav": "is named by metadata.csv but no audio file in the folder",
        "../secret.wav": "is named by metadata.csv but outside the folder",
        "/etc/passwd": "is named by metadata.csv but outside the folder",
        "extra.wav": "is not in metadata.csv",
    }


@pytest.mark.parametrize(
    ("row", "name"), [("gone.wav,x", "gone.wav"), ("a.wav,x\na.wav,x", "a.wav"), ("", "a.wav")]
)
def test_metadata_that_disagrees_stops_where_asked(tmp_path: Path, row: str, name: str) -> None:
    fill(tmp_path, "a.wav")
    (tmp_path / "metadata.csv").write_text(f"file_name,label\n{row}\n")
    assert name in refused(tmp_path, on_bad_file="fail")


@pytest.mark.parametrize(
    ("table", "text", "message"),
    [
        ("metadata.csv", "", "is empty"),
        ("metadata.csv", "file;label\na.wav;x\n", "no column file_name"),
        ("metadata.csv", "file_name,x,x\na.wav,1,2\n", "more than one column 'x'"),
        ("metadata.csv", "file_name,label\na.wav,x\na.wav,x,y\n", "line 3: 3 cells"),
        ("metadata.csv", "file_name,label\na.wav\n", "line 2: 1 cells"),
        ("metadata.csv", 'file_name,label\na.wav,"x\n', "line 2: is not CSV"),
        ("metadata.csv", "file_name,label\n,x\n", "line 2: no file_name"),
        ("metadata.csv", "file_name,split\na.wav,fold1\n", "line 2: has the unknown split"),
        ("metadata.csv", "file_name,split\na.wav,test\n", "no clip is in the train split"),
        ("metadata.jsonl", '{"file_name": "a.wav"}\n{', "line 2: is not JSON"),
        ("metadata.jsonl", '["a.wav"]', "line 1: is not a JSON object"),
        ("metadata.jsonl", '{"label": "x"}', "line 1: no file_name"),
    ],
)
def test_malformed_metadata_is_refused_with_its_line(
    tmp_path: Path, table: str, text: str, message: str
) -> None:
    fill(tmp_path, "a.wav")
    (tmp_path / table).write_text(text)
    assert message in refused(tmp_path)


@pytest.mark.parametrize("table", ["metadata.csv", "train/metadata.jsonl"])
@pytest.mark.parametrize("target", ["/dev/zero", "nowhere", None])
def test_metadata_that_is_no_file_is_refused(tmp_path: Path, table: str, target) -> None:
    fill(tmp_path, "train/a.wav")
    if target is None:
        os.mkfifo(tmp_path / table)
    else:
        (tmp_path / table).symlink_to(target)
    with pytest.raises(DataError, match=f"{table} is no regular file"):
        find_clips(tmp_path)


def test_a_column_of_free_text_must_be_chosen(tmp_path: Path) -> None:
    names = [f"{i}.wav" for i in range(60)]
    fill(tmp_path, *names)
    rows = "".join(f"{name},word {name},{i % 2}\n" for i, name in enumerate(names))
    (tmp_path / "metadata.csv").write_text("file_name,text,half\n" + rows)
    assert "--data.labels" in refused(tmp_path)
    assert find_clips(tmp_path, DataSettings(labels=["half"])).attributes == {"half": ("0", "1")}
    assert len(find_clips(tmp_path, DataSettings(labels=["text"])).attributes["text"]) == 60


def test_metadata_wins_over_class_folders_and_says_so(tmp_path: Path) -> None:
    classes(tmp_path, dog=1, cat=1)
    (tmp_path / "metadata.csv").write_text("file_name,size\ndog/0.wav,big\ncat/0.wav,small\n")
    found = find_clips(tmp_path)
    assert found.attributes == {"size": ("big", "small")}
    assert "labels come from metadata.csv, not from the class folders" in found.notes


def test_bytes_in_metadata_match_bytes_in_names(tmp_path: Path) -> None:
    odd.rename_to_bytes(odd.save(tmp_path / "a.wav"), b"\xe9.wav")
    (tmp_path / "metadata.csv").write_bytes(b"file_name,label\n\xe9.wav,caf\xe9\n")
    (clip,) = find_clips(tmp_path).clips
    assert clip.labels["label"].isprintable()


# Splits


def test_split_folders_are_kept_and_labels_are_below_them(tmp_path: Path) -> None:
    fill(tmp_path, "train/dog/0.wav", "train/cat/1.wav", "val/dog/2.wav", "test/cat/3.wav", "x.wav")
    found = find_clips(tmp_path)
    assert splits(found) == {
        "test/cat/3.wav": "test",
        "train/cat/1.wav": "train",
        "train/dog/0.wav": "train",
        "val/dog/2.wav": "validation",
    }
    assert found.attributes == {"label": ("cat", "dog")}
    assert skipped(found) == {"x.wav": "is in none of the split folders"}
    assert "label not in validation: cat" in found.notes
    assert [clip.name for clip in found.of("test")] == ["test/cat/3.wav"]


def test_metadata_in_each_split_folder_is_read(tmp_path: Path) -> None:
    fill(tmp_path, "train/a.wav", "validation/a.wav", "test/a.wav")
    for split, mood in (("train", "calm"), ("validation", "calm"), ("test", "wild")):
        (tmp_path / split / "metadata.csv").write_text(f"file_name,mood\na.wav,{mood}\n")
    found = find_clips(tmp_path)
    assert labels(found)["test/a.wav"] == {"mood": "wild"}
    assert splits(found)["validation/a.wav"] == "validation"
    assert "mood not in train, so never learned: wild" in found.notes


def test_attributes_come_in_the_order_of_the_columns_or_of_the_choice(tmp_path: Path) -> None:
    fill(tmp_path, "a.wav", "b.wav")
    (tmp_path / "metadata.csv").write_text("file_name,x,y\na.wav,,1\nb.wav,1,1\n")
    assert list(find_clips(tmp_path).attributes) == ["x", "y"]
    assert list(find_clips(tmp_path, DataSettings(labels=["y", "x"])).attributes) == ["y", "x"]


def test_a_split_column_is_no_attribute(tmp_path: Path) -> None:
    fill(tmp_path, "a.wav", "b.wav", "c.wav")
    (tmp_path / "metadata.csv").write_text(
        "file_name,split,label\na.wav,Train,x\nb.wav,dev,x\nc.wav,test,x\n"
    )
    found = find_clips(tmp_path)
    assert splits(found) == {"a.wav": "train", "b.wav": "validation", "c.wav": "test"}
    assert found.attributes == {"label": ("x",)}


def test_validation_is_made_from_train_where_it_is_missing(tmp_path: Path) -> None:
    fill(tmp_path, *(f"train/{c}/{i}.wav" for c in "ab" for i in range(5)), "test/a/9.wav")
    found = find_clips(tmp_path)
    assert {clip.labels["label"] for clip in found.of("validation")} == {"a", "b"}
    assert len(found.of("test")) == 1
    assert all(name.startswith("train/") for name, s in splits(found).items() if s == "validation")


def test_split_names_without_train_are_classes(tmp_path: Path) -> None:
    found = find_clips(fill(tmp_path, "test/0.wav", "test/1.wav", "valid/0.wav", "valid/1.wav"))
    assert found.attributes == {"label": ("test", "valid")}
    assert "there is no train folder" in notes(found)


def test_a_class_of_one_file_trains_and_is_noted(tmp_path: Path) -> None:
    found = find_clips(classes(tmp_path, many=10, one=1), DataSettings(validation_fraction=0.5))
    assert splits(found)["one/0.wav"] == "train"
    assert found.of("validation")
    assert "label not in validation: one" in found.notes


def test_a_single_file_trains(tmp_path: Path) -> None:
    found = find_clips(fill(tmp_path, "a.wav"))
    assert splits(found) == {"a.wav": "train"}
    assert "nothing is in validation" in notes(found)


def test_the_split_of_a_file_stays_when_files_come_and_go(tmp_path: Path) -> None:
    before = splits(find_clips(classes(tmp_path, a=40, b=40)))
    fill(tmp_path, "a/new.wav", "c/0.wav")
    (tmp_path / "b" / "3.wav").unlink()
    after = splits(find_clips(tmp_path))
    assert len(set(before.items()) ^ set(after.items())) <= 4
    other = splits(find_clips(tmp_path, DataSettings(seed=1)))
    assert other != after


NAMES = st.lists(st.text("abc", min_size=1), min_size=1, max_size=60, unique=True)


@given(NAMES, st.randoms(), st.floats(0.01, 0.99), st.integers(1, 4), st.integers(1, 4))
def test_every_class_is_on_both_sides_in_any_order(
    names: list[str], random: object, fraction: float, digits: int, speakers: int
) -> None:
    one = [
        {"digit": str(len(name) % digits), "speaker": str(name.count("a") % speakers)}
        for name in names
    ]
    chosen = choose_validation(names, one, fraction, seed=0)
    order = list(range(len(names)))
    random.shuffle(order)  # type: ignore[attr-defined]
    again = choose_validation([names[i] for i in order], [one[i] for i in order], fraction, seed=0)
    assert {names[i] for i in chosen} == {names[order[i]] for i in again}
    train = set(range(len(names))) - chosen
    for attribute in ("digit", "speaker"):
        everywhere = {label[attribute] for label in one}
        assert {one[i][attribute] for i in train} == everywhere
    assert train


@given(st.integers(2, 200), st.floats(0.01, 0.9), st.integers(1, 10))
def test_every_class_of_two_or_more_validates(count: int, fraction: float, classes: int) -> None:
    names = [f"{i}.wav" for i in range(count)]
    one = [{"label": str(i % classes)} for i in range(count)]
    chosen = choose_validation(names, one, fraction, seed=3)
    sizes = {label: sum(x["label"] == label for x in one) for label in {x["label"] for x in one}}
    validated = {one[i]["label"] for i in chosen}
    assert validated == {label for label, size in sizes.items() if size > 1}


def test_about_the_fraction_validates_and_so_does_every_combination() -> None:
    names = [f"{d}_{s}_{i}" for d in range(10) for s in range(6) for i in range(20)]
    one = [dict(zip(("digit", "speaker"), name.split("_")[:2], strict=True)) for name in names]
    chosen = choose_validation(names, one, 0.1, seed=0)
    assert 0.08 < len(chosen) / len(names) < 0.14
    assert len({tuple(one[i].values()) for i in chosen}) == 60


# The table


def test_the_summary_says_what_there_is(tmp_path: Path) -> None:
    for i in range(10):
        odd.save(tmp_path / "ab"[i % 2] / f"{i}.wav", odd.noise(1.0))
    odd.save(tmp_path / "a" / "x.wav", odd.noise(1.0, rate=16_000), rate=16_000)
    for i in range(7):
        (tmp_path / f"bad{i}.wav").write_text("text")
    lines = summary(find_clips(tmp_path), 8000).splitlines()
    assert lines[0].split() == ["clips", "h:mm:ss", "classes"]
    assert [line.split()[0] for line in lines[1:4]] == ["train", "validation", "all"]
    assert lines[3].split() == ["all", "11", "0:00:11", "2", "label"]
    assert "sample rate: 8000 Hz (resampled: 1 from 16000)" in lines
    assert "label: a (6), b (5)" in lines
    assert "left out: 7 files" in lines
    assert any(
        line.startswith("  7: is not audio") and line.endswith("bad4.wav and 2 more")
        for line in lines
    )
