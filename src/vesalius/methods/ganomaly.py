"""GANomaly: image to code to image to code again; of a strange image the two codes differ.

Akcay et al. 2018 (ACCV): the generator is encoder, decoder and a second encoder; it loses 50 times the absolute error of the image, the
squared difference of both codes, and that of what a critic of real and made images judges by. The score is the difference of the codes.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._adversaries import Critic, Design, Generator, Recipe, bounded, drawn
from vesalius.methods._unlabelled import Unlabelled, decayed

CARD = Card(
    entry="Ganomaly", title="GANomaly", paper="Akcay et al. 2018, ACCV", tasks=("anomaly",),
    summary="An autoencoder that encodes what it has decoded; strange is what changes its code.",
)  # fmt: skip

WEIGHTS = (1.0, 50.0, 1.0)  # of the critic's features, the image and the code, as there
BETAS = (0.5, 0.999)


class Coders(nn.Module):
    """Image to code, code to image, and a second time image to code; the critic beside."""

    def __init__(self, shape: Sequence[int], design: Design, generator: torch.Generator) -> None:
        super().__init__()
        recipe = Recipe(answers=design.latent, norms=(True, True), spread=0.02)
        self.coder = nn.ModuleDict({"encode": Critic(shape, design, recipe), "decode": Generator(shape, design, recipe),
                                    "again": Critic(shape, design, recipe)})  # fmt: skip
        self.critic = Critic(shape, design, Recipe(norms=(True, True)))
        for net in (self.coder, self.critic):
            drawn(net, generator, spread=recipe.spread)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Code (B, latent), image, and its code."""
        code = self.coder["encode"](image)[1]
        made = self.coder["decode"](code)
        return code, made, self.coder["again"](made)[1]


class Ganomaly(Unlabelled):
    """`weights` of the critic's features, of the image and of the code."""

    net: Coders

    def __init__(
        self, shape: Sequence[int], *, design: Design | None = None, weights: Sequence[float] = WEIGHTS, learning_rate: float = 2e-4,
        weight_decay: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if len(weights) != 3 or min(weights) < 0:
            raise UsageError(f"There are three weights, none below 0: of features, image and code; got {tuple(weights)}.")
        self.design, self.weights = design or Design(), tuple(weights)
        self.net = Coders(self.shape, self.design, torch.Generator().manual_seed(seed))

    def optimisers(self) -> dict[str, Optimizer]:
        """One for the coders, one for the critic."""
        parts = {"net": self.net.coder, "critic": self.net.critic}
        return {name: AdamW(decayed(part, self.weight_decay), lr=self.learning_rate, betas=BETAS) for name, part in parts.items()}

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image = bounded(self.checked(batch["image"]), self.design.bounds)
        code, made, again = self.net(image)
        words = {"real": F.softplus(-self.net.critic(image)[1]), "made": F.softplus(self.net.critic(made.detach())[1])}
        yield "critic", {name: word.mean() for name, word in words.items()}
        still = {name: value.detach() for name, value in self.net.critic.named_parameters()}
        real, fake = (functional_call(self.net.critic, still, (x,))[0] for x in (image, made))
        terms = {"features": F.mse_loss(fake, real), "image": F.l1_loss(made, image), "code": F.mse_loss(again, code)}
        yield "net", {name: weight * term for weight, (name, term) in zip(self.weights, terms.items(), strict=True)}
        self.step += 1

    def through(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Code, decoded image and its code."""
        found: tuple[Tensor, Tensor, Tensor] = self.net(self.checked(image).float())
        return found

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        """The image decoded from its code."""
        return self.through(image)[1]

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        return self.through(image)[0]

    @torch.no_grad()
    def score(self, image: Tensor) -> Tensor:
        """Sum of absolute differences of both codes."""
        code, _, again = self.through(image)
        return torch.abs(code - again).sum(1)
