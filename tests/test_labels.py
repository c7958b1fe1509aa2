"Asking for labels: in Python, on the command line, in training; and the arithmetics a network may compute in."
import numpy as np
import pytest
import torch
from PIL import Image

from slowddim.classifier import load_classifier
from slowddim.cli import main
from slowddim.fast import ARITHMETICS, Arithmetic, can_compile, fast_copy, pick_arithmetic
from slowddim.generate import image_labels, iter_images, sample_images, sample_to_npz
from slowddim.guidance import guided
from slowddim.judges import read_as_asked
from slowddim.pretrained import copy_weights_, load_pretrained, save_pretrained
from slowddim.schedule import linear_schedule
from slowddim.train import train
from slowddim.unet import UNet, fashion_unet

NAMES = ["T - shirt / top", "Shirt", "Bag", "Ankle boot"]


def wake_(model): # weights that answer differently for every label
    g = torch.Generator().manual_seed(0)
    for p in model.parameters(): p.data.add_(0.05*torch.randn(p.shape, generator=g))
    return model.eval()


@pytest.fixture(scope="module")
def asked(): return wake_(UNet(sample_size=16, widths=(32, 32), num_class_embeds=4, class_names=NAMES))


@pytest.fixture(scope="module")
def folder(asked, tmp_path_factory):
    path = tmp_path_factory.mktemp("models")/"asked"
    save_pretrained(asked, linear_schedule(50), path, dict(name="asked"))
    return path


def sample(folder, tmp_path, line, out="x.npz"):
    where = ["--model", str(folder), "--out", str(tmp_path/out)]
    return main(["sample", *where, "--steps", "2", "--quiet", *line.split()]), tmp_path/out


def test_a_label_is_asked_for_by_part_of_its_name(asked, folder, tmp_path):
    boots = []
    for line in ("--label boot", "--label ANKLE", "--label 3"):
        code, file = sample(folder, tmp_path, f"--n 3 --seed 1 {line}", f"{len(boots)}.npz")
        assert code == 0
        boots.append(np.load(file)["arr_0"])
    model, schedule = load_pretrained(str(folder))
    same = sample_images(model, schedule, 3, 2, labels="boot", seed=1, progress=False).numpy()
    assert all(np.array_equal(b, same) for b in boots)
    assert not np.array_equal(same, sample_images(model, schedule, 3, 2, labels="bag", seed=1, progress=False).numpy())


def test_all_labels_make_a_row_each(folder, tmp_path):
    code, file = sample(folder, tmp_path, "--label all --n 12 --scale 1", "x.png")
    width, height = Image.open(file).size
    assert code == 0 and (width - 2)/3 == (height - 2)/4 # three columns, four rows, with a margin
    assert sample(folder, tmp_path, "--label all --n 10")[0] == 2


@pytest.mark.parametrize("line, message", [
    ("--label hat", "known are 'T - shirt / top', 'Shirt', 'Bag', 'Ankle boot'"),
    ("--label 4", "label must be in [0, 3]"), ("--guidance -1", "guidance"), ("--label all --n 6", "multiple of 4")])
def test_labels_that_do_not_exist(folder, tmp_path, capsys, line, message):
    assert sample(folder, tmp_path, line)[0] == 2
    assert message in capsys.readouterr().err and not (tmp_path/"x.npz").exists()


def test_a_network_without_labels_refuses_them(tmp_path, capsys):
    for line in ("--label boot", "--label all", "--guidance 2"):
        assert sample("fashion_mnist_continuous", tmp_path, line)[0] == 2
        assert "label" in capsys.readouterr().err


@pytest.mark.parametrize("guidance", [0., 1., 2.5])
def test_images_do_not_depend_on_batch_or_start(asked, guidance):
    how = dict(timesteps=3, seed=4, guidance=guidance, progress=False)
    whole = sample_images(asked, linear_schedule(50), 11, batch_size=11, **how).int()
    parts = torch.cat([sample_images(asked, linear_schedule(50), n, start=start, batch_size=3, **how)
                       for start, n in ((0, 5), (5, 6))]).int()
    assert ((whole - parts).abs() > 1).float().mean() <= 0.002


def test_labels_are_even_and_guidance_one_is_the_conditional_network(asked):
    labels = image_labels(asked, 0, 0, 40)
    assert labels.bincount().tolist() == [10]*4
    schedule, how = linear_schedule(50), dict(timesteps=3, progress=False, precision="fp32")
    plain = sample_images(guided(asked, labels[:6]), schedule, 6, **how)
    assert torch.equal(plain, sample_images(asked, schedule, 6, batch_size=6, **how))
    nobody = sample_images(lambda x, t: asked(x, t).sample, schedule, 6, shape=(1, 16, 16), **how)
    for kinds in (dict(labels="none"), dict(guidance=0.)):
        assert torch.equal(nobody, sample_images(asked, schedule, 6, batch_size=6, **kinds, **how))


def test_a_cut_off_file_goes_on_with_its_labels(asked, tmp_path):
    class PowerCut(Exception): pass

    class Dying(torch.nn.Module): # fails at its third evaluation
        def __init__(self, net):
            super().__init__()
            self.net, self.left = net, 3
        config = property(lambda self: self.net.config)
        null_class = property(lambda self: self.net.null_class)
        def forward(self, x, t, class_labels=None):
            self.left -= 1
            if self.left < 0: raise PowerCut
            return self.net(x, t, class_labels)
    how = dict(timesteps=2, seed=3, batch_size=2, precision="fp32", progress=False)
    model = Dying(asked).eval()
    with pytest.raises(PowerCut): sample_to_npz(tmp_path/"x.npz", model, linear_schedule(50), 7, **how)
    model.left = 1000
    arr = np.load(sample_to_npz(tmp_path/"x.npz", model, linear_schedule(50), 7, **how))["arr_0"]
    whole = sample_images(asked, linear_schedule(50), 7, **how).numpy()
    assert model.left == 1000 - 2*3 and np.array_equal(arr, whole)


@pytest.mark.parametrize("line", ["none", "boot none", "all"])
def test_labels_reach_a_file(asked, folder, tmp_path, line):
    code, file = sample(folder, tmp_path, f"--n 8 --seed 2 --label {line}")
    labels = dict(none="none", all=[k for k in range(4) for _ in range(2)]).get(line, ["boot", "none"]*4)
    model, schedule = load_pretrained(str(folder))
    same = sample_images(model, schedule, 8, 2, labels=labels, seed=2, progress=False).numpy()
    assert code == 0 and np.array_equal(np.load(file)["arr_0"], same)


def test_a_guided_model_is_split_into_batches_like_its_labels(asked):
    labels = [0, 3, "none", 1, 2, 0, 1]
    how = dict(timesteps=2, progress=False, batch_size=3, precision="fp32")
    split = sample_images(guided(asked, labels, 2.), linear_schedule(50), 7, **how)
    assert torch.equal(split, sample_images(asked, linear_schedule(50), 7, labels=labels, guidance=2., **how))
    for wrong in (dict(labels="boot"), dict(guidance=3.)):
        with pytest.raises(ValueError, match="guided already"):
            sample_images(guided(asked, 1), linear_schedule(50), 7, **wrong, **how)


def test_other_names_than_the_network_knows_are_refused():
    net = UNet(8, widths=(32, 32), patch_size=1, num_class_embeds=10, class_names=list("9876543210"))
    with pytest.raises(ValueError, match="knows the labels '9', '8'"): train(net, data="digits", progress=False)


def test_a_conditional_diffusers_network_in_a_folder(tmp_path):
    from diffusers import UNet2DModel
    net = wake_(UNet2DModel(sample_size=8, in_channels=1, out_channels=1, block_out_channels=(32,), norm_num_groups=8,
                            down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), num_class_embeds=4))
    save_pretrained(net, linear_schedule(20), tmp_path/"plain")
    model, schedule = load_pretrained(str(tmp_path/"plain"))
    assert len(sample_images(model, schedule, 5, 2, progress=False)) == 5
    for how in (dict(labels="none"), dict(guidance=2.)):
        with pytest.raises(ValueError, match="null label"): sample_images(model, schedule, 2, 2, progress=False, **how)
    net.register_to_config(null_class=3, class_names=["a", "b", "c"])
    save_pretrained(net, linear_schedule(20), tmp_path/"null")
    model, schedule = load_pretrained(str(tmp_path/"null"))
    assert image_labels(model, 0, 0, 30).bincount().tolist() == [10]*3
    assert len(sample_images(model, schedule, 2, 2, labels=["c", "none"], guidance=2., progress=False)) == 2


def test_training_learns_labels_unless_told_not_to(tmp_path):
    common = "train --data digits --widths 32 32 --patch-size 1 --bs 50 --total-steps 4 --quiet"
    for line, names in (("", list("0123456789")), ("--unconditional", None)):
        out = tmp_path/f"m{bool(names)}"
        assert main([*common.split(), *line.split(), "--out", str(out)]) == 0
        model, _ = load_pretrained(str(out))
        assert model.config.class_names == names and model.card["images_seen"] == 200
    grown = UNet(8, widths=(32, 32), patch_size=1, num_class_embeds=10, class_names=list("0123456789"), n_transformer=1)
    copy_weights_(grown, str(tmp_path/"mFalse"))
    old, _ = load_pretrained(str(tmp_path/"mFalse"))
    x, t = torch.randn(3, 1, 8, 8), torch.tensor([0, 500, 999])
    with torch.no_grad(): assert torch.equal(grown.eval()(x, t, torch.tensor([1, 2, 10])).sample, old(x, t).sample)


def test_hidden_labels_follow_from_the_seed(tmp_path):
    def run(seed, dropout):
        torch.manual_seed(0)
        net = UNet(8, widths=(32, 32), patch_size=1, num_class_embeds=10)
        train(net, n_epochs=1, bs=500, data="digits", seed=seed, label_dropout=dropout, n_test=0, progress=False)
        return net.labels.weight.detach().clone()
    torch.manual_seed(0)
    fresh = UNet(8, widths=(32, 32), patch_size=1, num_class_embeds=10).labels.weight
    assert torch.equal(run(1, 0.5), run(1, 0.5)) and not torch.equal(run(1, 0.5), run(2, 0.5))
    assert torch.equal(run(1, 0.)[10], fresh[10]) and torch.equal(run(1, 1.)[:10], fresh[:10])


@pytest.mark.parametrize("name", ARITHMETICS)
def test_a_fast_copy_leaves_the_network_alone(name):
    net = wake_(fashion_unet(sample_size=16)).train()
    before = {k: (v.clone(), v.dtype, v.stride()) for k, v in net.state_dict().items()}
    copy = fast_copy(net, ARITHMETICS[name], 2, backend="eager")
    x = torch.randn(3, 1, 16, 16)
    with torch.inference_mode():
        found, exact = copy(x, torch.tensor([3, 2, 1])).sample, net.eval()(x, torch.tensor([3, 2, 1])).sample
    assert (found - exact).norm() < (0.03 if ARITHMETICS[name].precision == "bf16" else 1e-4)*exact.norm()
    assert all(p.requires_grad for p in net.parameters())
    for k, v in net.state_dict().items():
        old, dtype, stride = before[k]
        assert torch.equal(v, old) and v.dtype == dtype and v.stride() == stride


def test_fp32_is_the_network_itself_and_long_runs_compile(asked):
    assert pick_arithmetic(asked, "fp32", evaluations=10**9) == Arithmetic(as_given=True)
    assert fast_copy(asked, Arithmetic(as_given=True)) is asked
    short, long = (pick_arithmetic(asked, evaluations=n) for n in (1, 10**9))
    assert not short.compiled and not short.as_given and long.precision == short.precision
    assert long.compiled == can_compile(torch.device("cpu"))
    with pytest.raises(ValueError, match="compile must be"): iter_images(asked, linear_schedule(50), 1, compile="fast")


def test_the_labelled_network_so_far_obeys(root):
    "A folder that an earlier commit wrote opens, and its samples are read as what was asked for."
    model, schedule = load_pretrained(str(root/"models"/"fashion_mnist_labels"))
    x = sample_images(model, schedule, 40, 10, progress=False)
    assert model.card["images_seen"] == 1_158_400 and model.config.class_names[9] == "Ankle boot"
    for folder in (None, root/"models"/"fashion_mnist_classifier_second"):
        assert read_as_asked(load_classifier(folder), x, image_labels(model, 0, 0, 40))["share"] >= 0.75
