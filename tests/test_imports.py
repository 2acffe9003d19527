"""`import fer_hf`: quick, and our models and our pipeline are known to Transformers whatever is imported first."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fer_hf


def fresh(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_the_package_loads_nothing_heavy_and_every_public_name_is_there():
    heavy = "{'torch', 'transformers', 'datasets', 'numpy'}"
    printed = fresh(f"import sys, fer_hf, fer_hf.errors, fer_hf.labels; print(len({heavy} & set(sys.modules)))")
    assert printed == ["0"]
    for name in [*fer_hf.__all__, "__version__", "data", "models", "training", "inference"]:
        assert name in dir(fer_hf)
        assert getattr(fer_hf, name) is not None
    for name in ("load_dataset", "build", "asset", "FerTrainer", "GradualUnfreezing"):
        assert name in fer_hf.__all__
    with pytest.raises(AttributeError, match="module 'fer_hf' has no attribute 'lode_dataset'"):
        fer_hf.lode_dataset  # noqa: B018


def test_openmp_is_set_up_before_torch_loads_it():
    printed = fresh("import os, sys, fer_hf.cli; print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])")
    assert printed == ["False", os.environ.get("GOMP_SPINCOUNT", "10000")]
    for recipe in Path(fer_hf.__file__).parents[1].glob("recipes/*.py"):
        body = ast.parse(recipe.read_text(encoding="utf-8")).body
        imported = [ast.unparse(node).split()[1] for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        heavy = [name for name in imported if name.split(".")[0] in ("datasets", "torch", "transformers")]
        assert not heavy or imported[0].startswith("fer_hf"), recipe


LOAD = "print(type({}.from_pretrained(fer_hf.asset('fer-compact-cnn'))).__name__)"
TASK = (
    "from transformers.pipelines import PIPELINE_REGISTRY as R; "
    "print(R.check_task('facial-expression')[1]['impl'].__name__)"
)
PIPELINE = "print(type(pipeline('image-classification', model=fer_hf.asset('fer-compact-cnn')).model).__name__)"


@pytest.mark.parametrize(
    ("lines", "printed"),
    [
        (
            [
                "import fer_hf",
                "from transformers import AutoConfig",
                LOAD.format("AutoConfig"),
                "from transformers import AutoModelForImageClassification as A",
                LOAD.format("A"),
            ],
            ["CompactCNNConfig", "CompactCNNForImageClassification"],
        ),
        (
            ["from transformers import AutoModelForImageClassification as A", "import fer_hf", LOAD.format("A"), TASK],
            ["CompactCNNForImageClassification", "FacialExpressionPipeline"],
        ),
        (
            ["from transformers import pipeline", "import fer_hf", PIPELINE, TASK],
            ["CompactCNNForImageClassification", "FacialExpressionPipeline"],
        ),
        (
            # `evaluate` imports Transformers' pipelines while it is itself half imported.
            ["import fer_hf, evaluate", "from transformers import pipeline", PIPELINE, TASK],
            ["CompactCNNForImageClassification", "FacialExpressionPipeline"],
        ),
    ],
    ids=["fer_hf first", "Auto class first", "pipeline first", "pipeline last"],
)
def test_models_and_pipeline_are_registered_in_any_order_of_imports(lines, printed):
    assert fresh("\n".join(lines)) == printed
