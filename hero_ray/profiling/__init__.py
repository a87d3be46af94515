"""What pruning costs and saves: FLOPs, cache bytes, time and memory, each with its certificate."""

from hero_ray.costs.costs import scoring_flops
from hero_ray.costs.ledger import AnswerCost, answer_cost, ledger
from hero_ray.costs.scoring import method_scoring

__all__ = ["AnswerCost", "answer_cost", "ledger", "method_scoring", "scoring_flops"]
