"""Every test has a cache of its own run of the suite, and no network."""

import os
import socket
import sys
from pathlib import Path

# Before torch is imported. Small networks gain nothing from a second thread, and where the
# processor is busy each operation would wait for it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before anything imports huggingface_hub, which reads it once.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

from commands import Result, words
from headstart import cli
from pictures import write_photos


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory):
    """The user's caches are never touched; tests that need an empty one set their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(tmp_path_factory.mktemp("cache")))
        # Keras writes its settings there when it is imported, which no module of tests does itself.
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        yield


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("HEADSTART_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A test that reaches for the network fails."""

    def refuse(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in (
            "127.0.0.1",
            "::1",
            "localhost",
        ):
            raise AssertionError(f"a test tried to reach {address}")
        return connect(self, address)

    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of 3 classes with 24 small JPEG pictures each. Not to be written to."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    return write_photos(folder, classes=("cat", "dog", "owl"), each=24)


@pytest.fixture(scope="session")
def run(photos, tmp_path_factory, shared_cache):
    """The folder of a finished run on ``photos``, in fp32. Not to be written to."""
    import headstart

    folder = tmp_path_factory.mktemp("runs") / "run"
    return headstart.fit(photos, folder, strategy="feature-extraction", precision="fp32").folder


@pytest.fixture(scope="session")
def classifier(run):
    """The classifier of ``run``, loaded from its folder."""
    import headstart

    return headstart.load(run)


@pytest.fixture(scope="session")
def tiny_network(tmp_path_factory):
    """Options for a network so small that a fit takes a second; its weights are random."""
    import timm
    import torch
    from safetensors.torch import save_file

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model("test_resnet")
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(network.state_dict(), file)
    return [
        *("--backbone", "timm:test_resnet", "--weights", str(file)),
        *("--size", "64", "--precision", "fp32"),
    ]


@pytest.fixture(scope="session")
def tiny(tiny_network):
    """The options of a fit on that network."""
    return [*tiny_network, "--strategy", "feature-extraction"]


@pytest.fixture(scope="session")
def small(tiny):
    """The options of ``tiny`` as ``headstart.fit`` and ``Options`` take them."""
    network = {"backbone": tiny[1], "weights": Path(tiny[3]), "size": 64, "precision": "fp32"}
    return {**network, "strategy": "feature-extraction"}


@pytest.fixture
def command(monkeypatch, capsys):
    """Run a headstart command in this process and return its ``Result``."""

    def run_it(*arguments):
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", words(*arguments))
            code = cli._run()
        return Result(code, *capsys.readouterr())

    return run_it


@pytest.fixture(scope="session")
def tiny_run(photos, tiny, tmp_path_factory, shared_cache):
    """The folder of a finished run of the tiny network on ``photos``. Not to be written to."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words("fit", photos, "--out", folder, *tiny))
        assert cli._run() == 0
    return folder


@pytest.fixture(scope="session")
def few_photos(tmp_path_factory):
    """A folder of 2 classes with 14 pictures each. Not to be written to."""
    return write_photos(tmp_path_factory.mktemp("data") / "photos", each=14, side=40)


@pytest.fixture
def prepared(few_photos, small, tmp_path):
    """Make the plan of these phases for ``few_photos``, and the images with their pixels."""
    from headstart.cache import Cache
    from planned import plan_and_images

    def prepare(*phases, **options):
        cache = Cache(tmp_path / "cache")
        return plan_and_images(few_photos, cache, *phases, **small | {"size": 32} | options)

    return prepare


@pytest.fixture
def plan(small, tmp_path, monkeypatch):
    """Make the plan of a folder and options; computing anything is an error."""
    from headstart.cache import Cache
    from headstart.options import Options
    from headstart.planning import make_plan

    def never(*_, **__):
        raise AssertionError("computed")

    for name in ("load", "Forward"):
        monkeypatch.setattr(f"headstart.training.features.{name}", never)

    def made(data, **options):
        return make_plan(data, Options(**small | options), cache=Cache(tmp_path / "cache"))

    return made
