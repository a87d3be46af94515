"""What stored rows mean, said once, and every form in which they leave.

A contender is written `METHOD[:KEY=VALUE,...][@BUDGET]`: `hero@20%`, or `hero:alpha=0.7,variant=paper@576tok`. It means
every cell that fits; several seeds count as one contender whose score on a sample is their mean.
"""
