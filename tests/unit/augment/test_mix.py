"""Mixup and cutmix against their formulas, in 2D and 3D, by every loss, and the same however many processes share a batch."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vesalius.augment import Augment
from vesalius.augment._mix import Mix, box_of, mix_of, mixed
from vesalius.core.errors import VesaliusError
from vesalius.data.batch import Batch, Kind
from vesalius.data.labels import Labels
from vesalius.engine.member import whole_samples
from vesalius.methods.supervised import Supervised
from vesalius.tasks.classify.loss import named

GRADES = Labels(names=("0", "1", "2"), values=((0,), (1,), (2,)), kind="grades")
CLASSES = Labels(names=("a", "b", "c"), values=((0,), (1,), (2,)), kind="classes")
FINDINGS = Labels(names=("a", "b", "c"), values=((1,), (2,), (3,)), kind="findings")


def batch(shape=(6, 8), size=5, *, columns=1, seed=0):
    draw = torch.Generator().manual_seed(seed)
    target = torch.randint(3 if columns == 1 else 2, (size, columns), generator=draw).to(torch.uint8)
    return Batch({"image": torch.randn(size, 2, *shape, generator=draw), "target": target}, {"image": Kind.IMAGE, "target": Kind.LABEL})


@pytest.mark.parametrize("shape", [(6, 8), (5, 6, 7)])
def test_mixup_is_the_weighted_mean_of_images(shape):
    one = batch(shape)
    mix = mix_of(Augment(mixup=0.4), (3, 11), size=5, shape=shape)
    made = mixed(one, one.mapped(lambda _, t: t[mix.order]), mix)
    assert sorted(mix.order) == list(range(5)) and 0 <= mix.share <= 1 and not mix.box
    for k in range(5):
        expected = mix.share * one["image"][k] + (1 - mix.share) * one["image"][mix.order[k]]
        assert torch.equal(made["image"][k], expected) and made["mate"][k] == one["target"][mix.order[k]]
    assert torch.equal(made["share"], torch.full((5,), mix.share)) and torch.equal(made["target"], one["target"])


@pytest.mark.parametrize("shape", [(6, 8), (5, 6, 7)])
def test_cutmix_pastes_a_box_and_its_share_is_counted_in_voxels(shape):
    one = batch(shape)
    for step in range(20):
        mix = mix_of(Augment(cutmix=1.0), (0, step), size=5, shape=shape)
        made = mixed(one, one.mapped(lambda _, t, order=mix.order: t[order]), mix)
        for k in range(5):
            own, other = made["image"][k] == one["image"][k], made["image"][k] == one["image"][mix.order[k]]
            assert (own | other).all()
            if mix.order[k] != k:
                assert float(own.float().mean()) == pytest.approx(mix.share, abs=1e-6)


def test_shares_are_drawn_from_the_beta_distribution_and_repeat_by_seed_and_step():
    shares = np.array([mix_of(Augment(mixup=0.2), (0, step), size=2, shape=(4, 4)).share for step in range(2000)])
    variance = 1 / (4 * (2 * 0.2 + 1))
    assert shares.mean() == pytest.approx(0.5, abs=4 * np.sqrt(variance / 2000)) and shares.var() == pytest.approx(variance, rel=0.1)
    assert mix_of(Augment(mixup=0.2), (0, 7), size=2, shape=(4, 4)).share == shares[7]
    assert mix_of(Augment(mixup=0.2), (1, 7), size=2, shape=(4, 4)).share != shares[7]
    assert mix_of(Augment(), (0, 7), size=2, shape=(4, 4)) is None
    both = [bool(mix_of(Augment(mixup=0.2, cutmix=1), (0, k), size=2, shape=(4, 4)).box) for k in range(400)]
    half = [mix_of(Augment(mixup=0.2, mixing_probability=0.5), (0, k), size=2, shape=(4, 4)) is None for k in range(400)]
    assert 160 < sum(both) < 240 and 160 < sum(half) < 240


def test_a_box_has_its_part_of_the_volume_where_no_border_cuts_it():
    class Middle:
        def integers(self, side):
            return side // 2

    for shape in ((40, 60), (20, 30, 40)):
        box = box_of(0.25, shape, Middle())
        sides = [(s.stop - s.start) / side for s, side in zip(box, shape, strict=True)]
        assert sides == pytest.approx([0.25 ** (1 / len(shape))] * len(shape), abs=1 / min(shape))


@pytest.mark.parametrize(("labels", "settings"), [(CLASSES, {}), (CLASSES, {"name": "focal"}), (CLASSES, {"name": "ldam"}),
                                                  (CLASSES, {"label_smoothing": 0.1}), (GRADES, {}), (FINDINGS, {})])  # fmt: skip
def test_every_loss_is_shared_out_by_the_same_part(labels, settings):
    columns = 1 if labels.one_of else 3
    one = batch(columns=columns)
    mix = Mix(np.array([1, 2, 3, 4, 0]), 0.3)
    made = mixed(one, one.mapped(lambda _, t: t[mix.order]), mix)

    class Net(torch.nn.Module):
        weight = torch.nn.Parameter(torch.randn(3, 2 * 6 * 8, generator=torch.Generator().manual_seed(1)) / 5)

        def heads(self, image):
            return [image.flatten(1) @ self.weight.T]

    net, loss = Net(), named(labels, settings, [30, 20, 5])
    ((_, terms),) = Supervised(net, loss, learning_rate=1e-3, weight_decay=0).steps(made)
    logits = net.heads(made["image"])
    first, second = loss(logits, made["target"]), loss(logits, made["mate"])
    for name in first:
        assert terms[name].item() == pytest.approx(0.3 * first[name].item() + 0.7 * second[name].item(), rel=1e-6)
    if labels is CLASSES and not settings:
        soft = 0.3 * F.one_hot(made["target"][:, 0].long(), 3) + 0.7 * F.one_hot(made["mate"][:, 0].long(), 3)
        assert terms["cross_entropy"].item() == pytest.approx(F.cross_entropy(logits[0], soft).item(), rel=1e-6), "the paper's soft label"


def test_a_joint_batch_is_the_same_over_several_processes(tmp_path, monkeypatch):
    from tests.unit.engine.test_whole import cohort, plan_of
    from vesalius.data.cache import Cache
    from vesalius.engine import member

    data = cohort(tmp_path, 8)
    plan = plan_of()
    plan = plan.model_copy(update={"augment": plan.augment.model_copy(update={"mixup": 1.0})})
    stored = Cache(tmp_path / "cache", plan.preparation, plan.labels, size=plan.patch.size).store(data.cases)
    whole = whole_samples(plan, stored, "cpu")(3, 6)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(member, "process_rank", lambda rank=rank: (rank, 2))
        parts.append(whole_samples(plan, stored, "cpu")(3, 6))
    for name in ("image", "target", "mate", "share"):
        assert all(torch.equal(whole[name][rank::2], parts[rank][name]) for rank in range(2)), name
    assert float(whole["share"][0]) < 1


def test_mates_of_another_number_are_refused():
    with pytest.raises(VesaliusError, match="a mate for each"):
        mixed(batch(size=5), batch(size=4), Mix(np.arange(5), 0.5))
