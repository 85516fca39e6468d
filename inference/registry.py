"""The model packages of this node, each found by its folder's name: the shipped ones, and those installed later."""

from pathlib import Path

from domain.errors import Misconfigured
from inference.package import MANIFEST_FILE, NAME_PATTERN, Package, load

BUILTIN_DIR = Path(__file__).parent / "packages"


class Registry:
    """Reads folders anew at every call, so that a package pulled a minute ago is there without a restart."""

    def __init__(self, installed_dir: Path) -> None:
        self._folders = (BUILTIN_DIR, installed_dir)

    def packages(self) -> list[Package]:
        """Every package, sorted by name; an installed one stands in for the shipped one of the same name.

        Raises:
            Misconfigured: a manifest is wrong.
        """
        return [self.get(name) for name in self._names()]

    def get(self, name: str) -> Package:
        """One package by name.

        Raises:
            Misconfigured: there is none of this name, or its manifest is wrong.
        """
        for folder in reversed(self._folders):
            # Names come from configuration and command lines: only ever a folder right below ours.
            if NAME_PATTERN.fullmatch(name) and (folder / name / MANIFEST_FILE).is_file():
                package = load(folder / name)
                if package.name != name:
                    raise Misconfigured(f"{folder / name / MANIFEST_FILE}: name: expected {name!r}, the folder's name")
                return package
        raise Misconfigured(f"no model package is named {name!r}", hint=f"There are: {', '.join(self._names())}.")

    def _names(self) -> list[str]:
        """Sorted. A folder whose name is no package's is none: installing works in such folders."""
        names = {path.parent.name for folder in self._folders for path in folder.glob(f"*/{MANIFEST_FILE}")}
        return sorted(name for name in names if NAME_PATTERN.fullmatch(name))
