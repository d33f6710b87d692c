"""f-AnoGAN: a GAN of normal images, then an encoder that says at once which made image comes nearest.

Schlegl et al. 2019 (Medical Image Analysis 54): WGAN-GP first; then, with both networks held still, the encoder learns to bring an image
back and to keep what the critic judges by (izi_f, equation 3). The same sum of squares is the score.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.func import functional_call
from torch.optim import Optimizer

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._adversarial import Losses, Seen, Wasserstein, away_from_one, squared_slope
from vesalius.methods._adversaries import Critic, Design, Recipe, drawn
from vesalius.methods._chance import Chance
from vesalius.methods._phases import Phases

CARD = Card(
    entry="FAnogan", title="f-AnoGAN", paper="Schlegl et al. 2019, Medical Image Analysis 54", tasks=("anomaly", "synthesise"),
    summary="A WGAN-GP, and an encoder that finds the nearest image it can make in one pass.",
)  # fmt: skip


class FAnogan(Wasserstein):
    """The GAN learns until `gan` of the time has passed, the encoder from then on; `weight` of the critic's features."""

    betas = (0.0, 0.9)

    def __init__(
        self, shape: Sequence[int], *, design: Design | None = None, gan: float = 0.7, weight: float = 1.0, penalty: float = 10.0,
        learning_rate: float = 1e-4, weight_decay: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, design, Recipe(constant=False), learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if weight < 0 or penalty <= 0:
            raise UsageError(f"The weight of features must not be below 0 and the penalty must be above; got {weight} and {penalty}.")
        self.weight, self.penalty, self.phases = weight, penalty, Phases(gan)
        self.net.encoder = Critic(self.shape, self.design, Recipe(answers=self.design.latent))
        drawn(self.encoder, torch.Generator().manual_seed(seed + 1), spread=None)

    def judge(self, real: Seen, fake: Seen, chance: Chance) -> Losses:
        lot = chance.uniform((len(real.image), *(1,) * (real.image.ndim - 1)))
        between = real.image.detach().lerp(fake.image, lot).requires_grad_()
        steep = squared_slope(self.word(between, real.told), between)
        return {**super().judge(real, fake, chance), "penalty": self.penalty * away_from_one(steep)}

    def optimisers(self) -> dict[str, Optimizer]:
        """One for each of the three networks."""
        return {**super().optimisers(), "encoder": self.teacher(self.encoder)}

    @property
    def encoder(self) -> Critic:
        """From an image to a code."""
        encoder = self.net.encoder
        assert isinstance(encoder, Critic)
        return encoder

    def steps(self, batch: Batch) -> Iterator[tuple[str, Losses]]:
        if self.phases.first:
            yield from super().steps(batch)
        if self.phases.second:
            image = self.within(self.checked(batch["image"]))
            pixels, features = self.errors(image, self.again(image))
            yield "encoder", {"pixels": pixels.mean(), "features": self.weight * features.mean()}
        if not self.phases.first:
            self.step += 1

    def again(self, image: Tensor) -> Tensor:
        """Through the encoder and the generator, whose weights and moments are held still: (B, C, *S)."""
        still = {name: value.detach() for name, value in self.net.generator.named_parameters()}
        was = self.net.generator.training
        self.net.generator.eval()
        made: Tensor = functional_call(self.net.generator, still, (self.encoder(image)[1],))
        self.net.generator.train(was)
        return made

    def errors(self, image: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared differences of pixels and of the critic's features, its weights held still: (B,) each."""
        still = {name: value.detach() for name, value in self.net.critic.named_parameters()}
        first, second = (functional_call(self.net.critic, still, (x,))[0] for x in (image, made))
        return (image - made).square().flatten(1).mean(1), (first - second).square().mean(1)

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        """The made image that the encoder names."""
        return self.again(self.checked(image).float())

    @torch.no_grad()
    def score(self, image: Tensor) -> Tensor:
        """Squared differences of pixels plus weighted ones of features."""
        pixels, features = self.errors(image.float(), self.infer(image))
        return pixels + self.weight * features
