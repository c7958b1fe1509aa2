"The search for copies is exact, catches copies, and says what it does not know."
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from slowddim.cli import main
from slowddim.copies import find_copies, nearest_images, upper_bound
from slowddim.core import to_unit
from slowddim.data import load_data


def seeded(seed=0): return torch.Generator().manual_seed(seed)


def brute(x, real):
    flat = [(to_unit(v) if v.dtype == torch.uint8 else v).double().flatten(1) for v in (x, real)]
    return torch.cdist(*flat, compute_mode="donot_use_mm_for_euclid_dist")


@pytest.mark.parametrize("scale", [1., 1e-5])
@pytest.mark.parametrize("chunk", [3, 50, 2000])
def test_neighbours_are_exact(chunk, scale):
    "Also where the distances are smaller than a product in float32 can tell, so that many rows are searched again."
    real = 1 + scale*torch.randn(200, 20, generator=seeded())
    x = 1 + scale*torch.randn(30, 20, generator=seeded(1))
    distances, index = nearest_images(x, real, 4, chunk=chunk)
    expected = brute(x, real).topk(4, largest=False)
    assert torch.allclose(distances, expected.values, rtol=1e-12, atol=0) and torch.equal(index, expected.indices)


def test_bytes_and_few_images():
    real = torch.randint(0, 256, (3, 1, 4, 4), generator=seeded(), dtype=torch.uint8)
    distances, index = nearest_images(real.flip(0), real, 3)
    assert index[:, 0].tolist() == [2, 1, 0] and distances[:, 0].tolist() == [0, 0, 0]
    assert torch.allclose(distances, brute(real.flip(0), real).sort(1).values)


def test_equal_images_come_in_their_order():
    real = torch.ones(40, 6)
    assert nearest_images(torch.zeros(2, 6), real, 3)[1].tolist() == [[0, 1, 2]]*2


@pytest.mark.parametrize("k, n", [(0, 1), (0, 40), (1, 40), (20, 40), (39, 40), (3, 10_000)])
def test_the_bound_is_clopper_and_pearsons(k, n):
    p = upper_bound(k, n)
    tail = math.fsum(math.exp(math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i*math.log(p)
                              + (n - i)*math.log1p(-p)) for i in range(k + 1))
    assert tail == pytest.approx(0.05, rel=1e-6) and p > k/n


def test_the_bound_grows_and_ends_at_1():
    found = [upper_bound(k, 20) for k in range(21)]
    assert found == sorted(found) and found[-1] == 1 and upper_bound(0, 20, 0.99) > found[0]


@pytest.fixture(scope="module")
def digits(): return load_data("digits")


def test_copies_are_caught_and_new_images_are_not(digits):
    train = replace(digits, images=digits.images[:700], labels=digits.labels[:700])
    noisy = (to_unit(train.images) + 0.05*torch.randn(train.images.shape, generator=seeded())).clamp(-1, 1)
    assert find_copies(noisy, train).caught.double().mean() > 0.99
    assert find_copies(digits.images[700:], train).caught.sum() == 0
    assert find_copies(noisy.flip(3), train).caught.double().mean() < 0.2
    mirrored = find_copies(noisy.flip(3), train, flips=True, k=3)
    assert mirrored.caught.double().mean() > 0.99 and torch.equal(mirrored.index[:, 0], torch.arange(700))
    assert all(len(set(row)) == 3 for row in mirrored.index.tolist())


def test_ratios_are_nearest_over_the_mean_of_the_others(digits):
    x, train = digits.images[:50], replace(digits, images=digits.images[50:], labels=digits.labels[50:])
    for k in (2, 6):
        found = find_copies(x, train, k=k)
        near = brute(x, train.images).sort(1).values[:, :k]
        assert torch.allclose(found.ratios, near[:, 0]/near[:, 1:].mean(1))
    described = find_copies(x, train, lambda v: v.flatten(1)[:, ::2])
    near = brute(to_unit(x).flatten(1)[:, ::2], to_unit(train.images).flatten(1)[:, ::2]).sort(1).values
    assert torch.allclose(described.ratios, near[:, 0]/near[:, 1])


def test_what_was_not_searched_is_said(digits):
    assert find_copies(digits.images[:9], digits).facts()["not_searched"] == 0
    mini = replace(digits, name="fashion_mnist_mini", images=digits.images[:500], labels=digits.labels[:500])
    assert "59,500 of 60,000 training images were not searched" in repr(find_copies(digits.images[:9], mini))
    own = replace(mini, own=True)
    assert find_copies(digits.images[:9], own).facts()["not_searched"] == 0
    with pytest.raises(ValueError, match="n_total"): find_copies(digits.images[:9], mini, n_total=499)


@pytest.fixture(scope="module")
def place(tmp_path_factory, digits):
    folder = tmp_path_factory.mktemp("copies")
    np.savez(folder/"train.npz", arr_0=digits.images[:300].movedim(1, -1).numpy())
    np.savez(folder/"test.npz", arr_0=digits.images[300:400].movedim(1, -1).numpy())
    return folder


def test_the_command(place, capsys):
    line = ["--data", str(place/"train.npz"), "--quiet"]
    assert main(["copies", str(place/"train.npz"), *line, "--out", str(place/"sheet.png")]) == 0
    said = capsys.readouterr().out
    assert "300 of 300 caught" in said and "mirrored images not (--flips)" in said and (place/"sheet.png").is_file()
    assert "features" not in said # of 8x8 images there are none
    assert main(["copies", str(place/"test.npz"), *line, "--flips"]) == 0
    said = capsys.readouterr().out
    assert "0 of 100 caught" in said and "mirrored images too" in said


@pytest.mark.parametrize("options, message", [
    (["--threshold", "2"], "--threshold must be a finite number in [0, 1]"), (["--k", "1"], "--k must be"),
    (["--device", "cuda"], "--device must be cpu"), (["--out", "x.jpg"], "--out must end in .png"),
    (["--data", "letters"], "letters"), (["--pairs", "0"], "--pairs must be at least 1"),
])
def test_the_command_refuses_in_one_line(place, capsys, options, message):
    given = [] if "--data" in options else ["--data", str(place/"train.npz")]
    assert main(["copies", str(place/"test.npz"), *given, *options, "--quiet"]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1, said
