"""PUDistill: worked numbers of its samples, votes and pseudo-labels, and what its stages do."""

import math
import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from curator.engine.losses import negative_entropy
from curator.engine.members import Members
from curator.errors import CuratorError
from curator.evidence import NoisyDataset, collapsed_into
from curator.methods.positive_unlabelled import Augmentation, bootstrap, bootstrap_sizes, drawn, ensemble, vote
from curator.methods.pudistill import PUDistill, pseudo_labels, thin
from tests.conftest import noisy

QUICK = {
    "epochs": 6, "teacher_epochs": 8, "pu_epochs": 10, "pu_drop": 8, "rounds": 2, "classifiers": 3, "votes": 3,
    "teachers": 2, "first_drop": 3, "second_drop": 5, "third_drop": 7, "batch_size": 32, "pu_batch": 16,
    "pu_lr": 0.05,
}  # fmt: skip


def close(found, expected, atol=1e-6):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), atol=atol, rtol=0)


def verified(n=300, k=3, *, share=0.5, each=10, kind="features", seed=0):
    """Planted rows, so many of each class verified, and the truth."""
    data, truth = noisy(n, k, share=share, kind=kind, seed=seed)
    trusted = torch.zeros(n, dtype=torch.bool)
    for c in range(k):
        trusted[torch.from_numpy((truth == c).nonzero()[0][:each])] = True
    labels = torch.where(trusted, torch.from_numpy(truth), data.labels)
    return NoisyDataset(data.inputs, labels, data.classes, trusted, data.rows), truth


def result(method, data, run):
    for found in method(data, run):  # noqa: B007 (the last one is the result)
        run.close_epoch()
        run.checkpoint()
    return found.check(data)


@pytest.mark.parametrize("own, added, positives, from_verified, from_unverified", [
    (500, 0, 500, 250, 250), (500, 137, 637, 318, 319), (500, 138, 638, 319, 319), (500, 500, 1000, 500, 500),
    (500, 4096, 1000, 500, 500), (50, 7, 57, 28, 29), (250, 1200, 500, 250, 250), (1, 0, 1, 0, 1),
])  # fmt: skip
def test_sizes_of_a_bootstrap_sample(own, added, positives, from_verified, from_unverified):
    assert bootstrap_sizes(own, added) == (positives, from_verified, from_unverified)
    assert from_verified + from_unverified == positives


def test_a_bootstrap_sample():
    data, _ = verified(300, 3, each=20)
    before = ~data.trusted & (torch.arange(300) < 150)
    rows, positive = bootstrap(before, 1, data, torch.Generator().manual_seed(0))
    own = data.trusted & (data.labels == 1)
    assert len(rows) == 80 and positive.sum() == 40
    first, second = rows[positive == 1], rows[positive == 0]
    assert len(first.unique()) == 40 and own[first].sum() == 20 and before[first].sum() == 20
    assert (data.trusted & (data.labels != 1))[second].sum() == 20  # verified rows of the other classes
    assert (~data.trusted & ~before)[second].sum() == 20  # rows that nobody verified and no one added
    other, _ = bootstrap(before, 1, data, torch.Generator().manual_seed(1))
    assert set(other.tolist()) != set(rows.tolist())


def test_drawn():
    rows, generator = torch.arange(5, 10), torch.Generator().manual_seed(0)
    assert sorted(drawn(rows, 5, generator).tolist()) == [5, 6, 7, 8, 9]
    assert len(drawn(rows, 3, generator).unique()) == 3
    twice = drawn(rows, 12, generator)
    assert len(twice) == 12 and twice.bincount()[5:].min() >= 2  # all of them before any again
    assert len(drawn(rows[:0], 4, generator)) == 0 and len(drawn(rows, 0, generator)) == 0


SCORES = torch.tensor(
    [[0.95, 0.91, 0.92, 0.99, 0.9], [0.95, 0.91, 0.92, 0.99, 0.89], [0.9] * 5, [0.97, 0.2, 0.99, 0.98, 0.96],
     [0.5, 0.6, 0.7, 0.8, 0.9]]
)  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("votes, with_alpha, above", [(5, [0, 2], []), (4, [0, 1, 2, 3], [0, 1, 3]),
                                                      (3, [0, 1, 2, 3], [0, 1, 3])])  # fmt: skip
def test_votes(dtype, votes, with_alpha, above):
    """.9 in float32 is less than .9 in float64: alpha is taken in the scores' precision."""
    scores = torch.tensor(SCORES.tolist(), dtype=torch.float64).round(decimals=6).to(dtype)
    assert vote(scores, 0.9, votes).nonzero()[:, 0].tolist() == with_alpha
    assert vote(scores, 0.9, votes, inclusive=False).nonzero()[:, 0].tolist() == above
    for inclusive, counts in ((True, [5, 4, 5, 4, 1]), (False, [4, 4, 0, 4, 0])):
        found = [vote(scores, 0.9, least, inclusive=inclusive) for least in range(1, 6)]
        assert torch.stack(found).sum(0).tolist() == counts


@pytest.mark.parametrize("q, of_20, of_10", [
    (0.5, 0.00002, 0.000977), (0.8, 0.069175, 0.107374), (0.9, 0.391747, 0.348678), (0.95, 0.73584, 0.598737),
    (0.99, 0.983141, 0.904382),
])  # fmt: skip
def test_votes_of_independent_members(q, of_20, of_10):
    """19 of 20 and 10 of 10, each of which votes with probability q."""
    for members, votes, expected in ((20, 19, of_20), (10, 10, of_10)):
        scores = (torch.arange(members) < torch.arange(members + 1)[:, None]).double()  # row j has j sure members
        chance = [math.comb(members, j) * q**j * (1 - q) ** (members - j) for j in range(members + 1)]
        assert sum(c for c, joins in zip(chance, vote(scores, 0.9, votes), strict=True) if joins) == pytest.approx(
            expected, abs=1e-6
        )


A = torch.tensor([[0.8, 0.1, 0.1], [0.4, 0.35, 0.25], [0.05, 0.9, 0.05]], dtype=torch.float64)
B = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.3, 0.2], [0.15, 0.7, 0.15]], dtype=torch.float64)


def test_pseudo_labels():
    mean, labels = (A + B) / 2, torch.ones(3, dtype=torch.int64)
    eta = float(mean[0, 0])  # row 0 lies on it
    close(mean, [[0.7, 0.2, 0.1], [0.45, 0.325, 0.225], [0.1, 0.8, 0.1]])
    soft, hard_bootstrap, hard = (
        pseudo_labels(mean, labels, eta, 0.5, kind) for kind in ("soft_bootstrap", "hard_bootstrap", "hard")
    )
    close(soft, [[0.35, 0.6, 0.05], [0, 1, 0], [0.05, 0.9, 0.05]])
    close(hard_bootstrap, [[0.5, 0.5, 0], [0, 1, 0], [0, 1, 0]])
    close(hard, [[1.0, 0, 0], [0, 1, 0], [0, 1, 0]])
    logits = torch.tensor([[1.0, 0, -1]], dtype=torch.float64)
    for target, loss in ((soft[:1], 1.107606), (hard_bootstrap[:1], 0.907606), (hard[:1], 0.407606)):
        close(F.cross_entropy(logits, target), loss)
    assert torch.equal(pseudo_labels(mean, labels, 0.9, 0.5, "hard"), F.one_hot(labels, 3).double())
    for kind, row in (("soft_bootstrap", [0.175, 0.8, 0.025]), ("hard_bootstrap", [0.25, 0.75, 0])):
        close(pseudo_labels(mean, labels, eta, 0.25, kind)[0], row)  # lambda is the teacher's share


def test_teachers_and_student_apart():
    """Tables IV and VI: mixup and entropy of one of them alone."""
    logits, targets = torch.tensor([[[2.0, 0.5, -1, 0]]]), torch.tensor([[[1.0, 0, 0, 0]]])
    for method, teachers, student in (
        (PUDistill(teacher_entropy=0.0), 0.342350, 0.342350 + 0.8 * 0.878281),
        (PUDistill(entropy=0.0, teacher_entropy=0.5), 0.342350 + 0.5 * 0.878281, 0.342350),
        (PUDistill(entropy=0.8), *[0.342350 + 0.8 * 0.878281] * 2),
    ):
        close(method.losses(logits, targets), teachers)
        close(method.loss(logits[0], targets[0]), student)


def test_samples_of_a_teacher():
    """300, 120, 500, 120 rows added and 50 verified a class: 170 of every class, or all verified and 120 of each."""
    added, own = [300, 120, 500, 120], 50
    classes = torch.cat([torch.full((size + own,), c) for c, size in enumerate(added)])
    trusted = torch.cat([torch.arange(size + own) < own for size in added])
    data, _ = noisy(len(classes), 4, classes.numpy(), kind="features", trusted=trusted.numpy())
    generator = torch.Generator().manual_seed(0)

    def sample(method, classes, data):
        least = method.least([classes], data)
        return classes[method.sample(classes, data, generator, least)].bincount().tolist()

    balanced, released = PUDistill(), PUDistill(reading="released")
    assert sample(balanced, classes, data) == [170] * 4  # 680 a teacher and epoch, either way
    assert sample(released, classes, data) == [170] * 4
    assert sample(PUDistill(teacher_rows=200), classes, data) == [200] * 4
    assert sample(PUDistill(balanced=False), classes, data) == [350, 170, 550, 170]  # table IV without bootstrap
    assert sample(PUDistill(reading="released", teacher_rows=150), classes, data) == [200] * 4
    # Where classes are verified unequally the released sample is not balanced.
    fewer = trusted & ((classes > 0) | (torch.arange(len(classes)) < 20))
    uneven = NoisyDataset(data.inputs, data.labels, data.classes, fewer, data.rows)
    assert sample(released, classes, uneven) == [140, 170, 170, 170]
    # Nothing was added: the verified rows are there.
    assert sample(balanced, torch.where(trusted, classes, -1), data) == [50] * 4
    # A class with next to nothing does not leave the others without a sample; its few rows are drawn again.
    poor = trusted & ((classes > 0) | (torch.arange(len(classes)) < 2))
    few = NoisyDataset(data.inputs, data.labels, data.classes, poor, data.rows)
    found = torch.where(classes == 0, torch.where(poor, 0, -1), classes)
    assert sample(balanced, found, few) == [50] * 4 and sample(released, found, few) == [2, 50, 50, 50]


def test_entropy():
    logits = torch.tensor([[2, 0.5, -1, 0], [0.1, 0.2, 0.3, 0.4], [-1, 3, 0, 1]])
    mixed = torch.tensor([[1, 0.2, 0, -0.5], [0.3, 0.9, -0.2, 0.1], [-0.4, 1.1, 0.6, 0.2]])
    close(torch.stack([-negative_entropy(row[None]) for row in logits]), [0.878281, 1.380071, 0.595087])
    close(torch.stack([-negative_entropy(row[None]) for row in mixed]), [1.233636, 1.298856, 1.253705])
    for rows, mean, part in ((logits, 0.951146, 0.760917), (mixed, 1.262066, 1.009653)):
        close(-negative_entropy(rows), mean)
        target = F.one_hot(torch.tensor([0, 3, 2]), 4).float()
        close(PUDistill().loss(rows, target) - F.cross_entropy(rows, target), part)
    row = logits[:1].clone().requires_grad_()
    (-negative_entropy(row)).backward()
    close(row.grad[0], [-0.380565, 0.152752, 0.087114, 0.140699])


OTHER_SETTINGS = (
    {"reading": "released"}, {"reading": "paper"}, {"pseudo_label": "hard"}, {"pseudo_label": "hard_bootstrap"},
    {"mixup_alpha": 0.0, "entropy": 0.0},
)  # fmt: skip


@pytest.mark.parametrize("share, settings", [
    (0.3, {}), (0.9, {}), *((0.9, settings) for settings in OTHER_SETTINGS),
    *(pytest.param(0.3, settings, marks=pytest.mark.slow) for settings in OTHER_SETTINGS),
])  # fmt: skip
def test_any_noise(share, settings, make_run):
    """Nine of ten labels wrong change nothing: they are hardly read."""
    data, truth = verified(share=share)
    run = make_run(net="mlp")
    method = PUDistill(**QUICK | settings)
    found = result(method, data, run)
    assert (found.corrected.numpy() == truth).mean() > 0.95
    wrong = torch.from_numpy(data.labels.numpy() != truth)
    assert (found.selected == ~wrong).float().mean() > 0.95
    assert found.clean_score[~wrong].mean() > found.clean_score[wrong].mean() + 0.5
    student = run.predict(run.registered["nets"], data.inputs).argmax(1)
    assert (student.numpy() == truth).mean() > (0.9 if share == 0.3 else 0.8)
    stages = method.stages(data, run, torch.from_numpy(truth))
    assert list(stages["augmented"]) == list(data.classes)
    assert all(part["right"] > 0.9 for part in stages["augmented"].values() if part["rows"])
    by_eta = [part["rows"] for part in stages["teachers"].values()]
    assert by_eta == sorted(by_eta) and by_eta[-1] == int((~data.trusted).sum())
    assert sum(part["rows"] for part in stages["augmented"].values()) <= by_eta[-1]


def test_stage_1_reads_no_noisy_label(make_run):
    runs = [make_run(net="mlp") for _ in range(2)]
    for run, share in zip(runs, (0.2, 0.8), strict=True):
        result(PUDistill(**QUICK), verified(share=share)[0], run)
    assert torch.equal(*(run.registered["claimed"] for run in runs))
    assert torch.equal(*(run.registered["teacher"] for run in runs))  # nor do the teachers


@pytest.mark.filterwarnings(
    "ignore:There is a performance drop"
)  # convolutions in one pass on a CPU, which nobody asks for
def test_members_train_alike_in_one_pass_and_one_by_one(make_run):
    """The same steps from the same start: one batched pass gives what a loop gives, and what single nets give."""
    for net, kind in (("mlp", "features"), ("small", "images")):
        data, _ = verified(60, kind=kind)
        run = make_run(net=net)
        nets = [run.build_net(f"net{i}", data, classes=2) for i in range(3)]
        groups = {how: Members(nets, how) for how in ("vmap", "loop")}
        rows = torch.arange(48).view(3, 16)
        x = torch.stack([run.normaliser(data.inputs)(data.inputs.batch(part)) for part in rows])
        y = torch.arange(48).view(3, 16) % 2
        for group in groups.values():
            optimizer = torch.optim.SGD(group.parameters(), 0.1, momentum=0.9, weight_decay=1e-3, fused=True)
            for _ in range(3):
                group.train()
                F.cross_entropy(group(x).flatten(0, 1), y.flatten(), reduction="sum").backward()
                optimizer.step()
                optimizer.zero_grad()
        optimizer = torch.optim.SGD([p for n in nets for p in n.parameters()], 0.1, momentum=0.9, weight_decay=1e-3)
        for _ in range(3):
            for own, part, target in zip(nets, x, y, strict=True):
                F.cross_entropy(own.train()(part).logits, target, reduction="sum").backward()
            optimizer.step()
            optimizer.zero_grad()
        for group in groups.values():
            group.eval()
            found = group(x[0])
            expected = torch.stack([own.eval()(x[0]).logits for own in nets])
            torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_bf16_members_keep_their_statistics(make_run, monkeypatch):
    data, truth = verified(kind="images", n=120, each=10)
    for how in ("vmap", "loop"):
        monkeypatch.setattr("curator.methods.positive_unlabelled.best_way", lambda device, how=how: how)
        run = make_run(mixed_precision="bf16")
        found = result(PUDistill(**QUICK | {"pu_epochs": 3, "teacher_epochs": 3, "epochs": 2}), data, run)
        assert found.probs.isfinite().all()
        assert all(b.dtype != torch.bfloat16 for b in run.registered["teachers"].buffers())
        assert "members" not in run.registered  # stage 1 is done: later checkpoints have no use for them


def test_a_class_ends_early_where_nothing_changes(make_run, monkeypatch):
    data, _ = verified(120)
    monkeypatch.setattr("curator.methods.positive_unlabelled.SETTLED", 0.5)
    early, all_rounds = make_run(net="mlp"), make_run(net="mlp")
    yields = sum(1 for _ in PUDistill(**QUICK | {"rounds": 6})(data, early))
    every = sum(1 for _ in PUDistill(**QUICK | {"rounds": 6, "reading": "paper"})(data, all_rounds))
    assert yields < every and early.registered["settled"].any() and not all_rounds.registered["settled"].any()


def test_rows_that_several_classes_claim(make_run, monkeypatch):
    data, _ = verified(30, 3, each=2)
    monkeypatch.setattr("curator.methods.pudistill.MARGIN", 0.1)
    method = PUDistill()
    known = Augmentation(method, data, make_run(net="mlp"))
    free = (~data.trusted).nonzero()[:4, 0]
    known.claimed[-1, free] = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]]).bool()
    known.score[free] = torch.tensor([[0.9, 0.95, 0.99], [0.8, 0.95, 0], [0, 0, 0.9], [0.9, 0, 0]])
    found = method.augmented(known, data)
    assert found[free].tolist() == [-1, 1, 2, -1]  # too close; the surer one; the only one; none
    assert torch.equal(found[data.trusted], data.labels[data.trusted])  # a verified label stands


@pytest.mark.parametrize("counts, word", [
    ([0, 0, 0], "found 0 of 'class 0' and too few of 2 more"),
    ([1, 0, 50], "found 1 of 'class 0' and too few of 1 more"),
    ([9, 1, 9], "found 1 of 'class 1';"),
])  # fmt: skip
def test_too_few_verified_rows(counts, word, make_run):
    with pytest.raises(CuratorError, match=f"at least 2 of every class, {word}.*--verified"):
        next(PUDistill(**QUICK)(uneven(counts), make_run(net="mlp")))


def uneven(counts, n=3000):
    """Rows whose classes have so many verified ones."""
    data, truth = noisy(n, len(counts), share=0, kind="features")
    trusted = sum(np.isin(np.arange(n), np.flatnonzero(truth == c)[:count]) for c, count in enumerate(counts)) > 0
    return NoisyDataset(data.inputs, data.labels, data.classes, torch.from_numpy(trusted), data.rows)


@pytest.mark.parametrize("counts, words", [
    ([50, 50, 50], []),
    ([500, 50, 60], []),
    ([50, 49, 7], ["2 of 3 classes have few verified rows, 'class 2' the fewest with 7: about 50"]),
    ([60, 601, 60], ["uneven: 601 of 'class 1', 60 of 'class 0'"]),
    ([2, 100, 30], ["2 of 3 classes", "100 of 'class 1', 2 of 'class 0'"]),
])  # fmt: skip
def test_few_and_uneven_verified_rows_are_said_before_the_training(counts, words, make_run):
    data = uneven(counts)
    found = thin(data)
    assert len(found) == len(words) and all(word in text for word, text in zip(words, found, strict=True))
    said: list[str] = []
    run = make_run(net="mlp", say=said.append)
    run.stop()  # nothing is trained
    assert sum(1 for _ in PUDistill(**QUICK)(data, run)) == 1
    assert run.warnings == found and said == [f"warning   {text}" for text in found]


@pytest.mark.parametrize("reading", ["recommended", "released"])
def test_nothing_is_added(reading, make_run):
    """Stage 2 goes on with the verified rows, and says so."""
    data, truth = verified(each=50)
    run = make_run(net="mlp")
    found = result(
        PUDistill(**QUICK | {"alpha": 0.999999, "pu_epochs": 2, "reading": reading}), data, run
    )  # no row gets such votes
    assert not run.registered["claimed"].any() and (found.corrected.numpy() == truth).mean() > 0.8
    (warning,) = run.warnings
    assert "no row was found to add to 3 of 3 classes, such as 'class 0'" in warning


def test_nothing_is_added_to_one_class(make_run):
    """Its verified rows are the teachers' sample of every class."""
    data, truth = verified(each=50)
    run, method = make_run(net="mlp"), PUDistill(**QUICK)
    known, taught = Augmentation(method, data, run), run.register("teacher", torch.zeros(300, 3))
    known.claimed[-1, :, :2] = torch.from_numpy(truth[:, None] == [0, 1]) & ~data.trusted[:, None]
    known.score.copy_(known.claimed[-1].float())
    for _ in method.teach(known, taught, data, run):
        run.close_epoch()
    found = method.result(known, taught, data)
    assert (found.corrected.numpy() == truth).mean() > 0.95
    (warning,) = run.warnings
    assert "no row was found to add to 1 of 3 classes, such as 'class 2'" in warning


def test_everything_is_verified(make_run):
    data, truth = verified()
    whole = NoisyDataset(data.inputs, torch.from_numpy(truth), data.classes, torch.ones(300).bool(), data.rows)
    run = make_run(net="mlp")
    assert result(PUDistill(**QUICK), whole, run).selected.all() and run.warnings == []


def test_the_released_reading(make_run):
    data, _ = verified()
    run = make_run(net="mlp")
    method = PUDistill(**QUICK | {"reading": "released"})
    result(method, data, run)
    assert (method.mu(), PUDistill().mu(), PUDistill(reading="paper").mu()) == (1.0, 2.0, 2.0)
    known = run.registered
    assert known["claimed"].shape == (2, 300, 3) and np.isfinite(known["score"].numpy()).all()


def test_rounds_that_teachers_and_the_student_read(make_run, monkeypatch):
    """As released teacher i learns the sets of round i + 1, the student those of round 1; else all the last ones."""
    data, _ = verified(each=20)
    a = int((~data.trusted).nonzero()[0, 0])
    for settings, of_teachers, of_student in (({}, [1, 1], 1), ({"reading": "released"}, [2, 1], 2)):
        method, run = PUDistill(**QUICK | settings), make_run(net="mlp")
        known, taught, read = Augmentation(method, data, run), torch.zeros(300, 3), []
        known.claimed[0, a, 2], known.claimed[1, a, 1], known.score[a] = True, True, torch.tensor([0, 1.0, 1.0])
        monkeypatch.setattr(method, "least", lambda classes, data, read=read: read.extend(classes) or 2)
        run.stop()  # nothing is trained
        assert sum(1 for _ in method.teach(known, taught, data, run)) == 0
        assert [int(classes[a]) for classes in read] == of_teachers
        assert method.targets(known, taught, data)[a].argmax() == of_student


@pytest.mark.parametrize("reading", ["recommended", "released"])
def test_rows_that_may_join_a_class(reading, make_run):
    """Every probability reaches 0: all rows join that may."""
    data, _ = verified()
    method, run = PUDistill(**QUICK | {"alpha": 0.0, "reading": reading}), make_run(net="mlp")
    known = Augmentation(method, data, run)
    found = known.claim(ensemble("pu", 3, data, run, classes=1), 0)
    expected = torch.ones(len(data)).bool() if reading == "released" else ~data.trusted
    assert torch.equal(found, expected) and torch.equal(known.score[:, 0] > 0, expected)


@pytest.mark.parametrize("reading", ["recommended", "paper", "released"])
def test_verified_rows_get_pseudo_labels_as_released(reading, make_run):
    data, _ = verified()
    method = PUDistill(reading=reading)
    known, taught = Augmentation(method, data, make_run(net="mlp")), torch.tensor([0.1, 0.1, 0.8]).expand(300, 3)
    targets, given = method.targets(known, taught, data), F.one_hot(data.labels, 3).float()
    assert torch.equal(targets[data.trusted], given[data.trusted]) is (reading != "released")
    close(targets[~data.trusted], (0.5 * torch.tensor([0.1, 0.1, 0.8]) + 0.5 * given)[~data.trusted])


def test_teachers_drop_after_the_same_share_of_their_epochs(make_run, monkeypatch):
    data, _ = verified(each=20)
    method, run, rates = PUDistill(**QUICK | {"pu_epochs": 1}), make_run(net="mlp"), []
    monkeypatch.setattr(
        "curator.methods.pudistill.set_rate", lambda optimizer, lr: rates.append(round(lr / method.lr, 9))
    )
    result(method, data, run)
    of_teachers, of_student = rates[: method.teacher_epochs], rates[method.teacher_epochs :]
    assert of_teachers == [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01]  # 8 epochs; 3 and 5 of 6 are 4 and 6.7 of them
    assert of_student == [1, 1, 1, 0.1, 0.1, 0.01]


@pytest.mark.parametrize("stop", [2, 8])  # in stage 1, and among the teachers' epochs
def test_a_run_cut_short_has_no_student(stop, make_run):
    """It would score the other splits; and rows that no teacher has seen are corrected by nobody."""
    data, _ = verified(k=2)
    run, method = make_run(net="mlp"), PUDistill(**QUICK | {"eta": 0.5})  # which a uniform prediction reaches
    for i, found in enumerate(method(data, run), 1):  # noqa: B007
        run.close_epoch()
        if i == stop:
            run.stop()
    assert not run.scorers and "nets" not in run.registered and collapsed_into(found.check(data), data) is None
    untold = (run.registered["teacher"].sum(1) == 0) & ~run.registered["claimed"][-1].any(1)
    assert torch.equal(found.corrected[untold], data.labels[untold]) and untold.any() == (stop == 2)


def test_stop_and_resume(make_run, tmp_path):
    """In stage 1, among the teachers' epochs and the student's: from copies of one straight run."""
    data, _ = verified(120, each=8)
    run, stops = make_run(net="mlp", checkpoints=tmp_path / "now"), (5, 9, 16)
    for i, straight in enumerate(PUDistill(**QUICK)(data, run), 1):  # noqa: B007 (the last one is the result)
        run.close_epoch()
        run.checkpoint()
        if i in stops:
            shutil.copytree(tmp_path / "now", tmp_path / f"after {i}")
    for stop in stops:
        resumed_run = make_run(net="mlp", checkpoints=tmp_path / f"after {stop}")
        resumed = result(PUDistill(**QUICK), data, resumed_run)
        assert torch.equal(resumed.probs, straight.probs) and torch.equal(resumed.corrected, straight.corrected)
        state = resumed_run.registered["nets"].state_dict()
        assert all(torch.isfinite(value).all() for value in state.values())


def test_stage_1_is_kept_for_other_noise(make_run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yields, found = [], []
    for share, content in ((0.2, "rows"), (0.8, "rows"), (0.8, "other rows"), (0.8, None)):
        data, truth = verified(150, share=share)
        run = make_run(net="mlp", content=content)
        yields.append(sum(1 for _ in PUDistill(**QUICK)(data, run)))
        found.append(run.registered["claimed"])
        student = run.predict(run.registered["nets"], data.inputs).argmax(1)
        assert (student.numpy() == truth).mean() > 0.8
    assert yields[1] < yields[0] == yields[2] == yields[3]  # no round was made
    assert torch.equal(found[0], found[1])
    assert len(list(tmp_path.rglob("*.npz"))) == 2
    # Other verified rows, another setting of stage 1 or another seed are other work; a file cut short is made again.
    data, _ = verified(150, share=0.8, each=12)
    assert sum(1 for _ in PUDistill(**QUICK)(data, make_run(net="mlp", content="rows"))) == yields[0]
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    data, _ = verified(150, share=0.8)
    assert sum(1 for _ in PUDistill(**QUICK)(data, make_run(net="mlp", content="rows"))) == yields[0]


@pytest.mark.parametrize("spoil", [
    lambda path, whole: path.write_bytes(b""),
    lambda path, whole: np.savez(path, **{**whole, "score": whole["score"] * np.nan}),
    lambda path, whole: np.savez(path, **{**whole, "score": whole["score"][:, :1]}),
    lambda path, whole: np.savez(path, claimed=whole["claimed"]),
    lambda path, whole: np.savez(path, **{**whole, "claimed": whole["claimed"].astype(object)}),
], ids=["0 bytes", "NaN", "other width", "one is missing", "pickled"])  # fmt: skip
def test_a_broken_file_of_the_cache_is_none(make_run, monkeypatch, tmp_path, spoil):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    run = make_run(net="mlp", content="rows")
    whole = {"claimed": torch.ones(2, 5, 3, dtype=torch.bool), "score": torch.rand(5, 3)}
    run.kept.save("pudistill", {"a": 1}, whole)
    found = run.kept.load("pudistill", {"a": 1}, whole)
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    (path,) = tmp_path.rglob("*.npz")
    spoil(path, {name: value.numpy() for name, value in whole.items()})
    assert run.kept.load("pudistill", {"a": 1}, whole) is None
