"""Transformers' own tests of its models (`ModelTesterMixin`) on every family of ours."""

import copy
import importlib
import subprocess
import sys
import tarfile
import types
import unittest

import pytest
import torch
import transformers
from small_networks import FAMILIES, SMALL, small
from transformers import AutoModel, PreTrainedModel

from fer_hf.models.zoo import architecture_config


pytestmark = pytest.mark.slow

# Tests of Transformers that do not hold for our models, and why. They run all the same, and have to fail.
EXCLUDED = {
    "test_problem_types": "A face has one right answer; another `problem_type` is refused when a model is built.",
    "test_model_get_set_embeddings": "It wants an `nn.Embedding`, which images have none of.",
}
TOO_LARGE = {"test_model_is_small": "torchvision has no ResNet below ResNet-18, which has 11 million parameters."}
EXCLUDED_HERE = {
    "resnet18": TOO_LARGE,
    "dacl-reduced": TOO_LARGE,
    "dacl-48": {
        **TOO_LARGE,
        "test_init_weights_can_init_buffers": "It wants buffers that are not random. Centers are, as in DACL's code.",
    },
}
# Hidden states: how many, and the last two sizes of the first, which are (tokens, width) or (height, width) of a map.
HIDDEN_STATES = {
    "resnet18": (5, 8, 8),
    "cnn-v2": (4, 24, 24),
    "prelu-cnn": (3, 22, 22),
    "compact-cnn": (4, 48, 48),
    "vit-mlp5-bn": (3, 10, 32),
    "dacl-48": (5, 8, 8),
    "dacl-reduced": (5, 8, 8),
    "cnn-transformer": (3, 36, 32),
    "transfer": (3, 37, 32),
    "transfer-reduced": (3, 8, 64),
}
MARKS = ["accelerate_tests", "flash_attn_test", "flash_attn_3_test", "flash_attn_4_test", "torch_compile_test"]
WITH_ATTENTIONS = ("vit-mlp5-bn", "transfer")


@pytest.fixture(scope="session")
def common(request) -> types.ModuleType:
    """`tests/test_modeling_common.py` of the installed Transformers. Wheels have no tests: pip gets the sources."""
    folder = request.config.cache.mkdir(f"transformers-{transformers.__version__}")
    if not (folder / "tests").is_dir():
        _fetch(folder)
    sys.path += [str(folder), str(folder / "packages")]
    # Mixins for exports and for text generation, which the sources leave out.
    for name, mixin in (
        ("exporters.test_export", "ExportTesterMixin"),
        ("generation.test_utils", "GenerationTesterMixin"),
    ):
        for part in (name.partition(".")[0], name):
            sys.modules[f"transformers_tests.{part}"] = types.ModuleType(part)
        setattr(sys.modules[f"transformers_tests.{name}"], mixin, type(mixin, (), {}))
    package = sys.modules["transformers_tests"] = types.ModuleType("transformers_tests")
    package.__path__ = [str(folder / "tests")]
    for mark in MARKS:
        request.config.addinivalue_line("markers", f"{mark}: of Transformers")
    module = importlib.import_module("transformers_tests.test_modeling_common")
    _know_our_models(module)
    return module


def _fetch(folder) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    sources = f"transformers=={transformers.__version__}"
    for command in (
        ["install", "--target", str(folder / "packages"), "parameterized"],
        ["download", "--dest", str(folder), "--no-deps", "--no-binary", ":all:", sources],
    ):
        done = subprocess.run([*pip, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"pip {command[0]} {command[-1]} failed: {done.stderr.strip().splitlines()[-1]}")
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        for member in archive.getmembers():
            member.name = member.name.partition("/")[2]
            if member.name.startswith("tests/"):
                archive.extract(member, folder, filter="data")


def _know_our_models(module: types.ModuleType) -> None:
    """Name our classes where its tests look for those that take labels."""
    ours = [(model, _backbone(model)) for model in map(small, FAMILIES)]
    classifiers = {model.config.model_type: type(model).__name__ for model, _ in ours}
    backbones = {model.config.model_type: backbone.__name__ for model, backbone in ours}
    for table, names in (
        ("MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES", classifiers),
        ("MODEL_MAPPING_NAMES", backbones),
    ):
        setattr(module, table, {**getattr(module, table), **names})


def _backbone(model: PreTrainedModel) -> type[PreTrainedModel]:
    return AutoModel._model_mapping[type(model.config)]


class FaceModelTester:
    """What the tests ask for a model: its configuration, and a batch."""

    batch_size = 4
    is_training = True
    num_hidden_layers = 2
    num_attention_heads = 2

    def __init__(self, name: str):
        self.config = architecture_config(name, **SMALL[name])
        self.expected_num_hidden_layers, self.seq_length, self.hidden_size = HIDDEN_STATES[name]

    def prepare_config_and_inputs_for_common(self):
        side = self.config.image_size
        pixels = torch.rand(self.batch_size, self.config.num_channels, side, side)
        return copy.deepcopy(self.config), {"pixel_values": pixels}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_passes_the_tests_of_transformers(name, common):
    model = small(name)

    class Tests(common.ModelTesterMixin, unittest.TestCase):
        all_model_classes = (_backbone(model), type(model))
        has_attentions = name in WITH_ATTENTIONS
        test_resize_embeddings = False
        # Not by the year in our files, which have none.
        test_can_init_all_missing_weights_before_2023 = True

        def setUp(self):
            self.model_tester = FaceModelTester(name)

    excluded = {**EXCLUDED, **EXCLUDED_HERE.get(name, {})}
    for test in excluded:
        setattr(Tests, test, unittest.expectedFailure(getattr(Tests, test)))
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Tests).run(result)
    bad = [f"{test}\n{trace}" for test, trace in (*result.failures, *result.errors)]
    failed = {str(test).split()[0] for test, _ in (*result.failures, *result.errors)}
    passed = result.testsRun - len(result.skipped) - len(excluded) - len(failed)
    print(f"\n{name}: {passed} passed, {len(result.skipped)} skipped, {len(excluded)} excluded, {len(failed)} failed")
    assert not result.unexpectedSuccesses
    assert not bad, "\n".join(bad)
