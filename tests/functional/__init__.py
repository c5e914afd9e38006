"""Tests that assert laws."""
