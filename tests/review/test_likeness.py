import numpy as np

from curator.review import likeness


def test_rows_of_one_direction_are_alike(monkeypatch):
    monkeypatch.setattr(likeness, "SEEN", 7)  # in several parts
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 6)).astype(np.float16)
    features[5], features[9] = 3 * features[17], 0
    found = likeness.likeness(features, features[17])
    assert found.argmax() in (5, 17) and found[[5, 17]].min() > 0.999 and found[9] == 0
    x = features.astype(float)
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(x[17])
    assert np.allclose(found, x @ x[17] / np.maximum(norms, 1e-9), atol=1e-3)


def test_the_first_axes_keep_distances(monkeypatch):
    monkeypatch.setattr(likeness, "SEEN", 30)
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(100, 2)) @ rng.normal(size=(2, 20))
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    places = np.arange(10, 100)
    found = likeness.reduced(flat.astype(np.float16), places, 3)
    assert found.shape == (90, 3) and found.dtype == np.float32
    near = np.linalg.norm(found[0] - found, axis=1)
    assert np.allclose(near, np.linalg.norm(flat[10] - flat[places], axis=1), atol=2e-3)
