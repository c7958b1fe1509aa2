"Schedulers: inside diffusers' pipelines, against diffusers' own, saved and loaded both ways."
import inspect

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel

from slowddim.ddim import ddim_sample
from slowddim.oracle import CallCounter, GaussianOracle, MixtureOracle, gaussian_flow
from slowddim.pretrained import load_pretrained, save_pretrained
from slowddim.schedule import cosine_schedule, from_betas, linear_schedule, sigmoid_schedule, zero_terminal_snr
from slowddim.schedulers import DDIMOutput, DiffusersStyleDDIM, DiffusersStyleDDPM, diffusers_sample
from slowddim.unet import UNet

PAPER_EXACT = dict(clip_sample=False, set_alpha_to_one=True, steps_offset=0, prediction_type="epsilon",
                   thresholding=False)


class GaussianUNet(UNet):
    "A pipeline's `unet` whose samples are Gaussian with mean -0.1 and deviation 0.2: never saturated."

    def forward(self, sample, timestep, return_dict=True):
        t = torch.as_tensor(timestep).reshape(-1).expand(len(sample))
        eps = GaussianOracle(linear_schedule(), -0.1, 0.2)(sample, t)
        return type("Output", (), dict(sample=eps))() if return_dict else (eps,)


@pytest.fixture(scope="module")
def unet(): return GaussianUNet(sample_size=8, widths=(32, 32), patch_size=1)


def images(pipeline, S, **kwargs):
    pipeline.set_progress_bar_config(disable=True)
    return torch.tensor(pipeline(batch_size=3, generator=torch.Generator().manual_seed(0), num_inference_steps=S,
                                 output_type="np", **kwargs).images)


@pytest.mark.parametrize("S", [10, 50, 1000])
@pytest.mark.parametrize("eta", [0., 1.])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_pipeline(unet, S, eta, spacing):
    pipeline = DDIMPipeline(unet, DDIMScheduler(timestep_spacing=spacing, **PAPER_EXACT))
    theirs = images(pipeline, S, eta=eta)
    pipeline.scheduler = DiffusersStyleDDIM(spacing=spacing)
    ours = images(pipeline, S, eta=eta)
    assert type(pipeline.scheduler) is DiffusersStyleDDIM
    assert 0.02 < theirs.min() and theirs.max() < 0.98 and theirs.std() > 0.04 # nothing hides behind the clamp
    assert (ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("S", [10, 50, 1000])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddpm_pipeline(unet, S, spacing):
    theirs = images(DDPMPipeline(unet, DDPMScheduler(timestep_spacing=spacing, clip_sample=False)), S)
    pipeline = DDPMPipeline(unet, DiffusersStyleDDPM(spacing=spacing))
    assert type(pipeline.scheduler) is DiffusersStyleDDPM # this constructor keeps what it is given
    assert (images(pipeline, S) - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("settings", [
    {}, dict(spacing="leading"), dict(beta_max=0.01), dict(schedule=cosine_schedule(400), spacing="leading"),
    dict(schedule=from_betas(torch.linspace(0.01, 0.14, 1000)**2))]) # the last has no name in diffusers
def test_what_the_ddim_pipelines_constructor_puts_in_our_place_means_the_same(unet, settings):
    pipeline = DDIMPipeline(unet, DiffusersStyleDDIM(**settings))
    assert type(pipeline.scheduler) is DDIMScheduler
    replaced = images(pipeline, 10)
    pipeline.scheduler = DiffusersStyleDDIM(**settings)
    assert (images(pipeline, 10) - replaced).abs().max() < 1e-5


@pytest.mark.parametrize("pipeline_class, scheduler_class", [(DDIMPipeline, DiffusersStyleDDIM),
                                                             (DDPMPipeline, DiffusersStyleDDPM)])
def test_the_scheduler_that_is_set_is_the_one_that_runs(unet, pipeline_class, scheduler_class):
    class Loud(scheduler_class):
        def step(self, *args, **kwargs): raise RuntimeError("ours was called")

    pipeline = pipeline_class(unet, DDIMScheduler())
    pipeline.scheduler = Loud()
    with pytest.raises(RuntimeError, match="ours was called"): images(pipeline, 5)


@pytest.mark.parametrize("prediction, theirs_type", [("x_0", "sample"), ("v", "v_prediction")])
@pytest.mark.parametrize("eta", [0., 1.])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_other_predictions_and_zero_signal(prediction, theirs_type, eta, zero_snr):
    config = PAPER_EXACT | dict(prediction_type=theirs_type, rescale_betas_zero_snr=zero_snr,
                                timestep_spacing="trailing")
    theirs = DDIMScheduler(**config)
    ours = DiffusersStyleDDIM(prediction=prediction, rescale_zero_snr=zero_snr)
    assert ours.to_diffusers().config.rescale_betas_zero_snr == zero_snr
    x = y = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    g, out = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    for s in (theirs, ours): s.set_timesteps(20)
    for t in ours.timesteps:
        pred, z = (torch.randn(x.shape, generator=k)*0.5 for k in (out, g))
        x = theirs.step(pred, t, x, eta=eta, variance_noise=z).prev_sample
        step = ours.step(pred, t, y, eta=eta, variance_noise=z)
        y = step.prev_sample
        assert y.isfinite().all() and (x - y).abs().max() < 2e-5


def test_zero_signal_refuses_eps_when_built():
    for kwargs in (dict(rescale_zero_snr=True), dict(schedule=zero_terminal_snr(cosine_schedule()))):
        with pytest.raises(ValueError, match="no signal is left"): DiffusersStyleDDIM(**kwargs)
    with pytest.raises(ValueError, match="no signal is left"):
        ddim_sample(lambda x, t: x, torch.randn(1, 1, 2, 2), zero_terminal_snr(linear_schedule()), 10)
    theirs = DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    with pytest.raises(ValueError, match="no signal is left"): DiffusersStyleDDIM.from_config(theirs.config)


@pytest.mark.parametrize("ours, theirs", [
    (DiffusersStyleDDIM(clip=0.4, spacing="leading"),
     DDIMScheduler(clip_sample=True, clip_sample_range=0.4)),
    (DiffusersStyleDDPM(clip=0.4, spacing="leading"),
     DDPMScheduler(clip_sample=True, clip_sample_range=0.4)),
    (DiffusersStyleDDPM(variance="hat", spacing="leading"),
     DDPMScheduler(clip_sample=False, variance_type="fixed_large"))])
def test_clipping_derives_eps_again_and_hat_is_fixed_large(ours, theirs, schedule):
    "DDPM's posterior mean uses the clipped x_0 and x_t, which is eps derived again; DDIM's does when asked to."
    model = MixtureOracle(schedule, [[[[-0.6]*2]*2], [[[0.7]*2]*2]], 0.2)
    x_T = torch.randn(8, 1, 2, 2, generator=torch.Generator().manual_seed(0))

    def path(sched, **kwargs):
        sched.set_timesteps(20)
        x, g, xs = x_T, torch.Generator().manual_seed(1), []
        for t in sched.timesteps:
            x = sched.step(model(x, t.expand(8)), t, x, generator=g, **kwargs).prev_sample
            xs.append(x)
        return torch.stack(xs)
    again = dict(use_clipped_model_output=True) if isinstance(theirs, DDIMScheduler) else {}
    assert (path(ours) - path(theirs, **again)).abs().max() < 2e-5
    if again: assert (path(ours) - path(theirs)).abs().max() > 0.01 # without it theirs is another sampler
    if ours.clip: assert path(ours)[-1].abs().max() <= 0.4 + 1e-6


def test_what_a_ddpm_folder_means_to_ddim(tmp_path):
    "variance_type is DDPM's word: diffusers' DDIM does not read it, and neither does ours."
    for kind in ("fixed_large", "learned_range"):
        DDPMScheduler(variance_type=kind).save_pretrained(tmp_path)
        assert DiffusersStyleDDIM.from_pretrained(tmp_path).variance == "posterior"
    with pytest.raises(ValueError, match="learned_range"): DiffusersStyleDDPM.from_pretrained(tmp_path)


def test_a_description_that_somebody_changed_since_is_not_believed(tmp_path):
    ours = DiffusersStyleDDIM(schedule=sigmoid_schedule())
    theirs = DDIMScheduler.from_config(ours.config, trained_betas=None, beta_schedule="linear", beta_end=0.01,
                                       beta_start=1e-4)
    theirs.save_pretrained(tmp_path)
    for back in (DiffusersStyleDDIM.from_config(theirs.config), DiffusersStyleDDIM.from_pretrained(tmp_path)):
        assert back.schedule == linear_schedule(beta_max=0.01)
    v = DiffusersStyleDDIM(schedule=sigmoid_schedule(), prediction="v")
    assert DiffusersStyleDDIM.from_config(v.config, rescale_betas_zero_snr=True).schedule.at(999) == 0
    with pytest.raises(ValueError, match="num_train_timesteps"):
        DiffusersStyleDDIM.from_config(v.config, num_train_timesteps=500)
    with pytest.raises(ValueError, match="no equivalent"):
        DiffusersStyleDDIM.from_config(dict(shift=1.0, num_train_timesteps=1000))


def test_old_names_of_attention_weights_open(tmp_path, schedule):
    from safetensors.torch import load_file, save_file
    torch.manual_seed(0)
    unet = UNet2DModel(sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8, 16),
                       norm_num_groups=4, attention_head_dim=4, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                       up_block_types=("AttnUpBlock2D", "UpBlock2D")).eval()
    unet.save_pretrained(tmp_path)
    file, old = tmp_path/"diffusion_pytorch_model.safetensors", {"to_q": "query", "to_k": "key", "to_v": "value",
                                                                 "to_out.0": "proj_attn"}
    tensors = {}
    for name, v in load_file(file).items():
        for new, before in old.items(): name = name.replace(f".{new}.", f".{before}.")
        tensors[name] = v
    save_file(tensors, file, metadata=dict(format="pt"))
    model, x = load_pretrained(str(tmp_path), schedule=schedule)[0], torch.randn(2, 1, 8, 8)
    assert any(".query." in name for name in tensors) and torch.equal(model(x, 3).sample, unet(x, 3).sample)


def test_ddpm_refuses_another_eta_and_one_time_serves_all(schedule):
    x = torch.randn(4, 1, 3, 3)
    with pytest.raises(ValueError, match="DDIM with eta = 1"): DiffusersStyleDDPM().step(x, 999, x, eta=0.)
    DiffusersStyleDDPM().step(x, 999, x, eta=1.)
    one, four = (DiffusersStyleDDIM().add_noise(x, x, t) for t in (torch.tensor([500]), torch.tensor([500]*4)))
    assert torch.equal(one, four)
    with pytest.raises(ValueError, match="use_clipped_model_output"): DiffusersStyleDDIM(clip=1.).to_diffusers()
    with pytest.raises(ValueError, match="linspace"): DiffusersStyleDDIM(spacing="linspace").to_diffusers()


@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 0.02), (torch.bfloat16, 0.12)])
def test_half_precision_images_do_not_lose_the_step(schedule, dtype, tolerance):
    oracle, x_T = GaussianOracle(schedule, -0.1, 0.2), torch.randn(256, 1, 2, 2,
                                                                   generator=torch.Generator().manual_seed(0))
    exact, half = (ddim_sample(oracle, x_T.to(d), schedule, 1000) for d in (torch.float64, dtype))
    assert half.dtype == dtype and (half.double() - exact).square().mean().sqrt() < tolerance
    model = UNet(sample_size=8, widths=(32,), patch_size=2).to(dtype).eval()
    sched = DiffusersStyleDDIM()
    sched.set_timesteps(3)
    x = diffusers_sample(sched, (2, 1, 8, 8), model=model, seed=0, progress=False)
    assert x.dtype == torch.float32 and x.isfinite().all()


@pytest.mark.parametrize("S, spacing", [(300, "linspace"), (300, "trailing"), (366, "trailing"), (600, "linspace")])
def test_closer_to_the_exact_solution_where_theirs_takes_the_wrong_previous_time(schedule, S, spacing):
    oracle = GaussianOracle(schedule, mean=0.3, std=0.25)
    x_T = torch.randn(512, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    error = {}
    for s in (DDIMScheduler(timestep_spacing=spacing, **PAPER_EXACT), DiffusersStyleDDIM(spacing=spacing)):
        s.set_timesteps(S)
        x = x_T
        for t in s.timesteps: x = s.step(oracle(x, t.expand(len(x))), t, x).prev_sample
        error[type(s)] = (x - gaussian_flow(oracle, x_T, 999)).square().mean().sqrt().item()
    if (S, spacing) == (300, "linspace"):
        assert error[DDIMScheduler] == pytest.approx(0.036, rel=0.05)
        assert error[DiffusersStyleDDIM] == pytest.approx(0.0046, rel=0.05)
    assert error[DDIMScheduler] > 7*error[DiffusersStyleDDIM]


# what a scheduler is told to skip, six ways that mean the same
@pytest.mark.parametrize("T", [1000, 999, 100])
def test_every_form_of_skip_steps_gives_the_same_images(T):
    sched = DiffusersStyleDDIM(n_steps=T, eta=0.)
    ts = list(sched.timesteps)
    as_list = [t for t in ts[1:] if int(t) % 10 and int(t) >= 20]
    forms = dict(tensors=as_list, set_of_tensors=set(as_list), ints=[int(t) for t in as_list],
                 set_of_ints={int(t) for t in as_list},
                 tensor=torch.stack(as_list), function=lambda t: t % 10 != 0 and t >= 20)
    results = {}
    for name, skip in forms.items():
        model = CallCounter(GaussianOracle(sched, -0.2, 0.5))
        results[name] = diffusers_sample(sched, (2, 1, 2, 2), skip, model=model, seed=0, progress=False)
        assert model.n_calls == T - len(as_list), name
    assert all(torch.equal(x, results["ints"]) for x in results.values())


@pytest.mark.parametrize("T", [1000, 999, 100])
def test_a_slice_skips_by_position_and_equals_all_other_forms(T):
    sched = DiffusersStyleDDIM(n_steps=T)
    second = list(sched.timesteps)[1::2]
    images = []
    for skip in (slice(1, None, 2), second, set(second), torch.stack(second), lambda t: (T - 1 - t) % 2 == 1):
        model = CallCounter(GaussianOracle(sched))
        images.append(diffusers_sample(sched, (2, 1, 2, 2), skip, model=model, seed=0, progress=False))
        assert model.n_calls == T - len(second)
    assert all(torch.equal(x, images[0]) for x in images)


@pytest.mark.parametrize("T, taus, "
                         "calls", [(1000, None, 367), (1000, range(999, 0, -1), 366), (999, None, None),
                                   (100, None, None)])
def test_number_of_model_calls(T, taus, calls):
    sched = DiffusersStyleDDIM(n_steps=T)
    if taus: sched.set_timesteps(list(taus))
    model = CallCounter(GaussianOracle(sched))
    x = diffusers_sample(sched, (1, 1, 2, 2), "thirds", model=model, seed=0, progress=False)
    visited = sched.timesteps.tolist()
    expected = sum(i == 0 or t % 3 == 0 or t < 50 for i, t in enumerate(visited))
    assert model.n_calls == expected == (calls or expected) and x.isfinite().all()


def test_theirs_in_our_loop(unet, schedule):
    for cls, kwargs in ((DDIMScheduler, dict(eta=1.)), (DDPMScheduler, {})):
        sched = cls(clip_sample=False)
        sched.set_timesteps(20)
        x = diffusers_sample(sched, (2, 1, 8, 8), model=unet, seed=0, progress=False, **kwargs)
        assert x.shape == (2, 1, 8, 8) and x.isfinite().all()
        again = diffusers_sample(sched, (2, 1, 8, 8), model=unet, seed=0, progress=False, **kwargs)
        assert torch.equal(x, again) and not torch.equal(x, diffusers_sample(sched, (2, 1, 8, 8), model=unet, seed=1,
                                                                             progress=False, **kwargs))


def state_equal(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def tiny_unet():
    torch.manual_seed(0)
    return UNet(sample_size=8, widths=(32, 32), patch_size=1).eval()


def tiny_unet2d():
    torch.manual_seed(0)
    return UNet2DModel(sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8, 16),
                       norm_num_groups=4, down_block_types=("DownBlock2D", "DownBlock2D"),
                       up_block_types=("UpBlock2D", "UpBlock2D")).eval()


@pytest.mark.parametrize("make", [tiny_unet, tiny_unet2d])
@pytest.mark.parametrize("pipeline_class, scheduler", [(DDPMPipeline, DiffusersStyleDDPM(beta_max=0.01)),
                                                       (DDPMPipeline, DDPMScheduler(beta_end=0.01)),
                                                       (DDIMPipeline, DiffusersStyleDDIM(beta_max=0.01))])
def test_through_a_pipeline_folder_and_back(make, pipeline_class, scheduler, tmp_path):
    unet, x = make(), torch.randn(2, 1, 8, 8)
    pipeline = pipeline_class(unet, scheduler)
    if pipeline_class is DDIMPipeline: pipeline.scheduler = scheduler
    pipeline.save_pretrained(tmp_path)
    back = pipeline_class.from_pretrained(tmp_path)
    assert type(back.unet) is type(unet) and state_equal(back.unet, unet)
    assert type(back.scheduler) is (DDIMScheduler if pipeline_class is DDIMPipeline else type(scheduler))
    ours, schedule = load_pretrained(str(tmp_path))
    assert schedule == linear_schedule(beta_max=0.01) and torch.equal(ours(x, 5).sample, unet(x, 5).sample)


@pytest.mark.parametrize("make", [tiny_unet, tiny_unet2d])
def test_models_both_ways(make, tmp_path, schedule):
    unet, x = make(), torch.randn(2, 1, 8, 8)
    save_pretrained(unet, schedule, tmp_path/"ours", dtype=None)
    assert state_equal(type(unet).from_pretrained(tmp_path/"ours"), unet)
    unet.save_pretrained(tmp_path/"theirs")
    model, _ = load_pretrained(str(tmp_path/"theirs"), schedule=schedule)
    assert torch.equal(model(x, 7).sample, unet(x, 7).sample)
    assert ddim_sample(model, x, schedule, 5).shape == x.shape
    with pytest.raises(FileNotFoundError, match="pass schedule="): load_pretrained(str(tmp_path/"theirs"))


def run(sched):
    sched.set_timesteps(12)
    model = GaussianOracle(linear_schedule(), 0.1, 0.4)
    return diffusers_sample(sched, (2, 1, 3, 3), model=model, seed=3, progress=False)


@pytest.mark.parametrize("ours", [
    DiffusersStyleDDIM(), DiffusersStyleDDIM(eta=0.3, spacing="quadratic", clip=2.), DiffusersStyleDDIM(variance="hat"),
    DiffusersStyleDDIM(schedule=sigmoid_schedule()), DiffusersStyleDDPM(schedule=cosine_schedule(), variance="hat"),
    DiffusersStyleDDIM(prediction="v", rescale_zero_snr=True),
    DiffusersStyleDDIM(schedule=zero_terminal_snr(sigmoid_schedule(1000)), prediction="x_0")])
def test_our_schedulers_survive_saving_bit_for_bit(ours, tmp_path):
    ours.save_pretrained(tmp_path)
    back = type(ours).from_pretrained(tmp_path)
    assert repr(back) == repr(ours) and torch.equal(back.schedule.alpha_bar, ours.schedule.alpha_bar)
    assert torch.equal(run(back), run(ours))


@pytest.mark.parametrize("theirs", [DDIMScheduler(clip_sample=False),
                                    DDIMScheduler(timestep_spacing="trailing", beta_end=0.01),
                                    DDIMScheduler(beta_schedule="squaredcos_cap_v2"),
                                    DDPMScheduler(variance_type="fixed_large", beta_schedule="scaled_linear")])
def test_their_schedulers_survive_ours_bit_for_bit(theirs, tmp_path):
    ours_class = DiffusersStyleDDIM if isinstance(theirs, DDIMScheduler) else DiffusersStyleDDPM
    theirs.save_pretrained(tmp_path/"a")
    ours = ours_class.from_pretrained(tmp_path/"a")
    ours.save_pretrained(tmp_path/"b")
    assert torch.equal(run(type(theirs).from_pretrained(tmp_path/"b")), run(theirs))
    assert torch.equal(run(type(theirs).from_config(ours.config)), run(theirs))
    if not ours.clip: assert torch.equal(run(ours.to_diffusers()), run(theirs))


def test_from_config_overrides_and_refuses():
    theirs = DDIMScheduler(clip_sample=False)
    assert DiffusersStyleDDIM.from_config(theirs.config, timestep_spacing="linspace", eta=0.5).eta == 0.5
    assert DiffusersStyleDDIM.from_config(theirs.config, beta_end=0.01).schedule == linear_schedule(beta_max=0.01)
    for kwargs in (dict(nonsense=1), dict(prediction_type="flow"), dict(timestep_spacing="karras")):
        with pytest.raises(ValueError): DiffusersStyleDDIM.from_config(theirs.config, **kwargs)
    for config in (dict(steps_offset=1), dict(set_alpha_to_one=False), dict(thresholding=True),
                   dict(beta_schedule="jsd"),
                   dict(variance_type="learned")):
        with pytest.raises(ValueError): DiffusersStyleDDIM.from_config(config)
    for ours in (DiffusersStyleDDIM(spacing="quadratic"), DiffusersStyleDDIM(eta=0.1),
                 DiffusersStyleDDIM(variance="hat"),
                 DiffusersStyleDDPM(spacing="quadratic")):
        with pytest.raises(ValueError, match="has no equivalent of"): ours.to_diffusers()


def test_interface():
    sched, x = DiffusersStyleDDIM(η=0.2, βmin=1e-4, βmax=0.01), torch.randn(2, 1, 4, 4)
    assert len(sched) == 1000 and sched.order == 1 and sched.init_noise_sigma == 1 and "eta=0.2" in repr(sched)
    assert sched.scale_model_input(x, 3) is x
    out = sched.step(x, 999, x, generator=[torch.Generator().manual_seed(i) for i in range(2)])
    assert isinstance(out, DDIMOutput) and torch.equal(out[0],
                                                       out.prev_sample) and torch.equal(out["pred_original_sample"],
                                                                                        out[1])
    pair = sched.step(x, torch.tensor(999), x, eta=0., return_dict=False)
    assert isinstance(pair, tuple) and len(pair) == 2
    sched.set_timesteps(timesteps=torch.tensor([500, 3]), device="cpu")
    assert sched.timesteps.tolist() == [500, 3] and sched.num_inference_steps == 2
    names = list(inspect.signature(sched.step).parameters)
    assert names == ["model_output", "timestep", "sample", "eta", "use_clipped_model_output", "generator",
                     "variance_noise", "return_dict"]


@pytest.mark.parametrize("call, message", [
    (lambda s, x: s.step(x, 998.5, x), "t must be an integer"),
    (lambda s, x: s.step(x, 1000, x), "not one of the 1000 visited"),
    (lambda s, x: s.step(x[:1], 999, x), "same shape"),
    (lambda s, x: s.step(x, 999, x, eta=5.), "eta must be in"),
    (lambda s, x: s.step(x, 999, x, eta=1., generator=torch.Generator(), variance_noise=x), "not both"),
    (lambda s, x: s.set_timesteps(0), r"\[1, 1000\]"),
    (lambda s, x: s.set_timesteps(), "one of them"),
    (lambda s, x: s.set_timesteps(5, timesteps=[3]), "one of them"),
    (lambda s, x: DiffusersStyleDDIM(eta=-1), "eta must be"),
    (lambda s, x: DiffusersStyleDDIM(spacing="karras"), "'trailing'"),
    (lambda s, x: DiffusersStyleDDIM(prediction="score"), "'v'"),
    (lambda s, x: DiffusersStyleDDIM(variance="learned"), "'hat'"),
    (lambda s, x: DiffusersStyleDDIM(clip=(0, 1)), "clips to"),
    (lambda s, x: diffusers_sample(s, (1, 1, 2, 2), [5, 1000], model=GaussianOracle(s)), "not visited"),
    (lambda s, x: diffusers_sample(s, (1, 0, 2, 2), model=GaussianOracle(s)), "sz must be at least 1"),
    (lambda s, x: diffusers_sample(DiffusersStyleDDIM(prediction="v"), (1, 1, 2, 2), "thirds", model=GaussianOracle(s)),
     "uses noise again"),
    (lambda s, x: diffusers_sample(DDPMScheduler(), (1, 1, 2, 2), model=GaussianOracle(s), eta=0.5), "takes no eta")])
def test_bad_input(call, message):
    with pytest.raises((ValueError, TypeError), match=message): call(DiffusersStyleDDIM(), torch.zeros(2, 1, 2, 2))


def test_overriding_a_formula_is_refused_where_betas_are_listed():
    listed = DiffusersStyleDDIM(schedule=from_betas([0.1, 0.2, 0.3])).config
    with pytest.raises(ValueError, match="beta_end would change nothing"):
        DiffusersStyleDDIM.from_config(listed, beta_end=0.5)
    plain = DiffusersStyleDDIM.from_config(DiffusersStyleDDIM().config, beta_end=0.01)
    assert plain.schedule.beta[-1] == pytest.approx(0.01)
