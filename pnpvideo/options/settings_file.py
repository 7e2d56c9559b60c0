"""The settings of a run as a YAML file, and the paths in it."""

import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from pnpvideo.errors import InputError
from pnpvideo.files.atomic_output import atomic_output
from pnpvideo.files.read_text import parse_yaml, read_text
from pnpvideo.options.declared import Schema, declared, given_name, unknown_option
from pnpvideo.options.paths import expanded, is_relative
from pnpvideo.options.settings import Settings
from pnpvideo.options.values import EMBEDDED_MODEL


def read_settings(path: Path) -> dict[str, object]:
    """Return the settings in a YAML file. Relative paths in it start from its folder.

    Args:
        path: The file, such as the OUT.yaml that every run writes.

    Returns:
        The settings by name, as `Settings` and `translate` take them.

    Raises:
        InputError: If it is not such a file, or names an unknown setting.
    """
    given = parse_yaml(read_text(path, "the settings"), f"the settings file {path}")
    if not isinstance(given, dict):
        raise InputError(f"the settings {path} hold no 'name: value' lines")
    known = declared(Settings)
    values: dict[str, object] = {}
    for key, value in given.items():
        name = given_name(Settings, str(key))
        if name not in known:
            raise InputError(f"the settings {path}: {unknown_option(name, known)}")
        if name in values:
            raise InputError(f"the settings {path} hold {name} twice; give it once")
        values[name] = value
    return with_paths_from(path.parent, values)


def with_paths_from(folder: Path, values: Mapping[str, object]) -> dict[str, object]:
    """Return settings in which paths relative to a folder are joined to it."""
    known = declared(Settings)
    return {
        name: _from_folder(folder, value) if _is_path(known[name], value, folder) else value
        for name, value in values.items()
    }


def write_settings(
    settings: Settings, path: Path, resolved: Mapping[str, object], *, overwrite: bool = False
) -> None:
    """Write all settings, so that the file repeats the run.

    resolved: the values that were chosen for settings that were left open.
    """
    all_values = settings.plain() | dict(resolved)
    given = {name: value for name, value in all_values.items() if value is not None}
    values = with_paths_from(Path.cwd(), given)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    with atomic_output(path, folder=False, overwrite=overwrite) as part:
        part.write_text(text, encoding="utf-8")


def _is_path(schema: Schema, value: object, folder: Path) -> bool:
    """Return whether an option's value is a path; a model can be given by name too."""
    if schema.get("format") == "path or name":
        return (
            isinstance(value, str) and value != EMBEDDED_MODEL and os.path.exists(folder / value)  # noqa: PTH110 -- any text
        )
    return schema.get("format") == "path"


def _from_folder(folder: Path, value: object) -> object:
    """Return a path, or each of several, joined to a folder; other values as they are."""
    if isinstance(value, list | tuple):
        return [_from_folder(folder, item) for item in value]
    if not isinstance(value, str) or not is_relative(value):
        return value
    # What exists by the name itself, such as a result ~name.mp4, is meant by it.
    path = folder / value if os.path.lexists(folder / value) else folder / expanded(value)
    # Path would drop a slash at the end, which names a folder.
    return str(path) + "/" * value.endswith("/")
