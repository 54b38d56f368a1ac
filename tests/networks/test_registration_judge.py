"""The judge: it keeps the best-scored pose, whatever the network makes of the starts, and a blind one changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medmi.networks.registration_judge import NEAR, SEED, Judge
from medmi.networks.registration_passes import passed_poses
from medmi.networks.registration_predictor import RegistrationPredictor
from medmi.simulation.pairs import random_motions
from medmi.spatial.linear import linear_matrix
from medmi.spatial.replicate import resample_replicated
from medmi.validation import InputError
from tests.networks.test_registration_predictor import CUBE, SMALL, image, steady
from tests.oracles.grids import SHAPES, oblique_grid


class Likeness(nn.Module):
    """Scores a pair by minus its mean squared difference: of images of one contrast a discriminator that is right."""

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        return -(fixed - moving).square().flatten(1).mean(1, keepdim=True)


class Constant(nn.Module):
    """One score for all pairs."""

    def __init__(self, score: float) -> None:
        super().__init__()
        self.score = score

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        return fixed.new_full((len(fixed), 1), self.score)


def batch(architecture=SMALL):
    """Fixed images, sources, starts and grids."""
    d, grids = architecture.spatial_dims, (architecture.grid, architecture.source_grid)
    generator = torch.Generator().manual_seed(1)
    fixed, source = (torch.rand(3, 1, *grid.shape, generator=generator) for grid in grids)
    count = 3 if d == 2 else 6
    start = linear_matrix(0.02 * torch.randn(3, count, generator=generator), "rigid", d)
    return fixed, source, start, grids


@pytest.mark.parametrize("architecture", [SMALL, CUBE])
def test_the_highest_score_of_passes_and_candidates_is_kept(architecture):
    network, judge, (fixed, source, start, grids) = steady(architecture), Judge(Likeness(), 5), batch(architecture)
    poses = passed_poses(network, fixed, source, start, grids, 2)
    motions = random_motions(5, "rigid", grids[0], NEAR, torch.Generator().manual_seed(SEED)).there
    near = [passed_poses(network, fixed, source, poses[-1] @ motion, grids)[0] for motion in motions]
    every = torch.stack([*poses, *near])
    scores = torch.stack(
        [Likeness()(fixed, resample_replicated(source, grids[1], pose, grids[0]))[:, 0] for pose in every]
    )
    chosen = judge.chosen(network, fixed, source, poses, grids)
    for sample, pose in enumerate(chosen):
        torch.testing.assert_close(pose, every[scores[:, sample].argmax(), sample])
    assert torch.equal(chosen, judge.chosen(network, fixed, source, poses, grids)), "its candidates are drawn anew"


@pytest.mark.parametrize("score", [0.3, float("nan")])
def test_a_judge_that_tells_nothing_leaves_the_last_pass(score):
    network, (fixed, source, start, grids) = steady(), batch()
    poses = passed_poses(network, fixed, source, start, grids, 2)
    assert torch.equal(Judge(Constant(score)).chosen(network, fixed, source, poses, grids), poses[-1])


def judged(architecture=SMALL) -> RegistrationPredictor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        discriminator = architecture.discriminator()
    return RegistrationPredictor(steady(architecture), architecture, ("a", "b"), 2, Judge(discriminator.eval(), 9))


@pytest.mark.parametrize("d", [2, 3])
def test_a_network_file_keeps_its_judge(tmp_path, d):
    predictor, images = judged(SMALL if d == 2 else CUBE), [image(oblique_grid(SHAPES[d]), seed) for seed in (1, 2)]
    predictor.save(tmp_path / "network.pt")
    again = RegistrationPredictor.load(tmp_path / "network.pt")
    assert again.judge is not None and again.judge.candidates == 9
    assert torch.equal(again(*images).matrix, predictor(*images).matrix)
    alone = RegistrationPredictor(predictor.generator, predictor.architecture, ("a", "b"))
    assert not torch.equal(alone(*images).matrix, predictor(*images).matrix)


def test_a_judge_that_does_not_fit_is_refused(tmp_path):
    judged().save(tmp_path / "network.pt")
    state = torch.load(tmp_path / "network.pt", weights_only=True)
    for name, value in (("discriminator", {}), ("discriminator", CUBE.discriminator().state_dict()), ("candidates", 0)):
        torch.save({**state, name: value}, tmp_path / "broken.pt")
        with pytest.raises(InputError, match="do not fit what it says of them"):
            RegistrationPredictor.load(tmp_path / "broken.pt")
    with pytest.raises(InputError, match="candidates: 0 came; at least 1 is asked"):
        Judge(Likeness(), 0)
