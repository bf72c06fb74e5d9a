"""Fitting models and the jobs that do it. Needs the trainer's requirements (torch, rq, redis)."""
