"Shared fixtures: repository root, real data, closed-form models."
import os
from pathlib import Path

import pytest
import torch

from slowddim.oracle import CallCounter, GaussianOracle
from slowddim.schedule import linear_schedule

ROOT = Path(__file__).parent.parent
HAS_DATA = bool(os.environ.get("SLOWDDIM_DATA"))
needs_data = pytest.mark.skipif(not HAS_DATA, reason="needs real data: set SLOWDDIM_DATA to a folder with "
                                                     "fashion_mnist/, mnist/ and cifar10/")


@pytest.fixture(scope="session")
def root()->Path: return ROOT


@pytest.fixture(scope="session")
def schedule(): return linear_schedule()


@pytest.fixture
def oracle(schedule): return CallCounter(GaussianOracle(schedule, mean=-0.2, std=0.5))


@pytest.fixture
def x_T(): return torch.randn(3, 1, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
