"""What a trained model carries besides its network: one JSON card and the head's arrays."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .conformal import Conformal
from .preprocessing import Preprocessing
from .series_answer import SeriesAnswer
from .series_thinning import SPACING_MM

NETWORK = "network.xml"
CARD = "card.json"
HEAD = "head.npz"


@dataclasses.dataclass(frozen=True)
class Card:
    """Everything that must travel with the weights for a row to come out right."""

    classes: tuple[str, ...]
    preprocessing: Preprocessing
    precision: str
    data_digest: str  # SHA-256 of the training data's labels and splits (see scans)
    phantom: bool  # trained on synthetic scans
    temperature: float = 1.0
    threshold: float | None = None  # on the probability of disease; None takes the likeliest class
    conformal: Conformal | None = None  # when a scan is undecided; None in models that never say
    healthy_classes: tuple[str, ...] = ()  # no disease; none: see decision.py
    series: SeriesAnswer | None = None  # how slices become an answer; None: trained without series
    series_spacing_mm: float = SPACING_MM  # slices of a series nearer than this are thinned

    @classmethod
    def read(cls, folder: Path) -> Card:
        """Read the card in a model's network folder."""
        fields = json.loads((folder / CARD).read_text(encoding="utf-8"))
        fields["classes"] = tuple(fields["classes"])
        fields["healthy_classes"] = tuple(fields.get("healthy_classes", ()))
        fields["preprocessing"] = Preprocessing(**fields["preprocessing"])
        if fields.get("conformal") is not None:
            error_rate, quantiles = (fields["conformal"][k] for k in ("error_rate", "quantiles"))
            fields["conformal"] = Conformal(error_rate, tuple(quantiles))
        if fields.get("series") is not None:
            fields["series"] = SeriesAnswer.from_fields(fields["series"])
        return cls(**fields)

    def write(self, folder: Path) -> None:
        """Write the card into a model's network folder."""
        text = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)
        (folder / CARD).write_text(text + "\n", encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class Head:
    """The trained dense layer: logits = features @ kernel + bias."""

    kernel: NDArray[np.float32]  # (features, classes)
    bias: NDArray[np.float32]  # (classes,)

    @classmethod
    def read(cls, folder: Path) -> Head:
        """Read the head in a model's network folder."""
        with np.load(folder / HEAD, allow_pickle=False) as arrays:
            return cls(arrays["kernel"], arrays["bias"])

    def write(self, folder: Path) -> None:
        """Write the head into a model's network folder."""
        np.savez(folder / HEAD, kernel=self.kernel, bias=self.bias)

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute logits (n, classes) of feature vectors (n, features).

        Row by row: a product over several rows sums in another order, and a scan would get
        another last digit in company than alone.
        """
        rows = [vector @ self.kernel for vector in features]
        return np.array(rows, dtype=np.float32).reshape(-1, len(self.bias)) + self.bias


def model_digest(loader: Path, code: Path, network: Path) -> str:
    """Digest the files that decide a model's answers: the model's one identity.

    Args:
        loader: the file that MLflow runs (see loader.py).
        code: folder of the shipped package.
        network: folder of the network, the head, the card and what else this code reads.

    Returns:
        SHA-256 in hexadecimal, over each file's name and content. It stays the same when the same
        model is saved again, or is moved: what else MLflow writes does not count.
    """
    named = {"loader.py": loader}
    named |= {f"code/{p.relative_to(code).as_posix()}": p for p in code.rglob("*.py")}
    named |= {
        f"network/{p.relative_to(network).as_posix()}": p for p in network.rglob("*") if p.is_file()
    }
    digest = hashlib.sha256()
    for name, path in sorted(named.items()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
