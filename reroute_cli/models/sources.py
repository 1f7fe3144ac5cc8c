"""Where a model's files are: a hub id, a well-known name, a local folder, or `pocket`, the embedded one.

Knows folders, names and the hub (huggingface_hub is loaded when it is needed); no torch, no transformers.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import CliError, Failure, is_out_of_memory, was_interrupted
from reroute_cli.console.missing import missing_name
from reroute_cli.models.adapters import CONFIG, WEIGHTS, Adapter, is_adapter, read_adapter

if TYPE_CHECKING:
    from profiles import ModelEntry

POCKET = "pocket"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
_SHOWN = 120  # characters of a name that is none
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_REMEDY = "give a hub id that exists, a local model folder, or 'pocket'"
_OFFLINE = "give a local model folder, or use --load-format dummy (random weights, no network)"


@dataclass(frozen=True)
class Source:
    """Where a model's files are: a local folder, or a hub repository at one revision.

    adapter: what is to be merged into it.
    """

    location: str
    revision: str | None = None
    offline: bool = True
    adapter: Adapter | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What every from_pretrained call is given beside the location."""
        where: dict[str, Any] = {"local_files_only": self.offline, "trust_remote_code": False}
        return where | ({"revision": self.revision} if self.revision else {})

    @property
    def of_processor(self) -> Source:
        """Where the processor's files are: beside the adapter, where trainers put them, or here."""
        if self.adapter is not None and any((self.adapter.folder / file).is_file() for file in PROCESSORS):
            return Source(str(self.adapter.folder))
        return self


def known(name: str) -> ModelEntry | None:
    """The well-known model of this name or hub id; None for folders, `pocket` and all others."""
    from profiles.errors import ProfileError
    from profiles.models import model

    try:
        return None if name == POCKET or Path(name).is_dir() else model(name)
    except (ProfileError, OSError):
        return None


def find(name: str, *, as_base: bool = False) -> Source:
    """Where the model called `name` is; checks a folder's contents, asks the hub once, without retries.

    as_base: it may be no adapter.
    """
    if name == POCKET:
        from reroute_cli.models.pocket import WEIGHTS

        return Source(str(WEIGHTS))
    try:
        folder = Path(name).expanduser()
        if folder.is_dir():
            if is_adapter(folder):
                return _adapter(name, folder, as_base)
            if not (folder / "config.json").is_file():
                raise Failure(f"the folder '{name}' holds no config.json: {_REMEDY}")
            return Source(str(folder))
        exists = folder.exists()
    except (RuntimeError, OSError) as error:  # '~name' of nobody on this machine, or no name at all
        raise Failure(f"there is no model folder '{name[:_SHOWN]}': {_REMEDY}") from error
    if exists:
        raise Failure(f"the model '{name}' is a file, not a folder: {_REMEDY}")
    if entry := known(name):
        return _on_hub(entry.hub, _OFFLINE, as_base)
    if name.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(name):
        raise Failure(f"there is no model folder '{name[:_SHOWN]}': {_REMEDY}")
    return _on_hub(name, _REMEDY, as_base)


def read_config(name: str, source: Source | None = None) -> dict[str, Any]:
    """The config.json of a model as a dict; neither weights nor torch are touched."""
    source = source or find(name)
    if Path(source.location).is_dir():
        path = Path(source.location) / "config.json"
    else:
        from huggingface_hub import hf_hub_download

        with explained(name):
            path = Path(
                hf_hub_download(
                    source.location,
                    "config.json",
                    revision=source.revision,
                    local_files_only=source.offline,
                )
            )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Failure(f"the config.json of '{name}' can't be read ({error}): fetch the model anew") from error
    if not isinstance(config, dict):
        raise Failure(f"the config.json of '{name}' holds no JSON object: fetch the model anew")
    for key, kind in (("model_type", str), ("text_config", dict), ("vision_config", dict)):
        if not isinstance(config.get(key), kind | None):
            raise Failure(f"the config.json of '{name}' has a broken {key}: fetch the model anew")
    return config


def read_preprocessing(name: str) -> dict[str, Any] | None:
    """The numbers of a local model's image processor; None where there is no file of them."""
    folder = Path(find(name).of_processor.location)
    for file, part in zip(PROCESSORS, (None, "image_processor"), strict=True):
        try:
            read = json.loads((folder / file).read_text(encoding="utf-8"))
            found = read[part] if part else read
        except (OSError, ValueError, RecursionError, LookupError, TypeError):
            continue
        if isinstance(found, dict):
            return found
    return None


def _adapter(name: str, folder: Path, as_base: bool) -> Source:
    """Where the base of an adapter is, with the adapter in this folder."""
    if as_base:
        raise Failure(f"'{name}' is an adapter, too: merge it into its base first")
    adapter = read_adapter(name, folder)
    try:
        return replace(find(adapter.base, as_base=True), adapter=adapter)
    except Failure as error:
        raise Failure(f"the base of the adapter '{name}' (its base_model_name_or_path): {error}") from error


def _on_hub(name: str, remedy: str, as_base: bool) -> Source:
    """Ask the hub for the repository's commit; unreachable, use what the cache holds or say so."""
    from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        found = HfApi().model_info(name, timeout=10)
        if any(file.rfilename == CONFIG for file in found.siblings or ()):
            wanted = [WEIGHTS, "*.json", "*.jinja", "*.txt", "tokenizer.model"]  # its processor's files too
            with explained(name):
                folder = snapshot_download(name, revision=found.sha, allow_patterns=wanted)
            return _adapter(name, Path(folder), as_base)
        return Source(name, revision=found.sha, offline=False)
    except CliError:
        raise
    except GatedRepoError as error:
        raise Failure(f"the model '{name}' is gated: accept its licence and run 'hf auth login'") from error
    except RepositoryNotFoundError as error:
        raise Failure(f"the hub has no model '{name}': {remedy}") from error
    except Exception as error:
        # No network, offline mode, proxies, outages: each HTTP stack has its own exceptions for these.
        if missing_name(error):
            raise
        if isinstance(held := try_to_load_from_cache(name, CONFIG), str):
            return _adapter(name, Path(held).parent, as_base)
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            return Source(name)
        status = "answered with an error" if isinstance(error, HfHubHTTPError) else "can't be reached"
        raise Failure(f"the model '{name}' is not on this machine and the hub {status}: {remedy}") from error


def refuse_pickles(name: str, source: Source) -> None:
    """A folder whose only weights are pickles is refused by name: opening a pickle runs code."""
    folder = Path(source.location)
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise Failure(f"'{name}' holds '{pickles[0]}', a pickle that can run code: convert it to safetensors")
    raise Failure(f"the folder '{name}' holds no .safetensors weights: add them, or use --load-format dummy")


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn what the libraries raise about a model's files into one sentence."""
    from safetensors import SafetensorError

    from routing.errors import RoutingError

    try:
        yield
    except SafetensorError as error:
        raise Failure(f"the weights of '{name}' are damaged ({error}): fetch the model anew") from error
    except ImportError as error:
        needed = missing_name(error) or str(error).strip().splitlines()[0]
        raise Failure(f"'{name}' can't be loaded here: {needed}") from error
    except (CliError, RoutingError):
        raise
    except Exception as error:
        # What makes no sense in a model's files fails wherever a library first divides by it or indexes it.
        if is_out_of_memory(error) or was_interrupted(error):
            raise
        reason = missing_name(error) or (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Failure(f"the model '{name}' can't be loaded: {reason}") from error
