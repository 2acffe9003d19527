import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification

from fer_hf import asset, load_image_classifier
from fer_hf.assets import asset_names


def test_every_shipped_checkpoint_loads_offline_with_only_a_head_new(names):
    assert "vit-compact-drawn" in asset_names()
    for name in asset_names():
        model, processor = load_image_classifier(name, names)
        batch = processor([torch.zeros(3, 48, 48, dtype=torch.uint8)], return_tensors="pt")
        assert model(batch["pixel_values"]).logits.shape == (1, 7)


def test_the_compact_backbone_is_small_and_sees_a_colour_photo_as_its_mean_over_channels():
    weights = load_file(f"{asset('vit-compact-drawn')}/model.safetensors")
    assert sum(value.numel() for value in weights.values()) * 4 < 3_000_000
    torch.manual_seed(0)
    model = AutoModelForImageClassification.from_pretrained(asset("vit-compact-drawn")).eval()
    photo = torch.rand(1, 3, 48, 48)
    gray = photo.mean(dim=1, keepdim=True).expand_as(photo)
    torch.testing.assert_close(model(photo).logits, model(gray).logits, atol=1e-4, rtol=1e-4)
