"""What went wrong while the Hub was asked, in one line."""

from __future__ import annotations

from curator.errors import CuratorError
from curator.sources.network import HubLimit, is_of_network

CUT = 0  # in place of a status: no answer came
# What the client raises at an answer that is not one.
NO_ANSWER = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)


def explained(error: Exception, what: str, repo: str) -> CuratorError | None:
    """The one line for what went wrong while the Hub was asked; None where that has nothing to do with it."""
    from huggingface_hub.errors import LocalTokenNotFoundError

    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:  # the client wraps errors of its uploads
        chain.append(at)
        at = at.__cause__ or at.__context__
    if ours := next((e for e in chain if isinstance(e, CuratorError)), None):
        return HubLimit(f"{what} ({repo}): {ours}") if isinstance(ours, HubLimit) else ours
    if isinstance(error, LocalTokenNotFoundError):
        return refusal(401, what, repo)
    status = status_of(error)
    if status is not None:
        return refusal(status, what, repo, str(error) if status in (400, 422) else "")
    odd = next((e for e in chain if isinstance(e, NO_ANSWER)), None)
    if odd is None:
        return None
    return CuratorError(
        f"{what} ({repo}): the Hub's answer cannot be read ({type(odd).__name__}: {' '.join(str(odd).split())[:150]}); "
        "run the same command again"
    )


def status_of(error: BaseException | None) -> int | None:
    """What the Hub answered, CUT where it did not, None where the error is none of the network's.

    The client wraps errors of its uploads.
    """
    from huggingface_hub.errors import HfHubHTTPError

    while error is not None:
        if isinstance(error, CuratorError):
            return None
        if isinstance(error, HfHubHTTPError) and error.response is not None:
            return error.response.status_code
        if is_of_network(error):
            return CUT
        error = error.__cause__ or error.__context__
    return None


def refusal(status: int, what: str, repo: str, words: str = "") -> CuratorError:
    """The one line for what the Hub will not do: what was tried, what came, and what to do."""
    hints = {
        401: "the token is missing or not valid: log in with `hf auth login`, or set HF_TOKEN",
        402: "it asks for a plan that is paid: see https://huggingface.co/pricing, or choose an owner that has one",
        403: "the token may not write there: use one that may, another id, or --create-pr",
        404: "it is not there, or private to others: check the id and the token",
        409: "somebody else is changing it: run the same command again",
    }
    hint = hints.get(status, "run the same command again; what was uploaded is not sent again")
    came = "the connection was cut" if status == CUT else f"the Hub answered {status}"
    return CuratorError(f"{what} ({repo}): {came}; {' '.join(words.split())[-300:] or hint}")
