"""AnoGAN: the made image that comes nearest to the one at hand, looked for by gradient descent; what is left over is strange.

Schlegl et al. 2017 (IPMI): a DCGAN of normal images; from a code drawn by chance, 500 steps on (1 - 0.1) times the absolute differences of
pixels plus 0.1 times those of what the critic judges by. Both sums are the score. Ours begins the search at one code for every image, so
that an answer does not depend on the other images of a batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Adam

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.methods._adversarial import Logistic
from vesalius.methods._adversaries import Design, Recipe
from vesalius.methods._chance import Chance

CARD = Card(
    entry="Anogan", title="AnoGAN", paper="Schlegl et al. 2017, IPMI", tasks=("anomaly", "synthesise"),
    summary="The nearest image that a GAN can make, found by gradient descent for each image; slow.",
    facts={"arguments": {"turns": 8}},
)  # fmt: skip

RATE = 0.01  # of the search


class Anogan(Logistic):
    """`turns` of the search for each image; `weight` of the critic's features."""

    def __init__(
        self, shape: Sequence[int], *, design: Design | None = None, turns: int = 500, weight: float = 0.1, learning_rate: float = 2e-4,
        weight_decay: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        recipe = Recipe(norms=(True, True), spread=0.02)
        super().__init__(shape, design, recipe, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if turns < 1 or not 0 <= weight <= 1:
            raise UsageError(f"A search has at least one turn, and the weight of features lies in 0..1; got {turns} and {weight}.")
        self.turns, self.weight = turns, weight

    def code(self, image: Tensor) -> Tensor:
        """Where the search ends, (B, latent)."""
        was = self.training
        self.eval()
        with torch.inference_mode(False), torch.enable_grad():
            image = self.within(self.checked(image)).detach().clone()
            code = Chance(int(self.seed), 0, image.device).normal((1, self.design.latent)).repeat(len(image), 1).requires_grad_()
            walker = Adam([code], lr=RATE)
            for _ in range(self.turns):
                (code.grad,) = torch.autograd.grad(self.apart(image, self.net.generator(code)).sum(), [code])
                walker.step()
        self.train(was)
        return code.detach()

    def apart(self, image: Tensor, made: Tensor) -> Tensor:
        """Weighted sums of absolute differences of pixels and of the critic's features: (B,)."""
        pixels = torch.abs(image - made).flatten(1).sum(1)
        features = torch.abs(self.net.critic(image)[0] - self.net.critic(made)[0]).sum(1)
        found: Tensor = (1 - self.weight) * pixels + self.weight * features
        return found

    def infer(self, image: Tensor) -> Tensor:
        """The made image at which the search ends."""
        code = self.code(image)
        with torch.no_grad():
            made: Tensor = self.net.generator(code)
        return made

    def score(self, image: Tensor) -> Tensor:
        """What still sets the image apart from the one found."""
        made = self.infer(image)
        with torch.no_grad():
            return self.apart(image.float(), made)
