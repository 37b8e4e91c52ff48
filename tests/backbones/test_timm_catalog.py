"""What timm offers, and that the table of sizes is of this timm."""

from __future__ import annotations

from headstart.backbones import from_timm, timm_catalog


def test_every_network_is_listed_with_each_set_of_weights():
    found = {each.name: each for each in timm_catalog.listings()}
    assert "timm:resnet50.a1_in1k" in found
    assert "timm:resnet50.tv_in1k" in found
    assert {name.partition(":")[2].partition(".")[0] for name in found} == set(timm_catalog.names())
    vit = found["timm:vit_small_patch16_224.dino"]
    assert (vit.input, vit.licence, vit.top1) == (224, "apache-2.0", None)


def test_the_table_has_the_size_of_nearly_every_network():
    known = timm_catalog.parameters()
    missing = set(timm_catalog.names()) - known.keys()
    assert len(missing) <= 0.02 * len(timm_catalog.names()), sorted(missing)
    assert known["resnet50"] == 25_557_032


def test_the_table_is_what_the_networks_are():
    for name in ("test_resnet", "mobilenetv3_small_050", "resnet18"):
        config = from_timm.pretrained_config(name)
        spec = from_timm.from_config(config)
        network = from_timm.new_network(from_timm.describe("timm", name, config, spec))
        assert timm_catalog.parameters()[name] == sum(p.numel() for p in network.parameters())
