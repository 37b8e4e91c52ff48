"""headstart in scikit-learn's terms: images in, features or classes out.

``clone``, ``Pipeline``, ``cross_val_score`` and grid searches work. X is a sequence of paths, PIL
images or uint8 arrays (H, W, 3), or one array (N, H, W, 3). Features come from the cache, so the
folds of a cross-validation compute each image once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from headstart.cache import Cache
from headstart.data.read import Source, source_digest
from headstart.embedding import create_backbone
from headstart.errors import BadImage, DataError
from headstart.options import DEFAULT_BACKBONE, Options
from headstart.strategy.phase import Solve
from headstart.strategy.presets import PENALTIES
from headstart.training.device import first_path, pick_device
from headstart.training.features import extract
from headstart.training.solve import solve
from headstart.training.task import SingleLabel

__all__ = ["ImageClassifier", "ImageFeatures"]


class ImageFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A pre-trained network as a transformer: N images -> features (N, feature_dim) float32.

    Args:
        backbone: ``zoo:name`` of the network; None is that of the run in ``weights``, or else
            ``bundled:efficientnet_lite0``.
        weights: A file of weights to load into it instead of the zoo's own, or the folder of an
            earlier run.
        mean: Of the images these were trained on, one number, or three for red, green and blue, in
            units of 0..1, or of 0..255 if any is above 1, where no file beside the weights says so.
        std: Their standard deviation, likewise.
        size: Side of the input in pixels, for networks that take another than their own.
        resize: ``crop``, ``squash`` or ``pad``; None is the network's own rule.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``fp32`` or ``bf16``.
        batch_size: Images a forward pass; None is the device's default.

    Attributes:
        backbone_: The loaded network.
        n_features_out_: Length of an image's feature vector.
    """

    def __init__(
        self,
        backbone: str | None = None,
        *,
        weights: str | Path | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        size: int | None = None,
        resize: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | None = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.mean = mean
        self.std = std
        self.size = size
        self.resize = resize
        self.device = device
        self.precision = precision
        self.batch_size = batch_size

    def fit(self, X: Sequence[Source], y: Any = None) -> Self:  # noqa: N803, ARG002
        """Load the network; nothing is learnt from X or y."""
        options = Options(
            strategy="feature-extraction",
            backbone=self.backbone or "",
            weights=None if self.weights is None else Path(self.weights),
            mean=self.mean,
            std=self.std,
            size=self.size,
            resize=self.resize,
            device=self.device,
            precision=self.precision,
            batch_size=self.batch_size,
        )
        self.backbone_ = create_backbone(options)
        self.n_features_out_ = self.backbone_.feature_dim
        return self

    def transform(self, X: Sequence[Source]) -> npt.NDArray[np.float32]:  # noqa: N803
        """Compute, or remember, the features of X.

        Raises:
            BadImage: An image can't be read.
        """
        check_is_fitted(self)
        if isinstance(X, str | Path):
            raise DataError("X must be a sequence of images, not one path.", field="X")
        sources = [str(x) if isinstance(x, np.str_) else x for x in X]
        features = extract(
            self.backbone_,
            sources,
            [source_digest(source) for source in sources],
            Cache(),
            first_path(pick_device(self.device), self.precision, self.batch_size),
            decide=self.precision == "auto",
        )
        if features.failed:
            raise BadImage(features.failed[0].name, features.failed[0].reason)
        return features.rows.all()


class ImageClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Feature extraction as a classifier: a frozen network and a solved linear head.

    The head's penalty is chosen by cross-validation within the images given to ``fit``. It is
    feature extraction whatever the strategy of ``headstart.fit`` is by default: a cross-validation
    or a grid search fits many times, each in a moment from the features that are remembered.

    Args:
        backbone: ``zoo:name`` of the network.
        resize: ``crop``, ``squash`` or ``pad``; None is the network's own rule.
        class_weights: ``none``, or ``balanced`` to give rare classes more weight.
        penalties: The L2 penalties to choose from.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``fp32`` or ``bf16``.
        batch_size: Images a forward pass; None is the device's default.

    Attributes:
        classes_: The labels, sorted; the order of ``predict_proba``'s columns.
        penalty_: The penalty that was chosen.
        features_: The transformer behind the head.
    """

    def __init__(
        self,
        backbone: str = DEFAULT_BACKBONE,
        *,
        resize: str | None = None,
        class_weights: str = "none",
        penalties: tuple[float, ...] = PENALTIES,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | None = None,
    ) -> None:
        self.backbone = backbone
        self.resize = resize
        self.class_weights = class_weights
        self.penalties = penalties
        self.device = device
        self.precision = precision
        self.batch_size = batch_size

    def fit(self, X: Sequence[Source], y: Sequence[Any]) -> Self:  # noqa: N803
        """Learn to tell the labels ``y`` of the images ``X`` apart.

        Raises:
            DataError: Not one label an image, or fewer than two classes.
            BadImage: An image can't be read.
        """
        names = np.asarray(y)
        if names.shape not in ((len(X),), (len(X), 1)):
            raise DataError(
                f"There must be one label an image; {len(X)} images have labels of shape "
                f"{names.shape}.",
                field="y",
            )
        self.classes_, labels = np.unique(names.ravel(), return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(f"found {len(self.classes_)} class; need 2+", field="y")
        Options(class_weights=self.class_weights)  # refuses an unknown one
        self.features_ = ImageFeatures(
            self.backbone,
            resize=self.resize,
            device=self.device,
            precision=self.precision,
            batch_size=self.batch_size,
        ).fit(X)
        features = self.features_.transform(X)
        solved = solve(
            (features, labels.astype(np.int64)),
            (features[:0], labels[:0].astype(np.int64)),
            Solve(tuple(self.penalties)),
            balanced=self.class_weights == "balanced",
        )
        self.penalty_ = solved.penalty
        self.coef_, self.intercept_ = solved.weight, solved.bias
        return self

    def predict_proba(self, X: Sequence[Source]) -> npt.NDArray[np.float64]:  # noqa: N803
        """Return the probability of every class, (N, C)."""
        check_is_fitted(self)
        logits = self.features_.transform(X) @ self.coef_.T + self.intercept_
        task = SingleLabel(tuple(str(name) for name in self.classes_))
        probabilities: npt.NDArray[np.float64]
        probabilities = task.probabilities(torch.from_numpy(logits)).numpy()
        return probabilities

    def predict(self, X: Sequence[Source]) -> npt.NDArray[Any]:  # noqa: N803
        """Return the most probable label of each image, (N,)."""
        best = self.predict_proba(X).argmax(axis=1)
        labels: npt.NDArray[Any] = self.classes_[best]
        return labels
