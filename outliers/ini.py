"""What was written for each setting, in the INI file and over it in the environment; not what the text means."""

from __future__ import annotations

import configparser
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

from .errors import ConfigError
from .settings import Setting

# (lower-case section, key) -> (text, where it was written)
Written = dict[tuple[str, str], tuple[str, str]]


def written_in(file: str, known: Iterable[Setting]) -> tuple[Written, list[str]]:
    """Return what the file says, and a warning for each thing in it that nobody knows."""
    if not file:
        return {}, []
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(Path(file).read_text(encoding="utf-8-sig"), source=file)
    except OSError as error:
        raise ConfigError(f"the configuration file {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the configuration file {file} is not UTF-8 text") from error
    except configparser.Error as error:
        raise ConfigError(" ".join(f"the configuration file is not INI: {error}".split())) from error
    written: Written = {}
    warnings = []
    for section in parser.sections():
        for key, text in parser.items(section):
            written[section.lower(), key] = (text.strip(), "file")
            warnings += _unknown(section, key, known)
    return written, warnings


def override(written: Written, environ: Mapping[str, str], known: Iterable[Setting]) -> list[str]:
    """Put what `OUTLIERS_<SECTION>__<KEY>` say into `written`; return warnings for those that nobody knows.

    A variable without `__` is somebody else's (containers get such), unless it looks like a setting's.
    """
    warnings = []
    for variable in sorted(environ):
        if not variable.startswith("OUTLIERS_"):
            continue
        section, found, key = variable[len("OUTLIERS_") :].lower().partition("__")
        if not found:
            names = [f"{s.section.lower()}__{s.key}" for s in known]
            near = difflib.get_close_matches(section, names, n=1, cutoff=0.8)
            warnings += [f"{variable} is ignored; is it OUTLIERS_{name.upper()}?" for name in near]
            continue
        for also in (key + "_file", key[: -len("_file")] if key.endswith("_file") else ""):
            written.pop((section, also), None)  # a secret from the environment replaces one from a file, however given
        written[section, key] = (environ[variable].strip(), "environment")
        warnings += [f"{variable}: {text}" for text in _unknown(section, key, known)]
    return warnings


def _unknown(section: str, key: str, settings: Iterable[Setting]) -> list[str]:
    known = {(s.section.lower(), s.key) for s in settings}
    known |= {(s.section.lower(), s.key + "_file") for s in settings if s.secret}
    if (section.lower(), key) in known:
        return []
    sections = {s.section for s in settings}
    if section.lower() not in {s.lower() for s in sections}:
        near = difflib.get_close_matches(section, sections, n=1)
        what = f"section [{section}] is not known"
    else:
        near = difflib.get_close_matches(key, [k for s, k in known if s == section.lower()], n=1)
        what = f"[{section}] {key} is not known"
    return [what + " and is ignored" + (f"; is it {near[0]}?" if near else "")]


def text_for(entry: Setting, written: Written) -> tuple[str, str]:
    """Return the text of a setting ("" = not written) and where it is from; a secret may stand in a file of its own."""
    section = entry.section.lower()
    text, origin = written.get((section, entry.key), ("", ""))
    file, file_origin = written.get((section, entry.key + "_file"), ("", "")) if entry.secret else ("", "")
    if not file or text:
        return text, origin
    try:
        return Path(file).read_text(encoding="utf-8").strip(), file_origin
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"[{entry.section}] {entry.key}_file = {file} cannot be read: {reason}") from error
