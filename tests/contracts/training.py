"""A configuration of a tiny training on files that a test writes."""

from __future__ import annotations

import pathlib

import yaml

from medmi.io import write_image
from medmi.simulation import HeadPhantom
from medmi.simulation.sources import centred_grid

SMALL = {
    "network": {"spatial_dims": 3, "image_size": 8, "spacing_mm": 20.0, "design": "published", "channels": 4, "pool": 1},
    "schedule": {"epochs": 2, "steps_per_epoch": 3, "batch_size": 4, "warm_steps": 1, "buffer": 4, "reuse": 2, "validation_pairs": 4},
}  # fmt: skip


def write_heads(folder: pathlib.Path) -> dict[str, list[dict[str, str]]]:
    """T1 and T2 of two small heads; the data section that names them."""
    grid = centred_grid((24, 28, 20), 9.0)
    rows = []
    for seed in (0, 1):
        names = {}
        for role, contrast in (("fixed", "t1"), ("moving", "t2")):
            image = HeadPhantom(seed, 3).image(grid, contrast, seed)
            names[role] = f"{role}{seed}.nii.gz"
            write_image(image, folder / names[role])
        rows.append(names)
    return {"train": rows[:1], "validation": rows[1:]}


def write_config(folder: pathlib.Path, data: dict[str, object], **sections: object) -> pathlib.Path:
    """A configuration file; sections are added to those of SMALL or, for ``data``, to what is given."""
    tree = {"data": data, **{name: {**rows} for name, rows in SMALL.items()}}
    for name, rows in sections.items():
        tree[name] = {**tree.get(name, {}), **rows} if isinstance(rows, dict) else rows
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path
