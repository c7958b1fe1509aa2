"Check that the generated modules and README.md are what the notebooks say."
import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PARTS = ["nbs", "slowddim", "tools", "settings.ini", "pyproject.toml", "setup.py", "README.md"]


def differing(fresh:Path)->list[str]: # modules that a fresh export changes, adds or drops
    "Compare the modules here with those of a fresh export."
    names = {p.name for d in (ROOT, fresh) for p in (d/"slowddim").glob("*.py")}
    pairs = [(ROOT/"slowddim"/n, fresh/"slowddim"/n) for n in sorted(names)]
    return [a.name for a, b in pairs if not (a.is_file() and b.is_file() and filecmp.cmp(a, b, shallow=False))]


def main():
    "Export in a copy and compare."
    with tempfile.TemporaryDirectory() as tmp:
        fresh = Path(tmp)/"slowddim"
        fresh.mkdir()
        for part in PARTS:
            source = ROOT/part
            if source.is_dir():
                shutil.copytree(source, fresh/part, symlinks=True,
                                ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
            else: shutil.copy(source, fresh/part)
        subprocess.run([Path(sys.executable).parent/"nbdev-export"], cwd=fresh, check=True)
        wrong = differing(fresh)
        if wrong: sys.exit(f"modules and notebooks differ: {', '.join(wrong)}; run nbdev-export")
        subprocess.run([sys.executable, "tools/make_readme.py", "--check"], cwd=fresh, check=True)
    print("notebooks, modules and README agree")


if __name__ == "__main__": main()
