"""Speed: ethos against its peers in one run, equal outputs checked first, ratios printed.

table.py      READ THIS FIRST: the rows, their workloads and targets
__main__.py   `make bench-speed`: measure what is not measured yet, write RESULTS.md
laps.py       a subprocess a side, one lap at a time at its parent's word
texts.py      workloads: shipped texts cut to exact numbers of tokens
ours.py       laps of ethos
trl_side.py  eval_side.py  plain_side.py   laps of TRL, of lm-evaluation-harness, of transformers and of bare products
results.py    results.json, and RESULTS.md made from it
"""
