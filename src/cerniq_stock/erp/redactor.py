"""Takes the secrets of a session out of whatever is told: logs, errors, remarks on rows."""

import json
from urllib.parse import quote, quote_plus

_HIDDEN = "***"
_CUT = "…"


class Redactor:
    """Knows the secrets of a session and takes them out of any text."""

    def __init__(self) -> None:
        self._forms: set[str] = set()

    def add(self, *values: str) -> None:
        """Remember secrets, also as they look in URLs and JSON; three letters are no secret."""
        for value in values:
            if len(value) > 3:
                encoded = json.dumps(value)[1:-1]
                self._forms |= {value, quote(value), quote(value, ""), quote_plus(value), encoded}

    def clean(self, text: str) -> str:
        """Return `text` without any of them, also where it was shortened in one's middle."""
        forms = sorted(self._forms, key=len, reverse=True)
        for form in forms:
            text = text.replace(form, _HIDDEN)
        if _CUT not in text:
            return text
        *shortened, rest = text.split(_CUT)
        return _CUT.join([*(_without_beginning(part, forms) for part in shortened), rest])


def _without_beginning(text: str, forms: list[str]) -> str:
    """Return `text` without the beginning of a secret at its end."""
    for form in forms:
        for length in range(min(len(form), len(text)), 3, -1):
            if text.endswith(form[:length]):
                return text[:-length] + _HIDDEN
    return text
