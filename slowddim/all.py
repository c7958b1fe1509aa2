"""Everything a lesson needs: `from slowddim.all import *`."""

from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from slowddim.core import *
from slowddim.files import *
from slowddim.processes import *
from slowddim.schedule import *
from slowddim.noising import *
from slowddim.oracle import *
from slowddim.steps import *
from slowddim.ddpm import *
from slowddim.ddim import *
from slowddim.ode import *
from slowddim.latent import *
from slowddim.guidance import *
from slowddim.learned import *
from slowddim.editing import *
from slowddim.data import *
from slowddim.viz import *
from slowddim.animate import *
from slowddim.unet import *
from slowddim.fast import *
from slowddim.interop import *
from slowddim.pretrained import *
from slowddim.generate import *
from slowddim.schedulers import *
from slowddim.export import *
from slowddim.run import *
from slowddim.optim import *
from slowddim.train import *
from slowddim.watch import *
from slowddim.distill import *
from slowddim.continuous import *
from slowddim.presets import *
from slowddim.adaptive import *
from slowddim.classifier import *
from slowddim.distances import *
from slowddim.fid import *
from slowddim.judges import *
from slowddim.copies import *
from slowddim.study import *
from slowddim.tables import *
