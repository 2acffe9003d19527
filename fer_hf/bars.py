"""The progress bar of recipes and commands. Imports nothing of the project."""

from typing import Any

from tqdm.auto import tqdm


# Work of fewer seconds shows no bar.
QUICK = 3.0


class Bar(tqdm):
    """A bar of tqdm's that quick work does not show, however many lines `tqdm.write` puts above it."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, delay=QUICK, **kwargs)

    def display(self, *args: Any, **kwargs: Any) -> bool | None:
        """The stock method, which `tqdm.write` calls however early it is."""
        return super().display(*args, **kwargs) if self._time() - self.start_t >= QUICK else False
