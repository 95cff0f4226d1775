"""What there is to look at: runs, dictionaries and recipes, by names that are safe in an address.

Nothing that a browser sends is ever a path: it names a run, a dictionary or a recipe of this list.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from onesense.errors import ConfigurationError, NotFoundError, OnesenseError
from onesense.steer.recipe import Recipe, read_recipe, write_recipe
from onesense.store.run_folder import RUN_FILE, RunFolder

DEFAULT_FOLDER = Path("onesense-runs")
RECIPES = "recipes"
_KEY_LENGTH = 12
_RECIPE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,59}")


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A run folder.

    Attributes:
        id: Its name in addresses.
        path: Where it is.
        run: The run; None where it cannot be read.
        problem: Why it cannot be read, for people; empty where it can.
    """

    id: str
    path: Path
    run: RunFolder | None
    problem: str = ""

    @property
    def command(self) -> str:
        """The command that made it; empty where it cannot be read."""
        return "" if self.run is None else self.run.command

    def open(self) -> RunFolder:
        """The run.

        Raises:
            NotFoundError: It cannot be read, or not any more.
        """
        if self.run is None or not (self.path / RUN_FILE).exists():
            raise NotFoundError(
                f"The run {self.path.name} cannot be read.", hint=self.problem or "It was moved or deleted."
            )
        return self.run

    def fact(self, name: str) -> str:
        """A setting of the run as text, such as "model" or "hook_point"; empty where it has none."""
        value = None if self.run is None else self.run.configuration.get(name)
        return "" if value is None else str(value)

    @property
    def dictionary_fingerprint(self) -> str:
        """Fingerprint of its one dictionary; empty where it has none or several."""
        found = {} if self.run is None else self.run.provenance.get("inputs", {}).get("dictionary", {})
        return str(found.get("fingerprint", "")) if isinstance(found, dict) else ""

    @property
    def dictionary_key(self) -> str:
        """Its dictionary's name in addresses; empty where it has none or several."""
        return self.dictionary_fingerprint[:_KEY_LENGTH]

    def dictionary_at(self, hook_point: str) -> str:
        """Fingerprint of the dictionary that it read there; empty where it read none."""
        found = {} if self.run is None else self.run.provenance.get("inputs", {}).get("dictionary", {})
        return str(found.get(hook_point, "")) if isinstance(found, dict) else ""


@dataclass(frozen=True, slots=True)
class KnownDictionary:
    """A dictionary that some run was made with.

    Attributes:
        key: The beginning of its fingerprint: its name in addresses.
        fingerprint: Of its numbers.
        label: What ``onesense.sae.load.load_labelled`` takes: a release and an id, or a folder.
        hook_point: Where it reads the model.
        model: Name of the model.
        extract: Ids of the runs of ``onesense extract`` with it, in the order of the runs.
    """

    key: str
    fingerprint: str
    label: str
    hook_point: str
    model: str
    extract: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KnownRecipe:
    """A recipe on disk.

    Attributes:
        id: Its name in addresses.
        title: Its name for people.
        path: Where it is.
        run: Id of the debias run that made it; empty where somebody saved it.
    """

    id: str
    title: str
    path: Path
    run: str = ""

    def read(self) -> Recipe:
        """The recipe.

        Raises:
            NotFoundError: It is not there any more.
            FormatError: It is damaged.
        """
        return read_recipe(self.path)


class Workspace:
    """The runs in some folders, looked up anew at every question: commands may write meanwhile.

    Args:
        roots: Run folders, and folders whose children are run folders.
        store: Where recipes are saved and audits are run.
    """

    def __init__(self, roots: Sequence[Path], store: Path) -> None:
        self.roots = (*roots, store)  # what is made here is looked at, too
        self.store = store
        self._opened: dict[Path, tuple[tuple[int, int, int], RunFolder]] = {}

    def runs(self) -> list[KnownRun]:
        """Every run, by path; those that cannot be read say why."""
        found: list[KnownRun] = []
        used: set[str] = set()
        for path in self._run_paths():
            name = _distinct(_slug(path.name) or "run", used)
            try:
                found.append(KnownRun(name, path, self._open(path)))
            except OnesenseError as error:
                found.append(KnownRun(name, path, None, str(error)))
        return found

    def run(self, name: str, *commands: str) -> KnownRun:
        """A run by its id.

        Args:
            name: The id.
            commands: It must be of one of these; of any where none is given.

        Raises:
            NotFoundError: There is none, or it cannot be read.
        """
        known = next((one for one in self.runs() if one.id == name), None)
        if known is None:
            raise NotFoundError(
                "There is no such run.", hint="It was moved or deleted; see the list of runs."
            )
        known.open()
        if commands and known.command not in commands:
            raise NotFoundError(
                f"The run {known.path.name} is of `onesense {known.command}`.",
                hint=f"This page shows runs of {' or '.join(f'`onesense {one}`' for one in commands)}.",
            )
        return known

    def of_command(self, *commands: str) -> list[KnownRun]:
        """The runs of these commands that can be read."""
        return [one for one in self.runs() if one.command in commands]

    def dictionaries(self) -> list[KnownDictionary]:
        """Every dictionary that runs or recipes were made with, those of extract runs first."""
        found: dict[str, KnownDictionary] = {}
        for known in self.of_command("extract"):
            fingerprint = known.dictionary_fingerprint
            if not fingerprint:
                continue
            there = found.get(fingerprint)
            runs = () if there is None else there.extract
            found[fingerprint] = KnownDictionary(
                fingerprint[:_KEY_LENGTH],
                fingerprint,
                known.fact("dictionary"),
                known.fact("hook_point"),
                known.fact("model"),
                (*runs, known.id),
            )
        for recipe in self._readable_recipes():
            for part in recipe.parts:
                reference = part.dictionary
                label = reference.path or f"{reference.release}/{reference.sae_id}"
                key = reference.fingerprint[:_KEY_LENGTH]
                found.setdefault(
                    reference.fingerprint,
                    KnownDictionary(key, reference.fingerprint, label, part.hook_point, recipe.model.name),
                )
        return list(found.values())

    def dictionary(self, key: str) -> KnownDictionary:
        """A dictionary by its key.

        Raises:
            NotFoundError: No run has it.
        """
        for known in self.dictionaries():
            if known.key == key:
                return known
        raise NotFoundError("No run has this dictionary.", hint="Run `onesense extract` with it.")

    def recipes(self) -> list[KnownRecipe]:
        """Saved recipes, then those of debias runs."""
        used: set[str] = set()
        saved = [
            KnownRecipe(_distinct(f"saved.{_slug(path.stem)}", used), path.stem, path)
            for path in sorted((self.store / RECIPES).glob("*.json"))
        ]
        made = []
        for known in self.of_command("debias"):
            for path in sorted((known.path / RECIPES).glob("*.json")):
                name = _distinct(f"{known.id}.{_slug(path.stem)}", used)
                made.append(KnownRecipe(name, f"{known.path.name}: {path.stem}", path, known.id))
        return [*saved, *made]

    def recipe(self, name: str) -> KnownRecipe:
        """A recipe by its id.

        Raises:
            NotFoundError: There is none.
        """
        for known in self.recipes():
            if known.id == name:
                return known
        raise NotFoundError(
            "There is no such recipe.", hint="It was moved or deleted; see the list of recipes."
        )

    def check_recipe_name(self, name: str) -> None:
        """Refuse a name that no recipe can be saved under.

        Raises:
            ConfigurationError: Not a name that a file can have everywhere, or it is taken.
        """
        if not _RECIPE_NAME.fullmatch(name) or name.endswith((".", " ")):
            raise ConfigurationError(
                "A recipe cannot have this name.",
                hint="Use up to 60 letters, digits, spaces, dots, hyphens and underscores.",
            )
        if f"saved.{_slug(name)}" in {known.id for known in self.recipes()}:
            raise ConfigurationError(f"There is a recipe {name} already.", hint="Choose another name.")

    def save_recipe(self, name: str, recipe: Recipe) -> KnownRecipe:
        """Keep a recipe under a name; one of that name is not written over.

        Raises:
            ConfigurationError: Not a name that a file can have everywhere, or it is taken.
            StorageError: It cannot be written.
        """
        self.check_recipe_name(name)
        path = self.store / RECIPES / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_recipe(recipe, path)
        return KnownRecipe(f"saved.{_slug(name)}", name, path)

    def _open(self, path: Path) -> RunFolder:
        """The run there, read again only where its file is another than before."""
        try:
            status = (path / RUN_FILE).stat()
        except OSError:
            return RunFolder.open(path)  # says what is wrong
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        there = self._opened.get(path)
        if there is None or there[0] != stamp:
            self._opened[path] = there = (stamp, RunFolder.open(path))
        return there[1]

    def _run_paths(self) -> Iterator[Path]:
        seen = set()
        for root in self.roots:
            inside = [root] if (root / RUN_FILE).exists() else _children(root)
            for path in inside:
                if path.resolve() not in seen:
                    seen.add(path.resolve())
                    yield path

    def _readable_recipes(self) -> Iterator[Recipe]:
        for known in self.recipes():
            try:
                yield known.read()
            except OnesenseError:
                continue


def _children(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if (path / RUN_FILE).exists())
    except OSError:
        return []


def _distinct(wanted: str, used: set[str]) -> str:
    """The name, with a number where it is used already; it is used from now on."""
    numbered = (f"{wanted}-{number}" for number in itertools.count(2))
    name = next(one for one in itertools.chain([wanted], numbered) if one not in used)
    used.add(name)
    return name


def _slug(name: str) -> str:
    """A name as it stands in addresses: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:80]
