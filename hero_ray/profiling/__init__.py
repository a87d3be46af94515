"""What pruning costs and saves: FLOPs, cache bytes, time and memory, each with its certificate."""

from hero_ray.profiling.costs import AnswerCost, answer_cost, scoring_flops
from hero_ray.profiling.ledger import ledger

__all__ = ["AnswerCost", "answer_cost", "ledger", "scoring_flops"]
