"Hand the metadata of settings.ini, its only source, to setuptools."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

ini = ConfigParser(delimiters="=")
ini.read(Path(__file__).parent/"settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]
STATUS = {"3": "3 - Alpha", "4": "4 - Beta", "5": "5 - Production/Stable"}
WEIGHTS = [f"weights_data/*/*.{kind}" for kind in ("json", "md", "safetensors", "npz", "txt")]

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(Path(__file__).parent/"README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    keywords=cfg["keywords"].split(),
    author=cfg["author"],
    author_email=cfg["author_email"],
    license_expression=cfg["license"],
    python_requires=f">={cfg['min_python']}",
    classifiers=[
        f"Development Status :: {STATUS[cfg['status']]}",
        f"Intended Audience :: {cfg['audience']}",
        "Programming Language :: Python :: 3 :: Only",
        *[f"Programming Language :: Python :: {v}" for v in cfg["python_versions"].split()],
        "Typing :: Typed",
    ],
    package_dir={"": "."}, # an editable install puts this folder on the path: nbdev finds tools.doc_procs
    packages=find_packages(include=[cfg["lib_path"], f"{cfg['lib_path']}.*"]),
    package_data={cfg["lib_path"]: ["py.typed", *WEIGHTS]},
    include_package_data=False, # what package_data names, nothing else that lies there
    install_requires=cfg["requirements"].split(),
    extras_require={e: list(dict.fromkeys(cfg[f"{e}_requirements"].split())) for e in cfg["extras"].split()},
    entry_points={
        "console_scripts": cfg["console_scripts"].split(),
        "nbdev": [f"{cfg['lib_name']}={cfg['lib_path']}._modidx:d"],
    },
)
