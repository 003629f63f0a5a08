"""Saved questions with an expectation: `saved` reads and runs them, `rules` proposes new ones from the normal images."""

from tmuad.checks.saved import Check, Outcome, failures, load_checks, run_checks

__all__ = ["Check", "Outcome", "failures", "load_checks", "run_checks"]
