"Images belong to (seed, number): any batch size, any split, same picture."
import numpy as np
import pytest
import torch

from slowddim.core import image_generators
from slowddim.generate import iter_images, sample_images, sample_to_npz
from slowddim.oracle import CallCounter, GaussianOracle
from slowddim.pretrained import load_pretrained


@pytest.fixture(scope="module")
def shipped(): return load_pretrained("fashion_mnist")


def same(a, b): # up to one grey level on at most 0.2 % of the pixels
    apart = (a.int() - b.int()).abs()
    return apart.max() <= 1 and (apart > 0).float().mean() <= 0.002


def test_batch_size_does_not_matter(shipped):
    how = dict(timesteps=20, seed=0, progress=False)
    assert same(sample_images(*shipped, 100, batch_size=7, **how), sample_images(*shipped, 100, batch_size=64, **how))


@pytest.mark.parametrize("eta", [0., 1.])
def test_shards_make_the_same_images(shipped, eta):
    how = dict(timesteps=4, eta=eta, seed=5, progress=False)
    whole = sample_images(*shipped, 20, **how)
    parts = [sample_images(*shipped, n, start=start, **how) for start, n in [(0, 9), (9, 11)]]
    assert same(whole, torch.cat(parts))


def test_seeds_differ_and_repeat(shipped):
    how = dict(timesteps=2, progress=False)
    one = sample_images(*shipped, 4, seed=1, **how)
    assert torch.equal(one, sample_images(*shipped, 4, seed=1, **how))
    assert not torch.equal(one, sample_images(*shipped, 4, seed=2, **how))
    assert len({one[i].numpy().tobytes() for i in range(4)}) == 4


def test_one_batch_at_a_time(schedule):
    counter = CallCounter(GaussianOracle(schedule))
    batches = iter_images(counter, schedule, 50, 3, shape=(1, 8, 8), batch_size=8)
    assert counter.n_calls == 0 and len(next(batches)[1]) == 8 and counter.n_calls == 3
    assert [len(batch) for _, batch in batches] == [8]*5 + [2]


def test_no_two_images_of_a_run_share_their_noise():
    starts = [torch.randn(4, generator=g) for g in image_generators(2, 0, 30_000)]
    assert len({x.numpy().tobytes() for x in starts}) == 30_000


@pytest.mark.parametrize("name", ["plain", "with.dots.npz"])
def test_any_file_name_will_do(name, tmp_path, schedule):
    path = sample_to_npz(tmp_path/name, GaussianOracle(schedule), schedule, 3, 1, shape=(1, 4, 4), progress=False)
    assert np.load(path)["arr_0"].shape == (3, 4, 4, 1) and [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("bad", [dict(eta=9.), dict(clip="1"), dict(timesteps=0), dict(solver="ddpm", eta=0.5)])
def test_bad_input_leaves_no_trace(bad, tmp_path, schedule):
    how = dict(timesteps=2, shape=(1, 4, 4), progress=False) | bad
    with pytest.raises(ValueError): sample_to_npz(tmp_path/"new"/"x.npz", GaussianOracle(schedule), schedule, 3, **how)
    assert not (tmp_path/"new").exists()


def test_another_model_does_not_resume(tmp_path, schedule):
    class Cut(torch.nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value, self.left = torch.nn.Parameter(torch.tensor(value)), 2
        def forward(self, x, t):
            self.left -= 1
            if self.left < 0: raise RuntimeError("cut")
            return x*self.value
    how = dict(shape=(1, 4, 4), batch_size=2, progress=False, clip=None)
    with pytest.raises(RuntimeError): sample_to_npz(tmp_path/"x.npz", Cut(0.5), schedule, 6, [20], **how)
    other = Cut(0.1)
    other.left = 100
    sample_to_npz(tmp_path/"x.npz", other, schedule, 6, [20], **how)
    assert np.array_equal(np.load(tmp_path/"x.npz")["arr_0"], sample_images(other, schedule, 6, [20], **how).numpy())


def test_other_settings_do_not_resume(tmp_path, schedule):
    class Breaks(GaussianOracle):
        calls = 0
        def __call__(self, x, t):
            Breaks.calls += 1
            if Breaks.calls == 3: raise RuntimeError("cut")
            return super().__call__(x, t)
    how = dict(shape=(1, 4, 4), batch_size=2, progress=False)
    with pytest.raises(RuntimeError): sample_to_npz(tmp_path/"x.npz", Breaks(schedule), schedule, 6, 1, seed=0, **how)
    assert (tmp_path/"x.npz.part").is_dir() and not (tmp_path/"x.npz").exists()
    sample_to_npz(tmp_path/"x.npz", GaussianOracle(schedule), schedule, 6, 1, seed=9, **how)
    got = np.load(tmp_path/"x.npz")["arr_0"]
    assert np.array_equal(got, sample_images(GaussianOracle(schedule), schedule, 6, 1, seed=9, **how).numpy())
    assert not (tmp_path/"x.npz.part").exists()
