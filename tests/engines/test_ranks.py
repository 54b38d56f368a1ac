"""Two processes train as one does: the same losses for the same global batch, the same weights on both."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest
import torch
from monai.utils.enums import AdversarialIterationEvents as Events

from medmi.engines.adversarial import supervised_loss
from medmi.engines.batches import PairBatches
from medmi.engines.options import AdversarialOptions
from medmi.engines.ranks import average_gradients, averaged, rank_and_size
from medmi.threads import one_thread
from tests.contracts.adversarial import GRID, PAIRS, aligned, partly_known, trainer, weights

ROOT = pathlib.Path(__file__).parents[2]


def curve(stream: PairBatches | None = None) -> list[float]:
    """Losses of each iteration, and a sum of all weights at the end."""
    options = AdversarialOptions(n_critic=2, reconstruction_weight=0.1)
    training, losses = trainer(options, max_epochs=2, stream=stream, reconstruction=supervised_loss(GRID)), []
    watched = {Events.DISCRIMINATOR_LOSS_COMPLETED: "discriminator_loss", Events.GENERATOR_MODEL_COMPLETED: "loss"}
    for event, key in watched.items():
        training.add_event_handler(event, lambda e, key=key: losses.append(float(e.state.output[key])))
    training.run()
    return [*losses, float(torch.cat([w.double().abs().flatten() for w in weights(training)]).sum())]


def test_one_process_is_one_rank():
    network = torch.nn.Linear(2, 1)
    network(torch.ones(1, 2)).sum().backward()
    before = network.weight.grad.clone()
    average_gradients(network)
    assert rank_and_size() == (0, 1) and torch.equal(network.weight.grad, before)
    assert float(averaged(torch.tensor(3.0, requires_grad=True))) == 3


@pytest.mark.slow
def test_two_ranks_follow_the_curve_of_one(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "tests.engines.test_ranks", str(tmp_path)]
    subprocess.run(command, check=True, env=environment, cwd=ROOT, timeout=300, capture_output=True)
    both = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    with one_thread():
        alone = curve() + curve(partly_known())
    assert both[0]["size"] == 2 and both[0]["refused"].startswith("batch_size: 3")
    assert both[0]["curve"] == both[1]["curve"]
    torch.testing.assert_close(both[0]["curve"], alone, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank, size = rank_and_size()
    try:
        PairBatches(aligned(), PAIRS, 3, 1)
        refused = ""
    except ValueError as error:
        refused = str(error)
    found = {"size": size, "refused": refused, "curve": curve() + curve(partly_known())}
    pathlib.Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()
