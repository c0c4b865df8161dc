"""What tests of several folders share; nothing here is a test."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The project's folder."""

CORPUS = ROOT / "tests" / "corpus"
"""Real webhook bodies, and the events that they become."""
