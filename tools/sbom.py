"""Writes what an image is made of: `python3 dev.py sbom [worker] [sandbox]`, into `dist/sbom`.

Of each image `IMAGE.cdx.json`, a CycloneDX document, and `IMAGE-licences.txt`, the same packages
with the texts of their licences. Both tell of an environment that is made of the image's lock, so
run it with the Python version of the image: which packages a lock names depends on that. What the
base brings, Debian's packages and Python itself, is not in it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from dev import ROOT, SANDBOX_LOCK, WORKER_LOCK
from tools.vendor import LICENSE, read_lock

if TYPE_CHECKING:
    from collections.abc import Mapping

OUTPUT: Final = ROOT / "dist" / "sbom"
# The lock of each image, and the distributions of ours that are installed beside it.
IMAGES: Final = {
    "worker": (WORKER_LOCK, (ROOT / "client", ROOT)),
    "sandbox": (SANDBOX_LOCK, (ROOT / "client", ROOT, ROOT / "sandbox")),
}
VERSION: Final = SchemaVersion.V1_6

_LICENCE: Final = re.compile("(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE)", re.IGNORECASE)

Document = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Writes the documents of the images named, of all if none is; returns the exit code."""
    unknown = [name for name in arguments if name not in IMAGES]
    if unknown:
        sys.stderr.write(f"usage: python3 dev.py sbom [{'] ['.join(IMAGES)}]\n")
        return 2
    OUTPUT.mkdir(parents=True, exist_ok=True)
    code = 0
    for image in arguments or IMAGES:
        with tempfile.TemporaryDirectory() as folder:
            python = install(*IMAGES[image], Path(folder))
            document, told = describe(python), licence_texts(python)
        (OUTPUT / f"{image}.cdx.json").write_text(json.dumps(document, indent=2) + "\n", "utf-8")
        (OUTPUT / f"{image}-licences.txt").write_text(licences(document, told), "utf-8")
        count = len(document["components"])
        sys.stderr.write(f"sbom: {count} components in dist/sbom/{image}.cdx.json\n")
        for name in unlicensed(document, told):
            sys.stderr.write(f"sbom: {name} has no licence: look at it before you ship it\n")
            code = 1
    return code


def install(lock: Path, projects: tuple[Path, ...], folder: Path) -> Path:
    """Makes an environment as the image has it; returns its Python.

    Raises:
        subprocess.CalledProcessError: a step failed; it has said why.
    """
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check", "--python", python)
    wheels = folder / "wheels"
    apart = ("--no-index", "--no-deps")
    commands: tuple[tuple[str | Path, ...], ...] = (
        (sys.executable, "-m", "venv", "--without-pip", folder),
        (*pip, "install", "--no-compile", "--require-hashes", "--no-deps", "-r", lock),
        (*pip[:-2], "wheel", *apart, "--no-build-isolation", "--wheel-dir", wheels, *projects),
    )
    for command in commands:
        subprocess.run(command, check=True)
    subprocess.run([*pip, "install", "--no-compile", *apart, *wheels.iterdir()], check=True)
    return python


def describe(python: Path) -> Document:
    """Returns the CycloneDX document of an environment, with what the page has from npm.

    Raises:
        subprocess.CalledProcessError: the environment can't be read; it has said why.
        ValueError: the document is none.
    """
    # It is validated below, once and with what is added.
    options = ("--no-validate", "--output-reproducible", "--spec-version", "1.6")
    root = ("--pyproject", ROOT / "pyproject.toml", "--mc-type", "application")
    told = subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", "environment", *options, *root, python],
        check=True,
        stdout=subprocess.PIPE,
    )
    document: Document = json.loads(told.stdout)
    packages = read_lock()["packages"]
    # One of them is for our tests alone.
    shipped = [each for each in packages if each["files"][0]["to"].startswith("worker/")]
    document["components"] += [_component(package) for package in shipped]
    wrong = JsonStrictValidator(VERSION).validate_str(json.dumps(document))
    if wrong is not None:
        raise ValueError(f"not a CycloneDX document: {wrong}")
    return document


def unlicensed(document: Document, texts: Mapping[str, list[str]]) -> list[str]:
    """Returns the packages that neither name a licence nor bring its text."""
    return [
        each["name"]
        for each in document["components"]
        if not each.get("licenses") and not texts.get(canonical(each["name"]))
    ]


def licence_texts(python: Path) -> dict[str, list[str]]:
    """Returns the texts of licences that the packages of an environment bring, by their names."""
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    found: dict[str, list[str]] = {}
    for each in distributions(path=[str(site)]):
        texts = [
            Path(str(file.locate())).read_text("utf-8", "replace").strip()
            for file in each.files or ()
            if file.parts[0].endswith(".dist-info") and _LICENCE.match(file.name)
        ]
        found[canonical(each.name)] = list(dict.fromkeys(texts))
    return found


def licences(document: Document, texts: Mapping[str, list[str]]) -> str:
    """Returns all packages with their licences, and the texts that come with them."""
    parts = []
    for each in sorted(document["components"], key=lambda each: canonical(each["name"])):
        names = " and ".join(_names(each.get("licenses", []))) or "its text"
        heading = f"{each['name']} {each['version']}: {names}"
        parts.append(f"{heading}\n{'=' * min(len(heading), 80)}")
        parts += texts.get(canonical(each["name"]), []) + _own_texts(each)
    return "\n\n".join(parts) + "\n"


def canonical(name: str) -> str:
    """Returns a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _component(package: dict[str, Any]) -> dict[str, Any]:
    """Returns the component of a package from npm, as the page's lock tells of it."""
    name, version = package["name"], package["version"]
    purl = f"pkg:npm/{name.replace('@', '%40')}@{version}"
    (text,) = (file["to"] for file in package["files"] if file["from"] == LICENSE)
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "licenses": [
            {
                "license": {
                    "id": package["license"],
                    "text": {"content": (ROOT / text).read_text("utf-8")},
                }
            }
        ],
    }


def _names(found: list[dict[str, Any]]) -> list[str]:
    """Returns the names of licences, each once."""
    names: dict[object, None] = {}
    for each in found:
        licence = each.get("license", {})
        names[each.get("expression") or licence.get("id") or licence.get("name")] = None
    return [str(name) for name in names]


def _own_texts(component: dict[str, Any]) -> list[str]:
    """Returns the texts of licences that stand in the document itself: those of npm's packages."""
    licensed = (each.get("license", {}) for each in component.get("licenses", []))
    return [each["text"]["content"].strip() for each in licensed if "text" in each]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
