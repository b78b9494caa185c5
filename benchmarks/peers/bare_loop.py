"""A workload as anybody would write it who has PyTorch and a loop.

Arguments: folder, workload, rounds, measure every, threads.
"""

import sys
from pathlib import Path

import torch
from workload import CLIENTS, COHORT, Pictures, is_measured, new_model, tell, train

folder, workload, (rounds, every, threads) = Path(sys.argv[1]), sys.argv[2], map(int, sys.argv[3:])
torch.set_num_threads(threads)
pictures, model, draw = Pictures(folder), new_model(workload), torch.Generator().manual_seed(0)
vector = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
for number in range(1, rounds + 1):
    total = torch.zeros_like(vector)
    for client in torch.randperm(CLIENTS, generator=draw)[: COHORT[workload]].tolist():
        torch.nn.utils.vector_to_parameters(vector.clone(), model.parameters())
        train(model, *pictures.shard(client))
        total += torch.nn.utils.parameters_to_vector(model.parameters()).detach() - vector
    vector += total / COHORT[workload]
    torch.nn.utils.vector_to_parameters(vector.clone(), model.parameters())
    tell(number, pictures.accuracy(model) if is_measured(number, every=every, rounds=rounds) else None)
