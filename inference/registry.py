"""The model packages of this node, each found by its folder's name: the shipped ones, and those installed later.

    installed_dir/<name>/<version>/     versions beside each other; installing another one leaves these as they are
    installed_dir/<name>/               where nodes before versions kept the only one
    inference/packages/<name>/          what comes with the project

A name alone means the newest of those that were installed; what is shipped stands back behind any of these, so that a
node which is brought up to date goes on with the models that were chosen for it. A folder whose manifest is wrong takes
none of its neighbours along: it is left out, and `broken` names it.
"""

from collections.abc import Iterator
from pathlib import Path

from domain.errors import Misconfigured
from inference.package import MANIFEST_FILE, NAME_PATTERN, Package, load

BUILTIN_DIR = Path(__file__).parent / "packages"


class Registry:
    """Reads folders anew at every call, so that a package pulled a minute ago is there without a restart."""

    def __init__(self, installed_dir: Path) -> None:
        self._installed_dir = installed_dir

    def packages(self) -> list[Package]:
        """What each name means, sorted by name; without those of which every manifest is wrong."""
        return [versions[0] for name in self._names() if (versions := self._read(name)[0])]

    def broken(self, name: str = "") -> list[Misconfigured]:
        """What is wrong with each installed manifest that is left out; of one package, or of all."""
        return [error for one in ([name] if name else self._names()) for error in self._read(one)[1].values()]

    def get(self, name: str, version: str = "") -> Package:
        """One package by name: this version of it, or the one that the name alone means.

        Raises:
            Misconfigured: there is none of this name or version, or its manifest is wrong.
        """
        versions, broken = self._known(name)
        if not version:
            return versions[0]
        for package in versions:
            if package.manifest.version == version:
                return package
        if version in broken:
            raise broken[version]
        there = ", ".join(package.manifest.version for package in versions)
        raise Misconfigured(
            f"there is no version {version!r} of the model package {name}",
            hint=f"There are: {there}. Another one is installed by `collimator models add DIR`.",
        )

    def versions(self, name: str) -> list[Package]:
        """Every version of one package, the one that the name alone means first, then the others from the newest on.

        Raises:
            Misconfigured: there is none of this name, or the manifest of each is wrong.
        """
        return self._known(name)[0]

    def _known(self, name: str) -> tuple[list[Package], dict[str, Misconfigured]]:
        """As `_read`, but at least one package."""
        found, broken = self._read(name)
        if not found:
            for error in broken.values():
                raise error
            raise Misconfigured(f"no model package is named {name!r}", hint=f"There are: {', '.join(self._names())}.")
        return found, broken

    def _read(self, name: str) -> tuple[list[Package], dict[str, Misconfigured]]:
        """The versions in their order; and of each folder that is left out, what is wrong with it."""
        installed: dict[str, Package] = {}
        broken: dict[str, Misconfigured] = {}
        for folder, version in self._installed(name):
            try:
                package = _load(folder, name, version)
            except Misconfigured as error:
                broken[version] = error
            else:
                installed.setdefault(package.manifest.version, package)
        found = sorted(installed.values(), key=lambda package: version_order(package.manifest.version), reverse=True)
        if NAME_PATTERN.fullmatch(name) and (BUILTIN_DIR / name / MANIFEST_FILE).is_file():
            shipped = _load(BUILTIN_DIR / name, name)
            if shipped.manifest.version not in installed:
                found.append(shipped)
        return found, broken

    def _installed(self, name: str) -> Iterator[tuple[Path, str]]:
        """Folders of versions with theirs, then the one of old with "": of one version, the first counts."""
        # Names come from configuration and command lines: only ever a folder right below ours.
        if not NAME_PATTERN.fullmatch(name):
            return
        place = self._installed_dir / name
        for path in sorted(place.glob(f"*/{MANIFEST_FILE}")):
            yield path.parent, path.parent.name
        if (place / MANIFEST_FILE).is_file():
            yield place, ""

    def _names(self) -> list[str]:
        """Sorted. A folder whose name is no package's is none: installing works in such folders."""
        shipped = {path.parent.name for path in BUILTIN_DIR.glob(f"*/{MANIFEST_FILE}")}
        installed = {path.parent.name for path in self._installed_dir.glob(f"*/{MANIFEST_FILE}")}
        versioned = {path.parent.parent.name for path in self._installed_dir.glob(f"*/*/{MANIFEST_FILE}")}
        return sorted(name for name in shipped | installed | versioned if NAME_PATTERN.fullmatch(name))


def version_order(version: str) -> tuple[object, ...]:
    """Sorts as Semantic Versioning 2.0.0 says (11): 1.9.0, 1.10.0-rc.1, 1.10.0. What is no number goes by letters."""
    release, _, prerelease = version.partition("+")[0].partition("-")
    return _parts(release), not prerelease, _parts(prerelease), version


def _parts(text: str) -> tuple[tuple[int, int, str], ...]:
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in text.split("."))


def _load(folder: Path, name: str, version: str = "") -> Package:
    """The package in this folder, which has to be what the folder's place says."""
    package = load(folder)
    for key, expected, found in (("name", name, package.name), ("version", version, package.manifest.version)):
        if expected and found != expected:
            raise Misconfigured(f"{folder / MANIFEST_FILE}: {key}: expected {expected!r}, the folder's name")
    return package
