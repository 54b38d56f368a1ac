"""A tiny adversarial training that all tests of the engines share."""

from __future__ import annotations

from collections.abc import Callable

import torch

from medmi.engines.adversarial import AdversarialRegistrationTrainer, Prediction, no_reconstruction
from medmi.engines.batches import PairBatches
from medmi.engines.options import AdversarialOptions, Players, optimizer_for, warm_cosine
from medmi.engines.rolling import RollingPairs
from medmi.grid import Grid
from medmi.networks import ModernRegistrationDiscriminator, ModernRegistrationGenerator
from medmi.simulation.augmentation import Augmentation
from medmi.simulation.makers import PartlyKnownPairs, StoredPairs
from medmi.simulation.pairs import Extent, TrainingPairs
from medmi.simulation.sources import Source
from medmi.simulation.views import Views

GRID = Grid((20, 24), [[2.0, 0, -19], [0, 2, -23], [0, 0, 1]])
PAIRS = TrainingPairs(GRID, GRID, extent=Extent(10, 6), views=Views(5, 1, 0.1, True))


def blobs(count: int, seed: int = 0) -> list[Source]:
    """Aligned pairs: the same few blobs bright in fixed and dark in moving."""
    source = torch.Generator().manual_seed(seed)
    points = GRID.points()
    pairs = []
    for _ in range(count):
        centres = 24 * torch.rand(4, 2, generator=source, dtype=torch.float64) - 12
        image = torch.exp(-(points[..., None, :] - centres).square().sum(-1) / 40).sum(-1).float()
        pairs.append(Source(image, (image.max() - image) * 0.5, (0, 0), GRID.shape))
    return pairs


def aligned(count: int = 6, seed: int = 0, augmentation: Augmentation | None = None) -> RollingPairs:
    """A small buffer of them."""
    return RollingPairs(StoredPairs(blobs(count, seed), augmentation=augmentation), size=20, reuse=2, seed=seed)


def batches(batch_size: int = 4, length: int = 3, count: int = 6, seed: int = 0) -> PairBatches:
    return PairBatches(aligned(count, seed, Augmentation()), PAIRS, batch_size, length, seed)


def partly_known(batch_size: int = 4, length: int = 3) -> PairBatches:
    """Batches of which about half the pairs are known, and registered examples of the known patients."""
    known, unknown = StoredPairs(blobs(3)), StoredPairs(blobs(3, seed=9))
    drawn = RollingPairs(PartlyKnownPairs(known, unknown), 20, 2)
    return PairBatches(drawn, PAIRS, batch_size, length, registered=RollingPairs(known, 20, 2, seed=1))


def filled(network: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The network with weights from a generator of its own; the last layer stays."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.features.named_parameters():
            spread = 0.0 if name.endswith("bias") else 0.15
            parameter.copy_(spread * torch.randn(parameter.shape, generator=source) + (parameter.ndim == 1 and spread))
        if not isinstance(network, ModernRegistrationGenerator):
            network.head.weight.copy_(0.1 * torch.randn(network.head.weight.shape, generator=source))
            network.head.bias.zero_()
    return network


def players(options: AdversarialOptions, rate: float = 1e-3, schedule: bool = False) -> Players:
    generator = filled(ModernRegistrationGenerator(2, widths=(4, 8), cells=4), 1)
    discriminator = filled(ModernRegistrationDiscriminator(2, widths=(4, 8), cells=2), 2)
    optimizers = [optimizer_for(network, options, rate) for network in (generator, discriminator)]
    schedules = [warm_cosine(o, 100, 3) if schedule else None for o in optimizers]
    return Players(generator, optimizers[0], discriminator, optimizers[1], *schedules)


def trainer(
    options: AdversarialOptions | None = None,
    max_epochs: int = 2,
    stream: PairBatches | None = None,
    reconstruction: Callable[[Prediction], torch.Tensor] = no_reconstruction,
    schedule: bool = False,
) -> AdversarialRegistrationTrainer:
    options = options or AdversarialOptions()
    return AdversarialRegistrationTrainer(
        players(options, schedule=schedule), stream or batches(), GRID, max_epochs, options, reconstruction
    )


def weights(trained: AdversarialRegistrationTrainer) -> list[torch.Tensor]:
    """All weights of both networks."""
    return [
        p.detach().clone() for n in (trained.players.generator, trained.players.discriminator) for p in n.parameters()
    ]
