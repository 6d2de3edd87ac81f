"""Multinomial logistic regression with the head's loss, solved by scikit-learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

MAX_ITERATIONS = 1000  # L-BFGS needs 20-150 on this loss
NEVER = 30.0  # logit of a class that no scan was of, below the others
TOLERANCE = 1e-6  # of the gradient: probabilities within 1e-4 of the minimum's


def solve_logistic(
    features: NDArray[np.float64],
    labels: NDArray[np.int64],
    class_count: int,
    l2: float,
    weights: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Minimise the weighted cross-entropy plus l2 times the sum of squared kernel entries.

    scikit-learn minimises C times the weighted sum of cross-entropies plus half the sum of squared
    coefficients. For three classes and more that is this loss with C = 1 / (2 l2). For two classes
    scikit-learn has one vector w of coefficients, where the head has a column for each class; at
    the minimum these are -w/2 and w/2, whose squares sum to half of w's, so that C = 1 / l2.

    Args:
        features: (n, features).
        labels: class indices (n,). A class without a scan gets a bias that nothing outweighs.
        class_count: classes, at least 2.
        l2: of the head, see steps.training.head; 0 has no penalty.
        weights: of the scans (n,), times 1 / n.

    Returns:
        Kernel (features, classes) and bias (classes,).
    """
    present, places = np.unique(labels, return_inverse=True)
    if len(present) < class_count:
        kernel, bias = np.zeros((features.shape[1], class_count)), np.full(class_count, -NEVER)
        bias[present] = 0.0
        if len(present) > 1:
            kernel[:, present], bias[present] = solve_logistic(
                features, places.astype(np.int64), len(present), l2, weights
            )
        return kernel, bias
    of_penalty = l2 if class_count == 2 else 2 * l2
    fitted = LogisticRegression(
        C=1 / of_penalty if of_penalty else np.inf, tol=TOLERANCE, max_iter=MAX_ITERATIONS
    ).fit(features, labels, sample_weight=weights)
    if class_count == 2:
        half, bias = fitted.coef_[0] / 2, fitted.intercept_[0] / 2
        return np.stack([-half, half], axis=1), np.array([-bias, bias])
    return fitted.coef_.T, fitted.intercept_
