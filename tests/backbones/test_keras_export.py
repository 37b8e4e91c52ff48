from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from headstart.backbones import zoo
from headstart.backbones.keras_export import keras_file
from headstart.errors import ModelError
from headstart.training.heads import HeadSpec
from networks import shake

ANSWER = """
import sys
import keras, numpy as np
model = keras.saving.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))
"""
BACKENDS = [
    "torch",
    *(
        pytest.param(
            backend,
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(
                    not importlib.util.find_spec(backend), reason=f"{backend} is not installed"
                ),
            ],
        )
        for backend in ("jax", "tensorflow")
    ),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("name", "form"),
    [
        pytest.param("MobileNetV3Small", "mlp:8,dropout=0.5", marks=pytest.mark.slow),
        pytest.param("EfficientNetB0", "linear", marks=pytest.mark.slow),
        pytest.param("ConvNeXtTiny", "linear", marks=pytest.mark.slow),  # a layer of its own
        pytest.param("InceptionResNetV2", "linear", marks=pytest.mark.slow),  # another
    ],
)
def test_keras_gives_the_same_answers(name, form, backend, tmp_path):
    backbone = zoo.create(f"keras:{name}", size=96, random=0)
    shake(backbone.network)
    head = HeadSpec.parse(form).build(backbone.feature_dim, 3).eval()
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    x = x * torch.tensor(50.0 if backbone.input_spec.std[0] == 1 else 1.0)
    with torch.no_grad():
        features = backbone.chain()(x)
        first = next(layer for layer in head.modules() if isinstance(layer, nn.Linear))
        first.weight /= features.abs().mean()  # so that no class takes it all
        ours = head(features).softmax(1).numpy()
    paths = [tmp_path / name for name in ("model.keras", "x.npy", "y.npy")]
    paths[0].write_bytes(keras_file(backbone, head))
    np.save(paths[1], x.permute(0, 2, 3, 1).numpy())
    environment = os.environ | {"KERAS_BACKEND": backend, "KERAS_TORCH_DEVICE": "cpu"}
    program = [sys.executable, "-c", ANSWER, *map(str, paths)]
    subprocess.run(program, check=True, env=environment)
    theirs = np.load(paths[2])
    np.testing.assert_allclose(theirs, ours, atol=1e-4)
    assert ours.min() > 0.01


def test_a_head_that_keras_does_not_have_is_an_error():
    backbone = zoo.create("keras:MobileNetV3Small", size=64, random=0)
    with pytest.raises(ModelError, match="A head with a GELU can't be written"):
        keras_file(backbone, nn.Sequential(nn.Linear(576, 4), nn.GELU(), nn.Linear(4, 2)))
