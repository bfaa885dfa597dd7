"""Panels of sites or regions that classify a phenotype: found, judged without leakage, applied."""

from melisma.markers._panel import Marker, Panel
from melisma.markers._score import Scores, score
from melisma.markers.find import Found, find_markers

__all__ = ["Found", "Marker", "Panel", "Scores", "find_markers", "score"]
