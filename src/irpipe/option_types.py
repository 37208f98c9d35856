"""Types of the options that configs set: what they accept and how they read it."""

from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema


def _number(value: Any) -> Any:
    """Read "8/255" as a fraction; say what to write instead of another string."""
    if not isinstance(value, str):
        return value
    numerator, slash, denominator = (part.strip() for part in value.partition("/"))
    is_fraction = slash and numerator.isdecimal() and denominator.isdecimal()
    if is_fraction and int(denominator):
        return float(Fraction(int(numerator), int(denominator)))
    raise ValueError(
        "not a number; write 0.1, 8/255 or, for powers of ten, 5.0e-4 (YAML reads 5e-4 as text)"
    )


def _as_list(value: Any) -> Any:
    """A list; a single value stands for a list of one."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _schedule_points(value: Any) -> Any:
    """The points [(step, value), ...] of a schedule, with rising steps."""

    def is_pair(point: Any) -> bool:
        return isinstance(point, list | tuple) and len(point) == 2

    if not isinstance(value, list) or not value or not all(map(is_pair, value)):
        raise ValueError("not a list of points [step, value]")
    points = [tuple(point) for point in value]
    steps = [step for step, _ in points]
    if not all(isinstance(step, int) for step in steps) or steps != sorted(set(steps)):
        raise ValueError("steps must be whole numbers, each greater than the one before")
    return points


def _relative_path(value: str) -> str:
    """The path, if it stays in the folder in which it is looked up."""
    if not value or value.startswith("/") or ".." in value.split("/"):
        raise ValueError("not a file in the folder of released networks")
    return value


def _folder(value: Any) -> Any:
    """The folder's name. YAML reads 2024_01 as the number 202401, which is another folder."""
    if isinstance(value, int | float):
        raise ValueError("YAML reads this as a number; put the folder's name in quotes")
    return value


def _model(value: str) -> str:
    """The model, if it is one of irpipe or a file beside the config."""
    if value not in MODELS and not value.startswith("./"):
        raise ValueError(f"neither {', '.join(MODELS)} nor a file ./FILE.py beside the config")
    return value


def _bool(value: Any) -> Any:
    """The truth value, which is text in `snakemake --config download=true`."""
    return value == "true" if value in ("true", "false") else value


# The architectures of the paper, and what networks are called that irpipe cannot build.
MODELS = ("small", "pool", "wresnet", "own")
_MODEL_SCHEMA = {"anyOf": [{"enum": list(MODELS)}, {"type": "string", "pattern": r"^\./.*\.py$"}]}
Model = Annotated[str, AfterValidator(_model), WithJsonSchema(_MODEL_SCHEMA)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Eps = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
# numpy's range of seeds.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Index = Annotated[int, Field(ge=0, lt=2**32)]
Schedule = Annotated[list[tuple[Index, NotNegative]], BeforeValidator(_schedule_points)]
Folder = Annotated[str, BeforeValidator(_folder)]
RelativePath = Annotated[str, AfterValidator(_relative_path)]
Bool = Annotated[bool, BeforeValidator(_bool)]

_NotEmptyList = (BeforeValidator(_as_list), Field(min_length=1))
EpsList = Annotated[list[Eps], *_NotEmptyList]
# In a norm in which a change of all pixels may exceed 1.
NormEpsList = Annotated[list[NotNegative], *_NotEmptyList]
StepCounts = Annotated[list[Count], *_NotEmptyList]
Indices = Annotated[list[Index], *_NotEmptyList]
Names = Annotated[list[str], *_NotEmptyList]
MethodPair = Annotated[list[str], Field(min_length=2, max_length=2)]
MethodPairs = Annotated[list[MethodPair], Field(min_length=1)]
PositiveList = Annotated[list[Positive], *_NotEmptyList]
Norms = Annotated[list[Literal["l1", "l2"]], *_NotEmptyList]
ClassSets = Annotated[list[Literal["one", "two", "all"]], *_NotEmptyList]
AutoAttackMember = Literal["apgd-ce", "apgd-t", "fab-t", "square"]
AutoAttackMembers = Annotated[list[AutoAttackMember], *_NotEmptyList]

# Maps that explain a prediction (`interpretability.interpreters`).
Interpreter = Literal["cam", "gradcam", "gradcampp", "ig", "repr"]
# The interpreters of Figure 1, whose maps belong to a class.
FigureInterpreters = Annotated[list[Literal["cam", "gradcampp", "ig"]], *_NotEmptyList]
# An interpreter as the released code has it, or as in its own paper (C.3).
InterpreterVariant = Literal["released", "original"]
# How integrated gradients are summed over the path (`interpretability.integrated_gradients`).
IgRule = Literal["quadrature", "sum"]
# What an attack against maps maximises (C.6-2).
MapLoss = Literal["topk", "mass_center", "two_class", "targeted"]
# An unforeseen attack as the released code has it, or with its faults repaired.
AttackVariant = Literal["released", "fixed"]
# The step of an unforeseen attack: eps / sqrt(steps), or advex-uar's calibrated one (C.6-3).
StepRule = Literal["released", "advex_uar"]
# The norm in which eps bounds an attack's change of the image.
EpsNorm = Literal["linf", "l2", "l1"]
# The dtype in which an attack's gradients are computed.
GradDtype = Literal["float32", "bfloat16"]
# Which iterate an attack returns.
Iterate = Literal["last", "worst"]
