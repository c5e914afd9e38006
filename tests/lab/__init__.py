"""Tests of the gradient lab."""
