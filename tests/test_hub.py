"Models on the hub: what is pushed, what is fetched, what is said without a network; the hub is a small server here."
import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard as HubCard

from slowddim import pretrained
from slowddim.files import read_json
from slowddim.pretrained import _card_prose, _is_ours, push_pretrained, save_pretrained
from slowddim.schedule import linear_schedule
from slowddim.unet import UNet

TOKEN = "hf_" + "secret"*5
OURS = ["README.md", "card.json", "config.json", "diffusion_pytorch_model.safetensors", "schedule.json"]


class Hub(BaseHTTPRequestHandler):
    "As much of the hub as `huggingface_hub` asks for here; `server.repos` is {id: dict(private, files)}."
    protocol_version = "HTTP/1.1"

    def log_message(self, *args): pass

    def answer(self, status=200, data=b"", **headers):
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for name, value in headers.items(): self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD": self.wfile.write(body)

    def missing(self): self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")

    def reply(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, hub = self.path.split("?")[0], self.server
        hub.seen.append((self.command, path, self.headers.get("Authorization")))
        if path.startswith("/say/"):
            hub.mode = path[5:]
            return self.answer()
        if hub.mode == "deaf": time.sleep(3)
        if hub.mode in ("deaf", "503"): return self.answer(503, {"error": "no"})
        for pattern, method in self.routes:
            if match := re.fullmatch(pattern, f"{self.command} {path}"): return method(self, body, *match.groups())
        self.missing()

    do_GET = do_HEAD = do_POST = do_PUT = reply

    def create(self, body):
        asked = json.loads(body)
        name = f"{asked.get('organization', 'me')}/{asked['name']}"
        if self.headers.get("Authorization") != f"Bearer {TOKEN}": return self.answer(401, {"error": "Invalid token"})
        known, private = name in self.server.repos, asked.get("private") or asked.get("visibility") == "private"
        if not known: self.server.repos[name] = dict(private=bool(private), files={})
        self.answer(409 if known else 200, {"url": f"{self.server.address}/{name}"})

    def info(self, body, name, *rest):
        if name not in self.server.repos: return self.missing()
        repo = self.server.repos[name]
        self.answer(200, dict(id=name, sha=self.sha(name), private=repo["private"], tags=[], downloads=0, likes=0,
                              siblings=[dict(rfilename=file) for file in repo["files"]]))

    def sha(self, name):
        files = self.server.repos[name]["files"]
        return hashlib.sha1(b"".join(k.encode() + v for k, v in sorted(files.items()))).hexdigest()

    def tree(self, body, name):
        files = self.server.repos[name]["files"]
        self.answer(200, [dict(type="file", path=k, size=len(v), oid=hashlib.sha1(v).hexdigest())
                          for k, v in files.items()])

    def validate(self, body): self.answer(200, {"errors": [], "warnings": []})

    def preupload(self, body, name):
        self.answer(200, dict(files=[
            dict(path=file["path"], uploadMode="lfs" if file["path"].endswith(".safetensors") else "regular",
                 shouldIgnore=False) for file in json.loads(body)["files"]]))

    def batch(self, body, name):
        self.answer(200, dict(transfer="basic", objects=[
            dict(oid=each["oid"], size=each["size"], actions=dict(upload=dict(
                href=f"{self.server.address}/lfs/{each['oid']}"))) for each in json.loads(body)["objects"]]))

    def put(self, body, oid):
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.large[oid] = body
        self.answer()

    def commit(self, body, name):
        for line in map(json.loads, body.splitlines()):
            value, files = line["value"], self.server.repos[name]["files"]
            if line["key"] == "file": files[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "lfsFile": files[value["path"]] = self.server.large[value["oid"]]
        self.answer(200, dict(commitUrl=f"{self.server.address}/{name}/commit/1", commitOid=self.sha(name)))

    def file(self, body, name, revision, file):
        data = self.server.repos.get(name, dict(files={}))["files"].get(file)
        if data is None: return self.answer(404, b"", X_Error_Code="EntryNotFound")
        self.answer(200, data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', X_Repo_Commit=self.sha(name))

    routes = ((r"POST /api/repos/create", create), (r"(?:GET|HEAD) /api/models/(\w+/\w+)(/revision/main)?", info),
              (r"GET /api/models/(\w+/\w+)/tree/\w+", tree), (r"POST /api/validate-yaml", validate),
              (r"POST /api/models/(\w+/\w+)/preupload/main", preupload), (r"PUT /lfs/(\w+)", put),
              (r"POST /(\w+/\w+).git/info/lfs/objects/batch", batch),
              (r"POST /api/models/(\w+/\w+)/commit/main", commit),
              (r"(?:GET|HEAD) /(\w+/\w+)/resolve/(\w+)/(.+)", file))


@pytest.fixture(scope="module")
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.repos, server.large, server.seen, server.mode = {}, {}, [], None
    server.daemon_threads = True
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


CODE = """
import contextlib, io, json, os, sys, time, urllib.request
from huggingface_hub import constants
from slowddim import pretrained
from slowddim.cli import main

def run(line):
    if not line.startswith("say "): return main(line.split())
    urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/say/" + line[4:])
    pretrained._PATIENCE, constants.HF_HUB_OFFLINE = 0.5, line == "say offline"
    if line == "say nobody": os.environ.pop("HF_TOKEN")

told = []
for line in json.loads(sys.argv[1]):
    out, err, tic = io.StringIO(), io.StringIO(), time.perf_counter()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try: code = run(line)
        except SystemExit as e: code = e.code
    told.append([code, out.getvalue(), err.getvalue(), time.perf_counter() - tic])
print(json.dumps(told))
"""


def run(folder, lines, endpoint): # command lines, in a process of their own -> code, out, err, seconds of each
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env |= dict(HF_ENDPOINT=endpoint, HF_HOME=str(folder/"hf"), HF_HUB_DISABLE_XET="1", HF_TOKEN=TOKEN)
    env["PYTHONPATH"] = os.pathsep.join([str(Path(pretrained.__file__).parent.parent), env.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", CODE, json.dumps(lines)], capture_output=True, text=True, env=env,
                          cwd=folder)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def make_model(folder, seed=0, **card):
    torch.manual_seed(seed)
    net = UNet(sample_size=8, widths=(32,), patch_size=1)
    return save_pretrained(net, linear_schedule(n_steps=10), folder, dict(name="boots", **card))


@pytest.fixture(scope="module")
def place(tmp_path_factory, hub): # a folder with models, after everything below was typed there
    folder = tmp_path_factory.mktemp("hub")
    make_model(folder/"boots", data="fashion_mnist", test_loss=0.03)
    make_model(folder/"own", seed=1)
    (folder/"own"/"README.md").write_text("# My words\n")
    for name in ("log.json", "photo.png", ".secret"): (folder/"boots"/name).write_text("{}")
    (folder/"own"/"pytorch_model.bin").write_bytes(b"pickled")
    make_model(folder/"spoilt", seed=2)
    weights = folder/"spoilt"/"diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"0000")
    make_model(folder/"me"/"local", seed=3)
    hub.repos["me/local"] = dict(private=False, files={})
    hub.repos["me/public"] = dict(private=False, files={})
    hub.repos["them/pickled"] = dict(private=False, files={"pytorch_model.bin": b"x", "code.py": b"x", "a.json": b"{}"})
    lines = ["push boots me/boots", "push own me/own --private --quiet", "push own me/public --private",
             "push spoilt me/spoilt", "sample --model me/boots --n 1 --steps 1 --quiet --out x.png",
             "train --data digits --widths 32 --patch-size 1 --init me/boots --total-steps 1 --bs 8 --quiet --out new",
             "sample --model me/nothing --out y.png", "sample --model them/pickled --quiet --out y.png",
             "sample --model me/local --n 1 --steps 1 --quiet --out l.png"]
    for how in ("deaf", "503", "offline"):
        lines += [f"say {how}", f"sample --model me/boots --n 1 --steps 1 --quiet --out {how}.png",
                  f"sample --model me/nothing --out {how}.npz", f"push boots me/{how}"]
    lines += ["say nobody", "push boots me/nobody"]
    return folder, dict(zip(lines, run(folder, lines, hub.address)))


def test_exactly_the_files_of_a_model_are_pushed(place, hub):
    folder, told = place
    code, out, _, _ = told["push boots me/boots"]
    assert (code, out) == (0, f"boots -> {hub.address}/me/boots; next: slowddim sample --model me/boots\n")
    assert sorted(hub.repos["me/boots"]["files"]) == sorted(hub.repos["me/own"]["files"]) == OURS
    for name in OURS: assert hub.repos["me/boots"]["files"][name] == (folder/"boots"/name).read_bytes(), name
    assert hub.repos["me/own"]["files"]["README.md"] == b"# My words\n"
    assert not hub.repos["me/boots"]["private"] and hub.repos["me/own"]["private"]
    assert told["push own me/own --private --quiet"][2] == ""
    assert {token for method, path, token in hub.seen if path.endswith("/commit/main")} == {f"Bearer {TOKEN}"}


def test_what_must_not_be_pushed_stays(place, hub):
    _, told = place
    for line, said in (("push own me/public --private", "'me/public' is on the hub already and public"),
                       ("push spoilt me/spoilt", "not the one described")):
        code, out, err, _ = told[line]
        assert (code, out, len(err.splitlines())) == (2, "", 1) and said in err
    assert hub.repos["me/public"]["files"] == {} and "me/spoilt" not in hub.repos


def test_commands_take_a_name_on_the_hub(place, hub):
    folder, told = place
    assert told["sample --model me/boots --n 1 --steps 1 --quiet --out x.png"][0] == 0 and (folder/"x.png").is_file()
    trained = next(line for line in told if line.startswith("train"))
    assert told[trained][0] == 0, told[trained]
    assert read_json(folder/"new"/"card.json")["init"] == read_json(folder/"boots"/"card.json")["digest"]
    fetched = {path.rsplit("/", 1)[-1] for method, path, _ in hub.seen if method == "GET" and "/resolve/" in path}
    assert fetched == set(OURS) - {"README.md"}


def test_what_the_hub_does_not_have_is_said_in_a_line(place):
    _, told = place
    for line, said in (("sample --model me/nothing --out y.png", "the hub has no public model of that name"),
                       ("sample --model them/pickled --quiet --out y.png", "is no model of slowddim or diffusers")):
        code, _, err, _ = told[line]
        assert code == 2 and said in err and len(err.splitlines()) == 1, err


def test_without_a_network_the_copy_is_used_after_a_short_wait(place):
    folder, told = place
    assert pretrained._PATIENCE <= 5
    for how, said in (("deaf", "not answer within 0.5 s"), ("503", "answers 503"), ("offline", "HF_HUB_OFFLINE is")):
        assert told[f"sample --model me/boots --n 1 --steps 1 --quiet --out {how}.png"][0] == 0
        assert (folder/f"{how}.png").is_file()
        for line in (f"sample --model me/nothing --out {how}.npz", f"push boots me/{how}"):
            code, out, err, seconds = told[line]
            assert (code, out, len(err.splitlines())) == (2, "", 1) and said in err and seconds < 4, (err, seconds)
        assert "'me/nothing', and the hub cannot" in told[f"sample --model me/nothing --out {how}.npz"][2]
        assert f"'me/{how}' is not pushed" in err


def test_a_folder_wins_and_nobody_is_asked(place, hub):
    _, told = place
    assert told["sample --model me/local --n 1 --steps 1 --quiet --out l.png"][0] == 0
    assert not any("me/local" in path for _, path, _ in hub.seen)
    asked = [path for _, path, _ in hub.seen]
    assert not any("offline" in path for path in asked[asked.index("/say/offline") + 1:])
    assert len(asked) == asked.index("/say/nobody") + 1 # without a token nothing is sent
    code, out, err, _ = told["push boots me/nobody"]
    assert (code, out) == (2, "") and "hf auth login, or set HF_TOKEN" in err and len(err.splitlines()) == 1


def test_readme_begins_with_what_the_hub_reads(tmp_path):
    scores = [dict(kind="FID", value=3.5, n=10000, extractor="abc"), dict(kind="KID", value=float("nan")), "theirs"]
    card = make_model(tmp_path/"m", data="fashion_mnist", test_loss=0.03, scores=scores, license="apache-2.0")
    read = HubCard.load(tmp_path/"m"/"README.md")
    facts = read.data.to_dict()
    assert (facts["library_name"], facts["license"], facts["metrics"]) == ("slowddim", "apache-2.0", ["fid", "loss"])
    assert facts["datasets"] == ["zalando-datasets/fashion_mnist"] and {"ddim", "diffusion"} <= set(facts["tags"])
    assert {(r.metric_type, r.metric_value) for r in read.data.eval_results} == {("loss", 0.03), ("fid", 3.5)}
    assert read.text.lstrip().startswith("# boots\n") and _is_ours(tmp_path/"m"/"README.md")
    assert (tmp_path/"m"/"README.md").read_text("utf-8") == _card_prose(card)


@pytest.mark.parametrize("card", [{}, dict(data="/home/me/photos"), dict(data=["a"], test_loss="low", scores=3),
                                  dict(name="a: b\n---", license=["mit"], test_loss=True)])
def test_readme_of_a_card_that_says_little(card, tmp_path):
    torch.manual_seed(0)
    save_pretrained(UNet(sample_size=8, widths=(32,), patch_size=1), linear_schedule(n_steps=10), tmp_path/"m", card)
    facts = HubCard.load(tmp_path/"m"/"README.md").data.to_dict()
    assert facts["library_name"] == "slowddim" and not {"datasets", "license", "model-index"} & facts.keys()


@pytest.mark.parametrize("name", ["boots", "a/b/c", "a b/c", "./x", "../x", "", None])
def test_a_name_that_cannot_be_one(name, tmp_path):
    make_model(tmp_path/"m")
    with pytest.raises(ValueError, match="like 'owner/model'"): push_pretrained(tmp_path/"m", name)


@pytest.mark.parametrize("root_name", ["slowddim/weights_data", "models"])
def test_our_own_models_have_it(root_name, root):
    for card in (root/root_name).glob("*/card.json"):
        file = card.with_name("README.md")
        if file.is_file(): assert file.read_text("utf-8") == _card_prose(read_json(card)), file
