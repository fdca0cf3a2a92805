"""Small wrong edits, each a mistake that somebody has made; the suite must catch every one.

A mutant names a folder's file, the right text in it, the wrong text to put there, and the
tests that have to notice. `test_mutants.py` applies them one at a time to a copy.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One wrong edit and the test file that must fail because of it."""

    file: str
    right: str
    wrong: str
    tests: str


LENET = "lenet_from_scratch"
MODEL, TRAIN = f"{LENET}/model.py", f"{LENET}/train.py"
CHECKPOINT, PREPARE = f"{LENET}/checkpoint.py", f"{LENET}/prepare.py"
MODEL_TESTS, TRAIN_TESTS = "test_lenet_model.py", "test_lenet_train.py"
CHECKPOINT_TESTS, PREPARE_TESTS = "test_lenet_checkpoint.py", "test_lenet_prepare.py"
DATA_TESTS = "test_lenet_data.py"

MUTANTS = [
    # the networks
    Mutant(MODEL, "0125 0134 1245", "0125 0135 1245", MODEL_TESTS),
    Mutant(MODEL, "torch.tanh(2 / 3 * a)", "torch.tanh(3 / 2 * a)", MODEL_TESTS),
    Mutant(MODEL, "4 * F.avg_pool2d(x, 2)", "F.avg_pool2d(x, 2)", MODEL_TESTS),
    Mutant(MODEL, "        return -y\n", "        return y\n", MODEL_TESTS),
    Mutant(MODEL, ".square().sum(2)", ".abs().sum(2)", MODEL_TESTS),
    Mutant(MODEL, "with_rubbish(logits, j).logsumexp(1)", "logits.logsumexp(1)", MODEL_TESTS),
    Mutant(MODEL, "F.cross_entropy(logits, labels)",
           "F.cross_entropy(logits.softmax(1), labels)", MODEL_TESTS),
    Mutant(MODEL, "logits.softmax(1)  ", "logits.softmax(0)  ", MODEL_TESTS),
    Mutant(MODEL, "value=WHITE", "value=0.0", MODEL_TESTS),
    Mutant(MODEL, "uniform_(-2.4 / fan_in, 2.4 / fan_in)",
           "uniform_(-2.4 / fan_in**0.5, 2.4 / fan_in**0.5)", MODEL_TESTS),
    Mutant(MODEL, "1.0 if p == \"#\" else -1.0", "1.0 if p == \"#\" else 0.0", MODEL_TESTS),
    # the training
    Mutant(TRAIN, "            optimizer.zero_grad(set_to_none=True)\n", "", TRAIN_TESTS),
    Mutant(TRAIN, "seed * 1_000_003 + epoch", "seed * 1_000_003", TRAIN_TESTS),
    Mutant(TRAIN, "MOMENTUM = 0.9", "MOMENTUM = 0.5", TRAIN_TESTS),
    Mutant(TRAIN, "(error, loss) < self.best", "(error, loss) > self.best", TRAIN_TESTS),
    Mutant(TRAIN, "\"batch\", \"loss_sum\", \"best\"", "\"batch\", \"best\"", TRAIN_TESTS),
    Mutant(TRAIN, "            self.optimizer.load_state_dict(saved[\"optimizer\"])\n", "",
           TRAIN_TESTS),
    Mutant(TRAIN, "    report(run, data)\n",
           "    report(run, data._replace(test=data.validation))\n", TRAIN_TESTS),
    Mutant(f"{LENET}/devices.py", "if not torch.isfinite(total):", "if torch.isnan(loss):",
           TRAIN_TESTS),
    Mutant(f"{LENET}/console.py", "128 + number", "1", TRAIN_TESTS),
    # the checkpoints
    Mutant(CHECKPOINT, "contents.pop(\"digest\") == digest(contents)",
           "contents.pop(\"digest\") is not None", CHECKPOINT_TESTS),
    Mutant(CHECKPOINT, "path.with_name(path.name + \".partial\")\n    try:", "path\n    try:",
           CHECKPOINT_TESTS),
    Mutant(CHECKPOINT, "weights_only=True", "weights_only=False", CHECKPOINT_TESTS),
    # the pictures
    Mutant(PREPARE, "FIELD / 2 - mean + 0.5", "FIELD / 2 - mean", PREPARE_TESTS),
    Mutant(PREPARE, "ImageOps.exif_transpose(image)", "image", PREPARE_TESTS),
    Mutant(PREPARE, "image.size, \"white\"", "image.size, \"black\"", PREPARE_TESTS),
    Mutant(PREPARE, "        darker = -darker  ", "        darker = darker  ", PREPARE_TESTS),
    # the data
    Mutant(f"{LENET}/data.py", "if len(classes) < 2", "if len(classes) < 1", DATA_TESTS),
    Mutant(f"{LENET}/download.py", "!= sha256:", "== \"\":", DATA_TESTS),
]
