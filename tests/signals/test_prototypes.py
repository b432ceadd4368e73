import torch

from curator.signals.prototypes import prototype_loss, prototype_score, pulled_classes

PROTOTYPES = torch.tensor([[1.0, 0], [0, 1], [-1, -1]], dtype=torch.float64)
PROJECTED = torch.tensor([[2.0, 0.5], [-0.3, 1], [0.4, -0.2], [-1, -2], [1.5, 1.5]], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 0, 2])
PROBS = torch.tensor([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.2, 0.3, 0.5], [0.05, 0.05, 0.9], [0.85, 0.1, 0.05]])
CLEAN = torch.tensor([True, True, True, False, False])


def loss_of(alpha, clean=CLEAN, pulled=None, prototypes=PROTOTYPES):
    pulled = pulled_classes(PROBS, LABELS, clean) if pulled is None else pulled
    return prototype_loss(PROJECTED @ prototypes.T, LABELS, clean, pulled, alpha)


def close(found, expected, atol=1e-6):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), atol=atol, rtol=0)


def test_equations_2_to_5():
    none, alone = torch.full((5,), -1), torch.ones(5, dtype=torch.bool)
    no_other = prototype_loss(PROJECTED[:3] @ PROTOTYPES.T, LABELS[:3], CLEAN[:3], none[:3], 0)
    close(no_other, 0.804072)  # equation 2
    close(loss_of(0.0) - no_other, 0.180925)  # equation 3
    close((loss_of(1.0) - loss_of(0.0)), 0.048587)  # equation 4
    for alpha, expected in ((0, 0.984997), (0.5, 1.009290), (1, 1.033584)):
        close(loss_of(alpha), expected)
    assert loss_of(1.0, alone).isfinite() and loss_of(1.0, ~alone).isfinite()


def test_gradient_of_the_prototypes():
    prototypes = PROTOTYPES.clone().requires_grad_()
    loss_of(1.0, prototypes=prototypes).backward()
    close(prototypes.grad, [[-0.201516, -0.254829], [0.185226, -0.065070], [0.015481, 0.208159]], atol=2e-6)


def test_who_is_pulled():
    assert pulled_classes(PROBS, LABELS, CLEAN).tolist() == [-1, -1, -1, 2, -1]
    # A row of the threshold's own confidence does not exceed it; a class without clean rows pulls nobody.
    assert pulled_classes(PROBS[[0, 0]], torch.tensor([0, 1]), torch.tensor([True, False])).tolist() == [-1, -1]
    assert (pulled_classes(PROBS, LABELS, torch.zeros(5, dtype=torch.bool)) == -1).all()


def test_score_and_partition():
    score = prototype_score(PROJECTED, PROTOTYPES, LABELS)
    close(score, [0.880797, 0.731059, 0.450166, 0.268941, 0.047426])
    assert (score > 0.5).int().tolist() == [1, 1, 0, 0, 0] and (score > 0.3).int().tolist() == [1, 1, 1, 0, 0]
    assert min(score[CLEAN]) > max(score[~CLEAN])  # AUC 1


def test_large_scores_are_finite():
    scores = torch.tensor([[200.0, -200], [-200, 200]], requires_grad=True)
    loss = prototype_loss(scores, torch.tensor([1, 1]), torch.tensor([True, False]), torch.tensor([-1, 0]), 1.0)
    loss.backward()
    assert loss.isfinite() and scores.grad.isfinite().all()
