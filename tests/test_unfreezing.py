import json

import pytest
import torch
from conftest import tiny_vit_config
from torch import nn
from transformers import (
    BertConfig,
    ConvNextConfig,
    ConvNextForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    SwinConfig,
    SwinForImageClassification,
    TrainerControl,
    TrainerState,
    ViTForImageClassification,
)

from fer_hf.errors import BadInputError, ModelError
from fer_hf.models import HEADS, MLPHeadConfig, MLPHeadForImageClassification
from fer_hf.models.heads import head_modules
from fer_hf.training.arguments import FerTrainingArguments
from fer_hf.training.unfreezing import (
    GradualUnfreezing,
    UnfreezingError,
    frozen_to_eval,
    parse_schedule,
    resolve_module,
    unfreeze_order,
)


def trainable(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def at_epoch(callback, model, epoch, tmp_path, log_history=()):
    args = FerTrainingArguments(output_dir=str(tmp_path), use_cpu=True, num_train_epochs=20)
    state = TrainerState(epoch=epoch, log_history=list(log_history))
    callback.on_epoch_begin(args, state, TrainerControl(), model=model)
    return trainable(model)


def test_a_vit_unfreezes_from_its_last_layer_down_to_the_embeddings(tiny_vit):
    assert head_modules(tiny_vit) == ["classifier"]
    assert unfreeze_order(tiny_vit) == [
        ["vit.layers.2", "vit.layernorm"],
        ["vit.layers.1"],
        ["vit.layers.0"],
        ["vit.embeddings"],
    ]


def test_the_order_covers_every_backbone_parameter_once_in_other_architectures():
    models = [
        ResNetForImageClassification(
            ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16], depths=[1, 1, 2], layer_type="basic", num_labels=7)
        ),
        ConvNextForImageClassification(ConvNextConfig(hidden_sizes=[8, 8, 16], depths=[1, 1, 1], num_stages=3)),
        SwinForImageClassification(
            SwinConfig(image_size=32, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4)
        ),
    ]
    for model in models:
        order = unfreeze_order(model)
        assert len(order) >= 3, type(model).__name__
        found = [name for group in order for root in group for name in _below(model, root)]
        head = [name for root in head_modules(model) for name in _below(model, root)]
        assert sorted(found + head) == sorted(name for name, _ in model.named_parameters()), type(model).__name__


def _below(model, root):
    return [name for name, _ in model.named_parameters() if name == root or name.startswith(f"{root}.")]


def test_old_and_new_module_names_mean_the_same_layer(tiny_vit):
    assert resolve_module(tiny_vit, "vit.encoder.layer.2") == "vit.layers.2"
    assert resolve_module(tiny_vit, "vit.layers.2") == "vit.layers.2"
    assert resolve_module(tiny_vit, "vit.encoder.layer.1.attention.attention.query") == "vit.layers.1.attention.q_proj"


def test_under_a_multi_layer_head_the_stock_classifiers_names_mean_the_same_layer():
    model = MLPHeadForImageClassification(MLPHeadConfig(backbone_config=tiny_vit_config(), **HEADS["mlp3"]))
    for name in ("backbone.layers.2", "vit.layers.2", "vit.encoder.layer.2", "backbone.encoder.layer.2"):
        assert resolve_module(model, name) == "backbone.layers.2"
    query = "vit.encoder.layer.1.attention.attention.query"
    assert resolve_module(model, query) == "backbone.layers.1.attention.q_proj"
    assert resolve_module(model, "vit") == "backbone"
    assert head_modules(model) == ["classifier"]
    assert unfreeze_order(model) == [
        ["backbone.layers.2", "backbone.layernorm"],
        ["backbone.layers.1"],
        ["backbone.layers.0"],
        ["backbone.embeddings"],
    ]
    with pytest.raises(UnfreezingError, match=r"'vit.layers.12'.*did you mean backbone\.layers"):
        resolve_module(model, "vit.layers.12")


def test_parameters_beside_the_modules_and_lone_blocks_are_in_the_order():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.position = nn.Parameter(torch.zeros(4))
            self.stem = nn.Linear(4, 4)
            self.fc = nn.Linear(4, 7)

    model = ViTForImageClassification(tiny_vit_config())
    model.base_model_prefix, model.net = "net", Net()
    del model.vit, model.classifier
    model.net.base_model_prefix = ""
    assert head_modules(model) == ["net.fc"]
    assert unfreeze_order(model) == [["net.stem"], ["net.position"]]


def test_an_unknown_module_name_is_an_error_with_near_names(tiny_vit):
    with pytest.raises(UnfreezingError, match=r"'vit.layers.12'.*did you mean vit\.layers\.\d"):
        GradualUnfreezing(tiny_vit, schedule={"2": "vit.layers.12"})


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("{2: vit}", "no JSON"),
        ("[1]", "must be a map"),
        ("{}", "must be a map"),
        ('{"x": "vit.layers.0"}', "epoch 'x'"),
        ('{"-1": "vit.layers.0"}', "epoch '-1'"),
        ('{"1": 3}', "epoch 1 has"),
    ],
)
def test_a_malformed_schedule_says_what_is_expected(schedule, message):
    with pytest.raises(BadInputError, match=message):
        parse_schedule(schedule)


def test_exactly_one_way_to_unfreeze_must_be_chosen(tiny_vit):
    with pytest.raises(UnfreezingError, match="got none"):
        GradualUnfreezing(tiny_vit)
    with pytest.raises(UnfreezingError, match="got unfreeze_schedule, unfreeze_every"):
        GradualUnfreezing(tiny_vit, schedule={"1": "vit.layers.0"}, every=2)
    with pytest.raises(UnfreezingError, match=r"`unfreeze_every` must be >= 1, got 0"):
        GradualUnfreezing(tiny_vit, every=0)


def test_a_schedule_given_as_json_unfreezes_its_modules_at_their_epochs(tiny_vit, tmp_path):
    callback = GradualUnfreezing(tiny_vit, schedule=json.dumps({"1": "vit.layers.2", "3": ["vit.layers.1"]}))
    head = {"classifier.weight", "classifier.bias"}
    assert at_epoch(callback, tiny_vit, 0, tmp_path) == head
    assert at_epoch(callback, tiny_vit, 1, tmp_path) == head | set(_below(tiny_vit, "vit.layers.2"))
    assert at_epoch(callback, tiny_vit, 2.5, tmp_path) == head | set(_below(tiny_vit, "vit.layers.2"))
    assert at_epoch(callback, tiny_vit, 3, tmp_path) == head | set(_below(tiny_vit, "vit.layers.2")) | set(
        _below(tiny_vit, "vit.layers.1")
    )


def test_every_n_epochs_the_next_block_from_the_top_is_unfrozen(tiny_vit):
    callback = GradualUnfreezing(tiny_vit, every=2)
    assert callback.unfrozen(1) == []
    assert callback.unfrozen(2) == ["vit.layers.2", "vit.layernorm"]
    assert callback.unfrozen(5) == ["vit.layers.2", "vit.layernorm", "vit.layers.1"]
    assert callback.unfrozen(100)[-1] == "vit.embeddings"


def test_a_plateau_of_the_validation_metric_unfreezes_the_next_block(tiny_vit):
    callback = GradualUnfreezing(tiny_vit, on_plateau=2)
    scores = [0.3, 0.4, 0.4, 0.39, 0.45, 0.44, 0.43, 0.42, 0.41]
    history = [{"epoch": i + 1.0, "eval_accuracy": score} for i, score in enumerate(scores)]
    steps = [len(callback.unfrozen(e, history, "eval_accuracy", True)) for e in range(10)]
    # Epoch 4 follows two evaluations without a better one; 7 and 9 each follow two more.
    assert steps == [0, 0, 0, 0, 2, 2, 2, 3, 3, 4]
    falling = [{"epoch": i + 1.0, "eval_loss": score} for i, score in enumerate(scores)]
    assert len(callback.unfrozen(9, falling, "eval_loss", False)) == 5


def test_parameters_that_a_model_never_trains_stay_fixed(tiny_vit, tmp_path):
    tiny_vit.vit.embeddings.position_embeddings.requires_grad_(False)
    callback = GradualUnfreezing(tiny_vit, every=1)
    unfrozen = at_epoch(callback, tiny_vit, 19, tmp_path)
    assert unfrozen == {n for n, _ in tiny_vit.named_parameters()} - {"vit.embeddings.position_embeddings"}


def test_frozen_parts_rest_in_eval_mode_and_trained_parts_do_not(tiny_vit):
    for p in tiny_vit.vit.layers[0].parameters():
        p.requires_grad_(False)
    tiny_vit.train()
    frozen_to_eval(tiny_vit)
    assert not any(m.training for m in tiny_vit.vit.layers[0].modules())
    assert all(m.training for m in tiny_vit.vit.layers[1].modules())
    assert tiny_vit.vit.embeddings.dropout.training


def test_batch_norm_statistics_of_frozen_parts_do_not_move():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), nn.Flatten(), nn.LazyLinear(3))
    faces = torch.randn(8, 1, 6, 6)
    model(faces)
    for p in model[0].parameters():
        p.requires_grad_(False)
    before = model[0][1].running_mean.clone()
    model.train()
    frozen_to_eval(model)
    model(faces)
    assert torch.equal(model[0][1].running_mean, before)


def test_a_model_without_a_head_is_refused():
    from transformers import BertModel

    model = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8))
    model.config.num_labels = 7
    with pytest.raises(ModelError, match="Cannot tell the head"):
        head_modules(model)


def test_the_table_says_what_trained_from_which_epoch_on(tiny_vit, tmp_path):
    callback = GradualUnfreezing(tiny_vit, schedule={"1": "vit.layers.2", "9": "vit.layers.1"})
    args = FerTrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    table = callback.table(tiny_vit, args, TrainerState(epoch=2.0))
    layer = sum(p.numel() for p in tiny_vit.vit.layers[2].parameters())
    assert table == [
        {"epoch": 0, "thawed": ["classifier"], "trainable_parameters": 32 * 7 + 7},
        {"epoch": 1, "thawed": ["vit.layers.2"], "trainable_parameters": 32 * 7 + 7 + layer},
    ]


def test_a_multi_layer_stack_named_by_its_parent_is_unfrozen_whole():
    model = ViTForImageClassification(tiny_vit_config())
    callback = GradualUnfreezing(model, schedule={"1": "vit"})
    assert callback.unfrozen(1) == ["vit"]
