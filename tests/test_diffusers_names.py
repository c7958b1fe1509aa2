"""Under diffusers' names: what its own tests ask, its scripts and pipelines, and a configuration that is the truth.

Where the truths of this library differ from theirs (`DIFFERENT`), a test shows the difference.
"""
import copy
import inspect
import itertools
import pickle

import pytest
import torch
from diffusers import AutoencoderKL, DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler
from diffusers import DPMSolverMultistepScheduler, PNDMScheduler, UNet2DConditionModel, UNet2DModel
from diffusers.configuration_utils import FrozenDict
from diffusers.utils import is_transformers_available

from slowddim.oracle import GaussianOracle
from slowddim.schedule import cosine_schedule, linear_schedule, scaled_linear_schedule, sigmoid_beta_schedule
from slowddim.schedulers import DiffusersStyleDDIM, DiffusersStyleDDPM

BOTH = [(DiffusersStyleDDIM, DDIMScheduler), (DiffusersStyleDDPM, DDPMScheduler)]
STABLE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
              clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def seeded(i:int=0)->torch.Generator: return torch.Generator().manual_seed(i)


def images(*shape:int, seed:int=0)->torch.Tensor: return torch.randn(shape or (2, 3, 4, 4), generator=seeded(seed))


def network(x:torch.Tensor, t)->torch.Tensor:
    "Something that answers to image and time, neither noise nor image."
    return x*(int(t) + 1)/(int(t) + 2) + 0.3*x.roll(1, -1)


def again(theirs)->dict: # what diffusers' DDIM must be told to derive eps from a limited x_0
    return dict(use_clipped_model_output=True) if isinstance(theirs, DDIMScheduler) else {}


def trajectory(sched, x:torch.Tensor, n:int|None=None, **kwargs)->torch.Tensor:
    "All images on the way, by keyword names alone."
    if n is not None: sched.set_timesteps(num_inference_steps=n)
    g, xs = seeded(1), []
    for t in sched.timesteps:
        x = sched.step(model_output=network(x, t), timestep=t, sample=x, generator=g, **kwargs).prev_sample
        xs.append(x)
    return torch.stack(xs)


def gap(a:torch.Tensor, b:torch.Tensor)->float:
    "Largest difference, relative to the size of an image where that is above 1."
    assert a.shape == b.shape and a.isfinite().all() and b.isfinite().all()
    return ((a - b).abs()/b.abs().flatten(-3).amax(-1).clamp(min=1)[..., None, None, None]).max().item()


def same_step(a, b, **kwargs)->bool:
    x = images()
    return torch.equal(a.step(network(x, 5), int(a.timesteps[1]), x, generator=seeded(), **kwargs)[0],
                       b.step(network(x, 5), int(b.timesteps[1]), x, generator=seeded(), **kwargs)[0])


# constructors in their words

WORDS = [dict(num_train_timesteps=100), dict(num_train_timesteps=500, beta_start=0.0001, beta_end=0.002),
         dict(beta_schedule="scaled_linear", beta_start=0.001, beta_end=0.02), dict(beta_schedule="squaredcos_cap_v2"),
         dict(prediction_type="sample"), dict(prediction_type="v_prediction", clip_sample=False),
         dict(clip_sample=True, clip_sample_range=0.5), dict(timestep_spacing="trailing"), dict(steps_offset=1),
         dict(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"),
         dict(trained_betas=[0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1], num_train_timesteps=10),
         dict(thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=1.5)]


@pytest.mark.parametrize("words", WORDS, ids=str)
@pytest.mark.parametrize("ours_class, theirs_class", BOTH)
def test_the_same_words_mean_the_same(ours_class, theirs_class, words, tmp_path):
    ours, theirs = ours_class(**words), theirs_class(**words)
    for key, value in theirs.config.items():
        if not key.startswith("_"):
            assert ours.config[key] == (tuple(value) if isinstance(value, list) else value), key
    for table in ("alphas_cumprod", "alphas", "betas", "one", "final_alpha_cumprod"):
        if hasattr(theirs, table): assert (getattr(ours, table) - getattr(theirs, table)).abs().max() < 5e-6, table
    assert ours.timesteps.tolist() == theirs.timesteps.tolist() and len(ours) == len(theirs)
    assert gap(trajectory(ours, images(), 5), trajectory(theirs, images(), 5, **again(theirs))) < 1e-5
    ours.save_pretrained(tmp_path)
    back, theirs_back = ours_class.from_pretrained(tmp_path), theirs_class.from_pretrained(tmp_path)
    for sched in (back, ours_class.from_config(ours.config), ours_class.from_config(theirs.config),
                  ours_class(**theirs.config)):
        sched.set_timesteps(5)
        assert same_step(ours, sched) and repr(sched) == repr(ours)
    for key in theirs.config.keys() - {"trained_betas"}:
        assert key.startswith("_") or theirs_back.config[key] == theirs.config[key], key


def test_a_call_in_their_words_alone_has_their_defaults():
    for ours, theirs in ((DiffusersStyleDDIM(num_train_timesteps=1000), DDIMScheduler()),
                         (DiffusersStyleDDPM(1000, beta_schedule="squaredcos_cap_v2"),
                          DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")),
                         (DiffusersStyleDDIM(eta=0.5, beta_end=0.01), DDIMScheduler(beta_end=0.01))):
        assert {k: ours.config[k] for k in theirs.config if k[0] != "_"} == {k: v for k, v in theirs.config.items()
                                                                             if k[0] != "_"}
    mixed = DiffusersStyleDDIM(n_steps=500, beta_end=0.01)
    assert (mixed.spacing, mixed.clip, mixed.schedule) == ("trailing", None, linear_schedule(500, beta_max=0.01))
    assert DiffusersStyleDDIM(spacing="trailing", clip_sample_range=2.).clip == (-2., 2.)
    plain = DiffusersStyleDDIM()
    assert (plain.spacing, plain.clip) == ("trailing", None)


@pytest.mark.parametrize("words", [
    dict(n_steps=1000, num_train_timesteps=1000), dict(beta_min=1e-4, beta_start=1e-4), dict(βmax=0.02, beta_end=0.02),
    dict(spacing="leading", timestep_spacing="leading"), dict(variance="hat", variance_type="fixed_large"),
    dict(prediction="v", prediction_type="v_prediction"), dict(clip=None, clip_sample=False),
    dict(clip=1., clip_sample_range=1.), dict(clip=1., thresholding=True),
    dict(rescale_zero_snr=False, rescale_betas_zero_snr=False),
    dict(schedule=linear_schedule(), beta_schedule="linear"),
    dict(schedule=linear_schedule(), n_steps=1000), dict(schedule=linear_schedule(), num_train_timesteps=1000),
    dict(schedule=linear_schedule(), trained_betas=[0.1]), dict(beta_min=0.1, trained_betas=[0.1])], ids=str)
@pytest.mark.parametrize("make", [DiffusersStyleDDIM, DiffusersStyleDDPM])
def test_one_thing_said_twice_is_refused(make, words):
    with pytest.raises(TypeError, match="got both"): make(**words)


@pytest.mark.parametrize("make, words, error, message", [
    (DiffusersStyleDDIM, dict(beta_stop=1), TypeError, "beta_end"),
    (DiffusersStyleDDPM, dict(eta=0.), TypeError, "eta"),
    (DiffusersStyleDDPM, dict(set_alpha_to_one=False), ValueError, "clean"),
    (DiffusersStyleDDPM, dict(variance_type="learned_range"), ValueError, "learned_range"),
    (DiffusersStyleDDPM, dict(variance_type="fixed_large_log"), ValueError, "fixed_large_log"),
    (DiffusersStyleDDIM, dict(prediction_type="flow_prediction"), ValueError, "v_prediction"),
    (DiffusersStyleDDIM, dict(beta_schedule="laplace"), ValueError, "sigmoid"),
    (DiffusersStyleDDIM, dict(timestep_spacing="karras"), ValueError, "trailing"),
    (DiffusersStyleDDIM, dict(steps_offset=-1), ValueError, "steps_offset"),
    (DiffusersStyleDDIM, dict(steps_offset=0.5), TypeError, "steps_offset"),
    (DiffusersStyleDDIM, dict(clip_sample="yes"), ValueError, "clip_sample"),
    (DiffusersStyleDDIM, dict(clip_sample_range=0), ValueError, "clip"),
    (DiffusersStyleDDIM, dict(thresholding=None), ValueError, "thresholding"),
    (DiffusersStyleDDIM, dict(thresholding=True, dynamic_thresholding_ratio=1.5), ValueError, r"\[0, 1\]"),
    (DiffusersStyleDDIM, dict(thresholding=True, sample_max_value=0.5), ValueError, "sample_max_value"),
    (DiffusersStyleDDIM, dict(rescale_betas_zero_snr=True), ValueError, "no signal is left"),
    (DiffusersStyleDDIM, dict(trained_betas=[0.1, 0.2], num_train_timesteps=3), ValueError, "num_train_timesteps")],
    ids=str)
def test_what_has_no_meaning_is_refused(make, words, error, message):
    with pytest.raises(error, match=message): make(**words)


def test_sigmoid_betas(tmp_path):
    ours, theirs = (make(beta_schedule="sigmoid", beta_end=0.03) for make in (DiffusersStyleDDPM, DDPMScheduler))
    assert (ours.betas - theirs.betas).abs().max() < 1e-7 and ours.config.beta_schedule == "sigmoid"
    assert ours.schedule == sigmoid_beta_schedule(beta_max=0.03)
    assert DiffusersStyleDDIM.from_config(theirs.config).schedule == ours.schedule
    assert gap(trajectory(ours, images(), 10), trajectory(theirs, images(), 10)) < 1e-5
    known = DiffusersStyleDDIM(schedule=sigmoid_beta_schedule()) # their DDIM has no such word: it reads the betas
    assert (DDIMScheduler.from_config(known.config).betas - sigmoid_beta_schedule().beta).abs().max() < 1e-7
    known.save_pretrained(tmp_path)
    assert DiffusersStyleDDIM.from_pretrained(tmp_path).schedule == known.schedule


# what their own tests ask

@pytest.mark.parametrize("S, eta, words", [(10, 0., {}), (50, 0., {}), (10, 0.5, {}), (50, 1., {}),
                                           (10, 0., dict(prediction_type="v_prediction")),
                                           (10, 0., dict(set_alpha_to_one=False)), (500, 0., {}),
                                           (10, 0., dict(timestep_spacing="trailing")),
                                           (10, 0., dict(num_train_timesteps=100))])
def test_full_loops_of_ddim(S, eta, words):
    x, words = images(4, 3, 8, 8), dict(clip_sample=False, beta_start=0.0001, beta_end=0.02) | words
    ours, theirs = DiffusersStyleDDIM(**words), DDIMScheduler(**words)
    S = min(S, words.get("num_train_timesteps", S))
    assert gap(trajectory(ours, x, S, eta=eta), trajectory(theirs, x, S, eta=eta)) < 1e-5


@pytest.mark.parametrize("words", [dict(clip_sample=True), dict(clip_sample=False, prediction_type="v_prediction"),
                                   dict(variance_type="fixed_small_log"), dict(num_train_timesteps=200)])
def test_full_loops_of_ddpm_without_set_timesteps(words):
    x, ours, theirs = images(1, 1, 4, 4), DiffusersStyleDDPM(**words), DDPMScheduler(**words)
    assert gap(trajectory(ours, x), trajectory(theirs, x)) < 2e-4
    theirs.alphas_cumprod = ours.schedule.alpha_bar # what differs is their float32 table
    assert gap(trajectory(ours, x), trajectory(theirs, x)) < 1e-5


def test_loops_that_start_from_noised_images():
    "Noise is added at an inner time and the rest of the times visited, as image-to-image pipelines do."
    for ours_class, theirs_class in BOTH:
        results = []
        for make in (ours_class, theirs_class):
            sched = make(clip_sample=False, num_train_timesteps=1000)
            sched.set_timesteps(10)
            later = sched.timesteps[8*sched.order:]
            x = sched.add_noise(original_samples=images(), noise=images(seed=1), timesteps=later[:1])
            for t in later: x = sched.step(network(x, t), t, x, generator=seeded(3)).prev_sample
            results.append(x)
        assert gap(*results) < 1e-5


def test_variances():
    ddim, ddpm = DiffusersStyleDDIM(num_train_timesteps=1000), DiffusersStyleDDPM(num_train_timesteps=1000)
    for t, t_prev in ((0, 0), (420, 400), (980, 960), (487, 486), (999, 998), (30, -20)):
        expected = DDIMScheduler()._get_variance(t, t_prev)
        assert (ddim._get_variance(timestep=t, prev_timestep=t_prev) - expected).abs() < 1e-5
    for t in (0, 487, 999):
        for kind in ("fixed_small", "fixed_small_log", None):
            expected = DDPMScheduler()._get_variance(t, variance_type=kind)
            assert (ddpm._get_variance(t, variance_type=kind) - expected).abs() < 1e-5
    assert ddpm._get_variance(487, variance_type="fixed_large") == pytest.approx(
        DDPMScheduler()._get_variance(487, variance_type="fixed_large").item(), abs=1e-5)
    with pytest.raises(ValueError, match="learned"): ddpm._get_variance(3, variance_type="learned")


def test_custom_timesteps():
    for make in (DiffusersStyleDDIM, DiffusersStyleDDPM):
        sched, taus = make(num_train_timesteps=1000), [100, 87, 50, 1, 0]
        assert sched.custom_timesteps is False
        assert (sched.previous_timestep(999), sched.previous_timestep(0)) == (998, -1)
        sched.set_timesteps(timesteps=taus)
        assert sched.custom_timesteps is True and sched.timesteps.tolist() == taus
        for t, following in zip(taus, [*taus[1:], -1]):
            assert sched.previous_timestep(t) == following
            assert sched.previous_timestep(torch.tensor([t])).tolist() == [following]
        for wrong, message in (([100, 87, 50, 51, 0], "descending"), ([1000, 5], r"\[0, 999\]")):
            with pytest.raises(ValueError, match=message): sched.set_timesteps(timesteps=wrong)
        with pytest.raises(ValueError, match="one of them"):
            sched.set_timesteps(num_inference_steps=len(taus), timesteps=taus)
        with pytest.raises(ValueError, match="not one of"): sched.previous_timestep(77)
        sched.set_timesteps(4)
        assert sched.custom_timesteps is False and sched.num_inference_steps == 4


@pytest.mark.parametrize("make", [DiffusersStyleDDIM, DiffusersStyleDDPM])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_steps_keep_shape_and_type_and_have_two_forms(make, dtype):
    sched, x = make(num_train_timesteps=1000), images().to(dtype)
    sched.set_timesteps(50)
    for t in (sched.timesteps[0], sched.timesteps[3:4], int(sched.timesteps[25]), sched.timesteps[-1].to(torch.int32)):
        out = sched.step(0.1*x, t, x, generator=seeded())
        pair = sched.step(0.1*x, t, x, generator=seeded(), return_dict=False)
        assert out.prev_sample.shape == x.shape and out.prev_sample.dtype == dtype
        assert torch.equal(pair[0], out.prev_sample) and torch.equal(pair[1], out["pred_original_sample"])
    assert torch.equal(sched.scale_model_input(sample=x, timestep=5), x)
    assert sched.add_noise(x, x, torch.tensor([3, 7])).dtype == dtype
    assert sched.get_velocity(sample=x, noise=x, timesteps=torch.tensor([3, 7])).dtype == dtype
    assert isinstance(sched.init_noise_sigma, float) and sched.order == 1 and DDIMScheduler in sched.compatibles


def test_a_step_of_ddpm_takes_the_arguments_of_theirs_in_their_order():
    names = list(inspect.signature(DDPMScheduler.step).parameters)
    assert list(inspect.signature(DiffusersStyleDDPM.step).parameters)[:len(names)] == names
    x = images()
    a, b = (make(num_train_timesteps=1000).step(x, 500, x, seeded(), False)[0] for make in BOTH[1])
    assert (a - b).abs().max() < 1e-5


DIFFERENT = {
    "eps follows a clipped x_0": (dict(clip_sample=True), 10, {}),
    "the next time is the next listed one": (dict(clip_sample=False, timestep_spacing="linspace"), 10, {}),
    "also where S does not divide T": (dict(clip_sample=False, timestep_spacing="trailing"), 13, {}),
    "eps follows a thresholded x_0": (dict(thresholding=True), 10, {})}


@pytest.mark.parametrize("words, S, told", DIFFERENT.values(), ids=DIFFERENT)
def test_where_the_truths_differ(words, S, told):
    ours, theirs = trajectory(DiffusersStyleDDIM(**words), images(), S), trajectory(DDIMScheduler(**words), images(), S)
    assert gap(ours, theirs) > 1e-3


def test_before_set_timesteps_the_chain_is_the_full_one():
    x = images()
    with pytest.raises(ValueError, match="set_timesteps"): DDIMScheduler().step(x, 999, x)
    assert DiffusersStyleDDIM().step(x, 999, x).prev_sample.isfinite().all()


# dynamic thresholding

@pytest.mark.parametrize("ratio, largest", [(0.995, 1.), (0.9, 1.5), (0.5, 10.), (0.7, 2.)])
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("ours_class, theirs_class", BOTH)
def test_thresholding(ours_class, theirs_class, prediction_type, ratio, largest):
    words = dict(thresholding=True, dynamic_thresholding_ratio=ratio, sample_max_value=largest,
                 prediction_type=prediction_type)
    ours, theirs = ours_class(**words), theirs_class(**words)
    assert gap(trajectory(ours, 2*images(), 20), trajectory(theirs, 2*images(), 20, **again(theirs))) < 1e-5
    x = 3*images(seed=4)
    for t in ours.timesteps[[0, 9, -1]]:
        x_0 = [s.step(x, t, x).pred_original_sample for s in (ours, theirs)]
        assert (x_0[0] - x_0[1]).abs().max() < 1e-5 and x_0[0].abs().max() <= 1 + 1e-6
    half = [s.step(x.half(), t, x.half()).pred_original_sample for s in (ours, theirs)]
    assert half[0].dtype == torch.float16 and (half[0] - half[1]).abs().max() < 0.01
    if ours_class is DiffusersStyleDDIM:
        with pytest.raises(ValueError, match="thresholding=True"): ours.to_diffusers()
    else: assert gap(trajectory(ours.to_diffusers(), x, 5), trajectory(ours, x, 5)) < 1e-5


# the convention of latent diffusion

@pytest.mark.parametrize("S", [1, 5, 20, 50, 333, 501, 600, 999])
@pytest.mark.parametrize("to_one", [True, False])
@pytest.mark.parametrize("eta", [0., 1.])
def test_times_moved_by_one_are_theirs(S, to_one, eta):
    ours, theirs = (make(**STABLE | dict(set_alpha_to_one=to_one)) for make in BOTH[0])
    for sched in (ours, theirs): sched.set_timesteps(S)
    assert ours.timesteps.tolist() == theirs.timesteps.tolist()
    x, keep = images(), {0, S//2, S - 1}
    for i in keep:
        t = ours.timesteps[i]
        a, b = (s.step(network(x, t), t, x, eta=eta, variance_noise=images(seed=2)).prev_sample for s in (ours, theirs))
        assert gap(a, b) < 1e-5
    if S <= 50: assert gap(trajectory(ours, x), trajectory(theirs, x)) < 1e-5


@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_elsewhere_only_the_end_follows(spacing):
    ours = DiffusersStyleDDIM(**STABLE, timestep_spacing=spacing)
    plain = DiffusersStyleDDIM(**STABLE | dict(set_alpha_to_one=True, steps_offset=0), timestep_spacing=spacing)
    for sched in (ours, plain): sched.set_timesteps(7)
    assert ours.timesteps.tolist() == plain.timesteps.tolist()
    a, b = trajectory(ours, images()), trajectory(plain, images())
    assert torch.equal(a[:-1], b[:-1]) and not torch.equal(a[-1], b[-1])
    t, x = ours.timesteps[-1], images()
    first, ab = ours.schedule.at(0), ours.schedule.at(int(t))
    eps, x_0 = network(x, t), (x - (1 - ab)**0.5*network(x, t))/ab**0.5
    assert (ours.step(eps, t, x)[0] - first**0.5*x_0 - (1 - first)**0.5*eps).abs().max() < 1e-5
    ours.set_timesteps(timesteps=[700, 1]) # a list is taken as it stands
    assert ours.timesteps.tolist() == [700, 1]


def test_an_offset_that_leaves_the_table_is_refused():
    for make in (DiffusersStyleDDIM, DiffusersStyleDDPM):
        words = STABLE if make is DiffusersStyleDDIM else {k: v for k, v in STABLE.items() if k != "set_alpha_to_one"}
        sched = make(**words)
        sched.set_timesteps(20)
        with pytest.raises(ValueError, match="visit fewer"): sched.set_timesteps(1000)
        assert len(sched.timesteps) == 20
        with pytest.raises(ValueError, match="visit fewer"): sched.register_to_config(steps_offset=100)
        assert sched.config.steps_offset == 1 and same_step(sched, copy.deepcopy(sched))
    eta_2 = DiffusersStyleDDIM(**STABLE)
    eta_2.set_timesteps(5)
    with pytest.raises(ValueError, match="eta must be in"): eta_2.step(images(), 1, images(), eta=50.)


# configurations of others

FILES = [dict(_class_name="PNDMScheduler", _diffusers_version="0.6.0", beta_end=0.012, beta_schedule="scaled_linear",
              beta_start=0.00085, num_train_timesteps=1000, set_alpha_to_one=False, skip_prk_steps=True, steps_offset=1,
              trained_betas=None, clip_sample=False),
         dict(_class_name="DPMSolverMultistepScheduler", beta_schedule="linear", solver_order=2, steps_offset=1,
              algorithm_type="dpmsolver++", prediction_type="v_prediction", timestep_spacing="linspace",
              variance_type=None, thresholding=False, lambda_min_clipped=-5.1)]


@pytest.mark.parametrize("config", [
    *FILES, PNDMScheduler().config, PNDMScheduler.from_config(FILES[0]).config, DPMSolverMultistepScheduler().config,
    DPMSolverMultistepScheduler(thresholding=True, use_karras_sigmas=True, prediction_type="sample").config,
    DPMSolverMultistepScheduler(timestep_spacing="trailing").config], ids=lambda c: str(sorted(c))[:60])
@pytest.mark.parametrize("ours_class, theirs_class", BOTH)
def test_configurations_of_other_samplers_open(ours_class, theirs_class, config):
    ours, theirs = ours_class.from_config(config), theirs_class.from_config(config)
    assert {k: ours.config[k] for k in theirs.config if k[0] != "_"} == {k: v for k, v in theirs.config.items()
                                                                         if k[0] != "_"}
    for sched in (ours, theirs): sched.set_timesteps(8)
    if theirs.config.timestep_spacing == "leading" or ours_class is DiffusersStyleDDPM:
        assert ours.timesteps.tolist() == theirs.timesteps.tolist()
        assert gap(trajectory(ours, images()), trajectory(theirs, images(), **again(theirs))) < 1e-5
    back = PNDMScheduler.from_config(ours.config) # what ours has no use for is handed on
    assert back.config.skip_prk_steps == config.get("skip_prk_steps", False)


def test_a_changed_value_is_not_taken_for_a_default():
    changed = dict(PNDMScheduler().config) | dict(steps_offset=1, timestep_spacing="trailing")
    opened = DiffusersStyleDDIM.from_config(changed)
    assert (opened.config.steps_offset, opened.spacing, opened.config.set_alpha_to_one) == (1, "trailing", True)
    told = DiffusersStyleDDIM.from_config(PNDMScheduler().config, set_alpha_to_one=False)
    assert told.config.set_alpha_to_one is False
    with pytest.raises(ValueError, match="use_flow_sigmas"):
        DiffusersStyleDDIM.from_config(dict(DPMSolverMultistepScheduler().config) | dict(use_flow_sigmas=True))
    with pytest.raises(TypeError, match="must be a dict"): DiffusersStyleDDIM.from_config("folder")


def test_each_class_leaves_the_others_words_alone():
    stable = DiffusersStyleDDPM.from_config(dict(STABLE))
    assert stable.config.set_alpha_to_one is False # kept for their DDIM and ours; DDPM ends on the clean image
    assert DiffusersStyleDDIM.from_config(stable.config).config.set_alpha_to_one is False
    assert stable.final_alpha_cumprod == 1 and "set_alpha_to_one" not in repr(stable)
    learned = DiffusersStyleDDIM.from_config(DDPMScheduler(variance_type="learned_range").config)
    assert learned.variance == "posterior" and learned.config.variance_type == "learned_range"
    assert DiffusersStyleDDIM.from_config(DDPMScheduler().config, variance_type="fixed_large").variance == "hat"
    learned.register_to_config(prediction_type="sample")
    assert learned.prediction == "x_0"


# the configuration is the truth

CHANGES = [("prediction_type", "v_prediction", dict(prediction="v")),
           ("prediction_type", "sample", dict(prediction="x_0")),
           ("clip_sample", True, dict(clip=1.)), ("thresholding", True, dict(thresholding=True, spacing="trailing")),
           ("timestep_spacing", "leading", dict(spacing="leading")), ("beta_end", 0.01, dict(beta_max=0.01)),
           ("beta_schedule", "squaredcos_cap_v2", dict(schedule=cosine_schedule())),
           ("set_alpha_to_one", False, dict(set_alpha_to_one=False, spacing="trailing")),
           ("num_train_timesteps", 500, dict(n_steps=500)), ("variance_type", "fixed_large", dict(variance="hat"))]


@pytest.mark.parametrize("word, value, means", CHANGES, ids=str)
@pytest.mark.parametrize("set_before", [True, False])
def test_a_changed_configuration_is_obeyed(word, value, means, set_before):
    def registered(s): s.register_to_config(**{word: value})
    def replaced(s): s._internal_dict = FrozenDict(dict(s.config) | {word: value}) # as pipelines do
    def assigned(s): setattr(s, word, value)
    fresh = DiffusersStyleDDIM(**means)
    fresh.set_timesteps(10)
    for change in (registered, replaced, assigned):
        sched = DiffusersStyleDDIM()
        if set_before: sched.set_timesteps(10)
        sched.step(images(), int(sched.timesteps[0]), images()) # coefficients that must not be used again
        change(sched)
        if not set_before: sched.set_timesteps(10)
        assert sched.config[word] == value and repr(sched) == repr(fresh)
        assert torch.equal(trajectory(sched, images()), trajectory(fresh, images()))
        assert torch.equal(sched.alphas_cumprod, fresh.alphas_cumprod)


@pytest.mark.parametrize("name, value", [("prediction", "v"), ("clip", 0.5), ("spacing", "leading"), ("eta", 0.5),
                                         ("variance", "hat"), ("schedule", cosine_schedule(500))])
def test_our_names_may_be_assigned_too(name, value, tmp_path):
    sched, fresh = DiffusersStyleDDIM(), DiffusersStyleDDIM(**{name: value})
    sched.step(images(), 999, images())
    setattr(sched, name, value)
    assert repr(sched) == repr(fresh) and torch.equal(trajectory(sched, images(), 5), trajectory(fresh, images(), 5))
    sched.save_pretrained(tmp_path)
    assert repr(DiffusersStyleDDIM.from_pretrained(tmp_path)) == repr(DiffusersStyleDDIM(**{name: value}))


def write(s, name, i, v): getattr(s, name)[i] = v


@pytest.mark.parametrize("change, message", [
    (lambda s: s.register_to_config(prediction_type="velocity"), "v_prediction"),
    (lambda s: s.register_to_config(predicton_type="sample"), "unknown settings"),
    (lambda s: s.register_to_config(rescale_betas_zero_snr=True), "no signal"),
    (lambda s: s.register_to_config(trained_betas=[0.1, 0.2]), "num_train_timesteps"),
    (lambda s: s.register_to_config(num_train_timesteps=5), r"\[1, 5\]"),
    (lambda s: s.config.update(clip_sample=True), "update"),
    (lambda s: s.config.__setitem__("clip_sample", True), "register_to_config"),
    (lambda s: setattr(s.config, "prediction_type", "sample"), "register_to_config"),
    (lambda s: s.config.pop("clip_sample"), "pop"),
    (lambda s: setattr(s, "prediction", "score"), "'v'"), (lambda s: setattr(s, "clip", (0, 1)), "clips to"),
    (lambda s: setattr(s, "alphas_cumprod", s.alphas_cumprod.flip(0)), "decreasing"),
    (lambda s: setattr(s, "alphas_cumprod", torch.zeros(1000)), "decreasing"),
    (lambda s: setattr(s, "alphas_cumprod", torch.arange(1000)), "floating"),
    (lambda s: setattr(s, "betas", -s.betas), "must lie in"), (lambda s: setattr(s, "one", torch.tensor(0.9)), "one"),
    (lambda s: setattr(s, "final_alpha_cumprod", torch.tensor(0.5)), "alphas_cumprod"),
    (lambda s: setattr(s, "timesteps", [3, 4]), "descending"), (lambda s: setattr(s, "timesteps", [1000]), "999"),
    (lambda s: setattr(s, "timesteps", 7), "list"),
    (lambda s: setattr(s, "timesteps", s.timesteps.float()), "integer"),
    (lambda s: setattr(s, "num_inference_steps", 5), "set_timesteps")])
def test_a_refused_change_leaves_everything_as_it_was(change, message):
    sched, twin = DiffusersStyleDDIM(), DiffusersStyleDDIM()
    for s in (sched, twin): s.set_timesteps(10)
    with pytest.raises(Exception, match=message): change(sched)
    assert repr(sched) == repr(twin) and dict(sched.config) == dict(twin.config) and same_step(sched, twin)


TABLES = {
    "alphas_cumprod": lambda s, new: s.alphas_cumprod.copy_(new.alpha_bar),
    "alphas": lambda s, new: s.alphas.copy_(new.alpha),
    "betas": lambda s, new: s.betas.copy_(new.beta),
    "all": lambda s, new: [s.betas.copy_(new.beta), s.alphas.copy_(new.alpha), s.alphas_cumprod.copy_(new.alpha_bar)]}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("how", ["in place", "in inference mode", "assigned"])
def test_changed_tables_are_obeyed(name, how, tmp_path):
    new = linear_schedule(beta_max=0.01)
    sched, fresh = DiffusersStyleDDIM(), DiffusersStyleDDIM(schedule=new)
    for s in (sched, fresh): s.set_timesteps(10)
    sched.step(images(), 999, images())
    if how == "assigned":
        values = dict(alphas_cumprod=new.alpha_bar, alphas=new.alpha, betas=new.beta)
        for k in values if name == "all" else [name]: setattr(sched, k, values[k].float())
    else:
        with torch.inference_mode(how != "in place"): TABLES[name](sched, new)
    assert gap(trajectory(sched, images()), trajectory(fresh, images())) < 1e-4
    for table in ("alphas_cumprod", "alphas", "betas"):
        assert (getattr(sched, table) - getattr(fresh, table)).abs().max() < 1e-6
    assert (sched.add_noise(images(), images(seed=1), torch.tensor([500]))
            - fresh.add_noise(images(), images(seed=1), torch.tensor([500]))).abs().max() < 1e-5
    sched.save_pretrained(tmp_path)
    for back in (DiffusersStyleDDIM.from_pretrained(tmp_path), DDIMScheduler.from_pretrained(tmp_path)):
        assert (back.alphas_cumprod - fresh.alphas_cumprod).abs().max() < 1e-6


def test_tables_that_are_none_are_refused_at_the_step():
    x = images()
    for change, message in ((lambda s: write(s, "alphas_cumprod", 500, 0.9), "decreasing"),
                            (lambda s: write(s, "alphas_cumprod", 0, float("nan")), "must lie in"),
                            (lambda s: s.one.fill_(2.), "one must be 1"),
                            (lambda s: write(s, "timesteps", 0, 3), "descending"),
                            (lambda s: s.final_alpha_cumprod.zero_(), "final_alpha_cumprod"),
                            (lambda s: [s.betas.mul_(0.5), s.alphas_cumprod.mul_(0.99)], "contradict")):
        sched = DiffusersStyleDDIM()
        sched.set_timesteps(5)
        change(sched)
        for _ in range(2): # not only once
            with pytest.raises(ValueError, match=message): sched.step(x, 799, x)
    sched.alphas_cumprod = linear_schedule().alpha_bar # and may be mended
    assert sched.step(x, 799, x).prev_sample.isfinite().all()


def test_moving_tables_changes_no_number():
    sched, twin = DiffusersStyleDDIM(), DiffusersStyleDDIM()
    for dtype in (torch.float16, torch.float64, torch.float32):
        sched.alphas_cumprod = sched.alphas_cumprod.to("cpu", dtype)
        assert sched.alphas_cumprod.dtype == dtype and sched.schedule == twin.schedule and "linear" in repr(sched)
    assert torch.equal(sched.alphas_cumprod, twin.alphas_cumprod) and same_step(sched, twin)
    sched.timesteps, sched.num_inference_steps = sched.timesteps.clone(), None
    assert same_step(sched, twin) and sched.custom_timesteps is False
    sched.final_alpha_cumprod = sched.alphas_cumprod[0]
    assert sched.config.set_alpha_to_one is False


def test_times_that_are_written_are_visited():
    sched = DiffusersStyleDDIM()
    sched.set_timesteps(10)
    sched.timesteps[0] = 950
    fresh = DiffusersStyleDDIM()
    fresh.set_timesteps(timesteps=[950, *sched.timesteps[1:].tolist()])
    assert torch.equal(trajectory(sched, images()), trajectory(fresh, images()))
    sched.timesteps = sched.timesteps[5:]
    assert len(sched.timesteps) == 5 and sched.num_inference_steps == 10 # what set_timesteps was asked for
    fresh.set_timesteps(timesteps=sched.timesteps)
    assert torch.equal(trajectory(sched, images()), trajectory(fresh, images()))
    with torch.inference_mode(): sched.set_timesteps(10)
    assert sched.step(images(), 999, images()).prev_sample.isfinite().all()


def test_no_change_hides_another():
    half = DiffusersStyleDDIM(trained_betas=linear_schedule().beta/2).schedule.alpha_bar
    def times(s): s.timesteps[0] = 950
    def listed(s): s.timesteps = [950, *s.timesteps[1:].tolist()]
    def betas(s): s.betas.mul_(0.5)
    def assigned(s): s.betas = linear_schedule().beta/2
    def words(s): s.register_to_config(prediction_type="sample")
    for first, *rest in itertools.permutations((times, betas, words)):
        for changes in ((first, *rest), (first, *[{times: listed, betas: assigned}.get(c, c) for c in rest])):
            sched = DiffusersStyleDDIM()
            sched.set_timesteps(10)
            for change in changes: change(sched)
            assert sched.config.prediction_type == "sample" and sched.prediction == "x_0"
            assert (sched.schedule.alpha_bar - half).abs().max() < 1e-6 and sched.timesteps[0] == 950
            sched.step(images(), 950, images())


def test_what_is_saved_is_what_was_written(tmp_path):
    sched = DiffusersStyleDDIM()
    sched.alphas_cumprod.copy_(cosine_schedule().alpha_bar)
    sched.save_pretrained(tmp_path)
    assert (DDIMScheduler.from_pretrained(tmp_path).alphas_cumprod - cosine_schedule().alpha_bar).abs().max() < 1e-6
    sched.alphas_cumprod.numpy()[-1] = 1e-6 # past any counter: noticed at set_timesteps
    sched.set_timesteps(5)
    assert sched.schedule.at(999) == pytest.approx(1e-6)


def test_copies_are_apart():
    original = DiffusersStyleDDIM(**STABLE)
    original.set_timesteps(10)
    original.betas.mul_(0.5) # not noticed yet
    for twin in (copy.deepcopy(original), copy.copy(original), pickle.loads(pickle.dumps(original))):
        assert repr(twin) == repr(original) and same_step(twin, original)
        twin.betas.mul_(0.5)
        twin.timesteps[0] = 950
        twin.register_to_config(prediction_type="sample") # loses neither
        assert twin.timesteps[0] == 950 and original.timesteps[0] == 901
        assert twin.schedule != original.schedule and original.prediction == "eps" and twin.prediction == "x_0"


# pipelines and scripts

class GreyUNet(UNet2DModel):
    "A `unet` that predicts the noise in Gaussian images."

    def forward(self, sample, timestep, return_dict=True):
        t = torch.as_tensor(timestep).reshape(-1).expand(len(sample))
        eps = GaussianOracle(linear_schedule(), -0.1, 0.2)(sample, t)
        return type("Output", (), dict(sample=eps))() if return_dict else (eps,)


def tiny_unet(cls=UNet2DModel):
    torch.manual_seed(0)
    return cls(sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8, 16),
               norm_num_groups=4, down_block_types=("DownBlock2D", "DownBlock2D"),
               up_block_types=("UpBlock2D", "UpBlock2D"))


def sampled(pipeline, **kwargs):
    pipeline.set_progress_bar_config(disable=True)
    out = pipeline(batch_size=2, generator=seeded(), num_inference_steps=10, output_type="np", **kwargs)
    return torch.as_tensor(out.images)


def test_ddim_pipeline_passes_its_own_eta():
    pipeline = DDIMPipeline(tiny_unet(GreyUNet), DDIMScheduler())
    pipeline.scheduler = DiffusersStyleDDPM()
    with pytest.raises(ValueError, match="DDPMPipeline passes none"): sampled(pipeline)
    pipeline.scheduler = DiffusersStyleDDIM(eta=1.) # runs at the pipeline's eta, which is 0
    at_0 = sampled(pipeline)
    pipeline.scheduler = DiffusersStyleDDIM()
    assert torch.equal(at_0, sampled(pipeline)) and not torch.equal(at_0, sampled(pipeline, eta=1.))


def tiny_latent_diffusion():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, norm_num_groups=4,
                                block_out_channels=(8, 16), cross_attention_dim=16, attention_head_dim=4,
                                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
    vae = AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, sample_size=16,
                        down_block_types=("DownEncoderBlock2D",)*2, up_block_types=("UpDecoderBlock2D",)*2)
    return unet.eval(), vae.eval()


@torch.no_grad()
def text_to_image(unet, vae, scheduler, steps, scale=7.5, eta=0.): # as StableDiffusionPipeline reads its scheduler
    embeddings = torch.randn(2, 5, 16, generator=seeded(5))
    scheduler.set_timesteps(steps, device="cpu")
    latents, extra = torch.randn(1, 4, 8, 8, generator=seeded(6))*scheduler.init_noise_sigma, {}
    if "eta" in set(inspect.signature(scheduler.step).parameters): extra["eta"] = eta
    if "generator" in set(inspect.signature(scheduler.step).parameters): extra["generator"] = seeded(7)
    n_warmup = len(scheduler.timesteps) - steps*scheduler.order
    for t in scheduler.timesteps:
        both = scheduler.scale_model_input(torch.cat([latents]*2), t)
        blank, text = unet(both, t, encoder_hidden_states=embeddings, return_dict=False)[0].chunk(2)
        latents = scheduler.step(blank + scale*(text - blank), t, latents, **extra, return_dict=False)[0]
    assert n_warmup == 0
    return vae.decode(latents/vae.config.scaling_factor, return_dict=False)[0]


@pytest.mark.parametrize("ours_class, theirs_class", BOTH)
def test_a_latent_diffusion_loop(ours_class, theirs_class):
    unet, vae = tiny_latent_diffusion()
    ours, theirs = ours_class.from_config(FILES[0]), theirs_class.from_config(FILES[0])
    assert (text_to_image(unet, vae, ours, 10) - text_to_image(unet, vae, theirs, 10)).abs().max() < 1e-4


@pytest.mark.skipif(not is_transformers_available(), reason="needs transformers")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("ours_class, theirs_class", BOTH)
def test_stable_diffusion_pipeline(ours_class, theirs_class):
    from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel
    unet, vae = tiny_latent_diffusion()
    text = CLIPTextModel(CLIPTextConfig(vocab_size=50, hidden_size=16, intermediate_size=16, num_attention_heads=2,
                                        num_hidden_layers=1, max_position_embeddings=8)).eval()
    prompts = dict(prompt_embeds=images(1, 5, 16), negative_prompt_embeds=images(1, 5, 16, seed=1))
    for cls, start in ((StableDiffusionPipeline, {}),
                       (StableDiffusionImg2ImgPipeline, dict(image=torch.rand(1, 3, 16, 16)))):
        results = []
        for sched in (ours_class.from_config(FILES[0]), theirs_class.from_config(FILES[0]),
                      ours_class.from_config(FILES[0], steps_offset=0, clip_sample=True)): # which the constructor mends
            pipeline = cls(vae, text, None, unet, sched, None, None, requires_safety_checker=False)
            pipeline.set_progress_bar_config(disable=True)
            assert type(pipeline.scheduler) is type(sched) and sched.config.steps_offset == 1
            results.append(pipeline(**prompts, **start, num_inference_steps=10, generator=seeded(),
                                    output_type="pt").images)
        assert (results[0] - results[1]).abs().max() < 1e-4 and torch.equal(results[0], results[2])


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample"])
def test_the_unconditional_training_script(prediction_type, tmp_path):
    losses = []
    for make in BOTH[1]:
        DDPM, model = make, tiny_unet()
        noise_scheduler = DDPM(num_train_timesteps=1000, beta_schedule="linear", prediction_type=prediction_type)
        optimizer, g = torch.optim.AdamW(model.parameters(), lr=1e-3), seeded(3)
        for _ in range(4):
            clean, noise = torch.rand(4, 1, 8, 8, generator=g)*2 - 1, torch.randn(4, 1, 8, 8, generator=g)
            timesteps = torch.randint(0, noise_scheduler.config.num_train_timesteps, (4,), generator=g).long()
            out = model(noise_scheduler.add_noise(clean, noise, timesteps), timesteps).sample
            if prediction_type == "epsilon": loss = torch.nn.functional.mse_loss(out, noise)
            else: # weighted by the signal-to-noise ratio
                alpha_t = noise_scheduler.alphas_cumprod[timesteps].reshape(-1, 1, 1, 1)
                loss = (alpha_t/(1 - alpha_t)*(out - clean)**2).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        pipeline = DDPMPipeline(unet=model, scheduler=noise_scheduler)
        pipeline.save_pretrained(tmp_path/DDPM.__name__)
        losses.extend(sampled(DDPMPipeline.from_pretrained(tmp_path/DDPM.__name__)).flatten().tolist())
    half = len(losses)//2
    assert losses[:half] == pytest.approx(losses[half:], rel=1e-3, abs=1e-3)


class NullInversion:
    "Steps down and up by hand, as code for prompt-to-prompt editing reads them off a scheduler."

    def __init__(self, scheduler): self.scheduler = scheduler

    def stride(self): return self.scheduler.config.num_train_timesteps//self.scheduler.num_inference_steps

    def prev_step(self, eps, timestep, x):
        before = timestep - self.stride()
        ab = self.scheduler.alphas_cumprod[timestep]
        ab_prev = self.scheduler.alphas_cumprod[before] if before >= 0 else self.scheduler.final_alpha_cumprod
        x_0 = (x - (1 - ab)**0.5*eps)/ab**0.5
        return ab_prev**0.5*x_0 + (1 - ab_prev)**0.5*eps

    def next_step(self, eps, timestep, x):
        timestep, after = min(timestep - self.stride(), 999), timestep
        ab = self.scheduler.alphas_cumprod[timestep] if timestep >= 0 else self.scheduler.final_alpha_cumprod
        ab_next = self.scheduler.alphas_cumprod[after]
        x_0 = (x - (1 - ab)**0.5*eps)/ab**0.5
        return ab_next**0.5*x_0 + (1 - ab_next)**0.5*eps

    def loop(self, x):
        for i in range(len(self.scheduler.timesteps)):
            t = self.scheduler.timesteps[-i - 1]
            x = self.next_step(network(x, t), t, x)
        return x


def test_code_for_prompt_to_prompt():
    ends = []
    for make in BOTH[0]:
        scheduler = make(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                         set_alpha_to_one=False) # that code's own words
        scheduler.set_timesteps(50)
        by_hand = NullInversion(scheduler)
        latent = by_hand.loop(images(1, 4, 8, 8))
        x = latent
        for t in scheduler.timesteps:
            byhand = by_hand.prev_step(network(x, t), t, x)
            x = scheduler.step(network(x, t), t, x)["prev_sample"]
            assert gap(byhand, x) < 1e-5 # the step is the one its tables tell
        ends += [latent, x]
    assert gap(ends[0], ends[2]) < 1e-4 and gap(ends[1], ends[3]) < 1e-4
    assert scaled_linear_schedule(1000, 0.00085, 0.012).at(0) == pytest.approx(scheduler.final_alpha_cumprod.item())
