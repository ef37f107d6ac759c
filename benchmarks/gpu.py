"""What only a GPU shows: ``python -m benchmarks.gpu`` on a machine with a CUDA device, torch and transformers."""

from __future__ import annotations

import torch

from benchmarks.run import printed, show
from tests.gpu.test_what_fits import batch_of, model_of, runs, train
from tfdiag_ipython.probes.batch_search import predict
from tfdiag_ipython.probes.batch_trials import Work, find_fit

STEP = """
import contextlib, statistics, time, torch, tfdiag_ipython
from transformers import BertConfig, BertForSequenceClassification
model = BertForSequenceClassification(BertConfig()).cuda()
optimizer = torch.optim.AdamW(model.parameters())
batch = dict(input_ids=torch.randint(30000, (8, 128)), attention_mask=torch.ones(8, 128, dtype=torch.long),
             labels=torch.zeros(8, dtype=torch.long))
def steps(context):
    torch.cuda.synchronize()
    started = time.perf_counter()
    with context:
        for _ in range(20):
            model(**{name: value.to("cuda", non_blocking=True) for name, value in batch.items()}).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / 20
steps(contextlib.nullcontext())
pairs = [(steps(contextlib.nullcontext()), steps(tfdiag_ipython.guard())) for _ in range(9)]
print(*(statistics.median(column) for column in zip(*pairs)))
"""


def guarded_step() -> None:
    """A training step of a BERT-base on the GPU, 8 × 128: under the guard at most 2 % more, and less than blocking launches cost."""
    bare, guarded = printed(STEP)
    show("a step on the GPU, under the index guard", bare, guarded)
    blocking = printed(f"import os\nos.environ['CUDA_LAUNCH_BLOCKING'] = '1'\n{STEP}")[0]
    show("the same under CUDA_LAUNCH_BLOCKING=1", bare, blocking)


def predicted_peaks(rows: int = 48) -> None:
    """The peak of a training step, predicted from steps of two and four rows, over the measured one: within 10 %."""
    for name in ("bert", "gpt2", "t5", "llama", "vit"):
        model = model_of(name).train()
        optimizer = torch.optim.AdamW(model.parameters())
        fit = find_fit(torch, model, batch_of(name, 3), Work(optimizer=optimizer), most=4)
        for _ in range(2):
            train(model, optimizer, batch_of(name, rows))
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        train(model, optimizer, batch_of(name, rows))
        measured, predicted = torch.cuda.max_memory_allocated() - before, predict(fit.small, rows)
        print(
            f"peak of a step of {rows} rows, {name:38} ratio {predicted / measured:5.3f}   ({predicted:,} bytes of {measured:,})"
        )


def largest_batch(share: int = 4 * 2**30) -> None:
    """The batch that the search finds, over the true largest one, under a share of the card: at least 95 %, in at most four trials."""
    torch.cuda.set_per_process_memory_fraction(share / torch.cuda.get_device_properties(0).total_memory)
    for name in ("bert", "gpt2", "t5", "llama", "vit"):
        model = model_of(name).train()
        optimizer = torch.optim.AdamW(model.parameters())
        fit = find_fit(torch, model, batch_of(name, 3), Work(optimizer=optimizer))
        runs(model, optimizer, batch_of(name, 2))  # the optimizer's state, as in the second step of any training
        low, high = fit.rows, fit.rows * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if runs(model, optimizer, batch_of(name, middle)) else (low, middle)
        print(f"largest batch, {name:41} ratio {fit.rows / low:5.3f}   ({fit.rows} of {low}, {len(fit.trials)} trials)")
        del model, optimizer
    torch.cuda.set_per_process_memory_fraction(1.0)


if __name__ == "__main__":
    print(torch.cuda.get_device_name(), torch.__version__)
    guarded_step()
    predicted_peaks()
    largest_batch()
