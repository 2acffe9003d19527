"""The progress bar: what it shows of quick work and of work that takes its time."""

import io

import pytest
from tqdm import tqdm

from fer_hf.bars import QUICK, Bar


@pytest.mark.parametrize("seconds", [0, QUICK])
def test_only_work_that_takes_its_time_has_a_bar_whatever_is_written_above_it(seconds):
    terminal = io.StringIO()
    with Bar(total=2, desc="photos", file=terminal) as bar:
        bar.start_t -= seconds
        bar.update()
        tqdm.write("a.png  happy", file=terminal)
        bar.update()
    shown = terminal.getvalue().replace("\r", "")
    assert "a.png  happy\n" in shown
    assert ("photos" in shown) is (seconds > 0)
    if not seconds:
        assert shown == "a.png  happy\n"
