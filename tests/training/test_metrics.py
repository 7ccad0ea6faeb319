"""The file of metrics: one row a step, over resumptions too."""

from pathlib import Path

from wavegen.training.metrics import METRICS, MetricsFile, read_metrics


def test_what_is_logged_of_one_step_is_one_row(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path)
    file.log_metrics({"train_bits": 2.5, "epoch": 0}, 19)
    file.log_metrics({"learning_rate": 0.1}, 19)
    file.log_metrics({"val_bits": 3.0, "minutes": 0.5}, 19)
    file.log_metrics({"train_bits": 2.0}, 39)
    assert len(read_metrics(tmp_path / METRICS)) == 1, "a validation writes the file"
    file.finalize("success")
    first, last = read_metrics(tmp_path / METRICS)
    assert first["step"] == "19"
    shown = ("train_bits", "learning_rate", "val_bits")
    assert [float(first[each]) for each in shown] == [2.5, 0.1, 3.0]
    assert (last["step"], last["val_bits"]) == ("39", "")


def test_a_resumed_run_goes_on_in_the_file_and_no_step_is_twice(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text(
        "epoch,learning_rate/pg1,step,train_bits\n0,1,9,8\n0,,19,7\n,,29,6\n"
    )
    file = MetricsFile(tmp_path)
    file.log_metrics({"train_bits": 5.0, "grad": 1.0}, 19)
    file.save()
    rows = read_metrics(tmp_path / METRICS)
    assert [row["step"] for row in rows] == ["9", "19"]
    assert rows[0]["learning_rate/pg1"] == "1"
    assert [float(row["train_bits"]) for row in rows] == [8, 5]


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    for text in ("", "step\nx\n", "a,b\n1,2\n", "\0"):
        (tmp_path / METRICS).write_text(text)
        assert read_metrics(tmp_path / METRICS) == []
        file = MetricsFile(tmp_path)
        file.log_metrics({"val_bits": 1.0}, 0)
        assert len(read_metrics(tmp_path / METRICS)) == 1
