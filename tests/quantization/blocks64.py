"""The toy's merges with unlabelled samples once more: numpy, float64, whole matrices of tokens, the published equations."""

from __future__ import annotations

import numpy as np

LAYERS = ("gate", "up", "down")
Model = dict[str, np.ndarray]
Tokens = dict[str, np.ndarray]


def arrays(model) -> Model:
    """A torch model's tensors in float64."""
    return {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}


def embedded(model: Model, batches) -> tuple[np.ndarray, np.ndarray]:
    """States (samples, tokens, width) before the first block, and the tokens' mask (samples, tokens)."""
    whole = np.concatenate([batch.double().numpy() for batch in batches])
    return whole[..., :-1] @ model["stem.weight"].T + model["stem.bias"], whole[..., -1]


def run_block(model: Model, index: int, x: np.ndarray) -> Tokens:
    """What the norm ("z", normalised) and the layers read, and the block's output "out"."""
    p = {name.removeprefix(f"body.{index}."): value for name, value in model.items() if name.startswith(f"body.{index}.")}
    z = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    n = z * p["norm.weight"] + p["norm.bias"]
    gate, up = (n @ p[f"{part}.weight"].T + p[f"{part}.bias"] for part in ("gate", "up"))
    h = np.maximum(gate, 0) * up
    return {"z": z, "gate": n, "up": n, "down": h, "out": x + h @ p["down.weight"].T + p["down.bias"]}


def rows(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The tokens that count (n, width), and their weights (n,) of sum 1."""
    flat = weights.flatten()
    return values.reshape(-1, values.shape[-1])[flat > 0], flat[flat > 0] / flat.sum()


def means(models: list[Model]) -> Model:
    return {name: sum(model[name] for model in models) / len(models) for name in models[0]}


def regmean(experts: dict[str, Model], data, off_diagonal: float, on_merged: bool) -> Model:
    """RegMean, or RegMean++ with `on_merged`."""
    merged = means(list(experts.values()))
    states = {t: embedded(merged if on_merged else experts[t], batches) for t, batches in data.items()}
    for index in range(2):
        grams = {t: {} for t in experts}
        for t, (x, mask) in states.items():
            caught = run_block(experts[t], index, x)
            for layer in LAYERS:
                tokens, weights = rows(caught[layer], mask)
                gram = (tokens * weights[:, None]).T @ tokens
                grams[t][layer] = gram * (off_diagonal + (1 - off_diagonal) * np.eye(len(gram)))
        for layer in LAYERS:
            name = f"body.{index}.{layer}.weight"
            total = sum(experts[t][name] @ grams[t][layer] for t in experts)
            merged[name] = total @ np.linalg.inv(sum(grams[t][layer] for t in experts))
        states = {t: (run_block(merged if on_merged else experts[t], index, x)["out"], m) for t, (x, m) in states.items()}
    return merged


def lot(base: Model, experts: dict[str, Model], data) -> Model:
    merged = means(list(experts.values()))
    states = {t: embedded(experts[t], batches) for t, batches in data.items()}
    for index in range(2):
        caught = {t: run_block(experts[t], index, x) for t, (x, _) in states.items()}
        for layer in LAYERS:
            name, top, bottom = f"body.{index}.{layer}.weight", 0, 0
            for t, (_, mask) in states.items():
                tokens, weights = rows(caught[t][layer], mask)
                gram = (tokens * weights[:, None]).T @ tokens
                top, bottom = top + (experts[t][name] - base[name]) @ gram, bottom + gram
            inverse = np.linalg.pinv(bottom, rcond=len(bottom) * np.finfo(np.float32).eps, hermitian=True)
            merged[name] = base[name] + top @ inverse
        name, top, bottom = f"body.{index}.norm.weight", 0, 0
        for t, (_, mask) in states.items():
            z, weights = rows(caught[t]["z"], mask)
            top, bottom = top + weights @ z**2 * experts[t][name], bottom + weights @ z**2
        merged[name] = top / bottom
        states = {t: (caught[t]["out"], mask) for t, (_, mask) in states.items()}
    return merged


def featcal(base: Model, merged: Model, experts: dict[str, Model], data, anchor: float, rho: float, alpha: float) -> Model:
    """The equations as published, sums over tasks not rescaled; gate is the layer whose tokens weigh 0.01 in the last block."""
    point = {name: rho * merged[name] + (1 - rho) * base[name] for name in merged}
    merged = dict(merged)
    own = {t: embedded(experts[t], batches) for t, batches in data.items()}
    student = {t: embedded(merged, batches) for t, batches in data.items()}
    for index in range(2):
        here = {t: run_block(merged, index, x) for t, (x, _) in student.items()}
        there = {t: run_block(experts[t], index, x) for t, (x, _) in own.items()}
        weights = {t: {layer: mask * class_weights(mask, layer, index) for layer in LAYERS} for t, (_, mask) in student.items()}
        updates = {}
        for layer in LAYERS:
            updates |= _featcal_layer(f"body.{index}.{layer}", layer, here, there, weights, experts, point, anchor, alpha)
        updates |= _featcal_norm(f"body.{index}.norm", here, weights, experts, point, anchor)
        merged |= updates
        student = {t: (run_block(merged, index, x)["out"], mask) for t, (x, mask) in student.items()}
        own = {t: (there[t]["out"], mask) for t, (_, mask) in own.items()}
    return merged


def class_weights(mask: np.ndarray, layer: str, index: int) -> np.ndarray:
    weights = np.ones_like(mask)
    if layer == "gate" and index == 1:
        weights[:, 1:] = 0.01
    return weights


def _featcal_layer(name, layer, here, there, weights, experts, point, anchor, alpha) -> Model:
    width = point[f"{name}.weight"].shape[1]
    left, right, free, strength = anchor * np.eye(width), anchor * point[f"{name}.weight"].T, [], anchor
    for t, expert in experts.items():
        x, w = rows(here[t][layer], weights[t][layer])
        y = rows(there[t][layer], weights[t][layer])[0]
        mixed = alpha * y + (1 - alpha) * x
        second = (x * w[:, None]).T @ x
        f = np.linalg.norm(second)
        left = left + second / f
        right = right + (x * w[:, None]).T @ mixed @ expert[f"{name}.weight"].T / f
        free.append((expert[f"{name}.bias"] + expert[f"{name}.weight"] @ (w @ mixed), w @ x, f))
        strength += 1 / f
    weight = np.linalg.solve(left, right).T
    bias = anchor * point[f"{name}.bias"] + sum((wanted - weight @ mean) / f for wanted, mean, f in free)
    return {f"{name}.weight": weight, f"{name}.bias": bias / strength}


def _featcal_norm(name, here, weights, experts, point, anchor) -> Model:
    """Channel by channel, a 2 x 2 system."""
    width = len(point[f"{name}.weight"])
    scale, offset = np.empty(width), np.empty(width)
    for channel in range(width):
        a = np.array([[anchor, 0.0], [0.0, len(experts) + anchor]])
        r = anchor * np.array([point[f"{name}.weight"][channel], point[f"{name}.bias"][channel]])
        for t, expert in experts.items():
            z, w = rows(here[t]["z"], weights[t]["gate"])
            g, b = expert[f"{name}.weight"][channel], expert[f"{name}.bias"][channel]
            power, mean = w @ z[:, channel] ** 2, w @ z[:, channel]
            a += [[power, mean], [mean, 0.0]]
            r += [power * g + mean * b, mean * g + b]
        scale[channel], offset[channel] = np.linalg.solve(a, r)
    return {f"{name}.weight": scale, f"{name}.bias": offset}
