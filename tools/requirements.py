"""Print lists of requirements from settings.ini, one requirement a line, for `pip install -r`.

`tools/requirements.py nbdev2` prints `nbdev2_requirements`, without a name what the library itself needs; with
`--lowest` every range becomes its lower bound.
"""
import argparse
import re
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parent.parent


def read_lists()->dict[str, list[str]]: # by name, the library's own as `run`
    "Read all lists of requirements."
    ini = ConfigParser(delimiters="=")
    ini.read(ROOT/"settings.ini", encoding="utf-8")
    lists = {key: value.split() for key, value in ini["DEFAULT"].items() if key.endswith("requirements")}
    return {key.removesuffix("requirements").rstrip("_") or "run": items for key, items in lists.items()}


def lowest(requirement:str # such as `nbdev>=3.3,<4`
          )->str: # such as `nbdev==3.3`
    "Pin a requirement to its lower bound."
    name, bound = re.match(r"([\w.-]+)[^=]*?[>=]=([\w.]+)", requirement).groups()
    return f"{name}=={bound}"


def main():
    "Print what is asked for."
    lists = read_lists()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=["run"], metavar="NAME", help=f"among {', '.join(lists)}")
    parser.add_argument("--lowest", action="store_true", help="lower bounds instead of ranges")
    args = parser.parse_args()
    for name in args.names:
        if name not in lists: parser.error(f"there is no list {name}, but {', '.join(lists)}")
    wanted = dict.fromkeys(item for name in args.names for item in lists[name])
    print("\n".join(map(lowest, wanted) if args.lowest else wanted))


if __name__ == "__main__": main()
