"""Scoring a series and judging the scores. Knows numpy and onnxruntime; never torch, HTTP or Druid."""
