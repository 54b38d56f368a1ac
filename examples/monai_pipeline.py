"""Registration as a step of a MONAI pipeline, computed inside ``Compose`` (asked for in MONAI's issue #9008).

    python examples/monai_pipeline.py FIXED MOVING [--labels LABELS] [-o DIR] [--transform rigid]

FIXED and MOVING are images of one patient in any format medmi reads, DICOM folders included; LABELS is a segmentation
of the moving image. Without arguments a pair is made up. The pipeline reads both, turns the moving image's axes,
registers, carries the labels along, and writes the transform and the images; no other program and no change of frame
is involved. Then a "prediction" made on the moved image goes back to the moving image's grid by ``Invertd``, and the
same pipeline runs again through a DataLoader's workers to show that they find the same transform, bit for bit.
"""

from __future__ import annotations

import argparse
import pathlib

import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import Compose, Invertd, Orientationd, SaveImaged

from medmi.grid import Grid
from medmi.io import write_image
from medmi.transforms import ApplyTransformd, LoadImagePaird, Registerd, SaveTransformd


def made_up_pair(folder: pathlib.Path) -> dict[str, str]:
    """Two contrasts of some blobs, the second turned by 0.2 rad and shifted by some mm, and labels of the second."""
    turn = torch.eye(4, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[0.980067, -0.198669], [0.198669, 0.980067]])
    turn[:3, 3] = torch.tensor([6.0, -4.0, 3.0])
    affine = torch.diag(torch.tensor([1.5, 1.5, 2.5, 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([-48.0, -54.0, -45.0])
    places = torch.rand((12, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 60 - 30
    widths = torch.linspace(5, 14, len(places), dtype=torch.float64)
    images = {}
    for name, grid in (("fixed", Grid((64, 72, 36), affine)), ("moving", Grid((70, 64, 40), turn @ affine))):
        points = grid.points() if name == "fixed" else Grid(grid.shape, affine).points()
        blobs = sum(torch.exp(-(points - p).square().sum(-1) / (2 * w**2)) for p, w in zip(places, widths))
        images[name] = MetaTensor(
            (blobs if name == "fixed" else torch.cos(2 * blobs)).float()[None], affine=grid.affine
        )
        if name == "moving":
            images["labels"] = MetaTensor((blobs > blobs.mean()).float()[None], affine=grid.affine)
    folder.mkdir(parents=True, exist_ok=True)
    item = {name: str(folder / f"{name}.nii.gz") for name in images}
    for name, path in item.items():
        write_image(images[name], path)
    return item


def build(keys: list[str], transform: str) -> Compose:
    """Read, turn, register, carry the labels along."""
    steps = [
        LoadImagePaird(keys),
        Orientationd("moving", "PIR", labels=None),
        Registerd(("fixed", "moving"), transform=transform, seed=0),
    ]
    if "labels" in keys:
        steps.append(ApplyTransformd("labels", interpolation="nearest"))
    return Compose(steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixed", nargs="?")
    parser.add_argument("moving", nargs="?")
    parser.add_argument("--labels")
    parser.add_argument("--transform", default="rigid")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=pathlib.Path("registered"))
    options = parser.parse_args()
    if options.fixed and not options.moving:
        parser.error("give both images, or none")
    named = {"fixed": options.fixed, "moving": options.moving, "labels": options.labels}
    item = {k: v for k, v in named.items() if v} if options.fixed else made_up_pair(options.output / "made_up")
    pipeline = build(list(item), options.transform)

    done = pipeline(item)
    print("status:", done["moved"].meta["registration_status"])
    print("fixed to moving world, RAS mm:\n", done["transform"])
    outputs = ["moved", "labels"] if "labels" in item else ["moved"]
    save = Compose(
        [
            SaveTransformd("transform", options.output),
            SaveImaged(outputs, output_dir=options.output, output_postfix="moved", resample=True, print_log=False),
        ]
    )
    save(done)

    done["prediction"] = MetaTensor((done["moved"] > done["moved"].mean()).as_tensor().float())
    back = Invertd("prediction", pipeline, orig_keys="moved", nearest_interp=True)(done)["prediction"]
    print("prediction on the moving grid:", tuple(back.shape), "as", tuple(done["moving"].shape))

    loader = DataLoader(Dataset([item, item], pipeline), batch_size=2, num_workers=2)
    workers = [found["transform"] for batch in loader for found in decollate_batch(batch)]
    print("workers find the same bits:", all(torch.equal(found, done["transform"]) for found in workers))


if __name__ == "__main__":
    main()
