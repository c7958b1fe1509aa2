"What is not a real number, what is too large, what wraps, and a device that is stood in for."
import itertools
import json

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from slowddim import core, noising
from slowddim.classifier import PlainClassifier, accuracy
from slowddim.continuous import AnglePredictor, angle_loss, fit_angle
from slowddim.core import crop_images, image_generators, pad_images, randn, seeded_generator, to_pixels
from slowddim.ddim import ddim_sample, ddim_step, evaluated_steps, sample
from slowddim.ddpm import ddpm_sample, ddpm_step
from slowddim.distances import FeatureStats, frechet_distance, kernel_distance, moments, precision_recall
from slowddim.fid import ImageEval, Score
from slowddim.generate import iter_images, sample_images
from slowddim.guidance import guided, spread_labels
from slowddim.judges import DigitEval, _wilson_interval, read_as_asked
from slowddim.latent import across_steps, encode, interpolate, pixel_errors, reconstruct, reconstruction_error, slerp
from slowddim.noising import add_noise, from_eps, predict_eps, predict_x0, to_eps, velocity
from slowddim.ode import log_likelihood, ode_sample, ode_solvers, x_bar
from slowddim.oracle import GaussianOracle, MixtureOracle, gaussian_flow
from slowddim.schedule import NoiseSchedule, angle_schedule, as_timesteps, linear_schedule
from slowddim.schedulers import DiffusersStyleDDIM, DiffusersStyleDDPM, diffusers_sample
from slowddim.steps import Step, move

from hostile import agree, case, refused

NAN, INF = float("nan"), float("inf")
SCHEDULE = linear_schedule(100)


def noise(*shape, seed=0, **how): return torch.randn(shape, generator=torch.Generator().manual_seed(seed), **how)


class Breaks(torch.nn.Module):
    "Predicts noise until time `at`, then `value` in one pixel of image `image`."
    def __init__(self, value=NAN, at=99, image=0, dtype=None):
        super().__init__()
        self.value, self.at, self.image, self.dtype = value, at, image, dtype
        self.weight = torch.nn.Parameter(torch.ones((), dtype=dtype or torch.float32))

    def forward(self, x, t, class_labels=None):
        out = 0.3*x.to(self.dtype or x.dtype)*self.weight
        mark = torch.zeros_like(out)
        mark[self.image, ..., 0] = self.value
        return torch.where((t <= self.at).reshape(-1, *[1]*(x.ndim - 1)), out + mark, out)


def where(t, image): return f"at t={t}, image number {image}"


def walk(sched, model, x): # a diffusers-style loop of one's own
    for t in sched.timesteps: x = sched.step(model(x, t.expand(len(x))), t, x).prev_sample
    return x


def samplers(): # name, what runs it with a network, the times it visits
    x, sched, labels = noise(3, 1, 4, 4), DiffusersStyleDDIM(schedule=SCHEDULE), [99, 66, 32]
    sched.set_timesteps(3)
    ancestral = DiffusersStyleDDPM(schedule=SCHEDULE)
    ancestral.set_timesteps(3)
    clipping = DiffusersStyleDDIM(schedule=SCHEDULE, clip=1.)
    clipping.set_timesteps(3)
    theirs = ancestral.to_diffusers()
    theirs.set_timesteps(3)
    yield "ddim_sample", lambda m: ddim_sample(m, x, SCHEDULE, 3), labels
    yield "ddim_sample, clip", lambda m: ddim_sample(m, x, SCHEDULE, 3, clip=1.), labels
    yield "ddim_sample, eta 1", lambda m: ddim_sample(m, x, SCHEDULE, 3, eta=1., generator=torch.Generator()), labels
    yield "ddpm_sample", lambda m: ddpm_sample(m, x, SCHEDULE, generator=torch.Generator()), range(99, -1, -1)
    for solver in ode_solvers():
        yield f"ode_sample, {solver}", lambda m, s=solver: ode_sample(m, x, SCHEDULE, 3, solver=s), labels
    yield "sample", lambda m: sample(SCHEDULE, m, 3, shape=(1, 4, 4), seed=0, skip_steps=None, progress=False), \
        range(99, -1, -1)
    yield "sample_images", lambda m: sample_images(m, SCHEDULE, 3, 3, shape=(1, 4, 4), progress=False), labels
    yield "a scheduler's loop", lambda m: walk(sched, m, x), labels
    yield "a clipping scheduler's loop", lambda m: walk(clipping, m, x), labels
    for name, one in dict(ours=sched, DDPM=ancestral, theirs=theirs).items():
        run = lambda m, s=one: diffusers_sample(s, (3, 1, 4, 4), model=m, seed=0, progress=False) # noqa: E731
        yield f"diffusers_sample, {name}", run, [int(t) for t in one.timesteps]
    yield "reconstruct", lambda m: reconstruct(m, x, SCHEDULE, 3), [0]
    yield "encode", lambda m: encode(m, x, SCHEDULE, 3), [0]


@case(kind=1, few=12, many=400)
def a_network_that_breaks(folder, n):
    "Every sampler names the time and the image, whenever and whatever it is."
    tries = itertools.product(samplers(), (NAN, INF, -INF), (2, 0, 1), (0, 1, -1))
    for (name, run, times), value, image, which in itertools.islice(tries, 0, None, max(1, 500//n)):
        t = times[which] if len(times) > abs(which) else times[0]
        said = where(t, image)
        fault = refused(lambda: run(Breaks(value, t, image)), ValueError, saying=said)
        yield f"{name}, {value} from t={t} in image {image}", fault


@case(kind=1, few=2, many=8)
def the_image_is_named_by_its_number_in_the_run(folder, n):
    for k in range(n):
        model = Breaks(NAN, 99, image=k % 2)
        def call(): return sample_images(model, SCHEDULE, 8, 3, shape=(1, 4, 4), start=10 + k, batch_size=4,
                                         progress=False)
        yield f"start {10 + k}", refused(call, ValueError, saying=where(99, 10 + k + k % 2))


@case(kind=1)
def what_uses_a_network_otherwise(folder, n):
    x, angle = noise(3, 1, 4, 4), AnglePredictor(Breaks(NAN, 1e9, 1), 50)
    yield "reverse_diffusion", refused(lambda: angle.reverse_diffusion(x, 5), ValueError, saying="image number 1")
    yield "generate", refused(lambda: angle.generate(3, 5, shape=(1, 4, 4)), ValueError, saying="image number 1")
    yield "a continuous model in pixels", refused(lambda: ode_sample(angle, x, angle.schedule, 5), ValueError,
                                                  saying="at t=49, image number 1")
    yield "denormalize", refused(lambda: angle.denormalize(x*INF), ValueError)
    yield "fit_angle", refused(lambda: fit_angle(Breaks(), [x*NAN]), ValueError)
    likely = dict(timesteps=5, generator=torch.Generator())
    yield "log_likelihood", refused(lambda: log_likelihood(Breaks(NAN, 99, 2), x, SCHEDULE, **likely), ValueError,
                                    saying="image number 2")
    late = lambda x, t: torch.where((t > 50)[:, None, None, None], x*NAN, 0.3*x) # noqa: E731
    yield "log_likelihood, late", refused(lambda: log_likelihood(late, x, SCHEDULE, **likely), ValueError, saying="t=")
    conditional = MixtureOracle(SCHEDULE, noise(2, 1, 4, 4, seed=1), 0.2)
    def broken(x, t, class_labels):
        spoil = torch.where(class_labels == 1, NAN, 1.)[:, None, None, None]
        return conditional(x, t, class_labels)*spoil
    broken.config, broken.null_class = conditional.config, conditional.null_class
    for scale in (0, 1, 3):
        def call(scale=scale): return ddim_sample(guided(broken, [0, 1, 0], scale), x, SCHEDULE, 5)
        fault = refused(call, ValueError, saying=where(99, 1)) if scale else None if call().isfinite().all() else "NaN"
        yield f"guided, scale {scale}", fault
    huge = guided(conditional, [0, 1, 0], 1e300)
    yield "guided, scale 1e300", refused(lambda: ddim_sample(huge, x, SCHEDULE, 5), ValueError, saying="at t=99")
    yield "reconstruction_error", refused(lambda: reconstruction_error(Breaks(), x, SCHEDULE, 3), ValueError)
    yield "pixel_errors", refused(lambda: pixel_errors(x, x*NAN), ValueError)
    yield "slerp", refused(lambda: slerp(x, x*NAN, 0.5), ValueError)
    yield "slerp of numbers that cannot be squared", refused(lambda: slerp(1e200*x.double(), -1e200*x.double(), .5),
                                                             ValueError)


@case(kind=1)
def a_single_step(folder, n):
    x, sched = noise(2, 1, 4, 4), DiffusersStyleDDIM(schedule=SCHEDULE)
    at, here = dict(t=50, t_prev=20, schedule=SCHEDULE), dict(t=50, t_prev=20, signal=.5, noise=.8, of_x0=.9,
                                                              of_eps=.1)
    for value, place in itertools.product((NAN, INF, -INF), (0, 1)):
        bad = x.clone()
        bad[place, 0, 1, 2] = value
        steps = dict(ddim=lambda a, b, **k: ddim_step(a, b, **at, **k), ddpm=lambda a, b,
                     **k: ddpm_step(a, b, **at, **k),
                     scheduler=lambda a, b, **k: sched.step(b, 50, a), move=lambda a, b, **k: move(b, a, Step(**here)),
                     clipped=lambda a, b, **k: move(b, a, Step(**here), clip=(-1., 1.)))
        for name, step in steps.items():
            yield f"{name}, eps {value}", refused(lambda: step(x, bad), ValueError, saying=where(50, place))
            yield f"{name}, x_t {value}", refused(lambda: step(bad, x), ValueError, saying=where(50, place))
        yield f"ddim, noise {value}", refused(lambda: ddim_step(x, x, **at, eta=1., noise=bad), ValueError)
        yield f"to_pixels, {value}", refused(lambda: to_pixels(bad), ValueError)


@case(kind=1)
def half_precision_is_told(folder, n):
    x = noise(2, 1, 4, 4)
    yield "a half network", refused(lambda: ddim_sample(Breaks(70000., dtype=torch.half), x, SCHEDULE, 3), ValueError,
                                    saying="ends at 65504")
    yield "half images", refused(lambda: ddim_sample(lambda x, t: x*6e4, x.half(), SCHEDULE, 3), ValueError,
                                 saying="ends at 65504")
    fine = refused(lambda: ddim_sample(Breaks(NAN), x, SCHEDULE, 3), ValueError, saying="65504")
    yield "a float network is not told", agree("not '65504'" not in str(fine), False)
    large = torch.full((1, 1, 32, 32), 6e4, dtype=torch.half) # finite, its sum is not
    yield "a sum that overflows", None if core.all_finite(large) else "refused"


def clouds():
    g = torch.Generator().manual_seed(0)
    return torch.randn(40, 3, generator=g), torch.randn(30, 3, generator=g)


@case(kind=1)
def statistics(folder, n):
    a, b = clouds()
    mean, cov = moments(a)
    good = dict(mean_a=mean, cov_a=cov, mean_b=mean + 1, cov_b=cov)
    skew = cov.clone()
    skew[0, 1] += 1
    bad = {"NaN": lambda v: v*NAN, "infinite": lambda v: v + INF, "too short": lambda v: v[:2],
           "a number": lambda v: 3.,
           "text": lambda v: "mean", "None": lambda v: None, "complex": lambda v: v*1j, "bool": lambda v: v > 0,
           "empty": lambda v: v[:0], "huge": lambda v: v*1e300, "one NaN": lambda v: torch.where(v == v.max(), NAN, v)}
    for name, (what, spoil) in itertools.product(good, bad.items()):
        call = lambda: frechet_distance(**good | {name: spoil(good[name])}) # noqa: E731
        yield f"frechet_distance, {name} {what}", refused(call, ValueError, TypeError)
    for name, c in dict(skew=skew, negative=-cov, indefinite=cov - 2*torch.eye(3)).items():
        for side in ("cov_a", "cov_b"):
            yield f"{side} {name}", refused(lambda: frechet_distance(**good | {side: c}), ValueError)
    whole = [v.round().long() for v in (mean, torch.eye(3), mean + 5, 4*torch.eye(3))]
    real = frechet_distance(*(v.double() for v in whole))
    yield "integers", agree(frechet_distance(*whole), real)
    yield "arrays", agree(frechet_distance(*(v.numpy() for v in whole)), real)
    yield "lists", agree(frechet_distance(*(v.tolist() for v in whole)), real)
    for what, spoil in bad.items():
        x = spoil(a)
        if what == "too short": continue # two points are points
        yield f"moments, {what}", refused(lambda: moments(x), ValueError, TypeError)
        yield f"FeatureStats, {what}", refused(lambda: FeatureStats().update(a).update(x), ValueError, TypeError)
        for name, f in dict(kernel_distance=kernel_distance, precision_recall=precision_recall).items():
            yield f"{name}, first {what}", refused(lambda: f(x, b), ValueError, TypeError)
            yield f"{name}, second {what}", refused(lambda: f(b, x), ValueError, TypeError)
    yield "points are named", refused(lambda: FeatureStats().update(torch.where(torch.arange(40)[:, None] == 7, NAN,
                                                                                a)),
                                      ValueError, saying="number 7")
    yield "moments of one point", refused(lambda: moments(a[:1]), ValueError)
    for w in (torch.zeros(40), -torch.ones(40), torch.ones(39), torch.full((40,), NAN), torch.full((40,), 1/40), "w"):
        yield f"weights {w!s:.20}", refused(lambda: moments(a, w), ValueError, TypeError)
    whole = (4*a).round()
    yield "moments of integers", agree(torch.equal(moments(whole.long())[1], moments(whole)[1]), True)
    yield "moments of bytes", agree(moments(whole.abs().byte())[0].tolist(), moments(whole.abs())[0].tolist())
    for name, made in dict(n=dict(n=3), sums=dict(n=0, centre=mean),
                           NaN=dict(n=3, centre=mean*NAN, total=mean, squares=cov),
                           shapes=dict(n=3, centre=mean, total=mean[:2], squares=cov), count=dict(n=2.5)).items():
        yield f"FeatureStats made of {name}", refused(lambda: FeatureStats(**made), ValueError, TypeError)
    full = FeatureStats(np.int32(2**31 - 1), mean, mean*0, cov).update(a)
    yield "n does not wrap", agree(full.n, 2**31 - 1 + 40)
    yield "mean of nothing", refused(lambda: FeatureStats().mean, ValueError)
    yield "other width, update", refused(lambda: FeatureStats().update(a).update(b[:, :2]), ValueError)
    yield "other width, KID", refused(lambda: kernel_distance(a, b[:, :2]), ValueError)
    yield "other width, precision", refused(lambda: precision_recall(a, b[:, :2]), ValueError)
    for k in (0, 30, 2.5, True, "3"): yield f"k={k}", refused(lambda: precision_recall(a, b, k), ValueError, TypeError)
    for size in (0, -1, 1.5): yield f"chunk={size}", refused(lambda: precision_recall(a, b, 3, size), ValueError,
                                                             TypeError)
    for k, n_, z in ((NAN, 5, 1.96), (3, INF, 1.96), (3, 5, NAN), (3, 5, INF), (3, 5, 1e308), (3, 10**400, 1.96),
                     (True, 5, 1.96), (-1, 5, 1.96), (6, 5, 1.96), (1j, 5, 1.96)):
        yield f"wilson {k}, {n_!s:.8}, {z}", refused(lambda: _wilson_interval(k, n_, z), ValueError, TypeError)
    for v in (NAN, INF, "4", None, 1j): yield f"Score({v})", refused(lambda: Score(v), ValueError, TypeError)


@case(kind=1)
def scores_of_a_broken_classifier(folder, n):
    net = PlainClassifier((8, 8), (1, 1), 6, image_size=28).eval()
    net.card = {}
    with torch.no_grad(): net.hidden[0].weight[0, 0] = NAN
    a, b = noise(60, 6), noise(60, 6, seed=1)
    mean, cov = moments(b)
    judge, images = ImageEval(net, dict(mean=mean, cov=cov, held_out=b)), noise(60, 1, 28, 28).clamp(-1, 1)
    for name in ("fid", "kid", "precision_recall", "fid_infinity"):
        yield f"{name} of images", refused(lambda: getattr(judge, name)(images), ValueError, saying="image number 0")
        spoiled = torch.where(torch.arange(60)[:, None] == 5, NAN, a)
        yield f"{name} of features", refused(lambda: getattr(judge, name)(spoiled), ValueError,
                                             saying="image number 5")
    yield "a NaN reference", refused(lambda: ImageEval(net, dict(mean=mean*NAN, cov=cov, held_out=b)).fid(a),
                                     ValueError)
    yield "n_boot", refused(lambda: judge.fid(a, n_boot=2.5), TypeError)
    yield "digits", refused(lambda: DigitEval(net).read(images), ValueError, saying="image number 0")
    asked = torch.zeros(60, dtype=torch.int64)
    yield "read_as_asked", refused(lambda: read_as_asked(net, images, asked), ValueError, saying="image number 0")

    class Data(list):
        labels = asked
        def batch(self, index): return images[index]
    yield "accuracy", refused(lambda: accuracy(net, Data(range(60))), ValueError, saying="image number 0")


WRONG = (torch.uint8, torch.int64, torch.int32, torch.bool, torch.complex64)


@case(kind=5)
def integers_in_the_algebra(folder, n):
    x, t = noise(2, 1, 4, 4), torch.tensor([3, 50])
    angle, sched = AnglePredictor(lambda x, v: x, 50), DiffusersStyleDDIM(schedule=SCHEDULE)
    mixture = MixtureOracle(SCHEDULE, noise(2, 1, 4, 4), 0.2)
    here = Step(50, 20, .5, .8, .9, .1)
    pairs = dict(
        add_noise=lambda a, b: add_noise(a, b, 5, SCHEDULE), add_noise_t=lambda a, b: add_noise(a, b, t, SCHEDULE),
        predict_x0=lambda a, b: predict_x0(a, b, 5, SCHEDULE), predict_x0_t=lambda a, b: predict_x0(a, b, t, SCHEDULE),
        predict_eps=lambda a, b: predict_eps(a, b, 5, SCHEDULE), velocity=lambda a, b: velocity(a, b, 5, SCHEDULE),
        ddim_step=lambda a, b: ddim_step(a, b, t=5, t_prev=3, schedule=SCHEDULE),
        ddpm_step=lambda a, b: ddpm_step(a, b, t=5, schedule=SCHEDULE), move=lambda a, b: move(b, a, here),
        slerp=lambda a, b: slerp(a, b, .5), interpolate=lambda a, b: interpolate(a, b, 3), pixel_errors=pixel_errors,
        scheduler_step=lambda a, b: sched.step(b, 50, a), scheduler_noise=lambda a, b: sched.add_noise(a, b, t),
        scheduler_velocity=lambda a, b: sched.get_velocity(a, b, t),
        angle_loss=lambda a, b: angle_loss(angle, a, b, torch.rand(2)))
    for kind in noising.PREDICTIONS:
        pairs[f"to_eps, {kind}"] = lambda a, b, k=kind: to_eps(b, a, 5, SCHEDULE, k)
        pairs[f"from_eps, {kind}"] = lambda a, b, k=kind: from_eps(b, a, 5, SCHEDULE, k)
    for name, f in pairs.items():
        for dtype in WRONG:
            bad = (x > 0) if dtype == torch.bool else (10*x.abs()).to(dtype)
            for what, args in dict(first=(bad, x), second=(x, bad), both=(bad, bad)).items():
                if name == "angle_loss" and what == "second": continue
                yield f"{name}, {what} {dtype}", refused(lambda: f(*args), TypeError, saying=str(dtype))
        for dtype in (torch.float16, torch.bfloat16, torch.float64): # a second one of another width is converted
            if name in ("pixel_errors", "angle_loss", "interpolate"): continue
            out = f(x, x.to(dtype))
            out = getattr(out, "prev_sample", out[0] if isinstance(out, tuple) else out)
            yield f"{name}, second {dtype}", agree(out.dtype, torch.float32)
    singles = dict(
        to_pixels=to_pixels, x_bar=lambda a: x_bar(a, 5, SCHEDULE), rates=lambda a: noising.rates(5, SCHEDULE, a),
        ddim_sample=lambda a: ddim_sample(lambda x, t: x, a, SCHEDULE, 3),
        ddpm_sample=lambda a: ddpm_sample(lambda x, t: x, a, SCHEDULE), encode=lambda a: encode(lambda x, t: x, a,
                                                                                                SCHEDULE, 3),
        gaussian=lambda a: GaussianOracle(SCHEDULE)(a, t), mixture=lambda a: mixture(a, t),
        flow=lambda a: gaussian_flow(GaussianOracle(SCHEDULE), a,
                                     5), normalize=angle.normalize, forward=lambda a: angle(a, t),
        denormalize=angle.denormalize, guided=lambda a: guided(mixture, 1)(a, t),
        a_network=lambda a: ddim_sample(lambda x, t: a, x, SCHEDULE, 3),
        likelihood=lambda a: log_likelihood(lambda x, t: x, a, SCHEDULE, 3))
    for (name, f), dtype in itertools.product(singles.items(), WRONG):
        bad = (x > 0) if dtype == torch.bool else (10*x.abs()).to(dtype)
        yield f"{name}, {dtype}", refused(lambda: f(bad), TypeError, saying=str(dtype))
    for dtype in (*WRONG, torch.float64, torch.half, torch.int8):
        bad = (x > 0) if dtype == torch.bool else (10*x.abs()).to(dtype)
        back = crop_images(pad_images(bad, 9, 0), 4)
        yield f"pad and crop, {dtype}", agree(torch.equal(back, bad) and back.dtype == dtype, True)
    yield "a background that bytes lack", refused(lambda: pad_images(torch.zeros(2, 2).byte(), 4), ValueError)


COUNTS = {"numpy": np.int64, "numpy 32": np.int32, "0-d array": np.array, "0-d tensor": torch.tensor}
NO_COUNTS = (True, 2.0, "2", None, 2 + 0j, torch.tensor(2.), torch.tensor(True), np.bool_(True), np.float64(2), [2],
             b"2")


@case(kind=5)
def counts_of_any_kind(folder, n):
    x, model = noise(2, 1, 4, 4), lambda x, t: 0.3*x
    sched = DiffusersStyleDDIM(schedule=SCHEDULE)
    def images(**how): return sample_images(model, SCHEDULE,
                                            **dict(n=3, timesteps=2, shape=(1, 4, 4), progress=False) | how)
    def scheduled(S):
        sched.set_timesteps(S)
        return sched.timesteps
    fresh = DiffusersStyleDDIM(schedule=SCHEDULE)
    calls = dict(
        timesteps=lambda v: ddim_sample(model, x, SCHEDULE, v(4)),
        entries=lambda v: ddim_sample(model, x, SCHEDULE, [v(50), v(3)]),
        skip=lambda v: ddim_sample(model, x, SCHEDULE, 4, skip_steps=[v(49)]),
        table=lambda v: as_timesteps(v(3), v(10)),
        n_steps=lambda v: linear_schedule(v(10)).beta,
        n=lambda v: images(n=v(3)),
        seed=lambda v: images(seed=v(5)),
        start=lambda v: images(start=v(2)),
        batch_size=lambda v: images(batch_size=v(2)),
        shape=lambda v: images(shape=(v(1), v(4), v(4))),
        interpolate=lambda v: interpolate(x, x + 1, v(3)),
        scheduler=lambda v: scheduled(v(5)),
        step=lambda v: fresh.step(x, v(50), x).prev_sample,
        t=lambda v: add_noise(x, x, v(5), SCHEDULE),
        ddim_step=lambda v: ddim_step(x, x, t=v(5), t_prev=v(2), schedule=SCHEDULE),
        refine=lambda v: encode(model, x, SCHEDULE, 3, refine=v(1)),
        sizes=lambda v: across_steps(model, x, SCHEDULE, (v(2), v(3))),
        pad=lambda v: pad_images(x, v(8)),
        generator=lambda v: randn((2, 3), generator=seeded_generator(v(3), v(1))),
        spread=lambda v: spread_labels(v(1), v(2), v(5), v(3)),
        k=lambda v: precision_recall(*clouds(), v(3)))
    def plain(out): return tree_map(lambda a: a.tolist() if isinstance(a, torch.Tensor) else a, out)
    for name, call in calls.items():
        right = plain(call(int))
        for kind, make in COUNTS.items(): yield f"{name}, {kind}", agree(plain(call(make)) == right, True)
        for bad in NO_COUNTS:
            meant = isinstance(bad, list) and name in ("timesteps", "scheduler", "table", "pad") # a list, not a count
            if meant or bad is None and name in ("scheduler", "batch_size"): continue
            yield f"{name} = {bad!r}", refused(lambda: call(lambda _: bad), TypeError, ValueError)
    for kind in (np.float32, np.float64, np.array, torch.tensor, int):
        yield f"eta, {kind}", agree(ddim_sample(model, x, SCHEDULE, 4, eta=kind(0)).tolist(),
                                    ddim_sample(model, x, SCHEDULE, 4).tolist())
    for bad in (True, "0", None, 0j, NAN, [0.], b"0", np.complex64(0), torch.tensor(0j), 10**400,
                torch.tensor([0., 0.])):
        yield f"eta = {bad!r:.20}", refused(lambda: ddim_sample(model, x, SCHEDULE, 4, eta=bad), TypeError, ValueError)
        if bad is None: continue
        yield f"a step's eta = {bad!r:.20}", refused(lambda: sched.step(x, sched.timesteps[0], x, eta=bad), TypeError,
                                                     ValueError)
    for good in (np.float32(2), torch.tensor(2.), np.int64(2), (np.float32(-2), 2), [-2, torch.tensor(2)]):
        yield f"clip = {good!r}", agree(core.check_clip(good), (-2., 2.))
    for bad in (True, (False, True), "2", NAN, (NAN, 1), 2j, (1, 1), (2,), b"2", torch.tensor([-1., 1.])):
        yield f"clip = {bad!r}", refused(lambda: core.check_clip(bad), ValueError)


@case(kind=14)
def numbers_that_wrap(folder, n):
    model = lambda x, t: 0.3*x # noqa: E731
    def images(**how): return sample_images(model, SCHEDULE,
                                            **dict(n=2, timesteps=2, shape=(1, 4, 4), progress=False) | how)
    last = images(start=2**32 - 2)
    yield "the last two images", agree(last.shape[0], 2)
    for start in (2**32 - 1, 2**32, 2**32 + 1, 2**33, 2**64, -1, 10**30):
        yield f"sample_images, start {start}", refused(lambda: images(start=start), ValueError, saying="start must be")
        def iterate(start=start): return iter_images(model, SCHEDULE, 2, 2, shape=(1, 4, 4), start=start)
        yield f"iter_images, start {start}", refused(iterate, ValueError, saying="start must be")
        yield f"image_generators, start {start}", refused(lambda: image_generators(0, start, 2), ValueError)
    for seed in (2**64, -1, 2**64 + 5, -2**63, 10**30):
        yield f"sample_images, seed {seed}", refused(lambda: images(seed=seed), ValueError, saying="seed must be")
        yield f"seeded_generator, seed {seed}", refused(lambda: seeded_generator(seed), ValueError,
                                                        saying="seed must be")
        yield f"image_generators, seed {seed}", refused(lambda: image_generators(seed, 0, 1), ValueError)
        yield f"spread_labels, seed {seed}", refused(lambda: spread_labels(seed, 0, 4, 2), ValueError)
        yield f"a continuous model, seed {seed}", refused(
            lambda: AnglePredictor(model, 50).generate(1, 2, seed=seed, shape=(1, 4, 4)), ValueError)
    firsts = {tuple(randn((1, 3), generator=seeded_generator(s))[0].tolist()) for s in (0, 1, 2**32, 2**63, 2**64 - 1)}
    yield "seeds differ", agree(len(firsts), 5)
    for seed in (2**32, 2**32 + 1, 2**63, -1): # torch reads 32 bits
        def drawn(seed=seed): return sample(SCHEDULE, model, 1, shape=(1, 2, 2), seed=seed, progress=False)
        yield f"sample, seed {seed}", refused(drawn, ValueError, saying="seed must be")
        def scheduled(seed=seed): return diffusers_sample(DiffusersStyleDDIM(schedule=SCHEDULE), (1, 1, 2, 2),
                                                          model=model,
                                                          seed=seed, progress=False)
        yield f"diffusers_sample, seed {seed}", refused(scheduled, ValueError, saying="seed must be")
        yield f"across_steps, seed {seed}", refused(lambda: across_steps(model, noise(1, 1, 2, 2), SCHEDULE, (2, 3),
                                                                         seed=seed),
                                                    ValueError, saying="seed must be")
    x = noise(2, 1, 4, 4)
    for dtype in (torch.int8, torch.int16, torch.int32, torch.uint8):
        t = torch.tensor([3, 99], dtype=dtype)
        yield f"times in {dtype}", agree(torch.equal(add_noise(x, x, t, SCHEDULE),
                                                     add_noise(x, x, t.long(), SCHEDULE)), True)
    wraps = torch.tensor([2**64 - 1, 5], dtype=torch.uint64)
    yield "a uint64 time that is -1", refused(lambda: add_noise(x, x, wraps, SCHEDULE), TypeError, ValueError)
    yield "bool times", refused(lambda: add_noise(x, x, torch.tensor([True, False]), SCHEDULE), TypeError)
    yield "a byte sum", agree(moments(torch.full((300, 1), 255, dtype=torch.uint8))[0].item(), 255.)


@case(kind=15)
def an_iterator_is_read_once(folder, n):
    x, model = noise(2, 1, 4, 4), lambda x, t: 0.3*x
    calls = dict(
        ddim=lambda ts: ddim_sample(model, x, SCHEDULE, ts), ode=lambda ts: ode_sample(model, x, SCHEDULE, ts),
        encode=lambda ts: encode(model, x, SCHEDULE, ts), reconstruct=lambda ts: reconstruct(model, x, SCHEDULE, ts),
        error=lambda ts: torch.tensor(reconstruction_error(model, x, SCHEDULE, ts, batch_size=1)),
        images=lambda ts: sample_images(model, SCHEDULE, 4, ts, shape=(1, 4, 4), batch_size=2, progress=False),
        likelihood=lambda ts: log_likelihood(model, x, SCHEDULE, ts, exact=True),
        skip=lambda ts: ddim_sample(model, x, SCHEDULE, [90, 50, 7], skip_steps=ts))
    for name, call in calls.items():
        right = call([90, 50, 7])
        for kind, make in dict(iterator=iter, generator=lambda v: (k for k in v), map=lambda v: map(int, v),
                               tuple=tuple,
                               array=np.array, tensor=torch.tensor).items():
            try: fault = agree(torch.equal(call(make([90, 50, 7])), right), True)
            except Exception as e: fault = f"{type(e).__name__}: {e}"
            yield f"{name}, {kind}", fault
    yield "timesteps without end", refused(lambda: ddim_sample(model, x, SCHEDULE, itertools.count()), ValueError)
    yield "bytes are no times", refused(lambda: ddim_sample(model, x, SCHEDULE, b"\x09\x02"), TypeError)
    yield "bytes are no times to skip", refused(lambda: evaluated_steps(b"\x09", [9, 8]), TypeError)
    counted = []
    def counts(x, t):
        counted.append(1)
        return 0.3*x
    late = dict(solver=lambda: log_likelihood(counts, x, SCHEDULE, 3, solver="ddpm"),
                probes=lambda: log_likelihood(counts, x, SCHEDULE, 3, n_probes=0),
                generator=lambda: log_likelihood(counts, x, SCHEDULE, 3, generator=[torch.Generator()]),
                sizes=lambda: across_steps(counts, x, SCHEDULE, (2, 0)), eta=lambda: across_steps(counts, x, SCHEDULE,
                                                                                                  (2,), eta=9.),
                seed=lambda: sample(SCHEDULE, counts, 1, shape=(1, 2, 2), seed=-1, progress=False),
                unused=lambda: ddim_step(x, x, t=5, t_prev=2, schedule=SCHEDULE, generator=42))
    for name, call in late.items():
        yield f"{name} is refused", refused(call, ValueError, TypeError)
        yield f"{name} is refused before the first evaluation", agree(len(counted), 0)
        counted.clear()


@case(kind=13)
def what_the_caller_owns(folder, n):
    x, g = noise(2, 1, 4, 4), torch.Generator().manual_seed(0)
    model = lambda x, t: 0.3*x # noqa: E731
    mixture = MixtureOracle(SCHEDULE, noise(2, 1, 4, 4), 0.2)
    ts, skip, labels, sched = [90, 50, 7], [50], torch.tensor([0, 1]), DiffusersStyleDDIM(schedule=SCHEDULE, eta=1.)
    sched.set_timesteps(ts)
    calls = dict(
        ddim=lambda: ddim_sample(model, x, SCHEDULE, ts, eta=1., skip_steps=skip, generator=g, clip=1.),
        ddpm=lambda: ddpm_sample(model, x, SCHEDULE, generator=g), encode=lambda: encode(model, x, SCHEDULE, ts,
                                                                                         refine=1),
        likelihood=lambda: log_likelihood(model, x, SCHEDULE, ts, generator=g), slerp=lambda: slerp(x, x + 1, .5),
        guided=lambda: ddim_sample(guided(mixture, labels, 2), x, SCHEDULE, ts, eta=1., generator=g),
        scheduler=lambda: sched.step(x, 50, x, generator=g), pixels=lambda: to_pixels(x), pad=lambda: pad_images(x, 9),
        images=lambda: sample_images(model, SCHEDULE, 3, ts, eta=1., shape=(1, 4, 4), progress=False),
        moments=lambda: moments(x.flatten(1), torch.tensor([1., 2.])), distance=lambda: kernel_distance(x.flatten(1),
                                                                                                        x.flatten(1)))
    before = [v.clone() for v in (x, labels)]
    for name, call in calls.items():
        state = torch.random.get_rng_state()
        call()
        yield f"{name} leaves the global stream", agree(torch.equal(state, torch.random.get_rng_state()), True)
        same = torch.equal(x, before[0]) and torch.equal(labels, before[1]) and (ts, skip) == ([90, 50, 7], [50])
        yield f"{name} leaves its inputs", agree(same, True)
    schedule = linear_schedule(10)
    right = [schedule.at(t) for t in range(10)]
    own = torch.linspace(.9, .1, 10, dtype=torch.float64)
    table = NoiseSchedule(own)
    for name in ("alpha_bar", "alpha", "beta", "sigma"): getattr(schedule, name).zero_()
    schedule.spec["n_steps"] = 3
    own.zero_()
    yield "a schedule's table", agree([schedule.at(t) for t in range(10)], right)
    yield "a schedule's description", agree(schedule.spec["n_steps"], 10)
    yield "the list a schedule was made from", agree(table.at(0), 0.9)
    yield "setting the table", refused(lambda: setattr(schedule, "alpha_bar", own), AttributeError)
    sched.alphas_cumprod.zero_() # the tables are the truth: the step obeys, or refuses what is none
    yield "a scheduler's table", refused(lambda: sched.step(x, 50, x, eta=0.), ValueError)
    sched = DiffusersStyleDDIM(schedule=SCHEDULE)
    sched.timesteps.zero_()
    yield "a scheduler's times", refused(lambda: sched.step(x, 50, x), ValueError, saying="descending")
    settings = AnglePredictor(model, np.int64(50), np.float32(.02), np.float64(.9), np.float32(0),
                              np.float32(1)).settings
    yield "settings are JSON", agree(json.loads(json.dumps(settings)), settings)
    spec = angle_schedule(np.int64(5), np.float32(.02), np.float64(.9), torch.tensor(1.)).spec
    yield "a schedule's description is JSON", agree(json.loads(json.dumps(spec)), spec)


# ---- a device without float64, which must not be waited for

class Far(torch.Tensor):
    "A tensor on a device that is not there: Apple's, in name. The numbers are kept on the CPU."
    @staticmethod
    def __new__(cls, near):
        return torch.Tensor._make_wrapper_subclass(cls, near.shape, strides=near.stride(), dtype=near.dtype,
                                                   device=torch.device("mps"))

    def __init__(self, near): self.near = near

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None): return compute(func, args, kwargs or {})


READ = [] # an entry for each time that the device had to be waited for
MOVES = ("_to_copy", "copy_", "_local_scalar_dense")


def compute(func, args, kwargs):
    seen = []
    def near(v):
        if isinstance(v, torch.Tensor): seen.append((isinstance(v, Far), v.ndim))
        return v.near if isinstance(v, Far) else v
    args, kwargs = tree_map(near, (args, kwargs))
    name, far = func.overloadpacket.__name__, any(f for f, _ in seen)
    if far and name in ("_local_scalar_dense", "equal", "nonzero", "is_nonzero"): READ.append(name)
    if far and name not in MOVES and any(not f and ndim for f, ndim in seen):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device")
    device = kwargs.get("device")
    if device is not None:
        arrives = torch.device(device).type == "mps"
        if far and not arrives: READ.append(name)
        far, kwargs = arrives, kwargs | dict(device=torch.device("cpu"))
    out = func(*args, **kwargs)
    return tree_map(send, out) if far else out


def send(v):
    if not isinstance(v, torch.Tensor): return v
    if v.dtype == torch.float64: raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
    return Far(v)


class _Send(TorchFunctionMode): # what torch's own front door would refuse without the device
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.Tensor.to, torch.as_tensor, torch.tensor):
            told = [a.device if isinstance(a, torch.Tensor) else a for a in [*args[1:], *kwargs.values()]]
            if func is not torch.Tensor.to and kwargs.get("device") is None: told += [getattr(args[0], "device", None)]
            if any(isinstance(a, (torch.device, str)) and torch.device(a).type == "mps" for a in told):
                rest = [a.dtype if isinstance(a, torch.Tensor) else a for a in args[1:]]
                rest = [a for a in rest if isinstance(a, torch.dtype)]
                dtype = kwargs.get("dtype", rest[0] if rest else None)
                v = args[0].near if isinstance(args[0], Far) else args[0]
                v = v if isinstance(v, torch.Tensor) else torch.as_tensor(v, dtype=dtype)
                if v.dtype == torch.float64: raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
                return Far(v if dtype is None else v.to(dtype))
        try: return func(*args, **kwargs)
        except RuntimeError as e:
            if "is not linked with support" not in str(e): raise
        args, kwargs = tree_map(lambda v: v.near if isinstance(v, Far) else v, (args, kwargs)) # e.g. an index
        return tree_map(send, func(*args, **kwargs))


class _Compute(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None): return compute(func, args, kwargs or {})


def on_a_mac(f, *tensors): # the result, on the CPU; without gradients, which would need the device
    with torch.no_grad(), _Send(), _Compute():
        out = f(*map(send, tensors))
        return tree_map(lambda v: v.near if isinstance(v, Far) else v, out)


@case(kind=16)
def a_mac(folder, n):
    x, y, t = noise(3, 1, 4, 4), noise(3, 1, 4, 4, seed=1), torch.tensor([3, 50, 99])
    gauss, mixture = GaussianOracle(SCHEDULE, 0.2, 0.5), MixtureOracle(SCHEDULE, noise(2, 1, 4, 4), 0.3)
    labels, points = torch.tensor([0, 2, 1]), noise(40, 6)
    angle = AnglePredictor(lambda x, v: 0.3*x + 1e-4*v[:, None, None, None], 50, mean=.1, std=.6)
    model, sched = lambda x, t: 0.3*x, DiffusersStyleDDIM(schedule=SCHEDULE) # noqa: E731
    each = torch.tensor([0., .5, 1.])
    calls = dict(
        slerp=(lambda a, b: slerp(a, b, 0.3), x, y),
        slerp_each=(lambda a, b: slerp(a, b, each), x, y),
        interpolate=(lambda a, b: interpolate(a, b, 4), x, y),
        pixel_errors=(pixel_errors, x, y),
        to_pixels=(to_pixels, x),
        gauss=(gauss, x, t),
        gauss_int=(lambda a: gauss(a, 5), x),
        mixture=(mixture, x, t),
        labelled=(mixture, x, t, labels),
        flow=(lambda a: gaussian_flow(gauss, a, 50), x),
        add_noise=(lambda a, b, t: add_noise(a, b, t, SCHEDULE), x, y, t),
        predict_x0=(lambda a, b, t: predict_x0(a, b, t, SCHEDULE), x, y, t),
        velocity=(lambda a, b, t: velocity(a, b, t, SCHEDULE), x, y, t),
        x_bar=(lambda a, t: x_bar(a, t, SCHEDULE), x, t),
        angle=(angle, x, t),
        angle_int=(lambda a: angle(a, 5), x),
        angle_loss=(lambda a, b, u: angle_loss(angle, a, b, u), x, y, torch.tensor([.1, .5, .9])),
        reverse_diffusion=(lambda a: angle.reverse_diffusion(a, 4), x),
        ddim=(lambda a: ddim_sample(model, a, SCHEDULE, 4, clip=1.), x),
        ddim_oracle=(lambda a: ddim_sample(gauss, a, SCHEDULE, 4), x),
        ddpm=(lambda a: ddpm_sample(model, a, linear_schedule(5), generator=seeded_generator(0)), x),
        ode=(lambda a: ode_sample(model, a, SCHEDULE, 5), x),
        encode=(lambda a: encode(model, a, SCHEDULE, 4, refine=1), x),
        round_trip=(lambda a: reconstruction_error(model, a, SCHEDULE, 4), x),
        guided=(lambda a: ddim_sample(guided(mixture, [0, 1, 0], 2), a, SCHEDULE, 4), x),
        scheduler=(lambda a, b: sched.step(b, 50, a, return_dict=False), x, y),
        moments=(moments, points),
        kernel_distance=(lambda a: kernel_distance(a, a + 1), points),
        feature_stats=(lambda a: FeatureStats().update(a).cov, points),
        precision_recall=(lambda a: precision_recall(a, a + .1), points),
        frechet=(lambda m: frechet_distance(m, torch.eye(6), m + 1, torch.eye(6)), points[0]))
    for name, (f, *tensors) in calls.items():
        try:
            right, found = f(*tensors), on_a_mac(f, *tensors)
            torch.testing.assert_close(found, right, atol=1e-5, rtol=1e-4, check_dtype=False, equal_nan=True)
            fault = None
        except Exception as e: fault = f"{type(e).__name__}: {str(e).splitlines()[0]}"
        yield name, fault


@case(kind=16, few=1, many=12)
def the_device_is_not_waited_for(folder, n):
    x, sched = noise(3, 1, 4, 4), DiffusersStyleDDIM(schedule=SCHEDULE, clip=1.)
    sched.set_timesteps(20)
    def loop(x):
        for t in sched.timesteps: x = sched.step(0.3*x, t, x).prev_sample
        return x
    runs = {"ddim": lambda x: ddim_sample(lambda x, t: 0.3*x, x, SCHEDULE, 20, clip=1.),
            "ode": lambda x: ode_sample(lambda x, t: 0.3*x, x, SCHEDULE, 20),
            "encode": lambda x: encode(lambda x, t: 0.3*x, x, SCHEDULE, 20), "scheduler": loop}
    for name, run in runs.items():
        READ.clear()
        on_a_mac(run, x)
        yield f"{name}: 20 steps, {len(READ)} waits", None if len(READ) <= 4 else "waited too often"
    breaks = itertools.product((49, 99, 4), (2, 0), (INF, NAN))
    for at, image, value in itertools.islice(breaks, n):
        def broken(x, t, at=at, image=image, value=value):
            mark = torch.zeros(3)
            mark[image] = value
            hit = (t.cpu() <= at)[:, None, None, None]*torch.nan_to_num(mark, nan=1., posinf=1.)[:, None, None, None]
            return torch.where(hit.to(x.device) > 0, value, 0.3*x)
        said = f"at t={at}, image number {image}"
        call = lambda: on_a_mac(lambda x: ddim_sample(broken, x, SCHEDULE, 20, clip=1.), x) # noqa: E731
        yield f"{value} at t={at} in image {image}", refused(call, ValueError, saying=said)
        states = lambda: on_a_mac(lambda x: encode(broken, x, SCHEDULE, 20), x) # noqa: E731
        yield f"encode: {value} at t={at}", refused(states, ValueError, saying=f"image number {image}")

