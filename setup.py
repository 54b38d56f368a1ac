"""How the loops in C are built; everything else stands in pyproject.toml."""

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FOLDER = "medmi/native"
SOURCES = (
    "climbing",
    "drawing",
    "histogram",
    "informing",
    "keeping",
    "module",
    "moments",
    "resampling",
    "sampling",
    "sharing",
    "straining",
)
# Products and sums may be fused and sums taken in another order, so that whole vectors of points are worked on at once; NaN and infinity
# keep their meaning.
VECTORS = [
    "-O3",
    "-std=gnu11",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-ffp-contract=fast",
]
FLAGS = {"unix": VECTORS, "mingw32": VECTORS, "msvc": ["/O2", "/std:c11", "/experimental:c11atomics"]}


class BuildLoops(build_ext):
    def build_extensions(self) -> None:
        for extension in self.extensions:
            extension.extra_compile_args = FLAGS.get(self.compiler.compiler_type, [])
        super().build_extensions()


setup(
    ext_modules=[
        Extension(
            "medmi.native.loops",
            sources=[f"{FOLDER}/{name}.c" for name in SOURCES],
            depends=[
                f"{FOLDER}/{name}.h" for name in ("histogram", "keeping", "lattice", "loops", "moments", "sharing")
            ],
        )
    ],
    cmdclass={"build_ext": BuildLoops},
)
