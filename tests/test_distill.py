"Distillation from the command line: stages, resume, what is refused, and guidance that becomes part of the student."
import torch

from slowddim.cli import main
from slowddim.ddim import ddim_sample
from slowddim.distill import StepLoss, distill
from slowddim.files import load_tensors, read_json
from slowddim.guidance import guided
from slowddim.schedule import linear_schedule, subsequence
from slowddim.unet import UNet

TINY = "--bs 16 --total-steps 4 --precision fp32 --device cpu --quiet".split()


def run(*words, code=0): assert main([str(word) for word in words]) == code


def make_teacher(folder):
    run("train", "--data", "digits", "--prediction", "v", "--widths", 8, 32, "--patch-size", 1, "--out", folder, *TINY)


def weights(folder): return load_tensors(folder/"diffusion_pytorch_model.safetensors")[0]


def test_stages_are_kept_and_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_teacher("teacher")
    line = ["distill", "teacher", "--start", 4, "--evaluations", 2, 1, *TINY]
    run(*line, "--out", "whole")
    run(*line, "--evaluations", 2, "--out", "part.2") # a first stage alone, under the name it has in the whole
    first = (tmp_path/"part.2/diffusion_pytorch_model.safetensors").stat().st_mtime_ns
    assert read_json(tmp_path/"part.2/card.json")["distilled"]["evaluations"] == [2]
    run(*line, "--out", "part")
    assert (tmp_path/"part.2/diffusion_pytorch_model.safetensors").stat().st_mtime_ns == first # not made again
    a, b = weights(tmp_path/"whole"), weights(tmp_path/"part")
    assert all(torch.equal(a[k], b[k]) for k in a)
    card = read_json(tmp_path/"part/card.json")
    assert card["sampling"] == dict(steps=1, eta=0., spacing="trailing", solver="ddim")
    assert card["distilled"]["evaluations"] == [2, 1]
    capsys.readouterr()
    run("sample", "--model", "part", "--n", 2, "--out", "one.png", "--quiet")
    assert "1 step each" in capsys.readouterr().out
    assert not list(tmp_path.glob("*checkpoint*"))


def test_what_is_refused_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_teacher("teacher")
    for words, said in ((["--evaluations", 3], "--evaluations must divide the number before, 16"),
                        (["--start", 1], "--start must be in [2, 1000], got 1"), (["--ema", 2], "--ema"),
                        (["--evaluations", 8, 8], "be smaller: got 8"), (["--guidance", -1], "--guidance")):
        capsys.readouterr()
        run("distill", "teacher", *words, *TINY, code=2)
        assert said in capsys.readouterr().err, words
    assert sorted(p.name for p in tmp_path.iterdir()) == ["teacher"]


def test_guidance_becomes_part_of_the_target():
    torch.manual_seed(0)
    model = UNet(sample_size=8, widths=(8, 32), patch_size=1, prediction="v", schedule=linear_schedule().spec,
                 num_class_embeds=10)
    with torch.no_grad():
        for p in model.parameters(): p.add_(0.05*torch.randn(p.shape))
    schedule, labels = linear_schedule(), torch.arange(6)
    x_T = torch.randn(6, 1, 8, 8)
    loss = StepLoss(model.eval(), subsequence(1000, 4), 4, scale=3.)
    target = loss.target(x_T, torch.zeros(6, dtype=torch.int64), schedule, labels)
    sample = ddim_sample(guided(model, labels, 3.), x_T, schedule, 4, clip=(-1, 1))
    assert (target - sample).abs().max() < 1e-4
    plain = ddim_sample(guided(model, labels, 1.), x_T, schedule, 4, clip=(-1, 1))
    assert (target - plain).abs().max() > 1e-2


def test_the_teacher_is_left_as_it_is_and_the_student_learns():
    torch.manual_seed(0)
    model = UNet(sample_size=8, widths=(8, 32), patch_size=1, prediction="v", schedule=linear_schedule().spec)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    teacher = {k: v.clone() for k, v in before.items()}
    how = dict(data="digits", total_steps=20, bs=64, lr=2e-3, n_test=0, seed=0, progress=False, ema=0.9)
    stages = list(distill(model, linear_schedule(), (2,), start=4, **how))
    assert [S for S, _ in stages] == [2]
    losses = [v for _, v in stages[0][1]["losses"]]
    assert losses[-1] < losses[0]
    assert any(not torch.equal(model.state_dict()[k], teacher[k]) for k in before)
