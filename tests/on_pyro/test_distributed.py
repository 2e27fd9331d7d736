"""A head that ends in a law, trained by two processes of ``DistributedDataParallel``."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
import torch
from torch import nn
from torch.distributed import destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel
from pyro_constrained import ConstrainedNormal

torch.set_num_threads(1)
rank, store = int(sys.argv[1]), sys.argv[2]


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 10, dtype=torch.float64)
        rows = torch.arange(10.0, dtype=torch.float64).reshape(2, 5).cos()
        self.register_buffer("A", rows)

    def forward(self, inputs, k, x):
        loc, raw = self.layer(inputs).chunk(2, -1)
        law = ConstrainedNormal(loc, nn.functional.softplus(raw), self.A, k)
        return -law.log_prob(law.project(x)).mean()


head = Head()
torch.manual_seed(1)
inputs, x = torch.randn(8, 3, dtype=torch.float64), torch.randn(8, 5, dtype=torch.float64)
k = x @ head.A.mT
head(inputs, k, x).backward()
expected = [p.grad.clone() for p in head.parameters()]
head.zero_grad()
init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
parallel = DistributedDataParallel(head)
own = slice(4 * rank, 4 * rank + 4)
parallel(inputs[own], k[own], x[own]).backward()
for parameter, gradient in zip(head.parameters(), expected, strict=True):
    torch.testing.assert_close(parameter.grad, gradient, rtol=1e-12, atol=1e-12)
destroy_process_group()
"""


def test_two_processes_give_the_same_gradients(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    each = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store")],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in each:
        _, errors = process.communicate()
        assert process.returncode == 0, errors[-3000:]
