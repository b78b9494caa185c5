"""What somebody may have meant by a word that is not known."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = 0.6, otherwise: str = ";") -> str:
    """Return `, did you mean 'NEAREST'?`, to stand behind the mistake, or `otherwise` if nothing known is near.

    `cutoff` is how alike they must be, from 0 to 1 (`difflib`).
    """
    nearest = difflib.get_close_matches(word, [str(one) for one in known], n=1, cutoff=cutoff)
    return f", did you mean {nearest[0]!r}?" if nearest else otherwise
