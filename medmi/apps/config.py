"""The training configuration: one YAML file, read into frozen dataclasses or refused in one line.

Words: a *section* is a mapping of the file that fills one dataclass; an *item* is one entry of it. YAML is read as
data (``yaml.safe_load``), never as code.
"""

from __future__ import annotations

import dataclasses
import pathlib
import types
import typing
from dataclasses import dataclass, field
from typing import Any

import yaml

from medmi.apps.data_config import DataConfig, PairFiles
from medmi.engines.options import AdversarialOptions
from medmi.engines.reconstruction import RECONSTRUCTIONS
from medmi.networks.registration_architecture import Architecture
from medmi.simulation.augmentation import Augmentation
from medmi.simulation.pairs import Extent
from medmi.simulation.views import Views
from medmi.validation import InputError, choose, suggestion

__all__ = ["DataConfig", "PairFiles", "ScheduleConfig", "TrainingConfig", "parse_config", "read_config"]

LARGEST_BYTES = 2**20


@dataclass(frozen=True)
class ScheduleConfig:
    """How long and how fast.

    Attributes:
        epochs, steps_per_epoch: of training; the error is measured after every epoch.
        batch_size: samples of a batch.
        generator_rate, discriminator_rate: at their highest.
        warm_steps: over which the generator's rate rises, before both fall as a cosine; the discriminator starts at its
            highest and so leads.
        buffer, reuse: simulated pairs kept at a time, and how often each is drawn.
        known_share: of the pairs, where some patients are not registered, that come from those who are.
        alike: so many pairs, before all others, show the fixed image twice; see :class:`medmi.engines.RollingPairs`.
        validation_pairs: of the validation patients.
        patience: epochs without a lower error before training ends; None: never.
        passes: of the network in validation and in its file.
        candidates: poses near the last pass that the discriminator chooses among in use, see
            :class:`medmi.networks.registration_judge.Judge`; 0: the last pass is the answer, and the file holds no
            discriminator.
        seed: of everything.
        device: a torch device.
        tensorboard: whether the curve is written for TensorBoard too; needs its package.

    Raises:
        InputError: a number out of range.
    """

    epochs: int = 16
    steps_per_epoch: int = 250
    batch_size: int = 32
    generator_rate: float = 1e-3
    discriminator_rate: float = 4e-4
    warm_steps: int = 200
    buffer: int = 512
    reuse: int = 12
    known_share: float = 0.5
    alike: int = 0
    validation_pairs: int = 128
    patience: int | None = None
    passes: int = 2
    candidates: int = 0
    seed: int = 0
    device: str = "cpu"
    tensorboard: bool = False

    def __post_init__(self) -> None:
        counts = ("epochs", "steps_per_epoch", "batch_size", "buffer", "reuse", "validation_pairs", "passes")
        for name in counts:
            if getattr(self, name) < 1:
                raise InputError(f"{name}: {getattr(self, name)} came; at least 1 is asked")
        if not 0 < self.known_share <= 1:
            raise InputError(f"known_share: {self.known_share} came; a share above 0 and up to 1 is asked")
        for name in ("alike", "candidates"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}: {getattr(self, name)} came; at least 0 is asked")
        if self.patience is not None and self.patience < 1:
            raise InputError(f"patience: {self.patience} came; at least 1 is asked")
        for name in ("generator_rate", "discriminator_rate"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{name}: {getattr(self, name)} came; a number between 0 and 1 is asked")
        if not 0 <= self.warm_steps < self.epochs * self.steps_per_epoch:
            raise InputError(f"warm_steps: {self.warm_steps} came; fewer than all steps are asked")


@dataclass(frozen=True)
class TrainingConfig:
    """All of a training.

    Attributes:
        data, network, motion, views, augmentation, adversarial, schedule: see their classes.
        reconstruction: a name of :data:`medmi.engines.reconstruction.RECONSTRUCTIONS`; its weight and the adversarial
            loss's are items of ``adversarial``.
    """

    data: DataConfig
    network: Architecture = field(default_factory=Architecture)
    motion: Extent = field(default_factory=Extent)
    views: Views = field(default_factory=lambda: Views(15.0, 10.0, 0.3, True))
    augmentation: Augmentation = field(default_factory=Augmentation)
    adversarial: AdversarialOptions = field(default_factory=AdversarialOptions)
    reconstruction: str = "none"
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        choose(self.reconstruction, RECONSTRUCTIONS, "reconstruction")
        weight = self.adversarial.reconstruction_weight
        if (self.reconstruction == "none") != (weight == 0):
            raise InputError(
                f"reconstruction: {self.reconstruction!r} came with adversarial.reconstruction_weight {weight}; "
                "give both or neither"
            )
        if self.data.unregistered and self.reconstruction == "supervised" and not self.adversarial.adversarial_weight:
            raise InputError(
                f"train: {self.data.unregistered[0].fixed} came with registered: false and the supervised loss alone, "
                "which learns nothing from it; leave it out or set adversarial.adversarial_weight"
            )
        if self.schedule.candidates and not self.adversarial.adversarial_weight:
            raise InputError(
                f"candidates: {self.schedule.candidates} came with adversarial.adversarial_weight 0, which trains no "
                "discriminator to choose among them; leave it out or give the weight"
            )
        if self.schedule.batch_size % self.adversarial.n_critic:
            raise InputError(
                f"batch_size: {self.schedule.batch_size} came; a multiple of n_critic={self.adversarial.n_critic} is asked"
            )
        if self.data.slices and self.network.spatial_dims != 2:
            raise InputError("slices: true came with a 3D network; leave it out or set network.spatial_dims to 2")


def read_config(path: pathlib.Path) -> TrainingConfig:
    """The configuration of a file.

    Raises:
        InputError: no such file, no YAML, or items that are unknown, of the wrong kind, out of range or missing.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise InputError(f"{path}: is larger than {LARGEST_BYTES} bytes and no configuration")
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a YAML file") from error
    try:
        return parse_config(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def parse_config(text: str | bytes) -> TrainingConfig:
    """The configuration of a YAML text.

    Raises:
        InputError: as :func:`read_config`.

    >>> try:
    ...     parse_config("netwrk: {channels: 32}")
    ... except InputError as error:
    ...     print(str(error).partition("?")[0])
    unknown item 'netwrk'; did you mean 'network'
    """
    try:
        tree = yaml.safe_load(text)
    # Beyond YAMLError: dates that cannot be, unhashable keys, bytes that are no text, nesting without end.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"is no YAML ({reason})") from error
    return _section(TrainingConfig, tree, "")


def _section(kind: type, tree: Any, place: str) -> Any:
    """A dataclass from a mapping."""
    if not isinstance(tree, dict):
        raise InputError(f"{place or 'the file'}: {_shown(tree)} came; a mapping of items is asked")
    hints, known = typing.get_type_hints(kind), {f.name: f for f in dataclasses.fields(kind)}
    for name in tree:
        if name not in known:
            hint = suggestion(str(name), known)
            raise InputError(
                f"{place + ': ' if place else ''}unknown item {_shown(name)}{hint} One of: {', '.join(known)}"
            )
    missing = [n for n, f in known.items() if n not in tree and _required(f)]
    if missing:
        raise InputError(f"{place + ': ' if place else ''}{missing[0]} is missing")
    values = {name: _value(hints[name], item, f"{place}.{name}".lstrip(".")) for name, item in tree.items()}
    try:
        return kind(**values)
    except InputError as error:
        raise InputError(f"{place}: {error}" if place else str(error)) from error


def _required(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _value(kind: Any, item: Any, place: str) -> Any:
    """One item as its annotation says."""
    if dataclasses.is_dataclass(kind):
        return _section(typing.cast(type, kind), item, place)
    if isinstance(kind, types.UnionType):
        inner = next(k for k in typing.get_args(kind) if k is not type(None))
        return None if item is None else _value(inner, item, place)
    if typing.get_origin(kind) is tuple:
        return _several(typing.get_args(kind), item, place)
    if kind is float and isinstance(item, int) and not isinstance(item, bool) and abs(item) < 2**53:
        return float(item)
    if type(item) is not kind:
        raise InputError(f"{place}: {_shown(item)} came; {KINDS[kind]} is asked")
    return item


def _several(kinds: tuple[Any, ...], item: Any, place: str) -> tuple[Any, ...]:
    """A list, of any length where the annotation ends with an ellipsis."""
    if not isinstance(item, list):
        raise InputError(f"{place}: {_shown(item)} came; a list is asked")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(item)
    if len(kinds) != len(item):
        raise InputError(f"{place}: {len(item)} entries came; {len(kinds)} are asked")
    return tuple(_value(kind, entry, f"{place}[{number}]") for number, (kind, entry) in enumerate(zip(kinds, item)))


def _shown(item: Any) -> str:
    """What came, cut short; never the whole of a tree that may hold itself."""
    return f"a {type(item).__name__}" if isinstance(item, (dict, list, tuple, set)) else repr(item)[:60]


KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
