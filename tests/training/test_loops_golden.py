"""The stages follow the published loops: losses, gradients, weights, averages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from reference import golden
from torch import Tensor, nn
from training.golden_loop import Recorded, ToldDraws, iterate, rule, two_codes

from dsgcli.recipe import FinetuneRecipe, PretrainRecipe, TransferRecipe
from dsgcli.training.perceptual import IrseIdentity, VggFeatures, fit
from dsgcli.training.stages.base import AdversarialTraining, Players
from dsgcli.training.stages.dual import DualPlayers
from dsgcli.training.stages.pretrain import PretrainTraining
from dsgcli.training.stages.transfer import Exemplars, Taken, TransferTraining

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fast_double")]
EVERY_ROW = slice(None)
"""The published path length averages over rows that cannot move the picture, too."""


def real_batches(case: dict) -> tuple[Tensor, ...]:
    return torch.from_numpy(golden.inputs(case)["real"]).double().split(2)


def losses(recorded: Recorded, iteration: int, **values: float) -> None:
    for name, value in values.items():
        recorded.outputs[f"iter{iteration}.loss.{name}"] = np.array(value)


@pytest.mark.golden("loop.finetune_stylegan")
def test_finetuning_follows_the_published_loop(made: Callable[[str], nn.Module]) -> None:
    name = "loop.finetune_stylegan"
    case = golden.case(name)
    players = Players(made("gen64"), made("gen64"), made("disc64"))
    recipe = FinetuneRecipe(steps=2, batch_size=2, augment=False)
    training = AdversarialTraining(players, recipe)
    parameters = {
        "g": dict(players.generator.named_parameters()),
        "d": dict(players.discriminator.named_parameters()),
    }
    recorded = Recorded(case, {"g": "G", "d": "D"})
    z = [two_codes(name, f"randn{k}", 1 if k == 3 else 2) for k in range(6)]
    y = rule(name, "randn_like0", 1, 3, 64, 64)
    told = [
        {
            "d": ToldDraws([z[1]], [], [2]),
            "g": ToldDraws([z[2]], [], [9]),
            "path": ToldDraws([z[3], y], [], [9]),
        },
        {"d": ToldDraws([z[4]], [], [7]), "g": ToldDraws([z[5]], [], [7])},
    ]
    seen: dict[str, float] = {}
    for i, (images, draws) in enumerate(zip(real_batches(case), told, strict=True)):
        seen |= iterate(training, i, images, draws, recorded, parameters)
        record_adversarial(recorded, i, seen)
    recorded.weights("final", players.generator.state_dict())
    recorded.weights("ema", players.average.state_dict())
    recorded.check()


def record_adversarial(recorded: Recorded, iteration: int, seen: dict[str, float]) -> None:
    losses(
        recorded,
        iteration,
        d=seen["d"],
        real_score=seen["score/real"],
        fake_score=seen["score/fake"],
        r1=seen["r1"],
        g=seen["g"],
        path=seen["path"],
        path_length=seen["path/length"],
    )


def dual_parameters(players: DualPlayers) -> dict[str, dict[str, nn.Parameter]]:
    return {
        "g": dict(players.dual.named_parameters()),
        "d": dict(players.discriminator.named_parameters()),
    }


def dual_weights(recorded: Recorded, players: DualPlayers) -> None:
    recorded.weights("final", players.dual.state_dict())
    recorded.weights("ema", players.average.state_dict())


def dual_players(made: Callable[[str], nn.Module]) -> DualPlayers:
    players = DualPlayers(made("dual64"), made("dual64"), made("disc64"))
    return players.to(torch.device("cpu"))


@pytest.mark.golden("loop.pretrain")
def test_pretraining_follows_the_published_loop(
    made: Callable[[str], nn.Module],
) -> None:
    name = "loop.pretrain"
    case, players = golden.case(name), dual_players(made)
    encoders, decoder = [made("encoder64")], made("gen64").style

    def encode(images: Tensor) -> Tensor:
        encoder = encoders.pop()  # two gigabytes, needed by the first iteration alone
        return decoder.rows(encoder(fit(images, 256)))

    recipe = PretrainRecipe(steps=2, batch_size=2, lambda_adv=0.1)
    training = PretrainTraining(
        players,
        recipe,
        VggFeatures(made("vgg19"), made("lpips")),
        encode,
        crossing=5,
        path_rows=EVERY_ROW,
        averaged=("res",),
    )
    recorded = Recorded(case, {"g": "G", "d": "D"})
    path = [two_codes(name, "randn2", 1), rule(name, "randn3", 1, 512)]
    path.append(rule(name, "randn_like0", 1, 3, 64, 64))
    told = [
        {"d": ToldDraws([two_codes(name, "randn1", 2)], [], []), "path": ToldDraws(path, [], [2])},
        {"d": ToldDraws([two_codes(name, "randn4", 2)], [], [])},
    ]
    seen: dict[str, float] = {}
    for i, (images, draws) in enumerate(zip(real_batches(case), told, strict=True)):
        seen |= iterate(training, i, images, draws, recorded, dual_parameters(players))
        weighted = {"d": 0.1 * seen["d"], "g": 0.1 * seen["g"] + seen["perc"]}
        record_adversarial(recorded, i, seen | weighted)  # the published log adds gr into g
        losses(recorded, i, gr=seen["perc"])
    dual_weights(recorded, players)
    recorded.check()


class AsPublished(TransferTraining):
    """With the published mistake: a face and its identity reference cross at different rows."""

    def random_faces(self, batch: int, draws: ToldDraws) -> Tensor:
        z = draws.normal(batch, 2, 512)
        self.w = self.players.dual.generator.map(z.flatten(0, 1)).reshape(batch, 2, 512)
        self.draws = draws
        return self.mixed(draws.shared_integer(1, 9))

    def mixed(self, index: int) -> Tensor:
        generator = self.players.dual.generator
        first, second = generator.broadcast(self.w[:, 0]), generator.broadcast(self.w[:, 1])
        return generator.mix(first, second, index)

    def plain(self, taken: Taken, noise: list[Tensor]) -> Tensor:
        if self.draws.shared:
            taken = replace(taken, ws=self.mixed(self.draws.shared_integer(1, 9)))
        return super().plain(taken, noise)


@pytest.mark.golden("loop.finetune_dual")
def test_transfer_follows_the_published_loop(made: Callable[[str], nn.Module]) -> None:
    name = "loop.finetune_dual"
    case, players = golden.case(name), dual_players(made)
    inputs = {k: torch.from_numpy(v).double() for k, v in golden.inputs(case).items()}
    exemplars = Exemplars(
        inputs["exstyles"], inputs["instyles"], lambda numbers: inputs["S"][numbers]
    )
    training = AsPublished(
        players,
        TransferRecipe(steps=2, batch_size=2, augment=False),
        exemplars,
        VggFeatures(made("vgg19"), made("lpips")),
        IrseIdentity(made("irse50")),
        path_rows=EVERY_ROW,
        averaged=("res",),
    )
    recorded = Recorded(case, {"g": "G", "d": "D"})

    def pair(first: int, batch: int = 2) -> list[Tensor]:
        shapes = ((batch, 2, 512), (batch, 10, 512))
        return [rule(name, f"normal{first + k}", *shape) for k, shape in enumerate(shapes)]

    path = [*pair(6, 1), two_codes(name, "randn3", 1), rule(name, "randn_like0", 1, 3, 64, 64)]
    told = [
        {
            "d": ToldDraws([*pair(2), two_codes(name, "randn1", 2)], [[4, 0]], [9]),
            "g": ToldDraws([*pair(4), two_codes(name, "randn2", 2)], [[4, 2]], [2, 5]),
            "path": ToldDraws(path, [[3]], [2]),
        },
        {"d": ToldDraws(pair(8), [[0, 3]], []), "g": ToldDraws(pair(10), [[0, 3]], [])},
    ]
    seen: dict[str, float] = {"perc": 0.0}
    for i, (images, draws) in enumerate(zip(real_batches(case), told, strict=True)):
        seen |= iterate(training, i, images, draws, recorded, dual_parameters(players))
        record_adversarial(recorded, i, seen)
        style = 0.25 * seen["cx"] + 0.25 * seen["fm"]
        losses(recorded, i, gr=seen["perc"], l2=0.015 * seen["reg"], id=seen["id"], sty=style)
    dual_weights(recorded, players)
    recorded.outputs.pop("saved_call", None)
    recorded.check()
