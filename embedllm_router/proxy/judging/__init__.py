"""Judged evaluation of live traffic: drawing requests, asking contenders and judges, recording what came of it."""
