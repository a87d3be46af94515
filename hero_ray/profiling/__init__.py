"""What pruning costs and saves: FLOPs, cache bytes, time and memory, each with its certificate."""

from hero_ray.profiling.costs import scoring_flops
from hero_ray.profiling.ledger import AnswerCost, answer_cost, ledger
from hero_ray.profiling.scoring import method_scoring

__all__ = ["AnswerCost", "answer_cost", "ledger", "method_scoring", "scoring_flops"]
