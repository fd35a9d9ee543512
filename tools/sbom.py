"""Writes what an image is made of: `python3 dev.py sbom [worker] [sandbox]`, into `dist/sbom`.

Of each image `IMAGE.cdx.json`, a CycloneDX document, and `IMAGE-licences.txt`, the same packages
with the texts of their licences. Both tell of an environment that is made of the image's lock, so
run it with the Python version of the image: which packages a lock names depends on that. What the
base brings, Debian's packages and Python itself, is not in it.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from dev import ROOT, SANDBOX_LOCK, WORKER_LOCK
from tools.vendor import LICENSE, read_lock

OUTPUT: Final = ROOT / "dist" / "sbom"
# The lock of each image, and the distributions of ours that are installed beside it.
IMAGES: Final = {
    "worker": (WORKER_LOCK, (ROOT / "client", ROOT)),
    "sandbox": (SANDBOX_LOCK, (ROOT / "client", ROOT, ROOT / "sandbox")),
}
VERSION: Final = SchemaVersion.V1_6

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
            document = describe(install(*IMAGES[image], Path(folder)))
        (OUTPUT / f"{image}.cdx.json").write_text(json.dumps(document, indent=2) + "\n", "utf-8")
        (OUTPUT / f"{image}-licences.txt").write_text(licences(document), "utf-8")
        count = len(document["components"])
        sys.stderr.write(f"sbom: {count} components in dist/sbom/{image}.cdx.json\n")
        for name in unlicensed(document):
            sys.stderr.write(f"sbom: {name} names no licence: look at it before you ship it\n")
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
    options = ("--gather-license-texts", "--output-reproducible", "--spec-version", "1.6")
    root = ("--pyproject", ROOT / "pyproject.toml", "--mc-type", "application")
    told = subprocess.run(
        [
            sys.executable,
            "-m",
            "cyclonedx_py",
            "environment",
            "--no-validate",
            *options,
            *root,
            python,
        ],
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


def unlicensed(document: Document) -> list[str]:
    """Returns the packages that name no licence."""
    return [each["name"] for each in document["components"] if not each.get("licenses")]


def licences(document: Document) -> str:
    """Returns all packages with their licences, and the texts that come with them."""
    parts = []
    for each in sorted(document["components"], key=lambda each: each["name"].lower()):
        names = " and ".join(_names(each.get("licenses", []))) or "no licence named"
        heading = f"{each['name']} {each['version']}: {names}"
        parts.append(f"{heading}\n{'=' * min(len(heading), 80)}")
        parts += _texts(each)
    return "\n\n".join(parts) + "\n"


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


def _texts(component: dict[str, Any]) -> list[str]:
    """Returns the texts of a package's licences."""
    evidence = component.get("evidence", {}).get("licenses", [])
    texts = []
    for each in (*component.get("licenses", []), *evidence):
        text = each.get("license", {}).get("text")
        if text is not None:
            content = text["content"]
            if text.get("encoding") == "base64":
                content = base64.b64decode(content).decode("utf-8", "replace")
            texts.append(content.strip())
    return texts


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
