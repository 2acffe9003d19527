"""`fer-hf predict` of a video: its faces over time, as rows, in a marked video and a picture, in little memory."""

import csv
import gc
import json
import re
import struct
import tracemalloc
import weakref
from fractions import Fraction
from math import exp

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from PIL import Image

from fer_hf import bars
from fer_hf.cli.main import main
from fer_hf.errors import BadInputError
from fer_hf.inference import Detection, predict_video, video
from fer_hf.inference.predict import Places, load_pipeline
from fer_hf.inference.predict_video import FaceTracks, Timeline, check_video
from fer_hf.inference.video import Frame, Video


av = pytest.importorskip("av")
SIZE = (160, 96)


@pytest.fixture
def face(drawn_faces):
    """A drawn face, bright enough to be found."""
    return drawn_faces["test"][0]["image"].resize((40, 40)).point(lambda value: 128 + value // 2)


def clip(path, pictures, times=None, rate=25, size=SIZE, aspect=None, **options):
    """Write a video: a frame of each picture, at its time."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "g": "4"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        if aspect:
            stream.sample_aspect_ratio = aspect
        stream.codec_context.time_base = Fraction(1, 90_000)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = (
                round(90_000 * (times[number] if times else number / rate)),
                Fraction(1, 90_000),
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def scene(face, *places):
    picture = Image.new("RGB", SIZE)
    for place in places:
        picture.paste(face, place)
    return picture


@pytest.fixture
def two_people(tmp_path, face):
    """Twelve frames: one face goes to the right, another one comes with the fifth frame."""
    pictures = [scene(face, (4 + 2 * n, 20), *([(104, 40)] if n >= 4 else [])) for n in range(12)]
    return clip(tmp_path / "two.mp4", pictures)


def find(image):
    """What is bright, in the left part and in the right."""
    found = []
    for left, part in ((0, image[:, :90]), (90, image[:, 90:])):
        rows, columns = np.nonzero(part.min(axis=2) > 60)
        if len(rows):
            box = (left + columns.min(), rows.min(), left + columns.max() + 1, rows.max() + 1)
            found.append(Detection(tuple(map(float, box)), 0.9))
    return found[::-1]


@pytest.fixture
def classifier(classifier_folder):
    return load_pipeline(classifier_folder, detector=find)


def run(classifier, path, every_seconds=None, smooth_seconds=None, batch_size=5, **options):
    places = Places(**options)
    check_video(path, places)
    predict_video.predict_video(classifier, path, places, every_seconds, smooth_seconds, batch_size, True)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.numeric
def test_there_is_a_row_for_each_face_and_frame_with_a_number_that_it_keeps(
    classifier, two_people, tmp_path, names, capsys
):
    run(classifier, two_people, output=tmp_path / "faces.csv")
    rows = rows_of(tmp_path / "faces.csv")
    assert [(int(row["frame"]), int(row["face"])) for row in rows] == [
        *[(n, 0) for n in range(4)], *[(n, face) for n in range(4, 12) for face in (1, 0)],
    ]  # fmt: skip
    assert [float(row["seconds"]) for row in rows if row["face"] == "0"] == [n * 0.04 for n in range(12)]
    for row in rows:
        left, top = (104, 40) if row["face"] == "1" else (4 + 2 * int(row["frame"]), 20)
        box = [float(row[edge]) for edge in ("xmin", "ymin", "xmax", "ymax")]
        assert box == pytest.approx([left, top, left + 40, top + 40], abs=3)
    with Video(two_people) as frames:
        *_, last = frames
    for row, face in zip(rows[-2:], classifier(last.image), strict=True):
        assert row["expression"] == face["expression"]
        assert {name: float(row[name]) for name in names} == pytest.approx(face["scores"], abs=1e-4)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("12 frames in 0.5 s, 2 faces: ")
    assert printed[1:] == [f"written: {tmp_path / 'faces.csv'}"]


def test_every_kind_of_file_holds_the_same_and_a_frame_without_faces_too(classifier, tmp_path, face):
    path = clip(tmp_path / "clip.mp4", [scene(face), scene(face, (4, 20)), scene(face)])
    for suffix in (".csv", ".jsonl", ".parquet"):
        run(classifier, path, output=tmp_path / f"faces{suffix}")
    rows, table = rows_of(tmp_path / "faces.csv"), pq.read_table(tmp_path / "faces.parquet").to_pylist()
    lines = [json.loads(line) for line in (tmp_path / "faces.jsonl").read_text().splitlines()]
    assert [row["face"] for row in rows] == ["", "0", ""]
    assert [{name: "" if value is None else str(value) for name, value in row.items()} for row in table] == rows
    assert [(line["frame"], line["seconds"], len(line["faces"])) for line in lines] == [
        (0, 0.0, 0), (1, 0.04, 1), (2, 0.08, 0),
    ]  # fmt: skip
    assert lines[1]["faces"][0]["face"] == 0
    assert list(lines[1]["faces"][0]["box"].values()) == [table[1][edge] for edge in ("xmin", "ymin", "xmax", "ymax")]


@pytest.mark.parametrize(("aspect", "size"), [(None, (480, 288)), (Fraction(4, 3), (638, 288))])
def test_a_marked_video_has_the_frames_at_their_times_with_the_boxes(aspect, size, classifier, tmp_path, face):
    times = [0.0, 0.04, 0.5, 0.52]  # no even rate
    path = clip(tmp_path / "clip.mp4", [scene(face, (4, 20), (104, 40))] * 4, times, aspect=aspect)
    run(classifier, path, annotate=tmp_path / "marked.mp4", output=tmp_path / "faces.csv")
    with Video(str(tmp_path / "marked.mp4")) as marked:
        frames = list(marked)
    assert [frame.seconds for frame in frames] == pytest.approx(times, abs=1e-3)
    assert frames[0].image.size == size  # three times the frame's, as it is small; and even
    row = rows_of(tmp_path / "faces.csv")[-1]
    x, y = 3 * float(row["xmin"]), 1.5 * (float(row["ymin"]) + float(row["ymax"]))
    red, _, blue = np.asarray(frames[3].image)[round(y), round(x)].astype(int)
    assert blue - red > 50


def test_frames_are_taken_by_time_where_their_rate_changes(classifier, tmp_path, face):
    times = [0.0, 0.1, 0.2, 0.3, 0.95, 1.0, 1.05, 1.1, 3.2, 3.4, 3.6]
    path = clip(tmp_path / "clip.mkv", [scene(face, (4, 20))] * len(times), times)
    run(classifier, path, every_seconds=0.5, output=tmp_path / "faces.csv")
    rows = rows_of(tmp_path / "faces.csv")
    assert [(int(row["frame"]), float(row["seconds"])) for row in rows] == [
        (0, 0.0), (4, 0.95), (5, 1.0), (8, 3.2), (10, 3.6),
    ]  # fmt: skip
    assert {row["face"] for row in rows[:3]} == {"0"}
    assert rows[3]["face"] == "0"  # in the frame before, however long ago


@pytest.mark.parametrize("name", ["late.ts", "no_times.h264"])
def test_time_begins_with_the_video(name, tmp_path, face):
    path = clip(tmp_path / name, [scene(face)] * 5)
    with Video(path) as frames:
        assert [frame.seconds for frame in frames] == pytest.approx([n / 25 for n in range(5)], abs=1e-3)


def turned(path, quarters):
    """Set the flag that has a video shown turned clockwise by so many quarters, as phones do."""
    content, one = bytearray(path.read_bytes()), 1 << 16
    place = content.find(b"tkhd") + 44  # of its matrix
    cosine, sine = [(one, 0), (0, one), (-one, 0), (0, -one)][quarters]
    content[place : place + 36] = struct.pack(">9i", cosine, sine, 0, -sine, cosine, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


@pytest.mark.parametrize("quarters", range(4))
def test_a_video_that_a_flag_turns_is_read_upright(quarters, tmp_path, face):
    stored = scene(face, (4, 20))
    clip(tmp_path / "clip.mp4", [stored])
    turned(tmp_path / "clip.mp4", quarters)
    with Video(str(tmp_path / "clip.mp4")) as frames:
        (frame,) = frames
    upright = stored.rotate(-90 * quarters, expand=True)
    assert frame.image.size == upright.size
    assert np.abs(np.asarray(frame.image).astype(int) - np.asarray(upright)).mean() < 6


def test_pixels_that_are_not_square_are_made_so(tmp_path, face):
    path = clip(tmp_path / "clip.mp4", [scene(face)], aspect=Fraction(4, 3))
    with Video(path) as frames:
        (frame,) = frames
    assert frame.image.size == (213, 96)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_video_that_is_cut_off_gives_what_is_left_and_one_line(classifier, tmp_path, face):
    noise = [Image.effect_noise(SIZE, 90).convert("RGB") for _ in range(60)]
    path = tmp_path / "clip.mp4"
    clip(path, noise, movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(BadInputError, match=r"clip\.mp4: cut off or damaged: its frames end at .* s of 2\.4 s") as cut:
        run(classifier, str(path), output=tmp_path / "faces.csv", annotate=tmp_path / "marked.mp4")
    assert "\n" not in str(cut.value)
    rows = rows_of(tmp_path / "faces.csv")
    assert 5 < len({row["frame"] for row in rows}) < 30
    with Video(str(tmp_path / "marked.mp4")) as marked:
        assert len(list(marked)) == len({row["frame"] for row in rows})


def test_a_last_frame_that_stays_long_is_no_cut(tmp_path, face):
    clip(tmp_path / "short.mkv", [scene(face)] * 3)
    with av.open(str(tmp_path / "short.mkv")) as short, av.open(str(tmp_path / "long.mkv"), "w") as long:
        stream = long.add_stream_from_template(short.streams.video[0])
        for packet in [packet for packet in short.demux() if packet.dts is not None]:
            packet.stream, packet.duration = stream, round((5 if packet.pts == 80 else 0.04) / packet.time_base)
            long.mux(packet)
    with Video(str(tmp_path / "long.mkv")) as frames:
        assert len(list(frames)) == 3
        assert (frames.end, frames.duration) == pytest.approx((5.08, 5.08))
        assert frames.damage() is None


def test_damaged_parts_are_left_out_and_counted(tmp_path, face):
    path = tmp_path / "clip.mp4"
    clip(path, [Image.effect_noise(SIZE, 90).convert("RGB") for _ in range(20)], movflags="faststart")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 6000] = bytes(6000)
    path.write_bytes(content)
    with Video(str(path)) as frames:
        seen = list(frames)
    assert 0 < len(seen) < 20
    assert frames.damage().startswith(f"{path}: cut off or damaged: ")
    assert "cannot be decoded" in frames.damage()


def sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))


def no_frames(path):
    clip(path, [Image.effect_noise(SIZE, 90).convert("RGB")], movflags="faststart")
    content = path.read_bytes()
    start = content.find(b"mdat") + 4
    path.write_bytes(content[:start] + bytes(len(content) - start))


def playlist(path):
    clip(path.with_name("other.mp4"), [Image.new("RGB", SIZE)])
    path.write_text("ffconcat version 1.0\nfile other.mp4\n")


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda path: path.write_text("no video"), "clip.mp4: not a readable video (Invalid data"),
        (lambda path: path.write_text(""), "clip.mp4: an empty file (0 bytes)."),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "clip.mp4: a Git LFS pointer"),
        (playlist, "clip.mp4: not a readable video ("),
        (sound, "clip.mp4: there is no video in this file."),
        (no_frames, "clip.mp4: no frame of this video can be decoded."),
        (lambda path: None, "clip.mp4 does not exist"),
    ],
    ids=["text", "empty", "pointer", "playlist", "sound", "no frames", "missing"],
)
def test_what_is_no_video_ends_in_one_line_and_leaves_nothing(make, complaint, classifier_folder, tmp_path, capsys):
    make(tmp_path / "clip.mp4")
    before = contents(tmp_path)
    places = ["--output", tmp_path / "faces.csv", "--annotate", tmp_path / "marked.mp4", "--plot", tmp_path / "t.png"]
    words = ["predict", tmp_path / "clip.mp4", "--model", classifier_folder, "--detector", "none", *places]
    assert main([*map(str, words), "--disable_tqdm"]) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err.splitlines()[-1]
    assert printed.err.splitlines()[-1].startswith("error: ")
    assert printed.out == ""
    assert contents(tmp_path) == before


def test_without_its_extra_a_video_names_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    assert main(["predict", str(tmp_path / "clip.mp4")]) == 2
    assert capsys.readouterr().err.endswith("clip.mp4: a video needs PyAV: pip install av.\n")


def test_a_colon_in_a_name_is_no_protocol(tmp_path, face, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip(tmp_path / "clip.mp4", [scene(face)])
    (tmp_path / "clip.mp4").rename(tmp_path / "at 12:30.mp4")
    with Video("at 12:30.mp4") as frames:
        assert len(list(frames)) == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["CLIP", "CLIP"], "A video is predicted alone: leave out the other PATHs, or `dataset_name`."),
        (["CLIP", "a.png"], "A video is predicted alone"),
        (["CLIP", "--dataset", "synthetic"], "A video is predicted alone"),
        (["a.png", "--smooth_seconds", "1"], "`every_seconds` and `smooth_seconds` are for a video."),
        (["CLIP", "--every_seconds", "0"], "`--every_seconds`: must be greater than 0, got 0"),
        (["CLIP", "--every_seconds", "nan"], "`--every_seconds`: must be greater than 0, got nan"),
        (["CLIP", "--resume", "--output", "x.csv"], "`resume` is for photos: a video is read from its beginning."),
        (["CLIP", "--output", "x.txt"], "`output` must end in .csv, .jsonl, .parquet, got x.txt."),
        (["CLIP", "--annotate", "marked"], "`annotate` must end in .mp4 for a video, got marked."),
        (["CLIP", "--annotate", "OLDER"], "OLDER exists. Name another place, or replace it with --overwrite."),
        (["CLIP", "--annotate", "CLIP", "--overwrite"], "CLIP would replace what is read from"),
        (["CLIP", "--plot", "x.pdf"], "`plot` must end in .png for a video, got x.pdf."),
        (["https://example.com/clip.mp4"], "https://example.com/clip.mp4: a video must be a file. Fetch it first."),
    ],
)
def test_bad_words_are_one_line_and_exit_code_2(words, complaint, two_people, tmp_path, capsys):
    older = tmp_path / "older.mp4"
    older.write_bytes(b"older")
    places, before = {"CLIP": two_people, "OLDER": str(older)}, contents(tmp_path)
    assert main(["predict", *(places.get(word, word) for word in words), "--disable_tqdm"]) == 2
    printed = capsys.readouterr()
    assert complaint.replace("CLIP", two_people).replace("OLDER", str(older)) in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert contents(tmp_path) == before


def test_the_command_writes_all_that_is_asked_for(classifier_folder, two_people, tmp_path, capsys):
    places = {
        "output": tmp_path / "new" / "faces.csv",
        "annotate": tmp_path / "marked.mp4",
        "plot": tmp_path / "t.png",
    }
    words = [part for flag, place in places.items() for part in (f"--{flag}", str(place))]
    words += ["--every_seconds", "0.1", "--smooth_seconds", "1", "--disable_tqdm"]
    assert main(["predict", two_people, "--model", classifier_folder, "--detector", "none", *words]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.splitlines()[0].startswith("5 frames in 0.5 s, 1 face: ")
    assert printed.out.splitlines()[1:] == [f"written: {place}" for place in places.values()]
    assert [int(row["frame"]) for row in rows_of(places["output"])] == [0, 3, 5, 8, 10]
    assert places["plot"].read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.rglob("*")} == {"two.mp4", "new", "faces.csv", "marked.mp4", "t.png"}


def test_an_interrupted_video_leaves_nothing(classifier, two_people, tmp_path, monkeypatch):
    before = contents(tmp_path)
    (tmp_path / "marked.mp4").write_bytes(b"older")

    def interrupt(self, frame, faces):
        raise KeyboardInterrupt

    monkeypatch.setattr(Timeline, "add", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(classifier, two_people, output=tmp_path / "f.csv", annotate=tmp_path / "marked.mp4", overwrite=True)
    assert contents(tmp_path) == {**before, "marked.mp4": b"older"}


def test_memory_is_flat_however_many_frames_there_are(classifier, tmp_path, face, monkeypatch):
    path = clip(tmp_path / "long.mp4", [scene(face, (4 + n % 10, 20)) for n in range(200)])
    monkeypatch.setattr(predict_video, "MAX_STEPS", 16)
    pictures, alive, memory = weakref.WeakValueDictionary(), [], []
    picture = Video._picture

    def watched(self, frame):
        image = picture(self, frame)
        pictures[len(alive)] = image
        alive.append(len(pictures))
        if len(alive) in (60, 200):
            gc.collect()
            memory.append(tracemalloc.get_traced_memory()[0])
        return image

    monkeypatch.setattr(Video, "_picture", watched)
    tracemalloc.start()
    try:
        run(classifier, path, batch_size=4, output=tmp_path / "faces.csv", annotate=tmp_path / "marked.mp4")
    finally:
        tracemalloc.stop()
    assert len(alive) == 200
    assert max(alive) <= 8  # a batch, and the one before it
    assert memory[1] - memory[0] < 100_000  # the rows of 140 frames would take 220 kB


def one(left, name="happy", share=0.9):
    other = {"happy": "sad", "sad": "happy"}[name]
    box = {"xmin": left, "ymin": 0.0, "xmax": left + 10.0, "ymax": 10.0}
    return {
        "box": box,
        "landmarks": None,
        "expression": name,
        "score": share,
        "scores": {name: share, other: 1 - share},
    }


def numbers(faces):
    return [face["face"] for face in faces]


def test_a_number_goes_with_the_box_that_overlaps_most():
    tracks = FaceTracks()
    assert numbers(tracks.follow([one(0.0), one(20.0)], 0.0)) == [0, 1]
    assert numbers(tracks.follow([one(22.0), one(40.0), one(3.0)], 0.1)) == [1, 2, 0]
    assert numbers(tracks.follow([one(8.0)], 0.2)) == [0]  # 5 of 15 pixels in common
    assert numbers(tracks.follow([one(14.0)], 0.3)) == [3]  # 4 of 16
    assert tracks.count == 4


def test_a_face_that_is_gone_for_a_moment_keeps_its_number():
    tracks = FaceTracks()
    tracks.follow([one(0.0)], 0.0)
    tracks.follow([], 0.5)
    assert numbers(tracks.follow([one(0.0)], 0.9)) == [0]
    tracks.follow([], 1.5)
    assert numbers(tracks.follow([one(0.0)], 2.5)) == [1]
    assert numbers(tracks.follow([one(0.0)], 60.0)) == [1]  # seen in the frame before


def test_smoothing_weighs_what_was_by_how_long_ago_it_was():
    tracks = FaceTracks(smooth_seconds=2.0)
    assert tracks.follow([one(0.0, "happy", 0.9)], 0.0) == [{"face": 0, **one(0.0, "happy", 0.9)}]
    (second,) = tracks.follow([one(0.0, "sad", 0.8)], 1.0)
    happy = exp(-0.5) * 0.9 + (1 - exp(-0.5)) * 0.2
    assert second["scores"] == pytest.approx({"happy": happy, "sad": 1 - happy})
    assert (second["expression"], second["score"]) == ("happy", pytest.approx(happy))
    (third,) = tracks.follow([one(0.0, "sad", 0.8)], 2.0)
    assert third["scores"]["happy"] == pytest.approx(exp(-0.5) * happy + (1 - exp(-0.5)) * 0.2)
    assert third["expression"] == "sad"


@pytest.fixture
def figures(monkeypatch):
    made = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: made.append(figure))
    return made


def test_a_timeline_shows_each_face_and_when_it_was_not_seen(classifier, two_people, tmp_path, figures, names):
    run(classifier, two_people, plot=tmp_path / "new" / "timeline.png", output=tmp_path / "faces.csv")
    pictures, charts = figures[0].axes[::2], figures[0].axes[1::2]
    assert [axes.get_title() for axes in pictures] == ["face 0", "face 1"]
    assert figures[0].get_suptitle().startswith("2 faces (")
    assert [label.get_text() for label in charts[0].get_yticklabels()] == names
    rows = rows_of(tmp_path / "faces.csv")
    for number, axes in enumerate(charts):
        shares = axes.collections[0].get_array()
        own = [row for row in rows if row["face"] == str(number)]
        assert np.ma.getmaskarray(shares)[0].tolist() == [True] * (12 - len(own)) + [False] * len(own)
        assert shares[:, -1].tolist() == pytest.approx([float(own[-1][name]) for name in names], abs=1e-5)
        assert axes.get_xlim() == pytest.approx((0.0, 0.48))


def test_a_long_timeline_is_a_mean_of_few_steps_and_few_faces(monkeypatch, tmp_path, figures):
    monkeypatch.setattr(predict_video, "MAX_STEPS", 4)
    monkeypatch.setattr(predict_video, "MAX_KEPT", 6)
    timeline, image = Timeline(), Image.new("RGB", (20, 20))
    for n in range(20):
        faces = [{"face": 0, **one(0.0, "happy", 0.5 + n / 100)}, {"face": n + 1, **one(5.0)}]
        timeline.add(Frame(n, n / 10, image), faces)
    timeline.plot(["happy", "sad"], 2.0, 21, tmp_path / "timeline.png")
    assert len(timeline.starts) <= 4
    assert len(timeline.sums) <= 6
    assert timeline.images.keys() == timeline.sums.keys()
    pictures, charts = figures[0].axes[::2], figures[0].axes[1::2]
    assert pictures[0].get_title() == "face 0"
    assert "of 21 faces, those seen longest" in figures[0].get_suptitle()
    # Steps of eight frames: the means of 0 to 7, 8 to 15 and 16 to 19.
    assert timeline.starts == [0.0, 0.8, 1.6]
    assert charts[0].collections[0].get_array()[0].tolist() == pytest.approx([0.535, 0.615, 0.675])


def test_no_face_makes_no_timeline(classifier, tmp_path, face, capsys):
    path = clip(tmp_path / "clip.mp4", [scene(face)] * 3)
    run(classifier, path, plot=tmp_path / "timeline.png")
    assert not (tmp_path / "timeline.png").exists()
    said = f"not written: {tmp_path / 'timeline.png'} (nothing to show)"
    assert capsys.readouterr().out.splitlines() == ["3 frames in 0.1 s, 0 faces", said]


def test_the_bar_goes_by_the_time_and_reaches_its_end(classifier, two_people, monkeypatch, capsys):
    monkeypatch.setattr(bars, "QUICK", 1e-9)
    predict_video.predict_video(classifier, two_people, Places())
    assert re.search(r"video: 100%\|.*\| 1/1 s \[", capsys.readouterr().err)
