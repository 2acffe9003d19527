"""Videos, read and written frame by frame with PyAV (the extra `video`), so that their length takes no memory."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from importlib.util import find_spec
from math import floor
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from fer_hf.data.contents import check_file, check_kind
from fer_hf.errors import BadInputError, no_such_path
from fer_hf.files import whole
from fer_hf.words import plural


SUFFIXES = (
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm",
    ".wmv",
)  # fmt: skip
# Pictures may end so many seconds before the file says that it does: sound is often a little longer.
_TOLERANCE = 1.0
# Of a second: the unit of time in what is written. MPEG's own; every usual frame rate is a whole number of it.
_TICK = Fraction(1, 90_000)


def is_video(path: Any) -> bool:
    """Whether something is the name of a video, and of no folder."""
    return isinstance(path, str) and Path(path).suffix.lower() in SUFFIXES and not os.path.isdir(path)


class Frame(NamedTuple):
    """
    A picture of a video.

    Args:
        number (`int`): Counted from 0; those that were left out are counted, too.
        seconds (`float`): Since the video's beginning.
        image (`PIL.Image.Image`): Upright, with square pixels, in RGB.
    """

    number: int
    seconds: float
    image: Image.Image


class Video:
    """
    The frames of a video, one after the other.

        with Video("clip.mp4") as video:
            for frame in video:
                ...

    Args:
        path (`str`): The file.
        every_seconds (`float`, *optional*): Give the first frame in each such span of time only.

    Attributes:
        duration (`float`, *optional*): In seconds, as the file says, if it does.
        end (`float`): Of the last frame that was decoded, in seconds.

    Raises:
        BadInputError: If PyAV is missing, or the file is no video that it can read.
    """

    def __init__(self, path: str, every_seconds: float | None = None):
        if find_spec("av") is None:
            raise BadInputError(f"{path}: a video needs PyAV: pip install av.")
        if path.startswith(("http://", "https://")):
            raise BadInputError(f"{path}: a video must be a file. Fetch it first.")
        if not os.path.exists(path):
            raise BadInputError(no_such_path(path))
        check_file(path)
        self.path, self.every_seconds, self.end, self.damaged = path, every_seconds, 0.0, 0
        self.file, self.container = _open(path)
        self.stream = _stream(self.container)
        if self.stream is None:
            self.__exit__()
            raise BadInputError(f"{path}: there is no video in this file.")
        self.stream.thread_type = "AUTO"
        self.duration = _duration(self.container, self.stream)

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_) -> None:
        self.container.close()
        self.file.close()

    def __iter__(self) -> Iterator[Frame]:
        seconds, due, start = 0.0, 0.0, (self.container.start_time or 0) / 1e6
        rate = float(self.stream.guessed_rate or 25)
        for number, frame in enumerate(self._decoded()):
            # Not every file has times, and in some they jump back.
            seconds = max(seconds, number / rate if frame.time is None else frame.time - start)
            self.end = seconds + (float(frame.duration * frame.time_base) or 1 / rate)
            if self.every_seconds is not None:
                if seconds < due - 1e-6:  # times are rounded in many files
                    continue
                due = (floor(seconds / self.every_seconds + 1e-6) + 1) * self.every_seconds
            yield Frame(number, seconds, self._picture(frame))
        if not self.end:
            raise BadInputError(f"{self.path}: no frame of this video can be decoded. Fetch it again.")

    def _decoded(self) -> Iterator:
        """The decoder's frames; what it cannot read is counted, and left out."""
        from av import FFmpegError

        try:
            for packet in self.container.demux(self.stream):
                try:
                    yield from packet.decode()
                except FFmpegError:
                    self.damaged += 1
        except FFmpegError:
            self.damaged += 1

    def _picture(self, frame: Any) -> Image.Image:
        width_of_pixel = self.stream.sample_aspect_ratio or 1
        return frame.to_image(width=round(frame.width * width_of_pixel)).rotate(frame.rotation, expand=True)

    def damage(self) -> str | None:
        """After the last frame: what is wrong with the video, if anything is."""
        parts = f"{plural(self.damaged, 'part')} cannot be decoded" if self.damaged else ""
        short = self.end < (self.duration or 0) - _TOLERANCE
        cut = f"its frames end at {self.end:.1f} s of {self.duration:.1f} s" if short else ""
        wrong = ", and ".join(filter(None, (cut, parts)))
        return f"{self.path}: cut off or damaged: {wrong}. Fetch it again." if wrong else None


def _open(path: str) -> tuple:
    import av

    try:
        # Opened here, as FFmpeg takes a colon in a name for a protocol. None is allowed: a playlist must not lead on.
        file = open(path, "rb")  # noqa: SIM115
        check_kind(path, file.read(64))
        file.seek(0)
        return file, av.open(file, metadata_errors="ignore", options={"protocol_whitelist": "none"})
    except (av.FFmpegError, OSError) as error:
        raise BadInputError(f"{path}: not a readable video ({error.strerror}). Fetch it again.") from error


def _stream(container: Any) -> Any | None:
    """The first stream with moving pictures; a cover is none."""
    from av.stream import Disposition

    return next((s for s in container.streams.video if not s.disposition & Disposition.attached_pic), None)


def _duration(container: Any, stream: Any) -> float | None:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None


@contextmanager
def marked_video(path: Path) -> Iterator[Callable[[Image.Image, float], None]]:
    """
    Write an MP4 (H.264) without sound. It is there whole, or not at all.

        with marked_video(Path("marked.mp4")) as add:
            add(image, seconds)

    Each frame, one at least, is shown from its own time on; the first one says how large all are.
    """
    import av

    with whole(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream, last = container.add_stream("libx264", options={"preset": "veryfast"}), -1
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", _TICK

        def add(image: Image.Image, seconds: float) -> None:
            nonlocal last
            if last < 0:
                stream.width, stream.height = (side // 2 * 2 for side in image.size)  # `yuv420p` wants even sides
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = max(round(seconds / _TICK), last + 1), _TICK
            last = frame.pts
            container.mux(stream.encode(frame))

        yield add
        container.mux(stream.encode(None))
