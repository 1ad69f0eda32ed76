"""A movie: its frames, its files, and what is refused."""

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from jaxrl_pg.watch.movie import Clip, Movie, require_path


def clip(num, shade=0):
    return Clip(num, lambda t: np.full((6, 8, 3), shade + 20 * t, np.uint8), 1.5, num - 1)


@pytest.fixture
def movie():
    return Movie([clip(3), clip(2, 100)], fps=20, title="Task, agent")


def test_episodes_follow_each_other(movie):
    assert len(movie) == 5
    shades = [int(frame[0, 0, 0]) for frame in movie.frames()]
    assert shades == [0, 20, 40, 100, 120]
    assert [int(movie.frame(i)[0, 0, 0]) for i in (0, 2, 3, -1)] == [0, 40, 100, 120]
    with pytest.raises(ValueError, match="frame 5: give a number from 0 to 4"):
        movie.frame(5)


def test_a_gif_has_all_frames_repeats_and_rests_where_an_episode_ends(movie, tmp_path):
    path = movie.save(tmp_path / "new" / "play.GIF")
    with Image.open(path) as image:
        assert image.format == "GIF"
        assert image.info["loop"] == 0
        frames = [
            (frame.info["duration"], frame.convert("RGB").getpixel((0, 0))[0])
            for frame in ImageSequence.Iterator(image)
        ]
    assert [shade for _, shade in frames] == [0, 20, 40, 100, 120]
    assert [duration for duration, _ in frames] == [50, 50, 1000, 50, 1000]


def test_a_notebook_and_a_page_show_it(movie, tmp_path):
    shown = movie._repr_html_()
    assert shown.startswith('<img alt="Movie(Task, agent: 5 frames, returns 1.5, 1.5)" src="data:')
    page = movie.save(tmp_path / "play.html").read_text(encoding="utf-8")
    assert shown in page
    other = Movie([clip(1)], 20, "t", page=lambda: "<p>the suite's own viewer</p>")
    assert other.save(tmp_path / "x.html").read_text() == "<p>the suite's own viewer</p>"


def test_frames_are_drawn_only_when_they_are_asked_for():
    def never(t):
        raise AssertionError

    assert repr(Movie([Clip(2, never, float("nan"), 1)], 20, "t")) == (
        "Movie(t: 2 frames, returns nan)"
    )


@pytest.mark.parametrize("name", ["play.png", "play", "play.gif.txt"])
def test_another_suffix_is_refused(movie, tmp_path, name):
    with pytest.raises(ValueError, match=r"give a path that ends in \.gif or \.html"):
        movie.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "x.gif").mkdir()
    with pytest.raises(ValueError, match="is a folder: give the path of a file"):
        require_path(tmp_path / "x.gif")


def test_photographs_keep_their_colours():
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    photo = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(128)), axis=-1)
    data = Movie([Clip(1, lambda t: photo, 0.0, 0)], 20, "t").gif
    with Image.open(io.BytesIO(data)) as image:
        back = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(back - photo.astype(int)).mean() < 12
