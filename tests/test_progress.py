"""Progress: what is printed where there is no terminal."""

import pytest

from ethos import progress
from ethos.progress import meter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test moves; a line is due at every step."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    return now


@pytest.mark.parametrize(("done", "left"), [(0, 180), (6, 60)], ids=["fresh", "resumed"])
def test_the_time_left_follows_from_the_steps_of_this_process_alone(
    done: int, left: int, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with meter("training", 11, done=done) as bar:
        for _ in range(2):
            clock[0] += 20
            bar.advance(tokens=100, note="loss 1.0")
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"training: {done + 2}/11 5 tok/s loss 1.0 ({left} s left)"


def test_the_last_step_is_always_told(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 1e9)
    with meter("sampling", 2) as bar:
        bar.advance()
        bar.advance()
    assert capsys.readouterr().err == "sampling: 2/2 (0 s left)\n"
