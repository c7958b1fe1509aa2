"Films: the frames that were asked for, in files of a bounded size."
import math

import pytest
import torch
from PIL import Image

from slowddim.animate import animate, _thin


@pytest.fixture(scope="module")
def trajectory():
    noise = torch.randn(40, 16, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    return [(1 - k/39)**0.5*noise[k] - (k/39)**0.5 for k in range(40)]


@pytest.mark.parametrize("ending", ["gif", "apng"])
def test_forty_frames_of_sixteen_images(ending, trajectory, tmp_path):
    path = animate(trajectory, n_images=16).save(tmp_path/f"film.{ending}")
    assert path.stat().st_size < 3e6 and Image.open(path).n_frames == 40


@pytest.mark.parametrize("n, every", [(40, 1), (40, 25), (41, 5), (1, 7), (1000, 25)])
def test_thinning_keeps_the_last(n, every):
    kept = _thin(range(n), every)
    assert kept[-1] == n - 1 and len(kept) == math.ceil(n/every) + ((n - 1) % every != 0)


def test_the_page_needs_nothing_from_elsewhere(trajectory, tmp_path):
    text = animate(trajectory[:3], trajectory[:3]).save(tmp_path/"film.html").read_text("utf-8")
    assert "://" not in text and text.count("data:image/png;base64,") == 4 # three frames and the poster


def test_colour_and_bytes(tmp_path):
    film = animate([torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8) for _ in range(3)], scale=1)
    assert film.frames[0].mode == "RGB" and len(film) == 3


@pytest.mark.parametrize("bad, message", [(dict(every=0), "every"), (dict(fps=0), "fps"),
                                          (dict(n_images=0), "n_images"), (dict(scale=0), "scale"),
                                          (dict(size=64), "smaller")])
def test_bad_input(bad, message, trajectory):
    with pytest.raises(ValueError, match=message): animate(trajectory[:2], **bad)
