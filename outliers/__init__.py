"""Anomaly detection on Apache Druid time series. Importing this package does no work."""

__version__ = "0.1.0"
