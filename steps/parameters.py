"""Every parameter, declared once: its type, its bounds, its default and what it means.

A section is the part of params.yaml that one stage reads. The options of the stage's command, the
names that `mlflow run . -P name=value` takes and docs/parameters.md follow from these classes, so
a new parameter is a line here, its value in params.yaml and the code that uses it. Afterwards
`python -m steps.parameters_page` writes docs/parameters.md anew.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

MODEL_NAME = r"^[^/:]*[^/:\s][^/:]*$"  # what MLflow's registry takes
Precision = Literal["int8", "bf16", "f32"]
Crop = Literal["body", "fixed"]
CropAspect = Literal["stretched", "kept"]
LabelLevel = Literal["auto", "slice", "series"]
ContrastKind = Literal["medians", "stretched"]


def _number(value: Any) -> Any:
    """Refuse true and false, which Python counts as 1 and 0; take 1e5 for a whole number."""
    if isinstance(value, bool):
        raise ValueError("expected a number")
    if isinstance(value, str) and not value.strip().lstrip("+-").isdecimal():
        number = float(value)
        return int(number) if number.is_integer() else number
    return value


Whole = Annotated[int, BeforeValidator(_number)]
Real = Annotated[float, BeforeValidator(_number)]


class Section(BaseModel):
    """The parameters of one stage."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True
    )
    section: ClassVar[str]


class DataIngestion(Section):
    """Where scans come from and how they are divided."""

    section = "data_ingestion"

    source: str = Field(
        "phantom",
        description="Where the scans are: `phantom`, a Google Drive link or id, an https address "
        "of a zip, `s3://bucket/key.zip`, `s3://bucket/prefix/`, a local zip or a local folder; "
        "several as `name=where;name=where`.",
    )
    sha256: str = Field(
        "",
        description="Expected SHA-256 of the source's zip, of several zips as "
        "`name=digest;name=digest`; empty checks nothing.",
    )
    unsigned: bool = Field(
        False, description="Whether S3 is read without credentials, as public buckets want it."
    )
    labels: str = Field(
        "",
        description="CSV file that says which class each path, series, study or patient is of; "
        "empty takes the class folders.",
    )
    phantom_patients: Whole = Field(
        48,
        ge=0,
        description="How many patients are drawn when the source is `phantom` and "
        "`phantom_images` is 0, each with one or two series of four slices as DICOM.",
    )
    phantom_images: Whole = Field(
        0,
        ge=0,
        description="How many single slices, as PNG and without patients, are drawn instead when "
        "the source is `phantom`; 0 draws `phantom_patients` patients.",
    )
    class_patterns: str = Field(
        "",
        description="Renames or merges class folders, as `pattern=class;pattern=class`, for "
        "example `adenocarcinoma*=adenocarcinoma;normal=normal`; empty takes the folders' names.",
    )
    group_distance_bits: Whole = Field(
        40,
        ge=0,
        le=256,
        description="Largest distance, in bits of a 256-bit perceptual hash, at which two scans "
        "count as near-duplicates and are kept in one split.",
    )
    train_fraction: Real = Field(
        0.7, ge=0, le=1, description="Share of each class's scans, by group, to train on."
    )
    validation_fraction: Real = Field(
        0.1, ge=0, le=1, description="Share of each class's scans, by group, to validate on."
    )
    test_fraction: Real = Field(
        0.2, ge=0, le=1, description="Share of each class's scans, by group, to test on."
    )
    max_files: Whole = Field(100_000, ge=1, description="Largest number of files in a source.")
    max_total_bytes: Whole = Field(
        10_000_000_000, ge=1, description="Largest size of a source in bytes, unpacked."
    )
    max_file_bytes: Whole = Field(
        200_000_000, ge=1, description="Largest size of one file in bytes, unpacked."
    )
    resplit: bool = Field(
        False, description="Whether scans are split anew where the source has its own splits."
    )
    seed: Whole = Field(0, ge=0, description="Seed of the phantoms and of the split.")


class PrepareBaseModel(Section):
    """The frozen network and how pixels reach it."""

    section = "prepare_base_model"

    weights: str = Field(
        "imagenet",
        description="Weights of the base: `imagenet`, `random`, or the path of a Keras weights "
        "file of VGG16 without top.",
    )
    precision: Precision = Field("int8", description="Number format that the base computes in.")
    image_size_px: Whole = Field(
        224, ge=32, le=1024, description="Side of the square image that the network takes, in px."
    )
    crop: Crop = Field(
        "body",
        description="What the network sees: `body`, the box around the body found in the pixels, "
        "or `fixed`, the picture less `crop_fraction` at each side.",
    )
    crop_fraction: Real = Field(
        0.075,
        ge=0,
        le=0.4,
        description="Share of the width and of the height that a `fixed` crop cuts off at each "
        "side.",
    )
    crop_aspect: CropAspect = Field(
        "stretched",
        description="How the crop becomes a square: `stretched`, it fills the square, or `kept`, "
        "its aspect ratio stays and what lies around it is shown, black beyond the picture.",
    )
    contrast_kind: ContrastKind = Field(
        "medians",
        description="How grey levels of any window become alike: `medians`, those of air and of "
        "tissue go to fixed levels, or `stretched`, the whole range fills 0-255.",
    )
    contrast_cutoff_percent: Real = Field(
        1,
        ge=0,
        le=49,
        description="Percentage of the darkest and of the brightest pixels that saturate when the "
        "contrast is `stretched`.",
    )
    feature_blocks: Whole = Field(
        1,
        ge=1,
        le=3,
        description="Of how many blocks of VGG16, the last ones, the feature maps are used.",
    )
    calibration_images: Whole = Field(
        120, ge=1, description="Training scans on which the value ranges of int8 are measured."
    )
    seed: Whole = Field(
        0, ge=0, description="Seed of random weights and of the choice of calibration scans."
    )


class Training(Section):
    """The head, the views it learns from and the limits of its answers."""

    section = "training"

    epochs: Whole = Field(200, ge=1, description="Epochs of the head's training.")
    batch_size: Whole = Field(
        512, ge=1, description="Scans and views in one step of the head's training."
    )
    steps_per_epoch: Whole = Field(
        0, ge=0, description="Steps of the head's training in an epoch; 0 takes every batch."
    )
    learning_rate: Real = Field(
        0.1,
        gt=0,
        description="Learning rate of Adam at the first step; it falls to 0 along a cosine.",
    )
    l2: Real = Field(30, ge=0, description="L2 penalty on the head's kernel.")
    shrinkage: Real = Field(
        0.92,
        gt=0,
        le=1,
        description="How far the covariance within classes, which features are whitened by, is "
        "shrunk towards a multiple of the identity; 1 standardises only.",
    )
    dropout: Real = Field(
        0, ge=0, lt=1, description="Share of the features left out in a training step."
    )
    balanced_classes: bool = Field(
        True, description="Whether each class weighs the same in the loss, however many scans."
    )
    patience: Whole = Field(
        0,
        ge=0,
        description="Epochs without a better validation loss after which training stops; 0 never "
        "stops early.",
    )
    views: Whole = Field(0, ge=0, description="Augmented views of each scan, beside the scan.")
    flip: bool = Field(False, description="Whether half of the views are mirrored left and right.")
    rotation_deg: Real = Field(
        0, ge=0, le=180, description="Largest rotation of a view in degrees, either way."
    )
    shift: Real = Field(
        0, ge=0, le=1, description="Largest shift of a view, as a share of the side."
    )
    zoom: Real = Field(
        0, ge=0, le=0.9, description="Largest zoom of a view; 0.1 is 0.9 to 1.1 times the size."
    )
    histogram_match: Real = Field(
        0, ge=0, le=1, description="Share of views that get another training scan's grey levels."
    )
    brightness: Real = Field(
        0, ge=0, le=1, description="Largest change of a view's brightness, as a share of 255."
    )
    contrast: Real = Field(
        0, ge=0, le=1, description="Largest change of a view's contrast; 0.2 is 0.8 to 1.2 times."
    )
    fine_tune_blocks: Whole = Field(
        0, ge=0, le=5, description="Last blocks of VGG16 that are trained as well."
    )
    fine_tune_epochs: Whole = Field(5, ge=1, description="Epochs of fine-tuning those blocks.")
    fine_tune_learning_rate: Real = Field(
        1e-5, gt=0, description="Learning rate of fine-tuning those blocks."
    )
    fine_tune_batch_size: Whole = Field(
        16, ge=1, description="Scans and views in one step of fine-tuning."
    )
    sensitivity: Real = Field(
        0.95,
        gt=0,
        le=1,
        description="Sensitivity that the stored threshold keeps on held-out groups, a floor: the "
        "one-sided 95 % lower bound reaches it.",
    )
    undecided_error_rate: Real = Field(
        0.05,
        gt=0,
        lt=1,
        description="Share of each class's scans that the prediction sets may miss; a scan whose "
        "set is not exactly one class is `undecided`.",
    )
    healthy_classes: str = Field(
        "normal",
        description="Patterns of the classes that are no disease, divided by semicolons, for "
        "example `normal;cyst*`; classes that begin with `benign` are none either.",
    )
    series_spacing_mm: Real = Field(
        2.5,
        ge=0,
        description="Distance in mm below which slices of a series are thinned: one in each cell "
        "of this length is scored; 0 scores all.",
    )
    label_level: LabelLevel = Field(
        "auto",
        description="What a slice's label speaks of: `slice`, the slice itself; `series`, its "
        "series or patient; `auto`, the series where no diseased series has a healthy slice.",
    )
    flagged_share: Real = Field(
        0.02,
        ge=0,
        le=1,
        description="Largest share of chest CT that may be flagged as out of domain.",
    )
    seed: Whole = Field(0, ge=0, description="Seed of the views, the batches and dropout.")


class Evaluation(Section):
    """What is measured, and whether the model is registered."""

    section = "evaluation"

    register_model: bool = Field(
        False,
        alias="register",  # the name itself is a method of every Python class of this kind
        description="Whether the evaluated model becomes a version in the MLflow registry.",
    )
    registered_model_name: str = Field(
        "chest-ct", pattern=MODEL_NAME, description="Name of the registered model."
    )
    protocol_repeats: Whole = Field(
        10, ge=0, description="Shuffles of the cross-validated protocols; 0 leaves them out."
    )
    stress: bool = Field(True, description="Whether changed test scans are scored as well.")


class Promote(Section):
    """What a candidate must show; read by `python -m steps.promote`."""

    section = "promote"

    registered_model_name: str = Field(
        "chest-ct", pattern=MODEL_NAME, description="Name of the registered model."
    )
    balanced_accuracy_margin: Real = Field(
        0.1,
        ge=0,
        le=1,
        description="How far the lower bound of the candidate's balanced accuracy may lie below "
        "that of the version in Production.",
    )
    sensitivity_margin: Real = Field(
        0.05, ge=0, le=1, description="How far sensitivity may fall below Production's."
    )
    confidence: Real = Field(
        0.95, ge=0.5, lt=1, description="Confidence of the one-sided lower bound."
    )
    bootstrap_replicates: Whole = Field(
        2000, ge=100, description="Bootstrap replicates of the comparison with Production."
    )
    min_test_scans: Whole = Field(
        20, ge=2, description="Fewest shared test scans for which versions are compared."
    )
    external_auc_floor: Real = Field(
        0.5,
        ge=0,
        le=1,
        description="What the lower bound of the AUC on each external set is to reach.",
    )
    seed: Whole = Field(0, ge=0, description="Seed of the bootstrap.")


class ExternalEvaluation(Section):
    """How a model is scored on scans from elsewhere (`python -m steps.evaluation.external`)."""

    section = "external_evaluation"

    prevalence: str = Field(
        "0.01;0.05;0.3",
        description="Shares of diseased, divided by `;`, at which predictive values are stated.",
    )
    max_files: Whole = Field(100_000, ge=1, description="Largest number of files in a source.")
    max_total_bytes: Whole = Field(
        10_000_000_000, ge=1, description="Largest size of a source's unpacked files, in bytes."
    )
    max_file_bytes: Whole = Field(
        200_000_000, ge=1, description="Largest size of one unpacked file, in bytes."
    )


STAGES: tuple[type[Section], ...] = (DataIngestion, PrepareBaseModel, Training, Evaluation)
SECTIONS: tuple[type[Section], ...] = (*STAGES, Promote, ExternalEvaluation)


def parameters_of(section: type[Section]) -> dict[str, FieldInfo]:
    """Return the declarations of a section by the name that users know them by."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def kind(field: FieldInfo) -> str:
    """Return the values that a parameter takes, as a phrase: `a whole number, at least 1`."""
    if field.annotation is bool:
        return "true or false"
    if field.annotation is str:
        named = any(getattr(bound, "pattern", None) == MODEL_NAME for bound in field.metadata)
        return "a name without / and :" if named else "text"
    choices: tuple[str, ...] | None = getattr(field.annotation, "__args__", None)
    if choices:
        return " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
    phrases = ["a whole number" if field.annotation is int else "a number"]
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    for bound in field.metadata:
        for name, text in words.items():
            if hasattr(bound, name):
                phrases.append(f"{text} {getattr(bound, name):g}")
    return ", ".join(phrases)
