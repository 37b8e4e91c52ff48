"""Labelled images as Python objects: arrays, data frames, data sets, anything that yields pairs."""
