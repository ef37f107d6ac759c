"""On a device the range of an index is known from where it came, so that the device is not asked. Host tensors stand for a device's."""

import pytest

torch = pytest.importorskip("torch")

import tfdiag_ipython  # noqa: E402
from tfdiag_ipython.probes.index_checks import IGNORED  # noqa: E402
from tfdiag_ipython.watch import index_follow, index_guard, index_ranges  # noqa: E402
from tfdiag_ipython.watch.index_follow import followers  # noqa: E402
from tfdiag_ipython.watch.index_ranges import Range, Ranges, read  # noqa: E402

functional = torch.nn.functional
T = torch.tensor


@pytest.fixture
def as_if_on_a_device(monkeypatch):
    for module in (index_ranges, index_follow, index_guard):
        monkeypatch.setattr(module, "on_device", lambda tensor: not tensor.is_floating_point())
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    index_guard._functions.cache_clear()
    yield
    index_guard._functions.cache_clear()


@pytest.mark.parametrize(
    "values, found",
    [
        ([3, 0, 7], Range(0, 7)),
        ([-100, 2, 5], Range(2, 5, True)),
        ([-100, -1], Range(-1, -1, True)),
        ([-200, 4], Range(-200, 4)),
    ],
)
def test_the_range_of_a_tensor(values, found):
    assert read(T(values)) == found


def test_ignored_values_count_only_for_who_ignores_them():
    labels = read(T([IGNORED, 2, 5]))
    assert labels.within(0, 5, IGNORED) and not labels.within(0, 5, None) and not labels.within(0, 4, IGNORED)
    assert read(T([IGNORED])).within(0, 1, IGNORED) and read(torch.empty(0, dtype=torch.long)).within(0, 1, None)


def test_a_range_is_forgotten_when_the_tensor_changes_or_goes_and_holds_for_its_views():
    ranges = Ranges()
    ids = T([[1, 2], [3, 4]])
    ranges.remember(ids, read(ids))
    assert ranges.bounds(ids) == ranges.bounds(ids[:, 1:]) == Range(1, 4)
    view = ids.view(-1)
    view[0] = 9
    assert ranges.bounds(ids) is None and ranges.bounds(view) is None
    ranges.remember(ids, read(ids))
    del ids, view
    assert not ranges._known


IDS, MASK = T([[3, 5, 7], [1, 0, 2]]), T([[1, 1, 0], [1, 0, 0]])
LABELS = T([[3, 5, IGNORED], [1, 0, 2]])


def positions_of_roberta():
    mask = IDS.ne(0).int()
    return ((torch.cumsum(mask, dim=1).type_as(mask) + 0) * mask).long() + 1


def decoder_ids_of_bart():
    shifted = LABELS.new_zeros(LABELS.shape)
    shifted[:, 1:] = LABELS[:, :-1].clone()
    shifted[:, 0] = 2
    return shifted.masked_fill_(shifted == IGNORED, 1)


def keys_of_a_later_step():
    keys = torch.arange(4)
    keys += 3
    return keys


FOLLOWED = {
    "shifted labels": (lambda: functional.pad(LABELS, (0, 1), value=IGNORED)[..., 1:].contiguous().view(-1), (0, 5)),
    "padded with 9": (lambda: functional.pad(LABELS, (0, 1), value=9), (0, 9)),
    "joined": (lambda: torch.cat([LABELS, IDS]), (0, 7)),
    "parts": (lambda: IDS.chunk(2)[0].repeat(2, 1), (0, 7)),
    "counted": (lambda: torch.arange(3, 12, 2).unsqueeze(0).expand(2, -1), (3, 11)),
    "gathered": (lambda: IDS.expand(2, -1).gather(1, MASK), (0, 7)),
    "positions of RoBERTa": (positions_of_roberta, (1, 4)),
    "decoder ids of BART": (decoder_ids_of_bart, (0, 5)),
    "keys of a later step": (keys_of_a_later_step, (3, 6)),
    "a product with a negative number": (lambda: IDS * -2, (-14, 0)),
    "full": (lambda: torch.full((2,), 7) + torch.ones_like(IDS[0, :2]), (8, 8)),
}


@pytest.mark.parametrize("made, ends", FOLLOWED.values(), ids=FOLLOWED)
def test_a_range_follows_through_the_steps_by_which_indices_are_made(made, ends, as_if_on_a_device):
    with tfdiag_ipython.guard() as watching:
        for tensor in (IDS, MASK, LABELS):
            watching.ranges.remember(tensor, read(tensor))
        result = made()
        known = watching.ranges.bounds(result)
        assert (known.low, known.high) == ends
        assert read(result).within(known.low, known.high, IGNORED if known.ignored else None)
    assert watching.ranges.reads == 0


NOT_FOLLOWED = {
    "an unknown change": lambda ids: ids.fill_(9),
    "two changes": lambda ids: ids.add_(1).bitwise_or_(64),
    "a narrower type": lambda ids: (ids + 300).to(torch.int8),
    "a type without a sign": lambda ids: ids.to(torch.uint8),
    "truth values": lambda ids: ids.to(torch.bool),
    "another sign": lambda ids: (ids + 200).to(torch.uint8).to(torch.int8),
    "a sum that runs over": lambda ids: ids.to(torch.int8) + ids.to(torch.int8),
    "the same bytes": lambda ids: ids.view(torch.int32),
    "an unknown change and one that changes nothing": lambda ids: ids.fill_(9).__setitem__(False, 5) or ids,
    "into another tensor": lambda ids: torch.mul(ids, ids, out=torch.empty(2, dtype=torch.int8)),
    "beyond 32 bits": lambda ids: ids * 2**31,
    "a scaled sum": lambda ids: torch.add(ids, ids, alpha=3),
}


@pytest.mark.parametrize("made", NOT_FOLLOWED.values(), ids=NOT_FOLLOWED)
def test_what_may_hold_other_values_is_not_believed(made, as_if_on_a_device):
    with tfdiag_ipython.guard() as watching:
        ids = T([1, 2])
        watching.ranges.remember(ids, read(ids))
        assert watching.ranges.bounds(made(ids)) is None


def test_on_the_way_from_the_host_a_type_may_change_the_values(monkeypatch):
    ids = T([-1, 300])
    ranges, to = Ranges(), followers(torch)[torch.Tensor, "to"]
    monkeypatch.setattr(index_follow, "on_device", lambda tensor: tensor is not ids)
    for kind in (torch.uint8, torch.int8):
        moved = ids.to(kind)
        to.after(ranges, moved, (ids,), {}, None)
        assert ranges.bounds(moved) is None


def test_what_is_taken_from_a_models_buffer_is_read_once(as_if_on_a_device):
    buffer, table = torch.arange(50).unsqueeze(0), torch.nn.Embedding(50, 2)
    with tfdiag_ipython.guard() as watching:
        for step in range(1, 4):
            table(buffer[:, :step].expand(2, -1))
        assert watching.ranges.reads == 1
        with pytest.raises(IndexError, match=r"is 49"):
            torch.nn.Embedding(49, 2)(buffer)
        buffer[0, 3] = 60
        with pytest.raises(IndexError, match=r"`input\[0, 3\]` is 60"):
            table(buffer[:, :5])


def test_a_bad_index_inside_vmap_is_stopped():
    with tfdiag_ipython.guard() as watching:
        rows = torch.vmap(lambda index: IDS[0][index], in_dims=0)(T([0, 2]))
        assert rows.tolist() == [3, 7] and not watching.unchecked
        with pytest.raises(IndexError, match="is 3"):
            torch.vmap(lambda index: IDS[0][index], in_dims=0)(T([0, 3]))


SIZES = {"vocab_size": 99, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
GPT = {"vocab_size": 99, "n_embd": 16, "n_layer": 1, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}
BART = {
    "vocab_size": 99,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
}
MODELS = {
    "Bert": ("ForSequenceClassification", SIZES),
    "Roberta": ("ForSequenceClassification", SIZES),
    "GPT2": ("LMHeadModel", GPT),
    "Llama": ("ForCausalLM", SIZES),
    "Bart": ("ForConditionalGeneration", BART),
}


@pytest.mark.hf
@pytest.mark.parametrize("name", MODELS)
def test_from_the_second_step_on_the_device_is_not_asked(name, as_if_on_a_device):
    transformers = pytest.importorskip("transformers")
    head, sizes = MODELS[name]
    model = getattr(transformers, name + head)(getattr(transformers, f"{name}Config")(**sizes))
    with tfdiag_ipython.guard() as watching:
        for step in range(3):
            ids = torch.randint(3, 90, (4, 8))
            ids[1, 5:] = 1
            batch = {"input_ids": ids, "attention_mask": (ids != 1).long()}
            batch["labels"] = T([0, 1, 0, 1]) if "Classification" in head else ids.clone()
            for tensor in batch.values():
                watching.ranges.remember(tensor, read(tensor))  # as on the way from the host
            before = watching.ranges.reads
            model(**batch).loss.backward()
            assert step == 0 or watching.ranges.reads == before
    assert not watching.unchecked
