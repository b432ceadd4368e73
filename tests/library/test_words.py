import pytest

from curator.errors import RunFailed
from curator.library.words import as_keywords, errors_of_python


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("add --overwrite to replace its results", "add overwrite=True to replace its results"),
        ("start anew with --no-resume", "start anew with resume=False"),
        ("no column 'a'; choose one with --image-column", "no column 'a'; choose one with image_column"),
        ("--image-column a: expected", "image_column a: expected"),
        ("try --method.batch-size 64", 'try **{"method.batch_size": 64}'),
        ("Lower --method.lr, or try --mixed-precision no", "Lower \"method.lr\", or try mixed_precision='no'"),
        ("--epochs, --limit-rows or --net small shorten it", "epochs, limit_rows or net='small' shorten it"),
        ("--pred-probs is for --method confident", "pred_probs is for method='confident'"),
        ("run with --net 'mlp', now it is 'linear'", "run with net='mlp', now it is 'linear'"),
        ("--seed 123, now it is 7", "seed=123, now it is 7"),
        ("--trusted is --verified", "verified is verified"),
        ("--track trackio: not installed", "track='trackio': not installed"),
        ("then the same command continues", "then the same call continues"),
        ("unknown setting 'batch-sise'; did you mean 'method.batch-size'?",
         "unknown setting 'batch_sise'; did you mean 'method.batch_size'?"),
        # What is no flag of ours, and what is for a shell.
        ("a--b --unknown --help", "a--b --unknown --help"),
        ("then: label-curator publish out me/x --public; or --public",
         "then: label-curator publish out me/x --public; or public=True"),
    ],
)  # fmt: skip
def test_flags_as_keywords(text, wanted):
    assert as_keywords(text) == wanted


def test_hyperparameters_of_an_object():
    assert as_keywords("try --method.lr 0.1 or --seed 1", own_method=True) == "try method.lr = 0.1 or seed=1"
    assert as_keywords("--method.epochs: expected", own_method=True) == "method.epochs: expected"


def test_an_error_stays_what_it_is():
    with pytest.raises(RunFailed, match="^raise memory_budget$") as e, errors_of_python():
        raise RunFailed("raise --memory-budget") from OSError("why")
    assert isinstance(e.value.__cause__, OSError)
    assert e.value._render_traceback_() == ["RunFailed: raise memory_budget"]
