"Distances between clouds: closed forms, streams, and three other implementations on the same features."
import math

import numpy as np
import pytest
import torch

from slowddim.distances import FeatureStats, frechet_distance, kernel_distance, moments, precision_recall
from slowddim.data import as_images
from slowddim.fid import Score


def cloud(n, d, seed, shift=0., scale=1.):
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=torch.Generator().manual_seed(99), dtype=torch.float64)/d**0.5
    return scale*torch.randn(n, d, generator=g, dtype=torch.float64) @ mix + shift


@pytest.fixture(scope="module")
def pair(): return cloud(1000, 64, 1), cloud(1200, 64, 2, shift=0.1, scale=1.3)


@pytest.mark.parametrize("n, d", [(500, 16), (50, 128), (2, 8)])
def test_identical_sets_are_at_distance_zero(n, d):
    mean, cov = moments(cloud(n, d, 0))
    assert frechet_distance(mean, cov, mean, cov) < 1e-8


@pytest.mark.parametrize("d", [1, 8, 128])
def test_gaussians_whose_distance_is_known(d):
    g = torch.Generator().manual_seed(d)
    turn = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64))[0]
    a, b = (torch.rand(d, generator=g, dtype=torch.float64) + 0.01 for _ in range(2))
    shift = torch.randn(d, generator=g, dtype=torch.float64)
    known = (shift.square().sum() + (a.sqrt() - b.sqrt()).square().sum()).item()
    ours = frechet_distance(torch.zeros(d), turn @ a.diag() @ turn.T, shift, turn @ b.diag() @ turn.T)
    assert ours == pytest.approx(known, rel=1e-6)
    larger = frechet_distance(torch.zeros(d), a.diag(), torch.zeros(d), 4*a.diag())
    assert larger == pytest.approx(a.sum().item(), rel=1e-6)
    back = frechet_distance(shift, turn @ b.diag() @ turn.T, torch.zeros(d), turn @ a.diag() @ turn.T)
    assert ours == pytest.approx(back, rel=1e-9)


def test_against_scipy_torch_fidelity_and_pytorch_fid(pair):
    linalg, theirs = pytest.importorskip("scipy.linalg"), pytest.importorskip("torch_fidelity.metric_fid")
    (mean_a, cov_a), (mean_b, cov_b) = map(moments, pair)
    ours = frechet_distance(mean_a, cov_a, mean_b, cov_b)
    root = linalg.sqrtm(cov_a.numpy() @ cov_b.numpy())
    by_scipy = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2*np.trace(root).real
    assert ours == pytest.approx(by_scipy.item(), rel=1e-5)
    stats = [dict(mu=m.numpy(), sigma=c.numpy()) for m, c in ((mean_a, cov_a), (mean_b, cov_b))]
    assert ours == pytest.approx(theirs.fid_statistics_to_metric(*stats, False)["frechet_inception_distance"], rel=1e-5)


def test_against_pytorch_fid(pair):
    fid_score = pytest.importorskip("pytorch_fid.fid_score")
    (mean_a, cov_a), (mean_b, cov_b) = map(moments, pair)
    try: theirs = fid_score.calculate_frechet_distance(mean_a.numpy(), cov_a.numpy(), mean_b.numpy(), cov_b.numpy())
    except TypeError as e: pytest.skip(f"pytorch-fid does not run with this SciPy: {e}")
    assert frechet_distance(mean_a, cov_a, mean_b, cov_b) == pytest.approx(theirs, rel=1e-5)


def test_fewer_points_than_dimensions_stays_finite():
    a, b = cloud(20, 64, 1), cloud(30, 64, 2)
    assert 0 < frechet_distance(*moments(a), *moments(b)) < 1e4


@pytest.mark.parametrize("batch", [1, 7, 500, 1000])
def test_a_stream_equals_the_whole(pair, batch):
    stats, x = FeatureStats(), pair[0] + 1000.
    for piece in x.split(batch): stats.update(piece)
    assert stats.n == 1000 and (stats.mean - x.mean(0)).abs().max() < 1e-9
    assert (stats.cov - x.T.cov()).abs().max() < 1e-9
    assert (stats.cov - torch.from_numpy(np.cov(x.numpy(), rowvar=False))).abs().max() < 1e-9


def test_kernel_distance_is_unbiased_and_agrees(pair):
    theirs = pytest.importorskip("torch_fidelity.metric_kid")
    a, b = (x[:300] for x in pair)
    value, error = kernel_distance(a, b, block=300)
    k = [theirs.kernel_poly(x.numpy(), y.numpy(), kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None,
                            kid_kernel_poly_coef0=1)
         for x, y in ((a, a), (a, b), (b, b))]
    assert value == pytest.approx(theirs.mmd2(*k), rel=1e-6) and math.isnan(error)
    same, error = kernel_distance(cloud(5000, 16, 3), cloud(5000, 16, 4), block=100)
    assert abs(same) < 4*error


def test_precision_and_recall_agree(pair):
    theirs = pytest.importorskip("torch_fidelity.metric_prc")
    a, b = (x[:400].float() for x in pair)
    assert precision_recall(a, b, chunk=64) == precision_recall(a, b)
    out = theirs.prc_features_to_metric(a, b, prc_neighborhood=3, prc_batch_size=1000, verbose=False)
    assert precision_recall(b, a) == pytest.approx((out["precision"], out["recall"]), abs=1e-6) # fake first


def test_scores_of_other_eyes_refuse():
    a, b, kid = Score(1., extractor="a"), Score(2., extractor="b"), Score(1., kind="KID", extractor="a")
    assert a < Score(2., extractor="a") and max(a, Score(2., extractor="a")) == 2 and a + 1 == 2
    for other in (b, kid):
        for call in (lambda o=other: a < o, lambda o=other: a - o, lambda o=other: a == o, lambda o=other: a/o):
            with pytest.raises(ValueError, match="cannot compare"): call()


@pytest.mark.parametrize("x, error", [
    (torch.zeros(4, 1, 28, 28, dtype=torch.int32), TypeError), (torch.full((4, 1, 28, 27), -1.), ValueError),
    (torch.full((1, 1, 28, 28), -1.), ValueError), (torch.rand(4, 1, 28, 28), ValueError),
    (torch.randn(4, 1, 28, 28)*3, ValueError), (torch.full((4, 3, 28, 28), -1.), ValueError),
    (torch.full((4, 1, 28, 28), math.nan), ValueError)])
def test_what_cannot_be_pictures_is_refused(x, error):
    with pytest.raises(error): as_images(x, (1, 28, 28), margin=4, dark=True, n_min=2)


def test_a_small_overshoot_is_clamped():
    x = torch.full((4, 1, 32, 32), -1.02)
    x[:, :, 10:20, 10:20] = 1.3
    clamped = as_images(x, (1, 28, 28), margin=4, dark=True)
    assert clamped.min() == -1 and clamped.max() == 1
