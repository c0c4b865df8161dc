"""The command line where packages are not installed: python without.py MODULE[,MODULE...] ARGUMENT..."""

import importlib.abc
import sys


class Absent(importlib.abc.MetaPathFinder):
    """Modules that nobody finds."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, Absent(set(sys.argv.pop(1).split(","))))

from service.cli import main  # noqa: E402 - what is absent must be so before

main()
