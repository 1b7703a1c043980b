"""Predictions compared with annotation -> report."""
