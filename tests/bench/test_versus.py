import pyarrow.parquet as pq
import pytest

from bench import versus
from bench.versus import Measured


def test_what_is_compared():
    a, b = Measured(4, 3, 2, 0.9), Measured(2, 1, 0.5, 0.91)
    assert versus.compare([a, a._replace(seconds=40), a], [b] * 3) == [
        "4.00 → 2.00 (2.00 times as fast)", "3.00 → 1.00 (3.00 times as fast)", "2.00 → 0.50 (4.00 times as fast)",
        "0.9000 0.9000 0.9000 → 0.9100 0.9100 0.9100",
    ]  # fmt: skip


def test_features_have_wrong_labels(tmp_path):
    made = pq.read_table(versus.features(tmp_path / "set", 100) / "train.parquet")
    wrong = sum(a != b for a, b in zip(made["label"].to_pylist(), made["true_label"].to_pylist(), strict=True))
    assert made.num_rows == 100 and 10 < wrong < 50


def test_both_checkouts_are_run_by_turns(tmp_path, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(versus, "command", lambda checkout, argv, core: (seen.append((checkout.name, argv)), (1, 1))[1])
    (tmp_path / "a").mkdir()
    versus.main([str(tmp_path / "a"), str(tmp_path), "--only", "help", "--seeds", "2"])
    assert [name for name, _ in seen] == ["a", tmp_path.name] * 2
    assert "help: seconds of the command 1.00 → 1.00 (1.00 times as fast)" in capsys.readouterr().out


def test_a_command_that_fails_is_said(tmp_path):
    with pytest.raises(SystemExit, match="pyproject.toml"):
        versus.command(tmp_path, ["--help"], None)
