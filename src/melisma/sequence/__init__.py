"""Models that learn from sequence and environment how marks are written."""
