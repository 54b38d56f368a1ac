"""The command line: ``medmi COMMAND``. Exit 0 done, 2 bad input or usage, 3 the registration failed, 1 anything unexpected."""

from __future__ import annotations

import gc
import pathlib
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from medmi.apps.console import bar, complain, show, stopped, use_threads
from medmi.apps.interrupts import hear_interrupts
from medmi.validation import InputError

app = typer.Typer(
    name="medmi",
    help="Align medical images of different modalities; transforms open in SimpleITK and 3D Slicer.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Out = Annotated[pathlib.Path, typer.Option("-o", "--out", help="Folder of the results.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")]
Family = Annotated[
    str, typer.Option(help="translation, rigid, similarity, affine, homography (2D); or several with commas.")
]
Similarity = Annotated[
    str | None, typer.Option(help="mi, nmi, ncc, ssd, lmi, lncc, mind, lc2, lc2_wide or mine; the preset's by default.")
]
Start = Annotated[str, typer.Option(help="auto (search), geometry, moments, identity, or a transform file.")]
Preset = Annotated[str | None, typer.Option(help="A name that info --presets lists, or a YAML file.")]
Device = Annotated[str | None, typer.Option(help="cpu, or cuda where there is one.")]
Threads = Annotated[int | None, typer.Option(help="Threads to use; up to 4 of the cores by default.")]
Seed = Annotated[int, typer.Option(help="Seed of the random draws.")]
DicomOut = Annotated[
    bool,
    typer.Option("--dicom-out", help="Both images being DICOM: write registration, moved series and contours too."),
]
DONE, UNEXPECTED, BAD_INPUT, FAILED, INTERRUPTED = 0, 1, 2, 3, 130


@app.command()
def register(
    fixed: Annotated[pathlib.Path, typer.Argument(help="Reference image: a file, or a folder of one DICOM series.")],
    moving: Annotated[pathlib.Path, typer.Argument(help="Image to be aligned.")],
    out: Out,
    transform: Family = "rigid",
    similarity: Similarity = None,
    initial: Start = "auto",
    fixed_mask: Annotated[
        pathlib.Path | None, typer.Option(help="Image on the fixed grid; not 0 where to compare.")
    ] = None,
    moving_mask: Annotated[
        pathlib.Path | None, typer.Option(help="Image on the moving grid; not 0 where it counts.")
    ] = None,
    preset: Preset = None,
    device: Device = None,
    threads: Threads = None,
    seed: Seed = 0,
    network: Annotated[
        pathlib.Path | None,
        typer.Option(help="Trained network (network.pt) that finds the start, instead of --initial."),
    ] = None,
    dicom_out: DicomOut = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find the transform that aligns MOVING with FIXED; write it with the moved image and a report."""
    from medmi.apps.registration import Order, register_files, start_of, trust

    initial = start_of(initial, network)
    order = Order(
        transform, similarity, initial, preset, fixed_mask, moving_mask, seed, use_threads(threads), device, dicom_out
    )
    with bar("registering") as report:
        summary = register_files(fixed, moving, out, order, report)
    line = f"{summary['status']}: results in {out}{trust(summary)}"
    failed = summary["status"].startswith("failed")
    if as_json or not failed:
        show(summary, as_json, line)
    if failed:
        complain(line)
        raise typer.Exit(FAILED)


@app.command()
def apply(
    moving: Annotated[pathlib.Path, typer.Argument(help="Image to carry over.")],
    transform: Annotated[pathlib.Path, typer.Option(help="Transform file, fixed points to moving points.")],
    reference: Annotated[pathlib.Path, typer.Option(help="Image whose grid the result takes.")],
    out: Annotated[pathlib.Path, typer.Option("-o", "--out", help="File to write: .nii.gz, .nii, .mha, .nrrd.")],
    interpolation: Annotated[str, typer.Option(help="linear, nearest (labels) or bspline.")] = "linear",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Carry MOVING through a transform onto the reference's grid."""
    from medmi.apps.registration import apply_file

    apply_file(moving, transform, reference, out, interpolation)
    show({"status": "done", "written": out.name}, as_json, f"written: {out}")


@app.command()
def batch(
    pairs: Annotated[
        pathlib.Path,
        typer.Argument(metavar="PAIRS.csv", help="Columns id,fixed,moving[,fixed_mask,moving_mask,initial]."),
    ],
    out: Out,
    workers: Annotated[int, typer.Option(help="Processes that share the pairs.")] = 1,
    scheduler: Annotated[str | None, typer.Option(help="Address of a dask scheduler whose workers do them.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Pass over pairs that were finished before, unchanged.")
    ] = True,
    transform: Family = "rigid",
    similarity: Similarity = None,
    initial: Start = "auto",
    preset: Preset = None,
    device: Device = None,
    threads: Annotated[int, typer.Option(help="Threads of each pair.")] = 1,
    seed: Seed = 0,
    dicom_out: DicomOut = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Register every pair of a table; each gets a folder below DIR, and DIR/summary.csv says how each went."""
    from medmi.apps.batch import Crew, run_batch
    from medmi.apps.registration import Order

    order = Order(transform, similarity, initial, preset, None, None, seed, use_threads(threads), device, dicom_out)
    try:
        with bar("registering pairs") as report:
            summary = run_batch(pairs, out, order, Crew(workers, scheduler), resume, report)
    except KeyboardInterrupt:
        complain("interrupted; finished pairs are kept, and the same command goes on from there")
        sys.exit(INTERRUPTED)
    counts = f"{summary['pairs']} pairs, {summary['failed']} failed, {summary['finished_before']} finished before"
    show(summary, as_json, f"{counts}: results in {out}")
    if summary["failed"]:
        raise typer.Exit(FAILED)


@app.command()
def demo(
    out: Out = pathlib.Path("medmi-demo"),
    seed: Annotated[int, typer.Option(help="Seed of the phantom.")] = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Align two volumes of a head phantom, T1-like and T2-like, that lie apart by a known motion."""
    from medmi.apps.demo import run_demo

    with bar("demo") as report:
        summary = run_demo(out, seed, use_threads(None), report)
    errors = f"mean error {summary['error_before_mm']:.2f} mm before, {summary['error_after_mm']:.2f} mm after"
    line = f"{errors}, in {summary['seconds']:.1f} s; look at {out / 'comparison.png'}"
    show(summary, as_json, line)


@app.command()
def info(
    path: Annotated[pathlib.Path | None, typer.Argument(help="Image, DICOM folder or transform file.")] = None,
    presets: Annotated[bool, typer.Option("--presets", help="List the presets.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what a file or folder holds, or list the presets."""
    from medmi.apps.info import describe, describe_presets, table

    if path is None and not presets:
        raise InputError("info: give a PATH, or --presets")
    rows = describe_presets() if presets else describe(path)  # type: ignore[arg-type]
    if as_json:
        show({"rows": rows}, True, "")
    else:
        table(rows)


@app.command()
def mi(
    a: Annotated[pathlib.Path, typer.Argument(help="An image.")],
    b: Annotated[pathlib.Path, typer.Argument(help="Another; resampled on the first one's grid where they differ.")],
    estimator: Annotated[
        str, typer.Option(help="histogram, or a neural bound: mine, dv, nwj, jsd, hellinger, chi2, infonce, smile.")
    ] = "histogram",
    num_bins: Annotated[int, typer.Option(help="Bins of the histogram along each axis.")] = 32,
    seed: Annotated[int, typer.Option(help="Seed of the neural estimators.")] = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Mutual information of two images, in nat."""
    from medmi.apps.measure import measure_information

    use_threads(None)
    summary = measure_information(a, b, estimator, num_bins, seed)
    show(
        summary,
        as_json,
        f"mutual information {summary['mutual_information_nat']:.4f} nat over {summary['voxels']} voxels ({estimator})",
    )


@app.command()
def evaluate(
    transform: Annotated[pathlib.Path, typer.Option(help="Transform file, fixed points to moving points.")],
    fixed_points: Annotated[
        pathlib.Path, typer.Option(help="Landmarks on the fixed image: .csv (x,y[,z]), .fcsv or .mrk.json.")
    ],
    moving_points: Annotated[
        pathlib.Path, typer.Option(help="The same landmarks on the moving image, in the same order.")
    ],
    frame: Annotated[str, typer.Option(help="ras or lps: frame of .csv coordinates.")] = "ras",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Target registration error of a transform over landmark pairs, in mm."""
    from medmi.apps.measure import evaluate as measure

    summary = measure(transform, fixed_points, moving_points, frame)
    before, after = (summary[key]["mean"] for key in ("before_mm", "after_mm"))
    line = f"mean error {before:.3f} mm before, {after:.3f} mm after, over {summary['landmarks']} landmarks"
    show(summary, as_json, line)


@app.command()
def convert(
    source: Annotated[pathlib.Path, typer.Argument(metavar="IN", help="Transform file.")],
    out: Annotated[
        pathlib.Path, typer.Argument(metavar="OUT", help="Transform file of another kind; the suffix says which.")
    ],
    fixed: Annotated[
        pathlib.Path | None, typer.Option(help="Fixed image: FSL, FreeSurfer and field files need its grid.")
    ] = None,
    moving: Annotated[
        pathlib.Path | None, typer.Option(help="Moving image: FSL and FreeSurfer files need its grid.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Rewrite a transform file in another convention: ITK, FSL, AFNI, FreeSurfer, displacement field."""
    from medmi.apps.convert import convert_file

    convert_file(source, out, fixed, moving)
    show({"status": "done", "written": out.name}, as_json, f"written: {out}")


@app.command()
def train(
    config: Annotated[pathlib.Path, typer.Argument(metavar="CONFIG.yaml", help="What to train, on what, how long.")],
    out: Out,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training that --out holds.")] = False,
    threads: Threads = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a registration network; Ctrl-C saves it for --resume."""
    from medmi.apps.config import read_config
    from medmi.apps.train import train_files
    from medmi.engines import TrainingDiverged

    use_threads(threads)
    settings = read_config(config)
    try:
        with bar("training") as report:
            summary = train_files(settings, config.parent, out, resume, report)
    except KeyboardInterrupt:
        complain(f"interrupted; {out} holds the training so far, --resume goes on with it")
        sys.exit(INTERRUPTED)
    except TrainingDiverged as error:
        raise typer.Exit(stopped(str(error), FAILED)) from None
    first, last = summary["mean_error_mm"][0], summary["mean_error_mm"][-1]
    line = f"mean error {first:.2f} mm before, {last:.2f} mm after, on validation pairs; results in {out}"
    show(summary, as_json, line)


def main() -> None:
    """Run a command; every foreseen error is one line on stderr, after the traceback where ``--debug`` asks for it."""
    hear_interrupts()
    gc.freeze()  # what was imported stays: no need to look for garbage in it
    try:
        code = app(standalone_mode=False, prog_name="medmi") or DONE
    except (InputError, TyperException) as error:
        code = stopped(error.format_message() if isinstance(error, TyperException) else str(error), BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        message = f"unexpected {type(error).__name__}: {error}; run again with --debug and report it"
        code = stopped(message, UNEXPECTED)
    if code == INTERRUPTED:  # which is also what typer makes of Ctrl-C within a command
        complain("interrupted; nothing was written")
    sys.exit(code)


if __name__ == "__main__":
    main()
