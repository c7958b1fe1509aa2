"""Any input into every public function: the right value, or a ValueError or TypeError, and nothing else.

A recipe draws the arguments of one function, some of them wrong, and says what must hold if the function accepts them.
If nothing wrong was drawn, refusing is a fault, too. A public function without a recipe is a fault.
"""
import inspect
import math
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slowddim import continuous, core, ddim, ddpm, distances, guidance, latent, noising, ode, oracle, schedule
from slowddim import schedulers, steps

from hostile import agree, case

MODULES = (core, schedule, noising, oracle, steps, ddpm, ddim, ode, latent, guidance, continuous, distances,
           schedulers)
NAN, INF = float("nan"), float("inf")
REAL = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
CLOSE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 0.3, torch.bfloat16: 1.5}
TABLES = [schedule.linear_schedule(20, 1e-3, 0.4), schedule.cosine_schedule(9), ddpm.DDPM(30, 1e-3, 0.3),
          schedule.zero_terminal_snr(schedule.linear_schedule(12))]


def junk()->list: # new objects each time
    g = torch.Generator()
    return [None, True, False, "x", "", b"\x03\x01", NAN, INF, -INF, 0, -1, 2.5, 1e308, 10**400, -10**20, 2**64, 1j,
            [], [NAN],
            (1,), {}, {"a": 1}, object(), len, np.int64(-3), np.float32("nan"), np.bool_(True), np.complex64(1j),
            np.array(2.), np.array([1, 2]), np.array(["a"]), torch.tensor(NAN), torch.tensor(True), torch.tensor(1j),
            torch.zeros(0),
            torch.ones(2, dtype=torch.uint8), torch.full((2, 1, 3, 3), NAN), torch.zeros(2, 1, 3, 3,
                                                                                         dtype=torch.int64),
            torch.zeros(2, 1, 3, 3, dtype=torch.complex64), torch.zeros(1, 1, 1, 1, 1,
                                                                        1), torch.eye(2).to_sparse(), torch.float16,
            torch.device("cpu"), g, [g], range(3), {1, 2}, iter([5, 3]), slice(None, None, 2)]


class Draw:
    "Draws arguments; remembers whether a wrong one was among them."
    def __init__(self, data): self.data, self.bad = data, False

    def pick(self, *options): return self.data.draw(st.sampled_from(options))

    def int(self, lo, hi): return self.data.draw(st.integers(lo, hi))

    def real(self, lo, hi): return self.data.draw(st.floats(lo, hi, allow_nan=False))

    def maybe(self, good, odds=8): # as it is, or something quite different
        if self.int(0, odds) < odds: return good
        self.bad, options = True, junk()
        return options[self.int(0, len(options) - 1)]

    def count(self, lo, hi): # of any integer type
        k = self.int(lo, hi)
        return self.maybe(self.pick(int, int, np.int64, np.int32, torch.tensor)(k))

    def number(self, lo, hi): return self.maybe(self.pick(float, float, np.float64, torch.tensor)(self.real(lo, hi)))

    def choice(self, names): return self.maybe(self.pick(*names))

    def shape(self, least=1, most=3): # of images (B, ...)
        return (self.int(least, most), *[self.int(1, 4) for _ in range(self.int(1, 3))])

    def filled(self, shape, dtype): # finite, in any layout
        x = torch.randn(shape, generator=torch.Generator().manual_seed(self.int(0, 99))).to(dtype)
        form = self.pick("plain", "plain", "strided", "reversed", "expanded", "grad", "zeros")
        if form == "strided": x = torch.stack([x, x], -1)[..., 0]
        if form == "reversed" and x.ndim > 1: x = x.transpose(0, -1).contiguous().transpose(0, -1)
        if form == "expanded" and len(x): x = x[:1].expand(x.shape)
        if form == "zeros": x = torch.zeros_like(x)
        return x.requires_grad_() if form == "grad" else x

    def tensor(self, shape=None, dtype=None): # images, or something that is none
        shape = self.shape() if shape is None else shape
        dtype = self.pick(*REAL[:2], *REAL) if dtype is None else dtype
        kind = self.int(0, 14)
        if kind < 10: return self.filled(shape, dtype)
        self.bad = True
        if kind == 10: return self.maybe(torch.zeros(0, *shape[1:], dtype=dtype), 1)
        if kind == 11: return self.filled((*shape, 2), dtype)
        if kind == 12: return torch.zeros(shape, dtype=self.pick(torch.int64, torch.uint8, torch.bool, torch.complex64))
        if kind == 13: return torch.tensor(0.5, dtype=dtype)
        x = self.filled(shape, dtype).detach().clone()
        x[(0,)*x.ndim] = self.pick(NAN, INF, -INF)
        return x

    def alike(self, n): # so many of one shape and dtype, most of the time
        shape, dtype = self.shape(), self.pick(*REAL[:2], *REAL)
        return [self.tensor(shape, dtype) for _ in range(n)]

    def schedule(self):
        table = self.pick(*TABLES)
        if table is TABLES[-1]: self.bad = True # without signal at its end, which not everything can use
        return self.maybe(table)

    def times(self, table, x, least=0): # an int, or one for each image
        T = getattr(getattr(table, "schedule", table), "n_steps", 9)
        if isinstance(x, torch.Tensor) and x.ndim and self.int(0, 1):
            t = torch.tensor([self.int(least, T - 2) for _ in range(len(x))],
                             dtype=self.pick(torch.int64, torch.int32))
            return self.maybe(t)
        return self.count(least, T - 2)

    def steps_of(self, table): # how many times to visit, or a list of them
        T = getattr(getattr(table, "schedule", table), "n_steps", 9)
        if self.int(0, 1): return self.count(1, min(T, 6))
        taus = sorted({self.int(0, T - 1) for _ in range(self.int(1, 4))}, reverse=True)
        return self.maybe(self.pick(list, tuple, iter, np.array, torch.tensor)(taus))

    def generator(self, x):
        n = len(x) if isinstance(x, torch.Tensor) and x.ndim else 1
        return self.maybe(self.pick(None, torch.Generator(), [torch.Generator() for _ in range(n)]))

    def model(self):
        if self.int(0, 9) < 9: return lambda x, t: 0.3*x
        self.bad = True
        return self.pick(None, "net", lambda x, t: x[..., :0], lambda x, t: x*NAN, lambda x, t: x.long(), lambda x,
                         t: None,
                         lambda x, t: x.float()*1j, lambda x, t: x.sum(), lambda x, t: x/0)

    def path(self, table, rising=False):
        T = getattr(getattr(table, "schedule", table), "n_steps", 9)
        taus = sorted({self.int(0, T - 2) for _ in range(3)}, reverse=not rising)
        return self.maybe([-1, *taus] if rising else [*taus, -1])


def finite(out, like=None, dtype=None): # a tensor like another one, without NaN
    if not isinstance(out, torch.Tensor): return f"{type(out).__name__} instead of a tensor"
    if like is not None and out.shape != like.shape: return f"shape {tuple(out.shape)} instead of {tuple(like.shape)}"
    wanted = dtype if dtype is not None else None if like is None else like.dtype
    if wanted is not None and out.dtype != wanted: return f"{out.dtype} instead of {wanted}"
    return None if bool(torch.isfinite(out).all()) else "NaN or infinity, silently"


def near(out, right, like): # as far as the dtype of `like` goes
    fault = finite(out, like)
    if fault: return fault
    error = (out.double() - right.double()).abs().max().item() if out.numel() else 0.
    scale = 1 + (right.double().abs().max().item() if right.numel() else 0.)
    return None if error <= CLOSE[like.dtype]*scale else f"off by {error:.3g}"


def passed_on(x, check): # NaN that came in may go out, nothing else
    real = [v for v in x if isinstance(v, torch.Tensor) and v.dtype in REAL]
    return (lambda out: None) if any(not bool(torch.isfinite(v).all()) for v in real) else check


RECIPES = {} # what is called -> how its arguments are drawn


def recipe(*calls):
    def keep(draws):
        for f in calls: RECIPES[f] = draws
        return draws
    return keep


def rates64(table, t, like): # sqrt(alpha_bar), sqrt(1 - alpha_bar) as columns, from the table itself
    table = getattr(table, "schedule", table)
    ab = torch.cat([table.alpha_bar, torch.ones(1, dtype=torch.float64)])[torch.as_tensor(t).long()]
    ab = ab.reshape(-1, *[1]*(like.ndim - 1)) if ab.ndim else ab
    return ab.sqrt(), (1 - ab).sqrt()


# ---- core

@recipe(core.check_choice)
def _(d):
    value = d.choice(["a", "b"])
    return (("name", value, ["a", "b"]), {}, lambda out: agree(out in ("a", "b"), True))

@recipe(core.Registry)
def _(d): return ((d.pick("kind", "solver"),), {}, lambda out: agree(len(out), 0))

@recipe(core.Registry.pick)
def _(d):
    entries = core.Registry("kind")
    entries.add("a")(len)
    return ((entries, d.choice(["a"])), {}, lambda out: agree(out, len))

@recipe(core.check_int)
def _(d):
    value = d.count(-5, 5)
    return (("n", value), dict(lo=-5, hi=5), lambda out: agree((type(out), out == value), (int, True)))

@recipe(core.check_number)
def _(d):
    value = d.number(-5, 5)
    return (("n", value), dict(lo=-5, hi=5), lambda out: agree((type(out), out == value, math.isfinite(out)),
                                                               (float, True, True)))

@recipe(core.check_clip)
def _(d):
    clip = d.maybe(d.pick(None, d.real(0.1, 3), (-1, d.real(0, 2)), [-1., 1], (-INF, 0.), np.float32(1)))
    def check(out): return agree(out is None if clip is None else out[0] < out[1] and {*map(type, out)} == {float},
                                 True)
    return ((clip,), {}, check)

@recipe(core.check_images)
def _(d):
    x = d.tensor()
    return ((x,), {}, lambda out: agree(out is x and finite(x) is None and x.ndim > 1 and x.numel() > 0, True))

@recipe(core.check_same_shape)
def _(d):
    x, y = d.alike(2)
    return ((x, y), {}, lambda out: agree(x.shape, y.shape))

@recipe(core.append_dims)
def _(d):
    v, k = d.filled((d.int(0, 3),), torch.float32), d.count(1, 5)
    return ((d.maybe(v), k), {}, lambda out: agree((out.ndim, out.numel()), (int(k), out.shape[:1].numel())))

@recipe(core.seeded_generator)
def _(d):
    parts = [d.count(0, 2**31 - 1) for _ in range(d.int(1, 3))]
    def check(out): return agree(out.initial_seed(), core.seeded_generator(*map(int, parts)).initial_seed())
    return (parts, {}, check)

@recipe(core.fresh_generator)
def _(d):
    seed = d.count(0, 2**31 - 1)
    return ((seed,), {}, lambda out: agree(seed is None or out.initial_seed() == int(seed), True))

@recipe(core.image_generators)
def _(d):
    seed, start, n = d.count(0, 99), d.maybe(d.pick(0, 5, 2**32 - 4)), d.count(0, 4)
    def check(out): return agree(len({g.initial_seed() for g in out}), int(n))
    return ((seed, start, n), {}, check)

@recipe(core.check_generator)
def _(d):
    g, n = d.generator(torch.zeros(3)), 3
    return ((g, n), {}, lambda out: agree(out is g, True))

@recipe(core.randn)
def _(d):
    x = torch.zeros(d.shape(0))
    shape, g, dtype = d.maybe(tuple(x.shape)), d.generator(x), d.maybe(d.pick(*REAL))
    return ((shape,), dict(generator=g, dtype=dtype), lambda out: finite(out, x if shape == tuple(x.shape) else None,
                                                                         dtype))

@recipe(core.to_unit)
def _(d):
    x = d.maybe(torch.randint(256, d.shape(0), dtype=torch.uint8))
    return ((x,), {}, lambda out: near(out, x.double()/127.5 - 1, out))

@recipe(core.to_pixels)
def _(d):
    x = d.maybe(d.tensor())
    def check(out):
        right = ((x.detach().double().clamp(-2, 2) + 1)*127.5).clamp(0, 255)
        return agree(out.dtype == torch.uint8 and not (out.double() - right).abs().gt(0.51).any(), True)
    if isinstance(x, torch.Tensor) and x.dtype in REAL and bool(x.isfinite().all()): d.bad = False
    return ((x,), {}, check)

@recipe(core.as_pair)
def _(d):
    size = d.maybe(d.pick(3, (3, 3), [3, 3], np.int64(3)))
    return ((size,), {}, lambda out: agree({*map(type, out)} == {int} and min(out) > 0 and len(out) == 2, True))

@recipe(core.pad_images, core.crop_images)
def _(d):
    dtype, h, w = d.pick(*REAL, torch.uint8, torch.int64, torch.bool, torch.complex64), d.int(1, 5), d.int(1, 5)
    x = d.maybe(torch.randint(2, (*d.shape(0), h, w)).to(dtype))
    size = d.maybe(d.pick((h + 1, w + 2), (h, w), 7))
    def check(out):
        back = core.crop_images(core.pad_images(x, size, 0), tuple(x.shape[-2:])) if x.shape[-1] and x.shape[-2] else x
        return agree(torch.equal(torch.nan_to_num(back), torch.nan_to_num(x)) and back.dtype == x.dtype, True)
    return ((x, size, 0), {}, check)

def _cropped(d):
    (x, size, _), _, _ = RECIPES[core.pad_images](d)
    d.bad = True # it may be larger
    return ((x, size), {}, lambda out: None if size is None else agree(tuple(out.shape[-2:]), core.as_pair(size)))
RECIPES[core.crop_images] = _cropped

@recipe(core.model_output)
def _(d):
    x, y = d.alike(2)
    return ((y, x), {}, passed_on([x, y], lambda out: finite(out, x, y.dtype)))

@recipe(core.model_shape)
def _(d):
    shape = d.maybe(d.pick((1, 4, 4), [3, 2, 5], (np.int64(1), 2, torch.tensor(3))))
    return ((len,), dict(shape=shape), lambda out: agree({*map(type, out)} == {int} and len(out) == 3 and min(out) > 0,
                                                         True))

@recipe(core.model_device)
def _(d): return ((d.pick(torch.nn.Linear(1, 1), torch.nn.Flatten(), len, None, "net"),), {},
                  lambda out: agree(out.type, "cpu"))

@recipe(core.default_device)
def _(d): return ((d.maybe(d.pick("cpu", None, torch.device("cpu"))),), {},
                  lambda out: agree(isinstance(out, torch.device), True))

@recipe(core.pick_precision, core.autocast)
def _(d):
    args = d.choice(core.PRECISIONS), d.maybe(d.pick(torch.device("cpu"), "cpu"))
    def check(out): return agree(out in ("fp32", "bf16") or isinstance(out, (nullcontext, torch.autocast)), True)
    return (args, {}, check)

@recipe(core.accept_greek)
def _(d): return ((lambda eta=0: eta,), {}, lambda out: agree(out(η=3), 3))

@recipe(core.progress_bar)
def _(d):
    n = d.int(0, 5)
    return ((range(n), False), {}, lambda out: agree(list(out), list(range(n))))


# ---- schedules

def falls(out): # a table as it must be
    ab = out.alpha_bar
    good = ab.dtype == torch.float64 and bool((ab.diff() < 0).all()) and bool(ab[0] < 1) and bool(ab[-1] >= 0)
    return agree(good and torch.allclose(torch.cumprod(1 - out.beta, 0), ab, atol=1e-12) and len(ab) == out.n_steps,
                 True)

@recipe(schedule.NoiseSchedule)
def _(d):
    ab = d.maybe(d.pick([0.9, 0.5, 0.1], torch.tensor([0.9, 0.5, 0.]), np.array([0.9, 0.5]), (0.5,)))
    if d.int(0, 3) == 3: ab, d.bad = [d.real(-0.5, 1.5) for _ in range(d.int(0, 4))], True
    return ((ab,), {}, falls)

@recipe(schedule.NoiseSchedule.at)
def _(d):
    table = schedule.linear_schedule(20, 1e-3, 0.4)
    t = d.times(table, torch.zeros(3), -1)
    return ((table, t), {}, lambda out: agree(bool(((torch.as_tensor(out) > 0) & (torch.as_tensor(out) <= 1)).all()),
                                              True))

@recipe(schedule.from_betas)
def _(d):
    beta = [d.real(1e-6, 0.9) for _ in range(d.int(1, 6))]
    return ((d.maybe(d.pick(list, np.array, torch.tensor, tuple)(beta)),), {}, falls)

@recipe(schedule.linear_schedule, schedule.scaled_linear_schedule, schedule.sigmoid_beta_schedule, ddpm.DDPM)
def _(d):
    lo = d.number(1e-4, 0.1)
    args = d.count(1, 40), lo, d.number(0.11, 0.5)
    return (args, {}, lambda out: falls(getattr(out, "schedule", out)) or agree(out.n_steps, int(args[0])))

@recipe(schedule.tabulate)
def _(d):
    f = d.maybe(d.pick(lambda u: 1 - 0.9*u, lambda u: math.exp(-5*u), lambda u: 1 - u))
    if d.int(0, 4) == 4: f, d.bad = d.pick(lambda u: u, lambda u: NAN, lambda u: None, lambda u: 0, lambda u: -1,
                                          lambda u: "a"), True
    return ((f, d.count(1, 20), d.number(0.5, 0.999)), {}, falls)

@recipe(schedule.cosine_schedule)
def _(d): return ((d.count(1, 30), d.number(0, 0.1), d.number(0.5, 0.999)), {}, falls)

@recipe(schedule.sigmoid_schedule)
def _(d): return ((d.count(1, 30), d.number(-5, -1), d.number(1, 5), d.number(0.5, 3), d.number(0.5, 0.999)), {},
                  falls)

@recipe(schedule.karras_schedule)
def _(d): return ((d.count(2, 20), d.number(0.01, 0.1), d.number(1, 90), d.number(1, 9)), {}, falls)

@recipe(schedule.angle_rates)
def _(d):
    u = d.maybe(d.pick(d.real(0, 1), torch.rand(3), [0., 0.5], np.array([1.])))
    def check(out):
        circle = (out[0]**2 + out[1]**2 - 1).abs().max() < 1e-12
        return agree((bool(circle), out[0].dtype), (True, torch.float64))
    if isinstance(u, torch.Tensor) and u.numel() == 0: return ((u,), {}, lambda out: None)
    return ((u, d.number(0.01, 0.1), d.number(0.5, 0.99)), {}, check)

@recipe(schedule.angle_schedule)
def _(d): return ((d.count(1, 30), d.number(0.01, 0.1), d.number(0.5, 0.99), d.number(0.1, 3)), {}, falls)

@recipe(schedule.as_schedule)
def _(d): return ((d.schedule(),), {}, lambda out: agree(isinstance(out, schedule.NoiseSchedule), True))

@recipe(schedule.zero_terminal_snr)
def _(d): return ((d.schedule(),), {}, lambda out: falls(out) or agree(out.at(out.n_steps - 1), 0.))

@recipe(schedule.schedule_from_spec)
def _(d):
    table = d.pick(*TABLES)
    spec = d.maybe(getattr(table, "schedule", table).spec)
    if isinstance(spec, dict) and spec and d.int(0, 3) == 3:
        spec, d.bad = spec | {d.pick(*spec, "gamma"): d.maybe(1, 0)}, True
    return ((spec,), {}, falls)

@recipe(schedule.tabulated_schedules)
def _(d): return ((), {}, lambda out: agree("linear" in out and "table" not in out, True))

def descends(n, T): # exactly n times
    return lambda out: agree((len(out), sorted(set(out), reverse=True) == out, 0 <= out[-1], out[0] < T),
                             (n, True, True, True))

@recipe(schedule.subsequence)
def _(d):
    T, S = d.count(5, 40), d.count(1, 5)
    names = [k for k in schedule.SPACINGS if k != "logsnr"]
    return ((T, S, d.choice(names)), {}, lambda out: descends(int(S), int(T))(out))

@recipe(schedule.logsnr_times)
def _(d):
    table, S = d.schedule(), d.count(1, 9)
    return ((table, S, d.number(10, 90), d.number(0.01, 1)), {},
            lambda out: descends(int(S), schedule.as_schedule(table).n_steps)(out))

@recipe(schedule.as_timesteps)
def _(d):
    table = d.maybe(d.pick(*TABLES))
    S, spacing = d.steps_of(table), d.choice(schedule.SPACINGS)
    T = lambda: table if isinstance(table, int) else schedule.as_schedule(table).n_steps # noqa: E731
    def right(out): return descends(len(out), T())(out) or agree(not isinstance(S, int) or len(out) == S, True)
    return (S, table, spacing), {}, right


# ---- noising

@recipe(noising.rates)
def _(d):
    table, x = d.schedule(), d.tensor()
    t = d.times(table, x, -1)
    def check(out): return agree(max(float((torch.as_tensor(out[k], dtype=torch.float64) - rates64(table, t,
                                                                                                   x)[k]).abs().max())
                                     for k in (0, 1)) < CLOSE[x.dtype], True)
    if isinstance(x, torch.Tensor) and x.numel() == 0: return ((t, table, x), {}, lambda out: None)
    return ((t, table, x), {}, passed_on([x], check))

@recipe(noising.add_noise)
def _(d):
    table, (x, eps) = d.schedule(), d.alike(2)
    t = d.times(table, x, -1)
    def check(out):
        a, s = rates64(table, t, x)
        return near(out, a*x.double() + s*eps.double(), x)
    return ((x, eps, t, table), {}, passed_on([x, eps], check))

@recipe(noising.predict_x0)
def _(d):
    table, (x, eps) = d.schedule(), d.alike(2)
    t = d.times(table, x, -1)
    def check(out):
        a, s = rates64(table, t, x)
        return near(out, (x.double() - s*eps.double())/a, x)
    return ((x, eps, t, table), {}, passed_on([x, eps], check))

@recipe(noising.predict_eps)
def _(d):
    table, (x, x_0) = d.schedule(), d.alike(2)
    t = d.times(table, x)
    def check(out):
        a, s = rates64(table, t, x)
        return near(out, (x.double() - a*x_0.double())/s, x)
    return ((x, x_0, t, table), {}, passed_on([x, x_0], check))

@recipe(noising.velocity)
def _(d):
    table, (x, eps) = d.schedule(), d.alike(2)
    t = d.times(table, x, -1)
    def check(out):
        a, s = rates64(table, t, x)
        return near(out, a*eps.double() - s*x.double(), x)
    return ((x, eps, t, table), {}, passed_on([x, eps], check))

@recipe(noising.to_eps, noising.from_eps)
def _(d): # there and back, in float64
    table, (x, eps), kind = d.schedule(), d.alike(2), d.choice(noising.PREDICTIONS)
    t = d.times(table, x)
    def check(out):
        if x.dtype != torch.float64: return finite(out, x)
        there = noising.from_eps(eps, x, t, table, kind)
        return near(noising.to_eps(there, x, t, table, kind), eps, eps.double())
    return ((eps, x, t, table, kind), {}, passed_on([x, eps], check))

@recipe(noising.check_signal)
def _(d): return ((noising.PREDICTIONS[d.pick(*noising.PREDICTIONS)], d.pick(0.5, 1.)), {},
                  lambda out: agree(out, None))

@recipe(noising.Prediction)
def _(d): return (("a", len, len), {}, lambda out: agree(out.needs_signal, False))

@recipe(noising.Interpreter)
def _(d): return ((), {}, lambda out: agree(isinstance(out, torch.nn.Module), True))

@recipe(noising.NoisePredictor)
def _(d):
    table, kind, x = d.schedule(), d.choice(noising.PREDICTIONS), d.tensor()
    t = d.times(table, x)
    def check(out):
        if kind == "x_0" or d.bad: return refuses_or(lambda: out(x, t),
                                                     lambda eps: passed_on([x], lambda e: finite(e, x))(eps))
        return finite(out(x, t), x)
    return ((lambda x, t: 0.3*x, table, kind), {}, check)

def refuses_or(call, check): # what a second call gave
    try: out = call()
    except (ValueError, TypeError): return None
    return check(out)


# ---- oracles

@recipe(oracle.GaussianOracle)
def _(d):
    table, mean, std = d.schedule(), d.maybe(d.real(-1, 1)), d.number(0, 2)
    x = d.tensor()
    def check(out): return refuses_or(lambda: out(x, d.times(table, x, -1)),
                                      passed_on([x], lambda eps: finite(eps, x)))
    return ((table, mean, std), {}, check)

@recipe(oracle.gaussian_flow)
def _(d):
    table, x = d.pick(*TABLES[:3]), d.tensor(None, torch.float64)
    table = getattr(table, "schedule", table)
    gauss, t, to = oracle.GaussianOracle(table, 0.2, 0.5), d.count(0, 5), d.count(-1, 7)
    def check(out): return near(oracle.gaussian_flow(gauss, out, to, t), x, x)
    return ((d.maybe(gauss), x, t, to), {}, passed_on([x], check))

@recipe(oracle.MixtureOracle)
def _(d):
    table, M = d.schedule(), d.int(1, 3)
    x = d.tensor()
    means = torch.randn(M, *x.shape[1:]) if isinstance(x, torch.Tensor) and x.ndim else torch.randn(M, 2)
    labels = d.maybe(d.pick(None, list(range(M)), [0]*M, torch.arange(M)))
    args = dict(means=d.maybe(means), std=d.maybe(d.pick(0.1, [0.2]*M)), weights=d.maybe(d.pick(None, [1]*M)),
                labels=labels)
    y = d.pick(None, torch.zeros(x.shape[:1], dtype=torch.int64)) if isinstance(x, torch.Tensor) and x.ndim else None
    def check(out): return refuses_or(lambda: out(x, d.times(table, x), y), passed_on([x], lambda eps: finite(eps, x)))
    return ((table,), args, check)

@recipe(oracle.CallCounter)
def _(d):
    x, t = d.filled((2, 1, 2), torch.float32), d.pick(5, torch.tensor(5), torch.tensor([5, 5]))
    def check(out):
        out(x, t)
        return agree((out.ts, out.rows, out.n_calls), ([5], [2], 1))
    return ((lambda x, t: x,), {}, check)


# ---- steps and samplers

@recipe(steps.Step)
def _(d): return ((5, 3, .5, .8, .9, .1), {}, lambda out: agree(out.sigma, 0.))

@recipe(steps.StepOutput)
def _(d): return ((1, 2), {}, lambda out: agree((out.x_prev, out.x_0), (1, 2)))

@recipe(steps.State)
def _(d): return ((9, 5, 1, 2, 3, 4, True), {}, lambda out: agree((out.t, out.x_prev, out.evaluated), (9, 2, True)))

@recipe(steps.move)
def _(d):
    x, eps, z = d.alike(3)
    step = steps.Step(5, d.pick(3, -1), d.real(.2, .9), d.real(.2, .9), d.real(0, 1), d.real(0, 1), d.pick(0., 0.3))
    kind = d.pick(*noising.PREDICTIONS)
    clip = d.pick(None, (-1., 1.))
    def check(out):
        x_prev, x_0, e = out
        if clip and not bool(((x_0 >= -1) & (x_0 <= 1)).all()): return "not clipped"
        right = step.of_x0*x_0.double() + step.of_eps*e.double() + step.sigma*z.double()
        return near(x_prev, right, x) or finite(x_0, x) or finite(e, x)
    return ((eps, x, step._replace(prediction=kind)), dict(noise=z if step.sigma else 0., clip=clip), check)

@recipe(steps.fresh_noise)
def _(d):
    x, z = d.alike(2)
    sigma, give = d.pick(0., 0.5), d.pick("noise", "generator", "both", "neither")
    if give == "both": d.bad = True
    how = dict(noise=z) if give in ("noise", "both") else {}
    if give in ("generator", "both"): how["generator"] = d.generator(x)
    return ((x, sigma), how, passed_on([z], lambda out: agree(out, 0.) if not sigma else finite(out, x)))

@recipe(steps.run_steps)
def _(d):
    x, table = d.tensor(), d.pick(*TABLES[:3])
    plan = ddim.plan_steps(table, d.int(1, 4), eta=d.pick(0., 1.))
    how = dict(clip=d.pick(None, (-1., 1.)), generator=d.generator(x))
    return ((d.model(), x, plan), how, passed_on([x], lambda out: finite(out[-1].x_0, x)))

@recipe(steps.last_x0, steps.arrival)
def _(d):
    x = torch.zeros(2, 2)
    states = [steps.State(1, -1, x, x, x, x, True)]*d.int(0, 2)
    if not states: d.bad = True
    return ((iter(states),), {}, lambda out: finite(out, x))

@recipe(steps.Solver)
def _(d): return (("s", lambda path, i, table: []), {}, lambda out: agree(out.n_times(7), 7))

@recipe(steps.Solver.n_times, steps.Solver.plan)
def _(d):
    solver, n = steps.SOLVERS[d.pick(*steps.SOLVERS)], d.count(1, 12)
    return ((solver, n), {}, lambda out: agree(solver.evaluations(out) <= max(int(n), 1), True))

def _plan(d):
    solver, table = steps.SOLVERS[d.pick(*steps.SOLVERS)], d.pick(*TABLES[:3])
    path = d.path(table)
    return ((solver, path, table), {}, lambda out: agree(d.bad or len(out) == solver.evaluations(len(path) - 1), True))
RECIPES[steps.Solver.plan] = _plan

@recipe(ddpm.step_variance)
def _(d):
    ab = sorted([d.real(0.01, 0.99), d.real(0.01, 0.99)])
    args = [d.maybe(v) for v in ab] + [d.choice(ddpm.VARIANCES)]
    if ab[0] == ab[1]: return (args, {}, lambda out: None)
    return (args, {}, lambda out: agree(0 <= out <= 1 or d.bad and math.isfinite(out), True))

@recipe(ddpm.ddpm_coefficients, ddim.ddim_coefficients)
def _(d):
    table = d.schedule()
    t = d.times(table, None, 1)
    args = t, d.count(-1, 0), table
    def check(out):
        table_ = schedule.as_schedule(table)
        total = out.of_x0**2*0 + out.of_eps**2 + out.sigma**2
        return agree(abs(total - (1 - table_.at(args[1]))) < 1e-9 and out.sigma >= 0, True)
    return (args, {}, check)

@recipe(ddpm.ddpm_step)
def _(d):
    table, (x, eps) = d.schedule(), d.alike(2)
    t, how = d.times(table, None), dict(schedule=table, variance=d.choice(ddpm.VARIANCES), generator=d.generator(x))
    return ((x, eps), dict(t=t, **how), lambda out: finite(out.x_prev, x) or finite(out.x_0, x))

@recipe(ddim.ddim_step)
def _(d):
    table, (x, eps, z) = d.schedule(), d.alike(3)
    t, t_prev, eta = d.times(table, None, 2), d.count(-1, 1), d.number(0, 1)
    def check(out):
        a, s = rates64(table, t, x)
        return near(out.x_0, (x.double() - s*eps.double())/a, x) or finite(out.x_prev, x)
    return ((x, eps), dict(t=t, t_prev=t_prev, schedule=table, eta=eta, noise=z), check)

@recipe(ddim.thirds)
def _(d):
    t = d.int(0, 99)
    return ((t,), {}, lambda out: agree(out, t >= 50 and t % 3 != 0))

@recipe(ddim.evaluated_steps)
def _(d):
    taus = [9, 7, 4, 2]
    skip = d.maybe(d.pick(None, "thirds", [7], {4, 2}, torch.tensor([2]), np.array([4]), slice(1, 3), lambda t: t < 5,
                          iter([7])))
    return ((skip, taus), {}, lambda out: agree((len(out), out[0], {*map(type, out)}), (4, True, {bool})))

@recipe(ddim.plan_steps)
def _(d):
    table = d.schedule()
    how = dict(eta=d.number(0, 1), variance=d.choice(ddpm.VARIANCES), spacing=d.choice(schedule.SPACINGS),
               prediction=d.choice(noising.PREDICTIONS))
    def check(out):
        ends = [s.t for s in out[1:]] + [-1]
        return agree([s.t_prev for s in out], ends) or agree(all(math.isfinite(v) for s in out for v in s[2:7]), True)
    return ((table, d.steps_of(table)), how, check)

@recipe(ddim.ddim_trajectory, ddim.ddim_sample)
def _(d):
    table, x = d.schedule(), d.tensor()
    how = dict(eta=d.number(0, 1), clip=d.maybe(d.pick(None, 1., (-1, 2))), generator=d.generator(x))
    if d.int(0, 2) == 0: how["skip_steps"] = d.maybe(d.pick(None, "thirds", slice(1, 2)))
    return ((d.model(), x, table, d.steps_of(table)), how,
            lambda out: finite(out[-1].x_0 if isinstance(out, list) else out, x))

@recipe(ddim.sample)
def _(d):
    table, n = d.schedule(), d.count(1, 3)
    how = dict(shape=d.maybe((1, 2, 2)), seed=d.count(0, 99), every=d.count(1, 4), return_all=d.pick(False, True),
               variance=d.choice(ddpm.VARIANCES), device=d.maybe(d.pick(None, "cpu")), progress=False)
    return ((table, d.model(), n), how, lambda out: finite(out[0][-1] if isinstance(out, tuple) else out))

@recipe(ddpm.ddpm_sample)
def _(d):
    table, x = d.schedule(), d.tensor()
    how = dict(variance=d.choice(ddpm.VARIANCES), clip=d.maybe(d.pick(None, 1.)), generator=d.generator(x))
    return ((d.model(), x, table), how, lambda out: finite(out, x))

@recipe(ode.sigma_at)
def _(d):
    table = d.schedule()
    return ((d.times(table, None, -1), table), {}, lambda out: agree(math.isfinite(out) and out >= 0, True))

@recipe(ode.x_bar)
def _(d):
    table, x = d.schedule(), d.tensor()
    t = d.times(table, x, -1)
    return ((x, t, table), {}, passed_on([x], lambda out: near(out, x.double()/rates64(table, t, x)[0], x)))

@recipe(ode.correction)
def _(d):
    table = d.schedule()
    args = d.times(table, None), d.times(table, None), table, d.number(0, 1)
    return (args, {}, lambda out: agree(all(math.isfinite(v) for v in out[2:7]), True))

@recipe(ode.ode_solvers)
def _(d): return ((), {}, lambda out: agree("ddpm" in out, False))

@recipe(ode.ode_steps)
def _(d):
    table = d.schedule()
    path, solver = d.path(table), d.choice(ode.ode_solvers())
    return ((path, table, solver), {}, lambda out: agree(all(math.isfinite(v) for s in out for v in s[2:7]), True))

@recipe(ode.ode_trajectory, ode.ode_sample)
def _(d):
    table, x = d.schedule(), d.tensor()
    how = dict(solver=d.choice(ode.ode_solvers()), spacing=d.choice(schedule.SPACINGS), clip=d.maybe(d.pick(None, 1.)))
    return ((d.model(), x, table, d.steps_of(table)), how,
            lambda out: finite(out[-1].x_0 if isinstance(out, list) else out, x))

@recipe(ode.log_likelihood)
def _(d):
    table, x = d.pick(*TABLES[:3]), d.tensor()
    how = dict(exact=d.pick(True, False), n_probes=d.count(1, 2), generator=d.generator(x),
               solver=d.choice(ode.ode_solvers()))
    S = d.maybe(d.pick(2, 3, [8, 5, 2]))
    return ((d.model(), x, table, S), how, lambda out: finite(out, torch.zeros(len(x)), torch.float64))


# ---- latents, labels, continuous time

@recipe(latent.encode_steps)
def _(d):
    table = d.schedule()
    path = d.path(table, rising=True)
    refine, guess = d.count(1, 2), d.choice(latent.GUESSES)
    return ((path, table, refine, guess), {}, lambda out: agree(len(out), (len(path) - 1)*(1 + int(refine))))

@recipe(latent.encode_trajectory, latent.encode, latent.reconstruct)
def _(d):
    table, x = d.pick(*TABLES[:3]), d.tensor()
    how = dict(refine=d.count(1, 2), guess=d.choice(latent.GUESSES), spacing=d.choice(schedule.SPACINGS))
    return ((d.model(), x, table, d.steps_of(table)), how,
            lambda out: finite(out[-1].x_0 if isinstance(out, list) else out, x))

@recipe(latent.decode)
def _(d):
    table, x = d.schedule(), d.tensor()
    how = dict(solver=d.choice(ode.ode_solvers()), clip=d.maybe(d.pick(None, 1.)))
    return ((d.model(), x, table, d.steps_of(table)), how, lambda out: finite(out, x))

@recipe(latent.pixel_errors)
def _(d):
    x, y = d.alike(2)
    def check(out): return finite(out, torch.zeros(len(x)), torch.float64) or agree(bool((out >= 0).all()), True)
    return ((x, y), {}, check)

@recipe(latent.reconstruction_error)
def _(d):
    table, x = d.pick(*TABLES[:3]), d.tensor()
    how = dict(refine=d.count(0, 1), batch_size=d.count(1, 3), per_image=d.pick(False, True))
    return ((d.model(), x, table, d.steps_of(table)), how, lambda out: finite(torch.as_tensor(out)))

@recipe(latent.slerp)
def _(d):
    a, b = d.alike(2)
    w = d.maybe(d.pick(0, 1., d.real(0, 1),
                       torch.rand(a.shape[:1]) if isinstance(a, torch.Tensor) and a.ndim else 0.5))
    def check(out):
        if isinstance(w, int): return agree(torch.equal(out, (a, b)[w]), True)
        length = lambda v: v.double().flatten(1).norm(dim=1) # noqa: E731
        between = (1 - torch.as_tensor(w).double())*length(a) + torch.as_tensor(w).double()*length(b)
        return near(length(out), between, length(a)) if a.dtype == torch.float64 else finite(out, a)
    return ((a, b, w), {}, check)

@recipe(latent.interpolate)
def _(d):
    (a, b), n = d.alike(2), d.count(2, 4)
    def check(out): return finite(out) or agree((len(out), torch.equal(out[0], a), torch.equal(out[-1], b)),
                                                (int(n), True, True))
    return ((a, b, n), {}, check)

@recipe(latent.interpolate_images)
def _(d):
    table, (a, b) = d.pick(*TABLES[:3]), d.alike(2)
    return ((d.model(), a, b, table, d.count(2, 3), d.steps_of(table)), {}, lambda out: finite(out[0], a))

@recipe(latent.corner_grid)
def _(d):
    x, shape = d.tensor((4, 1, 2)), (d.count(2, 3), d.count(2, 3))
    return ((x, *shape), {}, lambda out: finite(out) or agree(len(out), int(shape[0])*int(shape[1])))

@recipe(latent.across_steps)
def _(d):
    table, x = d.schedule(), d.tensor()
    how = dict(sizes=d.maybe((1, d.int(1, 5))), eta=d.number(0, 1), seed=d.count(0, 9), clip=d.maybe(d.pick(None, 1.)))
    return ((d.model(), x, table), how, lambda out: finite(out[-1], x) if out else None)

KNOWS = oracle.MixtureOracle(TABLES[0], torch.randn(3, 1, 2, 2), 0.3, class_names=["low", "middle", "high"])

@recipe(guidance.LabelInfo)
def _(d): return (((0, 1), None, None), {}, lambda out: agree(out.n_labels, 2))

@recipe(guidance.label_info)
def _(d): return ((d.maybe(KNOWS),), {}, lambda out: agree(out is None or out.numbers == (0, 1, 2), True))

@recipe(guidance.as_labels)
def _(d):
    labels = d.maybe(d.pick("low", 2, None, ["low", 1, "none"], torch.tensor([3, 0]), np.array([1]), range(3), "1"))
    n = d.maybe(d.pick(None, 1))
    d.bad = d.bad or n is not None
    return ((labels, d.maybe(KNOWS), n), {},
            lambda out: agree(out.dtype == torch.int64 and 0 <= out.min() and out.max() <= 3, True))

@recipe(guidance.spread_labels)
def _(d):
    n, K = d.count(1, 9), d.count(1, 4)
    def check(out): return agree(len(out) == int(n) and 0 <= out.min() and out.max() < int(K), True)
    return ((d.count(0, 99), d.count(0, 50), n, K), {}, check)

@recipe(guidance.Guided, guidance.guided)
def _(d):
    x = d.tensor((2, 1, 2, 2))
    def check(out): return refuses_or(lambda: out(x, d.times(TABLES[0], x)),
                                      passed_on([x], lambda eps: finite(eps, x)))
    return ((KNOWS, d.maybe(d.pick(1, "low", [0, 2])), d.number(0, 5)), {}, check)

def _made(d): # the class itself, which `guided` calls with what it has checked
    (net, _, scale), _, check = RECIPES[guidance.guided](d)
    return ((net, d.maybe(torch.tensor([0, 2])), 3, scale), {}, check)
RECIPES[guidance.Guided] = _made

@recipe(continuous.AnglePredictor)
def _(d):
    x = d.tensor()
    u = d.pick(3, torch.tensor(2), torch.full(x.shape[:1] if isinstance(x, torch.Tensor) and x.ndim else (2,), 4))
    how = dict(n_steps=d.count(5, 30), mean=d.number(-0.5, 0.5), std=d.number(0.3, 1))
    def check(out): return refuses_or(lambda: out(x, u), passed_on([x], lambda eps: finite(eps, x)))
    return ((lambda x, v: 0.3*x,), how, check)

ANGLE = continuous.AnglePredictor(lambda x, v: 0.3*x, 50, mean=0.1, std=0.6)

@recipe(continuous.AnglePredictor.reverse_diffusion, continuous.AnglePredictor.generate)
def _(d):
    x = d.tensor()
    return ((ANGLE, x, d.count(1, 5)), {}, lambda out: finite(out, x))

def _generated(d):
    how = dict(seed=d.count(0, 99), shape=d.maybe((1, 2, 3)), progress=False)
    return ((ANGLE, d.count(1, 3), d.count(1, 4)), how, lambda out: finite(out) or agree(bool((out.abs() <= 1).all()),
                                                                                         True))
RECIPES[continuous.AnglePredictor.generate] = _generated

@recipe(continuous.AnglePredictor.normalize, continuous.AnglePredictor.denormalize)
def _(d):
    x = d.tensor()
    return ((ANGLE, x), {}, passed_on([x], lambda out: finite(out, x)))

@recipe(continuous.angle_loss)
def _(d):
    x, eps = d.alike(2)
    u = torch.rand(len(x)) if isinstance(x, torch.Tensor) and x.ndim else torch.rand(1)
    how = dict(of=d.choice(("noise", "image")), norm=d.choice(("l1", "l2")))
    return ((ANGLE, x, eps, d.maybe(u)), how, passed_on([x, eps], lambda out: finite(out) or agree(out.ndim, 0)))

@recipe(continuous.fit_angle)
def _(d):
    batches = [d.tensor() for _ in range(d.int(1, 2))]
    tensors = [b for b in batches if isinstance(b, torch.Tensor)]
    if any(b.numel() < 2 or bool((b == b.flatten()[0]).all()) for b in tensors): d.bad = True
    return ((lambda x, v: x, d.maybe(batches)), {}, lambda out: agree(out.std > 0 and math.isfinite(out.mean), True))


@recipe(continuous.as_velocity)
def _(d): # of a network that predicts x itself as noise
    table, x = d.schedule(), d.tensor()
    return ((lambda x, t: x, table), {}, passed_on([x], lambda out: finite(out(x, d.pick(0.25, 0.5, 0.75)), x)))

@recipe(continuous.from_velocity)
def _(d):
    table, x = d.schedule(), d.tensor()
    t = d.times(table, x)
    return ((lambda x, tau: x, table), {}, passed_on([x], lambda out: finite(out(x, t), x)))

# ---- distances

def cloud(d, width, least=3):
    dtype = d.pick(torch.float32, torch.float64, torch.float64)
    x = torch.randn(d.int(least, 9), width, generator=torch.Generator().manual_seed(d.int(0, 99))).to(dtype)
    if d.int(0, 6) < 6: return d.pick(x, x, x.T.contiguous().T, x.clone().requires_grad_())
    d.bad = True
    return d.pick(x[:0], x[0], x*NAN, torch.where(x == x.max(), INF, x), x > 0, x*1j, x*1e300, x[None], None, "x", 3,
                  [[]], x.to_sparse())

@recipe(distances.frechet_distance)
def _(d):
    g, width = torch.Generator().manual_seed(d.int(0, 99)), d.int(1, 4)
    roots = [torch.randn(width, width, generator=g).double() for _ in range(2)]
    means = [torch.randn(width, generator=g).double() for _ in range(2)]
    form = d.pick(lambda v: v, lambda v: v.numpy(), lambda v: v.tolist(), lambda v: v.float())
    args = [d.maybe(form(v)) for v in (means[0], roots[0] @ roots[0].T, means[1], roots[1] @ roots[1].T)]
    def check(out): # symmetric, and at least the distance of the means
        if d.bad: return agree(math.isfinite(out) and out >= 0, True)
        apart = (means[0] - means[1]).square().sum().item()
        again = distances.frechet_distance(*args[2:], *args[:2])
        return agree(out >= apart - 1e-4*(1 + apart) and abs(out - again) <= 1e-4*(1 + out), True)
    return (args, {}, check)

@recipe(distances.FeatureStats)
def _(d):
    x, y = cloud(d, 3), cloud(d, 3)
    def check(out): return refuses_or(lambda: out.update(x).update(y),
                                      lambda s: finite(s.cov, torch.zeros(3, 3), torch.float64) or
                                      agree(torch.allclose(s.cov, torch.cat([x, y]).double().T.cov(), atol=1e-9),
                                            True))
    return ((), {}, check)

@recipe(distances.FeatureStats.update)
def _(d):
    x = cloud(d, 3)
    return ((distances.FeatureStats(), x), {}, lambda out: finite(out.cov, None, torch.float64))

@recipe(distances.moments)
def _(d):
    x = cloud(d, 2)
    n = len(x) if isinstance(x, torch.Tensor) and x.ndim else 3
    w = d.maybe(d.pick(None, [1.]*n, torch.arange(n) + 1, np.ones(n)))
    def check(out):
        if w is not None: return finite(out[1], None, torch.float64)
        return near(out[1], x.detach().double().T.cov().reshape(out[1].shape), out[1])
    return ((x, w), {}, check)

@recipe(distances.kernel_distance)
def _(d):
    a, b = cloud(d, 2), cloud(d, 2)
    def check(out): return agree(math.isfinite(out[0]), True)
    return ((a, b, d.count(2, 5)), {}, check)

@recipe(distances.precision_recall)
def _(d):
    a, b = cloud(d, 2, 4), cloud(d, 2, 4)
    return ((a, b, d.count(1, 3), d.count(1, 5)), {}, lambda out: agree(all(0 <= v <= 1 for v in out), True))


# ---- schedulers

def scheduler(d):
    kind = d.pick(schedulers.DiffusersStyleDDIM, schedulers.DiffusersStyleDDPM)
    made = kind(schedule=TABLES[0], clip=d.pick(None, 1.), variance=d.pick(*ddpm.VARIANCES))
    made.set_timesteps([15, 9, 4])
    return made

@recipe(schedulers.DDIMOutput)
def _(d):
    x = torch.zeros(2)
    return ((x,), {}, lambda out: agree((out.prev_sample is x, out[0] is x, out["prev_sample"] is x,
                                         out.pred_original_sample),
                                        (True, True, True, None)))

@recipe(schedulers.DiffusersStyleDDIM)
def _(d):
    args = d.count(5, 30), d.number(1e-4, 0.1), d.number(0.11, 0.3), d.number(0, 1)
    how = dict(spacing=d.choice(schedule.SPACINGS), variance=d.choice(ddpm.VARIANCES),
               prediction=d.choice(("eps", "x_0", "v")),
               clip=d.maybe(d.pick(None, 1., (-1, 1))))
    return (args, how, lambda out: agree(len(out), int(args[0])))

@recipe(schedulers.DiffusersStyleDDPM)
def _(d):
    args, how, check = RECIPES[schedulers.DiffusersStyleDDIM](d)
    return (args[:3], how, check)

@recipe(schedulers.DiffusersStyleDDIM.set_timesteps)
def _(d):
    sched = scheduler(d)
    return ((sched, d.steps_of(TABLES[0]), d.maybe(d.pick(None, "cpu"))), {},
            lambda out: descends(len(sched.timesteps), 20)(sched.timesteps.tolist()))

@recipe(schedulers.DiffusersStyleDDIM.step)
def _(d):
    sched, (x, eps) = scheduler(d), d.alike(2)
    how = dict(generator=d.generator(x), return_dict=d.pick(True, False))
    t = d.maybe(d.pick(15, 9, torch.tensor(4), np.int64(9)))
    return ((sched, eps, t, x), how, lambda out: finite(out[0], x) or finite(out[1], x))

@recipe(schedulers.DiffusersStyleDDIM.add_noise, schedulers.DiffusersStyleDDIM.get_velocity)
def _(d):
    x, eps = d.alike(2)
    t = d.times(TABLES[0], x)
    return ((scheduler(d), x, eps, t), {}, passed_on([x, eps], lambda out: finite(out, x)))

@recipe(schedulers.DiffusersStyleDDIM.scale_model_input)
def _(d):
    x = d.tensor()
    return ((scheduler(d), x, 5), {}, lambda out: agree(out is x, True))

@recipe(schedulers.diffusers_sample)
def _(d):
    sz, how = d.maybe((2, 1, 2, 2)), dict(seed=d.count(0, 9), skip_steps=d.maybe(d.pick(None, [9], slice(1, 2))),
                                          progress=False)
    if d.int(0, 3) == 0: how["device"] = d.maybe("cpu")
    return ((scheduler(d), sz), dict(model=d.model() or "net", **how),
            lambda out: finite(out) or agree(tuple(out.shape), tuple(sz)))


# ---- the run

def public(): # every function and class that the modules export, and whether it is tried
    for module in MODULES:
        for name in module.__all__:
            f = getattr(module, name)
            if inspect.isfunction(f) or inspect.isclass(f): yield f"{module.__name__.rsplit('.', 1)[-1]}.{name}", f


def shown(v): # in a line
    if isinstance(v, torch.Tensor): return f"{str(v.dtype)[6:]}{list(v.shape)}"
    return f"{v!r:.40}"


def tried(f, draws, data)->tuple: # what was tried, what was wrong
    d = Draw(data)
    args, kwargs, check = draws(d)
    what = ", ".join([*map(shown, args), *(f"{k}={shown(v)}" for k, v in kwargs.items())])
    given = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor)]
    own = [(v, v.detach().clone()) for v in given if v.layout == torch.strided]
    torch.manual_seed(0)
    try:
        out = f(*args, **kwargs)
        if isinstance(out, Iterator) and f.__name__.endswith(("_trajectory", "_steps")): out = list(out)
        fault = check(out)
    except (ValueError, TypeError) as e:
        if not d.bad: fault = f"refused good input: {type(e).__name__}: {e}"
        else: fault = None if str(e) else "an error without a word"
    except Exception as e: fault = f"{type(e).__name__}: {e}"
    if any(not torch.equal(torch.nan_to_num(v.detach()), torch.nan_to_num(old)) for v,
           old in own): fault = "an input was changed"
    return what, fault


def examples(f, draws, n)->list: # n of (what was tried, what was wrong)
    found, quiet = [], list(HealthCheck)

    @settings(max_examples=n, database=None, deadline=None, derandomize=True, suppress_health_check=quiet)
    @given(st.data())
    def run(data): found.append(tried(f, draws, data))
    run()
    return found


@case(kind=18)
def every_public_function_is_tried(folder, n):
    for name, f in public(): yield name, None if f in RECIPES else "no recipe in properties.py"


@case(kind=18, few=150, many=2800)
def any_input(folder, n):
    each = max(1, math.ceil(n/len(RECIPES)))
    for f, draws in RECIPES.items():
        for what, fault in examples(f, draws, each): yield f"{f.__qualname__}({what})", fault
