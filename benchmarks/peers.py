"""Other libraries drive the same network: a small adapter for each, in its own conventions.

Whatever cannot be imported raises here, when a section builds it; the section records the reason and goes on.
"""
import copy
import importlib
import importlib.util
import inspect
import sys
import types

import torch
import torch.nn.functional as F
from diffusers import DDIMPipeline, DDIMScheduler, DDPMScheduler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from slowddim.core import model_shape
from slowddim.generate import iter_images, sample_images
from slowddim.interop import schedule_to_diffusers

BASE = "diffusers as documented"


def network(model): # `model(x, t)` -> tensor
    "Unwrap what a diffusers-style network returns."
    def run(x, t, *args, **kwargs): return model(x, t).sample
    return run


# -- ours ------------------------------------------------------------------------------------------------------------

def sampling_keywords()->set[str]:
    "Names that this version of `sample_images` takes; it hands some on to `iter_images`."
    return {name for f in (sample_images, iter_images) for name in inspect.signature(f).parameters}


def ours(model, # the network
         schedule, # its schedule
         n:int, # images
         steps:int, # times to visit
         mode:str="default", # "default" | "eager" (the default, not compiled) | "fp32" | "compiled"
         **kwargs # e.g. `solver`
        ): # a function without arguments that samples
    "Prepare our sampler: the one place that knows which keywords this version has."
    known = sampling_keywords()
    kwargs = dict(progress=False) | kwargs
    if mode in ("eager", "fp32") and "compile" in known: kwargs["compile"] = False
    if mode == "fp32": kwargs["precision"] = "fp32"
    if mode == "compiled": kwargs["compile"] = True
    return lambda: sample_images(model, schedule, n, steps, **kwargs)


# -- diffusers -------------------------------------------------------------------------------------------------------

def pipeline(model, # a network with `.config`, `.dtype` and an answer that has `.sample`
             schedule, # its schedule
             *, channels_last:bool=False, # its weights' memory layout
             bf16:bool=False, # weights in bfloat16
             compiled:bool=False # by `torch.compile`
            )->DDIMPipeline:
    "Build diffusers' pipeline around a copy of the network."
    model = copy.deepcopy(model).eval()
    if channels_last: model = model.to(memory_format=torch.channels_last)
    if bf16: model = model.to(torch.bfloat16)
    pipe = DDIMPipeline(model, DDIMScheduler(**schedule_to_diffusers_only(schedule)))
    if compiled: pipe.unet = torch.compile(pipe.unet, dynamic=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def schedule_to_diffusers_only(schedule)->dict: # without our private keys
    "Describe a schedule in the words of diffusers' schedulers."
    return {k: v for k, v in schedule_to_diffusers(schedule).items() if not k.startswith("_")}


def run_pipeline(pipe, n:int, steps:int): # -> a function that samples PIL images
    "Call a pipeline as its documentation does; weights in bfloat16 need float32 before NumPy, which it leaves out."
    if pipe.unet.dtype == torch.float32: return lambda: pipe(batch_size=n, num_inference_steps=steps).images

    def run():
        x = pipe(batch_size=n, num_inference_steps=steps, output_type="pt").images
        return pipe.numpy_to_pil(x.float().permute(0, 2, 3, 1).numpy())
    return run


# -- k-diffusion -----------------------------------------------------------------------------------------------------

def k_diffusion(): # its package, with `sampling` and `external` only
    "Open the samplers of k-diffusion without its training code, whose requirements are many."
    if "k_diffusion" not in sys.modules:
        spec = importlib.util.find_spec("k_diffusion")
        if spec is None: raise ModuleNotFoundError("No module named 'k_diffusion'")
        package = types.ModuleType("k_diffusion")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["k_diffusion"] = package
        try:
            for part in ("utils", "sampling", "external"): importlib.import_module(f"k_diffusion.{part}")
        except BaseException:
            del sys.modules["k_diffusion"]
            raise
    return sys.modules["k_diffusion"]


def run_k_diffusion(model, schedule, n:int, steps:int, sampler:str): # -> a function that samples
    "Drive the network by `sample_dpmpp_2m` or `sample_euler`, in k-diffusion's own variables."
    k = k_diffusion()
    denoiser = k.external.DiscreteEpsDDPMDenoiser(network(model), schedule.alpha_bar.float(), quantize=True)
    sample, shape = getattr(k.sampling, sampler), model_shape(model)
    sigmas = denoiser.get_sigmas(steps) # ends with 0

    @torch.inference_mode()
    def run(): return sample(denoiser, torch.randn(n, *shape)*sigmas[0], sigmas, disable=True)
    return run


# -- smalldiffusion --------------------------------------------------------------------------------------------------

def small_model(model, schedule): # noise from (x, sigma) with x = x_0 + sigma*eps, as its models have it
    "Wrap a network for smalldiffusion."
    mixin = importlib.import_module("smalldiffusion").ModelMixin

    class Wrapped(nn.Module, mixin):
        def __init__(self):
            super().__init__()
            self.net, self.input_dims = model, model_shape(model)
            self.register_buffer("sigmas", schedule.sigma.float())

        def forward(self, x, sigma, cond=None):
            t = torch.searchsorted(self.sigmas, sigma.reshape(-1).float()).clamp(max=len(self.sigmas) - 1)
            return self.net(x/(1 + sigma**2).sqrt(), t.expand(len(x))).sample
    return Wrapped()


def run_smalldiffusion(model, schedule, n:int, steps:int): # -> a function that samples
    "Drive the network by smalldiffusion's sampler with the settings of DDIM."
    small, wrapped = importlib.import_module("smalldiffusion"), small_model(model, schedule)
    sigmas = small.Schedule(schedule.sigma.float()).sample_sigmas(steps)

    def run():
        for x in small.samples(wrapped, sigmas, gam=1, mu=0, batchsize=n): last = x
        return last
    return run


# -- denoising-diffusion-pytorch -------------------------------------------------------------------------------------

def gaussian_diffusion(model, schedule, steps:int|None=None): # its `GaussianDiffusion` around the network
    "Wrap a network for denoising-diffusion-pytorch."
    library = importlib.import_module("denoising_diffusion_pytorch.denoising_diffusion_pytorch")
    if schedule.spec["kind"] != "linear": raise ValueError(f"no {schedule.spec['kind']} schedule there")

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.channels, self.out_dim = model, model.config.in_channels, model.config.in_channels
            self.self_condition = False

        def forward(self, x, t, x_self_cond=None): return self.net(x, t).sample
    return library.GaussianDiffusion(Wrapped(), image_size=model.config.sample_size, timesteps=schedule.n_steps,
                                     sampling_timesteps=steps, objective="pred_noise", beta_schedule="linear")


def run_denoising_diffusion(model, schedule, n:int, steps:int): # -> a function that samples
    "Drive the network by denoising-diffusion-pytorch's DDIM sampler."
    diffusion = gaussian_diffusion(model, schedule, steps).eval()
    return lambda: diffusion.sample(n)


# -- training loops --------------------------------------------------------------------------------------------------

def loader(images, # float (N, C, H, W)
           bs:int # images a step
          )->DataLoader: # batches from memory: the loops are compared, not the decoding of files
    "Hand out shuffled batches without end."
    return DataLoader(TensorDataset(images), batch_size=bs, shuffle=True, drop_last=True, collate_fn=_first)


def _first(items): return torch.stack([item[0] for item in items])


def diffusers_steps(model, images, schedule, bs:int): # yields after every optimiser step
    "The training loop of diffusers' unconditional example: AdamW, clipped gradients, a cosine rate with warm-up."
    from accelerate import Accelerator
    from diffusers.optimization import get_cosine_schedule_with_warmup
    accelerator = Accelerator()
    scheduler = DDPMScheduler(**schedule_to_diffusers_only(schedule))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    rate = get_cosine_schedule_with_warmup(optimizer, 500, 100_000)
    model, optimizer, batches, rate = accelerator.prepare(model, optimizer, loader(images, bs), rate)
    model.train()
    while True:
        for clean in batches:
            noise = torch.randn(clean.shape, device=clean.device)
            t = torch.randint(0, scheduler.config.num_train_timesteps, (len(clean),), device=clean.device).long()
            noisy = scheduler.add_noise(clean, noise, t)
            with accelerator.accumulate(model):
                loss = F.mse_loss(model(noisy, t).sample.float(), noise.float())
                accelerator.backward(loss)
                if accelerator.sync_gradients: accelerator.clip_grad_norm_(model.parameters(), 1.)
                optimizer.step()
                rate.step()
                optimizer.zero_grad()
            yield loss.detach().item()


def smalldiffusion_steps(model, images, schedule, bs:int): # yields once a step
    "smalldiffusion's own loop."
    small = importlib.import_module("smalldiffusion")
    yield from small.training_loop(loader(images, bs), small_model(model, schedule),
                                   small.Schedule(schedule.sigma.float()), lr=1e-4)


def denoising_diffusion_steps(model, images, schedule, bs:int): # yields after every optimiser step
    "The step of denoising-diffusion-pytorch's trainer: p_losses, clipped gradients, Adam, an average every ten steps."
    from accelerate import Accelerator
    diffusion = gaussian_diffusion(model, schedule)
    ema_pytorch = importlib.import_module("ema_pytorch")
    accelerator, optimizer = Accelerator(), torch.optim.Adam(diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
    average = ema_pytorch.EMA(diffusion, beta=0.995, update_every=10)
    diffusion, optimizer, batches = accelerator.prepare(diffusion, optimizer, loader((images + 1)/2, bs))
    diffusion.train()
    while True:
        for clean in batches:
            loss = diffusion(clean)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(diffusion.parameters(), 1.)
            optimizer.step()
            optimizer.zero_grad()
            average.update()
            yield loss.item()
