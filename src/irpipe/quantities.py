"""Types of the options that configs set: what they accept and how they read it."""

from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field


def _number(value: Any) -> Any:
    """Read "8/255" as the fraction it is; say what to write instead of other strings."""
    if not isinstance(value, str):
        return value
    numerator, slash, denominator = value.partition("/")
    if slash and numerator.strip().isdecimal() and denominator.strip().isdecimal() and int(denominator):
        return float(Fraction(int(numerator), int(denominator)))
    raise ValueError("not a number; write 0.1, 8/255 or, for powers of ten, 5.0e-4 (YAML reads 5e-4 as text)")


def _several(value: Any) -> Any:
    """A single number stands for a list of one."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _points(value: Any) -> Any:
    """A schedule as YAML writes it, [[step, value], ...], steps rising."""
    if not isinstance(value, list) or not value or not all(isinstance(p, list | tuple) and len(p) == 2 for p in value):
        raise ValueError("not a list of points [step, value]")
    points = [tuple(point) for point in value]
    steps = [step for step, _ in points]
    if not all(isinstance(step, int) for step in steps) or steps != sorted(set(steps)):
        raise ValueError("steps must be whole numbers, each greater than the one before")
    return points


def _inside(value: str) -> str:
    """A path that stays in the folder it is looked up in."""
    if not value or value.startswith("/") or ".." in value.split("/"):
        raise ValueError("not a file in the folder of released networks")
    return value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Radius = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0, lt=2**32)]  # the range of numpy's seeds
Radii = Annotated[list[Radius], BeforeValidator(_several), Field(min_length=1)]
Counts = Annotated[list[Count], BeforeValidator(_several), Field(min_length=1)]
Places = Annotated[list[Index], BeforeValidator(_several), Field(min_length=1)]
Names = Annotated[list[str], BeforeValidator(_several), Field(min_length=1)]
Factors = Annotated[list[Positive], BeforeValidator(_several), Field(min_length=1)]
Norms = Annotated[list[Literal["l1", "l2"]], BeforeValidator(_several), Field(min_length=1)]
ClassSets = Annotated[list[Literal["one", "two", "all"]], BeforeValidator(_several), Field(min_length=1)]
Components = Annotated[
    list[Literal["apgd-ce", "apgd-t", "fab-t", "square"]], BeforeValidator(_several), Field(min_length=1)
]  # of AutoAttack
Schedule = Annotated[list[tuple[Index, NotNegative]], BeforeValidator(_points)]  # linear between its points
# snakemake --config hands over numbers for folders called 2024, and "true" as text
Folder = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]
Inside = Annotated[str, AfterValidator(_inside)]
Switch = Annotated[bool, BeforeValidator(lambda value: value == "true" if value in ("true", "false") else value)]
Interpreter = Literal["cam", "gradcam", "gradcampp", "ig", "repr"]  # `maps.interpret`
Change = Literal["topk", "centre", "two_class", "target"]  # of maps, that an attack against them raises
Variant = Literal["code", "literature"]  # of an interpreter: the released code's or its authors', C.3
Fidelity = Literal["code", "fixed"]  # of an unforeseen attack to the released code, or with its faults mended
StepRule = Literal["code", "upstream"]  # of an unforeseen attack: eps / sqrt(steps), or upstream's calibrated step
Precision = Literal["float32", "bfloat16"]  # of the arithmetic behind an attack's gradients
Iterate = Literal["last", "worst"]  # which one an unforeseen attack gives
