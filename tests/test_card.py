"""The model card says the truth about the run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from headstart.card import model_card
from headstart.metrics import Metric
from headstart.run import read_report
from reports import ladder, left_out, solved, trained, training
from reports import report as make_report


@pytest.fixture(scope="module")
def report(tiny_run):
    return read_report(tiny_run)


def test_a_card_names_classes_network_images_and_results(report):
    card = model_card(report, for_timm=True)
    for part in (
        "# tiny",
        "cat, dog, owl",
        "timm:test_resnet",
        "tiny.safetensors",
        "feature-extraction",
        "50 train, 11 val, 11 test",
        report.split["digest"][:12],
        "chosen by log loss in 5-fold cross-validation on train; then solved on all\n  61 images",
        f"{report.parameters['trainable']:,} of {report.parameters['total']:,} parameters learnt",
        "fp32 on cpu (asked for)",
        "headstart.load(",
        "MANIFEST.json",
    ):
        assert part in card
    for name, metric in report.test.items():
        assert f"| {name} | {metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f})" in card


def test_timm_is_named_only_where_it_can_load_the_folder(report):
    assert "pretrained=True" in model_card(report, for_timm=True)
    assert "timm.create_model" not in model_card(report, for_timm=False)


def test_what_was_not_measured_is_said(report):
    nothing = Metric(None, None, None, 0)
    card = model_card(replace(report, test=report.test | {"ece": nothing}), for_timm=False)
    assert "| ece | not measured |" in card


def test_the_card_of_a_run_lies_beside_its_model(tiny_run, report):
    card = (tiny_run / "model" / "README.md").read_text()
    assert card == model_card(report, for_timm=True)
    manifest = json.loads((tiny_run / "model" / "MANIFEST.json").read_text())
    assert "README.md" in manifest["files"]


def test_names_of_classes_stand_as_they_are():
    odd = ("a|b", "line\nbreak", "\N{SNOWMAN}")
    made = make_report(odd)
    made = replace(made, backbone=made.backbone | {"weights": "from a file"})
    card = model_card(made, for_timm=False)
    assert all(name in card for name in odd)


def test_a_trained_classifier_tells_its_phases_and_what_was_kept():
    made = training(solved(), trained(2, 8, best=5), trained(3, 2, val=False))
    made = replace(made, backbone=made.backbone | {"weights": "ImageNet"})
    card = model_card(made, for_timm=False)
    assert "some-strategy, in 3 phases at most 1,020,162 of 3,373,570 parameters learnt" in card
    assert "- Phase 1: penalty 0.1, chosen by log loss on val (120 images)\n" in card
    assert "- Phase 2: kept epoch 5, best log loss on val\n- Phase 3: kept the last epoch\n" in card
    assert "then solved on all" not in card


def test_a_classifier_whose_phases_were_not_kept_is_its_solved_head():
    made = ladder()
    made = replace(made, backbone=made.backbone | {"weights": "ImageNet"})
    card = model_card(made, for_timm=False)
    assert "- Phase 3: not kept: of 120 val images it put 4 right and spoilt 3" in card
    assert "- Phase 4: left out, no time for an epoch of it" in card
    assert "then solved on all" not in card
    made = replace(made, training=(solved(), left_out(2)))
    card = model_card(made, for_timm=False)
    assert "(120 images); then solved on all\n  2,120 images of train and val\n- Phase 2" in card


def test_a_resume_with_force_is_told(report):
    message = "The run was resumed with --force although its data had changed: data.n: was 3."
    forced = {
        "kind": "forced",
        "severity": "warning",
        "files": [],
        "message": message,
        "hint": "Fit again.",
    }
    assert f"\n- {message}\n" in model_card(replace(report, findings=(forced,)), for_timm=False)
    assert "--force" not in model_card(report, for_timm=False)
