"""Writes corpus_events.json anew: what the decoder reads in each body of corpus/.

    python -m tests.corpus.write_events

Run it after a deliberate change of what the decoder reads, and never to make a test pass: then read the whole diff,
body by body, against the body and the notes in corpus/INDEX.tsv. An id that changes makes every event of that kind
that is in somebody's log already show twice; other data under the same id needs the next REVISION in
schemas/decoder.py.
"""

from __future__ import annotations

import json
from typing import Any

from schemas.decoder import decode
from tests.support.webhooks import EXPECTED, bodies, corpus_delivery, load


def corpus_events() -> dict[str, list[dict[str, Any]]]:
    """Return the events of each body, by the name of its file."""
    return {path.name: [load(event) for event in decode(corpus_delivery(path)).events] for path in bodies()}


if __name__ == "__main__":
    EXPECTED.write_text(json.dumps(corpus_events(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {EXPECTED.name}: read its diff")
