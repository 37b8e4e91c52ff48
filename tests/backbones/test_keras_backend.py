from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from headstart.backbones.keras_backend import building, load_keras
from headstart.errors import MissingExtra, UsageError


def test_keras_runs_on_torch_and_the_environment_stays_as_it_was(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert load_keras("keras:VGG16").config.backend() == "torch"
    assert "KERAS_BACKEND" not in os.environ


def fresh(program: str, home, **environment: str) -> str:
    """Run a program in which Keras was not imported before."""
    own = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=own | {"KERAS_HOME": str(home)} | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


LOAD = """
from headstart.backbones.keras_backend import load_keras
from headstart.errors import UsageError
try:
    print(load_keras("keras:VGG16").config.backend())
except UsageError as error:
    print(error.field, error)
"""


@pytest.mark.slow
def test_another_backend_in_the_users_keras_json_is_no_obstacle(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    assert fresh(LOAD, tmp_path) == "torch"
    assert (tmp_path / "keras.json").read_text() == '{"backend": "jax"}'


def test_another_backend_in_the_environment_is_an_error_before_keras_is_imported(tmp_path):
    said = fresh(LOAD + "import sys; print('keras' in sys.modules)", tmp_path, KERAS_BACKEND="jax")
    assert said.startswith("KERAS_BACKEND keras:VGG16 needs Keras's torch backend, and")
    assert "KERAS_BACKEND=torch" in said
    assert said.endswith("False")


@pytest.mark.slow
def test_torch_in_the_environment_is_the_users_choice_and_stays(tmp_path):
    said = fresh(
        LOAD + "import os; print(os.environ['KERAS_BACKEND'])", tmp_path, KERAS_BACKEND="torch"
    )
    assert said.split() == ["torch", "torch"]


def test_keras_that_runs_on_another_backend_is_an_error(monkeypatch):
    keras = load_keras("keras:VGG16")
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(UsageError, match="imported on 'jax' before") as caught:
        load_keras("keras:VGG16")
    assert "KERAS_BACKEND=torch before" in caught.value.hint


def test_without_keras_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtra, match=r"keras:VGG16 needs the extra \[keras\]"):
        load_keras("keras:VGG16")
    assert "KERAS_BACKEND" not in os.environ


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'absl'", name="absl"),
        ImportError("cannot import name 'x' from 'numpy'", name="numpy"),
    ],
)
def test_what_keras_itself_lacks_is_said(monkeypatch, error):
    class Broken:
        def find_spec(self, name, *_):
            if name == "keras":
                raise error

    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(UsageError, match="can't be imported") as caught:
        load_keras("keras:VGG16")
    assert str(error) in caught.value.message
    assert caught.value.field == "backbone"
    assert "KERAS_BACKEND" not in os.environ


def test_building_is_as_networks_were_written_and_leaves_everything_as_it_was():
    keras = load_keras("a test")
    keras.config.set_image_data_format("channels_first")
    keras.config.set_floatx("float16")
    state = random.getstate()
    try:
        with building(keras, seed=3):
            first = random.random()
            assert keras.config.image_data_format() == "channels_last"
            assert keras.config.floatx() == keras.config.dtype_policy().name == "float32"
        with building(keras, seed=3):
            assert random.random() == first
        assert keras.config.image_data_format() == "channels_first"
        assert keras.config.floatx() == "float16"
        assert random.getstate() == state
    finally:
        keras.config.set_image_data_format("channels_last")
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


PROGRAM = """
import sys
import headstart.cli
from headstart.backbones import zoo
zoo.create("bundled:efficientnet_lite0", size=64)
assert "keras" not in sys.modules
from headstart.backbones.keras_catalog import listings
assert len(listings()) == 40
assert "keras" not in sys.modules
"""


@pytest.mark.slow
def test_nothing_imports_keras_before_one_of_its_networks_is_asked_for(tmp_path):
    fresh(PROGRAM, tmp_path)
