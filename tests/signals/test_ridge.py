import pytest
import torch
from torch.nn import functional as F

from curator.signals import ridge
from curator.signals.ridge import fit_ridge


@pytest.mark.parametrize("shape", [(30, 4), (12, 20)], ids=["more rows", "more features"])
def test_left_out_scores_are_those_of_models_without_the_row(shape, monkeypatch):
    monkeypatch.setattr(ridge, "POWERS", [-1])
    g = torch.Generator().manual_seed(0)
    (n, d), k = shape, 3
    labels = torch.arange(n) % k
    x = torch.randn(n, d, generator=g) + 2 * torch.randn(k, d, generator=g)[labels]
    x = (x - x.mean(0)) / x.std(0)
    model = fit_ridge(x, labels, k)
    y = F.one_hot(labels, k).double()
    s = torch.linalg.eigvalsh((x.T @ x).double() if d <= n else (x @ x.T).double())
    penalty = torch.zeros(d + 1, d + 1, dtype=torch.double)
    penalty[:d, :d] = 0.1 * s[s > 1e-6 * s[-1]].mean() * torch.eye(d)
    with_one = torch.cat([x.double(), torch.ones(n, 1, dtype=torch.double)], 1)
    factor = model.bias[0] / y.mean(0)[0]  # that makes logits of scores
    for i in range(n):
        others = torch.arange(n) != i
        a = with_one[others]
        weight = torch.linalg.solve(a.T @ a + penalty, a.T @ y[others])
        torch.testing.assert_close(model.left_out[i].double(), factor * (with_one[i] @ weight), atol=2e-3, rtol=1e-3)
    whole = torch.linalg.solve(with_one.T @ with_one + penalty, with_one.T @ y)
    torch.testing.assert_close(model(x).double(), factor * (with_one @ whole), atol=2e-3, rtol=1e-3)


def test_labels_without_meaning_are_not_told():
    g = torch.Generator().manual_seed(1)
    x, labels = torch.randn(60, 100, generator=g), torch.randint(0, 2, (60,), generator=g)
    model = fit_ridge((x - x.mean(0)) / x.std(0), labels, 2)
    assert (model.left_out.argmax(1) == labels).float().mean() < 0.75 and model.left_out.softmax(1).max() < 0.9
